"""Flows that are not a gradient flow of positions alone: conic, Fisher-Rao, birth-death, Stein, consensus."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxtheory.checks import Checked, boundary, nonnegative, positive, require
from jaxtheory.guarded import norm
from jaxtheory.meanfield.cloud import (
    AXIS,
    Cloud,
    around,
    matrix,
    mean,
    particles_of,
    per_particle,
    rows,
    split,
)
from jaxtheory.meanfield.estimators import Estimator, as_estimator, with_slopes
from jaxtheory.meanfield.flows import Flow, Schedule, gaussian_noise, moved, resampled, scheduled
from jaxtheory.meanfield.functionals import Functional, gradients, interaction
from jaxtheory.transport.costs import weighted_sum

Number = float | Float[Array, ""]
Kernel = Callable[[Array, Array], Float[Array, "n1 n2"]]


@boundary
def conic(drift: Functional | Estimator, weight_rate: Schedule, step_size: Schedule) -> Flow:
    r"""Conic particle gradient descent: mirror steps of the masses and gradient steps of the positions.

        w = r²:  r' = r exp(−2α J'(θ)), so w' = w exp(−4α J'(θ));   θ' = θ − β ∇J'(θ)

    with J' the first variation of J, a function of a nonnegative measure (its mass is not fixed; penalize it by
    `potential(lambda theta: lam)`).

    Args:
        drift: J, or an estimator of its slopes. weight_rate: α ≥ 0; 0 keeps the masses. step_size: β ≥ 0; 0 keeps the
            places. Each a number or a function of the step's index.

    Raises:
        ValueError: a negative rate (inside `jit`, the particles become NaN); an estimator without `slopes`.

    Cost: one gradient a step. Start from a `Cloud` with weights. Source: Chizat (2022, Sparse optimization on measures
    with over-parameterized gradient descent), algorithm 1 with the mirror retraction.

    >>> from jaxtheory import meanfield
    >>> flow = conic(meanfield.potential(lambda theta: theta @ theta), 0.5, 0.0)
    >>> run = meanfield.simulate(flow, jnp.array([[0.0], [1.0]]), steps=1, key=jax.random.key(0))
    >>> [f"{weight:.3f}" for weight in run.state.cloud.weights]
    ['0.500', '0.068']
    """
    rates, sizes = _rates("weight_rate", weight_rate), _rates("step_size", step_size)
    estimator, slopes = with_slopes(drift)

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[Cloud, PyTree]:
        (slope, variation), memory = slopes(cloud, memory, key, index)
        weights = cloud.weights * jnp.exp(-4 * rates(index).astype(variation.dtype) * variation)
        return replace(moved(cloud, slope, -sizes(index)), weights=weights), memory

    return Flow(estimator.init, step, estimator.resample)


@boundary
def fisher_rao(
    drift: Functional | Estimator,
    rate: Schedule,
    *,
    temperature: Number | None = None,
    kernel: Kernel | None = None,
) -> Flow:
    r"""Fisher-Rao flow of the weights at fixed places: ẇ_i = −w_i (V_i − V̄), by exponential steps.

        w' ∝ w exp(−rate · V),  Σw' = Σw;   V_i = δF/δμ(θ_i) + λ log Σ_j w_j k(θ_i, θ_j)

    Without the term of the density, for a fixed V, this is exact: w(t) ∝ w e^(−tV), t = rate · steps.

    Args:
        drift: F, or an estimator of its slopes. rate: time units of the flow a step, ≥ 0, or a function of its
            index.
        temperature, kernel: λ ≥ 0 and k ≥ 0 of F − λ Ent, as in `birth_death`; None adds nothing.

    Raises:
        ValueError: a negative rate or λ (inside `jit`, the weights become NaN); λ without k or k without λ.

    Cost: one gradient a step, and sums over particles; with k, N² entries.
    Source: Rotskoff, Jelassi, Bruna, Vanden-Eijnden (2019).

    >>> from jaxtheory import meanfield
    >>> flow = fisher_rao(meanfield.potential(lambda theta: theta @ theta), 1.0)
    >>> run = meanfield.simulate(flow, jnp.array([[0.0], [1.0]]), steps=1, key=jax.random.key(0))
    >>> [f"{weight:.3f}" for weight in run.state.cloud.weights]
    ['0.731', '0.269']
    """
    rates, (estimator, slopes) = _rates("rate", rate), with_slopes(drift)
    density = _log_density(temperature, kernel)

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[Cloud, PyTree]:
        (_, variation), memory = slopes(cloud, memory, key, index)
        return replace(cloud, weights=_tilted(variation + density(cloud), cloud, rates(index))), memory

    return Flow(estimator.init, step, estimator.resample)


class Lineage(NamedTuple):
    """What birth and death remembers: the memory of the flow that moves the particles, and of its own estimator."""

    base: PyTree
    estimator: PyTree


@boundary
def birth_death(
    drift: Functional | Estimator,
    rate: Schedule,
    *,
    base: Flow | None = None,
    temperature: Number | None = None,
    kernel: Kernel | None = None,
) -> Flow:
    r"""Birth and death of particles by the first variation, after a step of another flow that moves them.

        V_i = δF/δμ(θ_i) + λ log Σ_j w_j k(θ_i, θ_j)

    Particle i leaves N w_i e^(−rate · V_i) / Σ_j w_j e^(−rate · V_j) offspring on average: where V is low it is copied,
    where V is high it dies, and the number N stays. Offspring are drawn by systematic resampling, so each count is its
    mean rounded up or down, without bias.

    Args:
        drift: F, whose variation decides, or an estimator of its slopes. rate: time units of the flow a step, ≥ 0,
            or a function of its index.
        base: moves the particles before; None leaves them in place. Offspring inherit what it remembers of their
            parent, e.g. the velocity and the gradient of `kinetic`, by the base's `resample`.
        temperature: λ ≥ 0 of the descent of F − λ Ent; with F = ∫V dμ and λ = 1 it samples e^(−V). None is λ = 0.
        kernel: k(x1 [n1 d], x2 [n2 d]) -> [n1 n2], symmetric and ≥ 0, of particles as rows: the density is Σ_j w_j
            k(·, θ_j) up to a factor, which cancels. Its width is the resolution: it should hold many particles.

    Raises:
        ValueError: a negative rate or λ (inside `jit`, the weights become NaN); λ without k or k without λ; a base with
            a memory and no `resample`.

    Weights end equal. Cost: one gradient of F, and a gather of N d numbers (over all devices of a mesh); with k, N²
    entries. Source: Rotskoff, Jelassi, Bruna, Vanden-Eijnden (2019), algorithm 1; the density term: Lu, Lu, Nolen
    (2019, Accelerating Langevin sampling with birth-death); systematic draws: Douc, Cappé (2005).

    >>> from jaxtheory import meanfield
    >>> flow = birth_death(meanfield.potential(lambda theta: theta @ theta), 10.0)
    >>> meanfield.simulate(flow, [[0.0], [2.0]], steps=1, key=jax.random.key(0)).state.cloud.particles.ravel()
    Array([0., 0.], dtype=float32)
    """
    rates, (estimator, slopes) = _rates("rate", rate), with_slopes(drift)
    density = _log_density(temperature, kernel)
    mover = Flow(lambda cloud: (), lambda cloud, memory, key, index: (cloud, memory)) if base is None else base

    def resample(memory: Lineage, parents: Array) -> Lineage:
        moved = resampled(mover.resample, memory.base, parents)
        return Lineage(moved, resampled(estimator.resample, memory.estimator, parents))

    def init(cloud: Cloud) -> Lineage:
        # resampled once by the identity, so that the memory has its final structure
        return resample(Lineage(mover.init(cloud), estimator.init(cloud)), jnp.arange(cloud.size, dtype=jnp.int32))

    def step(cloud: Cloud, memory: Lineage, key: PRNGKeyArray, index: Array) -> tuple[Cloud, Lineage]:
        moving, drawing = jax.random.split(key)
        cloud, base = mover.step(cloud, memory.base, moving, index)
        (_, variation), own = slopes(cloud, memory.estimator, jax.random.fold_in(drawing, 1), index)
        tilted = _tilted(variation + density(cloud), cloud, rates(index))
        total, parents = tilted.sum(), _systematic(tilted, drawing)
        particles = split(jax.tree.map(lambda leaf: leaf[parents], cloud.particles), cloud.mesh)
        weights = jnp.full_like(cloud.weights, 1 / cloud.size) * total
        return replace(cloud, particles=particles, weights=weights), resample(Lineage(base, own), parents)

    return Flow(init, step, resample)


def _log_density(temperature: Number | None, kernel: Kernel | None) -> Callable[[Cloud], Array]:
    """λ log Σ_j w_j k(θ_i, θ_j) at each particle: the first variation of ½∬k dμ dμ inside the logarithm."""
    given = "temperature" if kernel is None else "kernel"
    both = (temperature is None) == (kernel is None)
    require(both, given, given, "come with the other of temperature and kernel", "pass both, or neither")
    if temperature is None or kernel is None:
        return lambda cloud: jnp.zeros_like(cloud.weights)
    heat, density = nonnegative("temperature", temperature, "use None for no entropy"), interaction(kernel)
    return lambda cloud: jnp.asarray(heat, cloud.weights.dtype) * jnp.log(gradients(density, cloud)[1])


def _tilted(variation: Array, cloud: Cloud, rate: Any) -> Array:
    """Weights times exp(−rate · V), their sum kept."""
    weights = cloud.weights * _relative(-jnp.asarray(rate, cloud.weights.dtype) * variation, cloud)
    return weights * (cloud.weights.sum() / weights.sum())


def _relative(exponent: Array, cloud: Cloud) -> Array:
    """The exponential, over its largest value on particles that have mass; the others have no part in it."""
    largest = jnp.where(cloud.weights == 0, -jnp.inf, exponent).max()
    return jnp.exp(jnp.minimum(exponent - largest, 0.0))


def _systematic(weights: Array, key: PRNGKeyArray) -> Array:
    """Parents of N offspring: one uniform draw u, and the quantiles u, u + 1, ... of N w/Σw.

    Cumulated numbers are whole parts and fractions apart, so that their rounding does not grow with N.
    """
    count = len(weights)
    expected = weights * (count / weighted_sum(weights, jnp.ones_like(weights)))
    whole = jnp.floor(expected)

    def add(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        part = left[1] + right[1]
        carry = jnp.floor(part)
        return left[0] + right[0] + carry.astype(jnp.int32), part - carry

    whole, part = jax.lax.associative_scan(add, (whole.astype(jnp.int32), expected - whole))
    below = whole + (part > jax.random.uniform(key, (), weights.dtype)).astype(jnp.int32)
    parents = jnp.searchsorted(below, jnp.arange(count, dtype=jnp.int32), side="right").astype(jnp.int32)
    last = jnp.where(weights > 0, jnp.arange(count, dtype=jnp.int32), 0).max()
    return jnp.minimum(parents, last)


@boundary(static=("block",))
def stein(
    drift: Functional | Estimator,
    kernel: Kernel,
    temperature: Number,
    step_size: Schedule,
    *,
    block: int = 64,
) -> Flow:
    r"""Stein variational gradient descent on F(μ) − λ Ent(μ): a deterministic flow in the kernel's geometry.

        θ_i' = θ_i + η Σ_j w_j [λ ∇_1 k(θ_j, θ_i) − k(θ_j, θ_i) ∇δF/δμ(θ_j)]

    With F = ∫V dμ and λ = 1 it samples e^(−V).

    Args:
        drift: F, or an estimator of its gradient.
        kernel: k(x1 [n1 d], x2 [n2 d]) -> [n1 n2], symmetric positive, of particles as rows.
        temperature: λ ≥ 0. step_size: η > 0, or a function of the step's index. block: particles moved at once.

    Raises:
        ValueError: λ < 0, η ≤ 0 (inside `jit`, the particles become NaN); block < 1.

    Cost: N² kernel entries and their gradients a step, memory block · N · d/devices. On a mesh of D devices D − 1
    messages of N/D · (2d + 1) numbers around a ring. Source: Liu, Wang (2016), algorithm 1.

    >>> from jaxtheory import meanfield
    >>> flow = stein(meanfield.quadratic(1.0), lambda x, y: x @ y.T + 1, 1.0, 0.1)
    >>> meanfield.simulate(flow, jnp.ones((1, 1)), steps=1, key=jax.random.key(0)).state.cloud.particles
    Array([[0.9]], dtype=float32)
    """
    heat = nonnegative("temperature", temperature, "use 0.0 for no repulsion")
    sizes = scheduled("step_size", step_size, positive, "reverse the functional's sign to climb")
    require(block >= 1, "block", block, "be >= 1 particle", "use 64")
    checked = Checked("kernel", kernel, "pairs")
    estimator = as_estimator(drift)

    @partial(jax.checkpoint, prevent_cse=False)
    def pull(at: Array, shown: tuple[Array, Array, Array]) -> Array:
        x, slope, weights = shown

        def witness(shift: Array) -> tuple[Array, Array]:
            row = checked(x + shift[None], at[None])[:, 0] * weights
            return row.sum(), row

        with jax.default_matmul_precision("highest"):  # of a kernel's own products
            repulsion, row = jax.grad(witness, has_aux=True)(jnp.zeros_like(at))
        return jnp.asarray(heat, x.dtype) * repulsion - jnp.matmul(row, slope, precision="highest")

    def local(x: Array, slope: Array, weights: Array, *, mesh: Mesh | None) -> Array:
        def pairs(mine: Array, shown: PyTree) -> Array:
            return jax.lax.map(lambda at: pull(at, shown), mine, batch_size=min(block, len(mine)))

        return around(pairs, mesh, x, (x, slope, weights))

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[Cloud, PyTree]:
        slope, memory = estimator.gradient(cloud, memory, key, index)
        velocity = _on_mesh(local, cloud.mesh)(rows(cloud), matrix(slope), cloud.weights)
        return moved(cloud, particles_of(velocity, cloud.particles), sizes(index)), memory

    return Flow(estimator.init, step, estimator.resample)


def _on_mesh(local: Callable[..., Array], mesh: Mesh | None) -> Callable[..., Array]:
    def run(*parts: Array) -> Array:
        return local(*parts, mesh=mesh)

    spec = PartitionSpec(AXIS)
    return run if mesh is None else jax.shard_map(run, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec)


@boundary
def consensus(
    objective: Callable[[PyTree], Array],
    *,
    drift: Number,
    noise: Number,
    sharpness: Number,
    step_size: Schedule,
    diffusion: Literal["isotropic", "anisotropic"] = "isotropic",
) -> Flow:
    r"""Consensus-based optimization: particles drift to a weighted mean and shake in proportion to their distance.

        m = Σ w_i e^(−αV(θ_i)) θ_i / Σ w_i e^(−αV(θ_i)),   dθ = −λ(θ − m) dt + σ |θ − m| dW

    by Euler-Maruyama; anisotropic noise is σ (θ − m) ⊙ dW. For α = 0 the variance obeys V̇ = −(2λ − dσ²) V.

    Args:
        objective: V of one particle, which need not be differentiable.
        drift: λ > 0. noise: σ ≥ 0. sharpness: α ≥ 0. step_size: η > 0, or a function of the step's index.
        diffusion: isotropic needs 2λ > dσ² to agree; anisotropic 2λ > σ², in any dimension.

    Raises:
        ValueError: a parameter out of range (inside `jit`, the particles become NaN).

    Cost: N evaluations of V a step. Source: Pinnau, Totzeck, Tse, Martin (2017); Carrillo, Jin, Li, Zhu (2021).

    >>> from jaxtheory import meanfield
    >>> flow = consensus(lambda theta: theta @ theta, drift=1.0, noise=0.0, sharpness=100.0, step_size=0.5)
    >>> meanfield.simulate(flow, [[0.0], [1.0]], steps=1, key=jax.random.key(0)).state.cloud.particles.ravel()
    Array([0. , 0.5], dtype=float32)
    """
    drift = positive("drift", drift, "use drift=1.0")
    sizes = scheduled("step_size", step_size, positive, "use e.g. step_size=0.01")
    noise, sharpness = (
        nonnegative(name, value, "use 0.0 to switch it off")
        for name, value in (("noise", noise), ("sharpness", sharpness))
    )

    def step(cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Array) -> tuple[Cloud, PyTree]:
        center = _consensus_point(objective, cloud, sharpness)
        offset = jax.tree.map(lambda leaf, m: leaf - m[None], cloud.particles, center)
        reach = offset if diffusion == "anisotropic" else _distances(offset)
        shaken = jax.tree.map(jnp.multiply, reach, gaussian_noise(key, cloud))
        size = sizes(index)
        spread = noise * jnp.sqrt(size)
        return moved(moved(cloud, offset, -drift * size), shaken, spread), memory

    return Flow(lambda cloud: (), step)


def _consensus_point(objective: Callable[[PyTree], Array], cloud: Cloud, sharpness: Any) -> PyTree[Array]:
    values = jax.vmap(Checked("objective", objective, whole=True))(cloud.particles)
    exponent = -jnp.asarray(sharpness, values.dtype) * values
    tilt = cloud.weights * _relative(exponent, cloud)
    return mean(replace(cloud, weights=tilt / tilt.sum()), lambda theta: theta)


def _distances(offset: PyTree[Array]) -> PyTree[Array]:
    distance = norm(matrix(offset), axis=1)
    return jax.tree.map(lambda leaf: per_particle(distance, jnp.ones_like(leaf)), offset)


def _rates(name: str, value: Schedule) -> Callable[[Array], Array]:
    return scheduled(name, value, nonnegative, "reverse the functional's sign to climb")
