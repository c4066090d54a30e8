"""What transport costs are made of: points with masses, powers of distances, results with a status."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.checks import boundary, require
from jaxtheory.guarded import power_of_two
from jaxtheory.meanfield.cloud import Cloud, measure, normalized, rows
from jaxtheory.results import Status, status_where

_ROWS = 32  # of a matrix of distances, differences of which are held at once


class Transport(NamedTuple):
    """A transport cost, and how far the answer is from an optimal plan, recomputed from what the solver returned."""

    cost: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]


class Estimate(NamedTuple):
    """A mean over random draws, its standard error, and whether both can be trusted."""

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]
    status: Int[Array, ""]


def estimate(value: Array, standard_error: Array, *faults: tuple[Array, Status]) -> Estimate:
    """An estimate that is NOT_FINITE where a number is, and else has the status of the first fault that holds."""
    lost = ~(jnp.isfinite(value).all() & jnp.isfinite(standard_error).all())
    return Estimate(value, standard_error, status_where((lost, Status.NOT_FINITE), *faults))


def vanished(value: Array, present: Array) -> tuple[Array, Status]:
    """The fault of a number that is not 0, but too small for its dtype to hold with all its digits."""
    limits = jnp.finfo(value.dtype)
    return (present & (jnp.abs(value) < limits.tiny / limits.eps)).any(), Status.ILL_CONDITIONED


def points_of(
    name: str, points: Cloud | PyTree, weights: Any = None
) -> tuple[Float[Array, "n d"], Float[Array, " n"] | None]:
    """The rows of a cloud, an array or a pytree, and their normalized masses; None where they are equal."""
    equal = weights is None and not isinstance(points, Cloud)
    cloud = measure(name, points, f"{name}_weights", weights)
    return rows(cloud), None if equal else normalized(cloud.weights)


def both(x: Any, y: Any, x_weights: Any = None, y_weights: Any = None) -> tuple[Array, Array, Any, Any]:
    """Points and masses of two measures on one space, in one dtype."""
    (x, a), (y, b) = points_of("x", x, x_weights), points_of("y", y, y_weights)
    wish = f"have the {x.shape[1]} components of x"
    require(x.shape[1] == y.shape[1], "y", y.shape, wish, "pass points of one space")
    dtype = jnp.result_type(x, y)
    return x.astype(dtype), y.astype(dtype), *(None if w is None else w.astype(dtype) for w in (a, b))


def uniform(count: int, dtype: Any) -> Float[Array, " n"]:
    """Equal masses."""
    return jnp.full(count, 1 / count, dtype)


@jax.custom_jvp
def power(base: Float[Array, "..."], exponent: Float[Array, ""]) -> Float[Array, "..."]:
    """base^exponent for base ≥ 0, exact for exponents 0, 1/2, 1 and 2, with derivatives that are right at 0.

    At base 0 the value is 0, or 1 for exponent 0; an infinite derivative there is replaced by 0.
    """
    empty = base == 0
    general = jnp.where(empty, 0 * exponent, jnp.where(empty, jnp.ones_like(base), base) ** exponent)
    known = ((0.0, jnp.ones_like(base)), (0.5, jnp.sqrt(base)), (1.0, base), (2.0, base * base))
    for special, value in known:
        general = jnp.where(exponent == special, value, general)
    return general


@power.defjvp
def _power_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (base, exponent), (moved, changed) = primals, tangents
    found = power(base, exponent)
    positive = base > 0
    logarithm = jnp.log(jnp.where(positive, base, jnp.ones_like(base)))
    return found, exponent * power(base, exponent - 1) * moved + found * logarithm * changed


def distance_power(offset: Float[Array, "... d"], p: Float[Array, ""]) -> Float[Array, "..."]:
    """|v|^p of each offset v, at any scale of each."""
    unit = power_of_two(offset, axis=-1, keepdims=True)
    return power(((offset / unit) ** 2).sum(-1), p / 2) * power(unit[..., 0], p)


@boundary
def squared_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """|x_i − y_j|², by differences, so that it does not lose the digits that a common shift of the points takes.

    Args:
        x, y: n and m points of one dimension d.

    Raises:
        ValueError: points of different dimensions.

    Cost: 3 n m d flops; memory n m, also of the derivatives.

    >>> squared_distances(jnp.array([[0.0]]), jnp.array([[2.0]]))
    Array([[4.]], dtype=float32)
    """
    wish = f"have the {x.shape[1]} components of x"
    require(x.shape[1] == y.shape[1], "y", y.shape, wish, "pass points of one space")
    return _squared_distances(x, y)


@jax.jit
def _squared_distances(x: Array, y: Array) -> Array:
    @partial(jax.checkpoint, prevent_cse=False)
    def row(point: Array) -> Array:
        return ((point[None] - y) ** 2).sum(-1)

    return jax.lax.map(row, x, batch_size=min(_ROWS, len(x))) if len(x) else jnp.zeros((0, len(y)), x.dtype)
