r"""Functions of Gaussians at several positions, as in max-pooling: their averages over channels are drawn.

One channel of a hidden image is a Gaussian g over all positions of both examples, with a covariance that is known. What
is computed of it channel by channel, h = F(g), has

    E[h_p h'_q] by draws of (g, g'),   ⟨∂h_p, ∂h'_q⟩ = E Σ_ab (∂F_p/∂g_a) ⟨∂g_a, ∂g'_b⟩ (∂F_q/∂g'_b),

the second with the exact sum over a and b for each draw.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import narrowed, stretched
from jaxtheory.infinite.demand import Item, Plan, det_item
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.expressions import evaluated
from jaxtheory.infinite.nodes import Graph, Node

_OF_FIELDS = 7919  # folded into the key: the noise of fields is not that of single Gaussians
_AT_ONCE = 16  # samples
Given = dict[Any, Array]  # arrays over index axes by the numbers of Gaussian nodes and of deterministic quantities
Values = Callable[[Given], Array]


@dataclass(frozen=True, eq=False)
class Field(Node):
    """A function of the arrays of `children` over their index axes, with the index axes of its own."""

    children: tuple[Node, ...] = ()
    make: Any = None


def field(graph: Graph, where: Site, children: tuple[Node, ...], index: tuple[int, ...], make: Any) -> Node | None:
    """make(arrays of the children) as a node, None where these cannot be drawn or nothing is to be."""
    if not graph.draws or any(_sampler(child, {}, {}) is None for child in children):
        return None
    leaves = 0
    for child in children:
        leaves |= child.leaves
    graph.variables.setdefault(children[0].number, len(graph.variables))
    return Field(where, index, leaves, False, False, children=children, make=make)


def _sampler(node: Node, roots: dict[Any, Node], dets: dict[Any, Det]) -> Values | None:
    """A node's array from those of Gaussian nodes and deterministic quantities, which are entered; None if unknown."""
    if node.drawn:
        return None
    if node.gaussian:
        roots[node.number] = node
        return lambda given: given[node.number]
    if isinstance(node, n.Sum):
        return _sum(node, roots, dets)
    rule = _SAMPLERS.get(type(node))
    inner = [_sampler(x, roots, dets) for x in node.parts]
    if rule is None or any(x is None for x in inner):
        return None
    if isinstance(node, n.Moved) and node.map.det is not None:
        dets[node.map.det.number] = node.map.det
    return lambda given: rule(node, [x(given) for x in inner], given)  # type: ignore[misc]


def _sum(node: n.Sum, roots: dict[Any, Node], dets: dict[Any, Det]) -> Values | None:
    terms: list[tuple[Det | None, Values | None]] = []
    for c, x in node.terms:
        made = None if x is None else _sampler(x, roots, dets)
        if (x is not None and made is None) or (c is not None and any(c.copies)):
            return None
        if c is not None:
            dets[c.number] = c
        terms.append((c, made))

    def total(given: Given) -> Array:
        parts = []
        for c, made in terms:
            factor = 1.0 if c is None else _raised(given[c.number], len(node.index))
            parts.append(factor if made is None else factor * made(given))
        return jnp.broadcast_to(sum(parts), node.index)

    return total


def _raised(value: Any, rank: int) -> Any:
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


def _moved(x: n.Moved, parts: list[Array], given: Given) -> Array:
    det = None if x.map.det is None else given[x.map.det.number]
    return x.map.apply(stretched(parts[0], x.axis, x.child.index[x.axis]), x.axis, det)


def _joined(x: n.Joined, parts: list[Array], _: Given) -> Array:
    whole = [(*x.index[: x.axis], child.index[x.axis], *x.index[x.axis + 1 :]) for child in x.children]
    return jnp.concatenate([jnp.broadcast_to(p, s) for p, s in zip(parts, whole, strict=True)], x.axis)


def _reshaped(x: Any, parts: list[Array], _: Given) -> Array:
    return jnp.broadcast_to(parts[0], x.child.index).reshape(x.index)


