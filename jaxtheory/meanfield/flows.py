"""Flows of a cloud of particles as two pure functions: Wasserstein gradient flow, Langevin, kinetic Langevin.

A flow is `init(cloud) -> memory` and `step(cloud, memory, key, index) -> (cloud, memory)`; `simulate` runs it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxtheory.checks import boundary, nonnegative, positive, require, returned
from jaxtheory.meanfield.cloud import Cloud, floating, split
from jaxtheory.meanfield.estimators import Estimator, Resample, as_estimator, offspring
from jaxtheory.meanfield.functionals import Functional

Step = Callable[[Cloud, PyTree, PRNGKeyArray, Int[Array, ""]], tuple[Cloud, PyTree]]
Schedule = float | Float[Array, ""] | Callable[[Int[Array, ""]], Float[Array, ""]]


_FORWARD = "reverse the functional's sign to climb"
_ENTROPY = "use 0.0 for the gradient flow"
_TURNED = ("position", "velocity", "noise")


class Flow(NamedTuple):
    """A flow as pure functions; `index` counts steps from 0, `memory` is any pytree of the flow's own.

    `resample(memory, parents)` is the memory after particle i has become a copy of particle parents[i]; a flow with
    a memory needs it where particles are born (`birth_death`).
    """

    init: Callable[[Cloud], PyTree]
    step: Step
    resample: Resample | None = None


class Kinetic(NamedTuple):
    """What kinetic Langevin remembers: velocities, the gradient at the present positions, its estimator's memory."""

    velocity: PyTree[Array]
    gradient: PyTree[Array]
    estimator: PyTree


@boundary
def gradient_flow(
    drift: Functional | Estimator, step_size: Schedule, *, method: Literal["euler", "heun"] = "euler"
) -> Flow:
    r"""Wasserstein gradient flow θ̇_i = −∇δF/δμ(θ_i), by explicit Euler (order 1) or Heun (order 2).

        Euler: θ' = θ − η g(θ);   Heun: θ' = θ − η (g(θ) + g(θ − η g(θ)))/2

    Args:
        drift: F, or an estimator of its gradient.
        step_size: η > 0, time units of the flow; or a function of the step's index.
        method: "heun" evaluates the gradient twice, with the same batch where it is stochastic.

    Raises:
        ValueError: η ≤ 0 (inside `jit` and in schedules, the particles become NaN), or another method.

    Cost: one gradient a step (two for Heun). Stable for η below 2 over the largest curvature of δF/δμ.
    Source: Mei, Montanari, Nguyen (2018); Chizat, Bach (2018), equation 4.

    >>> from jaxtheory import meanfield
    >>> flow = gradient_flow(meanfield.quadratic(1.0), lambda k: 0.5 / (k + 1.0))
    >>> meanfield.simulate(flow, jnp.ones((1, 1)), steps=2, key=jax.random.key(0)).state.cloud.particles
    Array([[0.375]], dtype=float32)
    """
    sizes, estimator = _step_sizes(step_size), as_estimator(drift)

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[Cloud, PyTree]:
        slope, after = estimator.gradient(cloud, memory, key, index)
        if method == "heun":
            ahead = moved(cloud, slope, -sizes(index))
            second, _ = estimator.gradient(ahead, after, key, index)
            slope = jax.tree.map(lambda a, b: (a + b) / 2, slope, second)
        return moved(cloud, slope, -sizes(index)), after

    return Flow(estimator.init, step, estimator.resample)


