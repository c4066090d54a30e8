"""Barycenters against quantile functions of numpy, commuting Gaussians and scipy's matrix roots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxtheory import transport
from jaxtheory.results import Status


def test_the_barycenter_on_the_line_averages_quantiles(float64):
    """At a thousand random levels, for weighted and unweighted numbers; a single measure is its own barycenter."""
    rng = np.random.default_rng(2)
    samples, masses, weights = rng.standard_normal((3, 4)), rng.uniform(size=(3, 4)), np.array([0.5, 0.2, 0.3])
    masses[1, 2] = 0.0
    levels = rng.uniform(size=1000)

    def quantile(x, m, u):
        order = np.argsort(x)
        return x[order][np.searchsorted(np.cumsum(m[order]) / m.sum(), u)]

    for given in (masses, None):
        law = transport.line_barycenter(samples, weights, masses=given)
        each = np.ones((3, 4)) if given is None else given
        expected = sum(w * quantile(x, m, levels) for w, x, m in zip(weights, samples, each, strict=True))
        found = quantile(*map(np.asarray, law), levels)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    alone = transport.line_barycenter(samples[:1], masses=masses[:1])
    cost = transport.w1d(alone.points, samples[0], x_weights=alone.masses, y_weights=masses[0])
    np.testing.assert_allclose(cost, 0.0, atol=1e-14)


@pytest.mark.slow
def test_the_barycenter_of_commuting_gaussians_averages_roots(float64):
    """S^½ = Σ λ_i A_i^½ with common eigenvectors, and its derivative in one eigenvalue."""
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    values, weights = rng.uniform(0.5, 3.0, (2, 3)), np.array([0.3, 0.7])

    def covariance(first):
        spectra = jnp.asarray(values).at[0, 0].set(first)
        matrices = jnp.einsum("ij,rj,kj->rik", turn, spectra, turn)
        found = transport.gaussian_barycenter(
            jnp.zeros((2, 3)), (matrices + matrices.mT) / 2, jnp.asarray(weights), tolerance=1e-12
        )
        return turn.T @ found.covariance @ turn

    means = weights @ np.sqrt(values)
    solve = jax.jit(lambda first: (covariance(first), jax.jacfwd(covariance)(first), jax.jacrev(covariance)(first)))
    found, forward, reverse = solve(values[0, 0])
    np.testing.assert_allclose(found, np.diag(means**2), atol=1e-10)
    slope = np.zeros((3, 3))
    slope[0, 0] = 0.3 * means[0] / np.sqrt(values[0, 0])
    np.testing.assert_allclose(forward, slope, atol=1e-9)
    np.testing.assert_allclose(reverse, slope, atol=1e-9)


def test_the_barycenter_of_gaussians_solves_its_equation():
    """Σ λ_i (S^½ A_i S^½)^½ = S by scipy's roots; too few iterations and singular covariances are not OK."""
    rng = np.random.default_rng(6)
    factors = rng.standard_normal((3, 2, 2))
    matrices = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(2)
    means = rng.standard_normal((3, 2))
    given = jnp.asarray(means, jnp.float32), jnp.asarray(matrices, jnp.float32)
    found = transport.gaussian_barycenter(*given)
    half = scipy.linalg.sqrtm(np.asarray(found.covariance, np.float64))
    equation = np.mean([scipy.linalg.sqrtm(half @ a @ half) for a in matrices], axis=0)
    np.testing.assert_allclose(found.covariance, equation, rtol=1e-3)
    np.testing.assert_allclose(found.mean, means.mean(0), rtol=1e-5)
    assert int(found.status) == Status.OK
    assert int(transport.gaussian_barycenter(*given, max_iterations=1).status) == Status.NOT_CONVERGED
    assert int(transport.gaussian_barycenter(given[0], 0 * given[1]).status) == Status.NOT_FINITE


def test_barycenters_say_what_is_wrong(unchecked):
    with pytest.raises(ValueError, match="masses must fit samples"):
        transport.line_barycenter(jnp.zeros((2, 3)), masses=jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"weights must have shape \(2,\)"):
        transport.line_barycenter(jnp.zeros((2, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match="covariances must have shape"):
        transport.gaussian_barycenter(jnp.zeros((2, 3)), jnp.zeros((2, 2, 2)))


@pytest.mark.parametrize("given", [False, True])
def test_numbers_near_the_end_of_the_range_have_a_barycenter(given):
    """float32, at both ends: that of numbers of order one, bit for bit."""
    samples, shares = jnp.float32([[1.0, 3.0, 2.0], [1.5, 1.0, 1.75]]), jnp.float32([0.3, 0.7])
    masses = jnp.float32([[1.0, 2.0, 1.0], [3.0, 1.0, 1.0]]) if given else None
    plain = transport.line_barycenter(samples, shares, masses=masses).points
    for power in (-126, 126):
        unit = jnp.ldexp(jnp.float32(1), power)
        found = transport.line_barycenter(samples * unit, shares, masses=masses).points
        np.testing.assert_array_equal(found, plain * unit)
