"""Flows that are not a gradient flow of positions alone: conic, Fisher-Rao, birth-death, Stein, consensus."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxtheory.checks import holds, require
from jaxtheory.meanfield.cloud import AXIS, Cloud, around, mean, per_particle, require_rows, split
from jaxtheory.meanfield.flows import Flow, gaussian_noise, moved
from jaxtheory.meanfield.functionals import Functional, gradients


def conic(functional: Functional, weight_rate: float, step_size: float) -> Flow:
    r"""Conic particle gradient descent: mirror steps of the masses and gradient steps of the positions.

        w = r²:  r' = r exp(−2α J'(θ)), so w' = w exp(−4α J'(θ));   θ' = θ − β ∇J'(θ)

    with J' the first variation of `functional`, a function of a nonnegative measure (its mass is not fixed; penalize it
    by `potential(lambda theta: lam)`).

    Args:
        functional: J. weight_rate: α ≥ 0. step_size: β ≥ 0; α = 0 keeps the masses, β = 0 the places.

    Raises:
        ValueError: a negative rate.

    Cost: one gradient a step. Start from a `Cloud` with weights. Source: Chizat (2022, Sparse optimization on measures
    with over-parameterized gradient descent), algorithm 1 with the mirror retraction.
    """
    _require_rate("weight_rate", weight_rate)
    _require_rate("step_size", step_size)

    def step(cloud: Cloud, memory: Any, key: PRNGKeyArray, index: Array) -> tuple[Cloud, Any]:
        slope, variation = gradients(functional, cloud)
        weights = cloud.weights * jnp.exp(-4 * weight_rate * variation)
        return replace(moved(cloud, slope, jnp.asarray(-step_size)), weights=weights), memory

    return Flow(lambda cloud: (), step)


def fisher_rao(functional: Functional, rate: float) -> Flow:
    r"""Fisher-Rao flow of the weights at fixed places: ẇ_i = −w_i (V_i − V̄), V = δF/δμ, by exponential steps.

        w' ∝ w exp(−rate · V),  Σw' = Σw; for a fixed V this is exact: w(t) ∝ w e^(−tV), t = rate · steps

    Args:
        functional: F. rate: time units of the flow a step, ≥ 0.

    Cost: one gradient a step, and sums over particles. Source: Rotskoff, Jelassi, Bruna, Vanden-Eijnden (2019).
    """
    _require_rate("rate", rate)

    def step(cloud: Cloud, memory: Any, key: PRNGKeyArray, index: Array) -> tuple[Cloud, Any]:
        return replace(cloud, weights=_tilted(functional, cloud, rate)), memory

    return Flow(lambda cloud: (), step)


def birth_death(functional: Functional, rate: float, *, base: Flow | None = None) -> Flow:
    r"""Birth and death of particles by the first variation, after a step of another flow that moves them.

    Particle i leaves N w_i e^(−rate · V_i) / Σ_j w_j e^(−rate · V_j) offspring on average, V = δF/δμ: where V is low it
    is copied, where V is high it dies, and the number N stays. Offspring are drawn by systematic resampling, so each
    count is its mean rounded up or down, without bias.

    Args:
        functional: F, whose variation decides; an entropy is not part of it.
        rate: time units of the flow a step, ≥ 0. base: moves the particles before; None leaves them in place.

    Weights end equal. Cost: one gradient of F, and a gather of N d numbers (over all devices of a mesh).
    Source: Rotskoff, Jelassi, Bruna, Vanden-Eijnden (2019), algorithm 1; systematic draws: Douc, Cappé (2005).
    """
    _require_rate("rate", rate)
    mover = Flow(lambda cloud: (), lambda cloud, memory, key, index: (cloud, memory)) if base is None else base

    def step(cloud: Cloud, memory: Any, key: PRNGKeyArray, index: Array) -> tuple[Cloud, Any]:
        moving, drawing = jax.random.split(key)
        cloud, memory = mover.step(cloud, memory, moving, index)
        total, parents = cloud.weights.sum(), _systematic(_tilted(functional, cloud, rate), drawing)
        particles = split(jax.tree.map(lambda leaf: leaf[parents], cloud.particles), cloud.mesh)
        return replace(cloud, particles=particles, weights=jnp.full_like(cloud.weights, total / cloud.size)), memory

    return Flow(mover.init, step)


def _tilted(functional: Functional, cloud: Cloud, rate: float) -> Array:
    """Weights times exp(−rate · V), their sum kept."""
    exponent = -rate * gradients(functional, cloud)[1]
    weights = cloud.weights * jnp.exp(exponent - exponent.max())
    return weights * (cloud.weights.sum() / weights.sum())


def _systematic(weights: Array, key: PRNGKeyArray) -> Array:
    """Parents of N offspring: one uniform draw, N equally spaced quantiles of the weights."""
    count = len(weights)
    edges = jnp.cumsum(weights) / weights.sum()
    quantiles = (jax.random.uniform(key, (), weights.dtype) + jnp.arange(count, dtype=weights.dtype)) / count
    return jnp.minimum(jnp.searchsorted(edges, quantiles), count - 1)


def stein(
    functional: Functional,
    kernel: Callable[[Array, Array], Float[Array, "n1 n2"]],
    temperature: float,
    step_size: float,
    *,
    block: int = 64,
) -> Flow:
    r"""Stein variational gradient descent on F(μ) − λ Ent(μ): a deterministic flow in the kernel's geometry.

        θ_i' = θ_i + η Σ_j w_j [λ ∇_1 k(θ_j, θ_i) − k(θ_j, θ_i) ∇δF/δμ(θ_j)]

    With F = ∫V dμ and λ = 1 it samples e^(−V).

    Args:
        functional: F. kernel: k(x1 [n1 d], x2 [n2 d]) -> [n1 n2], symmetric positive.
        temperature: λ ≥ 0. step_size: η > 0. block: particles moved at once.

    Raises:
        ValueError: λ < 0, η ≤ 0; particles that are not one array [N, d].

    Cost: N² kernel entries and their gradients a step, memory block · N · d/devices. On a mesh of D devices D − 1
    messages of N/D · (2d + 1) numbers around a ring. Source: Liu, Wang (2016), algorithm 1.
    """
    require(holds(lambda t: t >= 0, temperature), "temperature", temperature, "be >= 0", "use 0.0 for no repulsion")
    require(
        holds(lambda s: s > 0, step_size), "step_size", step_size, "be > 0", "reverse the functional's sign instead"
    )

    def pull(at: Array, shown: tuple[Array, Array, Array]) -> Array:
        x, slope, weights = shown

        def witness(shift: Array) -> tuple[Array, Array]:
            row = kernel(x + shift[None], at[None])[:, 0] * weights
            return row.sum(), row

        repulsion, row = jax.grad(witness, has_aux=True)(jnp.zeros_like(at))
        return temperature * repulsion - jnp.matmul(row, slope, precision="highest")

    def local(x: Array, slope: Array, weights: Array, *, mesh: Any) -> Array:
        def pairs(mine: Array, shown: Any) -> Array:
            return jax.lax.map(lambda at: pull(at, shown), mine, batch_size=min(block, len(mine)))

        return around(pairs, mesh, x, (x, slope, weights))

    def step(cloud: Cloud, memory: Any, key: PRNGKeyArray, index: Array) -> tuple[Cloud, Any]:
        require_rows(cloud)
        x, structure = jax.tree.flatten(cloud.particles)
        parts = (x[0], jax.tree.leaves(gradients(functional, cloud)[0])[0], cloud.weights)
        velocity = _on_mesh(local, cloud.mesh)(*parts)
        return moved(cloud, jax.tree.unflatten(structure, [velocity]), jnp.asarray(step_size)), memory

    return Flow(lambda cloud: (), step)


def _on_mesh(local: Callable[..., Array], mesh: Any) -> Callable[..., Array]:
    def run(*parts: Array) -> Array:
        return local(*parts, mesh=mesh)

    spec = PartitionSpec(AXIS)
    return run if mesh is None else jax.shard_map(run, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec)


def consensus(
    objective: Callable[[Any], Array],
    *,
    drift: float,
    noise: float,
    sharpness: float,
    step_size: float,
    diffusion: Literal["isotropic", "anisotropic"] = "isotropic",
) -> Flow:
    r"""Consensus-based optimization: particles drift to a weighted mean and shake in proportion to their distance.

        m = Σ w_i e^(−αV(θ_i)) θ_i / Σ w_i e^(−αV(θ_i)),   dθ = −λ(θ − m) dt + σ |θ − m| dW

    by Euler-Maruyama; anisotropic noise is σ (θ − m) ⊙ dW. For α = 0 the variance obeys V̇ = −(2λ − dσ²) V.

    Args:
        objective: V of one particle (an array), which need not be differentiable.
        drift: λ > 0. noise: σ ≥ 0. sharpness: α ≥ 0. step_size: η > 0.
        diffusion: isotropic needs 2λ > dσ² to agree; anisotropic 2λ > σ², in any dimension.

    Raises:
        ValueError: a parameter out of range.

    Cost: N evaluations of V a step. Source: Pinnau, Totzeck, Tse, Martin (2017); Carrillo, Jin, Li, Zhu (2021).
    """
    positive = holds(lambda a, b: (a > 0) & (b > 0), drift, step_size)
    require(positive, "drift, step_size", (drift, step_size), "be > 0 to reach a consensus", "use drift=1.0")
    require(
        holds(lambda a, b: (a >= 0) & (b >= 0), noise, sharpness),
        "noise, sharpness",
        (noise, sharpness),
        "be >= 0",
        "use 0.0 to switch off",
    )
    kinds = ("isotropic", "anisotropic")
    require(diffusion in kinds, "diffusion", diffusion, f"be one of {kinds}", "use anisotropic in high dimension")

    def step(cloud: Cloud, memory: Any, key: PRNGKeyArray, index: Array) -> tuple[Cloud, Any]:
        center = _consensus_point(objective, cloud, sharpness)
        offset = jax.tree.map(lambda leaf, m: leaf - m[None], cloud.particles, center)
        size = offset if diffusion == "anisotropic" else _distances(offset)
        xi = gaussian_noise(key, cloud)
        shaken = jax.tree.map(lambda s, z: noise * step_size**0.5 * s * z, size, xi)
        return moved(moved(cloud, offset, jnp.asarray(-drift * step_size)), shaken, jnp.asarray(1.0)), memory

    return Flow(lambda cloud: (), step)


def _consensus_point(objective: Callable[[Any], Array], cloud: Cloud, sharpness: float) -> PyTree[Array]:
    values = jax.vmap(objective)(cloud.particles)
    tilt = cloud.weights * jnp.exp(-sharpness * (values - values.min()))
    return mean(replace(cloud, weights=tilt / tilt.sum()), lambda theta: theta)


def _distances(offset: PyTree[Array]) -> PyTree[Array]:
    squares = [(leaf**2).reshape(len(leaf), -1).sum(1) for leaf in jax.tree.leaves(offset)]
    distance = jnp.sqrt(sum(squares[1:], squares[0]))
    return jax.tree.map(lambda leaf: per_particle(distance, jnp.ones_like(leaf)), offset)


def _require_rate(name: str, value: float) -> None:
    require(holds(lambda v: v >= 0, value), name, value, "be >= 0", "reverse the functional's sign to climb")
