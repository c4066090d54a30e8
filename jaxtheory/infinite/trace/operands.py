"""Operands where they meet: nodes, or coefficients over the index axes, for each run of channels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ONE,
    ChannelArray,
    Cut,
    Factors,
    Graph,
    Layout,
    Param,
    Segment,
    Value,
    combination,
    derive,
    full,
    number,
    ones,
    product,
    real_parts,
    reshape,
    scale,
    size,
    spread,
    views,
)
from jaxtheory.infinite.graph.nodes import (
    Deterministic,
    DeterministicVector,
    ExpandDims,
    Flags,
    Node,
    ParameterVector,
    Shape,
    Sum,
    Term,
)
from jaxtheory.infinite.graph.views import Key, Parts
from jaxtheory.infinite.trace.restriction import restrict

Operand = Node | Deterministic  # where operands meet


def place_value(graph: Graph, where: Site, value: Value, layout: Layout, segment: Segment) -> Operand:
    """A value where operands meet, for a segment of the channels: a node, or a coefficient over the index axes."""
    if isinstance(value, Deterministic):
        return _place_deterministic(where, value, layout, segment)
    if isinstance(value, Param):
        return _place_parameter(graph, where, value, layout, segment)
    assert isinstance(value, ChannelArray)
    start = 0
    for node, count in value.pieces:
        if start <= segment.start < start + count:
            cut = Cut(segment.start - start, segment.size, 1)
            part = node if cut == (0, count, 1) else restrict(graph, where, node, (count,), 0, cut)
            return expand_dims(where, part, layout.rank)
        start += count
    raise AssertionError("segments cover the channels")


def expand_dims(where: Site, node: Node, rank: int) -> Node:
    """A node among others of more index axes."""
    if len(node.index) == rank:
        return node
    if node.index:
        refuse(where, "its operands have different numbers of index axes", "keep reduced axes (keepdims=True)")
    index = (1,) * rank
    if isinstance(node, Sum):  # numbers in it stay numbers
        terms = [(c if c is ONE else reshape(c, index), expand_dims(where, x, rank)) for c, x in node.terms]
        return combination(where, index, terms, [reshape(c, index) for c in node.constants])
    return ExpandDims(where, index, node.leaves, node.centered, node.gaussian, node.zero, child=node)


def canonical(det: Deterministic, layout: Layout) -> Deterministic:
    """A deterministic array in the order index axes, then channel factors; of size one where it is uniform."""
    rank = layout.rank + len(layout.channels)
    if not det.shape:
        return derive((det,), (1,) * rank, (True,) * rank, lambda v: jnp.asarray(v[0]).reshape((1,) * rank))
    sizes, places, flags = [], [], []
    for factors, uniform in zip(layout.axes, det.uniform, strict=True):
        for f in factors:
            sizes.append(f.size)
            flags.append(uniform)
            places.append(f.place if f.kind == "i" else layout.rank + f.place if f.kind == "c" else -1)
    order = sorted((p, i) for i, p in enumerate(places) if p >= 0)
    target, uniforms = [1] * rank, [True] * rank
    for place, i in order:
        target[place], uniforms[place] = sizes[i], flags[i]
    short = _short(tuple(sizes), tuple(flags))
    permutation = [i for i, p in enumerate(places) if p < 0] + [i for _, i in order]
    final = _short(tuple(target), tuple(uniforms))

    def make(v: list[Numbers]) -> jax.Array:
        return jnp.asarray(v[0]).reshape(short).transpose(permutation).reshape(final)

    return derive((det,), tuple(target), tuple(uniforms), make)


def _short(shape: Shape, uniform: Flags) -> Shape:
    return tuple(1 if u else m for u, m in zip(uniform, shape, strict=True))


def _place_deterministic(where: Site, det: Deterministic, layout: Layout, segment: Segment) -> Operand:
    whole, rank = canonical(det, layout), layout.rank
    if not all(whole.uniform[rank:]):
        return deterministic_vector(where, whole, rank, segment)
    short = _short(whole.shape[:rank], whole.uniform[:rank])
    return derive((whole,), short, ones(short), lambda v: v[0].reshape(short))


def deterministic_vector(where: Site, det: Deterministic, rank: int, segment: Segment) -> DeterministicVector:
    """A deterministic vector from an array of index axes and channel factors."""
    index, channels = _short(det.shape[:rank], det.uniform[:rank]), det.shape[rank:]

    def make(v: list[Numbers]) -> Numbers:
        flat = full(jnp.asarray(v[0]), (*index, *channels)).reshape((*index, size(channels)))
        return flat[..., segment.start : segment.start + segment.size]

    values = spread((det,), (*index, segment.size), make)
    return DeterministicVector(where, index, 1, False, False, det=values)


class View(NamedTuple):
    """The numbers of a parameter where it meets others: sizes of index axes, and which have numbers of their own."""

    key: Key
    sizes: Shape
    own: Flags


def view(where: Site, param: Param, layout: Layout, segment: Segment) -> View | None:
    """A parameter for a segment of the channels; None where it is one number for all channels."""
    own = [False] * layout.rank
    index_parts: list[Parts] = [()] * layout.rank
    channel_parts: list[Parts] = [()] * len(layout.channels)
    for parts, factors in zip(param.axes or ((),) * len(layout.axes), layout.axes, strict=True):
        for f, piece in zip(factors, _distribute(where, parts, factors), strict=True):
            if f.kind == "i" and real_parts(piece):
                own[f.place], index_parts[f.place] = True, piece
            if f.kind == "c":
                channel_parts[f.place] = piece
    real = [real_parts(p) for p, n in zip(channel_parts, layout.channels, strict=True) if n > 1]
    if size(layout.channels) > 1 and not all(real):
        return None
    cut = views.cut(views.merge(tuple(channel_parts)), segment.start, segment.size, 1)
    if cut is None:
        refuse(where, "it cuts a parameter across its axes", "concatenate along whole axes")
    key = Key(param.leaf.number, param.offset + cut[0], param.loops, cut[1], tuple(index_parts))
    flat = [f for factors in layout.axes for f in factors if f.kind == "i"]
    index = tuple(next((f.size for f in flat if f.place == k and o), 1) for k, o in enumerate(own))
    return View(key, index, tuple(own))


def _distribute(where: Site, parts: Parts, factors: Factors) -> tuple[Parts, ...]:
    """The parts of an axis of a parameter for each factor of the axis that it meets."""
    if not real_parts(parts):
        return ((),) * len(factors)
    pieces = views.split(parts, tuple(f.size for f in factors))
    if pieces is None:
        refuse(where, "a parameter does not divide like the axes that it meets", "reshape it like them")
    return pieces


def _place_parameter(graph: Graph, where: Site, param: Param, layout: Layout, segment: Segment) -> Operand:
    factor: Operand = ONE if param.scale is ONE else _place_deterministic(where, param.scale, layout, segment)
    seen = view(where, param, layout, segment)
    if seen is None:
        return _constant_parameter(where, param, factor, layout.rank)
    vector = _random_parameter(graph, where, param, seen)
    if isinstance(factor, Node):
        return graph.multiply(where, vector, factor)
    index = tuple(max(n, m) for n, m in zip(seen.sizes, factor.shape, strict=True)) if factor is not ONE else seen.sizes
    return scale_terms(where, factor, vector, index)


def scale_terms(where: Site, factor: Deterministic, node: Node, index: Shape) -> Node:
    """A node times a coefficient, in a sum term by term."""
    if factor is ONE:
        return node
    if isinstance(node, Sum):
        terms = [(product(factor, c), x) for c, x in node.terms]
        return combination(where, index, terms, [product(factor, c) for c in node.constants])
    return combination(where, index, [(factor, node)])


def _constant_parameter(where: Site, param: Param, factor: Operand, rank: int) -> Operand:
    """A parameter that is one number for all channels, if its prior does not let it vary."""
    leaf = param.leaf
    if not (views.is_zero(leaf.variance) and views.is_zero(leaf.weight)):
        reason = f"parameter {leaf.path} has no channel axis, so that no average over channels determines its effect"
        refuse(where, reason, "give it variance 0 and weight 0 in the prior, which makes it the constant `mean`")
    mean = number(leaf.mean, rank)
    return scale(where, mean, factor, factor.index) if isinstance(factor, Node) else product(mean, factor)


def _random_parameter(graph: Graph, where: Site, param: Param, seen: View) -> Node:
    """The Gaussian vector of a parameter, and its mean."""
    leaf, zero = param.leaf, views.is_zero(param.leaf.variance)
    noise = ParameterVector(
        where, seen.sizes, graph.bit(seen.key), True, True, zero,
        key=seen.key, variance=leaf.variance, weight=leaf.weight, own=seen.own,
    )  # fmt: skip
    terms: list[Term] = [] if zero and views.is_zero(leaf.weight) else [(ONE, noise)]
    mean = [] if views.is_zero(leaf.mean) else [number(leaf.mean, len(seen.sizes))]
    return combination(where, seen.sizes, terms, mean)


def refuse_weights(where: Site, *nodes: Node, otherwise: str = "") -> None:
    """Raise if nodes are made of parameters alone, as normalized weights are; `otherwise` is for what is no weight."""
    if nodes and all(map(_is_weight, nodes)):
        reason = "it makes a weight by a function of parameters"
        hint = "leave out a normalization of weights, with the variance that it makes in the prior"
        refuse(where, reason, hint + otherwise)


def _is_weight(node: Node) -> bool:
    return all(map(_is_weight, node.parts)) if node.parts else isinstance(node, ParameterVector)
