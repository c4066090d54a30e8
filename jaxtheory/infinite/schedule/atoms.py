"""Pairs of weights, parameters and inputs of one kind: where covariances begin."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph import joint_index
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.arrays import Entry, Mask, as_left, as_right, on_diagonal, scale, spot, stretch, total
from jaxtheory.infinite.graph.nodes import AxisRole, Node, Random, Shape
from jaxtheory.infinite.graph.windows import Window, sliding_sum
from jaxtheory.infinite.schedule import dropout
from jaxtheory.infinite.schedule.computation import Computation, Given, plan_of, quantity
from jaxtheory.infinite.schedule.requests import Plan, Sides


def _require_same_key(a: Random, b: Random) -> None:
    if a.key != b.key or a.key.loops != b.key.loops:
        reason = f"it uses entries of a parameter that {b.site.operation} at {b.site.place} uses in another way"
        refuse(a.site, reason, "untie them (a weight and its transpose are correlated in training)")


def _layers(c: Computation, a: n.LinearLayer, b: n.LinearLayer, sides: Sides, mask: Mask) -> Plan:
    _require_same_key(a, b)
    if a.roles != b.roles or [m for _, m in a.pieces] != [m for _, m in b.pieces]:
        refuse(a.site, f"its weights are used in another way by {b.site.operation} at {b.site.place}", "untie them")
    inner = tuple(role not in ("sum", "own") and mask[axis] for axis, role in enumerate(a.roles))
    counts, shape = [float(m) for _, m in a.pieces], joint_index([x for x, _ in (*a.pieces, *b.pieces)])
    contract = _contraction(a.roles, inner, mask, shape)

    def make(given: Given) -> Entry:
        kernel = total(scale(m, entry.kernel) for m, entry in zip(counts, given.entries, strict=True))
        tangent = total(scale(m, entry.tangent) for m, entry in zip(counts, given.entries, strict=True))
        summed = Entry(kernel, tangent).map(contract)
        own = scale(c.number(a.weight), summed.kernel) if c.moving(sides) else None
        if a.zero:
            return Entry(None, own)
        below = summed.times(c.number(a.variance))
        return Entry(below.kernel, total([own, below.tangent]))

    return plan_of(make, pairs=[c.ask(x, y, sides, inner) for (x, _), (y, _) in zip(a.pieces, b.pieces, strict=True)])


def _contraction(
    roles: tuple[AxisRole, ...], inner: Mask, mask: Mask, sizes: Shape
) -> Callable[[jax.Array], jax.Array]:
    def contract(array: jax.Array) -> jax.Array:
        for axis, role in enumerate(roles):
            at = spot(inner, axis)
            if isinstance(role, Window):
                ends = (at, at + 1) if inner[axis] else (at,)
                for end in ends:
                    array = stretch(array, end, sizes[axis])
                array = sliding_sum(array, ends, role)
            elif role == "sum":
                array = stretch(array, at, sizes[axis]).sum(at, keepdims=True)
        for axis in reversed(range(len(roles))):
            if mask[axis] and not inner[axis]:
                at = spot(inner, axis)
                own = roles[axis] == "own"
                array = on_diagonal(stretch(array, at, sizes[axis]), at) if own else jnp.expand_dims(array, at + 1)
        return array

    return contract


def _vectors(c: Computation, a: n.ParameterVector, b: n.ParameterVector, sides: Sides, mask: Mask) -> Plan:
    _require_same_key(a, b)
    if a.own != b.own:
        refuse(a.site, f"its entries serve other places in {b.site.operation} at {b.site.place}", "untie them")

    def make(_: Given) -> Entry:
        one = dropout.same_entry(c, a.index, a.own, mask)
        kernel = None if a.zero else c.number(a.variance) * one
        return Entry(kernel, c.number(a.weight) * one if c.moving(sides) else None)

    return plan_of(make)


def _embeddings(c: Computation, a: n.Embedding, b: n.Embedding, sides: Sides, mask: Mask) -> Plan:
    _require_same_key(a, b)

    def make(given: Given) -> Entry:
        first, second = (jnp.asarray(given.array(i)) for i in (0, 1))
        same = (as_left(first, mask) == as_right(second, mask)).astype(c.dtype)
        return Entry(c.number(a.variance) * same, c.number(a.weight) * same if c.moving(sides) else None)

    return plan_of(make, dets=[quantity(a.tokens, sides[0]), quantity(b.tokens, sides[1])])


def _deterministic(
    c: Computation, a: n.DeterministicVector, b: n.DeterministicVector, sides: Sides, mask: Mask
) -> Plan:
    pairs, letters = len(mask) + sum(mask), "abcdefghijklmnopqrstuvwxy"
    left = "".join(letters[spot(mask, k)] for k in range(len(mask))) + "z"
    right = "".join(letters[spot(mask, k) + double] for k, double in enumerate(mask)) + "z"

    def make(given: Given) -> Entry:
        x, y = (c.array(given.array(i)) for i in (0, 1))
        for k, double in enumerate(mask):
            if not double and x.shape[k] != y.shape[k]:
                size = max(x.shape[k], y.shape[k])
                x, y = stretch(x, k, size), stretch(y, k, size)
        kernel = jnp.einsum(f"{left},{right}->{letters[:pairs]}", x, y, precision="highest")
        return Entry(kernel / x.shape[-1], None)

    return plan_of(make, dets=[quantity(a.det, sides[0]), quantity(b.det, sides[1])])


ATOMS: dict[type[Node], Callable[..., Plan]] = {
    n.LinearLayer: _layers, n.ParameterVector: _vectors, n.Embedding: _embeddings,
    n.DeterministicVector: _deterministic, n.Mask: dropout.pair,
}  # fmt: skip
