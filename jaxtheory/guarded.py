"""Roots and quotients with a value and a derivative at 0.

A compiler may evaluate a condition twice, once with a fused multiply-add and once without, so that a guard and what it
guards disagree about a number that is 0 up to rounding. What is put in the place of such a number is therefore close to
its limit: the root of the smallest normal number, not of one.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """√x, and 0 with derivative 0 where x ≤ 0; NaN stays NaN.

    >>> root(jnp.array([4.0, 0.0, -1.0]))
    Array([2., 0., 0.], dtype=float32)
    """
    empty = x <= 0
    safe = jnp.where(empty, jnp.full_like(x, jnp.finfo(x.dtype).tiny), x)
    return jnp.where(empty, jnp.zeros_like(x), jnp.sqrt(safe))


def over(numerator: Float[Array, "..."], denominator: Float[Array, "..."]) -> Float[Array, "..."]:
    """The quotient, and 0 with derivatives 0 where the denominator is ≤ 0; NaN stays NaN.

    >>> over(jnp.array([1.0, 1.0]), jnp.array([4.0, 0.0]))
    Array([0.25, 0.  ], dtype=float32)
    """
    empty = denominator <= 0
    quotient = numerator / jnp.where(empty, jnp.ones_like(denominator), denominator)
    return jnp.where(empty, jnp.zeros_like(quotient), quotient)
