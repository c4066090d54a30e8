"""Gaussian processes against scikit-learn and multivariate normal densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.results import Status


@pytest.fixture
def data(float64, key):
    x = jax.random.normal(key, (30, 2), jnp.float64)
    return x, jnp.sin(x[:, 0]), x[:7] + 0.4


@pytest.mark.slow
def test_posterior_is_scikit_learns(data):
    x, y, test = data
    oracle = GaussianProcessRegressor(RBF(1.3), alpha=0.01, optimizer=None).fit(x, y)
    mean, covariance = oracle.predict(test, return_cov=True)
    found = kernels.posterior(kernels.gaussian(1.3), x, y, 0.01, test)
    assert_close(found.mean, mean, condition=1e4)
    assert_close(found.covariance, covariance, condition=1e6)
    assert int(found.status) == Status.OK
    assert found.jitter == 0
    evidence = kernels.log_marginal_likelihood(kernels.gaussian(1.3), x, y, 0.01).value
    assert_close(evidence, oracle.log_marginal_likelihood_value_, condition=1e4)


def test_evidence_is_a_normal_density_summed_over_outputs(data):
    x, y, _ = data
    gram = np.asarray(kernels.laplace()(x, x)) + 0.1 * np.eye(30)
    density = scipy.stats.multivariate_normal(np.zeros(30), gram)
    both = jnp.stack([y, y**2], axis=1)
    expected = density.logpdf(y) + density.logpdf(y**2)
    assert_close(kernels.log_marginal_likelihood(kernels.laplace(), x, both, 0.1).value, expected, condition=1e3)


@pytest.mark.slow
def test_evidence_and_posterior_are_differentiable(data):
    """Against the closed form ½ tr((αᵀα − K⁻¹) ∂K) for the noise, and central differences for the bandwidth."""
    x, y, test = data

    def evidence(bandwidth, noise):
        return kernels.log_marginal_likelihood(kernels.gaussian(bandwidth), x, y, noise).value

    inverse = np.linalg.inv(np.asarray(kernels.gaussian(1.3)(x, x)) + 0.1 * np.eye(30))
    alpha = inverse @ np.asarray(y)
    by_bandwidth, by_noise = jax.grad(evidence, (0, 1))(1.3, 0.1)
    assert_close(by_noise, 0.5 * (alpha @ alpha - np.trace(inverse)), condition=1e4)
    step = 1e-5
    central = (evidence(1.3 + step, 0.1) - evidence(1.3 - step, 0.1)) / (2 * step)
    assert abs(by_bandwidth - central) < 100 * step**2 * abs(central)  # third derivatives of order 10² relative

    def mean(z):
        return kernels.posterior(kernels.gaussian(1.3), x, y, 0.1, z).mean.sum()

    slope = jax.grad(mean)(test)
    bumped = (mean(test.at[2, 1].add(step)) - mean(test.at[2, 1].add(-step))) / (2 * step)
    assert abs(slope[2, 1] - bumped) < 1e3 * step**2 * max(abs(bumped), 1.0)


@pytest.mark.slow
def test_mean_is_kernel_ridge_regression(data):
    x, y, test = data
    model = kernels.fit(kernels.matern(2.5), x, y, 0.05)
    found = kernels.posterior(kernels.matern(2.5), x, y, 0.05, test)
    assert_close(found.mean, kernels.predict(model, test), condition=1e4)


@pytest.mark.slow
def test_jitter_of_an_exact_process_is_reported(data):
    x, y, test = data
    twice = jnp.concatenate([x, x])
    found = kernels.posterior(kernels.laplace(), twice, jnp.concatenate([y, y]), 0.0, test)
    assert int(found.status) == Status.ILL_CONDITIONED
    assert found.jitter > 0
    assert_close(found.mean, kernels.posterior(kernels.laplace(), x, y, 0.0, test).mean, condition=1e4)
