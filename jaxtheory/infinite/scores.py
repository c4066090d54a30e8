r"""Attention scores that keep fluctuating: with q kᵀ/√d the scores of a head stay Gaussian, and are drawn.

Queries and keys without common weights have scores S_ts = Σ_c q_tc k_sc that are, in the limit, jointly Gaussian over
tokens and both examples, independent of everything else, and independent from head to head:

    E[S_ts S'_t's'] = d E[q_t q'_t'] E[k_s k'_s'],
    ⟨∂S_ts, ∂S'_t's'⟩ = d (⟨∂q_t, ∂q'_t'⟩ E[k_s k'_s'] + E[q_t q'_t'] ⟨∂k_s, ∂k'_s'⟩).

A layer that contracts all heads averages over them. The tangent of a score is drawn too: a Gaussian with the second
covariance, pushed through softmax as a derivative, has the covariance that the tangent kernel needs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxtheory.infinite.demand import Item, Plan, det_item
from jaxtheory.infinite.nodes import Node


class Scores(NamedTuple):
    """Drawn sums over so many channels of a b, on all pairs of places; `number` tells layers apart."""

    a: Node
    b: Node
    channels: float
    number: int


class Drawn(NamedTuple):
    """A drawn quantity and its drawn tangent (None where none is wanted)."""

    value: Array
    tangent: Array | None


def plan(calculus: Any, item: Item) -> Plan:
    """Draws of scores for the examples of a computation, from the kernels of queries and keys."""
    scores: Scores = item.a.needs[0]
    ends = sorted(set(calculus.sides))
    pairs = [(i, j) for i in ends for j in ends if i <= j]
    full = (True,) * len(scores.a.index)
    needs: list[tuple[Item, Any]] = [(Item("pair", x, x, p), full) for x in (scores.a, scores.b) for p in pairs]
    indices = scores.a.index, scores.b.index

    def make(values: list[Any]) -> dict[int, Drawn]:
        key = jax.random.fold_in(values[0], scores.number)
        entries = values[1 : 1 + len(pairs)], values[1 + len(pairs) :]
        laws = [_joint(e, pairs, index, calculus.dtype) for e, index in zip(entries, indices, strict=True)]
        return _draws(key, laws, scores.channels**0.5, calculus.sampling.samples, len(ends), calculus.tangent)

    return Plan([(det_item(calculus.sampling.key, 0), None), *needs], make)


def _joint(entries: list[Any], pairs: Any, index: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """Kernel and tangent over the tokens of all examples."""
    zero = jnp.zeros((), dtype)
    count = max(j for _, j in pairs)
    found = []
    for part in (0, 1):
        blocks = {p: _matrix(zero if e[part] is None else e[part], index) for p, e in zip(pairs, entries, strict=True)}
        rows = [[blocks[i, j] if i <= j else blocks[j, i].T for j in range(1, count + 1)] for i in range(1, count + 1)]
        found.append(jnp.block(rows))
    return found[0], found[1]


def _matrix(array: Any, index: tuple[int, ...]) -> Array:
    """Over pairs of tokens, from interleaved pairs of their axes."""
    wide = jnp.broadcast_to(array, [m for m in index for _ in (0, 1)])
    order = [*range(0, wide.ndim, 2), *range(1, wide.ndim, 2)]
    return wide.transpose(order).reshape(math.prod(index), math.prod(index))


def _draws(key: Array, laws: Any, scale: float, samples: int, count: int, tangent: bool) -> dict[int, Drawn]:
    """By example, samples × tokens × tokens."""
    (q, dq), (k, dk) = laws
    roots = [_root(m) for m in ((q, k, dq, dk) if tangent else (q, k))]
    keys = jax.random.split(key, 3)

    def product(left: Array, right: Array, key: Array) -> Array:
        white = jax.random.normal(key, (samples, len(left), len(right)), left.dtype)
        return scale * jnp.einsum("ij,sjk,lk->sil", left, white, right, precision="highest")

    value = product(roots[0], roots[1], keys[0])
    slope = product(roots[2], roots[1], keys[1]) + product(roots[0], roots[3], keys[2]) if tangent else None
    return {
        i + 1: Drawn(_block(value, i, count), None if slope is None else _block(slope, i, count)) for i in range(count)
    }


def _block(array: Array, i: int, count: int) -> Array:
    """The scores of one example."""
    rows, columns = (m // count for m in array.shape[1:])
    return array[:, i * rows : (i + 1) * rows, i * columns : (i + 1) * columns]


def _root(matrix: Array) -> Array:
    """A triangular root of a covariance, whose round-off (repeated tokens, equal examples) is lifted above zero."""
    size, numbers = len(matrix), jnp.finfo(matrix.dtype)
    floor = 10 * size * numbers.eps * jnp.diagonal(matrix).max() + numbers.tiny
    return jnp.linalg.cholesky(matrix + floor * jnp.eye(size, dtype=matrix.dtype))


def derivative(make: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Drawn]:
    """A function of drawn quantities, with its tangent."""

    def pushed(values: list[Any]) -> Drawn:
        plain = [v.value if isinstance(v, Drawn) else v for v in values]
        moving = {i: v.tangent for i, v in enumerate(values) if isinstance(v, Drawn) and v.tangent is not None}

        def along(given: dict[int, Array]) -> Any:
            return make([given.get(i, v) for i, v in enumerate(plain)])

        if not moving:
            return Drawn(make(plain), None)
        value, tangent = jax.jvp(along, ({i: plain[i] for i in moving},), (moving,))
        return Drawn(value, tangent if jnp.issubdtype(value.dtype, jnp.floating) else None)

    return pushed
