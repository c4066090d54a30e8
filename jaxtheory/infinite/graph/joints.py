"""Nodes as functions of several independent Gaussian nodes, whose averages over channels are drawn."""

from collections.abc import Sequence

import numpy as np

from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.expressions import (
    ADD,
    MULTIPLY,
    Expression,
    Variable,
    compose,
    constant,
    fold,
    substitute,
)
from jaxtheory.infinite.graph.graph import Build, Graph, has_known_numbers, joint_index, leaves_of, times_number
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import JointFunction, Node
from jaxtheory.programs.sites import Site

Roots = dict[str, Node]


def joint(graph: Graph, where: Site, arguments: Sequence[Node | Expression], build: Build) -> JointFunction | None:
    """build(expressions of the arguments) as a function of independent Gaussian nodes, or None."""
    roots: Roots = {}
    found = [_as_expression(graph, a, roots) if isinstance(a, Node) else a for a in arguments]
    expressions = [e for e in found if e is not None]
    if len(expressions) < len(found) or not _independent(graph, list(roots.values())):
        return None
    nodes = only(Node, arguments)
    expression, named = build(expressions), tuple(roots.items())
    index = joint_index(nodes)
    return JointFunction(where, index, leaves_of(nodes), False, False, expression=expression, roots=named)


def _independent(graph: Graph, roots: list[Node]) -> bool:
    return all(graph.independent(a, b) for i, a in enumerate(roots) for b in roots[:i])


def _as_expression(graph: Graph, node: Node, roots: Roots) -> Expression | None:
    """A node as an expression in Gaussian nodes, which it enters into `roots`."""
    if node.drawn:
        return None
    if isinstance(node, JointFunction):
        # by names of the roots' own: those of a slice of channels are others than those of the whole
        return substitute(node.expression, {name: _root(graph, root, roots) for name, root in node.roots})
    if node.gaussian and not node.zero:
        return _root(graph, node, roots)
    if isinstance(node, n.Function):
        return compose(node.expression, _root(graph, node.root, roots))
    if not (isinstance(node, n.Product) or (isinstance(node, n.Sum) and has_known_numbers(node))):
        return None
    parts = [e for e in (_as_expression(graph, x, roots) for x in node.parts) if e is not None]
    if len(parts) < len(node.parts):
        return None
    if not isinstance(node, n.Sum):
        return fold(MULTIPLY, parts)
    terms = [times_number(c, e) for (c, _), e in zip(node.terms, parts, strict=True)]
    numbers: list[Expression] = [constant(np.asarray(c.value)) for c in node.constants]
    return fold(ADD, terms + numbers) if terms or numbers else None


def _root(graph: Graph, node: Node, roots: Roots) -> Expression:
    name = f"x{graph.ordinal(node)}"
    roots[name] = node
    return Variable(name)


def as_joint_functions(graph: Graph, a: Node, b: Node) -> tuple[JointFunction, JointFunction] | None:
    """Two nodes as functions of several Gaussians, if one is and the other can be written so."""
    if not (isinstance(a, JointFunction) or isinstance(b, JointFunction)):
        return None
    for one, other in ((a, b), (b, a)):
        if isinstance(one, JointFunction) and other.gaussian and not any(root is other for _, root in one.roots):
            return None
    first, second = (x if isinstance(x, JointFunction) else joint(graph, x.site, [x], lambda es: es[0]) for x in (a, b))
    return None if first is None or second is None else (first, second)


def separate(graph: Graph, a: JointFunction, b: JointFunction) -> bool:
    """Whether the Gaussians of two functions are the same or independent."""
    return _independent(graph, joint_roots(a, b))


def joint_roots(a: JointFunction, b: JointFunction) -> list[Node]:
    """The Gaussians of two functions, each once."""
    return list({node.number: node for _, node in (*a.roots, *b.roots)}.values())
