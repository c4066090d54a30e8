"""Layers: a weight contracted with deterministic inputs, or with channels of random arrays."""

import math
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ONE,
    ChannelArray,
    Factor,
    Factors,
    Graph,
    Layout,
    Param,
    Piece,
    Segment,
    full,
    joint_index,
    reshape,
    scale,
    spread,
    views,
)
from jaxtheory.infinite.graph.nodes import AxisRole, Deterministic, DeterministicVector, LinearLayer, Node, Shape
from jaxtheory.infinite.graph.views import Key, Parts
from jaxtheory.infinite.graph.windows import Window
from jaxtheory.infinite.trace.operands import canonical, deterministic_vector
from jaxtheory.infinite.trace.reductions import require_all_heads
from jaxtheory.infinite.trace.rules import Dimensions

_MIXING = "its weights mix positions and are shared by all channels: one matrix, whose draw is seen at any width"
_MIXING_HINT = "give each channel weights of its own, e.g. einsum('bsc,stc->btc', h, w), or pass known numbers for them"


class LayerInput(NamedTuple):
    """An array that enters a layer: roles of its index axes, factors of the program's axes, and what is summed."""

    array: ChannelArray
    roles: list[AxisRole]
    factors: list[Factors]
    pieces: list[Piece]


def dense(
    graph: Graph,
    where: Site,
    value: Deterministic | ChannelArray,
    weight: Param,
    dims: Dimensions,
    weight_dims: Dimensions,
    *,
    weight_first: bool,
) -> ChannelArray:
    """Σ over contracted axes of value · weight."""
    require_plain(where, weight)
    free, weight_free = dims.free(len(value.shape)), weight_dims.free(len(weight.shape))
    given = _layer_input(where, value, dims, free)
    factors = given.factors
    shared = _shared_axes(where, given, dims.batch, weight, weight_dims.batch)
    parts = views.merge((*shared.channel_parts, *(weight.axes[d] for d in weight_free)))
    rest = (*shared.place_parts, *(weight.axes[d] for d in weight_dims.contracted))
    key = Key(weight.leaf.number, weight.offset, weight.loops, parts, rest)
    wide = [d for d in weight_free if weight.shape[d] > 1]
    channels = (*shared.channels, *(weight.shape[d] for d in wide))
    first = len(shared.channels)
    fresh: list[Factors] = [
        (Factor("c", first + wide.index(d), weight.shape[d]),) if d in wide else () for d in weight_free
    ]
    kept = [factors[d] for d in free]
    out = [*(factors[d] for d in dims.batch), *(fresh + kept if weight_first else kept + fresh)]
    node = layer(graph, where, weight, key, given.pieces, tuple(given.roles))
    return layer_output(where, node, weight, out, channels)


def require_plain(where: Site, weight: Param) -> None:
    """Raise unless a weight has mean zero and one factor for all of its entries."""
    leaf = weight.leaf
    if not views.is_zero(leaf.mean):
        reason = f"weight {leaf.path} has mean {leaf.mean}, which adds up over channels"
        refuse(where, reason, "give it mean 0 in the prior")
    if not weight.scale.scalar:
        reason = f"weight {leaf.path} is masked or scaled entry by entry"
        refuse(where, reason, "leave out the mask, or scale its input or output")


def _layer_input(where: Site, value: Deterministic | ChannelArray, dims: Dimensions, free: Sequence[int]) -> LayerInput:
    if isinstance(value, Deterministic):
        return deterministic_input(where, value, (*dims.batch, *free), dims.contracted)
    roles: list[AxisRole] = ["keep"] * len(value.node.index)
    channels, repeats = [], 1
    for d in dims.contracted:
        for f in value.axes[d]:
            if f.kind == "i":
                roles[f.place] = "sum"
            elif f.kind == "c":
                channels.append(f.place)
            else:
                repeats *= f.size
    kept = any(f.kind == "c" for d in free for f in value.axes[d])
    if kept and not channels and "sum" in roles:
        refuse(where, _MIXING, _MIXING_HINT)
    if kept or not channels:
        reason = "its weights are shared between channels, or contracted with no channels"
        refuse(where, reason, "contract whole channels")
    require_all_heads(where, value, len(channels))
    if len(value.pieces) > 1:
        pieces = [(node, count * repeats) for node, count in value.pieces]
        return LayerInput(value, roles, list(value.axes), pieces)
    if math.prod(value.channels) == 1:
        refuse_single_channel(where)
    count = math.prod(value.channels[c] for c in channels)
    return LayerInput(value, roles, list(value.axes), [(value.node, count * repeats)])


