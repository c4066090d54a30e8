"""Rules of what moves entries: shapes, slices, edges, and arrays put side by side."""

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from jaxtheory.programs.calls import Atom, Equation
from jaxtheory.programs.mixing.facts import (
    LARGEST,
    MIXED,
    Axis,
    Fact,
    aligned,
    blamed,
    collapse,
    expand,
    fold,
    join,
    mix,
    numbers,
    reshaped,
    shared,
    spread,
    text_token,
)


def shape_of(atom: Atom) -> tuple[int, ...]:
    """The shape of a variable; empty for tokens of effects."""
    return tuple(getattr(atom.aval, "shape", ()))


def broadcast_in_dim(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """New axes repeat what is there."""
    shape, dims = shape_of(equation.outvars[0]), equation.params["broadcast_dimensions"]
    found = spread(facts[0], shape, dims)
    if facts[0].known is None or np.prod(shape) > LARGEST:
        return [found]
    inner = [1] * len(shape)
    for axis, dim in enumerate(dims):
        inner[dim] = facts[0].shape[axis]
    known = facts[0].known.reshape(inner)
    data = np.broadcast_to(known.data, shape)
    return [found._replace(known=np.ma.MaskedArray(data, np.broadcast_to(np.ma.getmaskarray(known), shape)))]


def reshape(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Also squeeze and expand_dims."""
    fact = facts[0]
    if equation.params.get("dimensions") is not None and equation.primitive.name == "reshape":
        fact = transposed(fact, equation.params["dimensions"])
    return [reshaped(fact, shape_of(equation.outvars[0]))]


def transpose(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Axes in another order."""
    return [transposed(facts[0], equation.params["permutation"])]


def transposed(fact: Fact, order: Sequence[Axis]) -> Fact:
    """NumPy's transpose."""
    known = None if fact.known is None else fact.known.transpose(order)
    shape, uniform = tuple(fact.shape[axis] for axis in order), tuple(fact.uniform[axis] for axis in order)
    return Fact(shape, fact.owner.transpose(order), fact.token.transpose(order), uniform, known, fact.blame)


def slices(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """A part of each axis."""
    params, fact = equation.params, facts[0]
    steps = params["strides"] or (1,) * len(fact.shape)
    limits = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    return [sliced(fact, tuple(slice(*limit) for limit in limits))]


def sliced(fact: Fact, parts: tuple[slice, ...]) -> Fact:
    """NumPy's basic indexing by slices."""
    grid = tuple(part if fact.explicit(axis) else slice(None) for axis, part in enumerate(parts))
    shape = tuple(len(range(*part.indices(extent))) for part, extent in zip(parts, fact.shape, strict=True))
    # which part it is, where places are not told apart
    free = [axis for axis in range(len(shape)) if not fact.explicit(axis) and not fact.uniform[axis]]
    where = [np.uint64(abs(parts[axis].indices(fact.shape[axis])[0])) for axis in free if shape[axis]]
    uniform = tuple(flag or extent <= 1 for flag, extent in zip(fact.uniform, shape, strict=True))
    known = None if fact.known is None else fact.known[parts]
    return Fact(shape, fact.owner[grid], mix(fact.token[grid], *where), uniform, known, fact.blame)


def split(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Consecutive parts of one axis."""
    ends = np.cumsum([0, *equation.params["sizes"]])
    parts: list[list[slice]] = [[slice(None)] * len(facts[0].shape) for _ in ends[1:]]
    for part, (start, stop) in zip(parts, itertools.pairwise(ends), strict=True):
        part[equation.params["axis"]] = slice(int(start), int(stop))
    return [sliced(facts[0], tuple(part)) for part in parts]


def rev(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Axes backwards."""
    dims, fact = equation.params["dimensions"], facts[0]
    known = None if fact.known is None else np.flip(fact.known, dims)
    return [fact._replace(owner=np.flip(fact.owner, dims), token=np.flip(fact.token, dims), known=known)]


def pad(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Edges, and gaps between entries, of one number."""
    fact, value = facts
    shape, config = shape_of(equation.outvars[0]), equation.params["padding_config"]
    filled = spread(value, shape, ())
    explicit = [axis for axis, edges in enumerate(config) if fact.explicit(axis) and tuple(edges) != (0, 0, 0)]
    touched = [tuple(edges) != (0, 0, 0) for edges in config]
    uniform = tuple(flag and not changed for flag, changed in zip(fact.uniform, touched, strict=True))
    if not explicit:
        found = join("pad", [Fact(shape, fact.owner, fact.token, uniform, None, fact.blame), filled])
        return [found]
    filled = functools.reduce(expand, explicit, filled)
    sizes = [shape[axis] if axis in explicit else extent for axis, extent in enumerate(fact.owner.shape)]
    owner, token = (np.broadcast_to(part, sizes).copy() for part in (filled.owner, filled.token))
    target, source = [slice(None)] * len(shape), [slice(None)] * len(shape)
    for axis in explicit:
        low, _, gap = config[axis]
        places = low + np.arange(fact.shape[axis]) * (gap + 1)
        inside = np.flatnonzero((places >= 0) & (places < shape[axis]))
        if inside.size:
            target[axis] = slice(int(places[inside[0]]), int(places[inside[-1]]) + 1, gap + 1)
        source[axis] = slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)
        target[axis] = target[axis] if inside.size else slice(0, 0)
    owner[tuple(target)], token[tuple(target)] = fact.owner[tuple(source)], fact.token[tuple(source)]
    return [Fact(shape, owner, token, uniform, None, blamed(facts))]


def concatenate(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """One after another; told apart along the axis where owners differ, or where it is short, as vectors of indices."""
    return [joined(equation.params["dimension"], facts)]


def joined(axis: Axis, facts: list[Fact]) -> Fact:
    """As `jnp.concatenate`."""
    extent = sum(fact.shape[axis] for fact in facts)
    shape = tuple(extent if dim == axis else n for dim, n in enumerate(facts[0].shape))
    facts = [fact for fact in facts if fact.shape[axis]]
    rest = aligned(_without(fact, axis) for fact in facts)
    clash = (fold(np.stack([fact.owner for fact in rest]), 0) == MIXED).any()
    known = [fact.known for fact in facts if fact.known is not None]
    told = shape[axis] <= 8 or clash or any(fact.explicit(axis) for fact in facts)
    if told:
        facts = aligned(expand(fact, axis) for fact in facts) if shape[axis] > 1 else facts
        facts = [functools.reduce(expand, sorted(rest[0].axes), fact) for fact in facts]
        owner, token = (np.concatenate(parts, axis) for parts in zip(*((f.owner, f.token) for f in facts), strict=True))
        uniform = tuple(all(flags) for flags in zip(*(fact.uniform for fact in facts), strict=True))
        found = Fact(shape, owner, token, uniform, None, blamed(facts))
    else:
        found = join("concatenate", rest)
        uniform = tuple(flag and dim != axis for dim, flag in enumerate(found.uniform))
        found = found._replace(shape=shape, uniform=uniform)
    if known and np.prod(shape) <= LARGEST:
        blank = [np.ma.masked_all(f.shape, np.int64) if f.known is None else f.known for f in facts]
        found = found._replace(known=np.ma.concatenate(blank, axis))
    return found


def _without(fact: Fact, axis: Axis) -> Fact:
    """Nothing told apart along an axis, of extent 1."""
    shape = tuple(1 if dim == axis else extent for dim, extent in enumerate(fact.shape))
    return collapse(fact, [axis])._replace(shape=shape)


def stack(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Arrays of one shape along a new axis."""
    axis = equation.params["axis"]
    shape = tuple(int(n) for n in np.insert(facts[0].shape, axis, 1))
    return [joined(axis, [reshaped(fact, shape) for fact in facts])]


def unstack(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """The slices along an axis."""
    axis, fact = equation.params["axis"], facts[0]
    parts = [[slice(None)] * len(fact.shape) for _ in range(fact.shape[axis])]
    for i, part in enumerate(parts):
        part[axis] = slice(i, i + 1)
    shape = shape_of(equation.outvars[0])
    return [reshaped(sliced(fact, tuple(part)), shape) for part in parts]


def tile(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Each axis repeated as a whole."""
    fact, reps = facts[0], tuple(equation.params["reps"])
    pairs = [(n, extent) for n, extent in zip(reps, fact.shape, strict=True)]
    repeated = spread(fact, [n for pair in pairs for n in pair], range(1, 2 * len(pairs), 2))
    return [reshaped(repeated, shape_of(equation.outvars[0]))]


def iota(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Numbers 0, 1, … along one axis."""
    shape, axis = shape_of(equation.outvars[0]), equation.params["dimension"]
    if np.prod(shape) > LARGEST:
        uniform = tuple(extent <= 1 or dim != axis for dim, extent in enumerate(shape))
        return [shared(shape, text_token("iota"))._replace(uniform=uniform)]
    values = np.arange(shape[axis]).reshape([-1 if dim == axis else 1 for dim in range(len(shape))])
    found = numbers(np.broadcast_to(values, shape).astype(equation.params["dtype"]))
    return [found._replace(uniform=tuple(extent <= 1 or dim != axis for dim, extent in enumerate(shape)))]


def blank(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Numbers that nobody reads."""
    return [shared(shape_of(equation.outvars[0]), text_token("empty"), uniform=True)]


SHAPES: dict[str, Callable[[Equation, list[Fact]], list[Fact]]] = {
    "broadcast_in_dim": broadcast_in_dim,
    **dict.fromkeys(("reshape", "squeeze"), reshape),
    "transpose": transpose,
    "slice": slices,
    "split": split,
    "rev": rev,
    "pad": pad,
    "concatenate": concatenate,
    "stack": stack,
    "unstack": unstack,
    "tile": tile,
    "iota": iota,
    **dict.fromkeys(("empty", "empty2"), blank),
}
