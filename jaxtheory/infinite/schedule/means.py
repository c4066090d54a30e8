"""Averages of one node over channels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxtheory.activations.duals import unchecked_dual
from jaxtheory.infinite.graph import ONE
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.arrays import Average, product, stretch, total, with_rank
from jaxtheory.infinite.graph.expressions import as_function
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.schedule import coordinates, dropout, fields
from jaxtheory.infinite.schedule.computation import Computation, Given, mean_of, plan_of, quantity, variance
from jaxtheory.infinite.schedule.products import factor_groups
from jaxtheory.infinite.schedule.requests import Item, Need, Plan


def _sum(c: Computation, x: n.Sum, side: int) -> Plan:
    dets = [d for d, _ in x.terms if d is not ONE] + list(x.constants)

    def make(given: Given) -> Average:
        factors = iter([with_rank(c.array(given.array(i)), len(x.index)) for i in range(len(dets))])
        terms = []
        for (d, _), mean in zip(x.terms, given.averages, strict=True):
            factor = None if d is ONE else next(factors)
            terms.append(mean if factor is None or mean is None else factor * mean)
        return total([*terms, *factors])

    averages = [mean_of(node, side) for _, node in x.terms]
    return plan_of(make, averages=averages, dets=[quantity(d, side) for d in dets])


def _product(c: Computation, x: n.Product, side: int) -> Plan:
    diagonal = (False,) * len(x.index)
    groups = [group for group, _ in factor_groups(c.graph, x, None)]
    averages: list[Need | Item] = [
        mean_of(g[0], side) if len(g) == 1 else (Item("kernel", g[0], g[1], (side, side)), diagonal) for g in groups
    ]
    return plan_of(lambda given: product(given.averages), averages=averages)


def _function(c: Computation, x: n.Function, side: int) -> Plan:
    mean = unchecked_dual(as_function(x.expression), jnp.ones_like, c.scale)

    def make(given: Given) -> jax.Array:
        kernel = given.entries[0].kernel
        q = jnp.zeros((1,) * len(x.index), c.dtype) if kernel is None else kernel
        return mean(q, jnp.zeros_like(q), q)

    return plan_of(make, pairs=[variance(x.root, side)])


def _of_child(x: n.Unary, side: int, change: Callable[[jax.Array], jax.Array]) -> Plan:
    """A linear map of the mean of the node's child."""

    def make(given: Given) -> Average:
        mean = given.averages[0]
        return None if mean is None else change(mean)

    return plan_of(make, averages=[mean_of(x.child, side)])


def _linear_map(c: Computation, x: n.LinearMap, side: int) -> Plan:
    dets = [] if x.map.det is None else [quantity(x.map.det, side)]

    def make(given: Given) -> Average:
        mean = given.averages[0]
        if mean is None:
            return None
        return x.map.apply(stretch(mean, x.axis, x.child.index[x.axis]), x.axis, given.array(0) if dets else None)

    return plan_of(make, averages=[mean_of(x.child, side)], dets=dets)


def _concatenate(c: Computation, x: n.Concatenate, side: int) -> Plan:
    def make(given: Given) -> jax.Array:
        zero = jnp.zeros((), c.dtype)
        means = zip(given.averages, x.children, strict=True)
        return jnp.concatenate([jnp.broadcast_to(zero if v is None else v, child.index) for v, child in means], x.axis)

    return plan_of(make, averages=[mean_of(child, side) for child in x.children])


def _split(c: Computation, x: n.Split, side: int) -> Plan:
    def change(mean: jax.Array) -> jax.Array:
        value = stretch(mean, x.axis, x.child.index[x.axis])
        return value.reshape((*value.shape[: x.axis], *x.sizes, *value.shape[x.axis + 1 :]))

    return _of_child(x, side, change)


def _flatten(c: Computation, x: n.Flatten, side: int) -> Plan:
    def change(mean: jax.Array) -> jax.Array:
        for k, size in enumerate(x.sizes):
            mean = stretch(mean, x.axis + k, size)
        return mean.reshape((*mean.shape[: x.axis], -1, *mean.shape[x.axis + len(x.sizes) :]))

    return _of_child(x, side, change)


def _deterministic(c: Computation, x: n.DeterministicVector, side: int) -> Plan:
    return plan_of(lambda given: c.array(given.array(0)).mean(-1), dets=[quantity(x.det, side)])


def _stop_gradient(c: Computation, x: n.StopGradient, side: int) -> Plan:
    return _of_child(x, side, lambda mean: mean)


def _expand_dims(c: Computation, x: n.ExpandDims, side: int) -> Plan:
    return _of_child(x, side, lambda mean: mean.reshape((1,) * len(x.index)))


MEANS: dict[type[Node], Callable[..., Plan]] = {
    n.JointFunction: coordinates.mean, n.Mask: dropout.mean, n.Field: fields.mean,
    n.Sum: _sum, n.Product: _product, n.Function: _function, n.DeterministicVector: _deterministic,
    n.LinearMap: _linear_map, n.Concatenate: _concatenate, n.Split: _split,
    n.Flatten: _flatten, n.StopGradient: _stop_gradient, n.ExpandDims: _expand_dims,
}  # fmt: skip
