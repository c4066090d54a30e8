"""Operations that only move entries: transposes, reshapes, slices, padding, concatenation, broadcasting, gathers."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite import views
from jaxtheory.infinite.determined import Det, known, reshaped
from jaxtheory.infinite.determined import groups as shape_groups
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.flattening import flattened
from jaxtheory.infinite.gathers import gather
from jaxtheory.infinite.layout import Factor, Layout, Rand, Value, merged, placed, reshape, restricted
from jaxtheory.infinite.nodes import AxisMap, Graph, Joined, Node
from jaxtheory.infinite.reductions import move
from jaxtheory.infinite.views import Param


def _transpose(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    order, value = equation.params["permutation"], values[0]
    if isinstance(value, Param):
        scale = _rescaled(value.scale, lambda d: _det_transposed(d, order))
        return [value._replace(axes=tuple(value.axes[i] for i in order), scale=scale)]
    assert isinstance(value, Rand)
    return [Rand(value.pieces, tuple(value.axes[i] for i in order), value.channels)]


def _rescaled(scale: Any, change: Callable[[Det], Det]) -> Any:
    return scale if scale is None or not scale.shape else change(scale)


def _det_transposed(det: Det, order: Any) -> Det:
    shape, flags = tuple(det.shape[i] for i in order), tuple(det.uniform[i] for i in order)
    return n_derived(det, shape, flags, lambda v: jnp.transpose(v[0], order))


def n_derived(det: Det, shape: Any, flags: Any, make: Any) -> Det:
    """A deterministic array made of another."""
    from jaxtheory.infinite.determined import derived

    return derived((det,), shape, flags, make)


def _reshape(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    value, shape = values[0], equation.outvars[0].aval.shape
    if isinstance(value, Rand):
        return [_repeated(where, reshape(where, value, shape))]
    assert isinstance(value, Param)
    axes: list[views.Parts] = [()] * len(shape)
    for old, new in shape_groups(value.shape, shape):
        pieces = views.split(views.joined(tuple(value.axes[i] for i in old)), tuple(shape[i] for i in new))
        if pieces is None:
            refuse(where, "a parameter does not divide like its new shape", "reshape in steps that divide")
        for i, piece in zip(new, pieces, strict=True):
            axes[i] = piece
    return [value._replace(axes=tuple(axes), scale=_rescaled(value.scale, lambda d: reshaped(d, shape)))]


def _repeated(where: Site, rand: Rand) -> Rand:
    """Places that were broadcast and merged, as by `jnp.repeat` and `jnp.tile`, as one longer axis of places."""
    for d, factors in enumerate(rand.axes):
        if sorted(f.kind for f in factors) == ["b", "i"]:
            f, each = next(f for f in factors if f.kind == "i"), factors[0].kind == "i"
            size = math.prod(g.size for g in factors)
            how = AxisMap(("repeat", each), partial(_copied, times=size // f.size, each=each), size, True)
            pieces = tuple((move(where, node, f.place, how), count) for node, count in rand.pieces)
            rand = Rand(pieces, (*rand.axes[:d], (f._replace(size=size),), *rand.axes[d + 1 :]), rand.channels)
    return rand


def _copied(array: Any, axis: int, _: Any, *, times: int, each: bool) -> Any:
    return jnp.repeat(array, times, axis) if each else jnp.concatenate([array] * times, axis)


def _broadcast(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    value, p = values[0], equation.params
    shape, places = p["shape"], p["broadcast_dimensions"]
    if isinstance(value, Param):
        parts: list[views.Parts] = [((m, 0),) if m > 1 else () for m in shape]
        for axis, place in enumerate(places):
            if value.axes[axis]:
                parts[place] = value.axes[axis]
        if value.scale is not None and value.scale.shape:
            refuse(where, "it broadcasts a parameter that was scaled entry by entry", "broadcast before scaling")
        return [value._replace(axes=tuple(parts))]
    assert isinstance(value, Rand)
    axes: list[tuple[Factor, ...]] = [(Factor("b", 0, m),) if m > 1 else () for m in shape]
    for axis, place in enumerate(places):
        if value.axes[axis]:
            axes[place] = value.axes[axis]
    return [Rand(value.pieces, tuple(axes), value.channels)]


def _slice(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    p, value = equation.params, values[0]
    strides = p["strides"] or (1,) * len(p["start_indices"])
    limits = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    cuts = [(int(a), int(-(-(b - a) // s)), int(s)) for a, b, s in limits]  # programs may hold NumPy's integers
    return [sliced(graph, where, value, cuts)]


def sliced(graph: Graph, where: Site, value: Value, cuts: list[tuple[int, int, int]]) -> Value:
    """(start, size, step) along every axis."""
    for axis, cut in enumerate(cuts):
        if cut != (0, value.shape[axis], 1):
            value = (
                _param_cut(where, value, axis, cut)
                if isinstance(value, Param)
                else _cut(graph, where, value, axis, cut)
            )
    return value


def _param_cut(where: Site, value: Param, axis: int, cut: tuple[int, int, int]) -> Param:
    found = views.cut(value.axes[axis], *cut)
    if found is None or (value.scale is not None and value.scale.shape):
        refuse(where, "it slices a parameter across its axes", "slice along one axis")
    axes = (*value.axes[:axis], found[1], *value.axes[axis + 1 :])
    return value._replace(offset=value.offset + found[0], axes=axes)


def _cut(graph: Graph, where: Site, value: Any, axis: int, cut: tuple[int, int, int]) -> Rand:
    factors, (start, size, step) = value.axes[axis], cut
    assert isinstance(value, Rand)
    if len(factors) > 1 and (step != 1 or start % _inner(factors) or size % _inner(factors)):
        value = flattened(where, value, axis)
        factors = value.axes[axis]
    if len(factors) > 1:
        inner = _inner(factors)
        if step != 1 or start % inner or size % inner:
            refuse(where, "it slices a merged axis across its parts", "slice before reshaping")
        start, size = start // inner, size // inner
    f = factors[0]
    axes = list(value.axes)
    axes[axis] = (*((f._replace(size=size),) if size > 1 else ()), *factors[1:])
    if f.kind == "b":
        return Rand(value.pieces, tuple(axes), value.channels)
    if f.kind == "i":
        how = AxisMap(("slice", start, size, step), partial(_picked, cut=(start, size, step)), size, True)
        return Rand(
            tuple((move(where, node, f.place, how), c) for node, c in value.pieces), tuple(axes), value.channels
        )
    if len(value.pieces) > 1:
        return _cut_pieces(graph, where, value, axis, (start, size, step))
    node, count = value.pieces[0]
    part = restricted(graph, where, node, value.channels, f.place, (start, size, step))
    channels = (*value.channels[: f.place], size, *value.channels[f.place + 1 :])
    return _without(Rand(((part, count // f.size * size),), tuple(axes), channels), f.place if size == 1 else None)


def _inner(factors: tuple[Factor, ...]) -> int:
    """Entries of an axis for each of its first part."""
    return math.prod(f.size for f in factors[1:])


def _without(rand: Rand, place: int | None) -> Rand:
    """Without a channel factor of size one."""
    if place is None:
        return rand
    down = lambda f: f._replace(place=f.place - 1) if f.kind == "c" and f.place > place else f  # noqa: E731
    axes = tuple(tuple(down(f) for f in factors) for factors in rand.axes)
    return merged(Rand(rand.pieces, axes, (*rand.channels[:place], *rand.channels[place + 1 :])))


def _cut_pieces(graph: Graph, where: Site, value: Rand, axis: int, cut: tuple[int, int, int]) -> Rand:
    start, size, step = cut
    if step != 1:
        refuse(where, "it takes every so many of concatenated channels", "slice before concatenating")
    pieces, at = [], 0
    for node, count in value.pieces:
        a, b = max(start, at), min(start + size, at + count)
        if a < b:
            whole = b - a == count
            pieces.append((node if whole else restricted(graph, where, node, (count,), 0, (a - at, b - a, 1)), b - a))
        at += count
    axes = (*value.axes[:axis], (Factor("c", 0, size),) if size > 1 else (), *value.axes[axis + 1 :])
    return Rand(tuple(pieces), axes, (size,))


def _picked(array: Any, axis: int, _: Any, *, cut: tuple[int, int, int]) -> Any:
    start, size, step = cut
    return jax.lax.slice_in_dim(array, start, start + (size - 1) * step + 1, step, axis)


def _rev(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    return [_placewise(where, values[0], equation.params["dimensions"], _flip)]


def _flip(size: int) -> AxisMap:
    return AxisMap("flip", lambda array, axis, _: jnp.flip(array, axis), size, True)


def _cumsum(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    reverse = equation.params["reverse"]
    return [_placewise(where, values[0], (equation.params["axis"],), lambda size: _running(size, reverse))]


def _running(size: int, reverse: bool) -> AxisMap:
    return AxisMap(("cumsum", reverse), lambda array, axis, _: jax.lax.cumsum(array, axis, reverse), size, False)


def _placewise(where: Site, value: Value, dims: Any, how: Callable[[int], AxisMap]) -> Rand:
    if not isinstance(value, Rand) or any([f.kind for f in value.axes[d]] not in (["i"], []) for d in dims):
        refuse(where, "it reorders channels or parameters", "use it on an axis of places")
    pieces = value.pieces
    for d in dims:
        for f in value.axes[d]:
            pieces = tuple((move(where, node, f.place, how(f.size)), count) for node, count in pieces)
    return Rand(pieces, value.axes, value.channels)


def _pad(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    rand, fill = values
    if not isinstance(rand, Rand) or not isinstance(fill, Det) or fill.value is None:
        refuse(where, "only random values are padded here, and with a known number", "pad the input")
    axes, pieces, inside = list(rand.axes), rand.pieces, np.ones((1,) * len(rand.node.index), np.float32)
    for d, config in enumerate(equation.params["padding_config"]):
        if tuple(config) == (0, 0, 0):
            continue
        if [f.kind for f in axes[d]] != ["i"]:
            refuse(where, "it pads channels or an axis of size one", "concatenate instead")
        f, size = axes[d][0], equation.outvars[0].aval.shape[d]
        low, high, inner = map(int, config)
        how = AxisMap(("pad", (low, high, inner)), partial(_padded, config=(low, high, inner)), size, True)
        pieces = tuple((move(where, node, f.place, how), count) for node, count in pieces)
        axes[d] = (f._replace(size=size),)
        own = _padded(np.ones(f.size, np.float32), 0, None, config=(low, high, inner))
        inside = inside * np.asarray(own).reshape([-1 if k == f.place else 1 for k in range(inside.ndim)])
    border = known((1 - inside) * np.asarray(fill.value, np.float32))
    pieces = tuple((n.combination(where, node.index, [(None, node), (border, None)]), count) for node, count in pieces)
    return [Rand(pieces, tuple(axes), rand.channels)]


def _padded(array: Any, axis: int, _: Any, *, config: tuple[int, int, int]) -> Any:
    every = [(0, 0, 0)] * array.ndim
    every[axis] = config
    return jax.lax.pad(array, jnp.zeros((), array.dtype), every)


def _concatenate(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    axis = equation.params["dimension"]
    values = [flattened(where, v, axis) if isinstance(v, Rand) else v for v in values if v.shape[axis]]
    rands = [v for v in values if isinstance(v, Rand)]
    if len(values) == 1:
        return values
    if not rands:
        refuse(where, "it concatenates parameters with what is not random", "add or contract them first")
    return [concatenated(graph, where, values, rands, axis)]


def concatenated(graph: Graph, where: Site, values: list[Value], rands: list[Rand], axis: int) -> Rand:
    """Along channels: more pieces. Along places: nodes side by side."""
    kinds = {f.kind for r in rands for f in r.axes[axis]}
    sample = max(rands, key=lambda r: len(r.axes[axis]))
    if kinds == {"c"} and all(len(r.channels) == 1 for r in rands):
        parts = [_as_pieces(graph, where, v, sample, axis) for v in values]
        pieces = tuple(piece for part in parts for piece in part)
        total = sum(count for _, count in pieces)
        axes = (*sample.axes[:axis], (Factor("c", 0, total),), *sample.axes[axis + 1 :])
        return Rand(pieces, axes, (total,))
    if kinds == {"i"} and len(sample.axes[axis]) == 1 and all(len(r.pieces) == 1 for r in rands):
        f = sample.axes[axis][0]
        children = tuple(_as_node(graph, where, v, sample, axis) for v in values)
        total = sum(v.shape[axis] for v in values)
        axes = (*sample.axes[:axis], (f._replace(size=total),), *sample.axes[axis + 1 :])
        return Rand(((beside(where, children, f.place), sample.pieces[0][1]),), axes, sample.channels)
    if kinds == {"c"}:
        hint = "return the parts as a tuple, or give each a weight of its own and add them"
        refuse(where, "it concatenates channels of several axes, or a single one with others", hint)
    refuse(where, "it concatenates along a merged axis, or an axis that no operand has", "concatenate before reshaping")


def beside(where: Site, children: tuple[Node, ...], axis: int) -> Node:
    """Nodes one after another along an index axis."""
    index = list(n.joint_index(children))
    index[axis] = sum(c.index[axis] for c in children)
    leaves = 0
    for child in children:
        leaves |= child.leaves
    centred, zero = all(c.centred for c in children), all(c.zero for c in children)
    gaussian = centred and all(c.gaussian or c.zero for c in children)
    return Joined(where, tuple(index), leaves, centred, gaussian, zero, children=children, axis=axis)


def _as_pieces(graph: Graph, where: Site, value: Value, sample: Rand, axis: int) -> tuple[tuple[Node, int], ...]:
    rank = len(sample.node.index)
    if isinstance(value, Rand):
        same = [f for d, f in enumerate(value.axes) if d != axis] == [f for d, f in enumerate(sample.axes) if d != axis]
        if not same or len(value.node.index) != rank:
            refuse(
                where,
                "its operands have axes of different origin in one place",
                "bring their axes into one order first",
            )
        return value.pieces
    size = value.shape[axis]
    axes = (*sample.axes[:axis], (Factor("c", 0, size),), *sample.axes[axis + 1 :])
    node = placed(graph, where, value, Layout(axes, (size,), rank), (0, size))
    return ((_random(where, node, rank), size),)


def _as_node(graph: Graph, where: Site, value: Value, sample: Rand, axis: int) -> Node:
    rank, f = len(sample.node.index), sample.axes[axis][0]
    if isinstance(value, Rand):
        ok = not value.axes[axis] or value.axes[axis][0].place == f.place
        if not ok or value.node.index[f.place] != value.shape[axis] or value.channels != sample.channels:
            refuse(
                where,
                "its operands have axes of different origin in one place",
                "bring their axes into one order first",
            )
        return value.node
    axes = (*sample.axes[:axis], (f._replace(size=value.shape[axis]),), *sample.axes[axis + 1 :])
    node = placed(graph, where, value, Layout(axes, sample.channels, rank), (0, math.prod(sample.channels)))
    node = _random(where, node, rank)
    if node.index[f.place] != value.shape[axis]:
        index = (*node.index[: f.place], value.shape[axis], *node.index[f.place + 1 :])
        node = n.Sum(where, index, node.leaves, node.centred, node.gaussian, node.zero, terms=((None, node),))
    return node


def _random(where: Site, value: Node | Det, rank: int) -> Node:
    if isinstance(value, Node):
        return value
    return n.combination(where, value.shape[:rank], [(value, None)])


def _split(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    axis, sizes, value = equation.params["axis"], equation.params["sizes"], values[0]
    starts = np.cumsum((0, *sizes))[:-1]
    whole = [(0, m, 1) for m in value.shape]
    return [
        sliced(graph, where, value, [*whole[:axis], (int(a), int(m), 1), *whole[axis + 1 :]])
        for a, m in zip(starts, sizes, strict=True)
    ]


def _dynamic_slice(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    starts = values[1:]
    if any(not isinstance(s, Det) or s.value is None for s in starts):
        refuse(where, "where it slices depends on the example", "slice at static positions")
    sizes, value = equation.params["slice_sizes"], values[0]
    at = [int(np.asarray(s.value).reshape(())) for s in starts]  # type: ignore[union-attr]
    cuts = [(min(max(a, 0), m - k), k, 1) for a, k, m in zip(at, sizes, value.shape, strict=True)]
    return [sliced(graph, where, value, cuts)]


RULES: dict[str, Callable[..., list[Value]]] = {
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
    "concatenate": _concatenate,
    "gather": gather,
}
