"""Averages of one node over channels."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxtheory.activations.duals import unchecked_dual
from jaxtheory.infinite import coordinates, fields, masks
from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import (
    product,
    shaped,
    stretched,
    times,
    total,
)
from jaxtheory.infinite.demand import Item, Plan, det_item
from jaxtheory.infinite.expressions import as_function
from jaxtheory.infinite.products import factored


def _mean_sum(c: Any, x: n.Sum, side: int) -> Plan:
    needs: list[tuple[Item, Any]] = []
    for d, node in x.terms:
        needs += [] if d is None else [(det_item(d, side), None)]
        needs += [] if node is None else [(c.mean_item(node, side), None)]

    def make(values: list[Any]) -> Any:
        given, terms = iter(values), []
        for d, node in x.terms:
            factor = None if d is None else shaped(c.array(next(given)), len(x.index))
            terms.append(factor if node is None else times(factor, next(given)))
        return total(terms)

    return Plan(needs, make)


def _mean_product(c: Any, x: n.Product, side: int) -> Plan:
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


def _mean_function(c: Any, x: n.Function, side: int) -> Plan:
    mean = unchecked_dual(as_function(x.expression), jnp.ones_like, c.scale)

    def make(values: list[Any]) -> Any:
        q = values[0][0]
        q = jnp.zeros((1,) * len(x.index), c.dtype) if q is None else q
        return mean(q, jnp.zeros_like(q), q)

    return Plan([(Item("pair", x.root, x.root, (side, side)), (False,) * len(x.index))], make)


def _mean_moved(c: Any, x: n.Moved, side: int) -> Plan:
    needs = [(c.mean_item(x.child, side), None)] + ([] if x.map.det is None else [(det_item(x.map.det, side), None)])

    def make(values: list[Any]) -> Any:
        value = stretched(values[0], x.axis, x.child.index[x.axis])
        return x.map.apply(value, x.axis, values[1] if len(values) > 1 else None)

    return Plan(needs, make)


def _mean_joined(c: Any, x: n.Joined, side: int) -> Plan:
    def make(values: list[Any]) -> Any:
        zero = jnp.zeros((), c.dtype)
        parts = [
            jnp.broadcast_to(zero if v is None else v, child.index) for v, child in zip(values, x.children, strict=True)
        ]
        return jnp.concatenate(parts, x.axis)

    return Plan([(c.mean_item(child, side), None) for child in x.children], make)


def _mean_split(c: Any, x: n.Split, side: int) -> Plan:
    def make(values: list[Any]) -> Any:
        value = stretched(values[0], x.axis, x.child.index[x.axis])
        return value.reshape(*value.shape[: x.axis], *x.sizes, *value.shape[x.axis + 1 :])

    return Plan([(c.mean_item(x.child, side), None)], make)


def _mean_flattened(c: Any, x: n.Flattened, side: int) -> Plan:
    def make(values: list[Any]) -> Any:
        value = values[0]
        for k, size in enumerate(x.sizes):
            value = stretched(value, x.axis + k, size)
        return value.reshape(*value.shape[: x.axis], -1, *value.shape[x.axis + len(x.sizes) :])

    return Plan([(c.mean_item(x.child, side), None)], make)


def _mean_fixed(c: Any, x: n.Fixed, side: int) -> Plan:
    return Plan([(det_item(x.det, side), None)], lambda v: c.array(v[0]).mean(-1))


def _mean_child(c: Any, x: Any, side: int) -> Plan:
    return Plan(
        [(c.mean_item(x.child, side), None)],
        lambda v: v[0].reshape((1,) * len(x.index)) if isinstance(x, n.Lifted) else v[0],
    )


MEANS: dict[type, Callable[..., Plan]] = {
    n.Joint: coordinates.mean, masks.Mask: masks.mean, fields.Field: fields.mean,
    n.Sum: _mean_sum, n.Product: _mean_product, n.Function: _mean_function, n.Fixed: _mean_fixed,
    n.Moved: _mean_moved, n.Joined: _mean_joined, n.Split: _mean_split,
    n.Flattened: _mean_flattened, n.Stopped: _mean_child, n.Lifted: _mean_child,
}  # fmt: skip
