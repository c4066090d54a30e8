"""What to measure on a cloud, and over independent clouds: moments, entropies, gaps, certificates, fluctuations."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import boundary, known, nonnegative, positive, require
from jaxtheory.guarded import power_of_two
from jaxtheory.meanfield.cloud import Cloud, as_cloud, central_moments, mean, particles_of, probability
from jaxtheory.meanfield.entropies import entropy, few, mean_and_error, require_neighbours, surprise
from jaxtheory.meanfield.functionals import Functional, evaluated, first_variation
from jaxtheory.meanfield.normalizers import Nodes, gaussian_nodes, grid_nodes, normalizer
from jaxtheory.meanfield.oracles import Moments
from jaxtheory.results import standard_error
from jaxtheory.transport.costs import Estimate, estimate, vanished

__all__ = [
    "Certificate",
    "Estimate",
    "Moments",
    "Nodes",
    "chaos_error",
    "clt_variance",
    "dual_certificate",
    "duality_gap",
    "entropy",
    "free_energy",
    "gaussian_nodes",
    "grid_nodes",
    "initial_chaos",
    "moments",
]

Number = float | Float[Array, ""]


class Certificate(NamedTuple):
    """The dual certificate J' ≥ 0 with equality on the support, of a functional of nonnegative measures.

    `lowest` is the least J' over the points, `on_support` the mass-weighted mean of |J'| over the particles.
    """

    lowest: Float[Array, ""]
    on_support: Float[Array, ""]


@boundary
def moments(particles: Cloud | PyTree) -> Moments:
    """Mean and covariance Σ w_i (θ_i − m)(θ_i − m)ᵀ of a cloud, weights normalized.

    Args:
        particles: an array [N, ...], a pytree or a `Cloud`; all numbers of a particle are its components, in the
            tree's order.

    Returns:
        `Moments`, with rounding errors of the spread about the mean and not of the mean, whatever N.

    Cost: N d² flops in two passes, memory 2^18 numbers; on a mesh, all-reduces of d² numbers.
    Source: two-pass sums with a correction, Chan, Golub, LeVeque (1983).

    >>> moments(jnp.array([[0.0], [2.0]])).covariance
    Array([[1.]], dtype=float32)
    """
    return _moments(as_cloud(particles))


@jax.jit
def _moments(cloud: Cloud) -> Moments:
    return Moments(*central_moments(cloud))


@boundary(static=("neighbours",))
def free_energy(
    functional: Functional, temperature: Number, particles: Cloud | PyTree, *, neighbours: int = 3
) -> Estimate:
    r"""The free energy F(μ) − λ Ent(μ) that mean-field Langevin descends, with the entropy of `entropy`.

    Args:
        functional: F. temperature: λ ≥ 0. particles: of a probability measure, whose weights are normalized.
        neighbours: of `entropy`.

    Returns:
        The estimate for the law behind the cloud; the standard error is that of the mean of δF/δμ(θ_i) + λ log ρ(θ_i)
        over particles, with the entropy's bias; the status is the entropy's.

    Raises:
        ValueError: λ < 0 (NaN inside `jit`), neighbours out of range.

    Cost: a gradient of F, and `entropy`. Source: Hu, Ren, Šiška, Szpruch (2021), equation 2.3.

    >>> from jaxtheory import meanfield
    >>> cloud = jax.random.normal(jax.random.key(0), (1000, 1))
    >>> f"{free_energy(meanfield.quadratic(1.0), 1.0, cloud).value:.0f}"
    '-1'
    """
    cloud = as_cloud(particles)
    require_neighbours(neighbours, cloud)
    temperature = nonnegative("temperature", temperature, "use 0.0 for the functional alone")
    return _free_energy(functional, jnp.asarray(temperature, cloud.weights.dtype), cloud, neighbours)


@partial(jax.jit, static_argnums=(0, 3))
def _free_energy(functional: Functional, temperature: Array, cloud: Cloud, neighbours: int) -> Estimate:
    law = probability(cloud)
    energy, variation = jax.value_and_grad(lambda w: evaluated(functional, Cloud(law.particles, w, law.mesh)))(
        law.weights
    )
    found = surprise(law, neighbours)
    heat = lambda value: jnp.where(temperature == 0, 0.0, temperature * value)  # noqa: E731  no entropy at λ = 0
    error = mean_and_error(variation - heat(found.values), law.weights, heat(found.bias))[1]
    value = energy - heat(mean_and_error(found.values, law.weights, found.bias)[0])
    return estimate(value, error, few(law.weights, neighbours))


@boundary(static=("neighbours",))
def duality_gap(
    functional: Functional,
    temperature: Number,
    particles: Cloud | PyTree,
    nodes: Nodes,
    *,
    neighbours: int = 3,
) -> Estimate:
    r"""The gap λ KL(μ ‖ p_μ) to the proximal Gibbs law p_μ ∝ exp(−V/λ), V = δF/δμ: zero only at the minimizer.

        λ KL(μ ‖ p_μ) = ∫V dμ + λ log ∫e^(−V/λ) dθ − λ Ent(μ)

    For convex F it bounds the suboptimality of the free energy from above; for empirical risks with a quadratic
    regularizer it is the duality gap.

    Args:
        functional: F. temperature: λ > 0. particles: of a probability measure, whose weights are normalized.
        nodes: for the normalizer, `grid_nodes` in d ≤ 2, `gaussian_nodes` above; their d coordinates are the numbers of
            one particle, in the tree's order. neighbours: of `entropy`.

    Returns:
        The gap of the law behind the cloud. Its standard error has the particles' part, to first order in the measure,
        the entropy's bias, and the normalizer's error: the spread of the importance weights, √((M/m − 1)/(M − 1)) for M
        draws worth m = (Σa)²/Σa² equal ones, or what half of a grid's nodes change. Status ILL_CONDITIONED where the
        normalizer's relative error exceeds .1, the weights' variance may be infinite (one draw has more than .1 of the
        sum of squares, or Hill's tail index, two standard errors added, is not below ½, as for fewer than ten draws),
        or a grid is cut where the density has not vanished; NOT_FINITE as in `entropy`.

    Raises:
        ValueError: λ ≤ 0 (NaN inside `jit`), neighbours out of range, nodes of another dimension than the particles.

    Cost: two gradients of F on N + M particles and their derivative, and that of `entropy`.
    Source: Nitanda, Wu, Suzuki (2022), proposition 1 and section 4; effective sample size, Kong (1992); tail index,
    Hill (1975), Vehtari et al. (2024).

    >>> from jaxtheory import meanfield
    >>> cloud = jax.random.normal(jax.random.key(0), (1000, 1))
    >>> gap = duality_gap(meanfield.quadratic(1.0), 1.0, cloud, grid_nodes(jnp.linspace(-8.0, 8.0, 101)))
    >>> bool(abs(gap.value) < 4 * gap.standard_error), int(gap.status)
    (True, 0)
    """
    cloud = as_cloud(particles)
    require_neighbours(neighbours, cloud)
    temperature = positive("temperature", temperature, "use dual_certificate without temperature")
    return _duality_gap(functional, jnp.asarray(temperature, cloud.weights.dtype), cloud, nodes, neighbours)


@partial(jax.jit, static_argnums=(0, 4))
def _duality_gap(functional: Functional, temperature: Array, cloud: Cloud, nodes: Nodes, neighbours: int) -> Estimate:
    law = probability(cloud)
    places = particles_of(nodes.points, law.particles)
    added = jax.tree.map(lambda leaf, more: jnp.concatenate([leaf, more]), law.particles, places)

    def variations(weights: Array) -> tuple[Array, Array]:
        massless = jnp.zeros(len(nodes.points), weights.dtype)
        found = jax.grad(lambda w: evaluated(functional, Cloud(added, w)))(jnp.concatenate([weights, massless]))
        return found[: law.size], found[law.size :]

    def without_entropy(weights: Array) -> tuple[Array, PyTree]:
        here, there = variations(weights)
        integral = normalizer(nodes, there / temperature)
        return jnp.vdot(weights, here, precision="highest") + temperature * integral.log_value, integral

    (value, integral), influence = jax.value_and_grad(without_entropy, has_aux=True)(law.weights)
    found = surprise(law, neighbours)
    disorder = mean_and_error(found.values, law.weights, found.bias)[0]
    error = mean_and_error(influence - temperature * found.values, law.weights, temperature * found.bias)[1]
    error = jnp.sqrt(error**2 + (temperature * integral.standard_error) ** 2)
    return estimate(value - temperature * disorder, error, few(law.weights, neighbours), *integral.faults)


@boundary
def dual_certificate(functional: Functional, cloud: Cloud | PyTree, points: PyTree) -> Certificate:
    r"""Optimality of a nonnegative measure: J'(θ) ≥ 0 everywhere, and J' = 0 where there is mass.

    For J = R + λ · mass this says |∇R| ≤ λ with equality on the support.

    Args:
        functional: J of nonnegative measures, convex. cloud: the measure. points: [M, ...] where to look.

    Cost: two gradients, on N + M and 2N particles. Source: Chizat (2022), proposition 3.1.

    >>> from jaxtheory import meanfield
    >>> J = meanfield.potential(lambda theta: theta @ theta)
    >>> dual_certificate(J, as_cloud(jnp.zeros((2, 1))), jnp.array([[1.0], [2.0]])).lowest
    Array(1., dtype=float32)
    """
    measure, variation = as_cloud(cloud), first_variation(functional)
    on_support = jnp.abs(variation(measure, measure.particles))
    masses = probability(measure).weights
    return Certificate(variation(measure, points).min(), jnp.vdot(masses, on_support, precision="highest"))


@boundary
def chaos_error(outputs: Float[Array, "seeds n"], limit: Float[Array, " n"], particles: int) -> Estimate:
    r"""Propagation of chaos: N · E‖f_N − f‖²/n over independent clouds, constant in N for a flow that is chaotic.

    Args:
        outputs: f_N of each of at least two seeds at n points. limit: f of the mean-field limit. particles: N ≥ 1.

    Returns:
        The scaled error, its standard error over seeds and a status: NOT_FINITE, or ILL_CONDITIONED where the error is
        too small for its dtype.

    Raises:
        ValueError: fewer than two seeds, no points, a limit of another length, N < 1.

    Cost: seeds · n. Source: Sznitman (1991), theorem 1.4.

    >>> f"{chaos_error(jnp.array([[1.0], [-1.0]]), jnp.zeros(1), 10).value:.1f}"
    '10.0'
    """
    _require_seeds(outputs, 2)
    hint = "pass the limit at the same points"
    require(limit.shape == outputs.shape[1:], "limit", limit.shape, f"have shape {outputs.shape[1:]}", hint)
    _require_count(particles)
    return _chaos_error(outputs, limit, jnp.asarray(particles, outputs.dtype))


@jax.jit
def _chaos_error(outputs: Array, limit: Array, particles: Array) -> Estimate:
    offset = outputs - limit[None]
    unit = power_of_two(offset)
    errors = particles * ((offset / unit) ** 2).mean(1)
    return _squared(errors.mean(), standard_error(errors), unit)


def _squared(value: Array, error: Array, unit: Array) -> Estimate:
    """An estimate in squared units."""
    scaled = value * unit * unit
    return estimate(scaled, error * unit * unit, vanished(scaled, value > 0))


@boundary
def clt_variance(outputs: Float[Array, "seeds n"], particles: int) -> Estimate:
    r"""N · Var f_N at each of n points over independent clouds, unbiased, with its standard error.

        standard error of a sample variance v from S draws: √((m₄ − v² (S − 3)/(S − 1))/S), m₄ the fourth moment

    Args:
        outputs: f_N of each of at least four seeds at n points. particles: N ≥ 1.

    Returns:
        [n] variances, their standard errors and one status: NOT_FINITE, or ILL_CONDITIONED where a variance is too
        small for its dtype.

    Raises:
        ValueError: fewer than four seeds, no points, N < 1.

    Cost: seeds · n. Source: Cho, Cho (2008), for the variance of a sample variance.

    >>> f"{clt_variance(jnp.array([[1.0], [-1.0], [1.0], [-1.0]]), 3).value[0]:.1f}"
    '4.0'
    """
    _require_seeds(outputs, 4)
    _require_count(particles)
    return _clt_variance(outputs, jnp.asarray(particles, outputs.dtype))


@jax.jit
def _clt_variance(outputs: Array, particles: Array) -> Estimate:
    seeds = len(outputs)
    shifted = outputs - outputs[:1]  # exact where the outputs are close
    unit = power_of_two(shifted)
    offset = shifted / unit - (shifted / unit).mean(0, keepdims=True)
    variance, fourth = (offset**2).sum(0) / (seeds - 1), (offset**4).mean(0)
    error = jnp.sqrt(jnp.maximum(fourth - variance**2 * (seeds - 3) / (seeds - 1), 0.0) / seeds)
    return _squared(particles * variance, particles * error, unit)


def _require_seeds(outputs: Array, least: int) -> None:
    require(len(outputs) >= least, "outputs", outputs.shape, f"hold at least {least} seeds", "run more clouds")
    require(outputs.shape[1] >= 1, "outputs", outputs.shape, "hold at least one point", "evaluate at some points")


def _require_count(particles: PyTree) -> None:
    good = not known(particles) or particles >= 1
    require(good, "particles", particles, "be >= 1", "pass the number of particles of each cloud")


@boundary
def initial_chaos(
    unit: Callable[[Array, PyTree], Array], particles: Cloud | PyTree, x: Float[Array, "n ..."]
) -> Float[Array, "n ..."]:
    r"""Var_ρ h(x; θ) at each of n points, over the law of a cloud: N · Var f_N(x) before any step, exactly.

    Args:
        unit: h of one point and one particle. particles: of ρ, weights normalized. x: n points.

    Returns:
        The variance at each point, of the unit's shape.

    Cost: 2 N n evaluations of the unit. Source: Rotskoff, Vanden-Eijnden (2022), section 3.

    >>> initial_chaos(lambda x, theta: x * theta, jnp.array([1.0, -1.0]), jnp.array([2.0]))
    Array([4.], dtype=float32)
    """
    law = probability(as_cloud(particles))

    def outputs(theta: PyTree) -> Array:
        return jax.vmap(lambda point: unit(point, theta))(x)

    center = jax.lax.stop_gradient(mean(law, outputs))
    offset, square = mean(law, lambda theta: _powers(outputs(theta) - center))
    return square - offset**2


def _powers(values: Array) -> tuple[Array, Array]:
    return values, values**2
