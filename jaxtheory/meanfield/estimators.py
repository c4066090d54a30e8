"""The gradient a flow follows: exact, of a random batch of the data, or of a batch with its variance reduced."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxtheory.checks import boundary, require
from jaxtheory.losses import Loss
from jaxtheory.meanfield.cloud import Cloud
from jaxtheory.meanfield.functionals import Functional, Unit, gradients, predict, sample_losses, targets

Resample = Callable[[PyTree, Int[Array, " N"]], PyTree]
Slopes = Callable[
    [Cloud, PyTree, PRNGKeyArray, Int[Array, ""]], tuple[tuple[PyTree[Array], Float[Array, " N"]], PyTree]
]


class Estimator(NamedTuple):
    """An estimate of the Wasserstein gradient as pure functions, with what it remembers between steps.

    `init(cloud) -> memory`; `gradient(cloud, memory, key, index) -> (gradient, memory)`; `resample(memory, parents) ->
    memory` after particle i has become a copy of particle parents[i], needed where there is a memory and particles are
    born; `slopes`, called as `gradient`, gives ((gradient, first variation at the particles), memory), which flows of
    the weights need.
    """

    init: Callable[[Cloud], PyTree]
    gradient: Callable[[Cloud, PyTree, PRNGKeyArray, Int[Array, ""]], tuple[PyTree[Array], PyTree]]
    resample: Resample | None = None
    slopes: Slopes | None = None


class Anchor(NamedTuple):
    """The cloud whose full gradient was last taken, that gradient, and the first variation at its particles.

    `ancestors` says which anchor particle each present particle descends from; None where each is its own.
    """

    particles: PyTree[Array]
    weights: Float[Array, " N"]
    gradient: PyTree[Array]
    variation: Float[Array, " N"]
    ancestors: Int[Array, " N"] | None = None


def exact(functional: Functional) -> Estimator:
    """The full gradient at every step: the default for a functional.

    Args:
        functional: F, or any function of a `Cloud`.

    Cost: one gradient of F a step.

    >>> from jaxtheory import meanfield
    >>> flow = meanfield.gradient_flow(meanfield.exact(meanfield.quadratic(1.0)), 0.5)
    >>> meanfield.simulate(flow, [[1.0]], steps=1, key=jax.random.key(0)).state.cloud.particles
    Array([[0.5]], dtype=float32)
    """
    return _estimator(lambda cloud: (), lambda cloud, memory, key, index: (gradients(functional, cloud), memory))


@boundary(static=("batch",))
def stochastic(functional: Functional, batch: int) -> Estimator:
    r"""The gradient of F on `batch` data points, drawn anew with replacement at every step: unbiased for F.

    The same points for all particles, so the outputs' noise does not average out over particles.

    Args:
        functional: holds a `risk`; 1 ≤ batch ≤ its samples.

    Raises:
        ValueError: no data in the functional, or a batch out of range.

    Cost: batch/n of the exact gradient's. Source: Mei, Montanari, Nguyen (2018), equation 4.

    >>> from jaxtheory import meanfield
    >>> x = jnp.ones((4, 1))
    >>> F = meanfield.risk(meanfield.neuron("identity"), meanfield.squared_loss, x, jnp.zeros(4))
    >>> estimator, cloud = meanfield.stochastic(F, 2), meanfield.as_cloud(jnp.ones((1, 1)))
    >>> estimator.gradient(cloud, estimator.init(cloud), jax.random.key(0), jnp.int32(0))[0]
    Array([[1.]], dtype=float32)
    """
    draw = _batches(functional, batch)
    return _estimator(lambda cloud: (), lambda cloud, memory, key, index: (gradients(draw(key), cloud), memory))


@boundary(static=("batch", "period"))
def svrg(functional: Functional, batch: int, period: int) -> Estimator:
    r"""Variance-reduced gradient: g_B(μ) − g_B(μ̃) + g(μ̃), the anchor μ̃ renewed every `period` steps.

    Args:
        functional: holds a `risk`; 1 ≤ batch ≤ its samples.
        period: steps between full gradients, ≥ 1.

    Raises:
        ValueError: as `stochastic`; period < 1.

    Cost: 2 batch/n + 1/period of the exact gradient's a step; twice the particles' memory.
    Source: Johnson, Zhang (2013); for mean-field Langevin, Suzuki, Wu, Nitanda (2023), section 3.2.

    >>> from jaxtheory import meanfield
    >>> x = jnp.array([[1.0], [2.0]])
    >>> F = meanfield.risk(meanfield.neuron("identity"), meanfield.squared_loss, x, jnp.zeros(2))
    >>> estimator, cloud = meanfield.svrg(F, 1, 10), meanfield.as_cloud(jnp.ones((1, 1)))
    >>> estimator.gradient(cloud, estimator.init(cloud), jax.random.key(0), jnp.int32(1))[0]  # exact at its anchor
    Array([[2.5]], dtype=float32)
    """
    draw = _batches(functional, batch)
    require(period >= 1, "period", period, "be >= 1 step", "use n / batch, where half of the cost is full gradients")

    def anchored(cloud: Cloud, memory: Anchor | None = None) -> Anchor:
        own = None if memory is None or memory.ancestors is None else jnp.arange(cloud.size, dtype=jnp.int32)
        return Anchor(cloud.particles, cloud.weights, *gradients(functional, cloud), own)

    def slopes(cloud: Cloud, memory: Anchor, key: PRNGKeyArray, index: Array) -> tuple[PyTree, Anchor]:
        anchor = jax.lax.cond(index % period == 0, anchored, lambda _, kept: kept, cloud, memory)
        part = draw(key)
        here = gradients(part, cloud)
        there = gradients(part, Cloud(anchor.particles, anchor.weights, cloud.mesh))
        correction = jax.tree.map(jnp.subtract, (anchor.gradient, anchor.variation), there)
        if anchor.ancestors is not None:
            correction = offspring(correction, anchor.ancestors)
        return jax.tree.map(jnp.add, here, correction), anchor

    def resample(memory: Anchor, parents: Array) -> Anchor:
        # the anchor is a measure, which births and deaths do not change
        ancestors = parents if memory.ancestors is None else memory.ancestors[parents]
        return memory._replace(ancestors=ancestors.astype(jnp.int32))

    return _estimator(anchored, slopes, resample)


def offspring(tree: PyTree[Array], parents: Int[Array, " N"]) -> PyTree[Array]:
    """What each particle inherits from its parent: the rows `parents` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[parents], tree)


