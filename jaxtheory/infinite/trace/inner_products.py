"""Products of two random arrays that are summed over channels: attention scores, squared norms."""

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Factor, Factors, Graph, Ingredients, channelwise, joint_index, known
from jaxtheory.infinite.graph.nodes import (
    ChannelSum,
    Deterministic,
    DeterministicVector,
    Flags,
    Node,
    Noise,
    Pair,
    Scores,
    Shape,
)
from jaxtheory.infinite.graph.views import Channels
from jaxtheory.infinite.trace.operands import refuse_weights
from jaxtheory.infinite.trace.reductions import are_copies, unfold
from jaxtheory.infinite.trace.rules import Dimensions
from jaxtheory.infinite.trace.stacking import pieces_as_places


class _Side(NamedTuple):
    """An operand and its axes."""

    array: ChannelArray
    dims: Dimensions

    @property
    def contracted(self) -> list[Factor]:
        """What is summed over."""
        return [f for d in self.dims.contracted for f in self.array.axes[d]]

    @property
    def free(self) -> list[int]:
        """Axes that the other operand does not have."""
        return self.dims.free(len(self.array.axes))

    @property
    def channels(self) -> Channels:
        """Its axes of channels, and those that are summed over."""
        return Channels(self.array.channels, tuple(f.place for f in self.contracted if f.kind == "c"))


def inner(
    graph: Graph, where: Site, left: ChannelArray, right: ChannelArray, dims: Dimensions, other: Dimensions
) -> Deterministic:
    """Σ over channels (and places) of a product of two random arrays."""
    left, right = (
        pieces_as_places(graph, where, rand, d[0]) if len(d) == 1 else rand
        for rand, d in ((left, dims.contracted), (right, other.contracted))
    )
    one, two = _Side(left, dims), _Side(right, other)
    a, b = left.node, right.node
    apart = graph.share_numbers_alone(a, b)
    _require_sums_of_channels(where, one, two, apart=apart)
    axes, mask, sizes = _free_axes(where, one, two)
    index = (*joint_index((a, b)), *sizes)
    summed = tuple(f.place for f in one.contracted if f.kind == "i")
    rest = tuple(1 if k in summed else m for k, m in enumerate(index))
    channels = float(math.prod(f.size for f in one.contracted if f.kind == "c"))
    if apart and (a.centered or b.centered):
        places = tuple(k in summed for k in range(len(a.index)))
        scores = Scores(a, b, channels, graph.scores + 1, places, (one.channels, two.channels))
        return _fluctuating(graph, where, scores, mask, axes, rest)

    def total(values: list[Numbers]) -> jax.Array:
        found = jnp.broadcast_to(_apart(jnp.asarray(values[0]), mask), index)
        return channels * found.sum(summed, keepdims=True)

    return unfold((Pair(a, b, mask),), total, axes, rest)


def _require_sums_of_channels(where: Site, one: _Side, two: _Side, *, apart: bool) -> None:
    """Raise unless both operands have the same channels (and places) where they are contracted."""
    if len(one.array.pieces) > 1 or len(two.array.pieces) > 1:
        refuse(where, "it multiplies concatenated channels", "multiply the parts and add")
    if one.array.node.drawn or two.array.node.drawn:
        refuse(where, "its operands depend on scores that are drawn", "put a layer of weights between the two products")
    # which of its axes of channels an operand sums over matters only where both share weights
    ours, theirs = ([f._replace(place=0) if apart and f.kind == "c" else f for f in s.contracted] for s in (one, two))
    channels = [f for f in one.contracted if f.kind == "c"]
    if not channels or ours != theirs:
        for side in (one, two):
            refuse_weights(where, side.array.node)
        refuse(where, "it multiplies random values channel by channel without a sum over them", "contract channels")
    if are_copies(where, one.array, channels):
        reason = f"it contracts {math.prod(f.size for f in channels)} independent copies of channels that it keeps"
        refuse(where, reason, "multiply and add them; contract an axis longer than the number of heads")


