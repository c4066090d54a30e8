"""What is to do, and in which company: chunks that miss all of their points, and single points of others."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaxtheory.sweeps import layout as layouts
from jaxtheory.sweeps.layout import Chunk, Layout
from jaxtheory.sweeps.pipeline import Piece, Task

Batch = list[tuple[Chunk, np.ndarray]]


def tasks(layout: Layout, first: Sequence[int], todo: dict[Chunk, np.ndarray], points: int) -> list[Task]:
    """The points to do, combination after combination, about `points` of them in a task.

    A chunk that misses all of its points is computed as it always is, in the same rows of the same program, so that its
    bytes do not depend on what else is to do. Points of chunks that hold others already, or that the store was extended
    by, are packed: only they are computed.

    Args:
        layout: of the store.
        first: the sizes of its dimensions when it was made.
        todo: for each chunk, in order, which of its points are to do.
        points: computed and written together, at least a chunk.
    """
    most, made = max(1, points // math.prod(layout.chunk)), []
    for place, chunks in itertools.groupby(todo, key=lambda chunk: layouts.combination(layout, chunk)):
        own = list(chunks)
        whole = [chunk for chunk in own if _whole(layout, first, chunk, todo[chunk])]
        made += [_task(layout, place, group, todo) for group in layouts.groups(layout, whole, most)]
        rest = [chunk for chunk in own if chunk not in set(whole)]
        made += [_packed(layout, place, batch) for batch in _batches(rest, todo, points)]
    return made


def _whole(layout: Layout, first: Sequence[int], chunk: Chunk, mask: np.ndarray) -> bool:
    """Whether all of a chunk is to do, and it is as full as it will be, or as it was when the store was made."""
    full = layouts.extent(layout, chunk) == layout.chunk
    original = all(i < -(-size // length) for i, size, length in zip(chunk, first, layout.chunk, strict=True))
    return bool(mask.all()) and (full or original)


def _task(layout: Layout, place: Chunk, group: dict[int, Chunk], todo: dict[Chunk, np.ndarray]) -> Task:
    """Whole chunks, each in the slots of its rank in the group."""
    capacity, last = math.prod(layout.chunk), max(group)
    slots, positions, pieces, count = np.full(capacity * last + todo[group[last]].size, -1), [], [], 0
    for rank, chunk in group.items():
        mask = todo[chunk]
        slots[rank * capacity : rank * capacity + mask.size] = count + np.arange(mask.size)
        positions.append(layouts.positions(layout, chunk))
        pieces.append(Piece(chunk, rank * capacity, mask))
        count += mask.size
    return Task(place, slots, np.concatenate(positions), tuple(pieces))


def _batches(chunks: list[Chunk], todo: dict[Chunk, np.ndarray], points: int) -> Iterator[Batch]:
    """Chunks whose points to do are about so many together."""
    batch: Batch = []
    for chunk in chunks:
        if batch and sum(int(mask.sum()) for _, mask in batch) + int(todo[chunk].sum()) > points:
            yield batch
            batch = []
        batch.append((chunk, todo[chunk]))
    if batch:
        yield batch


def _packed(layout: Layout, place: Chunk, batch: Batch) -> Task:
    """Points to do of several chunks, one after another."""
    positions, pieces, count = [], [], 0
    for chunk, mask in batch:
        positions.append(layouts.positions(layout, chunk)[mask.ravel()])
        pieces.append(Piece(chunk, count, mask))
        count += int(mask.sum())
    return Task(place, np.arange(count), np.concatenate(positions), tuple(pieces))
