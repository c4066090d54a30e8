r"""Attention scores that keep fluctuating: with q kᵀ/√d the scores of a head stay Gaussian, and are drawn.

Queries and keys without common weights have scores S_ts = Σ_c q_tc k_sc that are, in the limit, jointly Gaussian over
tokens and both examples, independent of everything else, and independent from head to head:

    E[S_ts S'_t's'] = d E[q_t q'_t'] E[k_s k'_s'],
    ⟨∂S_ts, ∂S'_t's'⟩ = d (⟨∂q_t, ∂q'_t'⟩ E[k_s k'_s'] + E[q_t q'_t'] ⟨∂k_s, ∂k'_s'⟩).

Where known numbers multiply the channels, as rotary positions do, d times a product of kernels is the sum of those of
single channels; of channels that are two axes, one of them of places (the halves that are rotated), it is over both.

A layer that contracts all heads averages over them. The tangent of a score is drawn too: a Gaussian with the second
covariance, pushed through softmax as a derivative, has the covariance that the tangent kernel needs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.graph import Arrays, Ingredients, channelwise
from jaxtheory.infinite.graph.arrays import Entry
from jaxtheory.infinite.graph.channelwise import Linear
from jaxtheory.infinite.graph.nodes import Bundle, Deterministic, Flags, Made, Node, Scores, Shape
from jaxtheory.infinite.graph.views import Channels
from jaxtheory.infinite.schedule.computation import Computation, Given, plan_of, quantity
from jaxtheory.infinite.schedule.laws import Law, law_of, root_of
from jaxtheory.infinite.schedule.requests import Drawn, Item, Plan


class _Factor(NamedTuple):
    """Queries or keys: the nodes that they are made of, what multiplies them, and which axes are summed over."""

    law: Law
    linear: Linear
    dets: list[Deterministic]
    vectors: dict[int, int]  # numbers over channels, by number: the rank of their places
    node: Node
    places: Flags
    channels: Channels

    def root(self, covariance: Array, given: Sequence[Arrays]) -> Array:
        """A root of a covariance [channels, summed places, places of all examples, numbers that are drawn].

        Channels are one where all are alike; `given` has the deterministic quantities of each example.
        """
        count = len(self.law.ends)
        columns = root_of(covariance).reshape((count, self.law.size, -1))
        summed = [k for k, gone in enumerate(self.places) if gone]
        order = [*summed, *(k for k in range(len(self.places)) if k not in summed), len(self.places)]
        width = math.prod(self.node.index[k] for k in summed)

        def example(end: int) -> Array:
            varying = {number: given[end][number] for number in self.vectors}

            def channel(own: Arrays) -> Array:
                known = {**given[end], **own}
                push = lambda v: jnp.broadcast_to(self.linear.make({**self.law.arrays(v), **known}), self.node.index)  # noqa: E731
                pushed = jax.vmap(push, -1, -1)(columns[end])
                return pushed.transpose(order).reshape((width, -1, columns.shape[-1]))

            return jax.vmap(channel)(varying) if varying else channel({})[None]

        return jnp.concatenate([example(end) for end in range(count)], 2)

    def arrays(self, c: Computation, values: Sequence[Numbers]) -> Arrays:
        """Deterministic quantities of one example by number, those that differ between channels with these first."""
        found = {d.number: c.array(v) for d, v in zip(self.dets, values, strict=True)}
        return {k: self._by_channel(v, self.vectors[k]) if k in self.vectors else v for k, v in found.items()}

    def _by_channel(self, array: Array, rank: int) -> Array:
        """Of one head, the channels that are summed over first."""
        sizes, summed = self.channels
        whole = array.reshape((*array.shape[:rank], *sizes))
        kept = [rank + k for k in range(len(sizes)) if k not in summed]
        one = whole[tuple(0 if k in kept else slice(None) for k in range(whole.ndim))]
        return jnp.moveaxis(one.reshape((*one.shape[:rank], -1)), -1, 0)


def _factor(c: Computation, node: Node, places: Flags, channels: Channels) -> _Factor:
    ingredients = Ingredients()
    found = channelwise.linear(node, ingredients)
    assert found is not None
    vectors = {x.det.number: len(x.index) for x in channelwise.vectors(node)}
    dets = {**ingredients.dets, **{x.det.number: x.det for x in channelwise.vectors(node)}}
    return _Factor(law_of(c, ingredients.roots), found, list(dets.values()), vectors, node, places, channels)


def plan(c: Computation, item: Item) -> Plan:
    """Draws of scores for the examples of a computation, from the kernels of queries and keys."""
    scores = item.det.needs[0]
    assert isinstance(scores, Scores)
    ends = sorted(set(c.sides))
    sides = [_factor(c, x, scores.places, axes) for x, axes in zip((scores.a, scores.b), scores.axes, strict=True)]
    quantities = [quantity(d, end) for side in sides for end in ends for d in side.dets]

    def make(given: Given) -> dict[int, Drawn]:
        key = jax.random.fold_in(jnp.asarray(given.array(0)), scores.number)
        entries, values = iter(given.entries), iter(range(1, 1 + len(quantities)))
        known = [[[given.array(next(values)) for _ in side.dets] for _ in ends] for side in sides]
        queries, keys = (_roots(c, side, entries, numbers) for side, numbers in zip(sides, known, strict=True))
        value = _draws(key, queries, keys, scores.channels**0.5, c.draws.samples)
        return {end: _of_example(value, i, len(ends)) for i, end in enumerate(ends)}

    asked = [pair for side in sides for pair in side.law.asked]
    return plan_of(make, pairs=asked, dets=[quantity(c.draws.key, 0), *quantities])


class _Roots(NamedTuple):
    """Roots of the kernel and, where it is wanted, of the tangents."""

    kernel: Array
    tangent: Array | None


def _roots(c: Computation, side: _Factor, entries: Iterator[Entry], values: Sequence[Sequence[Numbers]]) -> _Roots:
    own = [next(entries) for _ in side.law.asked]
    known = [side.arrays(c, numbers) for numbers in values]
    kernel = side.root(side.law.matrix([e.kernel for e in own], c.dtype), known)
    if not c.tangent:
        return _Roots(kernel, None)
    return _Roots(kernel, side.root(side.law.matrix([e.tangent for e in own], c.dtype), known))


def _draws(key: PRNGKeyArray, q: _Roots, k: _Roots, scale: float, samples: int) -> Drawn:
    """Of all examples, samples × tokens × tokens."""
    keys = jax.random.split(key, 3)

    def product(left: Array, right: Array, key: PRNGKeyArray) -> Array:
        count = max(len(left), len(right))
        noise = _noise(key, count, (samples, left.shape[-1], right.shape[-1]), left.dtype)
        left, right = (jnp.broadcast_to(r, (count, *r.shape[1:])) for r in (left, right))
        return scale / count**0.5 * jnp.einsum("jpxa,jsab,jpyb->sxy", left, noise, right, precision="highest")

    value = product(q.kernel, k.kernel, keys[0])
    if q.tangent is None or k.tangent is None:
        return Drawn(value, None)
    return Drawn(value, product(q.tangent, k.kernel, keys[1]) + product(q.kernel, k.tangent, keys[2]))


def _noise(key: PRNGKeyArray, count: int, shape: Shape, dtype: np.dtype) -> Array:
    """Independent normals for each of the channels, from coefficients of cosines over them.

    Sums of smooth functions over the channels hardly depend on how many there are, as draws at two widths need it.
    """
    place = (np.arange(count) + 0.5) / count
    waves = (
        np.cos(np.pi * np.arange(count)[:, None] * place)
        * np.sqrt(np.where(np.arange(count) == 0, 1, 2) / count)[:, None]
    )
    keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(count))
    coefficients = jax.vmap(lambda k: jax.random.normal(k, shape, dtype))(keys)
    return jnp.einsum("mj,msab->jsab", jnp.asarray(waves, dtype), coefficients, precision="highest")


def _of_example(scores: Drawn, i: int, count: int) -> Drawn:
    """The scores of one example."""
    tangent = None if scores.tangent is None else _block(scores.tangent, i, count)
    return Drawn(_block(scores.value, i, count), tangent)


def _block(array: Array, i: int, count: int) -> Array:
    """The scores of one example."""
    rows, columns = (m // count for m in array.shape[1:])
    return array[:, i * rows : (i + 1) * rows, i * columns : (i + 1) * columns]


def derivative(make: Callable[[list[Made]], Made]) -> Callable[[list[Made | Drawn]], Drawn]:
    """A function of drawn quantities, with its tangent."""

    def pushed(values: list[Made | Drawn]) -> Drawn:
        plain = [v.value if isinstance(v, Drawn) else v for v in values]
        moving = {i: v for i, v in enumerate(values) if isinstance(v, Drawn)}
        tangents = {i: v.tangent for i, v in moving.items() if v.tangent is not None}

        def along(given: dict[int, Array]) -> Array:
            found = make([given.get(i, v) for i, v in enumerate(plain)])
            assert not isinstance(found, Bundle)
            return jnp.asarray(found)

        if not tangents:
            return Drawn(along({}), None)
        value, tangent = jax.jvp(along, ({i: moving[i].value for i in tangents},), (tangents,))
        return Drawn(value, tangent if jnp.issubdtype(value.dtype, jnp.floating) else None)

    return pushed
