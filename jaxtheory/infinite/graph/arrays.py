"""Arrays over pairs of places: for each index axis one dimension (equal places) or two adjacent ones (all pairs).

A dimension of size one stands for a value that is the same everywhere, and None for an array that is zero.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Mask = tuple[bool, ...]
Average = jax.Array | None  # None is zero


class Entry(NamedTuple):
    """Kernel E[a b'] and tangent ⟨∂a, ∂b'⟩ of two nodes."""

    kernel: Average
    tangent: Average

    def map(self, change: Callable[[jax.Array], jax.Array]) -> "Entry":
        """A linear change of both."""
        return Entry(*(None if array is None else change(array) for array in self))

    def times(self, factor: jax.Array) -> "Entry":
        """A multiple of both."""
        return self.map(lambda array: factor * array)


ZERO = Entry(None, None)


def spot(mask: Mask, axis: int) -> int:
    """Where the dimensions of an index axis start."""
    return axis + sum(mask[:axis])


def as_left(value: jax.Array, mask: Mask) -> jax.Array:
    """A value on places of the left example, over pairs."""
    return value.reshape([m for n, both in zip(value.shape, mask, strict=True) for m in ((n, 1) if both else (n,))])


def as_right(value: jax.Array, mask: Mask) -> jax.Array:
    """A value on places of the right example, over pairs."""
    return value.reshape([m for n, both in zip(value.shape, mask, strict=True) for m in ((1, n) if both else (n,))])


def narrow(array: jax.Array, have: Mask, want: Mask) -> jax.Array:
    """Equal places only, on the axes where no more is wanted."""
    for axis in reversed(range(len(have))):
        if have[axis] and not want[axis]:
            array = _diagonal(array, spot(have, axis))
    return array


def _diagonal(array: jax.Array, at: int) -> jax.Array:
    left, right = array.shape[at], array.shape[at + 1]
    if left == 1 or right == 1:
        return array.reshape((*array.shape[:at], max(left, right), *array.shape[at + 2 :]))
    return jnp.moveaxis(jnp.diagonal(array, axis1=at, axis2=at + 1), -1, at)


def stretch(array: jax.Array, at: int, size: int) -> jax.Array:
    """A dimension in full size."""
    if array.shape[at] == size:
        return array
    return jnp.broadcast_to(array, (*array.shape[:at], size, *array.shape[at + 1 :]))


def on_diagonal(array: jax.Array, at: int) -> jax.Array:
    """Equal places of an axis, as all pairs, zero elsewhere."""
    size = array.shape[at]
    eye = jnp.eye(size, dtype=array.dtype).reshape((*(1,) * at, size, size, *(1,) * (array.ndim - at - 1)))
    return jnp.expand_dims(array, at + 1) * eye


def total(values: Iterable[Average]) -> Average:
    """The sum; zero without any terms but zeros."""
    found = [v for v in values if v is not None]
    if not found:
        return None
    out = found[0]
    for value in found[1:]:
        out = out + value
    return out


def product(values: Iterable[Average]) -> Average:
    """The product, zero if any is."""
    given = list(values)
    found = [v for v in given if v is not None]
    if len(found) < len(given):
        return None
    out = found[0]
    for value in found[1:]:
        out = out * value
    return out


def left(value: Average, mask: Mask) -> Average:
    """`as_left`, of zero too."""
    return None if value is None else as_left(value, mask)


def right(value: Average, mask: Mask) -> Average:
    """`as_right`, of zero too."""
    return None if value is None else as_right(value, mask)


def with_rank(value: jax.Array, rank: int) -> jax.Array:
    """A coefficient over index axes, from whatever rank it came with."""
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


def scale(factor: float | jax.Array, value: Average) -> Average:
    """A multiple, of zero too."""
    return None if value is None else factor * value


def dense(value: Average, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """An array of a shape, zeros where it is zero."""
    return jnp.broadcast_to(jnp.zeros((), dtype) if value is None else value, shape)
