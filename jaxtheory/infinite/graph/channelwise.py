"""Nodes whose channels differ by known numbers, as those of rotary positions: linear in others, channel by channel.

With c a vector of numbers over channels, Σ_r c_r g_r is a Gaussian in every channel, with a variance of its own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.arrays import with_rank
from jaxtheory.infinite.graph.deterministic import ONE
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Deterministic, DeterministicVector, Node
from jaxtheory.infinite.graph.samplers import RULES, Arrays, Ingredients, Sampler


class Linear(NamedTuple):
    """A function of the arrays of one channel, homogeneous of some degree in those of its roots."""

    make: Sampler
    degree: int


def vectors(node: Node) -> list[DeterministicVector]:
    """Numbers that differ between channels and enter a node channel by channel."""
    found: dict[int, Node] = {}
    stack = [node]
    while stack:
        here = stack.pop()
        if here.number not in found:
            found[here.number] = here
            stack += here.parts
    return only(DeterministicVector, found.values())


def linear(node: Node, ingredients: Ingredients) -> Linear | None:
    """A node from the largest parts of it whose channels are alike, in one channel; None where it is not linear."""
    if not vectors(node):
        ingredients.roots[node.number] = node
        return Linear(lambda given: given[node.number], 1)
    if isinstance(node, DeterministicVector):
        return Linear(lambda given: given[node.det.number], 0)
    rule = _LINEAR.get(type(node))
    parts = [made for made in (linear(x, ingredients) for x in node.parts) if made is not None]
    degrees = {part.degree for part in parts}
    if rule is None or len(parts) < len(node.parts) or (isinstance(node, n.Sum) and node.constants):
        return None
    if not isinstance(node, n.Product) and len(degrees) != 1:
        return None
    ingredients.dets.update({det.number: det for det in _coefficients(node)})
    degree = sum(part.degree for part in parts) if isinstance(node, n.Product) else parts[0].degree
    return Linear(lambda given: rule(node, [part.make(given) for part in parts], given), degree)


def _coefficients(node: Node) -> list[Deterministic]:
    """What the values of a node take besides its parts."""
    if isinstance(node, n.Sum):
        return [c for c, _ in node.terms if c is not ONE]
    return [node.map.det] if isinstance(node, n.LinearMap) and node.map.det is not None else []


def _sum(x: n.Sum, parts: list[jax.Array], given: Arrays) -> jax.Array:
    rank = len(x.index)
    terms = [
        part if c is ONE else with_rank(given[c.number], rank) * part
        for (c, _), part in zip(x.terms, parts, strict=True)
    ]
    return jnp.broadcast_to(jnp.asarray(sum(terms)), x.index)


_MOVES = (n.LinearMap, n.Concatenate, n.Split, n.Flatten, n.ExpandDims)
_LINEAR: dict[type[Node], Callable[..., jax.Array]] = {
    n.Sum: _sum,
    n.Product: lambda _, parts, given: math.prod(parts[1:], start=parts[0]),
    **{kind: RULES[kind] for kind in _MOVES},
}
