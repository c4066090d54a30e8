"""Large non-negative integers as rows of 28-bit limbs, so that they add and compare exactly under `jit`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

BITS = 28  # sums of up to 7 limbs stay below 2^31


def to_limbs(numbers: np.ndarray, count: int) -> np.ndarray:
    """Python integers as rows of `count` limbs, the most significant first.

    >>> to_limbs(np.array([5 + 3 * 2**28], object), 2).tolist()
    [[3, 5]]
    """
    mask = 2**BITS - 1
    return np.stack([(numbers >> BITS * i & mask).astype(np.int64) for i in reversed(range(count))], axis=-1)


def carried(limbs: Any) -> Any:
    """The same number with every limb but the first in 0..2^28 − 1; also after a difference.

    >>> carried(np.array([[1, -1]])).tolist()
    [[0, 268435455]]
    """
    out, carry = [], 0 * limbs[..., 0]
    for column in reversed(range(limbs.shape[-1])):
        full = limbs[..., column] + carry
        carry = full >> BITS
        out.append(full - (carry << BITS) if column else full)
    stack = jnp.stack if isinstance(limbs, jax.Array) else np.stack
    return stack(out[::-1], axis=-1)


def at_most(one: Array, other: Array) -> Array:
    """one ≤ other, the limbs compared from the most significant on."""
    less, equal = jnp.zeros(one.shape[:-1], bool), jnp.ones(one.shape[:-1], bool)
    for limb in range(one.shape[-1]):
        less = less | (equal & (one[..., limb] < other[..., limb]))
        equal = equal & (one[..., limb] == other[..., limb])
    return less | equal


def last_at_most(knots: Array, y: Array) -> Array:
    """Index of the last knot ≤ y, −1 where there is none: by first limbs, then by bisection among their ties."""
    leading = knots[:, 0]
    low = jnp.searchsorted(leading, y[:, 0], side="left").astype(jnp.int32) - 1
    high = jnp.searchsorted(leading, y[:, 0], side="right").astype(jnp.int32)

    def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        below = at_most(knots[middle], y)
        return jnp.where(below, middle, low), jnp.where(below | (high - low == 1), high, middle)

    return jax.lax.while_loop(lambda bounds: jnp.any(bounds[1] - bounds[0] > 1), halve, (low, high))[0]