class Averaged(NamedTuple):
    """Derivatives of the loss at the outputs, averaged over the visits so far, and the number of visits."""

    slopes: Array
    visits: Int[Array, ""]


@boundary(static=("inner_steps",))
def dual_averaged(
    unit: Unit,
    loss: str | Loss,
    x: Float[Array, "n ..."],
    y: Float[Array, "n ..."] | Int[Array, "n ..."],
    *,
    regularizer: Functional | None = None,
    inner_steps: int,
) -> Estimator:
    r"""The drift of particle dual averaging, for `langevin`: a potential held fixed between outer iterations.

        V_t(θ) = (1/n) Σ_k ḡ_t,k h(x_k; θ) + δF/δμ(θ) of the regularizer F,
        ḡ_t = Σ_{s≤t} 2s/(t(t+1)) ∂ℓ(f_s(x), y)

    Outer iteration t starts every `inner_steps` steps, in which the particles sample exp(−V_t/λ).

    Args:
        unit, loss, x, y: as in `risk`. regularizer: added unaveraged; None adds nothing. inner_steps: ≥ 1.

    Raises:
        ValueError: inner_steps < 1; x and y of different length; on evaluation, as `risk`.

    Cost: one reverse pass of the unit a step, one pass forward an outer iteration; n · outputs numbers of memory.
    Source: Nitanda, Wu, Suzuki (2021), algorithm 1.

    >>> from jaxtheory import meanfield
    >>> x, y = jnp.ones((2, 1)), jnp.array([1, -1])
    >>> drift = meanfield.dual_averaged(meanfield.neuron("tanh"), meanfield.logistic_loss, x, y, inner_steps=2)
    >>> flow = meanfield.langevin(drift, 0.1, 0.1)
    >>> int(meanfield.simulate(flow, jnp.zeros((8, 1)), steps=4, key=jax.random.key(0)).status)
    0
    """
    require(inner_steps >= 1, "inner_steps", inner_steps, "be >= 1", "use 1 to average at every step")
    require(len(x) == len(y), "y", y.shape, f"hold one target for each of {len(x)} points", "pair them")

    def slopes(cloud: Cloud) -> Array:
        outputs = predict(unit, cloud, x)
        return jax.grad(lambda f: sample_losses(loss, f, targets(y, outputs)).sum())(outputs)

    def init(cloud: Cloud) -> Averaged:
        outputs = jax.eval_shape(slopes, cloud)
        return Averaged(jnp.zeros(outputs.shape, outputs.dtype), jnp.int32(0))

    def visited(cloud: Cloud, memory: Averaged) -> Averaged:
        new = slopes(cloud)
        share = 2 / (memory.visits + 2).astype(new.dtype)
        return Averaged(memory.slopes + share * (new - memory.slopes), memory.visits + 1)

    def drift(cloud: Cloud, memory: Averaged, key: PRNGKeyArray, index: Array) -> tuple[PyTree, Averaged]:
        memory = jax.lax.cond(index % inner_steps == 0, visited, lambda _, kept: kept, cloud, memory)
        held = Functional(lambda c: jnp.vdot(memory.slopes, predict(unit, c, x), precision="highest") / len(x))
        return gradients(held if regularizer is None else held + regularizer, cloud), memory

    return _estimator(init, drift, lambda memory, parents: memory)