_SAMPLERS: dict[type, Callable[[Any, list[Array], Given], Array]] = {
    n.Function: lambda x, parts, _: evaluated(x.expression, {"x": parts[0]}),
    n.Joint: lambda x, parts, _: evaluated(x.expression, {k: p for (k, _), p in zip(x.roots, parts, strict=True)}),
    n.Product: lambda x, parts, _: math.prod(parts[1:], start=parts[0]),
    n.Moved: _moved,
    n.Joined: _joined,
    n.Split: _reshaped,
    n.Flattened: _reshaped,
    n.Lifted: _reshaped,
    n.Stopped: lambda x, parts, _: jax.lax.stop_gradient(parts[0]),
    Field: lambda x, parts, _: x.make([jnp.broadcast_to(p, c.index) for p, c in zip(parts, x.children, strict=True)]),
}  # fmt: skip


class _Law(NamedTuple):
    """The Gaussian nodes that are drawn together, their places in one vector, and the requests for their covariance."""

    roots: list[Node]
    ends: tuple[int, ...]
    asked: list[tuple[Any, Any, tuple[Item, Any] | None]]

    @property
    def size(self) -> int:
        """Numbers of one example."""
        return sum(math.prod(r.index) for r in self.roots)

    def matrix(self, entries: list[Any], which: int, dtype: Any) -> Array:
        """Covariance (0) or tangents (1) over the places of all examples."""
        blocks: dict[Any, Array] = {}
        for (row, column, _), entry in zip(self.asked, entries, strict=True):
            (r, _), (s, _) = row, column
            blocks[row, column] = _block(entry[which], self.roots[r].index, self.roots[s].index, dtype)
            blocks.setdefault((column, row), blocks[row, column].T)
        places = [(r, end) for end in self.ends for r in range(len(self.roots))]
        return jnp.block([[blocks[p, q] for q in places] for p in places])

    def arrays(self, vector: Array) -> Given:
        """The arrays of one example by root."""
        cuts = np.cumsum([math.prod(r.index) for r in self.roots])[:-1]
        return {r.number: part.reshape(r.index) for r, part in zip(self.roots, jnp.split(vector, cuts), strict=True)}


def _block(array: Any, left: tuple[int, ...], right: tuple[int, ...], dtype: Any) -> Array:
    shape = (math.prod(left), math.prod(right))
    if array is None:
        return jnp.zeros(shape, dtype)
    wide = jnp.broadcast_to(array, [m for pair in zip(left, right, strict=True) for m in pair])
    return wide.transpose([*range(0, wide.ndim, 2), *range(1, wide.ndim, 2)]).reshape(shape)


def _law(c: Any, found: dict[Any, Node]) -> _Law:
    """Requests for the covariances of all roots at all places, of every example of the computation.

    Averages of one example too are over draws of both, so that those of the same nodes are of the same draws.
    """
    roots, ends = sorted(found.values(), key=lambda r: r.number), tuple(sorted(set(c.sides)))
    places = [(r, end) for end in ends for r in range(len(roots))]
    asked = []
    for i, (r, one) in enumerate(places):
        for s, two in places[i:]:
            full = (True,) * len(roots[r].index)
            asked.append(((r, one), (s, two), c.ask(roots[r], roots[s], (one, two), full)))
    return _Law(roots, ends, asked)


