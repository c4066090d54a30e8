"""Numbers that a program draws, entry by entry: from which draw, along which axes, and as which function of its bits.

`jax.random.bernoulli` compares uniform numbers, which are made of random bits, with a probability. Each entry is then a
function of bits of its own, and takes finitely many values, with probabilities that are read off without a draw.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite.graph import groups
from jaxtheory.infinite.graph.bits import Draw, Source
from jaxtheory.infinite.graph.nodes import Deterministic, Flags, Shape
from jaxtheory.infinite.trace.binding import bind
from jaxtheory.programs.calls import Equation

_COARSE = 2**12  # bits at which a function of them is looked at first
_VALUES = 8  # what takes more values than these is no mask
Entries = Callable[[np.ndarray], np.ndarray]  # of bits
_MOVING = ("broadcast_in_dim", "transpose", "reshape", "squeeze", "expand_dims")


def draw_source(equation: Equation, operands: Sequence[Deterministic]) -> Source | None:
    """The bits of a draw with a key that is known, or with several different ones."""
    key, shape = operands[0], equation.outvars[0].aval.shape
    if equation.primitive.name != "random_bits" or key.value is None:
        return None
    data = np.asarray(jax.random.key_data(jnp.asarray(key.value)))
    if len(np.unique(data.reshape(-1, data.shape[-1]), axis=0)) < np.prod(data.shape[:-1]):
        return None
    draw = Draw(data.tobytes(), shape, equation.params["bit_width"])
    return Source(draw, tuple(m > 1 for m in shape), lambda bits: bits)


def output_source(equation: Equation, operands: Sequence[Deterministic]) -> Source | None:
    """The source of an output, where its entries are functions of the bits of one draw, entry by entry."""
    random = [d for d in operands if d.random]
    found = [d.source for d in random if d.source is not None]
    if not found or len(found) < len(random) or any(s.draw != found[0].draw for s in found):
        return None
    own = _axes(equation, operands, found)
    if own is None or not all(d.random or (d.value is not None and d.scalar) for d in operands):
        return None
    if equation.primitive.name in _MOVING:
        return found[0]._replace(own=own)

    def make(bits: np.ndarray) -> np.ndarray:
        values = [_entries(d, bits) for d in operands]
        return np.asarray(bind(equation, [jnp.asarray(v) for v in values])[0])

    return Source(found[0].draw, own, make)


def _entries(det: Deterministic, bits: np.ndarray) -> np.ndarray:
    """What an operand is at some bits of the draw."""
    if det.random and det.source is not None:
        return det.source.make(bits)
    return np.broadcast_to(np.ravel(np.asarray(det.value)), bits.shape)


def _axes(equation: Equation, operands: Sequence[Deterministic], found: list[Source]) -> Flags | None:
    """Along which axes of the output entries are independent; None where that cannot be told."""
    name, shape, own = equation.primitive.name, equation.outvars[0].aval.shape, found[0].own
    if name == "broadcast_in_dim":
        places = dict(zip(equation.params["broadcast_dimensions"], own, strict=True))
        return tuple(places.get(i, False) for i in range(len(shape)))
    if name == "transpose":
        return tuple(own[i] for i in equation.params["permutation"])
    if name in _MOVING:
        return _regroup(operands[0].shape, own, shape)
    return own if all(s.own == own for s in found) and len(own) == len(shape) else None


def _regroup(old: Shape, own: Flags, new: Shape) -> Flags | None:
    flags = [False] * len(new)
    for before, after in groups(old, new):
        kinds = {own[i] for i in before if old[i] > 1}
        if len(kinds) > 1:
            return None
        for i in after:
            flags[i] = new[i] > 1 and True in kinds
    return tuple(flags)


class Step(NamedTuple):
    """The values of several functions of one entry's bits, and the probability of these."""

    values: np.ndarray
    probability: float


@functools.lru_cache(maxsize=256)
def law(width: int, makes: tuple[Entries, ...]) -> list[Step] | None:
    """Values of several functions of one entry's bits, with their probabilities; None where they are no few steps.

    The functions are taken for steps, equal between bits of a grid at which they are, and compared at other bits.
    """
    last = 2**width - 1
    bits = np.unique(np.array([last * k // (_COARSE - 1) for k in range(_COARSE)], np.uint64))
    values = _evaluate(makes, bits, width)
    if len(np.unique(values, axis=1).T) > _VALUES:
        return None
    jumps = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(0))
    low, high = bits[jumps], bits[jumps + 1]
    left = values[:, jumps]
    while (high - low > 1).any():
        middle = low + (high - low) // 2
        same = (_evaluate(makes, middle, width) == left).all(0)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    edges = [0, *high.tolist(), 2**width]
    heights = values[:, [0, *(jumps + 1).tolist()]].T
    sample = np.random.default_rng(0).integers(0, last, _COARSE, np.uint64, endpoint=True)
    found = heights[np.searchsorted(high, sample, side="right")].T
    if (found != _evaluate(makes, sample, width)).any():  # no steps, as the lowest bit
        return None
    shares = [float(b - a) / 2.0**width for a, b in itertools.pairwise(edges)]
    return [Step(*step) for step in zip(heights, shares, strict=True)]


def _evaluate(makes: Sequence[Entries], bits: np.ndarray, width: int) -> np.ndarray:
    given = bits.astype(f"uint{width}")
    return np.stack([np.asarray(make(given), np.float64) for make in makes])
