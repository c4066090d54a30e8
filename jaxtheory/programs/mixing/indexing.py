"""Rules of gather, scatter and slices at computed places.

An axis of the operand keeps its examples apart where whole slices of it are taken, where it is paired with an axis of
the indices, or where its indices are numbers that are there when the program is read (as `jnp.arange(len(x))` is).
Any other index may take any example.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from jaxtheory.programs.calls import Equation
from jaxtheory.programs.mixing.facts import (
    Axis,
    Fact,
    aligned,
    blamed,
    collapse,
    drop,
    expand,
    fold,
    forget,
    join,
    mix,
    shared,
    spread,
    text_token,
)
from jaxtheory.programs.mixing.rules import Rule
from jaxtheory.programs.mixing.shapes import shape_of

_LONGEST = 4096  # places that are looked at one by one


def _component(indices: Fact, k: int) -> Fact:
    """Entry k of all index vectors, without their last axis."""
    last = len(indices.shape) - 1
    owner, token = indices.owner, indices.token
    if indices.explicit(last):
        owner, token = owner[..., k : k + 1], token[..., k : k + 1]
    known = None
    if indices.known is not None:
        column = indices.known[..., k]
        known = None if np.ma.getmaskarray(column).any() else column
    one = Fact((*indices.shape[:-1], 1), owner, token, (*indices.uniform[:-1], True), None, indices.blame)
    return drop(one, [last])._replace(known=known)


def _vector(components: Sequence[Fact], shape: Sequence[Axis]) -> Fact:
    """One record of several components: what an entry depends on through all of them."""
    return join("index", components) if components else shared(shape, text_token("index"), uniform=True)


def gather(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Slices of the operand at the places that the indices name."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    paired = dict(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True))
    return [
        _gathered(
            facts, shape_of(equation.outvars[0]), sizes, numbers.offset_dims, numbers.collapsed_slice_dims,
            numbers.start_index_map, paired=paired,
        )
    ]  # fmt: skip


def dynamic_slice(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """A gather of one slice."""
    operand, *starts = facts
    rank = len(operand.shape)
    found = _gathered(
        [operand, *starts], shape_of(equation.outvars[0]), equation.params["slice_sizes"], range(rank), (),
        range(rank), paired={}, starts=starts,
    )  # fmt: skip
    return [found]


def _gathered(
    facts: list[Fact], shape: tuple[int, ...], sizes: Sequence[Axis], offset: Sequence[Axis], collapsed: Sequence[Axis],
    indexed: Sequence[Axis], *, paired: dict[Axis, Axis], starts: list[Fact] | None = None,
) -> Fact:  # fmt: skip
    operand = facts[0]
    if starts is None:
        starts = [_component(facts[1], k) for k in range(len(indexed))]
    batch = [axis for axis in range(len(shape)) if axis not in offset]
    windows = [axis for axis in range(len(operand.shape)) if axis not in (*collapsed, *paired)]
    target = dict(zip(windows, offset, strict=True))
    moving = [
        (start, axis)
        for start, axis in zip(starts, indexed, strict=True)
        if operand.shape[axis] != 1 and not (axis in target and sizes[axis] == operand.shape[axis])
    ]
    operand, places, rest = _placed(operand, moving, sizes)
    index: list[np.ndarray] = []
    for axis, extent in enumerate(operand.owner.shape):
        at = np.zeros((1,) * len(shape), int)
        if axis in places:
            along = [n if d in batch else 1 for d, n in enumerate(shape)]
            lead = places[axis].reshape(along) if batch else places[axis]
            at = np.clip(lead, 0, operand.shape[axis] - sizes[axis]) + at
            at = at + _range(sizes[axis], target[axis], len(shape)) if axis in target else at
        elif extent > 1:
            at = _range(extent, target[axis] if axis in target else batch[paired[axis]], len(shape))
        index.append(at.astype(int))
    grid = np.broadcast_shapes(*(at.shape for at in index)) if index else ()
    owner, token = (np.broadcast_to(part[tuple(index)], grid) for part in (operand.owner, operand.token))
    uniform = [True] * len(shape)
    for axis, dim in target.items():
        uniform[dim] = operand.uniform[axis] or shape[dim] <= 1
    for axis, position in paired.items():
        uniform[batch[position]] = operand.uniform[axis]
    taken = Fact(shape, owner, token, tuple(uniform), None, operand.blame)
    vector = _vector(rest, starts[0].shape if starts else tuple(shape[axis] for axis in batch))
    return join("gather", [taken, spread(vector, shape, batch)])


def _placed(
    operand: Fact, moving: list[tuple[Fact, Axis]], sizes: Sequence[Axis]
) -> tuple[Fact, dict[Axis, np.ndarray], list[Fact]]:
    """The operand with axes entry by entry where their starts are known, those starts, and the unknown ones."""
    rest, places = [], {}
    for start, axis in moving:
        if start.known is not None and start.known.size * sizes[axis] <= _LONGEST >= operand.shape[axis]:
            operand, places[axis] = expand(operand, axis), np.asarray(start.known.data)
        else:
            operand = collapse(operand, [axis])
            rest.append(forget(start))
    return operand, places, rest


def _range(extent: int, axis: Axis, rank: int) -> np.ndarray:
    return np.arange(extent).reshape([-1 if dim == axis else 1 for dim in range(rank)])


def scatter(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """The operand, changed at the places that the indices name."""
    operand, indices, updates = facts
    numbers = equation.params["dimension_numbers"]
    paired = dict(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True))
    starts = [_component(indices, k) for k in range(len(numbers.scatter_dims_to_operand_dims))]
    skipped = (*numbers.inserted_window_dims, *paired)
    windows = [axis for axis in range(len(operand.shape)) if axis not in skipped]
    target = dict(zip(windows, numbers.update_window_dims, strict=True))
    return [_scattered(operand, updates, starts, numbers.scatter_dims_to_operand_dims, target, paired)]


def dynamic_update_slice(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """A scatter of one slice."""
    operand, updates, *starts = facts
    axes = range(len(operand.shape))
    return [_scattered(operand, updates, starts, axes, dict(zip(axes, axes, strict=True)), {})]


def _scattered(
    operand: Fact, updates: Fact, starts: list[Fact], indexed: Sequence[Axis], target: dict[Axis, Axis],
    paired: dict[Axis, Axis],
) -> Fact:  # fmt: skip
    batch = [axis for axis in range(len(updates.shape)) if axis not in target.values()]
    rest, places = [], {}
    for start, axis in zip(starts, indexed, strict=True):
        if axis in target and updates.shape[target[axis]] == operand.shape[axis]:
            continue
        if start.known is not None and start.known.size <= _LONGEST >= operand.shape[axis]:
            places[axis] = np.broadcast_to(np.asarray(start.known.data), [updates.shape[d] for d in batch])
        else:
            rest.append((axis, forget(start)))
    vector = _vector([start for _, start in rest], tuple(updates.shape[axis] for axis in batch))
    change = join("scatter", [updates, spread(vector, updates.shape, batch)])
    loose = [axis for axis in batch if axis not in [batch[position] for position in paired.values()]]
    # places matter only where they tell examples apart
    told = any(operand.explicit(axis) for axis in places) or any(change.explicit(axis) for axis in loose)
    if not (told or (change.owner >= 0).any()) or math.prod(change.shape[axis] for axis in loose) > _LONGEST:
        places = {}
    for axis, _ in rest:
        # which entry is changed is not known: any of them, and not all alike
        operand = expand(operand, axis) if operand.explicit(axis) else operand
        places_of = np.arange(operand.token.shape[axis], dtype=np.uint64)
        tokens = mix(operand.token, np.expand_dims(places_of, [d for d in range(operand.token.ndim) if d != axis]))
        operand = operand._replace(token=tokens)
    partly = {axis for axis, _ in rest} | {a for a, d in target.items() if updates.shape[d] != operand.shape[a]}
    uniform = tuple(
        flag and (axis not in partly or operand.shape[axis] <= 1) for axis, flag in enumerate(operand.uniform)
    )
    operand = operand._replace(uniform=uniform, known=None)
    if not places:
        return _everywhere(operand, change, loose, target, paired, batch)
    operand = functools.reduce(expand, places, operand)
    for position in itertools.product(*(range(change.shape[axis]) for axis in loose)):
        operand = _one_place(
            operand, change, dict(zip(loose, position, strict=True)), places, target=target, paired=paired, batch=batch
        )
    return operand


def _everywhere(
    operand: Fact, change: Fact, loose: list[int], target: dict[Axis, Axis], paired: dict[Axis, Axis], batch: list[int]
) -> Fact:
    """Any entry may have been changed by any update of its own slice."""
    narrow = [axis for axis, dim in target.items() if change.shape[dim] != operand.shape[axis]]
    change = collapse(change, [*loose, *(target[axis] for axis in narrow)])
    aimed = _aim(change, operand.shape, loose, {a: d for a, d in target.items() if a not in narrow}, paired, batch)
    found = join("scatter", [operand, aimed])
    kept = [axis for axis in target if axis not in narrow] + list(paired)
    uniform = tuple(
        n <= 1 or (flag and axis in kept) for axis, (n, flag) in enumerate(zip(found.shape, found.uniform, strict=True))
    )
    return found._replace(uniform=uniform)


def _aim(
    change: Fact, shape: tuple[int, ...], loose: list[int], target: dict[Axis, Axis], paired: dict[Axis, Axis],
    batch: list[Axis],
) -> Fact:  # fmt: skip
    """The updates in the operand's axes; those of its own that the operand does not have are gone."""
    place = {dim: axis for axis, dim in target.items()} | {batch[i]: axis for axis, i in paired.items()}
    bare = drop(change, [axis for axis in range(len(change.shape)) if axis not in place])
    return spread(bare, shape, [place[axis] for axis in range(len(change.shape)) if axis in place])


