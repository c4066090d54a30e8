"""The gradient a flow follows: exact, of a random batch of the data, or of a batch with its variance reduced."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxtheory.checks import require
from jaxtheory.meanfield.cloud import Cloud
from jaxtheory.meanfield.functionals import Functional, Loss, Unit, gradients, predict


class Estimator(NamedTuple):
    """An estimate of the Wasserstein gradient as two pure functions, with what it remembers between steps.

    `init(cloud) -> memory`; `gradient(cloud, memory, key, index) -> (gradient, memory)`.
    """

    init: Callable[[Cloud], Any]
    gradient: Callable[[Cloud, Any, PRNGKeyArray, Int[Array, ""]], tuple[PyTree[Array], Any]]


class Anchor(NamedTuple):
    """Where the full gradient was last taken, and what it was."""

    particles: PyTree[Array]
    gradient: PyTree[Array]


def exact(functional: Functional) -> Estimator:
    """The whole gradient at every step; what a flow makes of a plain functional."""
    return Estimator(lambda cloud: (), lambda cloud, memory, key, index: (gradients(functional, cloud)[0], memory))


def stochastic(functional: Functional, batch: int) -> Estimator:
    r"""The gradient of F on `batch` data points, drawn anew with replacement at every step: unbiased for F.

    The same points for all particles, so the outputs' noise does not average out over particles.

    Args:
        functional: holds a `risk`; 1 ≤ batch ≤ its samples.

    Raises:
        ValueError: no data in the functional, or a batch out of range.

    Cost: batch/n of the exact gradient's. Source: Mei, Montanari, Nguyen (2018), equation 4.
    """
    draw = _batches(functional, batch)
    return Estimator(lambda cloud: (), lambda cloud, memory, key, index: (gradients(draw(key), cloud)[0], memory))


def svrg(functional: Functional, batch: int, period: int) -> Estimator:
    r"""Variance-reduced gradient: g_B(μ) − g_B(μ̃) + g(μ̃), the anchor μ̃ renewed every `period` steps.

    Args:
        functional: holds a `risk`; 1 ≤ batch ≤ its samples.
        period: steps between full gradients, ≥ 1.

    Raises:
        ValueError: as `stochastic`; period < 1.

    Cost: 2 batch/n + 1/period of the exact gradient's a step; twice the particles' memory.
    Source: Johnson, Zhang (2013); for mean-field Langevin, Suzuki, Wu, Nitanda (2023), section 3.2.
    """
    draw = _batches(functional, batch)
    require(period >= 1, "period", period, "be >= 1 step", "n / batch steps make the full gradient as dear as the rest")

    def anchored(cloud: Cloud) -> Anchor:
        return Anchor(cloud.particles, gradients(functional, cloud)[0])

    def gradient(cloud: Cloud, memory: Anchor, key: PRNGKeyArray, index: Array) -> tuple[PyTree[Array], Anchor]:
        anchor = jax.lax.cond(index % period == 0, anchored, lambda _: memory, cloud)
        part = draw(key)
        here = gradients(part, cloud)[0]
        there = gradients(part, Cloud(anchor.particles, cloud.weights, cloud.mesh))[0]
        return jax.tree.map(lambda a, b, c: a - b + c, here, there, anchor.gradient), anchor

    return Estimator(anchored, gradient)


class Averaged(NamedTuple):
    """Derivatives of the loss at the outputs, averaged over the visits so far, and how many those were."""

    slopes: Array
    visits: Int[Array, ""]


def dual_averaged(
    unit: Unit,
    loss: Loss,
    x: Float[Array, "n ..."],
    y: Float[Array, "n ..."],
    *,
    regularizer: Functional,
    inner_steps: int,
) -> Estimator:
    r"""The drift of particle dual averaging, for `langevin`: a potential held fixed between outer iterations.

        V_t(θ) = (1/n) Σ_k ḡ_t,k h(x_k; θ) + δF/δμ(θ) of the regularizer F,
        ḡ_t = Σ_{s≤t} 2s/(t(t+1)) ∂ℓ(f_s(x), y)

    Outer iteration t starts every `inner_steps` steps, in which the particles sample exp(−V_t/λ).

    Args:
        unit, loss, x, y: as in `risk`. regularizer: added unaveraged. inner_steps: ≥ 1.

    Raises:
        ValueError: inner_steps < 1.

    Cost: one reverse pass of the unit a step, one pass forward an outer iteration; n · outputs numbers of memory.
    Source: Nitanda, Wu, Suzuki (2021), algorithm 1.
    """
    require(inner_steps >= 1, "inner_steps", inner_steps, "be >= 1", "1 averages at every step")

    def visited(cloud: Cloud, memory: Averaged) -> Averaged:
        slopes = jax.vmap(jax.grad(loss))(predict(unit, cloud, x), y)
        share = 2 / (memory.visits + 2).astype(slopes.dtype)
        return Averaged(memory.slopes + share * (slopes - memory.slopes), memory.visits + 1)

    def gradient(cloud: Cloud, memory: Averaged, key: PRNGKeyArray, index: Array) -> tuple[PyTree[Array], Averaged]:
        memory = jax.lax.cond(index % inner_steps == 0, visited, lambda _, kept: kept, cloud, memory)
        held = Functional(lambda c: jnp.vdot(memory.slopes, predict(unit, c, x), precision="highest") / len(x))
        return gradients(held + regularizer, cloud)[0], memory

    return Estimator(lambda cloud: Averaged(jnp.zeros_like(y), jnp.int32(0)), gradient)


def as_estimator(drift: Functional | Estimator) -> Estimator:
    """An estimator as it is; of a functional, its exact gradient."""
    return drift if isinstance(drift, Estimator) else exact(drift)


def _batches(functional: Functional, batch: int) -> Callable[[PRNGKeyArray], Functional]:
    subset, samples = functional.subset, functional.samples
    if subset is None:
        raise ValueError("functional must average over data, got one that holds no risk; use it without batches.")
    require(1 <= batch <= samples, "batch", batch, f"be in 1..{samples}", "draw some of the data points")
    return lambda key: subset(jax.random.randint(key, (batch,), 0, samples, jnp.int32))
