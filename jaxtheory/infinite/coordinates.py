r"""Nonlinearities of several Gaussians: their averages over channels are drawn, channel by channel.

A channel of relu(x + f(x)), where x is the output of a relu itself, is a function h(g₁, …, g_m) of independent
Gaussians. Between two examples each g_r has a covariance of two by two, and

    E[h h'] by draws of all (g_r, g'_r),   ⟨∂h, ∂h'⟩ = Σ_r E[∂_r h ∂_r h'] ⟨∂g_r, ∂g'_r⟩.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory import guarded
from jaxtheory.checks import require
from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import as_left, as_right, total
from jaxtheory.infinite.demand import Item, Plan, det_item
from jaxtheory.infinite.errors import Site
from jaxtheory.infinite.expressions import (
    ADD,
    MULTIPLY,
    Expression,
    bound,
    composed,
    constant,
    evaluated,
    substituted,
    variable,
)
from jaxtheory.infinite.nodes import Graph, Joint, Node

Roots = dict[str, Node]
Entry = tuple[Any, Any]


def joint(graph: Graph, where: Site, arguments: list[Node | Expression], build: Any) -> Joint | None:
    """build(expressions of the arguments) as a function of independent Gaussian nodes, or None."""
    roots: Roots = {}
    expressions = [_expressed(graph, a, roots) if isinstance(a, Node) else a for a in arguments]
    if any(e is None for e in expressions) or not _independent(graph, list(roots.values())):
        return None
    nodes, leaves = tuple(a for a in arguments if isinstance(a, Node)), 0
    for node in nodes:
        leaves |= node.leaves
    index = n.joint_index(nodes)
    return Joint(where, index, leaves, False, False, expression=build(expressions), roots=tuple(roots.items()))


def _independent(graph: Graph, roots: list[Node]) -> bool:
    return all(graph.independent(a, b) for i, a in enumerate(roots) for b in roots[:i])


def _expressed(graph: Graph, node: Node, roots: Roots) -> Expression | None:
    """A node as an expression in Gaussian nodes, which it enters into `roots`."""
    if node.drawn:
        return None
    if isinstance(node, Joint):
        # by names of the roots' own: those of a slice of channels are others than those of the whole
        return substituted(node.expression, {name: _root(graph, root, roots) for name, root in node.roots})
    if node.gaussian and not node.zero:
        return _root(graph, node, roots)
    if isinstance(node, n.Function):
        return composed(node.expression, _root(graph, node.root, roots))
    if isinstance(node, n.Product):
        return _folded(MULTIPLY, [_expressed(graph, f, roots) for f in node.factors])
    if not isinstance(node, n.Sum) or any(c is not None and (c.value is None or not c.scalar) for c, _ in node.terms):
        return None
    return _folded(ADD, [_term(graph, c, x, roots) for c, x in node.terms])


def _term(graph: Graph, coefficient: Any, node: Node | None, roots: Roots) -> Expression | None:
    number = None if coefficient is None else constant(np.asarray(coefficient.value).reshape(()))
    if node is None:
        return number
    expression = _expressed(graph, node, roots)
    return expression if number is None else _folded(MULTIPLY, [number, expression])


def _root(graph: Graph, node: Node, roots: Roots) -> Expression:
    name = f"x{graph.variables.setdefault(node.number, len(graph.variables))}"
    roots[name] = node
    return variable(name)


def _folded(operation: tuple[Any, dict[str, Any]], expressions: list[Expression | None]) -> Expression | None:
    out = expressions[0]
    for e in expressions[1:]:
        out = None if out is None or e is None else bound(*operation, (out, e))
    return out


def joined(graph: Graph, a: Node, b: Node) -> tuple[Joint, Joint] | None:
    """Two nodes as functions of several Gaussians, if one is and the other can be written so."""
    if not (isinstance(a, Joint) or isinstance(b, Joint)):
        return None
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Joint) and other.gaussian and not any(root is other for _, root in one.roots):
            return None
    both = [x if isinstance(x, Joint) else joint(graph, x.site, [x], lambda es: es[0]) for x in (a, b)]
    return None if any(x is None for x in both) else (both[0], both[1])  # type: ignore[return-value]


def separate(graph: Graph, a: Joint, b: Joint) -> bool:
    """Whether the Gaussians of two functions are the same or independent."""
    return _independent(graph, list({node.number: node for _, node in (*a.roots, *b.roots)}.values()))


def pair(c: Any, a: Joint, b: Joint, sides: tuple[int, int], mask: Any) -> Plan:
    """Kernel and tangent of functions of several Gaussians."""
    roots = list({node.number: node for _, node in (*a.roots, *b.roots)}.values())
    diagonal = (False,) * len(mask)
    own = [(Item("pair", r, r, (side, side)), diagonal) for side in sides for r in roots]
    wanted, same = c.moving(sides), sides[0] == sides[1] and not any(mask)

    def make(entries: list[Entry], rest: list[Any]) -> Entry:
        key, *variances = rest
        zero = jnp.zeros((1,) * (len(mask) + sum(mask)), c.dtype)
        left = [zero if q is None else as_left(q, mask) for q, _ in variances[: len(roots)]]
        right = [zero if q is None else as_right(q, mask) for q, _ in variances[len(roots) :]]
        cross = [zero if q is None else q for q, _ in entries]
        laws = [(q,) for q in left] if same else list(zip(left, cross, right, strict=True))
        slopes = [slope if wanted else None for _, slope in entries]
        kernel, moved = _expectation(c, (a, b), roots, tuple(s is not None for s in slopes))(key, laws)
        # a Gaussian of one of the functions alone moves nothing in common
        return kernel, total([m * s for m, s in zip(moved, slopes, strict=True) if m is not None])

    asked = [c.ask(r, r, sides, mask) for r in roots]
    return c.linear(asked, [(det_item(c.sampling.key, 0), None), *own], make)


def _expectation(c: Any, nodes: tuple[Joint, Joint], roots: list[Node], wanted: tuple[bool, ...]) -> Callable[..., Any]:
    """E[h h'], and E[∂_r h ∂_r h'] where wanted, of a key and of the (variance, covariance, variance) of each Gaussian.

    Gradients are right at correlation 1 too: samples follow the variances at fixed correlations c, and
    ∂E[h h']/∂c = √(q11 q22) E[∂h ∂h'] (Price, 1958).
    """

    def sampled(key: Any, laws: Any, correlations: Any, wanted: tuple[bool, ...]) -> tuple[Array, list[Array | None]]:
        def one(number: Array) -> tuple[Array, list[Array | None]]:
            drawn = [_drawn(c, key, number, r, *law) for r, *law in zip(roots, laws, correlations, strict=True)]
            return _products(nodes, roots, drawn, wanted)

        return _average(c, one)

    @jax.custom_jvp
    def expectation(key: Any, laws: Any) -> tuple[Array, list[Array | None]]:
        return sampled(key, laws, [_correlation(law) for law in laws], wanted)

    @expectation.defjvp
    def jvp(primals: Any, tangents: Any) -> Any:
        (key, laws), fixed = primals, [_correlation(law) for law in primals[1]]
        found, wish = "that of a drawn tangent kernel", "be that of nngp, where kinks do not count"
        require(not any(wanted), "gradient", found, wish, "differentiate nngp, or take finite differences")
        none = (False,) * len(roots)
        primal, (slope, moved) = jax.jvp(lambda q: sampled(key, q, fixed, none), (laws,), (tangents[1],))
        if all(len(law) > 1 for law in laws):
            _, derivatives = sampled(key, laws, fixed, (True,) * len(roots))
            for law, change, derivative in zip(laws, tangents[1], derivatives, strict=True):
                turn = jax.jvp(_correlation, (law,), (change,))[1]
                slope += 0 if derivative is None else derivative * guarded.root(law[0]) * guarded.root(law[2]) * turn
        return primal, (slope, moved)

    return expectation


def _average(c: Any, sample: Callable[[Array], Any]) -> Any:
    """Over samples of a number each."""
    return jax.tree.map(lambda v: v.mean(0), jax.vmap(sample)(jnp.arange(c.sampling.samples, dtype=c.dtype)))


def _products(nodes: tuple[Joint, Joint], roots: Any, drawn: Any, wanted: Any) -> tuple[Array, list[Array | None]]:
    """h h', and ∂_r h ∂_r h' for each wanted Gaussian that both depend on."""
    values, gradients = [], []
    for which, node in enumerate(nodes):
        given = {name: drawn[roots.index(root)][which] for name, root in node.roots}
        values.append(evaluated(node.expression, given))
        gradients.append({root.number: partial(_slope, node.expression, given, name) for name, root in node.roots})
    first, second = gradients
    moved = [
        first[r.number]() * second[r.number]() if w and r.number in first and r.number in second else None
        for r, w in zip(roots, wanted, strict=True)
    ]
    return values[0] * values[1], moved


def _slope(expression: Expression, given: dict[str, Array], name: str) -> Array:
    """The derivative with respect to one of the Gaussians."""
    at = given[name]
    return jax.jvp(lambda v: evaluated(expression, {**given, name: v}), (at,), (jnp.ones_like(at),))[1]


def _correlation(law: tuple[Array, ...]) -> Array | None:
    """Of the values in two examples; None of a value with itself."""
    if len(law) == 1:
        return None
    scale = guarded.root(law[0]) * guarded.root(law[2])
    return law[1] / jnp.where(scale > 0, scale, 1)


def _drawn(c: Any, key: Any, number: Array, root: Node, law: Any, correlation: Array | None) -> tuple[Array, Array]:
    """A Gaussian in two examples; the same noise at all places."""
    ordinal = c.graph.variables.setdefault(root.number, len(c.graph.variables))
    noise = _noise(key, number, ordinal)
    left, right = (guarded.root(q) for q in (law[0], law[-1]))
    if correlation is None:
        return left * noise[0], right * noise[0]
    cosine = jnp.clip(correlation, -1, 1)
    other = right * (cosine * noise[0] + jnp.sqrt(1 - cosine**2) * noise[1])
    return jnp.broadcast_to(left * noise[0], other.shape), other


def _noise(key: Any, number: Array, ordinal: int) -> Array:
    """Two normals: number · √p modulo 1, for primes p of this Gaussian's own, shifted at random and so without bias.

    Source: Richtmyer (1951), for sequences that fill a cube more evenly than independent points.
    """
    steps = jnp.asarray(np.sqrt(_primes(2 * ordinal + 2)[-2:]) % 1, number.dtype)
    shift = jax.random.uniform(jax.random.fold_in(key, ordinal), (2,), number.dtype)
    edge = jnp.finfo(number.dtype).eps
    return jax.scipy.special.ndtri(jnp.clip((number * steps + shift) % 1, edge, 1 - edge))


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def mean(c: Any, x: Joint, side: int) -> Plan:
    """E h, by draws."""
    diagonal = (False,) * len(x.index)
    needs = [(Item("pair", r, r, (side, side)), diagonal) for _, r in x.roots]

    def make(values: list[Any]) -> Any:
        zero = jnp.zeros((1,) * len(x.index), c.dtype)
        variances = [zero if q is None else q for q, _ in values[1:]]

        def one(number: Array) -> Array:
            named = zip(x.roots, variances, strict=True)
            return evaluated(
                x.expression, {name: _drawn(c, values[0], number, r, (v,), None)[0] for (name, r), v in named}
            )

        return _average(c, one)

    return Plan([(det_item(c.sampling.key, 0), None), *needs], make)
