r"""Attention scores that keep fluctuating: with q kᵀ/√d the scores of a head stay Gaussian, and are drawn.

Queries and keys without common weights have scores S_ts = Σ_c q_tc k_sc that are, in the limit, jointly Gaussian over
tokens and both examples, independent of everything else, and independent from head to head:

    E[S_ts S'_t's'] = d E[q_t q'_t'] E[k_s k'_s'],
    ⟨∂S_ts, ∂S'_t's'⟩ = d (⟨∂q_t, ∂q'_t'⟩ E[k_s k'_s'] + E[q_t q'_t'] ⟨∂k_s, ∂k'_s'⟩).

A layer that contracts all heads averages over them. The tangent of a score is drawn too: a Gaussian with the second
covariance, pushed through softmax as a derivative, has the covariance that the tangent kernel needs.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxtheory.infinite.graph.arrays import Average, Entry, dense
from jaxtheory.infinite.graph.nodes import Bundle, Made, Scores, Shape
from jaxtheory.infinite.schedule.computation import Computation, Given, plan_of, quantity
from jaxtheory.infinite.schedule.requests import Drawn, Item, Plan, Sides, pair_item


class _Law(NamedTuple):
    """Kernel and tangent over the tokens of all examples."""

    kernel: Array
    tangent: Array


def plan(c: Computation, item: Item) -> Plan:
    """Draws of scores for the examples of a computation, from the kernels of queries and keys."""
    scores = item.det.needs[0]
    assert isinstance(scores, Scores)
    ends = sorted(set(c.sides))
    pairs = [(i, j) for i in ends for j in ends if i <= j]
    full = (True,) * len(scores.a.index)

    def make(given: Given) -> dict[int, Drawn]:
        key = jax.random.fold_in(jnp.asarray(given.array(0)), scores.number)
        queries, keys = given.entries[: len(pairs)], given.entries[len(pairs) :]
        laws = _law(queries, pairs, scores.a.index, c.dtype), _law(keys, pairs, scores.b.index, c.dtype)
        value = _draws(key, *laws, scores.channels**0.5, c.draws.samples, c.tangent)
        return {end: _of_example(value, i, len(ends)) for i, end in enumerate(ends)}

    asked = [(pair_item(x, x, pair), full) for x in (scores.a, scores.b) for pair in pairs]
    return plan_of(make, pairs=asked, dets=[quantity(c.draws.key, 0)])


def _law(entries: Sequence[Entry], pairs: Sequence[Sides], index: Shape, dtype: np.dtype) -> _Law:
    count = max(j for _, j in pairs)

    def joint(parts: list[Average]) -> Array:
        blocks = {pair: _matrix(part, index, dtype) for pair, part in zip(pairs, parts, strict=True)}
        ends = range(1, count + 1)
        return jnp.block([[blocks[i, j] if i <= j else blocks[j, i].T for j in ends] for i in ends])

    return _Law(joint([entry.kernel for entry in entries]), joint([entry.tangent for entry in entries]))


def _matrix(array: Average, index: Shape, dtype: np.dtype) -> Array:
    """Over pairs of tokens, from interleaved pairs of their axes."""
    wide = dense(array, tuple(m for m in index for _ in (0, 1)), dtype)
    order = [*range(0, wide.ndim, 2), *range(1, wide.ndim, 2)]
    return wide.transpose(order).reshape((math.prod(index), math.prod(index)))


def _draws(key: PRNGKeyArray, q: _Law, k: _Law, scale: float, samples: int, tangent: bool) -> Drawn:
    """Of all examples, samples × tokens × tokens."""
    keys = jax.random.split(key, 3)

    def product(left: Array, right: Array, key: PRNGKeyArray) -> Array:
        white = jax.random.normal(key, (samples, len(left), len(right)), left.dtype)
        return scale * jnp.einsum("ij,sjk,lk->sil", left, white, right, precision="highest")

    root_q, root_k = _root(q.kernel), _root(k.kernel)
    value = product(root_q, root_k, keys[0])
    if not tangent:
        return Drawn(value, None)
    return Drawn(value, product(_root(q.tangent), root_k, keys[1]) + product(root_q, _root(k.tangent), keys[2]))


def _of_example(scores: Drawn, i: int, count: int) -> Drawn:
    """The scores of one example."""
    tangent = None if scores.tangent is None else _block(scores.tangent, i, count)
    return Drawn(_block(scores.value, i, count), tangent)


def _block(array: Array, i: int, count: int) -> Array:
    """The scores of one example."""
    rows, columns = (m // count for m in array.shape[1:])
    return array[:, i * rows : (i + 1) * rows, i * columns : (i + 1) * columns]


def _root(matrix: Array) -> Array:
    """A triangular root of a covariance, whose round-off (repeated tokens, equal examples) is lifted above zero."""
    size, numbers = len(matrix), jnp.finfo(matrix.dtype)
    floor = 10 * size * numbers.eps * jnp.diagonal(matrix).max() + numbers.tiny
    return jnp.linalg.cholesky(matrix + floor * jnp.eye(size, dtype=matrix.dtype))


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