def _estimator(init: Callable[[Cloud], PyTree], slopes: Slopes, resample: Resample | None = None) -> Estimator:
    """The estimator of these slopes."""

    def gradient(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[PyTree[Array], PyTree]:
        found, memory = slopes(cloud, memory, key, index)
        return found[0], memory

    return Estimator(init, gradient, resample, slopes)


def with_slopes(drift: Functional | Estimator) -> tuple[Estimator, Slopes]:
    """`as_estimator` and its `slopes`, for flows that also need the first variation.

    Raises:
        ValueError: an estimator without `slopes`.
    """
    estimator = as_estimator(drift)
    if estimator.slopes is None:
        wish, hint = "be given for a flow of the weights", "add it: Estimator(init, gradient, resample, slopes)"
        raise ValueError(f"slopes must {wish}, got slopes=None; {hint}.")
    return estimator, estimator.slopes


def as_estimator(drift: Functional | Estimator) -> Estimator:
    """An estimator unchanged, or the exact gradient of a functional.

    Raises:
        ValueError: neither of them, nor a function of a `Cloud`.
    """
    require(isinstance(drift, Estimator) or callable(drift), "drift", drift, "be a Functional", "pass e.g. risk(...)")
    return drift if isinstance(drift, Estimator) else exact(drift)


def _batches(functional: Functional, batch: int) -> Callable[[PRNGKeyArray], Functional]:
    subset, samples = getattr(functional, "subset", None), getattr(functional, "samples", 0)
    if subset is None:
        wish = "average over data, e.g. hold a risk"
        raise ValueError(f"functional must {wish}, got functional={functional}; use it without batches.")
    require(1 <= batch <= samples, "batch", batch, f"be in 1..{samples}", "draw some of the data points")
    return lambda key: subset(jax.random.randint(key, (batch,), 0, samples, jnp.int32))
