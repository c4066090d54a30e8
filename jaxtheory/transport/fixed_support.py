"""Entropic barycenters on a support that is given, for any costs, by projections in the log domain."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, positive, require
from jaxtheory.results import Status, status_where
from jaxtheory.transport.costs import Number, given_masses, normalized, uniform

_PRODUCTS = 1000  # of the linear solve behind a derivative


class FixedSupportBarycenter(NamedTuple):
    """Masses on the support, and Σ_i λ_i ‖q_i − q‖₁ of the plans' second marginals about their mean q, the masses."""

    masses: Float[Array, " s"]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    status: Int[Array, ""]


@boundary(static=("max_iterations",))
def fixed_support_barycenter(
    costs: Float[Array, "r n s"],
    masses: Float[Array, "r n"],
    weights: Float[Array, " r"] | None = None,
    *,
    epsilon: Number,
    tolerance: Number = 1e-4,
    max_iterations: int = 5000,
) -> FixedSupportBarycenter:
    r"""The entropic barycenter of r measures on s given places, for any costs.

        argmin_q Σ_i λ_i min_P {⟨C_i, P⟩ + ε Σ P (log P − 1) : P 1 = a_i, Pᵀ1 = q}

    By iterative Bregman projections, with Σ_i λ_i g_i = 0 throughout:

        f_i = ε log a_i − ε LSE_y((g_i − C_i)/ε),   log q = Σ_i λ_i LSE_x((f_i − C_i)/ε),   g_i = ε log q − ε LSE_x(·)

    The entropy blurs: of one measure q = Kᵀ(a/K1) with K = e^(−C/ε), and of Gaussians of one variance v with the costs
    |x − y|², weights λ and means m_i, q is a Gaussian of mean Σ_i λ_i m_i and variance v + ε/2.

    Args:
        costs: C_i[x, y] of moving mass from place x of measure i to place y of the support, e.g. squared distances.
        masses: a_i ≥ 0, normalized here. weights: λ ≥ 0, normalized here; equal by default.
        epsilon: ε > 0, in units of the costs.
        tolerance: largest residual of an answer that passes. max_iterations: ≥ 1.

    Returns:
        `FixedSupportBarycenter`, its residual recomputed; NOT_FINITE, NOT_CONVERGED (small ε take many iterations).

    Raises:
        ValueError: shapes that do not fit, costs that are not finite, ε or tolerance ≤ 0, negative weights or masses
            (NOT_FINITE inside `jit`).

    Derivatives by costs, masses, weights and ε are implicit, of any mode and up to the second order, by conjugate
    gradients on the r s numbers g_i. Cost: 2 r n s exponentials an iteration; memory r n s.
    Source: Benamou, Carlier, Cuturi, Nenna, Peyré (2015, Iterative Bregman projections for regularized transportation
    problems); Cuturi, Doucet (2014).

    >>> places = jnp.arange(5.0)
    >>> costs = (places[:, None] - places[None]) ** 2
    >>> ends = jnp.array([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    >>> fixed_support_barycenter(jnp.stack([costs, costs]), ends, epsilon=0.1).masses.round(2)
    Array([0., 0., 1., 0., 0.], dtype=float32)
    """
    require(costs.size >= 1, "costs", costs.shape, "hold at least one number", "pass [measures, places, support]")
    require(
        masses.shape == costs.shape[:2], "masses", masses.shape, f"have shape {costs.shape[:2]}", "pass one a place"
    )
    require(max_iterations >= 1, "max_iterations", max_iterations, "be >= 1", "use 5000")
    costs = constrain("costs", costs, lambda v: abs(v) < jnp.inf, "be finite", "use a large number for forbidden moves")
    masses = constrain("masses", masses, lambda v: (v >= 0) & (v < jnp.inf), "be >= 0 and finite", "pass masses")
    given = given_masses("weights", weights, len(costs), costs.dtype)
    shares = uniform(len(costs), costs.dtype) if given is None else given
    epsilon = positive("epsilon", epsilon, "use a fraction of the costs, e.g. epsilon=0.1")
    tolerance = positive("tolerance", tolerance, "use e.g. tolerance=1e-4")
    numbers = (jnp.asarray(value, costs.dtype) for value in (epsilon, tolerance))
    return _solved(costs, jax.vmap(normalized)(masses), shares, *numbers, max_iterations)


