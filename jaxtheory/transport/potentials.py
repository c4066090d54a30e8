"""Sinkhorn's iteration for the potentials of entropic transport, with their implicit derivative.

The value of the dual is stationary in the potentials, so its first derivative needs no derivative of theirs; its second
derivative does, and theirs solves the linearized equations by conjugate gradients over blocks.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.guarded import norm
from jaxtheory.transport.blocks import (
    Pairs,
    Problem,
    damping,
    dual_value,
    half_range,
    plan_product,
    softmin_near,
    target,
)
from jaxtheory.transport.costs import weighted_sum


class Loop(NamedTuple):
    """At most so many iterations; one potential for both sides where the measures are one and the cost symmetric."""

    iterations: int
    symmetric: bool


class Found(NamedTuple):
    """Potentials in units of ε, and the iterations that led to them."""

    F: Float[Array, " n"]
    G: Float[Array, " m"]
    iterations: Int[Array, ""]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def potentials(pairs: Pairs, loop: Loop, problem: Problem, tolerance: Array, start: tuple[Array, Array]) -> Found:
    """The maximizers of the dual: updates that alternate between them, or averaged ones where they are one."""
    kappa = damping(problem)

    def updated(state: tuple[Found, Array]) -> tuple[Found, Array]:
        (F, G, count), _ = state
        rows = softmin_near(pairs, problem, G, F)
        error = weighted_sum(problem.a, jnp.abs(_expm1(F - rows) - target(problem, F))) / mean_mass(problem)
        if loop.symmetric:
            middle = (F + kappa * rows) / 2
            return Found(middle, middle, count + 1), error
        new = kappa * rows
        other = kappa * softmin_near(pairs.transposed, problem.transposed, new, G)
        shift = _translation(problem, new, other)
        return Found(new + shift, other - shift, count + 1), error

    def unsettled(state: tuple[Found, Array]) -> Array:
        return (state[1] > tolerance / 2) & (state[0].iterations < loop.iterations)

    initial = Found(*start, jnp.int32(0)), jnp.full_like(problem.epsilon, jnp.inf)
    return jax.lax.while_loop(unsettled, updated, initial)[0]


def _translation(problem: Problem, F: Array, G: Array) -> Float[Array, ""]:
    """The c at which F + c and G − c are best for the dual; updates alone approach it by κ² each, which may be near 1.

    The plan stays, and both targets get the same mass.
    """
    if problem.penalty is None:
        return jnp.zeros_like(problem.epsilon)
    ratio = problem.penalty / problem.epsilon

    def log_mass(masses: Array, potential: Array) -> Array:
        total = masses.sum()
        return jnp.log(total) + jnp.log1p(weighted_sum(masses, _expm1(-potential / ratio)) / total)

    shift = ratio * (log_mass(problem.a, F) - log_mass(problem.b, G)) / 2
    return jnp.where(jnp.isfinite(shift), shift, jnp.zeros_like(shift))


def _expm1(exponent: Array) -> Array:
    """exp − 1 without overflow: a far start is far from the tolerance at any finite value."""
    return jnp.expm1(jnp.minimum(exponent, half_range(exponent)))


def marginal_error(pairs: Pairs, problem: Problem, F: Array, G: Array) -> Float[Array, ""]:
    """How far both marginals of the plan are from the optimal plan's, in L1 over the mass, computed anew."""
    rows = plan_product(pairs, problem, F, G, problem.b) - 1
    columns = plan_product(pairs.transposed, problem.transposed, G, F, problem.a) - 1
    left, right = jnp.abs(rows - target(problem, F)), jnp.abs(columns - target(problem, G))
    total = weighted_sum(problem.a, left) + weighted_sum(problem.b, right)
    return jax.lax.stop_gradient(total / mean_mass(problem))


def mean_mass(problem: Problem) -> Float[Array, ""]:
    """The mean of both masses, which are 1 unless they are penalized."""
    return (problem.a.sum() + problem.b.sum()) / 2


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def stationary_value(pairs: Pairs, problem: Problem, F: Array, G: Array) -> Float[Array, ""]:
    """ε times the dual at its maximizers: the derivative in them is 0, at any order through their own derivative."""
    return problem.epsilon * dual_value(pairs, problem, F, G)


@stationary_value.defjvp
def _stationary_value_jvp(pairs: Pairs, primals: PyTree, tangents: PyTree) -> tuple[Array, Array]:
    problem, F, G = primals
    return jax.jvp(lambda moved: moved.epsilon * dual_value(pairs, moved, F, G), (problem,), tangents[:1])


@potentials.defjvp
def _potentials_jvp(pairs: Pairs, loop: Loop, primals: PyTree, tangents: PyTree) -> tuple[Found, Found]:
    """dF = r − κ W dG and dG = s − κ V dF, the derivatives of both updates at the potentials, solved for dF.

    W = K b/r and V = Kᵀ a/s have rows that sum to one. With u = √(a r) dF the equations become symmetric,
    (1 − κ² S Sᵀ) u = √(a r) (r − κ W s); without a penalty their null space, f + c and g − c, is filled.
    """
    problem, tolerance, start = primals
    found = potentials(pairs, loop, problem, tolerance, start)
    F, G = found.F, found.G
    turned = pairs.transposed
    row_mass = plan_product(pairs, problem, F, G, problem.b)
    column_mass = plan_product(turned, problem.transposed, G, F, problem.a)

    def updates(moved: Problem) -> tuple[Array, Array]:
        rows = plan_product(pairs, moved, F, G, moved.b)
        columns = plan_product(turned, moved.transposed, G, F, moved.a)
        kappa = damping(moved)
        return kappa * (F - jnp.log(rows)), kappa * (G - jnp.log(columns))

    rows, columns = jax.jvp(updates, (problem,), tangents[:1])[1]
    kappa, half = damping(problem), jnp.sqrt(problem.a / row_mass)

    def to_rows(dG: Array) -> Array:
        return kappa * plan_product(pairs, problem, F, G, problem.b * dG) / row_mass

    def to_columns(u: Array) -> Array:
        return kappa * plan_product(turned, problem.transposed, G, F, half * u) / column_mass

    constant = jnp.sqrt(problem.a * row_mass) if problem.penalty is None else jnp.zeros_like(half)

    def system(u: Array) -> Array:
        back = half * kappa * plan_product(pairs, problem, F, G, problem.b * to_columns(u))
        return u - back + constant * weighted_sum(constant, u)

    right = half * row_mass * (rows - to_rows(columns))
    u = jax.lax.custom_linear_solve(system, right, _conjugate_gradients, symmetric=True)
    dG = columns - to_columns(u)
    still: Any = np.zeros((), jax.dtypes.float0)
    return found, Found(rows - to_rows(dG), dG, still)


def _conjugate_gradients(system: Any, right: Array) -> Array:
    """The solution of a symmetric system, NaN where it is not found."""
    accuracy = float(jnp.finfo(right.dtype).eps) ** 0.6
    u, _ = jax.scipy.sparse.linalg.cg(system, right, tol=accuracy, maxiter=max(100, min(2 * len(right), 1000)))
    good = norm(system(u) - right) <= 10 * accuracy * norm(right)
    return jnp.where(good, u, jnp.full_like(u, jnp.nan))