def _free_axes(where: Site, one: _Side, two: _Side) -> tuple[list[Factors], Flags, Shape]:
    """The axes of the product, on which index axes all pairs of places are kept, and the sizes of the right ones.

    Places that one operand was summed over, as keys under a normalization, are those of the other.
    """
    places_left, places_right = _free_places(where, one), _free_places(where, two)
    alone = {f.place for f in places_left} ^ {f.place for f in places_right}
    if any(min(one.array.node.index[k], two.array.node.index[k]) > 1 for k in alone):
        refuse(where, "the free axes of its operands are not places of one kind", "keep one axis of tokens in each")
    full_axes, rank = [f.place for f in places_left if f.place not in alone], len(one.array.node.index)
    places_right = [f for f in places_right if f.place not in alone]
    second = {place: rank + i for i, place in enumerate(full_axes)}
    batch = zip(one.dims.batch, two.dims.batch, strict=True)
    axes = [_richer(one.array.axes[d], two.array.axes[e]) for d, e in batch]
    axes += [one.array.axes[d] for d in one.free]
    axes += [tuple(f._replace(place=second.get(f.place, f.place)) for f in two.array.axes[d]) for d in two.free]
    sizes = {f.place: f.size for f in places_right}
    return axes, tuple(k in full_axes for k in range(rank)), tuple(sizes[place] for place in full_axes)


def _free_places(where: Site, side: _Side) -> list[Factor]:
    places = [f for d in side.free for f in side.array.axes[d]]
    if any(f.kind != "i" for f in places):
        refuse(where, "the free axes of its operands are not places of one kind", "keep one axis of tokens in each")
    return places


def _richer(one: Factors, other: Factors) -> Factors:
    """Of two axes that run together that with channels, where the other operand is repeated along it."""
    repeated = all(f.kind == "b" for f in one) and any(f.kind == "c" for f in other)
    return other if repeated else one


def _fluctuating(
    graph: Graph, where: Site, scores: Scores, mask: Flags, axes: list[Factors], index: Shape
) -> Deterministic:
    """A sum over channels that averages to zero; where scores are drawn and every head has its own, draws of it."""
    heads = tuple(any(f.kind == "c" for f in factors) for factors in axes)
    places = joint_index((scores.a, scores.b))
    kept = zip(mask, scores.places, places, strict=True)
    drawable = any(heads) and all(double or gone or m == 1 for double, gone, m in kept)
    terms = scores.channels * math.prod(m for m, gone in zip(places, scores.places, strict=True) if gone)
    source = ChannelSum(((terms, scores.a, scores.b),))
    shape = tuple(math.prod(f.size for f in factors) for factors in axes)
    zero = replace(known(np.zeros(shape, np.float32)), noise=Noise(((source, 1.0),), drawable, graph.record))
    if not (graph.draws and drawable):
        return zero
    for node, channels in zip((scores.a, scores.b), scores.axes, strict=True):
        _require_alike_heads(where, node, channels)
    graph.scores += 1
    drawn = unfold((scores,), lambda values: values[0].reshape(index), axes, index)
    return replace(zero, drawn=replace(drawn, copies=heads))


def _require_alike_heads(where: Site, node: Node, channels: Channels) -> None:
    """Raise where numbers that differ between channels make the scores of one head others than those of the next."""
    hint = "multiply queries and keys by the same numbers in every head, computed from shapes alone"
    for x in channelwise.vectors(node):
        if not _alike(x, channels):
            refuse(where, "its channels are multiplied by numbers that differ between heads", hint)
    made = channelwise.linear(node, Ingredients())
    if made is None or made.degree != 1:
        reason = "its channels are multiplied by different numbers, and are no multiples of Gaussian values"
        refuse(where, reason, "multiply values that a layer of weights makes, as rotary positions do")


def _alike(x: DeterministicVector, channels: Channels) -> bool:
    """Whether numbers are the same along all axes of channels that are kept."""
    kept = [k for k in range(len(channels.sizes)) if k not in channels.summed and channels.sizes[k] > 1]
    rank = len(x.index)
    if x.det.value is not None:
        array = np.asarray(x.det.value).reshape((*x.det.shape[:rank], *channels.sizes))
        return all(np.all(array == array.take([0], rank + k)) for k in kept)
    source = x.det.needs[0]
    whole = isinstance(source, Deterministic) and source.shape[rank:] == channels.sizes
    return not kept or (whole and isinstance(source, Deterministic) and all(source.uniform[rank + k] for k in kept))


def _apart(array: jax.Array, mask: Flags) -> jax.Array:
    """From interleaved pairs of axes to first all left (and common) ones, then the right ones."""
    left, right, at = [], [], 0
    for both in mask:
        left.append(at)
        if both:
            right.append(at + 1)
        at += 1 + both
    return array.transpose([*left, *right])
