"""Sums: over channels they become deterministic, over places they stay random."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.demand import Mean, Pair
from jaxtheory.infinite.determined import Det, derived, full, known
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.fluctuations import Noise, Source
from jaxtheory.infinite.layout import Factor, Rand, Value, merged, restricted
from jaxtheory.infinite.nodes import AxisMap, Graph, Moved, Node, Window
from jaxtheory.infinite.scores import Scores
from jaxtheory.infinite.views import Param


def move(where: Site, node: Node, axis: int, how: AxisMap) -> Node:
    """A linear map along one index axis."""
    index = (*node.index[:axis], how.size, *node.index[axis + 1 :])
    return Moved(where, index, node.leaves, node.centred, node.gaussian, node.zero, child=node, axis=axis, map=how)


def _sum(array: Any, axis: int, _: Any) -> Any:
    return jnp.sum(array, axis, keepdims=True)


TOTAL = AxisMap("sum", _sum, 1, False)


def reduce_sum(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    """Sums over any axes."""
    rand = values[0]
    if isinstance(rand, Param):
        refuse(where, "it sums the entries of a parameter", "normalize activations instead of weights")
    assert isinstance(rand, Rand)
    gone = set(equation.params["axes"])
    factors = [f for d in gone for f in rand.axes[d]]
    channels = [f for f in factors if f.kind == "c"]
    if channels and not _copies(where, rand, channels):
        return [average(graph, where, rand, gone)]
    if channels:
        rand = _added_up(graph, where, rand, channels)
        factors = [f for f in factors if f.kind != "c"]
    repeats = math.prod(f.size for f in factors if f.kind == "b")
    pieces = []
    for node, count in rand.pieces:
        for f in factors:
            if f.kind == "i":
                node = move(where, node, f.place, TOTAL)
        node = (
            node
            if repeats == 1
            else n.scaled(where, known(np.full((1,) * len(node.index), float(repeats))), node, node.index)
        )
        pieces.append((node, count))
    kept = tuple(factors for d, factors in enumerate(rand.axes) if d not in gone)
    return [Rand(tuple(pieces), kept, rand.channels)]


def _copies(where: Site, rand: Rand, channels: list[Factor]) -> bool:
    """Whether channel factors are summed that are no width: they are fewer than the channels that are kept."""
    kept = math.prod(rand.channels) // math.prod(f.size for f in channels)
    if len(channels) == len(rand.channels) or kept == 1:
        return False
    few = [f.size < kept for f in channels]
    if not any(few) and max(f.place for f in channels) == len(rand.channels) - 1:
        return False
    if not all(few):
        reason = f"which of its axes of channels grow with the width is not clear ({rand.channels})"
        refuse(where, reason, "make the width larger than the number of heads, groups or members, and the last axis")
    return True


def _added_up(graph: Graph, where: Site, rand: Rand, channels: list[Factor]) -> Rand:
    """A sum over independent copies, as of heads or of the members of an ensemble: it stays random."""
    require_all_heads(where, rand, len(channels))
    for f in sorted(channels, key=lambda f: -f.place):
        node, count = rand.pieces[0]
        parts = [restricted(graph, where, node, rand.channels, f.place, (i, 1, 1)) for i in range(f.size)]
        total = n.combination(where, node.index, [(None, part) for part in parts])
        lower = lambda g, at=f.place: g._replace(place=g.place - 1) if g.kind == "c" and g.place > at else g  # noqa: E731
        axes = tuple(tuple(lower(g) for g in factors if g != f) for factors in rand.axes)
        left = (*rand.channels[: f.place], *rand.channels[f.place + 1 :])
        rand = Rand(((total, count // f.size),), axes, left)
    return merged(rand)


def require_all_heads(where: Site, rand: Rand, contracted: int) -> None:
    """Raise where channels are averaged that depend on drawn scores, but not those of all heads."""
    if any(node.drawn for node, _ in rand.pieces) and contracted < len(rand.channels):
        refuse(where, "it keeps heads apart whose scores are drawn", "contract heads and channels at once")


def average(graph: Graph, where: Site, rand: Rand, gone: set[int]) -> Det:
    """A sum over channels (and places): count · E h, deterministic in the limit."""
    places = [f.place for d in gone for f in rand.axes[d] if f.kind == "c"]
    require_all_heads(where, rand, len(places))
    if len(rand.pieces) > 1 or len(places) == len(rand.channels):
        weights = [float(count) for _, count in rand.pieces]
    else:
        weights = [float(math.prod(rand.channels[p] for p in places))]
    summed = [f.place for d in gone for f in rand.axes[d] if f.kind == "i"]
    repeats = math.prod(f.size for d in gone for f in rand.axes[d] if f.kind == "b")
    index = n.joint_index(tuple(node for node, _ in rand.pieces))
    terms = [(w, node) for w, (node, _) in zip(weights, rand.pieces, strict=True) if not node.centred]
    kept = tuple(factors for d, factors in enumerate(rand.axes) if d not in gone)
    if not terms:
        shape = tuple(math.prod(f.size for f in factors) for factors in kept)
        source = Source(tuple((w, node, None) for w, (node, _) in zip(weights, rand.pieces, strict=True)))
        return replace(known(np.zeros(shape, np.float32)), noise=Noise(((source, 1.0),), False, graph.record))

    def make(values: list[Any]) -> Any:
        total = sum(w * v for (w, _), v in zip(terms, values, strict=True))
        return repeats * full(total, index).sum(tuple(summed), keepdims=True)

    left = tuple(1 if k in summed else m for k, m in enumerate(index))
    return unfolded(tuple(Mean(node) for _, node in terms), make, kept, left)


def unfolded(needs: tuple[Any, ...], make: Callable, axes: Any, index: tuple[int, ...]) -> Det:
    """A deterministic array over index axes, laid out along the axes of a program."""
    flat = [f for factors in axes for f in factors]
    shape = tuple(math.prod(f.size for f in factors) for factors in axes)
    uniform = tuple(all(f.kind != "i" for f in factors) for factors in axes)
    sizes = [f.size if f.kind == "i" or not uniform[a] else 1 for a, fs in enumerate(axes) for f in fs]
    order = [f.place for f in flat if f.kind == "i"]
    short = tuple(1 if u else m for u, m in zip(uniform, shape, strict=True))

    def laid(values: list[Any]) -> Any:
        rest = [k for k in range(len(index)) if k not in order]
        array = full(make(values), index).transpose([*rest, *order])
        narrow = tuple(f.size if f.kind == "i" else 1 for f in flat)
        return jnp.broadcast_to(array.reshape(narrow), sizes).reshape(short)

    flags = tuple(u or m == 1 for u, m in zip(uniform, shape, strict=True))
    return derived(needs, shape, flags, laid)


def inner(graph: Graph, where: Site, left: Rand, right: Rand, dims: Any, other: Any) -> Det:
    """Σ over channels of a product of two random arrays: attention scores, squared norms."""
    (lb, lc), (rb, rc) = dims, other
    channels = _contracted(where, left, right, lc, rc)
    free_left = [d for d in range(len(left.shape)) if d not in (*lb, *lc)]
    free_right = [d for d in range(len(right.shape)) if d not in (*rb, *rc)]
    places_left, places_right = _free_places(where, left, free_left), _free_places(where, right, free_right)
    if {f.place for f in places_left} != {f.place for f in places_right}:
        refuse(where, "the free axes of its operands are not places of one kind", "keep one axis of tokens in each")
    full_axes = [f.place for f in places_left]
    a, b = left.node, right.node
    mask = tuple(k in full_axes for k in range(len(a.index)))
    second = {f.place: len(a.index) + i for i, f in enumerate(places_left)}
    axes = [left.axes[d] for d in lb] + [left.axes[d] for d in free_left]
    axes += [tuple(f._replace(place=second[f.place]) for f in right.axes[d]) for d in free_right]
    sizes = {f.place: f.size for f in places_right}
    index = (*n.joint_index((a, b)), *(sizes[f.place] for f in places_left))
    if graph.independent(a, b) and (a.centred or b.centred):
        return _fluctuating(graph, Scores(a, b, channels, graph.scores + 1), mask, tuple(axes), index)
    return unfolded((Pair(a, b, mask),), lambda values: channels * _apart(values[0], mask), tuple(axes), index)


def _contracted(where: Site, left: Rand, right: Rand, lc: Any, rc: Any) -> float:
    """The number of channels that are contracted, and nothing else."""
    if len(left.pieces) > 1 or len(right.pieces) > 1:
        refuse(where, "it multiplies concatenated channels", "multiply the parts and add")
    if left.node.drawn or right.node.drawn:
        refuse(where, "its operands depend on scores that are drawn", "put a layer of weights between the two products")
    channels = [f for d in lc for f in left.axes[d] if f.kind == "c"]
    if not channels or [left.axes[d] for d in lc] != [right.axes[d] for d in rc]:
        refuse(where, "it multiplies random values channel by channel without a sum over them", "contract channels")
    if _copies(where, left, channels):
        reason = f"it contracts {math.prod(f.size for f in channels)} independent copies of channels that it keeps"
        refuse(where, reason, "multiply and add them; contract an axis longer than the number of heads")
    if any(f.kind == "i" for d in lc for f in left.axes[d]):
        refuse(where, "it contracts channels and places at once", "contract channels first")
    return float(math.prod(f.size for f in channels))


def _free_places(where: Site, rand: Rand, free: list[int]) -> list[Factor]:
    places = [f for d in free for f in rand.axes[d]]
    if any(f.kind != "i" for f in places):
        refuse(where, "the free axes of its operands are not places of one kind", "keep one axis of tokens in each")
    return places


def _fluctuating(graph: Graph, scores: Scores, mask: Any, axes: Any, index: tuple[int, ...]) -> Det:
    """A sum over channels that averages to zero; where scores are drawn and every head has its own, draws of it."""
    heads = tuple(any(f.kind == "c" for f in factors) for factors in axes)
    places = n.joint_index((scores.a, scores.b))
    drawable = any(heads) and all(double or m == 1 for double, m in zip(mask, places, strict=True))
    source = Source(((scores.channels, scores.a, scores.b),))
    shape = tuple(math.prod(f.size for f in factors) for factors in axes)
    zero = replace(known(np.zeros(shape, np.float32)), noise=Noise(((source, 1.0),), drawable, graph.record))
    if not (graph.draws and drawable):
        return zero
    graph.scores += 1
    drawn = unfolded((scores,), lambda values: values[0].reshape(index), axes, index)
    return replace(zero, drawn=replace(drawn, copies=heads))


def _apart(array: Any, mask: tuple[bool, ...]) -> Any:
    """From interleaved pairs of axes to first all left (and common) ones, then the right ones."""
    left, right, at = [], [], 0
    for both in mask:
        left.append(at)
        if both:
            right.append(at + 1)
        at += 1 + both
    return array.transpose([*left, *right])


def window_sum(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    """Sums over moving windows of places."""
    rand = values[0]
    if not isinstance(rand, Rand):
        refuse(where, "it sums the entries of a parameter", "sum activations instead")
    p, out = equation.params, equation.outvars[0].aval.shape
    pieces, axes = list(rand.pieces), list(rand.axes)
    for d, size in enumerate(p["window_dimensions"]):
        low, high = p["padding"][d]
        window = Window(size, p["window_strides"][d], low, high, p["base_dilation"][d], p["window_dilation"][d], out[d])
        if window == Window(1, 1, 0, 0, 1, 1, out[d]):
            continue
        if [f.kind for f in axes[d]] != ["i"]:
            refuse(where, "its windows move over channels or a merged axis", "sum over axes of places")
        place = axes[d][0].place
        how = AxisMap(window, partial(_windowed, window=window), out[d], False)
        pieces = [(move(where, node, place, how), count) for node, count in pieces]
        axes[d] = (axes[d][0]._replace(size=out[d]),) if out[d] > 1 else ()
    return [Rand(tuple(pieces), tuple(axes), rand.channels)]


def _windowed(array: Any, axis: int, _: Any, *, window: Window) -> Any:
    return windowed(array, (axis,), window)


def windowed(array: Any, axes: tuple[int, ...], window: Window) -> Any:
    """Σ over taps of the array moved along all of `axes` at once."""
    config = [(0, 0, 0)] * array.ndim
    for axis in axes:
        config[axis] = (window.low, window.high, window.base - 1)
    padded = jax.lax.pad(array, jnp.zeros((), array.dtype), config)
    total = None
    for tap in range(window.size):
        start, stop, step = [0] * array.ndim, list(padded.shape), [1] * array.ndim
        for axis in axes:
            start[axis] = tap * window.dilation
            stop[axis] = start[axis] + (window.out - 1) * window.stride + 1
            step[axis] = window.stride
        piece = jax.lax.slice(padded, start, stop, step)
        total = piece if total is None else total + piece
    return total


RULES: dict[str, Callable[..., list[Value]]] = {"reduce_sum": reduce_sum, "reduce_window_sum": window_sum}
