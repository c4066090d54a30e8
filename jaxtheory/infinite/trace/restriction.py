"""Slices of channels: the same network with fewer of its copies."""

from dataclasses import replace

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import Cut, Graph, leaves_of, spread, views
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.nodes import COUNTER, Node, Shape


def restrict(graph: Graph, where: Site, node: Node, shape: Shape, axis: int, cut: Cut) -> Node:
    """A node with a slice of one factor of its channels, whose sizes are `shape`."""
    done: dict[int, Node] = {}
    if node.drawn:
        refuse(where, "it picks heads or channels whose scores are drawn", "contract all of them")

    def visit(node: Node) -> Node:
        if node.number not in done:
            done[node.number] = _rebuilt(node)
        return done[node.number]

    def _rebuilt(node: Node) -> Node:
        if isinstance(node, n.DeterministicVector):
            return _deterministic(node, shape, axis, cut)
        if isinstance(node, n.Random | n.Mask):
            if not (node.gaussian or isinstance(node, n.Mask)):
                refuse(where, "it slices the channels of a depthwise convolution", "slice before it")
            key = _key(where, node.key, shape, axis, cut)
            return replace(node, key=key, leaves=graph.bit(key), number=next(COUNTER))
        if isinstance(node, n.LoopCarry):
            refuse(where, "it slices channels that a loop carries", "slice after a layer of its own")
        return _with_parts(node, [visit(part) for part in node.parts])

    return visit(node)


def _with_parts(node: Node, parts: list[Node]) -> Node:
    """The same node of others; its parts in their order."""
    leaves, number, several = leaves_of(parts), next(COUNTER), tuple(parts)
    match node:
        case n.Sum():
            terms = tuple((c, x) for (c, _), x in zip(node.terms, several, strict=True))
            return replace(node, leaves=leaves, number=number, terms=terms)
        case n.Product():
            return replace(node, leaves=leaves, number=number, factors=several)
        case n.Function():
            return replace(node, leaves=leaves, number=number, root=several[0])
        case n.JointFunction():
            roots = tuple((name, x) for (name, _), x in zip(node.roots, several, strict=True))
            return replace(node, leaves=leaves, number=number, roots=roots)
        case n.Several():
            return replace(node, leaves=leaves, number=number, children=several)
        case n.Unary():
            return replace(node, leaves=leaves, number=number, child=several[0])
    return replace(node, leaves=leaves, number=number)


def _key(where: Site, key: views.Key, shape: Shape, axis: int, cut: Cut) -> views.Key:
    parts = views.split(key.free, shape)
    piece = None if parts is None else views.cut(parts[axis], *cut)
    if parts is None or piece is None:
        refuse(where, "it slices channels across the axes of a parameter", "slice along its axes")
    free = views.merge((*parts[:axis], piece[1], *parts[axis + 1 :]))
    return key._replace(offset=key.offset + piece[0], free=free)


def _deterministic(node: n.DeterministicVector, shape: Shape, axis: int, cut: Cut) -> Node:
    start, size, step = cut
    index = node.index
    where = (slice(None),) * (len(index) + axis) + (slice(start, start + size * step, step),)
    flat = (*index, node.det.shape[-1] // shape[axis] * size)
    det = spread((node.det,), flat, lambda v: v[0].reshape((*index, *shape))[where].reshape(flat))
    return replace(node, det=det, number=next(COUNTER))
