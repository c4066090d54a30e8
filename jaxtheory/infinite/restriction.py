"""Slices of channels: the same network with fewer of its copies."""

import dataclasses
from typing import Any

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite import views
from jaxtheory.infinite.determined import COUNTER, spread
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.masks import Mask


def restrict(
    graph: n.Graph, where: Site, node: n.Node, shape: tuple[int, ...], axis: int, cut: tuple[int, int, int]
) -> n.Node:
    """A node with a slice (start, size, step) of one factor of its channels, whose sizes are `shape`."""
    done: dict[int | float, n.Node] = {}
    if node.drawn:
        refuse(where, "it picks heads or channels whose scores are drawn", "contract all of them")

    def visit(node: n.Node) -> n.Node:
        if node.number not in done:
            done[node.number] = _rebuilt(node)
        return done[node.number]

    def _rebuilt(node: n.Node) -> n.Node:
        if isinstance(node, n.Fixed):
            return _fixed(node, shape, axis, cut)
        if isinstance(node, n.Vector | n.Use | n.Lookup | Mask):
            if not (node.gaussian or isinstance(node, Mask)):
                refuse(where, "it slices the channels of a depthwise convolution", "slice before it")
            key = _key(where, node.key, shape, axis, cut)
            return _renewed(node, key=key, leaves=graph.bit(key))
        if isinstance(node, n.Carried):
            refuse(where, "it slices channels that a loop carries", "slice after a layer of its own")
        children = {
            name: _map(getattr(node, name), visit)
            for name in ("terms", "factors", "root", "roots", "child", "children")
            if hasattr(node, name)
        }
        leaves = 0
        for inner in _nodes(children):
            leaves |= inner.leaves
        return _renewed(node, leaves=leaves, **children)

    return visit(node)


def _renewed(node: n.Node, **changes: Any) -> n.Node:
    return dataclasses.replace(node, number=next(COUNTER), **changes)


def _map(value: Any, visit: Any) -> Any:
    if isinstance(value, n.Node):
        return visit(value)
    if isinstance(value, tuple):
        return tuple(_map(v, visit) for v in value)
    return value


def _nodes(value: Any) -> list[n.Node]:
    if isinstance(value, n.Node):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [node for v in inner for node in _nodes(v)]


def _key(where: Site, key: views.Key, shape: tuple[int, ...], axis: int, cut: tuple[int, int, int]) -> views.Key:
    parts = views.split(key.free, shape)
    piece = None if parts is None else views.cut(parts[axis], *cut)
    if parts is None or piece is None:
        refuse(where, "it slices channels across the axes of a parameter", "slice along its axes")
    free = views.joined((*parts[:axis], piece[1], *parts[axis + 1 :]))
    return key._replace(offset=key.offset + piece[0], free=free)


def _fixed(node: n.Fixed, shape: tuple[int, ...], axis: int, cut: tuple[int, int, int]) -> n.Node:
    start, size, step = cut
    index = node.index
    where = (slice(None),) * (len(index) + axis) + (slice(start, start + size * step, step),)
    flat = (*index, node.det.shape[-1] // shape[axis] * size)
    det = spread((node.det,), flat, lambda v: v[0].reshape(*index, *shape)[where].reshape(flat))
    return _renewed(node, det=det)