def pair(c: Any, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
    """Kernel and tangent of two functions of Gaussians at several positions."""
    roots: dict[Any, Node] = {}
    dets: dict[Any, Det] = {}
    samplers = [_sampler(x, roots, dets) for x in (a, b)]
    for x, sampler in zip((a, b), samplers, strict=True):
        if sampler is None:
            refuse(x.site, "what is drawn depends on it, and it cannot be drawn", "put a layer of weights after it")
    law, wanted = _law(c, roots), c.moving(sides)
    ends, which = law.ends, [law.ends.index(side) for side in sides]
    extra = [(det_item(c.sampling.key, 0), None), *((det_item(d, end), None) for end in ends for d in dets.values())]
    ordinal = c.graph.variables.setdefault(law.roots[0].number, len(c.graph.variables))

    def make(entries: list[Any], rest: list[Any]) -> Any:
        values = [c.array(v) for v in rest[1:]]
        known = [dict(zip(dets, values[k * len(dets) :], strict=False)) for k in range(len(ends))]
        covariance = law.matrix(entries, 0, c.dtype)
        slopes = None
        if wanted:
            first, second = (slice(k * law.size, (k + 1) * law.size) for k in which)
            slopes = law.matrix(entries, 1, c.dtype)[first, second]
        key = jax.random.fold_in(jax.random.fold_in(rest[0], _OF_FIELDS), ordinal)
        functions = list(zip(samplers, which, strict=True))
        found = _drawn(partial(_moments, law, functions, c.sampling.samples))(key, covariance, slopes, known)
        return tuple(None if v is None else _spread(v, a.index, b.index, mask) for v in found)

    return c.linear([item for _, _, item in law.asked], extra, make)


def _drawn(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of draws, whose derivative is refused: draws at equal examples have none of their covariance."""
    drawn = jax.custom_jvp(function)

    @drawn.defjvp
    def jvp(primals: Any, tangents: Any) -> Any:
        raise ValueError(
            "gradient must be of a limit without max-pooling and functions of several positions, got one that draws "
            "them; take finite differences with one key."
        )

    return drawn


def _moments(law: _Law, functions: Any, samples: int, key: Any, covariance: Array, slopes: Any, known: Any) -> Any:
    """E h h' over all pairs of positions, flattened, and the tangents, both as averages over samples."""
    factor, (left, right) = _root(covariance), (k for _, k in functions)

    def one(key: Array) -> tuple[Array, Array | None]:
        z = _sample(factor, key).reshape(len(law.ends), -1)
        first, second = (lambda v, s=s, k=k: s({**law.arrays(v), **known[k]}).ravel() for s, k in functions)
        h, other = first(z[left]), second(z[right])
        if slopes is None:
            return jnp.outer(h, other), None
        rows = jax.vmap(lambda t: jax.jvp(first, (z[left],), (t,))[1], 1, 1)(slopes)
        return jnp.outer(h, other), jax.vmap(lambda t: jax.jvp(second, (z[right],), (t,))[1])(rows)

    many = jax.lax.map(one, jax.random.split(key, samples), batch_size=min(samples, _AT_ONCE))
    return jax.tree.map(lambda v: v.mean(0), many)


def _root(covariance: Array) -> Array:
    """A square root; what draws below make negative of a covariance that is averaged over them is left out."""
    sizes, vectors = jnp.linalg.eigh(covariance)
    return vectors * jnp.sqrt(jnp.maximum(sizes, 0))


def _sample(factor: Array, key: Array) -> Array:
    return jnp.dot(factor, jax.random.normal(key, (len(factor),), factor.dtype), precision="highest")


def _spread(matrix: Array, left: tuple[int, ...], right: tuple[int, ...], mask: Any) -> Array:
    """From pairs of all positions to those that are asked for."""
    rank = len(left)
    array = matrix.reshape(*left, *right).transpose([d for k in range(rank) for d in (k, rank + k)])
    return narrowed(array, (True,) * rank, mask)


def mean(c: Any, x: Field, side: int) -> Plan:
    """E h, by draws."""
    roots: dict[Any, Node] = {}
    dets: dict[Any, Det] = {}
    sampler = _sampler(x, roots, dets)
    law = _law(c, roots)
    extra = [(det_item(c.sampling.key, 0), None), *((det_item(d, side), None) for d in dets.values())]
    ordinal = c.graph.variables.setdefault(law.roots[0].number, len(c.graph.variables))

    def make(entries: list[Any], rest: list[Any]) -> Any:
        known = dict(zip(dets, map(c.array, rest[1:]), strict=True))
        key = jax.random.fold_in(jax.random.fold_in(rest[0], _OF_FIELDS), ordinal)
        average = partial(_average, law, (sampler, law.ends.index(side)), c.sampling.samples)
        return _drawn(average)(key, law.matrix(entries, 0, c.dtype), known)

    return c.linear([item for _, _, item in law.asked], extra, make)


def _average(law: _Law, function: Any, samples: int, key: Any, covariance: Array, known: Any) -> Array:
    factor, (sampler, place) = _root(covariance), function

    def one(key: Array) -> Array:
        z = _sample(factor, key).reshape(len(law.ends), -1)
        return sampler({**law.arrays(z[place]), **known})

    keys = jax.random.split(key, samples)
    return jax.lax.map(one, keys, batch_size=min(samples, _AT_ONCE)).mean(0)
