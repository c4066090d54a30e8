"""The calculus: how each average over channels follows from others.

For nodes a and b on two examples, with φ elementwise, W a weight of variance σ² and learning-rate weight w,

    E[φ(g) ψ(g')] and E[φ'(g) ψ'(g')] ⟨∂g, ∂g'⟩   from the covariance of the Gaussians g and g',
    E[(Wa)(Wb)'] = σ² Σ E[a b'],   ⟨∂Wa, ∂Wb'⟩ = w Σ E[a b'] + σ² Σ ⟨∂a, ∂b'⟩,

sums and linear maps go through, and a product of independent factors is the product of their averages.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxtheory.activations.duals import cross_dual, dual_pair
from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import as_left, as_right, both, narrowed, on_diagonal, product, spot, stretched, total
from jaxtheory.infinite.demand import Item, Mean, Pair, Plan, det_item
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.expressions import IDENTITY, as_function
from jaxtheory.infinite.nodes import Graph, Node, Window
from jaxtheory.infinite.products import factored
from jaxtheory.infinite.reductions import windowed

Entry = tuple[Any, Any]
ZERO: Entry = (None, None)


class Calculus:
    """Plans for requests: `tangent` are the sides between which ⟨∂a, ∂b'⟩ is wanted, or None; precision; scale."""

    def __init__(self, graph: Graph, tangent: tuple[int, int] | None, dtype: Any, scale: float) -> None:
        self.graph, self.tangent, self.dtype, self.scale = graph, tangent, dtype, scale
        self.visited: list[Node] = []

    def plan(self, item: Item, mask: Any) -> Plan:
        """What a request needs, and how it is computed."""
        if item.kind == "det":
            return self._det(item.a, item.sides[0])
        if item.kind == "mean":
            return self._mean(item.a, item.sides[0])
        if item.kind == "loop":
            return item.a.plan(self, mask)
        if item.kind == "kernel":
            asked = self.ask(item.a, item.b, item.sides, mask)
            return Plan([asked], lambda values: values[0][0]) if asked else Plan([], lambda _: None)
        self.visited += [item.a, item.b]
        return self._pair(item.a, item.b, item.sides, mask)

    def number(self, value: Any) -> Any:
        """A moment of a prior in the precision of the computation."""
        return jnp.asarray(value, self.dtype)

    def array(self, value: Any) -> Any:
        """A deterministic value as a number to compute with."""
        return jnp.asarray(value).astype(self.dtype)

    # deterministic quantities and means

    def _det(self, det: Det, side: int) -> Plan:
        if det.value is not None:
            return Plan([], lambda _: det.value)
        if det.make is None:
            return det.needs[0].outcome(det_item(det, side), None)
        make = det.make
        return Plan([self._need(need, side) for need in det.needs], make)

    def _need(self, need: Any, side: int) -> tuple[Item, Any]:
        if isinstance(need, Det):
            return det_item(need, side), None
        if isinstance(need, Mean):
            return self.mean_item(need.node, side), None
        assert isinstance(need, Pair)
        return Item("kernel", need.a, need.b, (side, side)), need.mask

    def mean_item(self, node: Node, side: int) -> Item:
        return Item("mean", node, None, (side, side))

    def _mean(self, node: Node, side: int) -> Plan:
        if node.centred:
            return Plan([], lambda _: None)
        if isinstance(node, n.Carried):
            return node.loop.outcome(Item("mean", node, None, (side, side)), None)
        rule = _MEANS.get(type(node))
        if rule is None:
            refuse(node.site, "its average over channels is not known", "keep loops free of it")
        return rule(self, node, side)

    # pairs

    def ask(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> tuple[Item, Any] | None:
        """A request for a pair, or None where it is zero for want of common parameters."""
        if self.graph.independent(a, b) and (a.centred or b.centred):
            return None
        return Item("pair", a, b, sides), mask

    def linear(
        self, asked: list[tuple[Item, Any] | None], extra: list[tuple[Item, Any]], make: Callable[..., Entry]
    ) -> Plan:
        """make(entries with (None, None) for zeros, values of extra needs)."""
        needs = [a for a in asked if a is not None]

        def assemble(values: list[Any]) -> Entry:
            given = iter(values)
            entries = [ZERO if a is None else next(given) for a in asked]
            return make(entries, list(given))

        return Plan([*needs, *extra], assemble)

    def _pair(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        if self.graph.independent(a, b):
            return self._apart(a, b, sides, mask)
        if isinstance(a, n.Function | n.Product) or isinstance(b, n.Function | n.Product):
            simple = all(isinstance(x, n.Function) or (x.gaussian and not x.zero) for x in (a, b))
            if simple:
                return self._dual(a, b, sides, mask)
        for kind in (n.Sum, n.Moved, n.Joined, n.Split, n.Stopped, n.Lifted):
            if isinstance(a, kind) and not (isinstance(b, kind) and b.number > a.number):
                return _LINEAR[kind](self, a, b, sides, mask, True)
            if isinstance(b, kind):
                return _LINEAR[kind](self, b, a, sides, mask, False)
        if isinstance(a, n.Product) or isinstance(b, n.Product):
            return self._products(a, b, sides, mask)
        for x, y in ((a, b), (b, a)):
            if (
                isinstance(x, n.Carried)
                and x.out
                and (y.number < x.loop.number or (isinstance(y, n.Carried) and y.loop is x.loop))
            ):
                return x.loop.outcome(Item("pair", a, b, sides), mask)
        rule = _ATOMS.get(type(a)) if type(a) is type(b) else None
        if rule is None:
            refuse(a.site, f"what it shares with {b.site.operation} at {b.site.line} is not known", "untie them")
        return rule(self, a, b, sides, mask)

    def _apart(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        if a.centred or b.centred:
            return Plan([], lambda _: ZERO)
        needs = [(self.mean_item(a, sides[0]), None), (self.mean_item(b, sides[1]), None)]
        return Plan(needs, lambda v: (product([_left(v[0], mask), _right(v[1], mask)]), None))

    def _dual(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        """Elementwise functions of Gaussians; a Gaussian is the identity of itself."""
        (phi, g), (psi, h) = ((x.expression, x.root) if isinstance(x, n.Function) else (IDENTITY, x) for x in (a, b))
        diagonal = (False,) * len(mask)
        own = [(Item("pair", g, g, (sides[0],) * 2), diagonal), (Item("pair", h, h, (sides[1],) * 2), diagonal)]
        wanted = sides == self.tangent
        functions = as_function(phi), as_function(psi)
        both_duals, value = dual_pair(*functions, scale=self.scale), cross_dual(*functions, scale=self.scale)

        def make(entries: list[Entry], rest: list[Entry]) -> Entry:
            (q12, slope), ((q11, _), (q22, _)) = entries[0], rest
            zero = jnp.zeros((1,) * (len(mask) + sum(mask)), self.dtype)
            left = zero if q11 is None else as_left(q11, mask)
            right = zero if q22 is None else as_right(q22, mask)
            q12 = zero if q12 is None else q12
            if not wanted or slope is None:
                return value(left, q12, right), None
            kernel, derivative = both_duals(left, q12, right)
            return kernel, derivative * slope

        return self.linear([self.ask(g, h, sides, mask)], own, make)

    def _products(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        groups = factored(self.graph, a, b)
        asked = [self.ask(x[0], y[0], sides, mask) for x, y in groups if x and y]
        means = [(self.mean_item((x or y)[0], sides[0] if x else sides[1]), None) for x, y in groups if not (x and y)]
        left = [bool(x) for x, y in groups if not (x and y)]

        def make(entries: list[Entry], values: list[Any]) -> Entry:
            outer = [_left(v, mask) if is_left else _right(v, mask) for v, is_left in zip(values, left, strict=True)]
            kernels = [k for k, _ in entries] + outer
            tangents = [product([t, *(k for j, k in enumerate(kernels) if j != i)]) for i, (_, t) in enumerate(entries)]
            return product(kernels), total(tangents)

        return self.linear(asked, means, make)


def _left(value: Any, mask: Any) -> Any:
    return None if value is None else as_left(value, mask)


def _right(value: Any, mask: Any) -> Any:
    return None if value is None else as_right(value, mask)


def _shaped(value: Any, rank: int) -> Any:
    """A coefficient over index axes, from whatever rank it came with."""
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


# linear nodes: x is the one of the given kind, on the left if `first`


def _sum(c: Calculus, x: n.Sum, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    asked = [
        None if node is None else c.ask(node if first else other, other if first else node, sides, mask)
        for _, node in x.terms
    ]
    side = sides[0] if first else sides[1]
    extra = [(det_item(d, side), None) for d, _ in x.terms if d is not None]
    plain = any(node is None for _, node in x.terms) and not other.centred
    if plain:
        extra.append((c.mean_item(other, sides[1] if first else sides[0]), None))
    place, opposite = (_left, _right) if first else (_right, _left)

    def make(entries: list[Entry], rest: list[Any]) -> Entry:
        given, mean = iter(rest), opposite(rest[-1], mask) if plain else None
        kernels, tangents = [], []
        for (d, node), (kernel, tangent) in zip(x.terms, entries, strict=True):
            factor = None if d is None else place(_shaped(c.array(next(given)), len(mask)), mask)
            kernels.append(_times(factor, mean if node is None else kernel))
            tangents.append(_times(factor, tangent))
        return total(kernels), total(tangents)

    return c.linear(asked, extra, make)


def _times(factor: Any, value: Any) -> Any:
    return value if factor is None or value is None else factor * value


def _moved(c: Calculus, x: n.Moved, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    axis, how, size = x.axis, x.map, x.child.index[x.axis]
    alike = isinstance(other, n.Moved) and (other.axis, other.map.key, other.child.index[axis]) == (axis, how.key, size)
    inner = mask if alike and how.selects else (*mask[:axis], True, *mask[axis + 1 :])
    partner = other.child if alike else other  # type: ignore[attr-defined]
    asked = c.ask(x.child if first else partner, partner if first else x.child, sides, inner)
    dets = [] if how.det is None else [(det_item(how.det, s), None) for s in (sides if alike else (sides[not first],))]
    at = spot(inner, axis)

    def apply(array: Any, matrices: list[Any]) -> Any:
        ends = (0, 1) if alike and inner[axis] else (0,) if first or not inner[axis] else (1,)
        for k, end in enumerate(ends):
            array = stretched(array, at + end, size)
            array = how.apply(array, at + end, matrices[min(k, len(matrices) - 1)] if matrices else None)
        return narrowed(array, inner, mask)

    return c.linear([asked], dets, lambda entries, rest: both(lambda v: apply(v, rest), entries[0]))


def _joined(c: Calculus, x: n.Joined, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
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


def _split(c: Calculus, x: n.Split, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
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


def _stopped(c: Calculus, x: n.Stopped, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    asked = c.ask(x.child if first else other, other if first else x.child, sides, mask)
    return c.linear([asked], [], lambda entries, _: (entries[0][0], None))


def _lifted(c: Calculus, x: n.Lifted, other: Node, sides: Any, mask: Any, first: bool) -> Plan:
    if not isinstance(other, n.Lifted):
        refuse(x.site, "a summary of the example meets places that share its weights", "untie them")
    asked = c.ask(x.child if first else other.child, other.child if first else x.child, sides, ())
    shape = (1,) * (len(mask) + sum(mask))
    return c.linear([asked], [], lambda entries, _: both(lambda v: v.reshape(shape), entries[0]))


_LINEAR: dict[type, Callable[..., Plan]] = {
    n.Sum: _sum, n.Moved: _moved, n.Joined: _joined, n.Split: _split, n.Stopped: _stopped, n.Lifted: _lifted,
}  # fmt: skip


# atoms of one kind


def _shared(a: Any, b: Any) -> None:
    if a.key != b.key or a.key.loops != b.key.loops:
        reason = f"it uses entries of a parameter that {b.site.operation} at {b.site.line} uses in another way"
        refuse(a.site, reason, "untie them (a weight and its transpose are correlated in training)")


def _uses(c: Calculus, a: n.Use, b: n.Use, sides: Any, mask: Any) -> Plan:
    _shared(a, b)
    if a.roles != b.roles or [m for _, m in a.pieces] != [m for _, m in b.pieces]:
        refuse(a.site, f"its weights are used in another way by {b.site.operation} at {b.site.line}", "untie them")
    inner: list[bool] = []
    for axis, role in enumerate(a.roles):
        inner.append(role not in ("sum", "own") and mask[axis])
    asked = [c.ask(x, y, sides, tuple(inner)) for (x, _), (y, _) in zip(a.pieces, b.pieces, strict=True)]
    counts, shape = [m for _, m in a.pieces], n.joint_index(tuple(x for x, _ in (*a.pieces, *b.pieces)))
    contract = _contraction(a.roles, tuple(inner), mask, shape)

    def make(entries: list[Entry], _: list[Any]) -> Entry:
        kernel = total([_times(float(m), k) for m, (k, _) in zip(counts, entries, strict=True)])
        tangent = total([_times(float(m), t) for m, (_, t) in zip(counts, entries, strict=True)])
        kernel, tangent = both(contract, (kernel, tangent))
        moved = _times(c.number(a.variance), tangent)
        wanted = sides == c.tangent
        own = _times(c.number(a.weight), kernel) if wanted else None
        return (None if a.zero else _times(c.number(a.variance), kernel)), total([own, None if a.zero else moved])

    return c.linear(asked, [], make)


def _contraction(roles: tuple[Any, ...], inner: Any, mask: Any, sizes: tuple[int, ...]) -> Callable[[Any], Any]:
    def contract(array: Any) -> Any:
        for axis, role in enumerate(roles):
            at = spot(inner, axis)
            if role == "sum":
                array = stretched(array, at, sizes[axis]).sum(at, keepdims=True)
            elif isinstance(role, Window):
                ends = (at, at + 1) if inner[axis] else (at,)
                for end in ends:
                    array = stretched(array, end, sizes[axis])
                array = windowed(array, ends, role)
        for axis in reversed(range(len(roles))):
            if mask[axis] and not inner[axis]:
                at = spot(inner, axis)
                own = roles[axis] == "own"
                array = on_diagonal(stretched(array, at, sizes[axis]), at) if own else jnp.expand_dims(array, at + 1)
        return array

    return contract


def _vectors(c: Calculus, a: n.Vector, b: n.Vector, sides: Any, mask: Any) -> Plan:
    _shared(a, b)
    if a.own != b.own:
        refuse(a.site, f"its entries serve other places in {b.site.operation} at {b.site.line}", "untie them")

    def make(_: list[Any]) -> Entry:
        one = jnp.ones((1,) * len(mask), c.dtype)
        for axis in reversed(range(len(mask))):
            if mask[axis]:
                one = (
                    on_diagonal(stretched(one, axis, a.index[axis]), axis)
                    if a.own[axis]
                    else jnp.expand_dims(one, axis)
                )
        wanted = sides == c.tangent
        return (None if a.zero else c.number(a.variance) * one), (c.number(a.weight) * one if wanted else None)

    return Plan([], make)


def _lookups(c: Calculus, a: n.Lookup, b: n.Lookup, sides: Any, mask: Any) -> Plan:
    _shared(a, b)

    def make(values: list[Any]) -> Entry:
        same = (as_left(values[0], mask) == as_right(values[1], mask)).astype(c.dtype)
        wanted = sides == c.tangent
        return c.number(a.variance) * same, (c.number(a.weight) * same if wanted else None)

    return Plan([(det_item(a.tokens, sides[0]), None), (det_item(b.tokens, sides[1]), None)], make)


def _fixeds(c: Calculus, a: n.Fixed, b: n.Fixed, sides: Any, mask: Any) -> Plan:
    needs = [(det_item(a.det, sides[0]), None), (det_item(b.det, sides[1]), None)]
    pairs, letters = len(mask) + sum(mask), "abcdefghijklmnopqrstuvwxy"
    left = "".join(letters[spot(mask, k)] for k in range(len(mask))) + "z"
    right = "".join(letters[spot(mask, k) + both_] for k, both_ in enumerate(mask)) + "z"

    def make(values: list[Any]) -> Entry:
        x, y = c.array(values[0]), c.array(values[1])
        for k, double in enumerate(mask):
            if not double and x.shape[k] != y.shape[k]:
                x, y = (
                    stretched(x, k, y.shape[k]) if x.shape[k] == 1 else x,
                    stretched(y, k, x.shape[k]) if y.shape[k] == 1 else y,
                )
        kernel = jnp.einsum(f"{left},{right}->{letters[:pairs]}", x, y, precision="highest")
        return kernel / x.shape[-1], None

    return Plan(needs, make)


_ATOMS: dict[type, Callable[..., Plan]] = {n.Use: _uses, n.Vector: _vectors, n.Lookup: _lookups, n.Fixed: _fixeds}


# means


def _mean_sum(c: Calculus, x: n.Sum, side: int) -> Plan:
    needs: list[tuple[Item, Any]] = []
    for d, node in x.terms:
        needs += [] if d is None else [(det_item(d, side), None)]
        needs += [] if node is None else [(c.mean_item(node, side), None)]

    def make(values: list[Any]) -> Any:
        given, terms = iter(values), []
        for d, node in x.terms:
            factor = None if d is None else _shaped(c.array(next(given)), len(x.index))
            terms.append(factor if node is None else _times(factor, next(given)))
        return total(terms)

    return Plan(needs, make)


def _mean_product(c: Calculus, x: n.Product, side: int) -> Plan:
    diagonal = (False,) * len(x.index)
    groups = factored(c.graph, x, None)
    needs: list[tuple[Item, Any]] = []
    for group, _ in groups:
        needs.append(
            (c.mean_item(group[0], side), None)
            if len(group) == 1
            else (Item("kernel", group[0], group[1], (side, side)), diagonal)
        )
    return Plan(needs, product)


def _mean_function(c: Calculus, x: n.Function, side: int) -> Plan:
    mean = cross_dual(as_function(x.expression), jnp.ones_like, scale=c.scale)

    def make(values: list[Any]) -> Any:
        q = values[0][0]
        q = jnp.zeros((1,) * len(x.index), c.dtype) if q is None else q
        return mean(q, jnp.zeros_like(q), q)

    return Plan([(Item("pair", x.root, x.root, (side, side)), (False,) * len(x.index))], make)


def _mean_moved(c: Calculus, x: n.Moved, side: int) -> Plan:
    needs = [(c.mean_item(x.child, side), None)] + ([] if x.map.det is None else [(det_item(x.map.det, side), None)])

    def make(values: list[Any]) -> Any:
        value = stretched(values[0], x.axis, x.child.index[x.axis])
        return x.map.apply(value, x.axis, values[1] if len(values) > 1 else None)

    return Plan(needs, make)


def _mean_joined(c: Calculus, x: n.Joined, side: int) -> Plan:
    def make(values: list[Any]) -> Any:
        zero = jnp.zeros((), c.dtype)
        parts = [
            jnp.broadcast_to(zero if v is None else v, child.index) for v, child in zip(values, x.children, strict=True)
        ]
        return jnp.concatenate(parts, x.axis)

    return Plan([(c.mean_item(child, side), None) for child in x.children], make)


def _mean_split(c: Calculus, x: n.Split, side: int) -> Plan:
    def make(values: list[Any]) -> Any:
        value = stretched(values[0], x.axis, x.child.index[x.axis])
        return value.reshape(*value.shape[: x.axis], *x.sizes, *value.shape[x.axis + 1 :])

    return Plan([(c.mean_item(x.child, side), None)], make)


def _mean_fixed(c: Calculus, x: n.Fixed, side: int) -> Plan:
    return Plan([(det_item(x.det, side), None)], lambda v: c.array(v[0]).mean(-1))


def _mean_child(c: Calculus, x: Any, side: int) -> Plan:
    return Plan(
        [(c.mean_item(x.child, side), None)],
        lambda v: v[0].reshape((1,) * len(x.index)) if isinstance(x, n.Lifted) else v[0],
    )


_MEANS: dict[type, Callable[..., Plan]] = {
    n.Sum: _mean_sum, n.Product: _mean_product, n.Function: _mean_function, n.Fixed: _mean_fixed,
    n.Moved: _mean_moved, n.Joined: _mean_joined, n.Split: _mean_split, n.Stopped: _mean_child, n.Lifted: _mean_child,
}  # fmt: skip
