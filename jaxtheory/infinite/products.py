"""Products of random vectors: which of their factors depend on each other."""

import math
from dataclasses import replace

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.coordinates import joint
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.expressions import MULTIPLY, Expression, bound
from jaxtheory.infinite.fields import field
from jaxtheory.infinite.nodes import Graph, Node

Group = tuple[list[Node], list[Node]]


def factored(graph: Graph, a: Node, b: Node | None) -> list[Group]:
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
    return [_simplified(graph, group, a, b) for group in groups]


def _simplified(graph: Graph, group: Group, a: Node, b: Node | None) -> Group:
    left, right = group
    if b is None:
        return group if len(left) == 2 else (_one(graph, left, a), [])
    return _one(graph, left, a), _one(graph, right, b)


def _one(graph: Graph, factors: list[Node], where: Node) -> list[Node]:
    """Several dependent factors as a function of one Gaussian, or of several where these are drawn."""
    if len(factors) < 2:
        return factors
    made = n.function(where.site, list(factors), _times)
    if made is None and graph.draws:
        made = joint(graph, where.site, list(factors), _times)
    if made is None:
        index = n.joint_index(tuple(factors))
        made = field(graph, where.site, tuple(factors), index, lambda arrays: math.prod(arrays[1:], start=arrays[0]))
    if made is None:
        reason = "it multiplies values that depend on each other but are not functions of one Gaussian value"
        refuse(where.site, reason, "put a layer of weights into one of the factors")
    # between its factors and the product, so that it is computed after the former and before the latter
    renamed = replace(made, number=where.number - 0.5)
    return [graph.merged.setdefault((where.number, *(f.number for f in factors)), renamed)]


def _times(expressions: list[Expression]) -> Expression:
    total = expressions[0]
    for e in expressions[1:]:
        total = bound(*MULTIPLY, (total, e))
    return total
