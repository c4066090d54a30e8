"""Shares of data, features and noise in the error, against crossed draws in NumPy and against other exact laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.activations import gaussian_moments
from jaxtheory.double_descent import (
    ensemble_risk,
    general_covariance,
    isotropic,
    mei_montanari,
    random_feature_spectrum,
    variance_components,
)
from jaxtheory.results import Status

SHARES = ("bias", "data", "features", "data_features", "data_noise", "data_features_noise")
LEVELS, POWERS = np.array([3.0, 1.0, 0.3, 0.05]), np.array([0.5, 1.0, 1.5, 2.0])  # λ and β² of m modes each
NOISE, LAM = 0.3, 0.02
WIDTHS = np.array([20.0, 100.0, 150.0, 160.0, 2000.0, np.inf])


def power_law():
    i = jnp.arange(1, 401, dtype=jnp.float64)
    return i**-1.2, i**-0.3


def along_widths(dtype=jnp.float64):
    return variance_components(*(v.astype(dtype) for v in power_law()), 150, WIDTHS, 1e-3, 0.25)


def levels(m):
    return np.repeat(LEVELS, m), np.repeat(np.sqrt(POWERS / m), m)


def solution(x, weights, ridge):
    """The operator from labels to coefficients of x: Fᵀ (ZᵀZ + ridge)^(−1) Zᵀ, Z = X Fᵀ."""
    z = x @ weights.T
    if len(weights) <= len(x):
        return weights.T @ np.linalg.solve(z.T @ z + ridge * np.eye(len(weights)), z.T)
    return weights.T @ np.linalg.solve(z @ z.T + ridge * np.eye(len(x)), z).T


def crossed(m, seed, samples, width, shared=0.0):
    """Mean products of errors in 2 training sets × 2 feature draws, signal and noise: averaged over ε and signs of β.

    The second set holds the part `shared` of the first.
    """
    eigs, beta = levels(m)
    rng, n, k = np.random.default_rng((seed, m)), round(samples * m), round(width * m)
    rows = rng.standard_normal((2 * n, len(eigs))) * np.sqrt(eigs)
    chosen = np.arange(n), np.arange(n) + n - round(shared * n)
    draws = rng.standard_normal((2, k, len(eigs))) / np.sqrt(k)
    found = [[solution(rows[c], f, n * LAM) for f in draws] for c in chosen]
    errors = [[found[i][j] @ rows[chosen[i]] - np.eye(len(eigs)) for j in (0, 1)] for i in (0, 1)]
    common = [np.isin(chosen[0], chosen[1]), np.isin(chosen[1], chosen[0])]

    def product(i, j, k, o):
        signal = eigs @ (errors[i][j] * errors[k][o]) @ beta**2
        left, right = (found[i][j], found[k][o]) if i == k else (found[i][j][:, common[i]], found[k][o][:, common[k]])
        return np.array([signal, NOISE * (eigs @ (left * right)).sum()])

    both = np.mean([product(i, j, i, j) for i in (0, 1) for j in (0, 1)], 0)
    data = np.mean([product(i, 0, i, 1) for i in (0, 1)], 0)
    features = np.mean([product(0, j, 1, j) for j in (0, 1)], 0)
    neither = np.mean([product(0, 0, 1, 1), product(0, 1, 1, 0)], 0)
    return np.stack([both, data, features, neither])


def shares(products):
    (both, noise), (data, data_noise), (features, _), (bias, _) = products
    return [bias, data - bias, features - bias, both - data - features + bias, data_noise, noise - data_noise]


def converges(simulate, predicted, m, seeds, errors=3.5, coarse=0.15):
    """Means at m and 2m, extrapolated in 1/m; within standard errors that are small beside the largest number."""
    small, large = (np.array([simulate(size, seed) for seed in range(seeds)]) for size in (m, 2 * m))
    limit = 2 * large.mean(0) - small.mean(0)
    error = np.sqrt((4 * large.var(0, ddof=1) + small.var(0, ddof=1)) / seeds)
    assert (np.abs(limit - predicted) < errors * error).all(), (limit, error, predicted)
    assert (error < coarse * np.max(np.abs(predicted)) / errors).all(), "too coarse to fail"


def test_published_shares_of_a_power_law(float64):
    """λ_i = i^(−1.2), β_i = i^(−0.3), 400 modes, n = width = 150, λ = 1e-3, σ² = .25: six digits."""
    parts = jax.tree.map(lambda value: value[2], along_widths())
    expected = [0.033599, 0.013161, 0.036796, 0.053450, 0.097928, 0.138635]
    np.testing.assert_allclose([getattr(parts, name) for name in SHARES], expected, atol=6e-7)
    np.testing.assert_allclose(parts.excess, 0.373568, atol=6e-7)
    assert parts.data_features + parts.data_features_noise > parts.excess / 2  # interactions carry the peak


def test_shares_add_up_to_the_risks_of_features_and_of_the_sphere(float64):
    """Test risk of `random_feature_spectrum` at ridge n·lam; of Mei and Montanari with μ*² in the tail."""
    parts = along_widths()
    risk = random_feature_spectrum(*power_law(), 150, WIDTHS, 0.15, 0.25)
    np.testing.assert_allclose(parts.excess + 0.25, risk.test, rtol=1e-12)
    assert not parts.status.any()
    d, moments = 400, gaussian_moments("relu")
    linear = moments.linear**2 / d
    beta, psi1 = jnp.full(d, 1 / jnp.sqrt(d * linear)), jnp.array([0.5, 1.5, 2.0, 3.0, 6.0, jnp.inf])
    parts = variance_components(jnp.full(d, linear), beta, 2 * d, psi1 * d, 0.01 / d, 0.3, tail=moments.nonlinear)
    sphere = mei_montanari(psi1, 2.0, 0.01, activation="relu", signal=1.0, noise=0.3)
    np.testing.assert_allclose(parts.excess, sphere.excess, rtol=1e-10)


@pytest.mark.slow
def test_an_infinite_ensemble_is_the_kernel(float64):
    """With its effective ridge κ(1 − d₁/n) = lam/(1 − d₁/width); infinite width is the kernel at lam itself."""
    eigs, beta = power_law()
    at, parts = random_feature_spectrum(eigs, beta, 150, WIDTHS, 0.15, 0.25), along_widths()
    kernel = general_covariance(eigs, beta, 150, 1e-3 * at.gamma / at.kappa, 0.25)
    ensemble = ensemble_risk(eigs, beta, 150, WIDTHS, 1e-3, 0.25, members=jnp.inf)
    np.testing.assert_allclose(ensemble.excess, kernel.excess, rtol=1e-10)
    np.testing.assert_allclose((parts.bias + parts.data)[-1], kernel.bias[-1], rtol=1e-10)
    np.testing.assert_allclose(parts.data_noise[-1], kernel.variance[-1], rtol=1e-10)
    assert float((parts.features + parts.data_features + parts.data_features_noise)[-1]) == 0.0


def test_averages_divide_the_shares_of_what_is_drawn_anew(float64):
    """K members and M disjoint sets, as sums over subsets; sets that all coincide are one."""
    given, parts = (*power_law(), 150, WIDTHS, 1e-3, 0.25), along_widths()
    k, bags = 3.0, 4.0
    expected = parts.bias + parts.features / k + (parts.data + parts.data_noise) / bags
    expected += (parts.data_features + parts.data_features_noise) / (k * bags)
    np.testing.assert_allclose(ensemble_risk(*given, members=k, bags=bags).excess, expected, rtol=1e-12)
    same = ensemble_risk(*given, members=k, bags=bags, overlap=1.0).excess
    np.testing.assert_allclose(same, ensemble_risk(*given, members=k).excess, rtol=1e-12)
    np.testing.assert_allclose(ensemble_risk(*given, bags=jnp.inf).excess, parts.bias + parts.features, rtol=1e-12)


def test_without_a_ridge_and_with_few_modes_it_is_least_squares(float64):
    """Rank ≤ n, width: σ² rank/(n − rank), as noise of the data alone; infinite where n = rank or n = width."""
    n, width = jnp.array([9.0, 9.0, 9.0, 4.0, 3.0]), jnp.array([12.0, 4.0, jnp.inf, 12.0, 3.0])
    parts = variance_components(jnp.ones(4), jnp.ones(4), n, width, 0.0, 0.1)
    np.testing.assert_allclose(parts.excess[:3], 0.1 * 4 / 5, rtol=1e-12)
    np.testing.assert_allclose(parts.data_noise[:3], 0.1 * 4 / 5, rtol=1e-12)
    assert parts.status.tolist() == [Status.OK] * 3 + [Status.NOT_FINITE] * 2
    exact = isotropic(4 / 9, signal=1.0, noise=0.1, lam=0.0).excess
    risk = random_feature_spectrum(jnp.ones(4), jnp.ones(4), n, width, 0.0, 0.1)
    np.testing.assert_allclose(risk.test[:3], exact + 0.1, rtol=1e-12)
    assert risk.status.tolist() == [Status.OK] * 3 + [Status.NOT_FINITE] * 2
    assert np.isposinf(risk.test[3:]).all()


def test_shares_are_those_of_crossed_draws_at_the_peak(float64):
    """n = width = 2m of 4m modes, and sets that share half of their samples, two members each."""
    eigs, beta = map(jnp.asarray, levels(50))
    parts = variance_components(eigs, beta, 100, 100, LAM, NOISE)
    converges(lambda m, seed: shares(crossed(m, seed, 2, 2)), [getattr(parts, name) for name in SHARES], 12, 150)
    bagged = ensemble_risk(eigs, beta, 100, 100, LAM, NOISE, members=2, bags=2, overlap=0.5).excess
    converges(lambda m, seed: crossed(m, seed, 2, 2, shared=0.5).mean(0).sum(), float(bagged), 12, 100)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.5, 1.5, 2.0, 2.5, 6.0])
def test_shares_are_those_of_crossed_draws(float64, width):
    """At five widths through the threshold at 2m; overlapping sets of one draw of features and of two."""
    eigs, beta = map(jnp.asarray, levels(50))
    parts = variance_components(eigs, beta, 100, 50 * width, LAM, NOISE)
    expected = [getattr(parts, name) for name in SHARES]
    converges(lambda m, seed: shares(crossed(m, seed, 2, width)), expected, 20, 150, coarse=0.1)

    def bagged(m, seed):
        same, data, features, neither = crossed(m, seed, 2, width, shared=0.3).sum(1)
        return (same + features) / 2, (same + data + features + neither) / 4

    members = jnp.array([1.0, 2.0])
    risk = ensemble_risk(eigs, beta, 100, 50 * width, LAM, NOISE, members=members, bags=2, overlap=0.3)
    converges(bagged, np.asarray(risk.excess), 20, 150, coarse=0.1)


@pytest.mark.slow
def test_float32_keeps_its_digits(float64):
    double, single = along_widths(), along_widths(jnp.float32)
    assert single.excess.dtype == jnp.float32
    np.testing.assert_allclose(single[:-1], double[:-1], rtol=2e-4)


def test_bad_counts_are_named(unchecked):
    with pytest.raises(ValueError, match="members must be >= 1"):
        ensemble_risk(jnp.ones(3), jnp.ones(3), 5, 5, 0.1, 0.1, members=0.5)
    with pytest.raises(ValueError, match="overlap must lie in"):
        ensemble_risk(jnp.ones(3), jnp.ones(3), 5, 5, 0.1, 0.1, overlap=1.5)
    inside = jax.jit(lambda bags: ensemble_risk(jnp.ones(3), jnp.ones(3), 5.0, 5.0, 0.1, 0.1, bags=bags))(0.0)
    assert inside.status == Status.INVALID_INPUT
    assert np.isnan(inside.excess)


@pytest.mark.parametrize("risk", [variance_components, random_feature_spectrum])
def test_a_width_whose_square_leaves_the_dtype_is_infinite(float64, risk):
    """float32 at 1e30, against the kernel."""
    eigs, beta = (v.astype(jnp.float32) for v in power_law())
    found = risk(eigs, beta, 150, jnp.array([1e30, jnp.inf], jnp.float32), 1e-3, 0.25)
    for name, values in found._asdict().items():
        np.testing.assert_allclose(values[0], values[1], rtol=1e-6, err_msg=name)
    assert found.status.tolist() == [Status.OK, Status.OK]


def test_a_ridge_below_the_range_of_its_dtype_is_told(float64):
    eigs, beta = (v.astype(jnp.float32) for v in power_law())
    lost = general_covariance(eigs, beta, jnp.float32(1e-30), jnp.float32(1e-10), 0.25)
    assert lost.status == Status.ILL_CONDITIONED
