"""Transport distances to a target measure as functionals, which respect the weights of both."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory import transport
from jaxtheory.checks import boundary, positive, require
from jaxtheory.meanfield.cloud import Cloud, measure, rows
from jaxtheory.meanfield.functionals import Functional
from jaxtheory.results import Status
from jaxtheory.transport.costs import Number
from jaxtheory.transport.entropic import Cost
from jaxtheory.transport.line import sorting_order


@boundary(static=("max_iterations", "block"))
def sinkhorn_divergence(
    target: Cloud | PyTree,
    target_weights: Float[Array, " m"] | None = None,
    *,
    epsilon: Number,
    p: Number = 2.0,
    cost: Cost | None = None,
    tolerance: Number = 1e-3,
    max_iterations: int = 2000,
    block: int | None = None,
) -> Functional:
    r"""Sinkhorn divergence S_ε(μ, ν) to a target ν, between the normalized measures.

    Its first variation is the difference f_μν − f_μμ of potentials, its gradient flow moves each particle by the
    difference of two entropic maps. For p = 2 the mean of the particles moves as for W₂², −2 (mean μ − mean ν).

    Args:
        target: m points of ν, an array, a pytree or a `Cloud`; weights are 1/m unless given.
        epsilon: ε > 0, in units of the cost. p, cost, tolerance, max_iterations, block: as in `transport.sinkhorn`.

    Returns:
        `Functional`, NaN where the divergence is not OK, e.g. not converged.

    Raises:
        ValueError: ε, p or tolerance ≤ 0, negative weights (NaN inside `jit`); on evaluation, particles of another
            dimension than the target's.

    Cost: that of `transport.sinkhorn`; a gradient costs one pass over the pairs more.
    Source: Feydy et al. (2019), the flow in section 4; Chizat et al. (2020).

    >>> F = sinkhorn_divergence(jnp.ones((2, 1)), epsilon=0.1)
    >>> f"{F(jnp.array([[4.0], [4.0]])):.2f}"
    '9.00'
    """
    other = measure("target", target, "target_weights", target_weights)
    points = rows(other)
    epsilon = positive("epsilon", epsilon, "use a fraction of the squared distances, e.g. epsilon=0.1")
    tolerance = positive("tolerance", tolerance, "use e.g. tolerance=1e-3")
    p = positive("p", p, "use p=1.0 or p=2.0")

    def value(cloud: Cloud) -> Array:
        found = transport.sinkhorn(
            _like(cloud, points),
            points,
            epsilon=epsilon,
            p=p,
            cost=cost,
            x_weights=cloud.weights,
            y_weights=other.weights,
            tolerance=tolerance,
            max_iterations=max_iterations,
            block=block,
        )
        return jnp.where(found.status == Status.OK, found.cost, jnp.nan)

    return Functional(value)


@boundary(static=("projections",))
def sliced(
    target: Cloud | PyTree,
    key: Key[Array, ""],
    target_weights: Float[Array, " m"] | None = None,
    *,
    p: Number = 2.0,
    projections: int = 128,
) -> Functional:
    r"""Sliced W_p^p(μ, ν) to a target ν over fixed random directions, between the normalized measures.

    Args:
        target: m points of ν, an array, a pytree or a `Cloud`; weights are 1/m unless given.
        key: of the directions, the same at each evaluation. p: ≥ 1. projections: ≥ 2.

    Returns:
        `Functional`, NaN where the distance is not OK.

    Raises:
        ValueError: p < 1, negative weights (NaN inside `jit`), projections < 2; on evaluation, particles of another
            dimension than the target's.

    Cost: that of `transport.sliced`. Source: Bonneel et al. (2015).

    >>> import jax
    >>> F = sliced(jnp.ones((2, 1)), jax.random.key(0), projections=4)
    >>> f"{F(jnp.array([[4.0], [4.0]])):.2f}"
    '9.00'
    """
    require(projections >= 2, "projections", projections, "be >= 2 for a standard error", "use 128")
    other = measure("target", target, "target_weights", target_weights)
    points, p = rows(other), sorting_order(p)

    def value(cloud: Cloud) -> Array:
        particles = _like(cloud, points)
        weights: dict[str, Any] = {"x_weights": cloud.weights, "y_weights": other.weights}
        found = transport.sliced(particles, points, key, p=p, projections=projections, **weights)
        return jnp.where(found.status == Status.OK, found.value, jnp.nan)

    return Functional(value)


def _like(cloud: Cloud, points: Array) -> Array:
    """The particles as rows, of as many components as the target's."""
    particles, wish = rows(cloud), f"have the target's {points.shape[1]} components"
    require(particles.shape[1] == points.shape[1], "particles", particles.shape, wish, "pass points of one space")
    return particles
