"""Convolutions of deterministic or random images with weights."""

import math
from dataclasses import replace
from typing import Literal, NamedTuple

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    Blocks,
    ChannelArray,
    Complex,
    Factor,
    Factors,
    Graph,
    Outer,
    Param,
    Value,
    reshape,
    views,
)
from jaxtheory.infinite.graph.nodes import AxisRole, Deterministic, LinearLayer, ParameterVector
from jaxtheory.infinite.graph.views import Key
from jaxtheory.infinite.graph.windows import Window, window_of
from jaxtheory.infinite.trace.filters import filter_channels
from jaxtheory.infinite.trace.layers import (
    LayerInput,
    deterministic_input,
    layer,
    layer_output,
    refuse_single_channel,
    require_plain,
)
from jaxtheory.infinite.trace.reductions import require_all_heads
from jaxtheory.programs.calls import Equation

# all channels at once; groups that are places, each with weights of its own; each channel alone
Groups = Literal["one", "own", "depthwise"]


class _Image(NamedTuple):
    """The input of a convolution, and what its groups are."""

    given: LayerInput
    groups: Groups


def convolution(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    """conv_general_dilated of a deterministic or random image with a weight, or of a random one with known numbers."""
    image, kernel = values
    p, shape = equation.params, equation.outvars[0].aval.shape
    if isinstance(image, ChannelArray) and isinstance(kernel, Deterministic):
        return [filter_channels(where, equation, image, kernel)]
    if (
        isinstance(image, Param | Blocks | Outer | Complex)
        or not isinstance(kernel, Param)
        or p["batch_group_count"] != 1
    ):
        refuse(where, "only an image is convolved with a weight here", "use a parameter for the kernel")
    require_plain(where, kernel)
    (_, channel, *space), (kout, kin, *kspace), outs = p["dimension_numbers"]
    groups, width = p["feature_group_count"], kernel.shape[kout]
    given, kind = _image(where, image, channel, space, groups)
    for j, (d, kd) in enumerate(zip(space, kspace, strict=True)):
        _slide(where, given, d, window_of(p, j, kernel.shape[kd], shape[outs[2 + j]]))
    divided = views.split(kernel.axes[kout], (groups, width // groups))
    assert divided is not None
    rest = (*(kernel.axes[d] for d in kspace), kernel.axes[kin])
    own, free = ((divided[0],), divided[1]) if kind == "own" else ((), kernel.axes[kout])
    key = Key(kernel.leaf.number, kernel.offset, kernel.loops, free, (*own, *rest))
    inputs = kernel.shape[kin] if kind != "depthwise" else 1
    pieces = [(node, inputs) for node, _ in given.pieces] if groups > 1 else given.pieces
    node = layer(graph, where, kernel, key, pieces, tuple(given.roles))
    if kind == "depthwise":  # each channel times weights of its own: a product, not a sum over channels
        node = replace(node, leaves=node.leaves | given.array.node.leaves, gaussian=False, taps=_taps(node))
    width = width // groups if kind == "own" else width
    axes: list[Factors] = [()] * len(image.shape)
    groups_axis = given.factors[channel][:1] if kind == "own" else ()
    axes[outs[1]] = tuple(f for f in (*groups_axis, Factor("c", 0, width)) if f.size > 1)
    for j, d in enumerate(space):
        axes[outs[2 + j]] = tuple(f._replace(size=node.index[f.place]) for f in given.factors[d])
        if given.factors[d] and node.index[given.factors[d][0].place] == 1:
            axes[outs[2 + j]] = ()
    return [layer_output(where, node, kernel, axes, (width,) if width > 1 else ())]


def _taps(node: LinearLayer) -> ParameterVector:
    """The weights of a depthwise convolution, of which every channel has its own."""
    own = tuple(isinstance(role, Window) for role in node.roles)
    sizes = tuple(role.size if isinstance(role, Window) else 1 for role in node.roles)
    return ParameterVector(
        node.site, sizes, node.leaves, True, True, node.zero,
        key=node.key, variance=node.variance, weight=node.weight, own=own,
    )  # fmt: skip


def _image(where: Site, image: Deterministic | ChannelArray, channel: int, space: list[int], groups: int) -> _Image:
    if isinstance(image, ChannelArray):
        return _random_image(where, image, channel, groups)
    if groups == 1:
        return _Image(deterministic_input(where, image, space, (channel,)), "one")
    shape = (*image.shape[:channel], groups, image.shape[channel] // groups, *image.shape[channel + 1 :])
    places = [d if d < channel else d + 1 for d in space]
    given = deterministic_input(where, reshape(image, shape), (channel, *places), (channel + 1,))
    given.roles[given.factors[channel][0].place] = "own"
    factors = [*given.factors[: channel + 1], *given.factors[channel + 2 :]]
    return _Image(given._replace(factors=factors), "own")


def _random_image(where: Site, image: ChannelArray, channel: int, groups: int) -> _Image:
    total = math.prod(image.channels)
    places = [f for f in image.axes[channel] if f.kind == "i"]
    if total == 1 or any(f.kind == "b" for f in image.axes[channel]):
        refuse_single_channel(where)
    if len(image.pieces) > 1 and groups > 1:
        refuse(where, "it convolves concatenated channels in groups", "convolve before concatenating")
    require_all_heads(where, image, 0 if groups > 1 else len(image.channels))
    own = groups > 1 and len(places) == 1 and places[0] == image.axes[channel][0] and places[0].size == groups
    if places and groups > 1 and not own:
        refuse(where, "its groups are not those of its input", "use as many groups as before")
    roles: list[AxisRole] = ["keep"] * len(image.node.index)
    for f in places:
        roles[f.place] = "own" if own else "sum"
    factors = list(image.axes)
    if own:
        factors[channel] = (places[0],)
    kind: Groups = "own" if own else "depthwise" if groups > 1 and groups == total else "one"
    return _Image(LayerInput(image, roles, factors, list(image.pieces)), kind)


def _slide(where: Site, given: LayerInput, axis: int, window: Window) -> None:
    """Let a window run along an axis."""
    here = given.factors[axis]
    if len(here) == 1 and here[0].kind == "i":
        given.roles[here[0].place] = window
    elif here:
        refuse(where, "it convolves over a broadcast or a merged axis", "convolve before reshaping")
    elif window.out != 1 or not _sees_one(window):
        refuse(where, "it convolves over an axis of size one into a larger one", "tile the input first")


def _sees_one(window: Window) -> bool:
    """Whether a window over a single place sees it."""
    return window.low % window.dilation == 0 and window.low // window.dilation < window.size