def refuse_single_channel(where: Site) -> NoReturn:
    """Raise for a layer whose input has no channels to average over."""
    refuse(where, "it contracts a single random channel, which no average determines", "make the layer before it wide")


def deterministic_input(
    where: Site, value: Deterministic, kept: Sequence[int], contracted: Sequence[int]
) -> LayerInput:
    """A deterministic input: its axes that are kept are places, and those contracted are channels."""
    if any(value.copies):
        refuse(where, "its scores are drawn and do more than mix tokens", "use them as attention weights")
    places = sorted(d for d in kept if value.shape[d] > 1)
    factors: list[Factors] = [()] * len(value.shape)
    for k, d in enumerate(places):
        factors[d] = (Factor("i", k, value.shape[d]),)
    channels = tuple(value.shape[d] for d in contracted)
    for c, d in enumerate(contracted):
        factors[d] = (Factor("c", c, value.shape[d]),)
    layout, total = Layout(tuple(factors), channels, len(places)), math.prod(channels)
    node = deterministic_vector(where, canonical(value, layout), len(places), Segment(0, total))
    node = _in_full(where, node, tuple(value.shape[d] for d in places))
    array = ChannelArray(((node, total),), tuple(factors), channels)
    return LayerInput(array, ["keep"] * len(places), factors, [(node, total)])


def _in_full(where: Site, node: DeterministicVector, index: Shape) -> DeterministicVector:
    """With all places of its index axes."""
    if node.index == index:
        return node
    shape = (*index, node.det.shape[-1])
    wide = spread((node.det,), shape, lambda v: full(v[0], shape))
    return DeterministicVector(where, index, 1, False, False, det=wide)


class _SharedAxes(NamedTuple):
    """Axes on which value and weight run together: groups of channels, and places with weights of their own."""

    channels: Shape
    channel_parts: list[Parts]
    place_parts: list[Parts]


def _shared_axes(
    where: Site, given: LayerInput, batch: Sequence[int], weight: Param, weight_batch: Sequence[int]
) -> _SharedAxes:
    """The shared axes, whose places get the role "own"."""
    channels: list[int] = []
    own: list[Parts] = []
    parts: list[Parts] = []
    for d, wd in zip(batch, weight_batch, strict=True):
        pieces = views.split(weight.axes[wd], tuple(f.size for f in given.factors[d]))
        if pieces is None:
            refuse(where, "its weights do not divide like the axis that they share", "reshape them alike")
        for f, piece in zip(given.factors[d], pieces, strict=True):
            if f.kind == "i":
                given.roles[f.place] = "own"
                own.append(piece)
            elif f.kind == "c":
                if f.place != len(channels):  # what is contracted is slower: copies, too few for a Gaussian sum
                    refuse(where, "each channel has weights of its own over copies of it", "multiply and add them")
                channels.append(f.size)
                parts.append(piece)
            else:
                refuse(where, "each copy of a broadcast axis has its own weights", "leave out the broadcast")
    return _SharedAxes(tuple(channels), parts, own)


def layer(
    graph: Graph, where: Site, weight: Param, key: Key, pieces: Sequence[Piece], roles: tuple[AxisRole, ...]
) -> LinearLayer:
    """The Gaussian vector that weights make of their input."""
    sizes = joint_index([node for node, _ in pieces])
    index = tuple(_size(role, size) for role, size in zip(roles, sizes, strict=True))
    leaf = weight.leaf
    return LinearLayer(
        where, index, graph.bit(key), True, True, views.is_zero(leaf.variance),
        key=key, variance=leaf.variance, weight=leaf.weight, pieces=tuple(pieces), roles=roles,
    )  # fmt: skip


def _size(role: AxisRole, size: int) -> int:
    """Of an index axis in the output of a layer."""
    if isinstance(role, Window):
        return role.out
    return 1 if role == "sum" else size


def layer_output(where: Site, node: Node, weight: Param, axes: Sequence[Factors], channels: Shape) -> ChannelArray:
    """The output of a layer, times the factor of its weight."""
    if weight.scale is not ONE:
        node = scale(where, reshape(weight.scale, (1,) * len(node.index)), node, node.index)
    return ChannelArray(((node, math.prod(channels)),), tuple(axes), channels)
