r"""The shortest vector of a convex hull: pairwise Frank-Wolfe steps, and Wolfe's algorithm where they are slow."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxtheory import guarded

_STEPS = 100_000  # of Frank-Wolfe
_ROUNDS = 10_000  # of Wolfe's algorithm; it needs a few for each point of the answer


@jax.custom_jvp
def shortest_weights(points: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Weights α ≥ 0, Σα = 1, of the shortest vector Σ α_i s_i of the hull of n ≥ 1 points of size at most about 1.

    Derivatives are implicit, on the points that carry weight.

    Cost: O(n² d) and O(n) a step of Frank-Wolfe; where that is slow, O(min(n, d)² d) a round of Wolfe's algorithm.
    Source: Lacoste-Julien and Jaggi (2015), Theorem 1; Wolfe (1976).

    >>> [f"{weight:.2f}" for weight in shortest_weights(jnp.array([[1.0, 1.0], [1.0, -1.0], [3.0, 0.0]]))]
    ['0.50', '0.50', '0.00']
    """
    quick = _frank_wolfe(points)
    exact = _wolfe(points, ~(gap(points, quick) <= round_off(points)))
    return jnp.where(gap(points, exact) < gap(points, quick), exact, quick)


@shortest_weights.defjvp
def _shortest_weights_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """On the support all ⟨s_i, v⟩ are equal and the weights sum to 1: a linear system, differentiated."""
    (points,), (moved,) = primals, tangents
    weights = shortest_weights(points)
    support = (weights > jnp.sqrt(jnp.finfo(weights.dtype).eps)).astype(weights.dtype)
    rows, moved = points * support[:, None], moved * support[:, None]
    kept = weights * support
    right = jnp.matmul(moved, jnp.matmul(kept, rows, precision="highest"), precision="highest")
    right = right + jnp.matmul(rows, jnp.matmul(kept, moved, precision="highest"), precision="highest")
    gram = jnp.matmul(rows, rows.T, precision="highest") + jnp.diag(1 - support)
    system = jnp.block([[gram, -support[:, None]], [support[None, :], jnp.zeros((1, 1), gram.dtype)]])
    solution = jnp.matmul(jnp.linalg.pinv(system), jnp.append(-right, 0), precision="highest")
    return weights, support * solution[:-1]


def gap(points: Float[Array, "n d"], weights: Float[Array, " n"]) -> Float[Array, ""]:
    """‖v‖ − min_i ⟨s_i, v⟩/‖v‖ ≥ 0 of v = Σ α_i s_i: zero at the shortest vector, and at v = 0.

    >>> float(gap(jnp.array([[1.0, 1.0], [1.0, -1.0]]), jnp.array([0.5, 0.5])))
    0.0
    """
    vector = jnp.matmul(weights, points, precision="highest")
    size = guarded.norm(vector)
    least = jnp.matmul(points, vector / jnp.where(size > 0, size, jnp.ones_like(size)), precision="highest").min()
    return jnp.where(size == 0, size, size - least)


def round_off(points: Float[Array, "n d"]) -> Float[Array, ""]:
    """What rounding does to an inner product of a point with a unit vector, with a margin of 100.

    >>> bool(round_off(jnp.ones((1, 4))) < 1e-3)
    True
    """
    return 100 * jnp.finfo(points.dtype).eps * guarded.norm(points, axis=1).max()


def _frank_wolfe(points: Array) -> Array:
    gram = jnp.matmul(points, points.T, precision="highest")
    accuracy = 8 * jnp.finfo(points.dtype).eps * jnp.diag(gram).max()

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        weights, _, step = state
        product = jnp.matmul(gram, weights, precision="highest")
        toward = jnp.argmin(product)
        away = jnp.argmax(jnp.where(weights > 0, product, -jnp.inf))
        # pairwise: move weight from the worst point that carries some to the best
        curvature = gram[toward, toward] + gram[away, away] - 2 * gram[toward, away]
        best = (product[away] - product[toward]) / jnp.where(curvature > 0, curvature, 1)
        moved = jnp.clip(best, 0, weights[away])
        left = jnp.dot(weights, product, precision="highest") - product.min()
        after = weights.at[toward].add(moved).at[away].add(-moved)
        return jnp.where(left > accuracy, after, weights), left, step + 1

    def going(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > accuracy) & (state[2] < _STEPS)

    start = jnp.where(jnp.arange(len(points)) == 0, jnp.ones_like(points[:, 0]), 0)
    return lax.while_loop(going, body, (start, jnp.full_like(accuracy, jnp.inf), jnp.int32(0)))[0]


