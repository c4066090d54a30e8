"""Parameters seen through transposes, reshapes and slices: strided views, and when two of them share numbers."""

import math
from typing import NamedTuple

import jax
import numpy as np

Moment = float | jax.Array  # a mean, a variance or a learning-rate weight

# sizes and strides, the first the slowest: an axis of a view; () for an axis of size one, stride 0 for a broadcast one
Parts = tuple[tuple[int, int], ...]


class Leaf(NamedTuple):
    """One parameter array and its prior: elementwise mean and variance, and weight in the NTK."""

    number: int
    path: str
    shape: tuple[int, ...]
    mean: Moment
    variance: Moment
    weight: Moment


def is_zero(value: Moment) -> bool:
    """Whether a moment is known to be zero (one that is traced may not be)."""
    return not isinstance(value, jax.core.Tracer) and np.ndim(value) == 0 and float(value) == 0.0


class Channels(NamedTuple):
    """Sizes of the axes of channels, and which of them a product sums over."""

    sizes: tuple[int, ...]
    summed: tuple[int, ...]


class Key(NamedTuple):
    """Which numbers of a leaf a random vector is made of, and in which role each axis serves."""

    leaf: int
    offset: int
    loops: tuple[tuple[int, int], ...]
    free: Parts
    rest: tuple[Parts, ...]


def extent(parts: Parts) -> int:
    """How many indices an axis has."""
    return math.prod(size for size, _ in parts)


def strided(shape: tuple[int, ...]) -> tuple[Parts, ...]:
    """The axes of an array as it lies in memory, the last the fastest."""
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return tuple(_tidy(((n, s),)) for n, s in zip(shape, strides, strict=True))


def _tidy(parts: Parts) -> Parts:
    """Without sizes of one, and with adjacent parts merged where they are one stride."""
    merged: list[tuple[int, int]] = []
    for size, stride in parts:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return tuple(merged)


def split(parts: Parts, sizes: tuple[int, ...]) -> tuple[Parts, ...] | None:
    """An axis as several of the given sizes, or None where its parts do not divide so.

    >>> split(((6, 2),), (3, 2))
    (((3, 4),), ((2, 2),))
    """
    rest: list[tuple[int, int]] = list(parts)
    out: list[Parts] = []
    for wanted in reversed(sizes):
        taken: list[tuple[int, int]] = []
        while wanted > 1:
            size, stride = rest.pop()
            if wanted % size == 0:
                taken.insert(0, (size, stride))
                wanted //= size
            elif size % wanted == 0:
                taken.insert(0, (wanted, stride))
                rest.append((size // wanted, stride * wanted))
                wanted = 1
            else:
                return None
        out.insert(0, _tidy(tuple(taken)))
    return tuple(out) if not rest else None


def merge(axes: tuple[Parts, ...]) -> Parts:
    """Several axes as one, the first the slowest."""
    return _tidy(tuple(part for parts in axes for part in parts))


def cut(parts: Parts, start: int, size: int, step: int) -> tuple[int, Parts] | None:
    """A slice of an axis: what is added to the offset, and the parts; None where it is not strided.

    >>> cut(((6, 1),), 2, 2, 1)
    (2, ((2, 1),))
    """
    if size == extent(parts) and step == 1:
        return 0, parts
    if len(parts) > 1:
        inner = extent(parts[1:])
        if step == 1 and start % inner == 0 and size % inner == 0:
            first = cut(parts[:1], start // inner, size // inner, 1)
            assert first is not None
            return first[0], _tidy((*first[1], *parts[1:]))
        return None
    stride = parts[0][1] if parts else 0
    return start * stride, _tidy(((size, stride * step),))


def overlap(a: Key, b: Key) -> bool:
    """Whether two keys share a number of a leaf."""
    if a.leaf != b.leaf:
        return False
    if a.loops != b.loops:
        return True
    one, other = _all(a), _all(b)
    # what both do alike with the largest strides decides nothing, as long as the rest stays within one stride
    while one and other and one[0] == other[0] and max(_reach(a, one[1:]), _reach(b, other[1:])) < one[0][1]:
        one, other = one[1:], other[1:]
    return bool(np.intersect1d(_numbers(a.offset, one), _numbers(b.offset, other)).size)


def _all(key: Key) -> list[tuple[int, int]]:
    parts = [part for parts in (key.free, *key.rest) for part in parts if part[1] != 0]
    return sorted(parts, key=lambda part: -part[1])


def _reach(key: Key, parts: list[tuple[int, int]]) -> int:
    return key.offset + sum((size - 1) * abs(stride) for size, stride in parts)


def _numbers(offset: int, parts: list[tuple[int, int]]) -> np.ndarray:
    numbers = np.array([offset])
    for size, stride in parts:
        numbers = (numbers[:, None] + stride * np.arange(size)).ravel()
    return numbers
