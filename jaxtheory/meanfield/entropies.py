"""Differential entropy of the law behind a weighted cloud, by distances to nearest neighbours."""

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import digamma
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import boundary, require
from jaxtheory.guarded import divided, power_of_two
from jaxtheory.meanfield.cloud import Cloud, as_cloud, central_moments, probability, rows
from jaxtheory.results import Status
from jaxtheory.transport.costs import Estimate, estimate, weighted_sum

_ROWS = 32  # points whose differences to all others are held at once


class Surprise(NamedTuple):
    """An estimate of −log ρ at each particle, the particles' masses, and the order of its bias."""

    values: Float[Array, " N"]
    masses: Float[Array, " N"]
    bias: Float[Array, ""]


@boundary(static=("neighbours",))
def entropy(particles: Cloud | PyTree, *, neighbours: int = 3) -> Estimate:
    r"""Differential entropy −∫log ρ dρ of the law behind a cloud, by k nearest neighbours.

        H ≈ Σ_i w_i [ψ(n) − ψ(k) + log c_d + d log ε_i − log(n w̄_i)] + log det L

    ε_i is the distance to the k-th neighbour after the affine map L⁻¹ that makes the covariance the identity, c_d the
    volume of the unit ball, n the number of particles with mass and w̄_i the mean weight of particle i and its k
    neighbours: weights 1/n give the estimate of Kozachenko and Leonenko.

    Args:
        particles: [N, d], a pytree or a `Cloud` with weights, which are normalized; distinct.
        neighbours: 1 ≤ k < N; larger k, less variance and more bias.

    Returns:
        The estimate. Its standard error is the root of the sum of three squares: twice the variance of a mean of N
        independent terms (neighbours share points), the order (k/N)^(2/d) of the bias, and the bias that the change
        from k to 2k neighbours shows. Status NOT_FINITE where k + 1 particles coincide or the cloud lies in a
        hyperplane (−inf), ILL_CONDITIONED where the weights are worth fewer than 2k + 2 equal ones.

    Raises:
        ValueError: k out of range.

    Cost: 3 N² d flops, memory 32 N d.
    Source: Kozachenko, Leonenko (1987); Kraskov, Stögbauer, Grassberger (2004), equation 20; weights: Ajgl, Šimandl
    (2011), with the mean weight over the neighbourhood.

    >>> points = jax.random.normal(jax.random.key(0), (2000, 1))
    >>> abs(entropy(points).value - 0.5 * jnp.log(2 * jnp.pi * jnp.e)) < 0.1
    Array(True, dtype=bool)
    """
    cloud = as_cloud(particles)
    require_neighbours(neighbours, cloud)
    return _entropy(cloud, neighbours)


def require_neighbours(neighbours: int, cloud: Cloud) -> None:
    """Raise unless 1 ≤ k < N."""
    require(cloud.size >= 2, "particles", cloud.size, "be at least 2, to be neighbours", "pass more particles")
    require(1 <= neighbours < cloud.size, "neighbours", neighbours, f"be in 1..{cloud.size - 1}", "use 3")


@partial(jax.jit, static_argnums=1)
def _entropy(cloud: Cloud, neighbours: int) -> Estimate:
    found = surprise(cloud, neighbours)
    return estimate(*mean_and_error(found.values, found.masses, found.bias), few(found.masses, neighbours))


def mean_and_error(terms: Float[Array, " N"], masses: Float[Array, " N"], bias: Array) -> tuple[Array, Array]:
    """Σ w t of terms that share neighbours, and the root of twice its variance and its squared bias."""
    terms = jnp.where(masses > 0, terms, 0.0)  # what has no mass may be anywhere
    mean = weighted_sum(masses, terms)
    spread = weighted_sum(masses**2, (terms - mean) ** 2) / (1 - weighted_sum(masses, masses))
    return mean, jnp.sqrt(2 * spread + bias**2)


def few(masses: Float[Array, " N"], neighbours: int) -> tuple[Array, Status]:
    """The fault of weights that are worth too few equal ones for k neighbours."""
    return weighted_sum(masses, masses) > 1 / (2 * neighbours + 2), Status.ILL_CONDITIONED


def surprise(cloud: Cloud, neighbours: int) -> Surprise:
    """The estimates of −log ρ by k neighbours; their bias is of order (k/N)^(2/d), or seen from k to 2k."""
    law = probability(cloud)
    points, volume = _whitened(law)
    count, dimension = points.shape
    more = min(2 * neighbours, count - 1)
    own = law.weights > 0
    present = own.sum().astype(points.dtype)

    @partial(jax.checkpoint, prevent_cse=False)
    def nearest(point: Array) -> tuple[Array, Array]:
        squares = jnp.where(own, ((point[None] - points) ** 2).sum(-1), jnp.inf)
        closest, index = jax.lax.top_k(-squares, more + 1)
        return -closest, law.weights[index]

    squares, weights = jax.lax.map(nearest, points, batch_size=min(_ROWS, count))
    ball = dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2 + 1)

    def values(k: int) -> Array:
        local = present * weights[:, : k + 1].mean(1)
        constant = digamma(present) - digamma(jnp.asarray(k, points.dtype)) + ball + volume
        return jnp.where(own, constant + dimension / 2 * jnp.log(squares[:, k]) - jnp.log(local), 0.0)

    first = values(neighbours)
    order = (neighbours * weighted_sum(law.weights, law.weights)) ** (2 / dimension)
    if more == neighbours:
        return Surprise(first, law.weights, order)
    change = weighted_sum(law.weights, values(more) - first) / ((more / neighbours) ** (2 / dimension) - 1)
    return Surprise(first, law.weights, jnp.sqrt(order**2 + change**2))


def _whitened(law: Cloud) -> tuple[Float[Array, "N d"], Float[Array, ""]]:
    """Points in coordinates of unit covariance, and the log-volume of the map back; −inf in a hyperplane."""
    points = rows(law)
    unit = power_of_two(points)
    points = points / unit
    center, covariance = central_moments(replace(law, particles=points))
    spread = jnp.sqrt(jnp.diagonal(covariance))
    wide = jnp.where(spread > 0, spread, jnp.ones_like(spread))
    correlation = divided(covariance, wide[:, None], wide[None])
    flat = jnp.linalg.eigvalsh(jax.lax.stop_gradient(correlation)).min() <= 4 * len(center) * jnp.finfo(unit.dtype).eps
    identity = jnp.eye(len(center), dtype=unit.dtype)
    factor = jnp.linalg.cholesky(jnp.where(flat, identity, correlation))
    white = solve_triangular(factor, ((points - center[None]) / wide[None]).T, lower=True).T
    volume = jnp.log(wide).sum() + jnp.log(jnp.diagonal(factor)).sum() + len(center) * jnp.log(unit)
    return white, jnp.where(flat, -jnp.inf, volume)
