"""Products of random vectors: which of their factors depend on each other."""

import math
from dataclasses import replace

import jax

from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph import Graph, field_of, function, joint, joint_index
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.expressions import MULTIPLY, Expression, fold
from jaxtheory.infinite.graph.nodes import Node

Group = tuple[list[Node], list[Node]]


def factor_groups(graph: Graph, a: Node, b: Node | None) -> list[Group]:
    """Groups of dependent factors of a and b, at most one of each in a group (or two of a alone, without b)."""
    left = list(a.factors) if isinstance(a, n.Product) else [a]
    right = [] if b is None else list(b.factors) if isinstance(b, n.Product) else [b]
    groups: list[Group] = []
    for node, is_left in [*((x, True) for x in left), *((y, False) for y in right)]:
        mine: Group = ([node], []) if is_left else ([], [node])
        rest = []
        for group in groups:
            if any(not graph.independent(node, other) for side in group for other in side):
                mine = (group[0] + mine[0], group[1] + mine[1])
            else:
                rest.append(group)
        groups = [*rest, mine]
    return [_simplify(graph, group, a, b) for group in groups]


def _simplify(graph: Graph, group: Group, a: Node, b: Node | None) -> Group:
    left, right = group
    if b is None:
        return group if len(left) == 2 else (_as_one_node(graph, left, a), [])
    return _as_one_node(graph, left, a), _as_one_node(graph, right, b)


def _as_one_node(graph: Graph, factors: list[Node], where: Node) -> list[Node]:
    """Several dependent factors as a function of one Gaussian, or of several where these are drawn."""
    if len(factors) < 2:
        return factors
    made = function(where.site, factors, _times)
    drawn = made or joint(graph, where.site, factors, _times)
    drawn = drawn or field_of(graph, where.site, tuple(factors), joint_index(factors), _multiply)
    made = drawn if graph.draws else made
    if made is None:
        reason = "it multiplies values that depend on each other but are not functions of one Gaussian value"
        opt_in = "" if drawn is None else ", or draw it: pass monte_carlo=MonteCarlo(key)"
        refuse(where.site, reason, "put a layer of weights into one of the factors" + opt_in)
    # between its factors and the product, so that it is computed after the former and before the latter
    return [graph.products.setdefault((where.number, *(f.number for f in factors)), replace(made, before=where))]


def _times(expressions: list[Expression]) -> Expression:
    return fold(MULTIPLY, expressions)


def _multiply(arrays: list[jax.Array]) -> jax.Array:
    return math.prod(arrays[1:], start=arrays[0])
