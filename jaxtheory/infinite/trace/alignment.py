"""Operands of which some have their channels in two halves, as rotated ones have, and others in one run."""

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Cut, Factors, Graph, Value, new_axis
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Shape
from jaxtheory.infinite.trace.movement import slice_axes
from jaxtheory.infinite.trace.stacking import side_by_side


def aligned(graph: Graph, where: Site, values: list[Value]) -> list[Value]:
    """Operands of which some have an axis of channels where others have places times channels: all have the latter."""
    rands = only(ChannelArray, values)
    for axis in range(len(rands[0].shape) if rands else 0):
        like = next((r.axes[axis] for r in rands if _is_divided(r.axes[axis])), None)
        if like is not None:
            values = [_like(graph, where, v, axis, like) for v in values]
            rands = only(ChannelArray, values)
    return values


def with_room(graph: Graph, where: Site, values: list[Value], shape: Shape) -> list[Value]:
    """Random operands with an index axis of size one for every axis that only parameters and known numbers have."""
    rands = only(ChannelArray, values)
    rank = max((len(r.node.index) for r in rands), default=0)
    if rank == 0 or any(len(r.pieces) > 1 for r in rands):
        return values
    fresh = sum(new_axis(values, a, m) for a, m in enumerate(shape))
    taken = {f.place for r in rands for factors in r.axes for f in factors if f.kind == "i"}
    free = [k for k in range(rank) if k not in taken and all(r.node.index[k : k + 1] in ((), (1,)) for r in rands)]
    for _ in range(fresh - len(free)):
        values = [_longer(graph, where, v, rank) for v in values]
        rank += 1
    return values


def _longer(graph: Graph, where: Site, value: Value, rank: int) -> Value:
    """An array of the most index axes with one more."""
    most = isinstance(value, ChannelArray) and len(value.node.index) == rank
    return side_by_side(graph, where, [value])[0] if isinstance(value, ChannelArray) and most else value


def _is_divided(factors: Factors) -> bool:
    return sorted(f.kind for f in factors) == ["c", "i"]


def _like(graph: Graph, where: Site, value: Value, axis: int, like: Factors) -> Value:
    """An operand, its axis of channels taken apart if it has one."""
    apart = isinstance(value, ChannelArray) and [f.kind for f in value.axes[axis]] == ["c"]
    return divided(graph, where, value, axis, like) if isinstance(value, ChannelArray) and apart else value


def divided(graph: Graph, where: Site, value: ChannelArray, axis: int, like: Factors) -> ChannelArray:
    """An array whose axis of channels is taken apart into places and channels."""
    place, channels = sorted(like, key=lambda f: f.kind == "c")
    whole = [Cut(0, m, 1) for m in value.shape]
    outer = like[0].kind == "i"
    parts = []
    for k in range(place.size):
        cut = Cut(k * channels.size, channels.size, 1) if outer else Cut(k, channels.size, place.size)
        parts.append(slice_axes(graph, where, value, [*whole[:axis], cut, *whole[axis + 1 :]]))
    rands = only(ChannelArray, parts)
    array, factor = side_by_side(graph, where, rands)
    if factor.place != place.place:
        refuse(
            where, "its operands have axes of different origin in one place", "bring their axes into one order first"
        )
    own = tuple(factor if f.kind == "i" else array.axes[axis][0] for f in like)
    return array._replace(axes=(*array.axes[:axis], own, *array.axes[axis + 1 :]))
