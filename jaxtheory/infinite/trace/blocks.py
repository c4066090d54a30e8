"""Concatenated parameters, as the weights of the gates of an LSTM: operations on them go block by block.

The product of an input with concatenated weights is the concatenation of its products, and so on.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import Blocks, Graph, Param, Value, groups
from jaxtheory.infinite.graph.nodes import Shape
from jaxtheory.infinite.trace.arithmetic import ELEMENTWISE
from jaxtheory.infinite.trace.rules import Rewriting, dot_dimensions
from jaxtheory.programs.calls import Equation

Program = Callable[..., jax.Array]
Each = Callable[[int], Iterator[jax.Array]]


def blocks(where: Site, params: list[Param], axis: int) -> Blocks:
    """Parameters one after another along an axis."""
    if any(p.scale.shape for p in params):
        refuse(where, "it concatenates parameters that were scaled entry by entry", "concatenate before scaling")
    return Blocks(tuple(params), axis)


def by_blocks(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value] | Rewriting:
    """An operation on concatenated parameters as the concatenation of those on each."""
    name, place = equation.primitive.name, next(i for i, v in enumerate(values) if isinstance(v, Blocks))
    given = values[place]
    assert isinstance(given, Blocks)
    if name == "dot_general":
        program = _dot(where, equation, given, place)
    elif name in ELEMENTWISE:
        program = _elementwise(equation, given, place, values)
    elif name in _MOVES:
        program = _MOVES[name](where, equation, given)
    else:
        refuse(where, "it is given concatenated parameters", "use the parameters one by one")
    others, count = [v for i, v in enumerate(values) if i != place], len(given.parts)
    avals = [v.aval for i, v in enumerate(equation.invars) if i != place]
    dtype = equation.invars[place].aval.dtype
    parts = [jax.ShapeDtypeStruct(p.shape, dtype) for p in given.parts]

    def whole(*arrays: jax.Array) -> jax.Array:
        return program(list(arrays[count:]), list(arrays[:count]))

    return Rewriting(jax.make_jaxpr(whole)(*parts, *avals), [*given.parts, *others])


def _edges(given: Blocks) -> list[tuple[int, int]]:
    """Where each block starts and ends."""
    sizes = [p.shape[given.axis] for p in given.parts]
    return list(pairwise(np.cumsum([0, *sizes]).tolist()))


def _elementwise(equation: Equation, given: Blocks, place: int, values: list[Value]) -> Program:
    edges = _edges(given)

    def program(others: list[jax.Array], parts: list[jax.Array]) -> jax.Array:
        found = []
        for part, (start, stop) in zip(parts, edges, strict=True):
            own = [x if x.ndim == 0 else lax.slice_in_dim(x, start, stop, axis=given.axis) for x in others]
            found.append(equation.primitive.bind(*own[:place], part, *own[place:], **equation.params))
        return lax.concatenate(found, given.axis)

    return program


def _dot(where: Site, equation: Equation, given: Blocks, place: int) -> Program:
    """Blocks of a free axis are concatenated, those of a contracted one added."""
    dims = dot_dimensions(equation)
    own, other = dims[place], dims[1 - place]
    if given.axis in own.batch:
        refuse(where, "it multiplies parameters that are concatenated along a batch axis", "multiply them one by one")

    def product(a: jax.Array, part: jax.Array) -> jax.Array:
        both = (part, a) if place == 0 else (a, part)
        return jnp.asarray(equation.primitive.bind(*both, **equation.params))

    if given.axis in own.contracted:
        along = other.contracted[own.contracted.index(given.axis)]
        edges = _edges(given)

        def added(others: list[jax.Array], parts: list[jax.Array]) -> jax.Array:
            cuts = [lax.slice_in_dim(others[0], start, stop, axis=along) for start, stop in edges]
            terms = [product(cut, part) for cut, part in zip(cuts, parts, strict=True)]
            return sum(terms[1:], terms[0])

        return added
    rank = len(equation.invars[1 - place].aval.shape)
    before = len(own.batch) + (0 if place == 0 else len(other.free(rank)))
    out = before + own.free(len(given.shape)).index(given.axis)
    return lambda others, parts: lax.concatenate([product(others[0], part) for part in parts], out)


def _reshape(where: Site, equation: Equation, given: Blocks) -> Program:
    shape = equation.outvars[0].aval.shape
    new = next(new for old, new in groups(given.shape, shape) if given.axis in old)
    axis = next((d for d in new if shape[d] == given.shape[given.axis]), None)
    if axis is None or any(shape[d] > 1 for d in new if d != axis):
        refuse(where, "it splits or merges the axis along which parameters are concatenated", "concatenate after it")
    return _each(axis, lambda part, size: lax.reshape(part, _with(shape, axis, size)), given)


def _broadcast(where: Site, equation: Equation, given: Blocks) -> Program:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    axis = places[given.axis]
    return _each(axis, lambda part, size: lax.broadcast_in_dim(part, _with(shape, axis, size), places), given)


def _transpose(where: Site, equation: Equation, given: Blocks) -> Program:
    order = equation.params["permutation"]
    return _each(order.index(given.axis), lambda part, _: lax.transpose(part, order), given)


def _each(axis: int, change: Callable[[jax.Array, int], jax.Array], given: Blocks) -> Program:
    sizes = [p.shape[given.axis] for p in given.parts]
    return lambda _, parts: lax.concatenate([change(p, m) for p, m in zip(parts, sizes, strict=True)], axis)


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _slice(where: Site, equation: Equation, given: Blocks) -> Program:
    p = equation.params
    starts, limits, strides = p["start_indices"], p["limit_indices"], p["strides"] or (1,) * len(p["start_indices"])
    if strides[given.axis] != 1:
        refuse(where, "it takes every so many of concatenated parameters", "slice before concatenating")

    def program(_: list[jax.Array], parts: list[jax.Array]) -> jax.Array:
        found = []
        for part, (start, stop) in zip(parts, _edges(given), strict=True):
            low, high = max(starts[given.axis], start), min(limits[given.axis], stop)
            if low < high:
                first, last = _with(starts, given.axis, low - start), _with(limits, given.axis, high - start)
                found.append(lax.slice(part, first, last, strides))
        return lax.concatenate(found, given.axis)

    return program


_MOVES: dict[str, Callable[[Site, Equation, Blocks], Program]] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "slice": _slice,
}
