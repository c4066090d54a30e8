"""What is estimated from products with an operator, against NumPy's eigensolver of the dense matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import kernels, spectra
from jaxtheory.results import Status

SHAPE = (12, 2)


def problem(key):
    """A positive operator on arrays of SHAPE, and its matrix."""
    factor = jax.random.normal(key, (24, 30))
    dense = factor @ factor.T / 30
    return lambda v: (dense @ v.ravel()).reshape(SHAPE), dense


@pytest.mark.slow
def test_trace_and_diagonal_are_within_their_standard_errors(float64, key):
    theta, dense = problem(key)
    trace = spectra.trace(theta, SHAPE, key, probes=200)
    assert abs(trace.value - jnp.trace(dense)) < 4 * trace.standard_error
    # Hutchinson's variance is 2 sum_{i != j} Theta_ij^2; the sample one has relative error sqrt(2 / 199)
    variance = 2 * (jnp.sum(dense**2) - jnp.sum(jnp.diag(dense) ** 2)) / 200
    assert abs(trace.standard_error**2 / variance - 1) < 4 * np.sqrt(2 / 199) * 2
    diagonal = spectra.diagonal(theta, SHAPE, key, probes=200)
    z = (diagonal.value.ravel() - jnp.diag(dense)) / diagonal.standard_error.ravel()
    assert abs(z).max() < 5


@pytest.mark.slow
def test_top_eigenpairs_and_density(float64, key):
    theta, dense = problem(key)
    values, vectors = np.linalg.eigh(np.asarray(dense))
    top = spectra.top_eigenpairs(theta, SHAPE, 4, key, steps=24)
    assert int(top.status) == Status.OK
    assert_close(top.values, values[::-1][:4], condition=100)
    overlap = abs(np.einsum("ki,ik->k", np.asarray(top.vectors).reshape(4, 24), vectors[:, ::-1][:, :4]))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    density = spectra.spectral_density(theta, SHAPE, key, probes=4, steps=24)
    assert_close(density.weights.sum(1), np.ones(4))
    # with as many steps as dimensions Gauss quadrature is exact: z' Theta^2 z / z' z, for any z
    moment = (density.weights * density.nodes**2).sum(1)
    assert moment.min() > values[0] ** 2
    assert moment.max() < values[-1] ** 2
    few = spectra.top_eigenpairs(theta, SHAPE, 4, key, steps=5)
    assert int(few.status) == Status.NOT_CONVERGED


def test_effective_rank_and_alignments(float64, key):
    dense = problem(key)[1]
    assert_close(spectra.effective_rank(jnp.ones(7)), np.asarray(7.0))
    y = jax.random.normal(key, (24,))
    flat = np.outer(y, y)
    expected = np.sum(np.asarray(dense) * flat) / np.linalg.norm(dense) / np.linalg.norm(flat)
    assert_close(spectra.target_alignment(dense, y), np.asarray(expected))
    center = np.eye(24) - 1 / 24
    first, second = center @ np.asarray(dense) @ center, center @ flat @ center
    expected = np.sum(first * second) / np.linalg.norm(first) / np.linalg.norm(second)
    assert_close(spectra.centered_alignment(dense, jnp.asarray(flat)), np.asarray(expected), condition=10)


@pytest.mark.slow
def test_both_densities_are_one(float64, key):
    """Weights that sum to one for any operator, to n for a Gram matrix; a matrix of two eigenvalues needs two nodes."""
    gram = jnp.eye(6) + jnp.ones((6, 6))  # 1 five times, and 7
    density = spectra.spectral_density(lambda v: gram @ v, (6,), key, probes=3, steps=4)
    weighed = kernels.lanczos_density(gram, None, key, order=4, probes=3)
    np.testing.assert_allclose(weighed.weights, 6 * density.weights, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(weighed.nodes, density.nodes, rtol=1e-12)
    assert_close(weighed.weights.sum(1), np.full(3, 6.0))
    total = jnp.sqrt((weighed.weights * weighed.nodes).sum(1) - 6)  # zᵀKz of signs is 6 + (Σ z)², Σ z even
    np.testing.assert_allclose(total, 2 * jnp.round(total / 2), atol=1e-6)


@pytest.mark.slow
def test_wide_spectra_are_found_at_a_small_scale():
    """Eigenvalues 1, 0.1, 0.01, ... times 1e-25, where products with the basis underflow unless they are scaled."""
    scale = 1e-25
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    values = scale * 10.0 ** -np.arange(40.0)
    matrix = jnp.asarray((frame * values) @ frame.T, jnp.float32)
    top = spectra.top_eigenpairs(lambda v: jnp.matmul(matrix, v, precision="highest"), (40,), 4, jax.random.key(0))
    assert int(top.status) == Status.OK
    # rounding of the float32 matrix and of 40 products, relative to the largest
    np.testing.assert_allclose(np.asarray(top.values, float) / scale, values[:4] / scale, rtol=0, atol=40 * 6e-8)
    np.testing.assert_allclose(top.vectors @ top.vectors.T, np.eye(4), atol=1e-5)
