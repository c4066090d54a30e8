"""Barycenters on a given support against closed forms, Sinkhorn's potentials in numpy, and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from jaxtheory import transport
from jaxtheory.results import Status


def problem():
    """Three measures on four places with costs of no structure, one place empty, on a support of five."""
    rng = np.random.default_rng(3)
    masses = rng.uniform(0.2, 1.0, (3, 4))
    masses[1, 2] = 0.0
    return rng.uniform(0.0, 2.0, (3, 4, 5)), masses, np.array([0.5, 0.2, 0.3])


@pytest.mark.slow
def test_one_measure_is_blurred_by_the_kernel(float64):
    """q = Kᵀ(a/K1) exactly, for any cost; the derivatives are those of the formula."""
    costs, masses, _ = problem()
    epsilon = 0.3

    def formula(c, a):
        kernel = jnp.exp(-c / epsilon)
        return jnp.matmul(kernel.T, a / a.sum() / kernel.sum(1))

    def found(c, a):
        return transport.fixed_support_barycenter(c[None], a[None], epsilon=epsilon).masses

    c, a = jnp.asarray(costs[0]), jnp.asarray(masses[0])
    np.testing.assert_allclose(found(c, a), formula(c, a), rtol=1e-12)
    towards = jnp.arange(5.0)
    slopes = [jax.grad(lambda *at, f=f: jnp.vdot(towards, f(*at)), (0, 1))(c, a) for f in (found, formula)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12), *slopes)


@pytest.mark.slow
def test_gaussians_keep_their_shape():
    """Means −2 and 3 of one variance v on a fine grid, in float32: mean Σ λ m, variance v + ε/2."""
    grid = np.linspace(-9.0, 9.0, 121)
    means, variance, epsilon, weights = np.array([-2.0, 3.0]), 0.5, 1.0, np.array([0.3, 0.7])
    masses = np.exp(-((grid[None] - means[:, None]) ** 2) / 2 / variance)
    costs = np.broadcast_to((grid[:, None] - grid[None]) ** 2, (2, 121, 121))
    found = transport.fixed_support_barycenter(
        jnp.asarray(costs, jnp.float32),
        jnp.asarray(masses, jnp.float32),
        jnp.asarray(weights),
        epsilon=epsilon,
        tolerance=1e-5,
    )
    assert int(found.status) == Status.OK
    q = np.asarray(found.masses, float)
    mean = q @ grid
    np.testing.assert_allclose(mean, weights @ means, atol=1e-4)
    np.testing.assert_allclose(q @ (grid - mean) ** 2, variance + epsilon / 2, rtol=1e-4)


def test_potentials_average_to_a_constant(float64):
    """The condition of optimality, Σ λ_i g_i constant, with the g_i of each measure and q from Sinkhorn in numpy."""
    costs, masses, weights = problem()
    epsilon = 0.2
    found = transport.fixed_support_barycenter(costs, masses, weights, epsilon=epsilon, tolerance=1e-12)
    assert int(found.status) == Status.OK
    q = np.asarray(found.masses)
    np.testing.assert_allclose(q.sum(), 1.0, rtol=1e-12)
    total = 0.0
    with np.errstate(divide="ignore"):
        for cost, a, weight in zip(costs, masses / masses.sum(1, keepdims=True), weights, strict=True):
            g = np.zeros(5)
            for _ in range(3000):
                f = np.log(a) - logsumexp(g[None] - cost / epsilon, axis=1)
                g = np.log(q) - logsumexp(f[:, None] - cost / epsilon, axis=0)
            total = total + weight * g
    np.testing.assert_allclose(total, total[0], atol=1e-9)


@pytest.mark.slow
def test_weights_choose_and_failures_are_said(unchecked):
    """All weight on one measure gives its own, Kᵀ(a/K1); too few iterations, and wrong arguments by name."""
    costs, masses, weights = (jnp.asarray(v, jnp.float32) for v in problem())
    alone = transport.fixed_support_barycenter(costs, masses, jnp.array([0.0, 2.0, 0.0]), epsilon=0.3)
    kernel, a = np.exp(-np.asarray(costs[1]) / 0.3), np.asarray(masses[1] / masses[1].sum())
    np.testing.assert_allclose(alone.masses, kernel.T @ (a / kernel.sum(1)), atol=1e-6)
    short = transport.fixed_support_barycenter(costs, masses, weights, epsilon=0.01, tolerance=1e-6, max_iterations=2)
    assert int(short.status) == Status.NOT_CONVERGED
    wrong = [
        ((costs, masses[:, :3]), {"epsilon": 0.1}, "masses must have shape"),
        ((costs, masses), {"epsilon": 0.0}, "epsilon must be positive"),
        ((costs, -masses), {"epsilon": 0.1}, "masses must be >= 0"),
        ((costs.at[0, 0, 0].set(jnp.inf), masses), {"epsilon": 0.1}, "costs must be finite"),
        ((costs, masses, -weights), {"epsilon": 0.1}, "weights must be >= 0"),
    ]
    for arguments, options, message in wrong:
        with pytest.raises(ValueError, match=message):
            transport.fixed_support_barycenter(*arguments, **options)
