"""Sums: over channels they become deterministic, over places they stay random."""

import math
from collections.abc import Sequence
from dataclasses import replace
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
    Make,
    Value,
    combination,
    derive,
    full,
    joint_index,
    known,
    linear_map,
    merge_channels,
    number,
    scale,
)
from jaxtheory.infinite.graph.nodes import (
    AxisMap,
    ChannelSum,
    Deterministic,
    Mean,
    Need,
    Noise,
    Shape,
)
from jaxtheory.infinite.graph.windows import Window, sliding_sum, window_of
from jaxtheory.infinite.trace.restriction import restrict
from jaxtheory.infinite.trace.rules import Rule, random_array
from jaxtheory.programs.calls import Equation

_CENTERED = (
    "write h @ (w - w.mean(0)) as (h - h.mean(-1, keepdims=True)) @ w, and leave out other normalizations of weights,"
    " with the variance that they make in the prior"
)


def _total(array: Numbers, axis: int, _: Numbers | None) -> jax.Array:
    return jnp.sum(array, axis, keepdims=True)


TOTAL = AxisMap("sum", _total, 1, False)


def reduce_sum(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    """Sums over any axes."""
    rand = random_array(where, values[0], "it sums the entries of a parameter", _CENTERED)
    gone = set(equation.params["axes"])
    factors = [f for d in gone for f in rand.axes[d]]
    channels = [f for f in factors if f.kind == "c"]
    if channels and not are_copies(where, rand, channels):
        return [average(graph, where, rand, gone)]
    if channels:
        rand = _sum_copies(graph, where, rand, channels)
        factors = [f for f in factors if f.kind != "c"]
    repeats = math.prod(f.size for f in factors if f.kind == "b")
    if repeats > 1 and any(node.drawn for node, _ in rand.pieces):
        refuse(where, "it adds heads whose scores are drawn", "contract heads with a weight")
    pieces = []
    for node, count in rand.pieces:
        for f in factors:
            node = linear_map(where, node, f.place, TOTAL) if f.kind == "i" else node
        pieces.append((scale(where, number(float(repeats), len(node.index)), node, node.index), count))
    kept = tuple(factors for d, factors in enumerate(rand.axes) if d not in gone)
    return [ChannelArray(tuple(pieces), kept, rand.channels)]


def are_copies(where: Site, rand: ChannelArray, channels: list[Factor]) -> bool:
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


def _sum_copies(graph: Graph, where: Site, rand: ChannelArray, channels: list[Factor]) -> ChannelArray:
    """A sum over independent copies, as of heads or of the members of an ensemble: it stays random."""
    require_all_heads(where, rand, len(channels))
    for f in sorted(channels, key=lambda f: -f.place):
        node, count = rand.pieces[0]
        parts = [restrict(graph, where, node, rand.channels, f.place, Cut(i, 1, 1)) for i in range(f.size)]
        total = combination(where, node.index, [(ONE, part) for part in parts])
        lower = lambda g, at=f.place: g._replace(place=g.place - 1) if g.kind == "c" and g.place > at else g  # noqa: E731
        axes = tuple(tuple(lower(g) for g in factors if g != f) for factors in rand.axes)
        left = (*rand.channels[: f.place], *rand.channels[f.place + 1 :])
        rand = ChannelArray(((total, count // f.size),), axes, left)
    return merge_channels(rand)


def require_all_heads(where: Site, rand: ChannelArray, contracted: int) -> None:
    """Raise where channels are averaged that depend on drawn scores, but not those of all heads."""
    if any(node.drawn for node, _ in rand.pieces) and contracted < len(rand.channels):
        refuse(where, "it keeps heads apart whose scores are drawn", "contract heads and channels at once")


def average(graph: Graph, where: Site, rand: ChannelArray, gone: set[int]) -> Deterministic:
    """A sum over channels (and places): count · E h, deterministic in the limit."""
    places = [f.place for d in gone for f in rand.axes[d] if f.kind == "c"]
    require_all_heads(where, rand, len(places))
    if len(rand.pieces) > 1 or len(places) == len(rand.channels):
        weights = [float(count) for _, count in rand.pieces]
    else:
        weights = [float(math.prod(rand.channels[p] for p in places))]
    summed = [f.place for d in gone for f in rand.axes[d] if f.kind == "i"]
    repeats = math.prod(f.size for d in gone for f in rand.axes[d] if f.kind == "b")
    index = joint_index([node for node, _ in rand.pieces])
    terms = [(w, node) for w, (node, _) in zip(weights, rand.pieces, strict=True) if not node.centered]
    kept = tuple(factors for d, factors in enumerate(rand.axes) if d not in gone)
    if not terms:
        shape = tuple(math.prod(f.size for f in factors) for factors in kept)
        source = ChannelSum(tuple((w, node, None) for w, (node, _) in zip(weights, rand.pieces, strict=True)))
        return replace(known(np.zeros(shape, np.float32)), noise=Noise(((source, 1.0),), False, graph.record))

    def make(values: list[Numbers]) -> jax.Array:
        total = jnp.asarray(sum(w * v for (w, _), v in zip(terms, values, strict=True)))
        return repeats * jnp.asarray(full(total, index)).sum(tuple(summed), keepdims=True)

    left = tuple(1 if k in summed else m for k, m in enumerate(index))
    return unfold(tuple(Mean(node) for _, node in terms), make, kept, left)


def unfold(needs: tuple[Need, ...], make: Make, axes: Sequence[Factors], index: Shape) -> Deterministic:
    """A deterministic array over index axes, laid out along the axes of a program."""
    flat = [f for factors in axes for f in factors]
    shape = tuple(math.prod(f.size for f in factors) for factors in axes)
    uniform = tuple(all(f.kind != "i" for f in factors) for factors in axes)
    sizes = [f.size if f.kind == "i" or not uniform[a] else 1 for a, fs in enumerate(axes) for f in fs]
    order = [f.place for f in flat if f.kind == "i"]
    short = tuple(1 if u else m for u, m in zip(uniform, shape, strict=True))

    def laid(values: list[Numbers]) -> jax.Array:
        rest = [k for k in range(len(index)) if k not in order]
        array = full(make(values), index).transpose([*rest, *order])
        narrow = tuple(f.size if f.kind == "i" else 1 for f in flat)
        return jnp.broadcast_to(array.reshape(narrow), sizes).reshape(short)

    flags = tuple(u or m == 1 for u, m in zip(uniform, shape, strict=True))
    return derive(needs, shape, flags, laid)


def window_sum(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    """Sums over moving windows of places."""
    rand = random_array(where, values[0], "it sums the entries of a parameter", "sum activations instead")
    p, out = equation.params, equation.outvars[0].aval.shape
    pieces, axes = list(rand.pieces), list(rand.axes)
    for d, size in enumerate(p["window_dimensions"]):
        window = window_of(p, d, size, out[d])
        if window.trivial:
            continue
        if [f.kind for f in axes[d]] != ["i"]:
            refuse(where, "its windows move over channels or a merged axis", "sum over axes of places")
        place = axes[d][0].place
        how = AxisMap(window, partial(_sliding_sum, window=window), out[d], False)
        pieces = [(linear_map(where, node, place, how), count) for node, count in pieces]
        axes[d] = (axes[d][0]._replace(size=out[d]),) if out[d] > 1 else ()
    return [ChannelArray(tuple(pieces), tuple(axes), rand.channels)]


def _sliding_sum(array: Numbers, axis: int, _: Numbers | None, *, window: Window) -> jax.Array:
    return sliding_sum(jnp.asarray(array), (axis,), window)


RULES: dict[str, Rule] = {"reduce_sum": reduce_sum, "reduce_window_sum": window_sum}
