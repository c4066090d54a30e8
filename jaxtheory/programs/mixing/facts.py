"""Records of the arrays of a program on a small batch: which example each entry depends on, and by which function.

Two things are recorded for every entry: its owner, the one example that it depends on, and a token, equal for entries
that are the same function of their own example. An axis whose entries all share one record has extent one in it.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxtheory.programs.sites import Site

Axis = Any  # an integer of Python or of NumPy, as JAX names axes by both
Token = np.ndarray | np.uint64 | int
SHARED, MIXED = -1, -2  # owners of what depends on no example, or on several
LARGEST = 2**16  # entries of numbers that are kept, and of axes that are told apart without need

_ODD = np.uint64(0x9E3779B97F4A7C15)


class Blame(NamedTuple):
    """The first equation that combined examples, told them apart by their place, or put them into another order."""

    mixed: Site | None = None
    uneven: Site | None = None
    moved: Site | None = None

    def after(self, other: "Blame") -> "Blame":
        """The earlier of both in each field."""
        return Blame(*(mine if mine is not None else yours for mine, yours in zip(self, other, strict=True)))


class Fact(NamedTuple):
    """The record of one array.

    Attributes:
        shape: of the array.
        owner, token: int and uint64 arrays with as many axes, of the array's extents or 1.
        uniform: for each axis of extent 1 in the record, whether entries along it are equal (otherwise unrelated).
        known: the numbers themselves where they depend on nothing, masked where they are not known.
    """

    shape: tuple[int, ...]
    owner: np.ndarray
    token: np.ndarray
    uniform: tuple[bool, ...]
    known: np.ma.MaskedArray | None = None
    blame: Blame = Blame()

    def explicit(self, axis: Axis) -> bool:
        """Whether entries along an axis are told apart."""
        return self.owner.shape[axis] > 1

    @property
    def axes(self) -> set[int]:
        """The axes along which entries are told apart."""
        return {axis for axis in range(len(self.shape)) if self.explicit(axis)}


def text_token(text: str) -> np.uint64:
    """A token of a name."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def mix(*tokens: Token) -> np.ndarray:
    """A token of several in order."""
    found = np.asarray(0x51AFD7ED558CCD6D, np.uint64)
    with np.errstate(over="ignore"):
        for token in tokens:
            found = (found ^ np.asarray(token, np.uint64)) * _ODD
            found = found ^ (found >> np.uint64(29))
    return np.asarray(found)


def shared(shape: Sequence[Axis], token: Token, uniform: bool = False) -> Fact:
    """What depends on no example: parameters (unrelated entries) or a repeated number (`uniform`)."""
    ones = (1,) * len(shape)
    grid = np.full(ones, SHARED), np.full(ones, token, np.uint64)
    return Fact(tuple(shape), *grid, tuple(uniform or extent <= 1 for extent in shape))


def examples(shape: Sequence[Axis], token: Token) -> Fact:
    """Inputs: entry i along the first axis belongs to example i."""
    grid = (shape[0], *(1,) * (len(shape) - 1))
    owner, tokens = np.arange(shape[0]).reshape(grid), np.full(grid, token, np.uint64)
    return Fact(tuple(shape), owner, tokens, tuple(extent <= 1 for extent in shape))


def numbers(values: ArrayLike | np.ma.MaskedArray) -> Fact:
    """Numbers that are there when the program is read."""
    values = np.ma.asarray(values)
    whole = not np.ma.getmaskarray(values).any()
    same = [n <= 1 or (whole and _equal_along(values.data, axis)) for axis, n in enumerate(values.shape)]
    fact = shared(values.shape, 0)._replace(uniform=tuple(same), known=values)
    return fact._replace(token=_tokens_of_numbers(fact, ()))


def _equal_along(values: np.ndarray, axis: int) -> bool:
    return bool((_bits(values) == _bits(np.asarray(values.take([0], axis)))).all())


def forget(fact: Fact) -> Fact:
    """Without the numbers."""
    return fact._replace(known=None)


