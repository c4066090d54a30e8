"""Pairs of weights, parameters and inputs of one kind: where covariances begin."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxtheory.infinite import masks
from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import (
    as_left,
    as_right,
    both,
    on_diagonal,
    spot,
    stretched,
    times,
    total,
)
from jaxtheory.infinite.demand import Plan, det_item
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.nodes import Window
from jaxtheory.infinite.reductions import windowed

Entry = tuple[Any, Any]


def _shared(a: Any, b: Any) -> None:
    if a.key != b.key or a.key.loops != b.key.loops:
        reason = f"it uses entries of a parameter that {b.site.operation} at {b.site.place} uses in another way"
        refuse(a.site, reason, "untie them (a weight and its transpose are correlated in training)")


def _uses(c: Any, a: n.Use, b: n.Use, sides: Any, mask: Any) -> Plan:
    _shared(a, b)
    if a.roles != b.roles or [m for _, m in a.pieces] != [m for _, m in b.pieces]:
        refuse(a.site, f"its weights are used in another way by {b.site.operation} at {b.site.place}", "untie them")
    inner: list[bool] = []
    for axis, role in enumerate(a.roles):
        inner.append(role not in ("sum", "own") and mask[axis])
    asked = [c.ask(x, y, sides, tuple(inner)) for (x, _), (y, _) in zip(a.pieces, b.pieces, strict=True)]
    counts, shape = [m for _, m in a.pieces], n.joint_index(tuple(x for x, _ in (*a.pieces, *b.pieces)))
    contract = _contraction(a.roles, tuple(inner), mask, shape)

    def make(entries: list[Entry], _: list[Any]) -> Entry:
        kernel = total([times(float(m), k) for m, (k, _) in zip(counts, entries, strict=True)])
        tangent = total([times(float(m), t) for m, (_, t) in zip(counts, entries, strict=True)])
        kernel, tangent = both(contract, (kernel, tangent))
        moved = times(c.number(a.variance), tangent)
        wanted = c.moving(sides)
        own = times(c.number(a.weight), kernel) if wanted else None
        return (None if a.zero else times(c.number(a.variance), kernel)), total([own, None if a.zero else moved])

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


def _vectors(c: Any, a: n.Vector, b: n.Vector, sides: Any, mask: Any) -> Plan:
    _shared(a, b)
    if a.own != b.own:
        refuse(a.site, f"its entries serve other places in {b.site.operation} at {b.site.place}", "untie them")

    def make(_: list[Any]) -> Entry:
        one = jnp.ones((1,) * len(mask), c.dtype)
        for axis in reversed(range(len(mask))):
            if mask[axis]:
                one = (
                    on_diagonal(stretched(one, axis, a.index[axis]), axis)
                    if a.own[axis]
                    else jnp.expand_dims(one, axis)
                )
        wanted = c.moving(sides)
        return (None if a.zero else c.number(a.variance) * one), (c.number(a.weight) * one if wanted else None)

    return Plan([], make)


def _lookups(c: Any, a: n.Lookup, b: n.Lookup, sides: Any, mask: Any) -> Plan:
    _shared(a, b)

    def make(values: list[Any]) -> Entry:
        same = (as_left(values[0], mask) == as_right(values[1], mask)).astype(c.dtype)
        wanted = c.moving(sides)
        return c.number(a.variance) * same, (c.number(a.weight) * same if wanted else None)

    return Plan([(det_item(a.tokens, sides[0]), None), (det_item(b.tokens, sides[1]), None)], make)


def _fixeds(c: Any, a: n.Fixed, b: n.Fixed, sides: Any, mask: Any) -> Plan:
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


ATOMS: dict[type, Callable[..., Plan]] = {
    n.Use: _uses, n.Vector: _vectors, n.Lookup: _lookups, n.Fixed: _fixeds, masks.Mask: masks.pair,
}  # fmt: skip
