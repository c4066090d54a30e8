"""How the points of a store are cut into chunks: hyper-rectangles of positions, which only ever grow in number."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Attributes = dict[str, Any]  # what a store says of itself, as JSON holds it
Chunk = tuple[int, ...]


class Layout(NamedTuple):
    """Dimensions cut into pieces of `chunk` points, the last one possibly shorter; static dimensions one by one."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    static: tuple[str, ...]


def layout(names: Sequence[str], shape: Sequence[int], static: Sequence[str], block: int | None) -> Layout:
    """Chunks of about √(points), or of `block` points where that is more: the last dimensions whole.

    Devices and memory have no say, so that a store looks the same wherever it was made.

    >>> layout(("activation", "ridge", "seed"), (2, 7, 20), ("activation",), None).chunk
    (1, 1, 20)
    """
    wanted = wanted_points(shape, block)
    chunk: list[int] = []
    for name, size in zip(reversed(names), reversed(shape), strict=True):
        length = 1 if name in static else -(-size // max(1, size // wanted))
        chunk.insert(0, length)
        wanted = -(-wanted // length)
    return Layout(tuple(names), tuple(shape), tuple(chunk), tuple(static))


def wanted_points(shape: Sequence[int], block: int | None) -> int:
    """√(points), rounded up, or `block` where that is more: points that are computed and written together."""
    return max(math.isqrt(max(math.prod(shape), 1) - 1) + 1, block or 1)


def counts(layout: Layout) -> tuple[int, ...]:
    """Number of chunks along each dimension."""
    return tuple(-(-size // length) for size, length in zip(layout.shape, layout.chunk, strict=True))


def chunks(layout: Layout) -> list[Chunk]:
    """Every chunk's place, those of one combination of static values together."""
    return sorted(np.ndindex(counts(layout)), key=lambda chunk: combination(layout, chunk))


def combination(layout: Layout, chunk: Chunk) -> Chunk:
    """Positions of a chunk along the static dimensions, whose chunks hold one value."""
    return tuple(place for name, place in zip(layout.names, chunk, strict=True) if name in layout.static)


def extent(layout: Layout, chunk: Chunk) -> tuple[int, ...]:
    """Points of a chunk along each dimension."""
    return tuple(len(span) for span in spans(layout, chunk))


def positions(layout: Layout, chunk: Chunk) -> np.ndarray:
    """(points, dimensions) positions of a chunk's points, in the chunk's order."""
    return np.array(list(itertools.product(*spans(layout, chunk))), np.int64).reshape(-1, len(layout.names))


def spans(layout: Layout, chunk: Chunk) -> Iterator[range]:
    """Positions of a chunk along each dimension."""
    for size, length, place in zip(layout.shape, layout.chunk, chunk, strict=True):
        yield range(place * length, min(size, (place + 1) * length))


def touched(layout: Layout, wanted: Sequence[np.ndarray]) -> list[Chunk]:
    """The chunks that hold a point of the product of these positions along each dimension, in the order of `chunks`."""
    places = [np.unique(along // length).tolist() for along, length in zip(wanted, layout.chunk, strict=True)]
    return sorted(itertools.product(*places), key=lambda chunk: combination(layout, chunk))


def within(layout: Layout, chunk: Chunk, wanted: Sequence[np.ndarray]) -> np.ndarray:
    """Which points of a chunk are in the product of these positions, in the chunk's shape."""
    mask = np.ones((), bool)
    for span, along in zip(spans(layout, chunk), wanted, strict=True):
        mask = mask[..., None] & np.isin(np.arange(span.start, span.stop), along)
    return mask


def groups(layout: Layout, todo: Sequence[Chunk], most: int) -> list[dict[int, Chunk]]:
    """Chunks that are computed together, up to `most` neighbours of one combination, each with its place among them.

    Neither groups nor places depend on which chunks are to do, so that a chunk is always computed alike.
    """
    ranks: dict[Chunk, int] = {}
    if most > 1:
        for _, together in itertools.groupby(chunks(layout), key=lambda chunk: combination(layout, chunk)):
            ranks |= {chunk: rank for rank, chunk in enumerate(together)}
    found: dict[tuple[Chunk, int], dict[int, Chunk]] = {}
    for number, chunk in enumerate(todo):
        group, place = divmod(ranks[chunk], most) if most > 1 else (number, 0)
        found.setdefault((combination(layout, chunk), group), {})[place] = chunk
    return list(found.values())
