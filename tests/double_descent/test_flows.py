"""Gradient flow on random designs: reference values, its limits in time and in samples, and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.double_descent import (
    covariance_flow,
    flow_risk,
    general_covariance,
    isotropic,
    isotropic_flow,
    optimal_ridge,
)
from jaxtheory.results import Status

TIMES = np.array([0.0, 0.5, 3.0, 20.0, 1e3, 1e6])
LEVELS, POWERS, NOISE = np.array([3.0, 1.0, 0.3, 0.05]), np.array([0.5, 1.0, 1.5, 2.0]), 0.3


def levels(m):
    """Four eigenvalues of multiplicity m, and β with the stated power at each."""
    return np.repeat(LEVELS, m), np.repeat(np.sqrt(POWERS / m), m)


@pytest.mark.smoke
def test_reference_values_of_isotropic_data(dtype):
    """r² = 1, σ² = .25, γ = .5 at t = .5, 3, 20: six digits of the excess and of the training error."""
    curve = isotropic_flow(jnp.asarray(0.5, dtype), jnp.asarray(TIMES, dtype), signal=1.0, noise=0.25)
    assert curve.excess.dtype == dtype
    np.testing.assert_allclose(curve.excess[1:4], [0.468905, 0.186691, 0.238508], atol=1e-6)
    np.testing.assert_allclose(curve.train[1:4], [0.465324, 0.152954, 0.125124], atol=1e-6)
    np.testing.assert_allclose([curve.excess[0], curve.train[0]], [1.0, 1.25], rtol=2e-6)


def test_the_end_of_training_is_the_least_norm_solution(float64):
    """At t = 10⁶ off the threshold, from 20 to 0.05 features a sample; at the threshold the excess keeps growing."""
    gamma = jnp.array([0.05, 0.5, 1.0, 2.0, 20.0])
    curve = isotropic_flow(gamma[:, None], TIMES[None], signal=1.0, noise=0.25)
    exact = isotropic(gamma, signal=1.0, noise=0.25, lam=0.0)
    for name in ("bias", "variance", "train"):
        found, expected = getattr(curve, name)[:, -1], getattr(exact, name)
        off = np.array([0, 1, 3, 4])
        np.testing.assert_allclose(found[off], expected[off], rtol=1e-11, atol=1e-15, err_msg=name)
    assert curve.variance[2, 5] > 30 * curve.variance[2, 4]  # like √t
    assert not curve.status.any()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_equal_eigenvalues_are_isotropic(float64, gamma):
    """The contour of matrices against the Marchenko-Pastur integral, at every time, to rounding."""
    curve = covariance_flow(jnp.ones(60), jnp.full(60, 60**-0.5), 60 / gamma, 0.25, TIMES)
    exact = isotropic_flow(gamma, TIMES, signal=1.0, noise=0.25)
    for name in ("bias", "variance", "train"):
        np.testing.assert_allclose(getattr(curve, name), getattr(exact, name), rtol=1e-11, atol=2e-13, err_msg=name)
    assert not curve.status.any()


@pytest.mark.slow
def test_any_covariance_at_the_end_and_with_many_samples(float64):
    """t → ∞ is `general_covariance` without a ridge; n → ∞ is the fixed design of `flow_risk`; t = 0 is nothing."""
    i = jnp.arange(1.0, 61.0)
    eigs, beta = i**-1.5, i**-0.5
    times = jnp.array([0.0, 0.5, 3.0, 20.0, 1e3, 1e12])
    few = covariance_flow(eigs, beta, 20.0, 0.25, times)
    kernel = general_covariance(eigs, beta, 20.0, 0.0, 0.25)
    np.testing.assert_allclose(few.bias[-1], kernel.bias, rtol=1e-8)
    np.testing.assert_allclose(few.variance[-1], kernel.variance, rtol=1e-8)
    np.testing.assert_allclose(few.bias[0], jnp.sum(eigs * beta**2), rtol=1e-12)
    np.testing.assert_allclose([few.variance[0], few.train[-1]], 0.0, atol=1e-12)
    many = covariance_flow(eigs, beta, 1e9, 0.25, times[:5])
    fixed = flow_risk(eigs, beta, 1e9, 0.25, times[:5])
    np.testing.assert_allclose(many.bias, fixed.bias, rtol=1e-6)
    np.testing.assert_allclose(1e9 * many.variance, 1e9 * fixed.variance, rtol=1e-5, atol=1e-4)


def simulate(m, seed, ratio, times):
    """Bias, variance and training error on one design, averaged over the noise and the signs of β."""
    eigs, beta = levels(m)
    n = round(ratio * m)
    x = np.random.default_rng((seed, m)).standard_normal((n, 4 * m)) * np.sqrt(eigs)
    left, s, right = np.linalg.svd(x, full_matrices=False)
    rows = []
    for t in times:
        decay = np.exp(-t * s**2 / n)
        kept = np.eye(4 * m) - (right.T * (1 - decay)) @ right
        learned = (right.T * ((1 - decay) / s)) @ left.T
        noise_left = (decay**2).sum() / n + max(1 - 4 * m / n, 0)
        train = (s**2 / n * decay**2 @ right**2) @ beta**2
        rows.append([eigs @ kept**2 @ beta**2, NOISE * (eigs[:, None] * learned**2).sum(), train + NOISE * noise_left])
    return np.array(rows)


@pytest.mark.parametrize("ratio", [2.0, pytest.param(4.0, marks=pytest.mark.slow)])
def test_any_covariance_is_the_limit_of_simulation(float64, ratio):
    """n = ratio · m samples of 4m modes; the signal averaged over signs; means at m and 2m, extrapolated in 1/m."""
    times = np.array([0.3, 2.0, 30.0])
    eigs, beta = map(jnp.asarray, levels(15))
    curve = covariance_flow(eigs, beta, 15 * ratio, NOISE, times)
    expected = np.stack([curve.bias, curve.variance, curve.train], 1)
    small, large = (np.array([simulate(m, seed, ratio, times) for seed in range(60)]) for m in (15, 30))
    limit = 2 * large.mean(0) - small.mean(0)
    error = np.sqrt((4 * large.var(0, ddof=1) + small.var(0, ddof=1)) / 60)
    assert (np.abs(limit - expected) < 4 * error + 1e-3 * expected).all(), (limit, error, expected)
    assert (error < 0.04 * expected + 1e-3).all(), "too coarse to fail"


@pytest.mark.slow
def test_two_descents_in_one_run_and_the_best_time_to_stop(float64):
    """Fast weak modes overfit before slow strong ones are learned; the best time is where the derivative vanishes."""
    eigs, beta = jnp.repeat(jnp.array([1.0, 0.002]), 30), jnp.repeat(jnp.array([0.1, 12.0]), 30)
    times = jnp.logspace(-2, 5, 120)
    excess = covariance_flow(eigs, beta, 90.0, 4.0, times).excess
    turns = np.diff(np.sign(np.diff(excess)))
    assert (turns > 0).sum() == 2  # minima
    assert (turns < 0).sum() == 1
    best = optimal_ridge(lambda t: isotropic_flow(0.5, t, signal=1.0, noise=0.25).excess, low=0.1, high=100.0)
    grid = jnp.linspace(0.9, 1.1, 201) * best.lam
    around = isotropic_flow(0.5, grid, signal=1.0, noise=0.25).excess
    assert best.status == Status.OK
    assert (around >= best.risk * (1 - 1e-12)).all()


@pytest.mark.slow
def test_float32_and_values_out_of_range(float64):
    i = np.arange(1.0, 41.0)
    double = covariance_flow(i**-1.5, i**-0.5, 20.0, 0.25, TIMES[:5])
    single = covariance_flow(*(jnp.asarray(v, jnp.float32) for v in (i**-1.5, i**-0.5)), 20.0, 0.25, TIMES[:5])
    assert single.excess.dtype == jnp.float32
    for name in ("bias", "variance", "train"):
        np.testing.assert_allclose(getattr(single, name), getattr(double, name), rtol=1e-4, atol=3e-5)
    inside = jax.jit(lambda t: isotropic_flow(0.5, t, signal=1.0, noise=0.25))(jnp.array([-1.0, 1.0]))
    assert inside.status.tolist() == [Status.INVALID_INPUT, Status.OK]
    assert np.isnan(inside.excess[0])


def test_what_the_nodes_do_not_resolve_is_not_ok():
    """At γ = 1 the bias falls as √(2/πt)/2 and the variance grows as 0.661 √t, to t = 1e14; no further. At a peak with
    discrete eigenvalues rounding is multiplied by the variance."""
    time = jnp.array([1e8, 1e14, 1e20])
    curve = isotropic_flow(1.0, time, signal=1.0, noise=1.0)
    np.testing.assert_allclose(curve.bias[:2] * time[:2] ** 0.5, (1 / (2 * np.pi)) ** 0.5, rtol=1e-4)
    assert curve.status.tolist() == [Status.OK, Status.OK, Status.NOT_CONVERGED]
    assert isotropic_flow(1.01, 1e20, signal=1.0, noise=1.0).status == Status.OK
    peak = covariance_flow(jnp.ones(8), jnp.ones(8), 8, 1.0, jnp.array([1.0, 1e12]))
    assert peak.status.tolist() == [Status.OK, Status.NOT_CONVERGED]
