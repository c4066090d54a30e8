"""Sums over all pairs of two clouds, a block of rows at a time: no array of n × m numbers, also in reverse mode.

Potentials are in units of ε here: F = f/ε, G = g/ε, and C = c/ε. A cost is a function of a row of pairs and of
parameters, so that derivatives reach the latter.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PyTree

from jaxtheory.transport.costs import power, weighted_sum

RowCost = Callable[[Array, Array, PyTree], Array]  # (point [d], others [d m], parameters) -> [m]
_UNROLLED = 16  # components whose squares are added in one loop over the pairs
# Pairs held at once: as many as stay in a core's cache; accelerators want enough work for a launch.
_CPU_PAIRS, _ACCELERATOR_PAIRS = 2**18, 2**24


class Problem(NamedTuple):
    """Two measures and what their transport costs; `penalty` is None where the marginals are constraints."""

    x: Float[Array, "n d"]
    y: Float[Array, "m d"]
    a: Float[Array, " n"]
    b: Float[Array, " m"]
    epsilon: Float[Array, ""]
    penalty: Float[Array, ""] | None
    parameters: PyTree

    @property
    def transposed(self) -> "Problem":
        """The problem with both measures exchanged."""
        return self._replace(x=self.y, y=self.x, a=self.b, b=self.a)


class Pairs(NamedTuple):
    """How pairs are processed: the costs of a row of them, the same from y to x, and the size of a block."""

    cost: RowCost
    exchanged: RowCost
    block: int | None

    @property
    def transposed(self) -> "Pairs":
        """The pairs (y, x)."""
        return self._replace(cost=self.exchanged, exchanged=self.cost)


def squared_cost(point: Float[Array, " d"], others: Float[Array, "d m"], _: PyTree = None) -> Float[Array, " m"]:
    """|x − y|² of a point x and each y, by differences; an addition over components is a loop over the pairs."""
    total = jnp.zeros(others.shape[1], others.dtype)
    for start in range(0, len(point), _UNROLLED):
        part = slice(start, start + _UNROLLED)
        total = total + _few_squares(point[part], others[part])
    return total


@partial(jax.checkpoint, prevent_cse=False)
def _few_squares(point: Array, others: Array) -> Array:
    squares = [(point[k] - others[k]) ** 2 for k in range(len(point))]
    return sum(squares[1:], squares[0])


def power_cost(point: Float[Array, " d"], others: Float[Array, "d m"], p: Array) -> Float[Array, " m"]:
    """|x − y|^p of a point x and each y."""
    return power(squared_cost(point, others), p / 2)


def softmin(pairs: Pairs, problem: Problem, G: Float[Array, " m"]) -> Float[Array, " n"]:
    """−log Σ_j b_j exp(G_j − C_ij), row by row."""
    heights, inverse, others = G + jnp.log(problem.b), 1 / problem.epsilon, problem.y.T

    def row(point: Array) -> Array:
        return -logsumexp(heights - pairs.cost(point, others, problem.parameters) * inverse)

    return _by_rows(row, pairs.block, len(problem.y), problem.x)


def softmin_near(pairs: Pairs, problem: Problem, G: Float[Array, " m"], near: Float[Array, " n"]) -> Float[Array, " n"]:
    """The softmin by sums of exp(F_i + G_j − C_ij) at a near F: the search for the largest term takes longer than they.

    That search is made where a sum is out of range, and for batches, whose members differ in this.
    """

    @jax.custom_batching.custom_vmap
    def found(problem: Problem, G: Array, near: Array) -> Array:
        sums = _sums(pairs, problem, G, near)
        largest = math.exp(half_range(sums))
        good = (sums > 1 / largest) & (sums < largest)
        return jax.lax.cond(good.all(), lambda: near - jnp.log(sums), lambda: softmin(pairs, problem, G))

    @found.def_vmap
    def batch(size: int, batched: Any, problem: Problem, G: Array, near: Array) -> tuple[Array, bool]:
        axes = jax.tree.map(lambda given: 0 if given else None, tuple(batched[:2]))
        return jax.vmap(partial(softmin, pairs), in_axes=axes, axis_size=size)(problem, G), True

    return found(problem, G, near)


def _sums(pairs: Pairs, problem: Problem, G: Array, near: Array) -> Float[Array, " n"]:
    """Σ_j b_j exp(F_i + G_j − C_ij)."""
    heights, inverse, others = G + jnp.log(problem.b), 1 / problem.epsilon, problem.y.T

    def row(point: Array, height: Array) -> Array:
        return jnp.exp(height + (heights - pairs.cost(point, others, problem.parameters) * inverse)).sum()

    return _by_rows(row, pairs.block, len(problem.y), problem.x, near)


def plan_product(
    pairs: Pairs, problem: Problem, F: Float[Array, " n"], G: Float[Array, " m"], v: Float[Array, " m"]
) -> Float[Array, " n"]:
    """Σ_j K_ij v_j with the density K_ij = exp(F_i + G_j − C_ij) of the plan with respect to a ⊗ b."""
    inverse, others = 1 / problem.epsilon, problem.y.T
    # only a pair without mass on either side is so dense, and its overflow would turn 0 · K into NaN
    largest = half_range(G)

    def row(point: Array, height: Array) -> Array:
        exponents = height + G - pairs.cost(point, others, problem.parameters) * inverse
        return jnp.matmul(jnp.exp(jnp.minimum(exponents, largest)), v, precision="highest")

    return _by_rows(row, pairs.block, len(problem.y), problem.x, F)


def mean_cost(pairs: Pairs, problem: Problem) -> Float[Array, ""]:
    """Σ_ij a_i b_j c_ij over both masses, without a derivative: the cost at ε = ∞."""
    problem = jax.lax.stop_gradient(problem)
    others = problem.y.T

    def row(point: Array) -> Array:
        return jnp.matmul(
            pairs.cost(point, others, problem.parameters), problem.b / problem.b.sum(), precision="highest"
        )

    return weighted_sum(problem.a / problem.a.sum(), _by_rows(row, pairs.block, len(problem.y), problem.x))


def dual_value(pairs: Pairs, problem: Problem, F: Float[Array, " n"], G: Float[Array, " m"]) -> Float[Array, ""]:
    """The dual objective, in units of ε; see `entropic`."""
    mass = weighted_sum(problem.a, plan_product(pairs, problem, F, G, problem.b))
    total = problem.a.sum() * problem.b.sum()
    return _gain(problem, problem.a, F) + _gain(problem, problem.b, G) - mass + total


def _gain(problem: Problem, masses: Array, F: Array) -> Array:
    if problem.penalty is None:
        return weighted_sum(masses, F)
    ratio = problem.penalty / problem.epsilon
    return -ratio * weighted_sum(masses, jnp.expm1(-F / ratio))


def target(problem: Problem, F: Array) -> Array:
    """The optimal plan's marginal over the given one, minus one: 0, or exp(−f/ρ) − 1 where it is penalized."""
    return jnp.zeros_like(F) if problem.penalty is None else jnp.expm1(-F * (problem.epsilon / problem.penalty))


def half_range(x: Array) -> float:
    """An exponent whose exponential, and the square of it, are finite."""
    return 0.5 * math.log(float(jnp.finfo(x.dtype).max))


def damping(problem: Problem) -> Array:
    """κ = ρ/(ρ + ε), by which a penalty shrinks an update of the potentials."""
    one = jnp.ones_like(problem.epsilon)
    return one if problem.penalty is None else one / (one + problem.epsilon / problem.penalty)


def _by_rows(row: Callable[..., Array], block: int | None, width: int, *columns: Array) -> Array:
    """`row` of each entry of the columns, as many at once as make a block of `width` numbers each."""
    held = block or (_CPU_PAIRS if jax.default_backend() == "cpu" else _ACCELERATOR_PAIRS)
    rows = max(1, held // max(width, 1))
    if len(columns[0]) <= rows:
        return jax.vmap(row)(*columns)
    again = jax.checkpoint(lambda one: row(*one), prevent_cse=False)
    return jax.lax.map(again, columns, batch_size=rows)
