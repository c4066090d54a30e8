"""Pairs of which one is a sum or a linear map of other nodes: x is that one, on the left if `first`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph import ONE
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.arrays import Average, Entry, Mask, left, narrow, right, spot, stretch, total, with_rank
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.schedule.computation import Computation, Given, mean_of, plan_of, quantity
from jaxtheory.infinite.schedule.requests import Drawn, Need, Plan, Sides


class Where(NamedTuple):
    """A pair of a node x with another: between which examples, on which places, and whether x is on the left."""

    sides: Sides
    mask: Mask
    first: bool

    @property
    def own(self) -> int:
        """The example of x."""
        return self.sides[not self.first]

    @property
    def opposite(self) -> int:
        """The example of the other node."""
        return self.sides[self.first]

    def ask(self, c: Computation, x: Node, other: Node, mask: Mask) -> Need | None:
        """A request for a pair of nodes that they are made of."""
        return c.ask(x, other, self.sides, mask) if self.first else c.ask(other, x, self.sides, mask)


LinearRule = Callable[..., Plan]  # of a computation, x, the other node and `Where`


def _sum(c: Computation, x: n.Sum, other: Node, at: Where) -> Plan:
    dets = [d for d, _ in x.terms if d is not ONE] + list(x.constants)
    plain = bool(x.constants) and not other.centered
    place, opposite = (left, right) if at.first else (right, left)
    rank = len(at.mask)

    def make(given: Given) -> Entry:
        factors = iter([place(with_rank(c.array(given.array(i)), rank), at.mask) for i in range(len(dets))])
        kernels, tangents = [], []
        for (d, _), entry in zip(x.terms, given.entries, strict=True):
            factor = None if d is ONE else next(factors)
            scaled = entry if factor is None else entry.times(factor)
            kernels.append(scaled.kernel)
            tangents.append(scaled.tangent)
        mean = opposite(given.averages[0], at.mask) if plain else None
        if mean is not None:
            kernels += [factor * mean for factor in factors if factor is not None]
        return Entry(total(kernels), total(tangents))

    pairs = [at.ask(c, node, other, at.mask) for _, node in x.terms]
    averages = [mean_of(other, at.opposite)] if plain else []
    return plan_of(make, pairs=pairs, averages=averages, dets=[quantity(d, at.own) for d in dets])


def _linear_map(c: Computation, x: n.LinearMap, other: Node, at: Where) -> Plan:
    axis, how, size, mask = x.axis, x.map, x.child.index[x.axis], at.mask
    same = isinstance(other, n.LinearMap) and (other.axis, other.map.key) == (axis, how.key)
    alike = isinstance(other, n.LinearMap) and same and other.child.index[axis] == size
    inner = mask if alike and how.selects else (*mask[:axis], True, *mask[axis + 1 :])
    partner = other.child if isinstance(other, n.LinearMap) and alike else other
    dets = [] if how.det is None else [quantity(how.det, s) for s in (at.sides if alike else (at.own,))]
    start = spot(inner, axis)
    ends = (0, 1) if alike and inner[axis] else (0,) if at.first or not inner[axis] else (1,)
    drawn = how.det is not None and any(how.det.copies)
    if drawn and not alike and other.drawn:
        refuse(x.site, f"its scores are drawn and meet those of {other.site.operation}", "put weights between the two")

    def apply(array: jax.Array, matrices: list[Numbers | None]) -> jax.Array:
        for k, end in enumerate(ends):
            array = stretch(array, start + end, size)
            array = how.apply(array, start + end, matrices[min(k, len(matrices) - 1)] if matrices else None)
        return narrow(array, inner, mask)

    def make(given: Given) -> Entry:
        entry = given.entries[0]
        found = entry.map(lambda v: apply(v, [d.value if isinstance(d, Drawn) else d for d in given.dets]))
        if not (drawn and alike and c.moving(at.sides)) or entry.kernel is None:
            return found
        slopes: list[Numbers | None] = [d.tangent for d in given.dets if isinstance(d, Drawn)]
        return found._replace(tangent=total([found.tangent, apply(entry.kernel, slopes)]))

    return plan_of(make, pairs=[at.ask(c, x.child, partner, inner)], dets=dets)


def _concatenate(c: Computation, x: n.Concatenate, other: Node, at: Where) -> Plan:
    axis, mask = x.axis, at.mask
    sizes = [child.index[axis] for child in x.children]
    alike = isinstance(other, n.Concatenate) and not mask[axis] and [k.index[axis] for k in other.children] == sizes
    inner = mask if alike else (*mask[:axis], True, *mask[axis + 1 :])
    partners = other.children if isinstance(other, n.Concatenate) and alike else (other,) * len(sizes)
    start = spot(inner, axis) + (0 if at.first or alike else 1)

    def join(values: list[Average]) -> Average:
        found = [v for v in values if v is not None]
        if not found:
            return None
        common = jnp.broadcast_shapes(*((*v.shape[:start], 1, *v.shape[start + 1 :]) for v in found))
        zero = jnp.zeros((), found[0].dtype)
        parts = [
            jnp.broadcast_to(zero if v is None else v, (*common[:start], m, *common[start + 1 :]))
            for v, m in zip(values, sizes, strict=True)
        ]
        return narrow(jnp.concatenate(parts, start), inner, mask)

    def make(given: Given) -> Entry:
        return Entry(join([entry.kernel for entry in given.entries]), join([entry.tangent for entry in given.entries]))

    return plan_of(make, pairs=[at.ask(c, k, p, inner) for k, p in zip(x.children, partners, strict=True)])


def _split(c: Computation, x: n.Split, other: Node, at: Where) -> Plan:
    axis, count, mask = x.axis, len(x.sizes), at.mask
    if not (isinstance(other, n.Split) and (other.axis, other.sizes) == (axis, x.sizes)):
        refuse(x.site, "an axis of places that is split meets one that is not", "split both alike")
    wide = any(mask[axis : axis + count])
    inner = (*mask[:axis], wide, *mask[axis + count :])
    start, whole = spot(inner, axis), (*mask[:axis], *(wide,) * count, *mask[axis + count :])
    size = x.child.index[axis]

    def apply(array: jax.Array) -> jax.Array:
        for end in range(1 + wide):
            array = stretch(array, start + end, size)
        array = array.reshape((*array.shape[:start], *x.sizes * (1 + wide), *array.shape[start + 1 + wide :]))
        if wide:
            order = [start + i + j * count for i in range(count) for j in range(2)]
            array = array.transpose([*range(start), *order, *range(start + 2 * count, array.ndim)])
        return narrow(array, whole, mask)

    return plan_of(lambda given: given.entries[0].map(apply), pairs=[at.ask(c, x.child, other.child, inner)])


def _flatten(c: Computation, x: n.Flatten, other: Node, at: Where) -> Plan:
    axis, count, mask = x.axis, len(x.sizes), at.mask
    if not (isinstance(other, n.Flatten) and (other.axis, other.sizes) == (axis, x.sizes)):
        refuse(x.site, "axes of places that are merged meet some that are not", "merge both alike")
    wide = mask[axis]
    inner = (*mask[:axis], *(wide,) * count, *mask[axis + 1 :])
    start, each = spot(inner, axis), 1 + wide

    def apply(array: jax.Array) -> jax.Array:
        for k, size in enumerate(x.sizes):
            for end in range(each):
                array = stretch(array, start + each * k + end, size)
        order = [start + each * k + end for end in range(each) for k in range(count)]
        array = array.transpose([*range(start), *order, *range(start + each * count, array.ndim)])
        return array.reshape((*array.shape[:start], *(x.index[axis],) * each, *array.shape[start + each * count :]))

    return plan_of(lambda given: given.entries[0].map(apply), pairs=[at.ask(c, x.child, other.child, inner)])


def _stop_gradient(c: Computation, x: n.StopGradient, other: Node, at: Where) -> Plan:
    pairs = [at.ask(c, x.child, other, at.mask)]
    return plan_of(lambda given: given.entries[0]._replace(tangent=None), pairs=pairs)


def _expand_dims(c: Computation, x: n.ExpandDims, other: Node, at: Where) -> Plan:
    if not isinstance(other, n.ExpandDims):
        refuse(x.site, "a summary of the example meets places that share its weights", "untie them")
    shape = (1,) * (len(at.mask) + sum(at.mask))
    pairs = [at.ask(c, x.child, other.child, ())]
    return plan_of(lambda given: given.entries[0].map(lambda v: v.reshape(shape)), pairs=pairs)


# in the order in which they are taken apart where two of them meet
LINEAR: dict[type[Node], LinearRule] = {
    n.Sum: _sum, n.LinearMap: _linear_map, n.Concatenate: _concatenate, n.Split: _split,
    n.Flatten: _flatten, n.StopGradient: _stop_gradient, n.ExpandDims: _expand_dims,
}  # fmt: skip