class _Dual(NamedTuple):
    """The dual problem, potentials and costs in units of ε: C_i/ε, log a_i and λ."""

    scaled: Float[Array, "r n s"]
    logs: Float[Array, "r n"]
    shares: Float[Array, " r"]

    def mean(self, values: Array) -> Array:
        """Σ_i λ_i of the values of each measure."""
        return jnp.tensordot(self.shares, values, axes=1, precision="highest")

    def seen(self, g: Array) -> Array:
        """LSE_x((f_i − C_i)/ε) with the f_i of these g_i."""
        f = self.logs - logsumexp(g[:, None] - self.scaled, axis=2)
        return logsumexp(f[:, :, None] - self.scaled, axis=1)

    def marginals(self, h: Array) -> Array:
        """The second marginals of the plans, with h less its mean for g."""
        g = h - self.mean(h)[None]
        return jnp.exp(g + self.seen(g))

    def gap(self, h: Array) -> Array:
        """Their differences from their mean, times λ: the slope of the dual, whose Jacobian is symmetric."""
        q = self.marginals(h)
        return self.shares[:, None] * (q - self.mean(q)[None])

    def projected(self, g: Array) -> Array:
        """The next g: that of the barycenter log q = Σ_i λ_i LSE_x(·)."""
        logm = self.seen(g)
        return self.mean(logm)[None] - logm


@partial(jax.jit, static_argnums=5)
def _solved(
    costs: Array, masses: Array, shares: Array, epsilon: Array, tolerance: Array, iterations: int
) -> FixedSupportBarycenter:
    # what is common to a row is taken up by f
    scaled = (costs - jax.lax.stop_gradient(costs.min(2, keepdims=True))) / epsilon
    present = masses > 0
    logs = jnp.where(present, jnp.log(jnp.where(present, masses, jnp.ones_like(masses))), -jnp.inf)
    dual = _Dual(scaled, logs, shares)

    def project(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        g = dual.projected(state[0])
        return g, jnp.abs(dual.gap(g)).sum(), state[2] + 1

    unsettled = lambda state: (state[1] > tolerance / 2) & (state[2] < iterations)  # noqa: E731
    still = jnp.zeros((costs.shape[0], costs.shape[2]), costs.dtype)
    first = jax.lax.stop_gradient((still, jnp.full_like(tolerance, jnp.inf), jnp.int32(0)))
    found, _, count = jax.lax.stop_gradient(jax.lax.while_loop(unsettled, project, first))
    residual = jax.lax.stop_gradient(jnp.abs(dual.gap(found)).sum())
    answer = dual.mean(dual.marginals(_implicit(dual, found)))
    lost = ~(jnp.isfinite(answer).all() & jnp.isfinite(residual))
    faults = (lost, Status.NOT_FINITE), (~(residual <= tolerance), Status.NOT_CONVERGED)
    return FixedSupportBarycenter(answer, residual, count, status_where(*faults))


def _implicit(dual: _Dual, found: Array) -> Array:
    """The potentials with their derivatives: two corrections, each 0 and carrying one more order of them."""

    def product(v: Array) -> Array:
        """The Jacobian of the gap, made definite on what moves no q: a constant a measure, and one h for all."""
        idle = v.mean(0, keepdims=True) + v.mean(1, keepdims=True) - v.mean()
        return jax.jvp(dual.gap, (found,), (v,))[1] + idle / v.size

    def correct(h: Array, _: None) -> tuple[Array, None]:
        left = dual.gap(h)
        right = left - jax.lax.stop_gradient(left)
        return h - cg(product, right, tol=float(jnp.finfo(h.dtype).eps) ** 0.75, maxiter=_PRODUCTS)[0], None

    return jax.lax.scan(correct, found, length=2)[0]
