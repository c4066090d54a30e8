"""Roots, quotients and norms that are right at 0 and at every scale, products of all bits, polynomials.

A compiler may evaluate a condition twice, once with a fused multiply-add and once without, so that a guard and what it
guards disagree about a number that is 0 up to rounding. What replaces such a number is therefore close to its limit:
the root of the smallest normal number, not of one.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxtheory.conversion import boundary


@boundary
def root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """√x, and 0 with derivative 0 where x ≤ 0; NaN stays NaN.

    >>> root(jnp.array([4.0, 0.0, -1.0]))
    Array([2., 0., 0.], dtype=float32)
    """
    empty = x <= 0
    safe = jnp.where(empty, jnp.full_like(x, jnp.finfo(x.dtype).tiny), x)
    return jnp.where(empty, jnp.zeros_like(x), jnp.sqrt(safe))


@boundary
def over(numerator: Float[Array, "..."], denominator: Float[Array, "..."]) -> Float[Array, "..."]:
    """The quotient, and 0 with derivatives 0 where the denominator is ≤ 0; NaN stays NaN.

    >>> over(jnp.array([1.0, 1.0]), jnp.array([4.0, 0.0]))
    Array([0.25, 0.  ], dtype=float32)
    """
    empty = denominator <= 0
    quotient = numerator / jnp.where(empty, jnp.ones_like(denominator), denominator)
    return jnp.where(empty, jnp.zeros_like(quotient), quotient)


@boundary
def divided(x: Float[Array, "..."], first: Float[Array, "..."], second: Float[Array, "..."]) -> Float[Array, "..."]:
    """x / first / second, whose product may be out of range: a compiler divides by it once, unless told not to.

    >>> divided(jnp.zeros(1), jnp.full(1, 2.0**-70), jnp.full(1, 2.0**-70))
    Array([0.], dtype=float32)
    """
    return x / first * jax.lax.optimization_barrier(1 / second)


@boundary
def dot(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """The matrix product with all bits, on accelerators too.

    >>> dot(jnp.eye(2), jnp.array([1.0, 2.0]))
    Array([1., 2.], dtype=float32)
    """
    return jnp.matmul(a, b, precision="highest")


@boundary
def orthogonal(basis: Float[Array, "rows n"], vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """The part of a vector that is orthogonal to orthonormal rows, or to rows that are 0; projected twice.

    Once leaves rounding of the whole vector in a small part; twice is enough. Source: Parlett (1980), section 6.9.

    >>> orthogonal(jnp.array([[0.0, 1.0]]), jnp.array([3.0, 4.0]))
    Array([3., 0.], dtype=float32)
    """
    for _ in range(2):
        vector = vector - dot(dot(basis, vector), basis)
    return vector


@boundary
def polynomial(coefficients: Sequence[ArrayLike], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Σ_j c_j x^j by Horner's rule; coefficients are numbers, or arrays of the shape of x.

    >>> float(polynomial([1.0, 0.0, 2.0], jnp.float32(3.0)))
    19.0
    """
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


@boundary
def norm(
    x: Float[Array, "..."], axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """The Euclidean norm √(Σ x²) over `axis` (all axes if None), at any scale of x.

    Scaled by a power of two as LAPACK's nrm2, so that norm(c x) = c norm(x) to the bit for c a power of two, wherever
    c x is representable; derivatives at 0 are 0. Cost: two passes over x.

    >>> norm(jnp.array([3e-30, 4e-30]))
    Array(5.e-30, dtype=float32)
    """
    unit = power_of_two(x, axis=axis, keepdims=True)
    total = jnp.sum((x / unit) ** 2, axis=axis, keepdims=True)
    found = unit * root(total)
    return found if keepdims else jnp.squeeze(found, axis)


@boundary
def power_of_two(
    x: Float[Array, "..."], axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """The power of two 2^e with 2^e ≤ max |x| < 2^(e+1) over `axis`; 1 where the maximum is 0, infinite or NaN.

    Dividing by it is exact, also where a compiler multiplies by its inverse, which is a normal number: in float32 it is
    2^126 at most. It carries no derivative: what is divided and multiplied by it again does not depend on it.

    >>> power_of_two(jnp.array([-5.0, 0.1]))
    Array(4., dtype=float32)
    """
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=axis, keepdims=keepdims, initial=0)
    usual = (largest > 0) & jnp.isfinite(largest)
    exponent = jnp.frexp(jnp.where(usual, largest, jnp.ones_like(largest)))[1]
    limits = jnp.finfo(largest.dtype)
    unit = jnp.ldexp(jnp.ones_like(largest), jnp.clip(exponent - 1, limits.minexp, limits.maxexp - 2))
    return jnp.where(usual, unit, jnp.ones_like(unit))