@boundary
def langevin(drift: Functional | Estimator, temperature: Schedule, step_size: Schedule) -> Flow:
    r"""Mean-field Langevin dynamics by Euler-Maruyama: the Wasserstein gradient flow of F(μ) − λ Ent(μ).

        θ' = θ − η ∇δF/δμ(θ) + √(2 λ η) ξ,   ξ ~ N(0, I) for each particle and step

    Args:
        drift: F, or an estimator of its gradient.
        temperature: λ ≥ 0, or a function of the step's index (annealing).
        step_size: η > 0, or a function of the step's index.

    Raises:
        ValueError: λ < 0 or η ≤ 0 (inside `jit` and in schedules, the particles become NaN).

    Bias O(η) of the step and O(1/N) of the particles. Cost: one gradient and N d Gaussian draws a step.
    Source: Nitanda, Wu, Suzuki (2022), equation 5; Chizat (2022); annealed: Chizat (2022), theorem 4.1.

    >>> from jaxtheory import meanfield
    >>> flow = langevin(meanfield.quadratic(1.0), 0.5, 0.1)
    >>> run = meanfield.simulate(flow, jnp.zeros((4096, 1)), steps=100, key=jax.random.key(0))
    >>> f"{run.state.cloud.particles.var():.1f}"
    '0.5'
    """
    sizes, temperatures, estimator = _step_sizes(step_size), _temperatures(temperature), as_estimator(drift)

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[Cloud, PyTree]:
        batch, noise = jax.random.split(key)
        slope, memory = estimator.gradient(cloud, memory, batch, index)
        size = sizes(index)
        spread = jnp.sqrt(2 * temperatures(index) * size)
        return moved(moved(cloud, slope, -size), gaussian_noise(noise, cloud), spread), memory

    return Flow(estimator.init, step, estimator.resample)


@boundary
def kinetic(
    drift: Functional | Estimator,
    temperature: Schedule,
    step_size: Schedule,
    *,
    friction: float | Float[Array, ""] = 1.0,
) -> Flow:
    r"""Underdamped (kinetic) mean-field Langevin by BAOAB, one gradient a step.

        dθ = v dt,   dv = −∇δF/δμ(θ) dt − γ v dt + √(2 γ λ) dW

    Args:
        drift: F, or an estimator of its gradient. temperature: λ ≥ 0, or a function of the step's index.
        step_size: η > 0, or a function of the step's index; stable below 2/√(largest curvature). friction: γ > 0.

    Raises:
        ValueError: λ < 0, η ≤ 0 or γ ≤ 0 (inside `jit` and in schedules, the particles become NaN).

    On a quadratic energy the positions have their exact stationary variance at any stable step.
    Velocities start at 0, and a stochastic estimator's first batch is that of `jax.random.key(0)`.
    Cost: one gradient and N d draws a step; three times the particles' memory.
    Source: Leimkuhler, Matthews (2013); mean-field: Chen, Lin, Ren, Wang (2024).

    >>> from jaxtheory import meanfield
    >>> flow = kinetic(meanfield.quadratic(1.0), 0.0, 0.1)
    >>> state = meanfield.simulate(flow, jnp.ones((1, 1)), steps=1, key=jax.random.key(0)).state
    >>> f"{state.cloud.particles[0, 0]:.3f} {state.memory.velocity[0, 0]:.3f}"
    '0.995 -0.095'
    """
    sizes, temperatures, estimator = _step_sizes(step_size), _temperatures(temperature), as_estimator(drift)
    friction = positive("friction", friction, "use langevin for the limit of large friction")

    def init(cloud: Cloud) -> Kinetic:
        memory = estimator.init(cloud)
        slope, memory = estimator.gradient(cloud, memory, jax.random.key(0), jnp.int32(0))
        return Kinetic(jax.tree.map(jnp.zeros_like, cloud.particles), slope, memory)

    def step(cloud: Cloud, memory: Kinetic, key: PRNGKeyArray, index: Array) -> tuple[Cloud, Kinetic]:
        batch, noise = jax.random.split(key)
        size = sizes(index)
        half = partial(jax.tree.map, lambda v, g: v - _like(size / 2, v) * g)
        turn = partial(baoab_turn, step_size=size, friction=friction, temperature=temperatures(index))
        pairs = turn(cloud.particles, half(memory.velocity, memory.gradient), gaussian_noise(noise, cloud))
        cloud = replace(cloud, particles=pairs[0])
        slope, inner = estimator.gradient(cloud, memory.estimator, batch, index)
        return cloud, Kinetic(half(pairs[1], slope), slope, inner)

    def resample(memory: Kinetic, parents: Array) -> Kinetic:
        velocity, gradient = offspring((memory.velocity, memory.gradient), parents)
        return Kinetic(velocity, gradient, resampled(estimator.resample, memory.estimator, parents))

    return Flow(init, step, resample)


