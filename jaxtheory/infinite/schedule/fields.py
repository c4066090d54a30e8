r"""Functions of Gaussians at several positions, as in max-pooling: their averages over channels are drawn.

One channel of a hidden image is a Gaussian g over all positions of both examples, with a covariance that is known. What
is computed of it channel by channel, h = F(g), has

    E[h_p h'_q] by draws of (g, g'),   ⟨∂h_p, ∂h'_q⟩ = E Σ_ab (∂F_p/∂g_a) ⟨∂g_a, ∂g'_b⟩ (∂F_q/∂g'_b),

the second with the exact sum over a and b for each draw.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, NoReturn, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph import Arrays, Ingredients, Sampler, sampler
from jaxtheory.infinite.graph.arrays import Entry, Mask, narrow
from jaxtheory.infinite.graph.nodes import Field, Node, Shape
from jaxtheory.infinite.schedule.computation import Computation, Given, plan_of, quantity
from jaxtheory.infinite.schedule.laws import Law, law_of
from jaxtheory.infinite.schedule.requests import Plan, Sides

_OF_FIELDS = 7919  # folded into the key: the noise of fields is not that of single Gaussians
_AT_ONCE = 16  # samples
P = ParamSpec("P")
T = TypeVar("T")


class _Draws(NamedTuple):
    """How draws are made: the law, the key, a root of the covariance, and their number."""

    law: Law
    samples: int
    ordinal: int

    def keys(self, key: Array) -> Array:
        """One for each sample."""
        own = jax.random.fold_in(jax.random.fold_in(key, _OF_FIELDS), self.ordinal)
        return jax.random.split(own, self.samples)

    def average(self, one: Callable[[Array], T], key: Array) -> T:
        """Over samples, of a function of their keys."""
        many = jax.lax.map(one, self.keys(key), batch_size=min(self.samples, _AT_ONCE))
        return jax.tree.map(lambda v: v.mean(0), many)

    def vectors(self, factor: Array, key: Array) -> Array:
        """One draw: numbers of every example."""
        z = jnp.dot(factor, jax.random.normal(key, (len(factor),), factor.dtype), precision="highest")
        return z.reshape((len(self.law.ends), -1))


def _draws_of(c: Computation, law: Law) -> _Draws:
    return _Draws(law, c.draws.samples, c.graph.ordinal(law.roots[0]))


class _End(NamedTuple):
    """A function of draws at one example, by its position among the examples."""

    sampler: Sampler
    place: int


def pair(c: Computation, a: Node, b: Node, sides: Sides, mask: Mask) -> Plan:
    """Kernel and tangent of two functions of Gaussians at several positions."""
    ingredients = Ingredients()
    samplers = [_require_sampler(x, ingredients) for x in (a, b)]
    c.visited += ingredients.layers
    law = law_of(c, ingredients.roots)
    draws, dets = _draws_of(c, law), list(ingredients.dets.values())
    ends = [_End(s, law.ends.index(side)) for s, side in zip(samplers, sides, strict=True)]

    def make(given: Given) -> Entry:
        values = [c.array(given.array(1 + i)) for i in range(len(dets) * len(law.ends))]
        known = [{d.number: values[k * len(dets) + i] for i, d in enumerate(dets)} for k in range(len(law.ends))]
        covariance, slopes = law.matrix([e.kernel for e in given.entries], c.dtype), None
        if c.moving(sides):
            first, second = (slice(end.place * law.size, (end.place + 1) * law.size) for end in ends)
            slopes = law.matrix([e.tangent for e in given.entries], c.dtype)[first, second]
        moments = _without_derivative(partial(_moments, draws, ends))
        found = moments(jnp.asarray(given.array(0)), covariance, slopes, known)
        return found.map(lambda v: _spread(v, a.index, b.index, mask))

    quantities = [quantity(d, end) for end in law.ends for d in dets]
    return plan_of(make, pairs=law.asked, dets=[quantity(c.draws.key, 0), *quantities])


def _require_sampler(node: Node, ingredients: Ingredients) -> Sampler:
    made = sampler(node, ingredients)
    if made is None:
        refuse(node.site, "what is drawn depends on it, and it cannot be drawn", "put a layer of weights after it")
    return made


def _without_derivative(function: Callable[P, T]) -> Callable[P, T]:
    """A function of draws, whose derivative is refused: draws at equal examples have none of their covariance."""
    drawn = jax.custom_jvp(function)

    @drawn.defjvp
    def jvp(primals: object, tangents: object) -> NoReturn:
        raise ValueError(
            "gradient must be of a limit without max-pooling and functions of several positions, got one that draws "
            "them; take finite differences with one key."
        )

    return drawn


def _moments(
    draws: _Draws, ends: list[_End], key: Array, covariance: Array, slopes: Array | None, known: list[Arrays]
) -> Entry:
    """E h h' over all pairs of positions, flattened, and the tangents, both as averages over samples."""
    factor, (left, right) = _root(covariance), ends

    def values(end: _End, vector: Array) -> Array:
        return end.sampler({**draws.law.arrays(vector), **known[end.place]}).ravel()

    def one(key: Array) -> Entry:
        z = draws.vectors(factor, key)
        first, second = partial(values, left), partial(values, right)
        kernel = jnp.outer(first(z[left.place]), second(z[right.place]))
        if slopes is None:
            return Entry(kernel, None)
        rows = jax.vmap(lambda t: jax.jvp(first, (z[left.place],), (t,))[1], 1, 1)(slopes)
        return Entry(kernel, jax.vmap(lambda t: jax.jvp(second, (z[right.place],), (t,))[1])(rows))

    return draws.average(one, key)


def _root(covariance: Array) -> Array:
    """A square root; what draws below make negative of a covariance that is averaged over them is left out."""
    sizes, vectors = jnp.linalg.eigh(covariance)
    return vectors * jnp.sqrt(jnp.maximum(sizes, 0))[None]


def _spread(matrix: Array, left: Shape, right: Shape, mask: Mask) -> Array:
    """From pairs of all positions to those that are asked for."""
    rank = len(left)
    array = matrix.reshape((*left, *right)).transpose([d for k in range(rank) for d in (k, rank + k)])
    return narrow(array, (True,) * rank, mask)


def mean(c: Computation, x: Field, side: int) -> Plan:
    """E h, by draws."""
    ingredients = Ingredients()
    made = _require_sampler(x, ingredients)
    c.visited += ingredients.layers
    law = law_of(c, ingredients.roots)
    draws, dets, end = _draws_of(c, law), list(ingredients.dets.values()), _End(made, law.ends.index(side))

    def make(given: Given) -> Array:
        known = {d.number: c.array(given.array(1 + i)) for i, d in enumerate(dets)}
        covariance = law.matrix([e.kernel for e in given.entries], c.dtype)
        return _without_derivative(partial(_average, draws, end))(jnp.asarray(given.array(0)), covariance, known)

    quantities = [quantity(d, side) for d in dets]
    return plan_of(make, pairs=law.asked, dets=[quantity(c.draws.key, 0), *quantities])


def _average(draws: _Draws, end: _End, key: Array, covariance: Array, known: Arrays) -> Array:
    factor = _root(covariance)

    def one(key: Array) -> Array:
        return end.sampler({**draws.law.arrays(draws.vectors(factor, key)[end.place]), **known})

    return draws.average(one, key)