def _one_place(
    operand: Fact, change: Fact, at: dict[int, int], places: dict[Axis, np.ndarray], *, target: dict[Axis, Axis],
    paired: dict[Axis, Axis], batch: list[Axis],
) -> Fact:  # fmt: skip
    """One update written where its indices say."""
    where, window = {}, list(change.shape)
    point = tuple(at.get(axis, 0) for axis in batch)
    for axis, values in places.items():
        size = change.shape[target[axis]] if axis in target else 1
        start = int(values[point])
        if not 0 <= start <= operand.shape[axis] - size:
            return operand
        where[axis] = slice(start, start + size)
    grid = tuple(slice(at[d], at[d] + 1) if d in at and change.explicit(d) else slice(None) for d in range(len(window)))
    window = [1 if axis in at else extent for axis, extent in enumerate(window)]
    one = Fact(tuple(window), change.owner[grid], change.token[grid], change.uniform, None, change.blame)
    shape = tuple(where[a].stop - where[a].start if a in where else n for a, n in enumerate(operand.shape))
    narrow = [axis for axis in target if axis not in places and change.shape[target[axis]] != operand.shape[axis]]
    one = collapse(one, [target[axis] for axis in narrow])
    kept = {axis: dim for axis, dim in target.items() if axis not in narrow}
    aimed = _aim(one, shape, [], kept, paired, batch)
    part = tuple(where.get(axis, slice(None)) for axis in range(len(shape)))
    old = Fact(shape, operand.owner[part], operand.token[part], operand.uniform, None, operand.blame)
    both = aligned([old, functools.reduce(expand, where, aimed)])
    new_axes = [axis for axis in both[0].axes if not operand.explicit(axis) and axis not in where]
    operand = functools.reduce(expand, new_axes, operand)
    owner, token = operand.owner.copy(), operand.token.copy()
    part = tuple(p if operand.explicit(axis) else slice(None) for axis, p in enumerate(part))
    owner[part] = fold(np.stack([fact.owner for fact in both]), 0)[0]
    token[part] = mix(text_token("scatter"), both[0].token, both[1].token)
    return Fact(operand.shape, owner, token, operand.uniform, None, blamed([operand, change]))


INDEXING: dict[str, Rule] = {
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "scatter": scatter,
    **{f"scatter-{how}": scatter for how in ("add", "sub", "mul", "min", "max")},
}
