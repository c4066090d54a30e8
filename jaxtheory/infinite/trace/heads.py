"""Operands that differ from head to head where scores are drawn: parameters with a number a head, and known numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ChannelArray,
    Factor,
    Graph,
    Ingredients,
    Layout,
    Param,
    Segment,
    Value,
    derive,
    sampler,
    size,
)
from jaxtheory.infinite.graph.layout import Kind
from jaxtheory.infinite.graph.nodes import Deterministic, Flags, HeadNumbers, HeadValues, Need, Node, Shape
from jaxtheory.infinite.trace.operands import place_value
from jaxtheory.infinite.trace.reductions import unfold


def heads_of(operands: Sequence[Value], rank: int) -> Flags:
    """The axes of heads whose scores are drawn, of an elementwise operation's operands."""
    marks = [v.copies for v in operands if isinstance(v, Deterministic) and len(v.copies) == rank]
    return tuple(any(each) for each in zip(*marks, strict=True)) if marks else (False,) * rank


def drawn_beside_scores(graph: Graph, where: Site, values: Sequence[Value], shape: Shape) -> list[Deterministic] | None:
    """The operands of an elementwise operation with drawn scores, random ones drawn too; None where one cannot be."""
    heads, found = heads_of(values, len(shape)), list[Deterministic]()
    for value in values:
        drawn = value if isinstance(value, Deterministic) else _draw(graph, where, value, heads, shape)
        if drawn is None:
            return None
        _require_untied(graph, where, drawn, found)
        found.append(drawn)
    return found


def _draw(graph: Graph, where: Site, value: Value, heads: Flags, shape: Shape) -> Deterministic | None:
    """A random array whose channels are the heads as a quantity of one head; None for any other."""
    array = _as_array(graph, where, value, heads, shape) if isinstance(value, Param) else value
    if not isinstance(array, ChannelArray) or len(array.pieces) > 1 or len(array.axes) != len(shape):
        return None
    own = tuple(any(f.kind == "c" for f in factors) for factors in array.axes)
    if own != tuple(h and m > 1 for h, m in zip(heads, shape, strict=True)):
        return None
    index = list(array.node.index)
    for f in (f for factors in array.axes for f in factors if f.kind == "i"):
        index[f.place] = f.size
    if sampler(array.node, Ingredients()) is None:
        return None
    graph.scores += 1
    need = HeadValues(array.node, graph.scores)
    return replace(unfold((need,), lambda values: values[0], array.axes, tuple(index)), copies=own)


def _as_array(graph: Graph, where: Site, value: Param, heads: Flags, shape: Shape) -> ChannelArray | None:
    """A parameter with heads as channels and all other axes as places."""
    channels = tuple(m for m, head in zip(shape, heads, strict=True) if head and m > 1)
    places, counts = [], dict[Kind, int](c=0, i=0)
    for m, head in zip(shape, heads, strict=True):
        kind: Kind = "c" if head else "i"
        places.append((Factor(kind, counts[kind], m),) if m > 1 else ())
        counts[kind] += m > 1
    layout = Layout(tuple(places), channels, counts["i"])
    node = place_value(graph, where, value, layout, Segment(0, size(channels)))
    return ChannelArray(((node, size(channels)),), layout.axes, channels) if isinstance(node, Node) else None


def _require_untied(graph: Graph, where: Site, one: Deterministic, others: Sequence[Deterministic]) -> None:
    """Raise where what is drawn shares parameters with what another operand has drawn: their draws are independent."""
    own = [need.node for need in _needs(one) if isinstance(need, HeadValues)]
    drawn = [need.node for other in others for need in _needs(other) if isinstance(need, HeadValues)]
    if any(a is not b and not graph.independent(a, b) for a in own for b in drawn):
        hint = "add it once, or give each use a parameter of its own"
        refuse(where, "it uses one parameter twice on scores that are drawn", hint)


def numbers_of_heads(where: Site, operands: Sequence[Deterministic], rank: int) -> list[Deterministic]:
    """Operands without their differences along axes of heads: each draw has the numbers of one head."""
    heads, found = heads_of(operands, rank), list[Deterministic]()
    for det in operands:
        flags = det.copies or (False,) * len(det.shape)
        alike = len(det.shape) != rank
        axes = () if alike else tuple(a for a in range(rank) if heads[a] and not (det.uniform[a] or flags[a]))
        found.append(_numbers(where, det, axes, operands) if axes else det)
    return found


def _numbers(
    where: Site, det: Deterministic, axes: tuple[int, ...], operands: Sequence[Deterministic]
) -> Deterministic:
    sizes = tuple(det.shape[a] for a in axes)
    before = [need for other in operands for need in _needs(other) if isinstance(need, HeadNumbers)]
    if any(tuple(need.det.shape[a] for a in need.axes) != sizes for need in before):
        reason = "its numbers differ along other axes of heads than numbers before them"
        refuse(where, reason, "use one axis for all heads, and split it after the attention weights")
    uniform = tuple(u or a in axes for a, u in enumerate(det.uniform))
    one = derive((HeadNumbers(det, axes),), det.shape, uniform, lambda values: values[0])
    copies = tuple(a in axes or (bool(det.copies) and det.copies[a]) for a in range(len(det.shape)))
    return replace(one, copies=copies)


def _needs(det: Deterministic) -> Iterator[Need]:
    """All that a quantity is made of."""
    stack: list[Need] = [det]
    seen: set[int] = set()
    while stack:
        need = stack.pop()
        yield need
        if isinstance(need, Deterministic) and need.number not in seen:
            seen.add(need.number)
            stack += need.needs
