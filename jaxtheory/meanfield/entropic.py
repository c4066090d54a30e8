"""Entropically regularized transport: the Sinkhorn divergence and its derivatives."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import boundary, positive, require
from jaxtheory.guarded import power_of_two
from jaxtheory.meanfield.cloud import Cloud
from jaxtheory.meanfield.costs import Transport, both, squared_distances, uniform, vanished
from jaxtheory.results import Status, status_where

Number = float | Float[Array, ""]


@boundary(static=("max_iterations",))
def sinkhorn(
    x: Cloud | PyTree,
    y: Cloud | PyTree,
    *,
    epsilon: Number,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
    tolerance: Number = 1e-3,
    max_iterations: int = 2000,
) -> Transport:
    r"""Sinkhorn divergence S_ε(x, y) = OT_ε(x, y) − (OT_ε(x, x) + OT_ε(y, y))/2 for the cost |x − y|².

        OT_ε(a, b) = min_P ⟨P, C⟩ + ε KL(P ‖ a ⊗ b)

    S_ε → W₂² as ε → 0 and is 0 at x = y for every ε; the bias is O(ε²).

    Args:
        x, y: samples, as arrays [n, d], pytrees or clouds. epsilon: ε > 0, in units of the cost.
        x_weights, y_weights: ≥ 0, normalized here; equal by default.
        tolerance: largest ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of an answer that passes. max_iterations: of each of three solves.

    Returns:
        `Transport`; residual is the largest of the three marginal errors, recomputed from the potentials, and status
        NOT_CONVERGED where it exceeds `tolerance`, ILL_CONDITIONED where the cost is too small for its dtype.

    Raises:
        ValueError: ε ≤ 0, negative weights, weights of another length (values inside `jit`: NOT_FINITE).

    Differentiable in points, weights and ε: the first derivative is that of the dual at the potentials found, the
    second solves for the potentials' own. Cost: 3 solves of n m flops an iteration, n m memory; a second derivative
    n³ more. Source: Cuturi (2013); Feydy et al. (2019).

    >>> found = sinkhorn(jnp.zeros((2, 1)), jnp.ones((2, 1)), epsilon=0.1)
    >>> f"{found.cost:.3f}", int(found.status)
    ('1.000', 0)
    """
    require(max_iterations >= 1, "max_iterations", max_iterations, "be >= 1", "use 2000")
    epsilon = positive("epsilon", epsilon, "use exact() for the unregularized cost")
    tolerance = positive("tolerance", tolerance, "use e.g. tolerance=1e-3")
    x, y, a, b = both(x, y, x_weights, y_weights)
    a = uniform(len(x), x.dtype) if a is None else a
    b = uniform(len(y), y.dtype) if b is None else b
    return _sinkhorn(x, y, a, b, jnp.asarray(epsilon, x.dtype), jnp.asarray(tolerance, x.dtype), max_iterations)


@partial(jax.jit, static_argnums=6)
def _sinkhorn(x: Array, y: Array, a: Array, b: Array, epsilon: Array, tolerance: Array, iterations: int) -> Transport:
    unit = power_of_two(jnp.concatenate([x, y]))
    x, y, epsilon = x / unit, y / unit, epsilon / unit / unit

    def solve(p: Array, q: Array, mass: Array, other: Array, one: bool) -> tuple[Array, Array]:
        return _entropic(squared_distances(p, q), mass, other, epsilon, tolerance, _Loop(iterations, one))

    (cross, r1), (left, r2), (right, r3) = solve(x, y, a, b, False), solve(x, x, a, a, True), solve(y, y, b, b, True)
    scaled, residual = cross - (left + right) / 2, jnp.maximum(r1, jnp.maximum(r2, r3))
    cost = scaled * unit * unit
    lost = ~(jnp.isfinite(cost) & jnp.isfinite(residual))
    # below its rounding the divergence is 0 in any units
    small = vanished(cost, jnp.abs(scaled) > 100 * jnp.finfo(x.dtype).eps * jnp.abs(cross))
    faults = (lost, Status.NOT_FINITE), (~(residual <= tolerance), Status.NOT_CONVERGED), small
    return Transport(cost, residual, status_where(*faults))


class _Loop(NamedTuple):
    """How the potentials are sought: at most so many iterations, as one potential where both measures are one."""

    iterations: int
    symmetric: bool


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def _entropic(costs: Array, a: Array, b: Array, epsilon: Array, tolerance: Array, loop: _Loop) -> tuple[Array, Array]:
    """OT_ε by its dual at the potentials, and the marginal error of their plan, which carries no derivative."""
    f, g = _potentials(costs, a, b, epsilon, tolerance, loop)
    return _dual(costs, a, b, epsilon, f, g), _marginal_error(costs, a, b, epsilon, f, g)


@_entropic.defjvp
def _entropic_jvp(loop: _Loop, primals: Any, tangents: Any) -> tuple[Any, Any]:
    f, g = _potentials(*primals, loop)

    def dual(costs: Array, a: Array, b: Array, epsilon: Array) -> Array:
        return _dual(costs, a, b, epsilon, f, g)  # stationary in f and g

    value, change = jax.jvp(dual, primals[:4], tangents[:4])
    costs, a, b, epsilon, _ = primals
    residual = jax.lax.stop_gradient(_marginal_error(costs, a, b, epsilon, f, g))
    return (value, residual), (change, jnp.zeros_like(residual))


def _plan(costs: Array, epsilon: Array, f: Array, g: Array) -> Array:
    """The density of the plan with respect to a ⊗ b."""
    return jnp.exp((f[:, None] + g[None] - costs) / epsilon)


def _dual(costs: Array, a: Array, b: Array, epsilon: Array, f: Array, g: Array) -> Array:
    dot = partial(jnp.matmul, precision="highest")
    return dot(a, f) + dot(b, g) - epsilon * (dot(a, dot(_plan(costs, epsilon, f, g), b)) - 1)


def _marginal_error(costs: Array, a: Array, b: Array, epsilon: Array, f: Array, g: Array) -> Array:
    plan = a[:, None] * _plan(costs, epsilon, f, g) * b[None]
    return jnp.abs(plan.sum(1) - a).sum() + jnp.abs(plan.sum(0) - b).sum()


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def _potentials(costs: Array, a: Array, b: Array, epsilon: Array, tolerance: Array, loop: _Loop) -> tuple[Array, Array]:
    """The maximizers f, g of the dual, by updates that alternate between them, or by averaged ones of f = g."""
    log_a, log_b = jnp.log(a), jnp.log(b)

    def updated(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        f, g, _, count = state
        rows = -epsilon * logsumexp((g[None] - costs) / epsilon + log_b[None], axis=1)
        error = jnp.matmul(a, jnp.abs(jnp.expm1((f - rows) / epsilon)), precision="highest")
        if loop.symmetric:
            middle = (f + rows) / 2
            return middle, middle, error, count + 1
        columns = -epsilon * logsumexp((rows[:, None] - costs) / epsilon + log_a[:, None], axis=0)
        return rows, columns, error, count + 1

    def unsettled(state: tuple[Array, Array, Array, Array]) -> Array:
        return (state[2] > tolerance / 2) & (state[3] < loop.iterations)

    start = jnp.zeros_like(a), jnp.zeros_like(b), jnp.full_like(epsilon, jnp.inf), jnp.int32(0)
    return jax.lax.while_loop(unsettled, updated, start)[:2]


@_potentials.defjvp
def _potentials_jvp(loop: _Loop, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """The derivatives of the two marginal equations, solved for those of f; f + c, g − c are as good for any c."""
    costs, a, b, epsilon, _ = primals
    changed, da, db, heated, _ = tangents
    f, g = _potentials(*primals, loop)
    plan, dot = _plan(costs, epsilon, f, g), partial(jnp.matmul, precision="highest")
    shift = plan * (changed + heated * (f[:, None] + g[None] - costs) / epsilon)
    rows = dot(shift, b) - epsilon * dot(plan, db)
    columns = dot(a, shift) - epsilon * dot(da, plan)
    forth, back = plan * b[None], plan.T * a[None]
    system = jnp.eye(len(a), dtype=a.dtype) - dot(forth, back) + a[None]
    df = jnp.linalg.solve(system, rows - dot(forth, columns))
    return (f, g), (df, columns - dot(back, df))
