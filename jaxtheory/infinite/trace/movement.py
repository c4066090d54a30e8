"""Operations that only move entries: transposes, reshapes, slices, padding, broadcasting, gathers."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ONE,
    ChannelArray,
    Cut,
    Factor,
    Factors,
    Graph,
    Param,
    Value,
    combination,
    deterministic,
    flatten_axis,
    groups,
    known,
    linear_map,
    merge_channels,
    regroup,
    views,
)
from jaxtheory.infinite.graph.nodes import AxisMap, Deterministic
from jaxtheory.infinite.graph.views import Parts
from jaxtheory.infinite.trace.gathers import REORDERED, gather
from jaxtheory.infinite.trace.restriction import restrict
from jaxtheory.infinite.trace.rules import Rule, random_array
from jaxtheory.programs.calls import Equation


def _transpose(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    order, value = equation.params["permutation"], values[0]
    if isinstance(value, Param):
        scale = _move_scale(value, lambda d: deterministic.transpose(d, order))
        return [value._replace(axes=tuple(value.axes[i] for i in order), scale=scale)]
    value = _array(where, value)
    return [value._replace(axes=tuple(value.axes[i] for i in order))]


def _array(where: Site, value: Value) -> ChannelArray:
    return random_array(where, value, "it moves the entries of a parameter", "move those of activations instead")


def _move_scale(param: Param, change: Callable[[Deterministic], Deterministic]) -> Deterministic:
    """The factor of a parameter whose entries move; a single number stays."""
    return change(param.scale) if param.scale.shape else param.scale


def _reshape(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    value, shape = values[0], equation.outvars[0].aval.shape
    if isinstance(value, ChannelArray):
        return [_repeat(where, regroup(where, value, shape))]
    if isinstance(value, Deterministic):
        return [deterministic.reshape(value, shape)]
    assert isinstance(value, Param)
    axes: list[Parts] = [()] * len(shape)
    for old, new in groups(value.shape, shape):
        pieces = views.split(views.merge(tuple(value.axes[i] for i in old)), tuple(shape[i] for i in new))
        if pieces is None:
            refuse(where, "a parameter does not divide like its new shape", "reshape in steps that divide")
        for i, piece in zip(new, pieces, strict=True):
            axes[i] = piece
    return [value._replace(axes=tuple(axes), scale=_move_scale(value, lambda d: deterministic.reshape(d, shape)))]


def _repeat(where: Site, rand: ChannelArray) -> ChannelArray:
    """Places that were broadcast and merged, as by `jnp.repeat` and `jnp.tile`, as one longer axis of places."""
    for d, factors in enumerate(rand.axes):
        if sorted(f.kind for f in factors) == ["b", "i"]:
            f, each = next(f for f in factors if f.kind == "i"), factors[0].kind == "i"
            size = math.prod(g.size for g in factors)
            how = AxisMap(("repeat", each), partial(_repeat_places, times=size // f.size, each=each), size, True)
            pieces = tuple((linear_map(where, node, f.place, how), count) for node, count in rand.pieces)
            rand = ChannelArray(pieces, (*rand.axes[:d], (f._replace(size=size),), *rand.axes[d + 1 :]), rand.channels)
    return rand


def _repeat_places(array: Numbers, axis: int, _: Numbers | None, *, times: int, each: bool) -> jax.Array:
    return jnp.repeat(jnp.asarray(array), times, axis) if each else jnp.concatenate([array] * times, axis)


def _broadcast(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    value, p = values[0], equation.params
    shape, places = p["shape"], p["broadcast_dimensions"]
    if isinstance(value, Param):
        parts: list[Parts] = [((m, 0),) if m > 1 else () for m in shape]
        for axis, place in enumerate(places):
            if value.axes[axis]:
                parts[place] = value.axes[axis]
        if value.scale.shape:
            refuse(where, "it broadcasts a parameter that was scaled entry by entry", "broadcast before scaling")
        return [value._replace(axes=tuple(parts))]
    value = _array(where, value)
    axes: list[Factors] = [(Factor("b", 0, m),) if m > 1 else () for m in shape]
    for axis, place in enumerate(places):
        if value.axes[axis]:
            axes[place] = value.axes[axis]
    return [ChannelArray(value.pieces, tuple(axes), value.channels)]


def _slice(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    p, value = equation.params, values[0]
    strides = p["strides"] or (1,) * len(p["start_indices"])
    limits = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    cuts = [Cut(int(a), int(-(-(b - a) // s)), int(s)) for a, b, s in limits]  # programs may hold NumPy's integers
    return [slice_axes(graph, where, value, cuts)]


def slice_axes(graph: Graph, where: Site, value: Value, cuts: Sequence[Cut]) -> Value:
    """A slice along every axis."""
    for axis, cut in enumerate(cuts):
        if cut != (0, value.shape[axis], 1):
            if isinstance(value, Param):
                value = _cut_parameter(where, value, axis, cut)
            else:
                value = _cut(graph, where, value, axis, cut)
    return value


def _cut_parameter(where: Site, value: Param, axis: int, cut: Cut) -> Param:
    found = views.cut(value.axes[axis], *cut)
    if found is None or value.scale.shape:
        refuse(where, "it slices a parameter across its axes", "slice along one axis")
    axes = (*value.axes[:axis], found[1], *value.axes[axis + 1 :])
    return value._replace(offset=value.offset + found[0], axes=axes)


def _cut(graph: Graph, where: Site, value: Value, axis: int, cut: Cut) -> ChannelArray:
    array = _array(where, value)
    factors, (start, size, step) = array.axes[axis], cut
    if len(factors) > 1 and (step != 1 or start % _inner(factors) or size % _inner(factors)):
        array = flatten_axis(where, array, axis)
        factors = array.axes[axis]
    if len(factors) > 1:
        inner = _inner(factors)
        if step != 1 or start % inner or size % inner:
            refuse(where, "it slices a merged axis across its parts", "slice before reshaping")
        start, size = start // inner, size // inner
    f, part = factors[0], Cut(start, size, step)
    kept = (*((f._replace(size=size),) if size > 1 else ()), *factors[1:])
    axes = (*array.axes[:axis], kept, *array.axes[axis + 1 :])
    if f.kind == "b":
        return array._replace(axes=axes)
    if f.kind == "i":
        how = AxisMap(("slice", *part), partial(_slice_places, cut=part), size, True)
        pieces = tuple((linear_map(where, node, f.place, how), c) for node, c in array.pieces)
        return array._replace(pieces=pieces, axes=axes)
    if len(array.pieces) > 1:
        return _cut_pieces(graph, where, array, axis, part)
    node, count = array.pieces[0]
    piece = (restrict(graph, where, node, array.channels, f.place, part), count // f.size * size)
    channels = (*array.channels[: f.place], size, *array.channels[f.place + 1 :])
    sliced = ChannelArray((piece,), axes, channels)
    return _without(sliced, f.place) if size == 1 else sliced


def _inner(factors: Factors) -> int:
    """Entries of an axis for each of its first part."""
    return math.prod(f.size for f in factors[1:])


def _without(rand: ChannelArray, place: int) -> ChannelArray:
    """Without a channel factor of size one."""
    down = lambda f: f._replace(place=f.place - 1) if f.kind == "c" and f.place > place else f  # noqa: E731
    axes = tuple(tuple(down(f) for f in factors) for factors in rand.axes)
    return merge_channels(ChannelArray(rand.pieces, axes, (*rand.channels[:place], *rand.channels[place + 1 :])))


def _cut_pieces(graph: Graph, where: Site, value: ChannelArray, axis: int, cut: Cut) -> ChannelArray:
    start, size, step = cut
    if step != 1:
        refuse(where, "it takes every so many of concatenated channels", "slice before concatenating")
    pieces, at = [], 0
    for node, count in value.pieces:
        a, b = max(start, at), min(start + size, at + count)
        if a < b:
            inside = Cut(a - at, b - a, 1)
            part = node if b - a == count else restrict(graph, where, node, (count,), 0, inside)
            pieces.append((part, b - a))
        at += count
    axes = (*value.axes[:axis], (Factor("c", 0, size),) if size > 1 else (), *value.axes[axis + 1 :])
    return ChannelArray(tuple(pieces), axes, (size,))


def _slice_places(array: Numbers, axis: int, _: Numbers | None, *, cut: Cut) -> jax.Array:
    start, size, step = cut
    return jax.lax.slice_in_dim(jnp.asarray(array), start, start + (size - 1) * step + 1, step, axis)


def _rev(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    return [_placewise(where, values[0], equation.params["dimensions"], _reversal)]


def _reversal(size: int) -> AxisMap:
    return AxisMap("flip", lambda array, axis, _: jnp.flip(array, axis), size, True)


def _cumsum(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    reverse = equation.params["reverse"]
    return [_placewise(where, values[0], (equation.params["axis"],), lambda size: _running(size, reverse))]


def _running(size: int, reverse: bool) -> AxisMap:
    return AxisMap(
        ("cumsum", reverse), lambda array, axis, _: jax.lax.cumsum(jnp.asarray(array), axis, reverse), size, False
    )


def _placewise(where: Site, value: Value, dims: Sequence[int], how: Callable[[int], AxisMap]) -> ChannelArray:
    if not isinstance(value, ChannelArray) or any([f.kind for f in value.axes[d]] not in (["i"], []) for d in dims):
        refuse(where, "it reorders channels or parameters", "use it on an axis of places" + REORDERED)
    pieces = value.pieces
    for d in dims:
        for f in value.axes[d]:
            pieces = tuple((linear_map(where, node, f.place, how(f.size)), count) for node, count in pieces)
    return ChannelArray(pieces, value.axes, value.channels)


def _pad(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    rand, fill = values
    if not isinstance(rand, ChannelArray) or not isinstance(fill, Deterministic) or fill.value is None:
        refuse(where, "only random values are padded here, and with a known number", "pad the input")
    axes, pieces, inside = list(rand.axes), rand.pieces, np.ones((1,) * len(rand.node.index), np.float32)
    for d, config in enumerate(equation.params["padding_config"]):
        if tuple(config) == (0, 0, 0):
            continue
        if [f.kind for f in axes[d]] != ["i"]:
            refuse(where, "it pads channels or an axis of size one", "concatenate instead")
        f, size = axes[d][0], equation.outvars[0].aval.shape[d]
        low, high, inner = map(int, config)
        how = AxisMap(("pad", (low, high, inner)), partial(_pad_places, config=(low, high, inner)), size, True)
        pieces = tuple((linear_map(where, node, f.place, how), count) for node, count in pieces)
        axes[d] = (f._replace(size=size),)
        own = _pad_places(np.ones(f.size, np.float32), 0, None, config=(low, high, inner))
        inside = inside * np.asarray(own).reshape([-1 if k == f.place else 1 for k in range(inside.ndim)])
    border = known((1 - inside) * np.asarray(fill.value, np.float32))
    pieces = tuple((combination(where, node.index, [(ONE, node)], [border]), count) for node, count in pieces)
    return [ChannelArray(pieces, tuple(axes), rand.channels)]


def _pad_places(array: Numbers, axis: int, _: Numbers | None, *, config: tuple[int, int, int]) -> jax.Array:
    every = [(0, 0, 0)] * array.ndim
    every[axis] = config
    return jax.lax.pad(jnp.asarray(array), jnp.zeros((), array.dtype), every)


def _split(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    axis, sizes, value = equation.params["axis"], equation.params["sizes"], values[0]
    starts = np.cumsum((0, *sizes))[:-1]
    whole = [Cut(0, m, 1) for m in value.shape]
    return [
        slice_axes(graph, where, value, [*whole[:axis], Cut(int(a), int(m), 1), *whole[axis + 1 :]])
        for a, m in zip(starts, sizes, strict=True)
    ]


def _dynamic_slice(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    value, *starts = values
    at = [int(np.asarray(v.value).reshape(())) for v in starts if isinstance(v, Deterministic) and v.value is not None]
    if len(at) < len(starts):
        refuse(where, "where it slices depends on the example", "slice at static positions")
    sizes = equation.params["slice_sizes"]
    cuts = [Cut(min(max(a, 0), m - k), k, 1) for a, k, m in zip(at, sizes, value.shape, strict=True)]
    return [slice_axes(graph, where, value, cuts)]


RULES: dict[str, Rule] = {
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "split": _split,
    "dynamic_slice": _dynamic_slice,
    "rev": _rev,
    "cumsum": _cumsum,
    "pad": _pad,
    "gather": gather,
}
