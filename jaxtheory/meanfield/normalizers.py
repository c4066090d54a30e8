"""The normalizer ∫e^(−U) dθ of a Gibbs law, by a grid or by importance sampling, with its error."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, constrain, positive, quantity, require
from jaxtheory.results import Status

_LARGEST_ERROR = 0.1  # relative, of a normalizer that can be trusted
_LARGEST_SHARE = 0.1  # of one draw in the sum of squared weights; near 1 where the weights' variance is infinite
_LARGEST_INDEX = 0.5  # of the weights' tail, from where on their variance is infinite
_FEWEST = 10  # draws that have a tail


class Nodes(NamedTuple):
    """A rule for integrals over θ: ∫g dθ ≈ Σ_k exp(log_weights_k) g(points_k).

    `coarse` are the log-weights of a second rule on the same points, whose difference from the first tells the error;
    None for independent draws, whose spread tells it.
    """

    points: Float[Array, "M d"]
    log_weights: Float[Array, " M"]
    coarse: Float[Array, " M"] | None = None


class Normalizer(NamedTuple):
    """log ∫e^(−U) dθ, its standard error, and whether it can be trusted."""

    log_value: Float[Array, ""]
    standard_error: Float[Array, ""]
    faults: tuple[tuple[Array, Status], ...]


def grid_nodes(*axes: Float[Array, " points"]) -> Nodes:
    """Trapezoid rule on the product of equally spaced axes, for densities that vanish at the ends.

    Args:
        axes: increasing, equally spaced coordinates, at least five of each.

    Returns:
        `Nodes`; `coarse` is the rule of twice the spacing.

    Raises:
        ValueError: an axis that is too short or not equally spaced (NaN inside `jit`), or no axis.

    Cost: the product of the axes' lengths.

    >>> nodes = grid_nodes(jnp.linspace(-8.0, 8.0, 101))
    >>> f"{jnp.exp(nodes.log_weights - nodes.points[:, 0] ** 2 / 2).sum():.4f}"
    '2.5066'
    """
    require(len(axes) >= 1, "axes", axes, "hold at least one coordinate", "pass e.g. jnp.linspace(-5.0, 5.0, 101)")
    found = [jnp.asarray(quantity("axes", axis)) for axis in axes]
    for axis in found:
        require(
            axis.ndim == 1 and len(axis) >= 5, "axes", axis.shape, "be [points] with at least 5", "use jnp.linspace"
        )
    even = [
        constrain("axes", axis, evenly_spaced, "be increasing and equally spaced", "use jnp.linspace") for axis in found
    ]
    points = jnp.stack(jnp.meshgrid(*even, indexing="ij"), -1).reshape(-1, len(even))
    kept = np.stack(np.meshgrid(*(np.arange(len(axis)) % 2 == 0 for axis in even), indexing="ij")).all(0).ravel()
    cell = sum(jnp.log(axis[-1] - axis[0]) - math.log(len(axis) - 1) for axis in even)
    log_weights = jnp.full(len(points), cell, points.dtype)
    coarse = jnp.where(kept, log_weights + len(even) * math.log(2), -jnp.inf)
    return Nodes(points, log_weights, coarse)


def evenly_spaced(axis: Any) -> Any:
    """Where an axis increases by equal steps, to rounding: for all its points or for none."""
    xp = jnp if isinstance(axis, jax.Array) else np
    step, size = (axis[-1] - axis[0]) / (len(axis) - 1), abs(axis).max()
    uneven = abs(axis[1:] - axis[:-1] - step).max()
    rounding = 4 * float(jnp.finfo(axis.dtype).eps) * size
    even = (step > 0) & (uneven <= 1e-4 * step + rounding) & (rounding < step)
    return xp.broadcast_to(even, axis.shape)


@boundary(static=("count", "dimension"))
def gaussian_nodes(key: Key[Array, ""], count: int, dimension: int, variance: float | Float[Array, ""]) -> Nodes:
    """Importance sampling from N(0, variance · I).

    For a regularizer ridge |θ|²/2 take variance = λ/ridge or more: what is narrower than the Gibbs law in a direction
    has weights of large or infinite variance, which the estimate's status tells.

    Args:
        key: of the draws. count: M ≥ 1. dimension: d ≥ 1, all numbers of one particle. variance: > 0.

    Raises:
        ValueError: a count, dimension or variance that is not positive (a variance inside `jit`: NaN).

    Cost: M d draws. Source: Owen (2013), Monte Carlo theory, chapter 9.

    >>> nodes = gaussian_nodes(jax.random.key(0), 10, 2, 1.0)
    >>> f"{nodes.log_weights[0] + jnp.log(10.0) - (nodes.points[0] ** 2).sum() / 2 - jnp.log(2 * jnp.pi):.4f}"
    '0.0000'
    """
    require(count >= 1, "count", count, "be >= 1", "use e.g. 4000")
    require(dimension >= 1, "dimension", dimension, "be >= 1", "pass the number of a particle's components")
    variance = jnp.asarray(positive("variance", variance, "use temperature / ridge"), float)
    draws = jax.random.normal(key, (count, dimension), variance.dtype)
    log_density = -(draws**2).sum(1) / 2 - dimension / 2 * jnp.log(2 * math.pi * variance)
    return Nodes(jnp.sqrt(variance) * draws, -log_density - math.log(count))


def normalizer(nodes: Nodes, energies: Float[Array, " M"]) -> Normalizer:
    """log Σ_k exp(log_weights_k − U_k), and how far it may be from log ∫e^(−U) dθ."""
    terms = nodes.log_weights - energies
    total = logsumexp(terms)
    shares = jnp.exp(terms - total)
    if nodes.coarse is None:
        squares = (shares**2).sum()
        # the variance of a mean of M independent weights; 0 for equal ones
        error = jnp.sqrt(jnp.maximum(len(terms) * squares - 1, 0.0) / max(len(terms) - 1, 1))
        faults = [
            (shares.max() ** 2 > _LARGEST_SHARE * squares, Status.ILL_CONDITIONED),
            (~(_tail_index(terms) < _LARGEST_INDEX), Status.ILL_CONDITIONED),
        ]
    else:
        error = jnp.abs(total - logsumexp(nodes.coarse - energies))
        low, high = nodes.points.min(0, keepdims=True), nodes.points.max(0, keepdims=True)
        edge = ((nodes.points == low) | (nodes.points == high)).any(1)
        cut = jnp.where(edge, shares, 0.0).max() > jnp.sqrt(jnp.finfo(terms.dtype).eps) * shares.max()
        faults = [(cut, Status.ILL_CONDITIONED)]
    return Normalizer(total, error, ((error > _LARGEST_ERROR, Status.ILL_CONDITIONED), *faults))


def _tail_index(terms: Float[Array, " M"]) -> Float[Array, ""]:
    """Hill's estimate of the tail index of the weights exp(terms), two standard errors above; infinite for few draws.

    Rare draws of large weight may all be missing, so the spread of the weights that were seen does not tell alone.
    """
    count = len(terms)
    if count < _FEWEST:
        return jnp.full((), jnp.inf, terms.dtype)
    tail = int(min(count / 5, 3 * count**0.5))
    largest = jax.lax.top_k(terms, tail + 1)[0]
    return (largest[:-1] - largest[-1]).mean() * (1 + 2 / tail**0.5)
