"""Parts of transport costs: points with masses, powers of distances, results with a status."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.checks import boundary, nonnegative, require
from jaxtheory.guarded import power_of_two
from jaxtheory.results import Status, status_where

Number = float | Float[Array, ""]
_ROWS = 32  # of a matrix of distances, differences of which are held at once
_CHUNK = 2048  # terms that are added one after the other, each addition rounding the sum


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
    """An estimate: NOT_FINITE where a number is not finite, otherwise with the status of the first fault that holds."""
    lost = ~(jnp.isfinite(value).all() & jnp.isfinite(standard_error).all())
    return Estimate(value, standard_error, status_where((lost, Status.NOT_FINITE), *faults))


def vanished(value: Array, present: Array) -> tuple[Array, Status]:
    """The fault of a number that is not 0 but too small for its dtype to hold all digits."""
    limits = jnp.finfo(value.dtype)
    return (present & (jnp.abs(value) < limits.tiny / limits.eps)).any(), Status.ILL_CONDITIONED


def uniform(count: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Equal masses."""
    return jnp.full(count, 1 / count, dtype)


def masses(name: str, weights: Array | None, count: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Weights of `count` points, not normalized; equal ones of total 1 if None."""
    if weights is None:
        return uniform(count, dtype)
    require(weights.shape == (count,), name, weights.shape, f"have shape ({count},)", "give one to each point")
    return nonnegative(name, weights, "pass masses, which have no signs").astype(dtype)


def given_masses(name: str, weights: Array | None, count: int, dtype: DTypeLike) -> Float[Array, " n"] | None:
    """`masses` divided by their sum; None where they are not given, and so equal."""
    return None if weights is None else normalized(masses(name, weights, count, dtype))


def require_same_space(x: Array, y: Array) -> None:
    """Raise unless both clouds hold points, of one dimension."""
    for name, points in (("x", x), ("y", y)):
        require(len(points) >= 1, name, points.shape, "hold at least one point", "pass the points as [n, d]")
    wish = f"have the {x.shape[1]} components of x"
    require(x.shape[1] == y.shape[1], "y", y.shape, wish, "pass points of one space")


def normalized(weights: Float[Array, " N"]) -> Float[Array, " N"]:
    """The weights over their sum, whatever their scale; NaN where all are 0."""
    weights = weights / power_of_two(weights)
    return weights / weighted_sum(weights, jnp.ones_like(weights))


def weighted_sum(weights: Float[Array, " N"], values: Float[Array, "N ..."]) -> Float[Array, "..."]:
    """Σ_i w_i v_i in chunks, whose length bounds how often a partial sum is rounded."""
    count = len(weights)
    if count <= _CHUNK:
        return jnp.tensordot(weights, values, 1, precision="highest")
    short = count % _CHUNK
    chunks = values[short:].reshape(-1, _CHUNK, *values.shape[1:])
    inner = jnp.einsum("cr,cr...->c...", weights[short:].reshape(-1, _CHUNK), chunks, precision="highest")
    return inner.sum(0) + jnp.tensordot(weights[:short], values[:short], 1, precision="highest")


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
def _power_jvp(primals: PyTree, tangents: PyTree) -> tuple[Array, Array]:
    (base, exponent), (moved, changed) = primals, tangents
    found = power(base, exponent)
    positive = base > 0
    logarithm = jnp.log(jnp.where(positive, base, jnp.ones_like(base)))
    return found, exponent * power(base, exponent - 1) * moved + found * logarithm * changed


def distance_power(offset: Float[Array, "... d"], p: Float[Array, ""]) -> Float[Array, "..."]:
    """|v|^p of each offset v, whatever its scale."""
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