class _Corral(NamedTuple):
    """Affinely independent points in use: their places, weights and which slots hold one; `solved` where the weights
    are those of the shortest vector of their affine hull."""

    place: Int[Array, " slots"]
    weight: Float[Array, " slots"]
    used: Bool[Array, " slots"]
    solved: Bool[Array, ""]
    over: Bool[Array, ""]
    rounds: Int[Array, ""]


def _wolfe(points: Array, wanted: Array) -> Array:
    """Wolfe's algorithm from the shortest point; not begun where it is not wanted."""
    slots = min(points.shape[0], points.shape[1] + 1)
    first = jnp.arange(slots) == 0
    begin = jnp.argmin(guarded.norm(points, axis=1)).astype(jnp.int32)
    place = jnp.where(first, begin, 0).astype(jnp.int32)
    start = _Corral(place, first.astype(points.dtype), first, jnp.array(True), ~wanted, jnp.int32(0))

    def body(corral: _Corral) -> _Corral:
        grown = _enter(corral, points)
        following = jax.tree.map(lambda a, b: jnp.where(corral.solved, a, b), grown, corral)
        moved = _to_affine(following, points)
        kept = jax.tree.map(lambda a, b: jnp.where(following.over, a, b), following, moved)
        return kept._replace(rounds=corral.rounds + 1)

    end = lax.while_loop(lambda corral: ~corral.over & (corral.rounds < _ROUNDS), body, start)
    weights = jnp.where(end.used, end.weight, jnp.zeros_like(end.weight))
    return jnp.zeros_like(points[:, 0]).at[end.place].add(weights)


def _enter(corral: _Corral, points: Array) -> _Corral:
    """The point that lies farthest below the current vector enters; over where none lies below it."""
    weights = jnp.where(corral.used, corral.weight, 0)
    vector = jnp.matmul(weights, points[corral.place], precision="highest")
    size = guarded.norm(vector)
    heights = jnp.matmul(points, vector / jnp.where(size > 0, size, 1), precision="highest")
    lowest = jnp.argmin(heights).astype(jnp.int32)
    known = (corral.used & (corral.place == lowest)).any()
    over = (size - heights[lowest] <= round_off(points) / 100) | known | corral.used.all()
    free = jnp.arange(len(corral.used)) == jnp.argmin(corral.used)
    entered = free & ~over
    return corral._replace(
        place=jnp.where(entered, lowest, corral.place),
        weight=jnp.where(entered, 0, weights),
        used=corral.used | entered,
        over=over,
    )


def _to_affine(corral: _Corral, points: Array) -> _Corral:
    """Towards the shortest vector of the affine hull, as far as the weights stay ≥ 0; points that reach 0 leave."""
    base = jnp.arange(len(corral.used)) == jnp.argmax(corral.used)
    rows = points[corral.place]
    origin = jnp.matmul(base.astype(rows.dtype), rows, precision="highest")
    differences = jnp.where((corral.used & ~base)[:, None], rows - origin[None, :], 0)
    free = jnp.linalg.lstsq(differences.T, -origin)[0]
    target = jnp.where(base, 1 - free.sum(), free)
    shrinks = corral.used & (target <= 0)
    room = corral.weight - target
    share = jnp.where(shrinks, corral.weight / jnp.where(room > 0, room, 1), 1)
    length = jnp.minimum(share.min(), 1)
    moved = corral.weight + length * (target - corral.weight)
    leaves = shrinks & (share <= length)
    used = corral.used & ~leaves
    weight = jnp.where(used, jnp.maximum(moved, 0), 0)
    return corral._replace(weight=weight / weight.sum(), used=used, solved=~shrinks.any())
