"""Random arrays side by side: a new axis of places, also where equal runs of channels were concatenated."""

from collections.abc import Sequence
from dataclasses import replace

import jax
from jax import lax

from jaxtheory.infinite.errors import Site
from jaxtheory.infinite.graph import (
    ONE,
    ChannelArray,
    Factor,
    Graph,
    Value,
    combination,
    concatenation,
    reshape,
    split,
    spread,
)
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import (
    COUNTER,
    Concatenate,
    Deterministic,
    DeterministicVector,
    ExpandDims,
    Node,
    Product,
    Sum,
)
from jaxtheory.infinite.trace.rules import Rewriting
from jaxtheory.programs.calls import Equation


def stack(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value] | Rewriting:
    """Arrays along a new axis of the program."""
    axis = equation.params["axis"]
    rands = only(ChannelArray, values)
    if len(rands) == len(values) and are_alike(rands):
        array, factor = side_by_side(graph, where, rands)
        return [array._replace(axes=(*array.axes[:axis], (factor,), *array.axes[axis:]))]

    def program(*arrays: jax.Array) -> jax.Array:
        return lax.concatenate([lax.expand_dims(a, (axis,)) for a in arrays], axis)

    return Rewriting(jax.make_jaxpr(program)(*(v.aval for v in equation.invars)), values)


def pieces_as_places(graph: Graph, where: Site, rand: ChannelArray, axis: int) -> ChannelArray:
    """Equal runs of channels that were concatenated, as places times channels; any other array as it is."""
    counts = {count for _, count in rand.pieces}
    if len(rand.pieces) == 1 or len(counts) > 1 or [f.kind for f in rand.axes[axis]] != ["c"]:
        return rand
    count = counts.pop()
    runs = [rand._replace(pieces=(piece,), channels=(count,)) for piece in rand.pieces]
    array, factor = side_by_side(graph, where, runs)
    return array._replace(axes=(*array.axes[:axis], (factor, Factor("c", 0, count)), *array.axes[axis + 1 :]))


def are_alike(rands: Sequence[ChannelArray]) -> bool:
    """Whether arrays have the same axes and channels."""
    first = rands[0]
    return all(
        len(r.pieces) == 1 and (r.axes, r.channels, r.node.index) == (first.axes, first.channels, first.node.index)
        for r in rands
    )


def side_by_side(graph: Graph, where: Site, rands: Sequence[ChannelArray]) -> tuple[ChannelArray, Factor]:
    """Arrays along a new index axis, behind the others."""
    children = tuple(_with_place(graph, where, r.node) for r in rands)
    place = len(children[0].index) - 1
    node = concatenation(where, children, place)
    return rands[0]._replace(pieces=((node, rands[0].pieces[0][1]),)), Factor("i", place, len(rands))


def _with_place(graph: Graph, where: Site, node: Node) -> Node:
    """A node with one more index axis, of size one: of sums, products and concatenations each part has it."""
    if isinstance(node, Sum):
        terms = [(c if c is ONE else _longer(c), _with_place(graph, where, x)) for c, x in node.terms]
        return combination(where, (*node.index, 1), terms, map(_longer, node.constants))
    if isinstance(node, Product):
        return graph.product(where, tuple(_with_place(graph, where, x) for x in node.factors))
    if isinstance(node, Concatenate):
        return concatenation(where, tuple(_with_place(graph, where, x) for x in node.children), node.axis)
    if isinstance(node, DeterministicVector):
        shape = (*node.index, 1, node.det.shape[-1])
        det = spread((node.det,), shape, lambda v: v[0].reshape(shape))
        return replace(node, index=shape[:-1], det=det, number=next(COUNTER))
    if node.index:
        return split(where, node, len(node.index) - 1, (node.index[-1], 1))
    return ExpandDims(where, (1,), node.leaves, node.centered, node.gaussian, node.zero, child=node)


def _longer(det: Deterministic) -> Deterministic:
    return reshape(det, (*det.shape, 1))
