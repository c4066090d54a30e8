"""Arrays over pairs of places: for each index axis one dimension (equal places) or two adjacent ones (all pairs).

A dimension of size one stands for a value that is the same everywhere.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

Mask = tuple[bool, ...]


def spot(mask: Mask, axis: int) -> int:
    """Where the dimensions of an index axis start."""
    return axis + sum(mask[:axis])


def as_left(value: Any, mask: Mask) -> Any:
    """A value on places of the left example, over pairs."""
    return value.reshape([m for n, both in zip(value.shape, mask, strict=True) for m in ((n, 1) if both else (n,))])


def as_right(value: Any, mask: Mask) -> Any:
    """A value on places of the right example, over pairs."""
    return value.reshape([m for n, both in zip(value.shape, mask, strict=True) for m in ((1, n) if both else (n,))])


def narrowed(array: Any, have: Mask, want: Mask) -> Any:
    """Equal places only, on the axes where no more is wanted."""
    if array is None:
        return None
    for axis in reversed(range(len(have))):
        if have[axis] and not want[axis]:
            array = _diagonal(array, spot(have, axis))
    return array


def _diagonal(array: Any, at: int) -> Any:
    left, right = array.shape[at], array.shape[at + 1]
    if left == 1 or right == 1:
        return array.reshape(*array.shape[:at], max(left, right), *array.shape[at + 2 :])
    return jnp.moveaxis(jnp.diagonal(array, axis1=at, axis2=at + 1), -1, at)


def stretched(array: Any, at: int, size: int) -> Any:
    """A dimension in full size."""
    if array.shape[at] == size:
        return array
    return jnp.broadcast_to(array, (*array.shape[:at], size, *array.shape[at + 1 :]))


def on_diagonal(array: Any, at: int) -> Any:
    """Equal places of an axis, as all pairs, zero elsewhere."""
    size = array.shape[at]
    eye = jnp.eye(size, dtype=array.dtype).reshape(*(1,) * at, size, size, *(1,) * (array.ndim - at - 1))
    return jnp.expand_dims(array, at + 1) * eye


def total(values: list[Any]) -> Any:
    """The sum of what is not None."""
    found = [v for v in values if v is not None]
    if not found:
        return None
    out = found[0]
    for value in found[1:]:
        out = out + value
    return out


def product(values: list[Any]) -> Any:
    """The product, None (zero) if any is."""
    if any(v is None for v in values):
        return None
    out = values[0]
    for value in values[1:]:
        out = out * value
    return out


def both(change: Callable[[Any], Any], entry: tuple[Any, Any]) -> tuple[Any, Any]:
    """A linear change of a kernel and its tangent."""
    kernel, tangent = entry
    return (None if kernel is None else change(kernel)), (None if tangent is None else change(tangent))


def left(value: Any, mask: Any) -> Any:
    """`as_left`, of None (zero) too."""
    return None if value is None else as_left(value, mask)


def right(value: Any, mask: Any) -> Any:
    """`as_right`, of None (zero) too."""
    return None if value is None else as_right(value, mask)


def shaped(value: Any, rank: int) -> Any:
    """A coefficient over index axes, from whatever rank it came with."""
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


def times(factor: Any, value: Any) -> Any:
    """The product, where no factor is one and no value is zero."""
    return value if factor is None or value is None else factor * value
