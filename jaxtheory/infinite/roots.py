"""Roots of one equation on an interval, with the derivatives of roots."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = float | Float[Array, ""]
_GRID, _BISECTIONS = 200, 64
_LEAST = 1e-6  # variances below are told from 0 by bisection only


def search_grid(scale: float, dtype: jnp.dtype) -> Float[Array, " grid"]:
    """0 and 200 variances up to scale², evenly spaced in their logarithm."""
    return jnp.concatenate([jnp.zeros(1, dtype), jnp.geomspace(_LEAST, scale**2, _GRID, dtype=dtype)])


def largest_stable(
    growth: Callable[[Float[Array, "..."]], Float[Array, "..."]], scale: float, dtype: jnp.dtype
) -> tuple[Float[Array, ""], Array]:
    """The largest root at which growth turns negative, or 0 if it is nowhere positive; and whether there is one."""
    grid = search_grid(scale, dtype)
    values = growth(grid)
    values = jnp.where(jnp.abs(values) <= 64 * jnp.finfo(dtype).eps * grid, 0.0, values)  # every q is kept: no root
    falls = (values[:-1] > 0) & (values[1:] <= 0)
    last = len(grid) - 2 - jnp.argmax(falls[::-1])
    none = (values[1:] < 0).all() & (values[0] <= 0)
    root = bisect(lambda q: jnp.where(none, -q, growth(q)), grid[last], grid[last + 1], dtype)
    return jnp.where(none, jnp.zeros_like(root), root), none | falls.any()


def bisect(
    function: Callable[[Float[Array, ""]], Float[Array, ""]], low: Scalar, high: Scalar, dtype: jnp.dtype
) -> Float[Array, ""]:
    """Where a function that is positive at `low` turns negative before `high`, with its implicit derivatives.

    Derivatives are those of the root by the implicit function theorem, and NaN where the slope of the function is 0.
    """

    ends = jax.lax.stop_gradient((jnp.asarray(low, dtype), jnp.asarray(high, dtype)))

    def solve(function: Callable[[Array], Array], start: Array) -> Array:
        def halve(bracket: tuple, _: None) -> tuple[tuple, None]:
            middle = (bracket[0] + bracket[1]) / 2
            positive = function(middle) > 0
            return (jnp.where(positive, middle, bracket[0]), jnp.where(positive, bracket[1], middle)), None

        bracket = jax.lax.scan(halve, ends, None, length=_BISECTIONS)[0]
        return (bracket[0] + bracket[1]) / 2 + 0 * start

    def divide(linear: Callable[[Array], Array], y: Array) -> Array:
        slope = linear(jnp.ones_like(y))
        flat = jnp.abs(slope) <= jnp.sqrt(jnp.finfo(dtype).eps)
        return y / jnp.where(flat, jnp.nan, slope)

    return jax.lax.custom_root(function, jnp.zeros((), dtype), solve, divide)


@jax.custom_jvp
def without_derivative(value: Array, where: Array, *others: Array) -> Array:
    """The value; its derivative in it and in the others is NaN if `where`."""
    return value


@without_derivative.defjvp
def _without_derivative_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value, where, *_ = primals
    moves = tangents[0] + sum((0 * tangent for tangent in tangents[2:]), jnp.zeros_like(value))
    return value, jnp.where(where, jnp.nan, 1.0).astype(value.dtype) * moves