def complete(fact: Fact) -> bool:
    """Whether all numbers are known."""
    return fact.known is not None and not np.ma.getmaskarray(fact.known).any()


def _tokens_of_numbers(fact: Fact, axes: tuple[int, ...]) -> np.ndarray:
    """Tokens of the slices along `axes`, one for each place in them; of one entry along axes of equal ones."""
    assert fact.known is not None
    part = tuple(slice(None, 1) if same else slice(None) for same in fact.uniform)
    values = np.asarray(np.asarray(fact.known.data)[part])
    rest = [axis for axis in range(values.ndim) if axis not in axes]
    rows = _bits(values).transpose(*axes, *rest).reshape(*(values.shape[axis] for axis in axes), -1)
    with np.errstate(over="ignore"):
        weights = mix(np.arange(rows.shape[-1], dtype=np.uint64)) | np.uint64(1)
        found = mix(np.add.reduce(mix(rows) * weights, axis=-1, dtype=np.uint64))
    return found.reshape([n if axis in axes else 1 for axis, n in enumerate(values.shape)])


def _bits(values: np.ndarray) -> np.ndarray:
    """One integer for each number."""
    if values.dtype.kind in "biu":
        return values.astype(np.uint64)
    with np.errstate(all="ignore"):
        whole = np.asarray(values.astype(np.complex128))
    return np.asarray(mix(whole.real.view(np.uint64), whole.imag.view(np.uint64)))


def expand(fact: Fact, axis: Axis) -> Fact:
    """Told apart along an axis."""
    extent = fact.shape[axis]
    if fact.explicit(axis) or extent == 1:
        return fact
    repeated = [np.repeat(part, extent, axis) for part in (fact.owner, fact.token)]
    if not fact.uniform[axis]:
        if complete(fact) and fact.known is not None:
            repeated[1] = _tokens_of_numbers(fact, tuple(sorted({*fact.axes, axis})))
        else:
            places = np.arange(extent, dtype=np.uint64)
            repeated[1] = mix(repeated[1], np.expand_dims(places, [a for a in range(len(fact.shape)) if a != axis]))
    return fact._replace(owner=repeated[0], token=repeated[1])


def aligned(facts: Iterable[Fact]) -> list[Fact]:
    """Arrays of one shape, told apart along the same axes."""
    facts = list(facts)
    axes = set().union(*(fact.axes for fact in facts))
    return [functools.reduce(expand, sorted(axes), fact) for fact in facts]


def fold(owner: np.ndarray, axis: Axis) -> np.ndarray:
    """The owner of what depends on all entries along an axis."""
    high = owner.max(axis, keepdims=True)
    low = np.where(owner == SHARED, np.iinfo(owner.dtype).max, owner).min(axis, keepdims=True)
    several = (low != high) & (high >= 0)
    return np.where((owner == MIXED).any(axis, keepdims=True) | several, MIXED, high)


def join(name: str, facts: Sequence[Fact]) -> Fact:
    """A function of corresponding entries of arrays of one shape."""
    same = aligned(facts)
    owner = fold(np.stack([fact.owner for fact in same]), 0)[0]
    token = mix(text_token(name), *(fact.token for fact in same))
    uniform = tuple(all(flags) for flags in zip(*(fact.uniform for fact in same), strict=True))
    return Fact(same[0].shape, owner, token, uniform, None, blamed(same))


def blamed(facts: Iterable[Fact]) -> Blame:
    """The equations that the facts blame."""
    return functools.reduce(Blame.after, (fact.blame for fact in facts), Blame())


def collapse(fact: Fact, axes: Iterable[Axis]) -> Fact:
    """What depends on all entries along these axes; they stay, and their entries share one record."""
    owner, token = fact.owner, fact.token
    for axis in axes:
        if owner.shape[axis] > 1:
            owner = fold(owner, axis)
            places = np.arange(token.shape[axis], dtype=np.uint64)
            rows = mix(token, np.expand_dims(places, [a for a in range(token.ndim) if a != axis]))
            token = mix(np.add.reduce(rows, axis=axis, dtype=np.uint64, keepdims=True))
    uniform = tuple(flag and axis not in set(axes) for axis, flag in enumerate(fact.uniform))
    return Fact(fact.shape, owner, token, uniform, None, fact.blame)


