"""Operands of which some have their channels in two halves, as rotated ones have, and others in one run."""

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Cut, Factors, Graph, Value
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.trace.movement import slice_axes
from jaxtheory.infinite.trace.stacking import side_by_side


def aligned(graph: Graph, where: Site, values: list[Value]) -> list[Value]:
    """Operands of which some have an axis of channels where others have places times channels: all have the latter."""
    rands = only(ChannelArray, values)
    for axis in range(len(rands[0].shape) if rands else 0):
        divided = next((r.axes[axis] for r in rands if _is_divided(r.axes[axis])), None)
        if divided is not None:
            values = [_divided(graph, where, v, axis, divided) for v in values]
            rands = only(ChannelArray, values)
    return values


def _is_divided(factors: Factors) -> bool:
    return sorted(f.kind for f in factors) == ["c", "i"]


def _divided(graph: Graph, where: Site, value: Value, axis: int, like: Factors) -> Value:
    """An array whose axis of channels is taken apart into places and channels."""
    if not isinstance(value, ChannelArray) or [f.kind for f in value.axes[axis]] != ["c"]:
        return value
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
