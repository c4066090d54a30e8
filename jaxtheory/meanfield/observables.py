"""What to measure on a cloud, and over independent clouds: entropies, gaps, certificates, fluctuations."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, logsumexp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxtheory.checks import holds, require
from jaxtheory.meanfield.cloud import Cloud, as_cloud, mean
from jaxtheory.meanfield.functionals import Functional, first_variation
from jaxtheory.meanfield.oracles import Moments
from jaxtheory.meanfield.wasserstein import Estimate, squared_distances
from jaxtheory.results import standard_error

_ROWS = 256


class Nodes(NamedTuple):
    """A rule for integrals over θ: ∫g dθ ≈ Σ_k exp(log_weights_k) g(points_k)."""

    points: Float[Array, "M d"]
    log_weights: Float[Array, " M"]


class Certificate(NamedTuple):
    """The dual certificate J' ≥ 0 with equality on the support, of a functional of nonnegative measures.

    `lowest` is the least J' over the points, `on_support` the mass-weighted mean of |J'| over the particles.
    """

    lowest: Float[Array, ""]
    on_support: Float[Array, ""]


def moments(particles: Cloud | Float[Array, "N d"]) -> Moments:
    """Mean and covariance Σ w_i (θ_i − m)(θ_i − m)ᵀ of a cloud of arrays [N, d], weights normalized.

    >>> moments(jnp.array([[0.0], [2.0]])).covariance
    Array([[1.]], dtype=float32)
    """
    cloud = as_cloud(particles)
    mass = cloud.weights / cloud.weights.sum()
    center = jnp.matmul(mass, cloud.particles, precision="highest")
    offset = cloud.particles - center[None]
    return Moments(center, jnp.matmul(offset.T * mass[None], offset, precision="highest"))


def entropy(particles: Cloud | Float[Array, "N d"], *, neighbours: int = 3) -> Estimate:
    r"""Differential entropy −∫log ρ dρ of the law behind a cloud, by k nearest neighbours.

        H ≈ ψ(N) − ψ(k) + log c_d + (d/N) Σ_i log ε_i,   ε_i the distance to the k-th neighbour, c_d the unit ball

    Args:
        particles: [N, d], distinct, equal weights. neighbours: 1 ≤ k < N; larger k, less variance and more bias.

    Returns:
        The estimate, and a standard error that takes the N terms as independent; −inf where k + 1 particles coincide.

    Raises:
        ValueError: k out of range.

    Bias O((k/N)^(2/d)) for smooth densities. Cost: N² d flops, 256 N memory.
    Source: Kozachenko, Leonenko (1987); Kraskov, Stögbauer, Grassberger (2004), equation 20.

    >>> points = jax.random.normal(jax.random.key(0), (2000, 1))
    >>> abs(entropy(points).value - 0.5 * jnp.log(2 * jnp.pi * jnp.e)) < 0.1
    Array(True, dtype=bool)
    """
    cloud = as_cloud(particles)
    require(1 <= neighbours < cloud.size, "neighbours", neighbours, f"be in 1..{cloud.size - 1}", "use 3")
    return _entropy(cloud.particles, neighbours)


@partial(jax.jit, static_argnums=1)
def _entropy(x: Array, neighbours: int) -> Estimate:
    count, dimension = x.shape

    def distance(point: Array) -> Array:
        nearest = jax.lax.top_k(-squared_distances(point[None], x)[0], neighbours + 1)[0]
        return -nearest[-1]

    squares = jax.lax.map(distance, x, batch_size=min(_ROWS, count))
    terms = dimension / 2 * jnp.log(squares)
    ball = dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2 + 1)
    constant = digamma(jnp.asarray(count, x.dtype)) - digamma(jnp.asarray(neighbours, x.dtype)) + ball
    return Estimate(terms.mean() + constant, standard_error(terms))


def free_energy(
    functional: Functional, temperature: float, particles: Cloud | Float[Array, "N d"], *, neighbours: int = 3
) -> Estimate:
    r"""The free energy F(μ) − λ Ent(μ) that mean-field Langevin descends, with the entropy of `entropy`.

    >>> from jaxtheory import meanfield
    >>> cloud = jax.random.normal(jax.random.key(0), (1000, 1))
    >>> f"{free_energy(meanfield.quadratic(1.0), 1.0, cloud).value:.0f}"
    '-1'
    """
    cloud = as_cloud(particles)
    disorder = entropy(cloud, neighbours=neighbours)
    return Estimate(functional(cloud) - temperature * disorder.value, temperature * disorder.standard_error)


def grid_nodes(*axes: Float[Array, " points"]) -> Nodes:
    """Trapezoid rule on the product of equally spaced axes, for densities that vanish at the ends.

    >>> nodes = grid_nodes(jnp.linspace(-8.0, 8.0, 101))
    >>> f"{jnp.exp(nodes.log_weights - nodes.points[:, 0] ** 2 / 2).sum():.4f}"
    '2.5066'
    """
    points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    cell = sum(jnp.log(axis[1] - axis[0]) for axis in axes)
    return Nodes(points, jnp.full(len(points), cell, points.dtype))


def gaussian_nodes(key: PRNGKeyArray, count: int, dimension: int, variance: float) -> Nodes:
    """Importance sampling from N(0, variance · I): for a regularizer ridge|θ|²/2, take variance = λ/ridge.

    >>> nodes = gaussian_nodes(jax.random.key(0), 10, 2, 1.0)
    >>> f"{nodes.log_weights[0] + jnp.log(10.0) - (nodes.points[0] ** 2).sum() / 2 - jnp.log(2 * jnp.pi):.4f}"
    '0.0000'
    """
    points = jnp.sqrt(jnp.asarray(variance, float)) * jax.random.normal(key, (count, dimension))
    log_density = -(points**2).sum(1) / (2 * variance) - dimension / 2 * math.log(2 * math.pi * variance)
    return Nodes(points, -log_density - math.log(count))


def duality_gap(
    functional: Functional,
    temperature: float,
    particles: Cloud | Float[Array, "N d"],
    nodes: Nodes,
    *,
    neighbours: int = 3,
) -> Estimate:
    r"""The gap λ KL(μ ‖ p_μ) to the proximal Gibbs law p_μ ∝ exp(−V/λ), V = δF/δμ: zero only at the minimizer.

        λ KL(μ ‖ p_μ) = ∫V dμ + λ log ∫e^(−V/λ) dθ − λ Ent(μ)

    For convex F it bounds the suboptimality of the free energy from above; for empirical risks with a quadratic
    regularizer it is the duality gap.

    Args:
        functional: F. temperature: λ > 0. particles: [N, d]. nodes: for the normalizer, `grid_nodes` in d ≤ 2,
            `gaussian_nodes` above. neighbours: of `entropy`.

    Returns:
        The gap; the standard error is the entropy's part.

    Raises:
        ValueError: λ ≤ 0.

    Cost: a gradient of F on N + M particles, and that of `entropy`.
    Source: Nitanda, Wu, Suzuki (2022), proposition 1 and section 4.
    """
    require(
        holds(lambda t: t > 0, temperature),
        "temperature",
        temperature,
        "be > 0 for a Gibbs law",
        "use the certificate at 0",
    )
    cloud = as_cloud(particles)
    variation = first_variation(functional)
    energy = jnp.vdot(cloud.weights, variation(cloud, cloud.particles), precision="highest")
    normalizer = logsumexp(nodes.log_weights - variation(cloud, nodes.points) / temperature)
    disorder = entropy(cloud, neighbours=neighbours)
    gap = energy + temperature * (normalizer - disorder.value)
    return Estimate(gap, temperature * disorder.standard_error)


def dual_certificate(functional: Functional, cloud: Cloud, points: PyTree[Array]) -> Certificate:
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
    variation = first_variation(functional)
    on_support = jnp.abs(variation(cloud, cloud.particles))
    mass = cloud.weights / cloud.weights.sum()
    return Certificate(variation(cloud, points).min(), jnp.vdot(mass, on_support, precision="highest"))


def chaos_error(outputs: Float[Array, "seeds n"], limit: Float[Array, " n"], particles: int) -> Estimate:
    r"""Propagation of chaos: N · E‖f_N − f‖²/n over independent clouds, constant in N for a flow that is chaotic.

    Args:
        outputs: f_N of each seed at n points. limit: f of the mean-field limit. particles: N.

    Returns:
        The scaled error and its standard error over seeds.

    >>> f"{chaos_error(jnp.array([[1.0], [-1.0]]), jnp.zeros(1), 10).value:.1f}"
    '10.0'
    """
    errors = particles * ((outputs - limit[None]) ** 2).mean(1)
    return Estimate(errors.mean(), standard_error(errors))


def clt_variance(outputs: Float[Array, "seeds n"], particles: int) -> Estimate:
    r"""N · Var f_N at each of n points over independent clouds, unbiased, with its standard error.

        standard error of a sample variance v from S draws: √((m₄ − v² (S − 3)/(S − 1))/S), m₄ the fourth moment

    >>> f"{clt_variance(jnp.array([[1.0], [-1.0], [1.0], [-1.0]]), 3).value[0]:.1f}"
    '4.0'
    """
    seeds = len(outputs)
    require(seeds >= 4, "outputs", seeds, "hold at least 4 seeds", "run more clouds")
    offset = outputs - outputs.mean(0, keepdims=True)
    variance = (offset**2).sum(0) / (seeds - 1)
    fourth = (offset**4).mean(0)
    error = jnp.sqrt(jnp.maximum(fourth - variance**2 * (seeds - 3) / (seeds - 1), 0.0) / seeds)
    return Estimate(particles * variance, particles * error)


def initial_chaos(unit: Callable[[Array, Any], Array], particles: Cloud | PyTree[Array], x: Array) -> Array:
    r"""Var_ρ h(x; θ) at each of n points, over the law of a cloud: N · Var f_N(x) before any step, exactly.

    Cost: N n evaluations of the unit. Source: Rotskoff, Vanden-Eijnden (2022), section 3.

    >>> initial_chaos(lambda x, theta: x * theta, jnp.array([1.0, -1.0]), jnp.array([2.0]))
    Array([4.], dtype=float32)
    """
    both = mean(as_cloud(particles), lambda theta: _powers(jax.vmap(lambda point: unit(point, theta))(x)))
    return both[1] - both[0] ** 2


def _powers(values: Array) -> tuple[Array, Array]:
    return values, values**2