def drop(fact: Fact, axes: Iterable[Axis]) -> Fact:
    """Without axes whose entries share one record."""
    gone = tuple(axes)
    kept = [axis for axis in range(len(fact.shape)) if axis not in gone]
    grid = [fact.owner.shape[axis] for axis in kept]
    shape, uniform = tuple(fact.shape[axis] for axis in kept), tuple(fact.uniform[axis] for axis in kept)
    return Fact(shape, fact.owner.reshape(grid), fact.token.reshape(grid), uniform, None, fact.blame)


def spread(fact: Fact, shape: Sequence[Axis], dims: Sequence[Axis], uniform: bool = True) -> Fact:
    """As `lax.broadcast_in_dim`: axis i becomes axis dims[i]; new axes repeat (or, not `uniform`, hold anything)."""
    grid, flags = [1] * len(shape), [uniform or extent <= 1 for extent in shape]
    for axis, dim in enumerate(dims):
        grid[dim] = fact.owner.shape[axis]
        flags[dim] = fact.uniform[axis] if fact.shape[axis] == shape[dim] else uniform
    order = sorted(range(len(dims)), key=lambda axis: dims[axis])
    owner, token = (part.transpose(order).reshape(grid) for part in (fact.owner, fact.token))
    return Fact(tuple(shape), owner, token, tuple(flags), None, fact.blame)


def reshaped(fact: Fact, shape: Sequence[Axis]) -> Fact:
    """In another shape, entries in the same order."""
    grid, flags = [1] * len(shape), [True] * len(shape)
    for old, new in _groups(fact.shape, shape):
        if len(old) == len(new) == 1:
            grid[new[0]], flags[new[0]] = fact.owner.shape[old[0]], fact.uniform[old[0]]
            continue
        kinds = {fact.uniform[axis] for axis in old}
        size = int(np.prod([fact.shape[axis] for axis in old]))
        if fact.axes & set(old) or (len(kinds) > 1 and size <= LARGEST):
            fact = functools.reduce(expand, old, fact)
            for axis in new:
                grid[axis] = shape[axis]
        for axis in new:
            flags[axis] = kinds == {True}
    known = None if fact.known is None else fact.known.reshape(shape)
    owner, token = fact.owner.reshape(grid), fact.token.reshape(grid)
    return Fact(tuple(shape), owner, token, tuple(flags), known, fact.blame)


def _groups(old: Sequence[Axis], new: Sequence[Axis]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes, of extent above 1, that a reshape maps to one another."""
    first = [axis for axis, extent in enumerate(old) if extent > 1]
    second = [axis for axis, extent in enumerate(new) if extent > 1]
    groups = []
    while first or second:
        left, right = [first.pop(0)], [second.pop(0)]
        sizes = [old[left[0]], new[right[0]]]
        while sizes[0] != sizes[1]:
            side = int(sizes[0] > sizes[1])
            axis = (first, second)[side].pop(0)
            (left, right)[side].append(axis)
            sizes[side] *= (old, new)[side][axis]
        groups.append((left, right))
    return groups


def is_even(fact: Fact) -> bool:
    """Whether the entries of every example, in their order, are the same functions of it."""
    owners = np.broadcast_to(fact.owner, fact.token.shape).ravel()
    rows = [fact.token.ravel()[owners == owner] for owner in np.unique(owners[owners >= 0])]
    return all(len(row) != len(rows[0]) or bool((row == rows[0]).all()) for row in rows)


def in_order(fact: Fact, count: int) -> bool:
    """Whether all examples are there, in the order in which they came (or none at all)."""
    owners = fact.owner.ravel()
    owners = owners[owners >= 0]
    if not owners.size:
        return True
    found, first = np.unique(owners, return_index=True)
    return len(found) == count and bool((np.diff(first) > 0).all())
