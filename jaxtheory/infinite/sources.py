"""Numbers that a program draws, entry by entry: from which draw, along which axes, and as which function of its bits.

`jax.random.bernoulli` compares uniform numbers, which are made of random bits, with a probability. Each entry is then a
function of bits of its own, and takes finitely many values, with probabilities that are read off without a draw.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

_COARSE = 2**12  # bits at which a function of them is looked at first
_VALUES = 8  # what takes more values than these is no mask


class Source(NamedTuple):
    """Entries that are independent along the axes `own` and equal along the others.

    `draw` names the draw: the bytes of its key, the shape that is drawn, and the width of its bits. `make` gives the
    entries at arrays of bits.
    """

    draw: tuple[bytes, tuple[int, ...], int]
    own: tuple[bool, ...]
    make: Callable[[Any], Any]


def drawn(equation: Any, operands: list[Any]) -> Source | None:
    """The bits of a draw with a key that is known, or with several different ones."""
    key, shape = operands[0], equation.outvars[0].aval.shape
    if equation.primitive.name != "random_bits" or key.value is None:
        return None
    data = np.asarray(jax.random.key_data(key.value))
    if len(np.unique(data.reshape(-1, data.shape[-1]), axis=0)) < np.prod(data.shape[:-1]):
        return None
    return Source((data.tobytes(), shape, equation.params["bit_width"]), tuple(m > 1 for m in shape), lambda bits: bits)


def followed(equation: Any, operands: list[Any], bind: Callable[..., Any], groups: Callable[..., Any]) -> Source | None:
    """The source of an output, where its entries are functions of the bits of one draw, entry by entry."""
    found = [d.source for d in operands if d.random]
    if not found or any(s is None or s.draw != found[0].draw for s in found):
        return None
    own = _axes(equation, operands, found, groups)
    numbers = [d.random or (d.value is not None and d.scalar) for d in operands]
    if own is None or not all(numbers):
        return None
    if equation.primitive.name in _MOVING:
        return found[0]._replace(own=own)

    def make(bits: Any) -> Any:
        values = [d.source.make(bits) if d.random else np.broadcast_to(np.ravel(d.value), bits.shape) for d in operands]
        return np.asarray(bind(equation, [jax.numpy.asarray(v) for v in values])[0])

    return Source(found[0].draw, own, make)


_MOVING = ("broadcast_in_dim", "transpose", "reshape", "squeeze", "expand_dims")


def _axes(equation: Any, operands: list[Any], found: list[Source], groups: Any) -> tuple[bool, ...] | None:
    """Along which axes of the output entries are independent; None where that cannot be told."""
    name, shape, own = equation.primitive.name, equation.outvars[0].aval.shape, found[0].own
    if name == "broadcast_in_dim":
        places = dict(zip(equation.params["broadcast_dimensions"], own, strict=True))
        return tuple(places.get(i, False) for i in range(len(shape)))
    if name == "transpose":
        return tuple(own[i] for i in equation.params["permutation"])
    if name in _MOVING:
        return _regrouped(operands[0].shape, own, shape, groups)
    return own if all(s.own == own for s in found) and len(own) == len(shape) else None


def _regrouped(old: Any, own: tuple[bool, ...], new: Any, groups: Any) -> tuple[bool, ...] | None:
    flags = [False] * len(new)
    for before, after in groups(old, new):
        kinds = {own[i] for i in before if old[i] > 1}
        if len(kinds) > 1:
            return None
        for i in after:
            flags[i] = new[i] > 1 and True in kinds
    return tuple(flags)


@functools.lru_cache(maxsize=256)
def law(width: int, makes: tuple[Callable[[Any], Any], ...]) -> list[tuple[np.ndarray, float]] | None:
    """Values of several functions of one entry's bits, with their probabilities; None where they are no few steps.

    The functions are taken for steps, equal between bits of a grid at which they are, and compared at other bits.
    """
    last = 2**width - 1
    bits = np.unique(np.array([last * k // (_COARSE - 1) for k in range(_COARSE)], np.uint64))
    values = _evaluated(makes, bits, width)
    if len(np.unique(values, axis=1).T) > _VALUES:
        return None
    jumps = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(0))
    low, high = bits[jumps], bits[jumps + 1]
    left = values[:, jumps]
    while (high - low > 1).any():
        middle = low + (high - low) // 2
        same = (_evaluated(makes, middle, width) == left).all(0)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    edges = [0, *high.tolist(), 2**width]
    heights = values[:, [0, *(jumps + 1).tolist()]].T
    sample = np.random.default_rng(0).integers(0, last, _COARSE, np.uint64, endpoint=True)
    found = heights[np.searchsorted(high, sample, side="right")].T
    if (found != _evaluated(makes, sample, width)).any():  # no steps, as the lowest bit
        return None
    shares = [float(b - a) / 2.0**width for a, b in itertools.pairwise(edges)]
    return list(zip(heights, shares, strict=True))


def _evaluated(makes: Any, bits: np.ndarray, width: int) -> np.ndarray:
    given = bits.astype(f"uint{width}")
    return np.stack([np.asarray(make(given), np.float64) for make in makes])
