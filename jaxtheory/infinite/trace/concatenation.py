"""Concatenation: of channels more pieces, of places nodes side by side, of channels within heads runs as places."""

import math
from collections.abc import Hashable, Sequence

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ONE,
    Axes,
    ChannelArray,
    Cut,
    Factor,
    Factors,
    Graph,
    Layout,
    Param,
    Piece,
    Segment,
    Value,
    combination,
    concatenation,
    flatten_axis,
)
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Node, Sum
from jaxtheory.infinite.trace.alignment import divided
from jaxtheory.infinite.trace.blocks import blocks
from jaxtheory.infinite.trace.movement import slice_axes
from jaxtheory.infinite.trace.operands import Operand, place_value
from jaxtheory.infinite.trace.rules import Rule
from jaxtheory.infinite.trace.stacking import side_by_side
from jaxtheory.programs.calls import Equation


def _concatenate(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    axis = equation.params["dimension"]
    values = [flatten_axis(where, v, axis) if isinstance(v, ChannelArray) else v for v in values if v.shape[axis]]
    rands = only(ChannelArray, values)
    if len(values) == 1:
        return values
    params = only(Param, values)
    if len(params) == len(values):
        return [blocks(where, params, axis)]
    if not rands:
        refuse(where, "it concatenates parameters with what is not random", "add or contract them first")
    return [concatenate(graph, where, values, rands, axis)]


def concatenate(graph: Graph, where: Site, values: list[Value], rands: list[ChannelArray], axis: int) -> ChannelArray:
    """Along channels: more pieces. Along places: nodes side by side."""
    kinds = {f.kind for r in rands for f in r.axes[axis]}
    sample = max(rands, key=lambda r: len(r.axes[axis]))
    place = None if kinds else _thin_place(rands)
    if place is not None:
        kinds, sample = {"i"}, sample._replace(axes=_replaced(sample.axes, axis, (Factor("i", place, 1),)))
    if kinds == {"c"} and all(len(r.channels) == 1 for r in rands):
        parts = [_as_pieces(graph, where, v, sample, axis) for v in values]
        pieces = tuple(piece for part in parts for piece in part)
        total = sum(count for _, count in pieces)
        axes = (*sample.axes[:axis], (Factor("c", 0, total),), *sample.axes[axis + 1 :])
        return ChannelArray(pieces, axes, (total,))
    if kinds == {"i"} and len(sample.axes[axis]) == 1 and all(len(r.pieces) == 1 for r in rands):
        f = sample.axes[axis][0]
        children = tuple(_as_node(graph, where, v, sample, axis) for v in values)
        total = sum(v.shape[axis] for v in values)
        axes = (*sample.axes[:axis], (f._replace(size=total),), *sample.axes[axis + 1 :])
        return ChannelArray(((concatenation(where, children, f.place), sample.pieces[0][1]),), axes, sample.channels)
    found = _runs(graph, where, values, axis) if "c" in kinds else None
    if found is not None:
        return found
    if kinds == {"c"}:
        hint = "return the parts as a tuple, or give each a weight of its own and add them"
        refuse(where, "it concatenates channels of several axes, or a single one with others", hint)
    refuse(where, "it concatenates along a merged axis, or an axis that no operand has", "concatenate before reshaping")


def _runs(graph: Graph, where: Site, values: Sequence[Value], axis: int) -> ChannelArray | None:
    """Runs of one of several axes of channels, as rotated and other channels of a head: places times channels.

    All are cut into runs of one length, the greatest that divides them; where the channels of one are pairs, as those
    that are rotated two by two, so are those of all others. None for what is no such run.
    """
    rands = [v for v in only(ChannelArray, values) if len(v.pieces) == 1]
    if len(rands) < len(values):
        return None
    pairs = next((r.axes[axis] for r in rands if [f.kind for f in r.axes[axis]] == ["c", "i"]), None)
    rands = rands if pairs is None else [_in_pairs(graph, where, rand, axis, pairs[1]) for rand in rands]
    lengths = [f.size for r in rands for f in r.axes[axis] if f.kind == "c"]
    if len(lengths) < len(rands):
        return None
    length = math.gcd(*lengths)
    parts = [_cut_runs(graph, where, rand, axis, length) for rand in rands]
    arrays = [part for part in parts if part is not None]
    first = arrays[0] if arrays else rands[0]
    place = len(first.node.index) - 1
    alike = all(_around(a, axis, place) == _around(first, axis, place) for a in arrays)
    if len(arrays) < len(rands) or not alike:
        return None
    node = concatenation(where, tuple(a.node for a in arrays), place)
    factors = (Factor("i", place, node.index[place]), *first.axes[axis][1:])
    return ChannelArray(((node, first.pieces[0][1]),), _replaced(first.axes, axis, factors), first.channels)


def _in_pairs(graph: Graph, where: Site, rand: ChannelArray, axis: int, place: Factor) -> ChannelArray:
    """An axis of channels as channels times the places of a pair, if it is a multiple of them."""
    size = rand.shape[axis] // place.size
    if [f.kind for f in rand.axes[axis]] != ["c"] or size * place.size != rand.shape[axis]:
        return rand
    return divided(graph, where, rand, axis, (Factor("c", 0, size), place))


def _cut_runs(graph: Graph, where: Site, rand: ChannelArray, axis: int, length: int) -> ChannelArray | None:
    """An axis of channels (or pairs of them) as runs of one length: places, the last index axis, before the others."""
    factors, whole = rand.axes[axis], [Cut(0, m, 1) for m in rand.shape]
    kinds = [f.kind for f in factors]
    if kinds[:2] == ["i", "c"]:  # already runs
        return rand if factors[0].place == len(rand.node.index) - 1 and factors[1].size == length else None
    if kinds not in (["c"], ["c", "i"]):
        return None
    step = length * math.prod(f.size for f in factors[1:])
    starts = range(0, rand.shape[axis], step)
    parts = [slice_axes(graph, where, rand, [*whole[:axis], Cut(s, step, 1), *whole[axis + 1 :]]) for s in starts]
    array, factor = side_by_side(graph, where, only(ChannelArray, parts))
    return array._replace(axes=_replaced(array.axes, axis, (factor, *array.axes[axis])))


def _around(rand: ChannelArray, axis: int, place: int) -> tuple[Hashable, ...]:
    """The axes and places of an array but for the number of runs."""
    return rand.channels, _replaced(rand.axes, axis, rand.axes[axis][1:]), rand.node.index[:place], len(rand.node.index)


def _thin_place(rands: list[ChannelArray]) -> int | None:
    """An index axis of size one that no axis of the program has, as slices of one position leave it."""
    taken = {f.place for r in rands for factors in r.axes for f in factors if f.kind == "i"}
    free = (k for k in range(len(rands[0].node.index)) if k not in taken)
    return next((k for k in free if all(r.node.index[k : k + 1] == (1,) for r in rands)), None)


def _replaced(axes: Axes, axis: int, factors: Factors) -> Axes:
    return (*axes[:axis], factors, *axes[axis + 1 :])


def _as_pieces(graph: Graph, where: Site, value: Value, sample: ChannelArray, axis: int) -> tuple[Piece, ...]:
    rank = len(sample.node.index)
    if isinstance(value, ChannelArray):
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
    node = place_value(graph, where, value, Layout(axes, (size,), rank), Segment(0, size))
    return ((_as_random(where, node, rank), size),)


def _as_node(graph: Graph, where: Site, value: Value, sample: ChannelArray, axis: int) -> Node:
    rank, f = len(sample.node.index), sample.axes[axis][0]
    if isinstance(value, ChannelArray):
        ok = not value.axes[axis] or value.axes[axis][0].place == f.place
        if not ok or value.node.index[f.place] != value.shape[axis] or value.channels != sample.channels:
            refuse(
                where,
                "its operands have axes of different origin in one place",
                "bring their axes into one order first",
            )
        return value.node
    axes = (*sample.axes[:axis], (f._replace(size=value.shape[axis]),), *sample.axes[axis + 1 :])
    segment = Segment(0, math.prod(sample.channels))
    operand = place_value(graph, where, value, Layout(axes, sample.channels, rank), segment)
    node = _as_random(where, operand, rank)
    if node.index[f.place] != value.shape[axis]:
        index = (*node.index[: f.place], value.shape[axis], *node.index[f.place + 1 :])
        node = Sum(where, index, node.leaves, node.centered, node.gaussian, node.zero, terms=((ONE, node),))
    return node


def _as_random(where: Site, value: Operand, rank: int) -> Node:
    return value if isinstance(value, Node) else combination(where, value.shape[:rank], [], [value])


RULES: dict[str, Rule] = {"concatenate": _concatenate}
