"""Flows whose step solves a problem: the proximal (JKO) step of any functional, and entropic fictitious play."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxtheory.checks import boundary, nonnegative, positive, require, within
from jaxtheory.guarded import norm
from jaxtheory.meanfield.cloud import Cloud, matrix, particles_of, per_particle, rows
from jaxtheory.meanfield.discrepancies import drift_at
from jaxtheory.meanfield.estimators import offspring
from jaxtheory.meanfield.flows import Flow, Schedule, gaussian_noise, moved, scheduled
from jaxtheory.meanfield.functionals import Functional, evaluated, gradients

Number = float | Float[Array, ""]

_PRODUCTS = 100  # with the Hessian, a Newton step
_HALVINGS = 30
_ROUNDING = 16


@boundary(static=("max_iterations",))
def jko(functional: Functional, step_size: Schedule, *, tolerance: Number = 1e-3, max_iterations: int = 50) -> Flow:
    r"""The proximal step of Jordan, Kinderlehrer and Otto on particles: implicit Euler, stable at any step.

        θ' = argmin F(μ') + (1/2τ) Σ_i w_i |θ_i' − θ_i|²,   so θ_i' = θ_i − τ ∇δF/δμ(μ')(θ_i')

    The transport cost is that of the plan that sends each particle to its own new place: W₂² where this plan is
    optimal, e.g. for a short step, and otherwise an upper bound. F never rises. For F = κ∫|θ|²/2 dμ the step is
    θ' = θ/(1 + τκ). A cloud of particles has no entropy; for F − λ Ent there is `langevin`.

    Args:
        functional: F, twice differentiable. step_size: τ > 0, time units of the flow, or a function of
            the step's index.
        tolerance: of what Newton's method would still correct of θ', relative to θ' − θ, or to rounding of θ' where
            θ' − θ is smaller than that; norms weighted by the masses.
        max_iterations: Newton steps, ≥ 1.

    Returns:
        `Flow`; all particles are NaN after a step that was not solved to its tolerance.

    Raises:
        ValueError: τ or tolerance ≤ 0 (inside `jit`, the particles become NaN), max_iterations < 1.

    By Newton's method with conjugate gradients, each step halved until the objective falls. The objective is convex
    where τ is below 1 over the largest negative curvature; beyond, the step is a critical point. Derivatives are
    implicit, in forward and reverse mode.
    Cost: a gradient of F and at most 100 products with its Hessian a Newton step, of which a quadratic F needs one.
    Source: Jordan, Kinderlehrer, Otto (1998); Ambrosio, Gigli, Savaré (2008), the chapter on minimizing movements.

    >>> from jaxtheory import meanfield
    >>> flow = jko(meanfield.quadratic(1.0), 3.0)
    >>> end = meanfield.simulate(flow, [[1.0], [2.0]], steps=1, key=jax.random.key(0)).state.cloud.particles
    >>> [f"{theta:.3f}" for theta in end.ravel()]
    ['0.250', '0.500']
    """
    sizes = scheduled("step_size", step_size, positive, "reverse the functional's sign to climb")
    allowed = positive("tolerance", tolerance, "use e.g. tolerance=1e-3")
    require(max_iterations >= 1, "max_iterations", max_iterations, "be >= 1", "use 50")

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Int[Array, ""]) -> tuple[Cloud, PyTree]:
        tau, accuracy = (jnp.asarray(value, cloud.weights.dtype) for value in (sizes(index), allowed))
        return replace(cloud, particles=_proximal(functional, cloud, tau, accuracy, max_iterations)), memory

    return Flow(lambda cloud: (), step, lambda memory, parents: memory)


class _Step(NamedTuple):
    """A proximal step: the functional, the cloud before it (`start` are its rows, `mass` its masses), and τ."""

    functional: Functional
    cloud: Cloud
    start: Array
    mass: Array
    tau: Array

    def at(self, x: Array) -> Cloud:
        """The cloud with its particles at x."""
        return replace(self.cloud, particles=particles_of(x, self.cloud.particles))

    def objective(self, x: Array) -> Array:
        """τ F(μ') + ½ Σ_i w_i |θ_i' − θ_i|²."""
        moved = per_particle(self.mass, (x - self.start) ** 2).sum() / 2
        return self.tau * evaluated(self.functional, self.at(x)) + moved

    def gap(self, x: Array) -> Array:
        """w (θ' − θ + τ∇δF/δμ(μ')(θ')), the derivative of the objective: its Jacobian is symmetric."""
        slope = matrix(gradients(self.functional, self.at(x))[0])
        return per_particle(self.mass, x - self.start + self.tau * slope)

    def size(self, v: Array) -> Array:
        """The norm of a displacement of the cloud."""
        return norm(per_particle(jnp.sqrt(self.mass), v))

    def linear(self, product: Callable[[Array], Array], right: Array, accuracy: float) -> Array:
        """Conjugate gradients preconditioned by the masses."""
        inverse = lambda v: per_particle(1 / self.mass, v)  # noqa: E731
        return cg(product, right, tol=accuracy, maxiter=_PRODUCTS, M=inverse)[0]

    def newton(self, x: Array) -> tuple[Array, Array, Array]:
        """Newton's step from x, or down the gradient where it climbs, its length, and the slope along it."""
        slope, product = jax.linearize(self.gap, x)
        towards = self.linear(product, -slope, 1e-4)
        downhill = jnp.vdot(towards, slope, precision="highest") < 0
        towards = jnp.where(downhill, towards, per_particle(-1 / self.mass, slope))
        return towards, self.size(towards), jnp.vdot(towards, slope, precision="highest")


def _proximal(functional: Functional, cloud: Cloud, tau: Array, tolerance: Array, iterations: int) -> PyTree[Array]:
    # a massless particle has no gradient and stays; its equation is that of a unit mass
    mass = jnp.where(cloud.weights > 0, cloud.weights, jnp.ones_like(cloud.weights))
    problem = _Step(functional, cloud, rows(cloud), mass, tau)

    def excess(x: Array, left: Array) -> Array:
        """The length of the next Newton step over the tolerance."""
        rounding = _ROUNDING * jnp.finfo(x.dtype).eps * jnp.maximum(problem.size(x), problem.size(problem.start))
        return left / (tolerance * problem.size(x - problem.start) + rounding)

    def unsolved(state: tuple[Array, tuple[Array, Array, Array], Array]) -> Array:
        x, (_, left, _), count = state
        return (excess(x, left) > 0.5) & (count < iterations)

    def improved(state: tuple[Array, tuple[Array, Array, Array], Array]) -> tuple[Array, PyTree, Array]:
        x, (towards, _, slope), count = state
        x = _descended(problem.objective, x, towards, slope)
        return x, problem.newton(x), count + 1

    first = jax.lax.stop_gradient((problem.start, problem.newton(problem.start), jnp.int32(0)))
    found, (_, left, _), _ = jax.lax.stop_gradient(jax.lax.while_loop(unsolved, improved, first))
    x = _implicit(problem, found)
    return particles_of(jnp.where(excess(found, left) <= 1, x, jnp.nan), cloud.particles)


def _implicit(problem: _Step, found: Array) -> Array:
    """The solution with its derivatives: two corrections, each 0 and carrying one more order of them."""
    product = lambda v: jax.jvp(problem.gap, (found,), (v,))[1]  # noqa: E731

    def correct(x: Array, _: None) -> tuple[Array, None]:
        left = problem.gap(x)
        return x - problem.linear(product, left - jax.lax.stop_gradient(left), 1e-6), None

    return jax.lax.scan(correct, found, length=2)[0]


def _descended(objective: Callable[[Array], Array], x: Array, towards: Array, slope: Array) -> Array:
    """x + t · towards, with t = 1 halved until the objective falls by a fraction of what the slope predicts."""
    before = objective(x)
    rounding = _ROUNDING * jnp.finfo(x.dtype).eps * jnp.abs(before)

    def rises(state: tuple[Array, Array]) -> Array:
        t, count = state
        fallen = objective(x + t * towards) <= before + 1e-4 * t * slope + rounding
        return ~fallen & (count < _HALVINGS)

    t, _ = jax.lax.while_loop(rises, lambda s: (s[0] / 2, s[1] + 1), (jnp.ones_like(before), jnp.int32(0)))
    return x + t * towards


@boundary(static=("inner_steps",))
def fictitious_play(
    functional: Functional, temperature: Schedule, share: Number, *, step_size: Schedule, inner_steps: int
) -> Flow:
    r"""Entropic fictitious play: a share of the measure moves to the best response to the measure itself.

        μ' = (1 − α) μ + α μ̂,   μ̂ ∝ exp(−δF/δμ(μ)/λ), the minimizer of the linearized F − λ Ent

    Each particle has a chain of Langevin steps in the potential δF/δμ(μ), held fixed in a step of the flow, and takes
    the chain's place with probability α. A chain goes on where it ended in the step before.

    Args:
        functional: F. temperature: λ ≥ 0, or a function of the step's index. share: 0 ≤ α ≤ 1, so the time α a step.
        step_size: η > 0 of the chains, or a function of the index. inner_steps: of the chains a step, ≥ 1; together
            they should cover the relaxation time of μ̂.

    Raises:
        ValueError: λ < 0, η ≤ 0, α outside [0, 1] (inside `jit`, the particles become NaN), inner_steps < 1.

    Bias O(η) of the chains. Cost: `inner_steps` gradients of the first variation on N + N particles a step, and twice
    the particles' memory. Source: Chen, Ren, Wang (2023, Entropic fictitious play for mean field optimization problem).

    >>> from jaxtheory import meanfield
    >>> flow = fictitious_play(meanfield.quadratic(1.0), 0.0, 1.0, step_size=0.5, inner_steps=2)
    >>> meanfield.simulate(flow, [[4.0], [8.0]], steps=1, key=jax.random.key(0)).state.cloud.particles.ravel()
    Array([1., 2.], dtype=float32)
    """
    hint = "use e.g. step_size=0.1"
    sizes = scheduled("step_size", step_size, positive, hint)
    temperatures = scheduled("temperature", temperature, nonnegative, "use 0.0 for a gradient descent of the chains")
    share = within("share", share, 0.0, 1.0, "pass a probability, e.g. share=0.1")
    require(inner_steps >= 1, "inner_steps", inner_steps, "be >= 1", "use e.g. 10")

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Int[Array, ""]) -> tuple[Cloud, PyTree]:
        shaking, choosing = jax.random.split(key)
        size = sizes(index)
        spread = jnp.sqrt(2 * temperatures(index) * size)

        def inner(k: Array, chains: Cloud) -> Cloud:
            noise = gaussian_noise(jax.random.fold_in(shaking, k), cloud)
            slope = drift_at(functional, cloud, chains.particles)
            return moved(moved(chains, slope, -size), noise, spread)

        chains = jax.lax.fori_loop(0, inner_steps, inner, replace(cloud, particles=memory)).particles
        chance = jnp.asarray(share, cloud.weights.dtype)
        chosen = jax.random.uniform(choosing, cloud.weights.shape, chance.dtype) < chance
        part = jnp.where(jnp.isnan(chance), chance, chosen.astype(chance.dtype))

        def mixed(kept: Array, new: Array) -> Array:
            takes = per_particle(part, jnp.ones_like(kept))
            return jnp.where(jnp.isnan(takes), takes, jnp.where(takes > 0, new, kept))

        return replace(cloud, particles=jax.tree.map(mixed, cloud.particles, chains)), chains

    return Flow(lambda cloud: cloud.particles, step, offspring)
