"""Nodes as functions of the arrays of Gaussian nodes: how one channel of all positions follows from draws of others."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.arrays import stretch, with_rank
from jaxtheory.infinite.graph.deterministic import ONE
from jaxtheory.infinite.graph.expressions import evaluate
from jaxtheory.infinite.graph.graph import Graph, leaves_of
from jaxtheory.infinite.graph.nodes import Deterministic, Node, Shape
from jaxtheory.infinite.graph.windows import Window, slides
from jaxtheory.programs.sites import Site

Arrays = dict[int, jax.Array]  # over index axes, by the numbers of Gaussian nodes and of deterministic quantities
Sampler = Callable[[Arrays], jax.Array]


@dataclass
class Ingredients:
    """The Gaussian nodes and the deterministic quantities that samplers take, by number; and what is convolved."""

    roots: dict[int, Node] = field(default_factory=dict)
    dets: dict[int, Deterministic] = field(default_factory=dict)
    layers: list[Node] = field(default_factory=list)


def field_of(
    graph: Graph, where: Site, children: tuple[Node, ...], index: Shape, make: Callable[[list[jax.Array]], jax.Array]
) -> n.Field | None:
    """make(arrays of the children) as a node, None where these cannot be drawn; of use where the graph has draws."""
    if any(sampler(child, Ingredients()) is None for child in children):
        return None
    if graph.draws:
        graph.ordinal(children[0])
    return n.Field(where, index, leaves_of(children), False, False, children=children, make=make)


def sampler(node: Node, ingredients: Ingredients) -> Sampler | None:
    """A node's array from those of its ingredients, which are entered; None if it cannot be drawn."""
    if node.drawn:
        return None
    if node.gaussian:
        ingredients.roots[node.number] = node
        return lambda given: given[node.number]
    if isinstance(node, n.Sum):
        return _sum(node, ingredients)
    if isinstance(node, n.LinearLayer):
        return _depthwise(node, ingredients)
    rule = RULES.get(type(node))
    inner = [made for made in (sampler(x, ingredients) for x in node.parts) if made is not None]
    if rule is None or len(inner) < len(node.parts):
        return None
    if isinstance(node, n.LinearMap) and node.map.det is not None:
        ingredients.dets[node.map.det.number] = node.map.det
    return lambda given: rule(node, [x(given) for x in inner], given)


def _sum(node: n.Sum, ingredients: Ingredients) -> Sampler | None:
    numbers = [*(c for c, _ in node.terms), *node.constants]
    inner = [made for made in (sampler(x, ingredients) for _, x in node.terms) if made is not None]
    if len(inner) < len(node.terms) or any(any(c.copies) for c in numbers):
        return None
    ingredients.dets.update({c.number: c for c in numbers if c is not ONE})
    rank = len(node.index)

    def total(given: Arrays) -> jax.Array:
        parts = [
            made(given) if c is ONE else with_rank(given[c.number], rank) * made(given)
            for (c, _), made in zip(node.terms, inner, strict=True)
        ]
        parts += [with_rank(given[c.number], rank) for c in node.constants]
        return jnp.broadcast_to(jnp.asarray(sum(parts)), node.index)

    return total


def _depthwise(node: n.LinearLayer, ingredients: Ingredients) -> Sampler | None:
    """A channel convolved with weights of its own, Σ_t w_t h_{p+t}."""
    ((child, _),) = node.pieces
    inner, taps, roles = sampler(child, ingredients), node.taps, node.roles
    if inner is None or taps is None:
        return None
    ingredients.roots[taps.number] = taps
    ingredients.layers.append(node)
    windows = [(axis, role) for axis, role in enumerate(roles) if isinstance(role, Window)]

    def convolved(given: Arrays) -> jax.Array:
        seen = jnp.broadcast_to(inner(given), child.index)
        for done, (axis, window) in enumerate(windows):
            seen = jnp.stack(slides(seen, (axis + done,), window))
        weights = given[taps.number].reshape([window.size for _, window in windows])
        return jnp.tensordot(weights.T, seen, len(windows), precision="highest")

    return convolved


def _linear_map(x: n.LinearMap, parts: list[jax.Array], given: Arrays) -> jax.Array:
    det = None if x.map.det is None else given[x.map.det.number]
    return x.map.apply(stretch(parts[0], x.axis, x.child.index[x.axis]), x.axis, det)


def _concatenate(x: n.Concatenate, parts: list[jax.Array], _: Arrays) -> jax.Array:
    whole = [(*x.index[: x.axis], child.index[x.axis], *x.index[x.axis + 1 :]) for child in x.children]
    return jnp.concatenate([jnp.broadcast_to(p, s) for p, s in zip(parts, whole, strict=True)], x.axis)


def _reshape(x: n.Unary, parts: list[jax.Array], _: Arrays) -> jax.Array:
    return jnp.broadcast_to(parts[0], x.child.index).reshape(x.index)


def _joint(x: n.JointFunction, parts: list[jax.Array], _: Arrays) -> jax.Array:
    return evaluate(x.expression, dict(zip(dict(x.roots), parts, strict=True)))


def _field(x: n.Field, parts: list[jax.Array], _: Arrays) -> jax.Array:
    return x.make([jnp.broadcast_to(p, c.index) for p, c in zip(parts, x.children, strict=True)])


RULES: dict[type[Node], Callable[..., jax.Array]] = {
    n.Function: lambda x, parts, _: evaluate(x.expression, {"x": parts[0]}),
    n.JointFunction: _joint,
    n.Product: lambda x, parts, _: math.prod(parts[1:], start=parts[0]),
    n.LinearMap: _linear_map,
    n.Concatenate: _concatenate,
    n.Split: _reshape,
    n.Flatten: _reshape,
    n.ExpandDims: _reshape,
    n.StopGradient: lambda x, parts, _: jax.lax.stop_gradient(parts[0]),
    n.Field: _field,
}