def resampled(rule: Resample | None, memory: PyTree, parents: Int[Array, " N"]) -> Any:
    """The memory after particles became copies of their parents; only an empty one needs no rule."""
    if rule is None:
        held = [leaf.shape for leaf in jax.tree.leaves(memory)]
        require(not held, "resample", held, "be given for a flow with a memory", "add it: Flow(init, step, resample)")
        return memory
    return rule(memory, parents)


@boundary
def baoab_turn(
    position: PyTree,
    velocity: PyTree,
    noise: PyTree,
    *,
    step_size: float | Float[Array, ""],
    friction: float | Float[Array, ""],
    temperature: float | Float[Array, ""],
) -> tuple[PyTree[Array], PyTree[Array]]:
    r"""The middle of BAOAB: half a drift, the exact Ornstein-Uhlenbeck step of the velocity, half a drift.

        θ ← θ + (η/2) v;   v ← c v + √(λ (1 − c²)) ξ, c = e^(−γη);   θ ← θ + (η/2) v

    Args:
        position, velocity, noise: θ, v and ξ, alike. step_size: η > 0. friction: γ ≥ 0. temperature: λ ≥ 0.

    Returns:
        The position and the velocity after it.

    Raises:
        ValueError: η ≤ 0, γ < 0 or λ < 0 (inside `jit`, the result is NaN).

    Cost: a few operations a number. Source: Leimkuhler, Matthews (2013).

    >>> still, moving = jnp.array([0.0]), jnp.array([1.0])
    >>> position, velocity = baoab_turn(still, moving, still, step_size=0.2, friction=1.0, temperature=1.0)
    >>> f"{position[0]:.4f} {velocity[0]:.4f}"
    '0.1819 0.8187'
    """
    position, velocity, noise = (floating(*pair) for pair in zip(_TURNED, (position, velocity, noise), strict=True))
    size = jnp.asarray(positive("step_size", step_size, _FORWARD))
    damping = size * nonnegative("friction", friction, "use 0.0 for no friction")
    heat = nonnegative("temperature", temperature, _ENTROPY)
    drift = partial(jax.tree.map, lambda q, v: q + _like(size / 2, q) * v)
    decay, spread = jnp.exp(-damping), jnp.sqrt(-jnp.expm1(-2 * damping) * heat)
    turned = jax.tree.map(lambda v, xi: _like(decay, xi) * v + _like(spread, xi) * xi, velocity, noise)
    return drift(drift(position, velocity), turned), turned


def _like(scalar: Array, leaf: ArrayLike) -> Array:
    return scalar.astype(jnp.result_type(leaf))


def scheduled(name: str, value: Schedule, check: Callable[[str, Any, str], Any], hint: str) -> Any:
    """A number or a schedule as a function of the step's index, checked (inside `jit`, NaN where forbidden)."""
    if callable(value):
        return lambda index: jnp.asarray(check(name, returned(name, value(index), (), whole=float), hint))
    number = check(name, value, hint)
    return lambda index: jnp.asarray(number)


def _step_sizes(value: Schedule) -> Callable[[Int[Array, ""]], Float[Array, ""]]:
    return scheduled("step_size", value, positive, _FORWARD)


def _temperatures(value: Schedule) -> Callable[[Int[Array, ""]], Float[Array, ""]]:
    return scheduled("temperature", value, nonnegative, _ENTROPY)


def moved(cloud: Cloud, direction: PyTree[Array], scale: Float[Array, ""]) -> Cloud:
    """Every particle moved by `scale` times its direction."""
    leaves = jax.tree.map(lambda leaf, v: leaf + scale.astype(leaf.dtype) * v, cloud.particles, direction)
    return replace(cloud, particles=leaves)


def gaussian_noise(key: PRNGKeyArray, cloud: Cloud) -> PyTree[Array]:
    """Standard Gaussians of the particles' shape; the same numbers however many devices share them."""
    leaves, structure = jax.tree.flatten(cloud.particles)
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return split(jax.tree.unflatten(structure, draws), cloud.mesh)
