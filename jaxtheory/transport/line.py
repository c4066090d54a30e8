"""Transport on the line, exactly, and sliced transport: its mean over directions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, constrain, require
from jaxtheory.guarded import power_of_two
from jaxtheory.results import standard_error
from jaxtheory.transport.costs import (
    Estimate,
    Number,
    distance_power,
    estimate,
    given_masses,
    power,
    require_same_space,
    vanished,
    weighted_sum,
)


@boundary
def w1d(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    p: Number = 2.0,
    *,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
) -> Float[Array, ""]:
    r"""Exact W_p^p on the line: ∫₀¹ |F_x⁻¹(u) − F_y⁻¹(u)|^p du, any p ≥ 1, weighted samples of any sizes.

    Args:
        x, y: samples [n] or [n, 1]. p: ≥ 1. x_weights, y_weights: ≥ 0, normalized here; equal by
            default.

    Raises:
        ValueError: p < 1 (the sorted coupling is then not optimal; NaN inside `jit`), negative weights (NaN inside
            `jit`), weights of another length, points not on a line.

    Differentiable in samples and p, and in weights where no two cumulative weights of x and y coincide; the
    second derivative at coincident points is infinite for 1 < p < 2, and given as 0.
    Cost: O((n + m) log(n + m)). Source: Villani (2003), theorem 2.18.

    >>> f"{w1d(jnp.array([0.0, 1.0]), jnp.array([3.0, 2.0])):.1f}"
    '4.0'
    """
    x, y, a, b = together(x, y, x_weights, y_weights)
    require(x.shape[1] == 1, "x", x.shape, "be numbers on the line, [n]", "use exact() or sliced() for clouds")
    return line_cost(x[:, 0], y[:, 0], jnp.asarray(sorting_order(p), x.dtype), a, b)


def together(
    x: Array, y: Array, x_weights: Array | None, y_weights: Array | None
) -> tuple[Array, Array, Array | None, Array | None]:
    """Points and normalized masses in one dtype; None for equal masses."""
    require_same_space(x, y)
    dtype = jnp.result_type(x, y)
    a, b = given_masses("x_weights", x_weights, len(x), dtype), given_masses("y_weights", y_weights, len(y), dtype)
    return x.astype(dtype), y.astype(dtype), a, b


def sorting_order(p: Any) -> Any:
    """p, where it is an order for which sorting is optimal."""
    return constrain(
        "p", p, lambda v: (v >= 1) & (v < np.inf), "be >= 1, where sorting is optimal", "use p=1.0 or p=2.0"
    )


@jax.jit
def line_cost(x: Array, y: Array, p: Array, a: Array | None, b: Array | None) -> Array:
    """`w1d` of checked numbers and normalized masses."""
    if a is None and b is None and len(x) == len(y):
        return distance_power((jnp.sort(x) - jnp.sort(y))[:, None], p).mean()
    (x, x_edges), (y, y_edges) = quantiles(x, a), quantiles(y, b)
    edges = jnp.sort(jnp.concatenate([x_edges, y_edges]))
    # Quantile functions are constant between the edges: look them up at the middle of each step.
    left = jnp.concatenate([jnp.zeros_like(edges[:1]), edges[:-1]])
    at = (left + edges) / 2
    gaps = x[index(x_edges, at)] - y[index(y_edges, at)]
    return weighted_sum(edges - left, distance_power(gaps[:, None], p))


def quantiles(x: Array, masses: Array | None) -> tuple[Array, Array]:
    """The sorted numbers and the cumulative masses up to each: the steps of a quantile function."""
    order = jnp.argsort(x)
    edges = jnp.cumsum(jnp.ones_like(x) if masses is None else masses[order])
    return x[order], edges / edges[-1]


def index(edges: Array, at: Array) -> Array:
    """The step that holds each level."""
    return jnp.minimum(jnp.searchsorted(edges, at), len(edges) - 1)


@boundary(static=("projections",))
def sliced(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    key: Key[Array, ""],
    *,
    p: Number = 2.0,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
    projections: int = 128,
) -> Estimate:
    r"""Sliced W_p^p: the mean of the exact one-dimensional W_p^p over uniform random directions.

    Args:
        x, y: n and m points. key: of the directions. p: ≥ 1. projections: ≥ 2.
        x_weights, y_weights: ≥ 0, normalized here; equal by default.

    Returns:
        The mean over directions, its standard error, and a status: NOT_FINITE, or ILL_CONDITIONED where the mean is
        too small for its dtype.

    Raises:
        ValueError: p < 1 (NaN inside `jit`), projections < 2, points of different dimensions, negative weights
            (NOT_FINITE inside `jit`).

    Cost: projections · (n + m)(d + log(n + m)), one projection at a time. Source: Bonneel et al. (2015).

    >>> f"{sliced(jnp.zeros((3, 1)), jnp.ones((3, 1)), jax.random.key(0)).value:.1f}"
    '1.0'
    """
    require(projections >= 2, "projections", projections, "be >= 2 for a standard error", "use 128")
    x, y, a, b = together(x, y, x_weights, y_weights)
    return _sliced(x, y, key, jnp.asarray(sorting_order(p), x.dtype), a, b, projections=projections)


@partial(jax.jit, static_argnames="projections")
def _sliced(
    x: Array, y: Array, key: Array, p: Array, a: Array | None, b: Array | None, *, projections: int
) -> Estimate:
    unit = power_of_two(jnp.concatenate([x, y]))
    center = jax.lax.stop_gradient(
        (x / unit).mean(0, keepdims=True)
    )  # a common one, so that products keep their digits
    x, y = x / unit - center, y / unit - center
    draws = jax.random.normal(key, (projections, x.shape[1]), x.dtype)
    directions = draws / jnp.linalg.norm(draws, axis=1, keepdims=True)
    dot = partial(jnp.dot, precision="highest")
    found = jax.lax.map(lambda u: line_cost(dot(x, u), dot(y, u), p, a, b), directions)
    scale = power(unit, p)
    mean, error = found.mean(), standard_error(found)
    return estimate(mean * scale, error * scale, vanished(mean * scale, mean > 0))
