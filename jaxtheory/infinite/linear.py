"""Pairs of which one is a sum or a linear map of other nodes: x is that one, on the left if `first`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import (
    both,
    left,
    narrowed,
    right,
    shaped,
    spot,
    stretched,
    times,
    total,
)
from jaxtheory.infinite.demand import Plan, det_item
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.nodes import Node

Entry = tuple[Any, Any]


def _sum(c: Any, x: n.Sum, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    asked = [
        None if node is None else c.ask(node if first else other, other if first else node, sides, mask)
        for _, node in x.terms
    ]
    side = sides[0] if first else sides[1]
    extra = [(det_item(d, side), None) for d, _ in x.terms if d is not None]
    plain = any(node is None for _, node in x.terms) and not other.centred
    if plain:
        extra.append((c.mean_item(other, sides[1] if first else sides[0]), None))
    place, opposite = (left, right) if first else (right, left)

    def make(entries: list[Entry], rest: list[Any]) -> Entry:
        given, mean = iter(rest), opposite(rest[-1], mask) if plain else None
        kernels, tangents = [], []
        for (d, node), (kernel, tangent) in zip(x.terms, entries, strict=True):
            factor = None if d is None else place(shaped(c.array(next(given)), len(mask)), mask)
            kernels.append(times(factor, mean if node is None else kernel))
            tangents.append(times(factor, tangent))
        return total(kernels), total(tangents)

    return c.linear(asked, extra, make)


def _moved(c: Any, x: n.Moved, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    axis, how, size = x.axis, x.map, x.child.index[x.axis]
    alike = isinstance(other, n.Moved) and (other.axis, other.map.key, other.child.index[axis]) == (axis, how.key, size)
    inner = mask if alike and how.selects else (*mask[:axis], True, *mask[axis + 1 :])
    partner = other.child if alike else other  # type: ignore[attr-defined]
    asked = c.ask(x.child if first else partner, partner if first else x.child, sides, inner)
    dets = [] if how.det is None else [(det_item(how.det, s), None) for s in (sides if alike else (sides[not first],))]
    at = spot(inner, axis)

    drawn = how.det is not None and any(how.det.copies)
    if drawn and not alike and other.drawn:
        refuse(x.site, f"its scores are drawn and meet those of {other.site.operation}", "put weights between the two")

    def apply(array: Any, matrices: list[Any]) -> Any:
        ends = (0, 1) if alike and inner[axis] else (0,) if first or not inner[axis] else (1,)
        for k, end in enumerate(ends):
            array = stretched(array, at + end, size)
            array = how.apply(array, at + end, matrices[min(k, len(matrices) - 1)] if matrices else None)
        return narrowed(array, inner, mask)

    def make(entries: list[Entry], rest: list[Any]) -> Entry:
        if not drawn:
            return both(lambda v: apply(v, rest), entries[0])
        kernel, tangent = both(lambda v: apply(v, [r.value for r in rest]), entries[0])
        if not (alike and c.moving(sides)) or kernel is None:
            return kernel, tangent
        return kernel, total([tangent, apply(entries[0][0], [r.tangent for r in rest])])

    return c.linear([asked], dets, make)


def _joined(c: Any, x: n.Joined, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    axis = x.axis
    sizes = [child.index[axis] for child in x.children]
    alike = isinstance(other, n.Joined) and not mask[axis] and [k.index[axis] for k in other.children] == sizes
    inner = mask if alike else (*mask[:axis], True, *mask[axis + 1 :])
    partners = other.children if alike else [other] * len(sizes)  # type: ignore[attr-defined]
    asked = [
        c.ask(child if first else p, p if first else child, sides, inner)
        for child, p in zip(x.children, partners, strict=True)
    ]
    at = spot(inner, axis) + (0 if first or alike else 1)

    def join(values: list[Any]) -> Any:
        if all(v is None for v in values):
            return None
        like = next(v for v in values if v is not None)
        shapes = [(*like.shape[:at], m, *like.shape[at + 1 :]) for m in sizes]
        common = jnp.broadcast_shapes(*((*v.shape[:at], 1, *v.shape[at + 1 :]) for v in values if v is not None))
        parts = [
            jnp.broadcast_to(jnp.zeros((), like.dtype) if v is None else v, (*common[:at], s[at], *common[at + 1 :]))
            for v, s in zip(values, shapes, strict=True)
        ]
        return narrowed(jnp.concatenate(parts, at), inner, mask)

    return c.linear(asked, [], lambda entries, _: (join([k for k, _ in entries]), join([t for _, t in entries])))


def _split(c: Any, x: n.Split, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    axis, count = x.axis, len(x.sizes)
    if not (isinstance(other, n.Split) and (other.axis, other.sizes) == (axis, x.sizes)):
        refuse(x.site, "an axis of places that is split meets one that is not", "split both alike")
    wide = any(mask[axis : axis + count])
    inner = (*mask[:axis], wide, *mask[axis + count :])
    asked = c.ask(x.child if first else other.child, other.child if first else x.child, sides, inner)
    at, whole = spot(inner, axis), (*mask[:axis], *(wide,) * count, *mask[axis + count :])
    size = x.child.index[axis]

    def apply(array: Any) -> Any:
        for end in range(1 + wide):
            array = stretched(array, at + end, size)
        shape = (*array.shape[:at], *x.sizes * (1 + wide), *array.shape[at + 1 + wide :])
        array = array.reshape(shape)
        if wide:
            order = [at + i + j * count for i in range(count) for j in range(2)]
            array = array.transpose([*range(at), *order, *range(at + 2 * count, array.ndim)])
        return narrowed(array, whole, mask)

    return c.linear([asked], [], lambda entries, _: both(apply, entries[0]))


def _flattened(c: Any, x: n.Flattened, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    axis, count = x.axis, len(x.sizes)
    if not (isinstance(other, n.Flattened) and (other.axis, other.sizes) == (axis, x.sizes)):
        refuse(x.site, "axes of places that are merged meet some that are not", "merge both alike")
    wide = mask[axis]
    inner = (*mask[:axis], *(wide,) * count, *mask[axis + 1 :])
    asked = c.ask(x.child if first else other.child, other.child if first else x.child, sides, inner)
    at, each = spot(inner, axis), 1 + wide

    def apply(array: Any) -> Any:
        for k, size in enumerate(x.sizes):
            for end in range(each):
                array = stretched(array, at + each * k + end, size)
        order = [at + each * k + end for end in range(each) for k in range(count)]
        array = array.transpose([*range(at), *order, *range(at + each * count, array.ndim)])
        return array.reshape(*array.shape[:at], *(x.index[axis],) * each, *array.shape[at + each * count :])

    return c.linear([asked], [], lambda entries, _: both(apply, entries[0]))


def _stopped(c: Any, x: n.Stopped, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    asked = c.ask(x.child if first else other, other if first else x.child, sides, mask)
    return c.linear([asked], [], lambda entries, _: (entries[0][0], None))


def _lifted(c: Any, x: n.Lifted, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    if not isinstance(other, n.Lifted):
        refuse(x.site, "a summary of the example meets places that share its weights", "untie them")
    asked = c.ask(x.child if first else other.child, other.child if first else x.child, sides, ())
    shape = (1,) * (len(mask) + sum(mask))
    return c.linear([asked], [], lambda entries, _: both(lambda v: v.reshape(shape), entries[0]))


LINEAR: dict[type, Callable[..., Plan]] = {
    n.Sum: _sum, n.Moved: _moved, n.Joined: _joined, n.Split: _split,
    n.Flattened: _flattened, n.Stopped: _stopped, n.Lifted: _lifted,
}  # fmt: skip
