"""Exact risks off the isotropic limit: published values, simulation, and the limits that they share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.double_descent import (
    finite_gaussian,
    general_covariance,
    isotropic,
    mei_montanari,
    optimal_ridge,
    random_feature_spectrum,
    width_path,
    width_ridge,
)
from jaxtheory.kernels import random_features
from jaxtheory.results import Status

NOISE = 0.1


def power_law(dtype=jnp.float64):
    """λ_i = i^(−1.5), β_i ∝ i^(−0.5) with βᵀΣβ = 1, 600 modes."""
    i = jnp.arange(1, 601, dtype=dtype)
    return i**-1.5, i**-0.5 / jnp.sqrt(jnp.sum(i**-2.5))


def within(draws, predicted, errors=3):
    """Every mean within so many of its standard errors, which must be small enough to tell."""
    draws = np.asarray(draws)
    spread = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - predicted) <= errors * spread + 1e-12).all(), (draws.mean(0), spread, predicted)
    assert (spread <= 0.05 * np.abs(predicted) + 1e-12).all(), "too coarse to fail"


# --- Finite samples ---------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_published_values_of_finite_samples(dtype):
    """D = 100, n = 40, ‖β‖ = 1 spread equally, σ² = 0.04: the test errors, noise included."""
    risk = finite_gaussian(jnp.array([10, 30, 44, 100]), 40, jnp.full(100, 0.1, dtype), 0.04)
    np.testing.assert_allclose(risk.excess + 0.04, [1.2641, 3.2067, 8.6400, 0.6671], atol=5e-5)
    assert risk.excess.dtype == dtype
    near = finite_gaussian(jnp.array([38, 39, 40, 41, 42]), 40, jnp.full(100, 0.1, dtype), 0.04)
    assert near.status.tolist() == [Status.OK, *[Status.NOT_FINITE] * 3, Status.OK]


@pytest.mark.parametrize(("width", "samples"), [(4, 12), (7, 12), (20, 12), (30, 12), (6, 30)])
def test_finite_samples_are_the_mean_over_draws(float64, width, samples):
    """2000 draws of X, averaged over the noise exactly: bias, variance and training error."""
    rng = np.random.default_rng(width)
    beta = np.linspace(1.0, 0.1, 30)
    x = rng.standard_normal((2000, samples, 30))
    seen = x[:, :, :width]
    inverse = np.linalg.pinv(seen)
    error = inverse @ (x @ beta)[..., None] - beta[:width, None]
    bias = (error[..., 0] ** 2).sum(1) + (beta[width:] ** 2).sum()
    residual = (x @ beta) - (seen @ inverse @ (x @ beta)[..., None])[..., 0]
    train = (residual**2).sum(1) / samples + NOISE * max(1 - width / samples, 0)
    risk = finite_gaussian(width, samples, jnp.asarray(beta), NOISE)
    within(np.stack([bias, NOISE * (inverse**2).sum((1, 2)), train], 1), [risk.bias, risk.variance, risk.train])


# --- General covariance -----------------------------------------------------------------------------------------------


def test_published_values_of_general_covariance(float64):
    risk = general_covariance(*power_law(), 100, 0.0, NOISE)
    np.testing.assert_allclose([risk.kappa, risk.variance], [0.00242761, 0.07826], rtol=5e-5)


@pytest.mark.slow
def test_equal_eigenvalues_are_isotropic(float64):
    """p/n = γ with every λ_i = 1, against the closed form, at and off the threshold."""
    lam = jnp.array([1e-6, 0.1, 2.0])
    for gamma in (0.5, 1.0, 3.0):
        beta = jnp.full(300, np.sqrt(2.0 / 300))
        general = general_covariance(jnp.ones(300), beta, 300 / gamma, lam, 0.5)
        exact = isotropic(gamma, signal=2.0, noise=0.5, lam=lam)
        for name in ("bias", "variance", "excess", "train"):
            np.testing.assert_allclose(getattr(general, name), getattr(exact, name), rtol=1e-8, err_msg=name)
    bare = general_covariance(jnp.ones(30), jnp.full(30, 0.1), jnp.array([15.0, 30.0, 60.0]), 0.0, 0.5)
    exact = isotropic(jnp.array([2.0, 1.0, 0.5]), signal=0.3, noise=0.5, lam=0.0)
    np.testing.assert_allclose(bare.train, exact.train, rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(bare.variance, exact.variance, rtol=1e-8)
    assert bare.status.tolist() == [Status.OK, Status.NOT_FINITE, Status.OK]


LEVELS = np.array([3.0, 1.0, 0.3, 0.05])  # eigenvalues, each of multiplicity m
SIGNAL = np.array([0.5, 1.0, 1.5, 2.0])  # power β² at each level


def converges(simulate, predicted, size, seeds):
    """Means at `size` and twice it, extrapolated; within 3 standard errors and what an extrapolation leaves."""
    small, large = (np.array([simulate(m, seed) for seed in range(seeds)]) for m in (size, 2 * size))
    limit = 2 * large.mean(0) - small.mean(0)
    error = np.sqrt((4 * large.var(0, ddof=1) + small.var(0, ddof=1)) / seeds)
    width = 3 * error + np.abs(large.mean(0) - small.mean(0)) / np.sqrt(2 * size) + 1e-12
    assert (np.abs(limit - predicted) < width).all(), f"{limit} ± {error}, predicted {predicted}"
    assert (width < 0.1 * np.abs(predicted) + 1e-11).all(), "too coarse to fail"


def repeated(m):
    """The spectrum at multiplicity m, and β with the stated power at each level."""
    return np.repeat(LEVELS, m), np.repeat(np.sqrt(SIGNAL / m), m)


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "lam"), [(2.0, 0.05), (6.0, 0.2)])
def test_general_covariance_is_the_limit_of_ridge_regression(float64, ratio, lam):
    """n = ratio · m for 4m modes, ridge n·lam on XᵀX, averaged over the noise and the signs of β exactly."""

    def simulate(m, seed):
        eigs, beta = repeated(m)
        n = round(ratio * m)
        x = np.random.default_rng((seed, m)).standard_normal((n, 4 * m)) * np.sqrt(eigs)
        solve = np.linalg.solve(x.T @ x + n * lam * np.eye(4 * m), x.T)
        error, hat = solve @ x - np.eye(4 * m), np.eye(n) - x @ solve
        train = ((hat @ x) ** 2 @ beta**2).sum() / n + NOISE * (hat**2).sum() / n
        return eigs @ error**2 @ beta**2, NOISE * (eigs[:, None] * solve**2).sum(), train

    eigs, beta = map(jnp.asarray, repeated(50))
    risk = general_covariance(eigs, beta, ratio * 50, lam, NOISE)
    converges(simulate, [risk.bias, risk.variance, risk.train], 30, 60)


# --- Random features --------------------------------------------------------------------------------------------------


def published_random_features(eigs, beta, n, k, gamma, kappa):
    """Simon et al.'s risk as printed, at the γ and κ given, and the residuals of their two equations at ridge 0.01."""
    z, q = (eigs / (eigs + gamma)).sum(), ((eigs / (eigs + gamma)) ** 2).sum()
    terms = gamma / (eigs + gamma) - kappa * eigs * k / ((eigs + gamma) ** 2 * (k - q))
    risk = ((terms * eigs * beta**2).sum() + NOISE) / (1 - (q * (k - 2 * z) + z**2) / (n * (k - q)))
    return risk, z + 0.01 / kappa - n, z + k * kappa / gamma - k


def test_random_features_are_the_published_formula(float64):
    """To 1e-9 at widths through the threshold, and reference values to their five digits."""
    eigs, beta = power_law()
    widths = jnp.array([20.0, 50.0, 140.0, 150.0, 160.0, 200.0, 2000.0])
    risk = random_feature_spectrum(eigs, beta, 150, widths, 0.01, NOISE)
    assert not risk.status.any()
    for k, test, gamma, kappa in zip(widths, risk.test, risk.gamma, risk.kappa, strict=True):
        expected, samples, features = published_random_features(eigs, beta, 150, k, gamma, kappa)
        np.testing.assert_allclose(test, expected, rtol=1e-9)
        assert max(abs(samples), abs(features)) < 1e-8 * k
    np.testing.assert_allclose(risk.test[jnp.array([1, 3, 5])], [0.18152, 0.31510, 0.28542], atol=6e-6)


def test_many_features_are_the_kernel(float64):
    """k = ∞ is ridge regression with the kernel itself, and k = 10⁹ is 10⁻⁷ from it."""
    eigs, beta = power_law()
    kernel = general_covariance(eigs, beta, 150, 0.01 / 150, NOISE)
    limit = random_feature_spectrum(eigs, beta, 150, jnp.array([jnp.inf, 1e9]), 0.01, NOISE)
    np.testing.assert_allclose(limit.test[0], kernel.excess + NOISE, rtol=1e-9)
    np.testing.assert_allclose(limit.train[0], kernel.train, rtol=1e-9)
    np.testing.assert_allclose(limit.test[1], limit.test[0], rtol=1e-6)


@pytest.mark.parametrize(("samples", "width", "ridge"), [(2.0, 1.0, 0.02), (2.0, 3.0, 0.05), (2.0, 3.0, 0.0)])
def test_random_features_are_the_limit_of_simulation(float64, samples, width, ridge):
    """Gaussian features of Gaussian modes; averaged over the noise and the signs of β exactly."""

    def simulate(m, seed):
        eigs, beta = repeated(m)
        rng, n, k = np.random.default_rng((seed, m)), round(samples * m), round(width * m)
        weights = np.sqrt(eigs)[:, None] * rng.standard_normal((4 * m, k)) / np.sqrt(k)
        phi = rng.standard_normal((n, 4 * m))
        features, target = phi @ weights, np.sqrt(eigs) * beta
        gram = features @ features.T + ridge * m * np.eye(n)
        if k > n:
            smoother = weights @ features.T @ np.linalg.inv(gram)
        else:
            smoother = weights @ np.linalg.solve(features.T @ features + ridge * m * np.eye(k), features.T)
        error, hat = smoother @ phi - np.eye(4 * m), np.eye(n) - phi @ smoother
        test = (error**2 @ target**2).sum() + NOISE * (smoother**2).sum() + NOISE
        return test, ((hat @ phi) ** 2 @ target**2).sum() / n + NOISE * (hat**2).sum() / n

    eigs, beta = map(jnp.asarray, repeated(50))
    risk = random_feature_spectrum(eigs, beta, samples * 50, width * 50, ridge * 50, NOISE)
    converges(simulate, [risk.test, risk.train], 30, 60)


# --- Infinite width and infinite data of Mei and Montanari ------------------------------------------------------------


def arc_cosine(a, b):
    """E_θ relu(⟨x, θ⟩/√d) relu(⟨x', θ⟩/√d) for x, x' and θ on the sphere of radius √d, exact at every d."""
    cosine = np.clip(a @ b.T / a.shape[1], -1, 1)
    angle = np.arccos(cosine)
    return (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)


def sphere(rng, count, d):
    x = rng.standard_normal((count, d))
    return x * np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)


def test_infinite_width_is_kernel_ridge_regression(float64):
    """The exact arc-cosine kernel with ridge n·lam/d: bias and variance, averaged over targets and noise."""

    def simulate(d, seed):
        rng = np.random.default_rng((seed, d))
        x, fresh = sphere(rng, 2 * d, d), sphere(rng, 300, d)
        smoother = np.linalg.solve(arc_cosine(x, x) + 2 * 0.05 * np.eye(2 * d), arc_cosine(x, fresh)).T
        return ((fresh - smoother @ x) ** 2).sum() / (300 * d), (smoother**2).sum() / 300

    risk = mei_montanari(jnp.inf, 2.0, 0.05, activation="relu", signal=1.0, noise=1.0)
    converges(simulate, [risk.bias, risk.variance], 40, 24)


def test_infinite_data_is_the_population_of_random_features(float64):
    """E zzᵀ is the arc-cosine kernel of the weights and E[z y] their first moment μ1 ⟨θ, β⟩/√d: no data at all."""

    def simulate(d, seed):
        weights = sphere(np.random.default_rng((seed, d)), 2 * d, d)
        # E_x relu(⟨x, θ⟩/√d) x = θ E[relu(t) t], t a coordinate of x scaled to variance 1/… : exactly θ/(2√d)
        moment, gram = weights / (2 * np.sqrt(d)), arc_cosine(weights, weights)
        solve = np.linalg.solve(gram + 2 * 0.01 * np.eye(2 * d), moment)
        return (1 - (2 * (solve * moment).sum() - (solve * (gram @ solve)).sum()) / d,)

    risk = mei_montanari(2.0, jnp.inf, 0.01, activation="relu", signal=1.0, noise=1.0)
    converges(simulate, [risk.bias], 40, 24)
    assert risk.variance == 0
    np.testing.assert_allclose(risk.train, risk.excess + 1, rtol=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.01])
def test_infinite_ratios_are_limits(float64, lam):
    """At ψ = 10⁸ the distance is of relative order 10⁻⁷; infinite and finite ratios share one call, and derivatives."""
    at = partial(mei_montanari, activation="tanh", signal=1.0, noise=0.5, nonlinear=0.2)
    wide, long = at(jnp.array([jnp.inf, 1e8]), 3.0, lam), at(3.0, jnp.array([jnp.inf, 1e8]), lam)
    for risk in (wide, long):
        assert not risk.status.any()
        np.testing.assert_allclose(risk.excess[1], risk.excess[0], rtol=1e-6)
        np.testing.assert_allclose(risk.train[1], risk.train[0], rtol=1e-6, atol=1e-12)
    slopes = [jax.grad(lambda psi2, psi1=psi1: at(psi1, psi2, lam).excess)(3.0) for psi1 in (jnp.inf, 1e8)]
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-5)


def test_triple_descent_of_tanh(float64):
    """d'Ascoli et al.: N/d = 10, SNR 0.2: a linear peak at ψ2 ≈ 1.08, a nonlinear one at ≈ 9.97 unless λ ≥ 1e-3."""
    psi2 = jnp.logspace(-1, 2, 1201)

    def peaks(lam):
        risk = mei_montanari(10.0, psi2, lam, activation="tanh", signal=1.0, noise=5.0).excess
        inner = (risk[1:-1] > risk[:-2]) & (risk[1:-1] > risk[2:])
        return psi2[1:-1][inner]

    np.testing.assert_allclose(peaks(1e-6), [1.08, 9.97], rtol=0.01)
    for lam in (1e-3, 1e-2):
        np.testing.assert_allclose(peaks(lam), [1.08], rtol=0.2)


# --- The best ridge ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_best_ridge_of_isotropic_data_is_known(float64):
    """λ* = σ²γ/r² with R* = σ²γ m(−λ*); published R* at γ = 1/2 and 1; dλ*/dσ² = γ/r²."""

    def best(gamma, noise):
        return optimal_ridge(lambda lam: isotropic(gamma, signal=1.0, noise=noise, lam=lam).excess)

    found = jax.vmap(best, (0, None))(jnp.array([0.5, 1.0]), 0.25)
    np.testing.assert_allclose(found.lam, [0.125, 0.25], rtol=1e-7)
    np.testing.assert_allclose(found.risk, [0.175391, 0.390388], atol=6e-7)
    slope = jax.jit(jax.grad(lambda noise: best(0.5, noise).lam))(0.25)
    np.testing.assert_allclose(slope, 0.5, rtol=1e-6)


@pytest.mark.slow
def test_the_best_ridge_of_every_law_is_stationary_and_lowest(float64):
    """Against a fine grid; the risk under it has no peak in the number of samples."""
    eigs, beta = power_law()
    samples = jnp.array([20.0, 100.0, 300.0])
    laws = {
        "features": lambda n, lam: random_feature_spectrum(eigs, beta, n, 100.0, n * lam, NOISE).test,
        "covariance": lambda n, lam: general_covariance(eigs, beta, n, lam, NOISE).excess,
        "sphere": lambda n, lam: mei_montanari(1.0, n / 100, lam, activation="relu", signal=1.0, noise=0.2).excess,
    }
    for law in laws.values():
        found = jax.jit(jax.vmap(lambda n, law=law: optimal_ridge(partial(law, n))))(samples)
        grid = jnp.logspace(-6, 3, 300)
        lowest = jax.vmap(lambda lam, law=law: law(samples, lam))(grid).min(axis=0)
        assert (found.risk <= lowest * (1 + 1e-12)).all()
        assert (found.risk > lowest * (1 - 1e-3)).all()
        assert (jnp.diff(found.risk) < 0).all()
        assert not found.status.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_noise_the_best_ridge_is_none(dtype):
    """Also where rounding alone makes an inner point the lowest."""
    with jax.enable_x64(dtype == np.float64):
        for gamma in (0.5, 2.0):
            found = optimal_ridge(lambda lam, gamma=gamma: isotropic(gamma, signal=1.0, noise=0.0, lam=lam).excess)
            assert int(found.status) == Status.NOT_CONVERGED


def test_the_best_ridge_does_not_depend_on_the_unit_of_the_risk():
    """In float32 the derivative of a tiny risk would underflow."""
    for unit in (1e-35, 1.0, 1e25):
        found = optimal_ridge(lambda lam, unit=unit: unit * (lam + 4 / lam))
        assert found.status == Status.OK
        assert float(found.lam) == pytest.approx(2.0, rel=1e-6)


# --- Bad input, jit and float32 ---------------------------------------------------------------------------------------


def test_float32_keeps_its_digits(float64):
    for n, k in ((150, 140.0), (150, 150.0), (150, 2000.0)):
        double = random_feature_spectrum(*power_law(), n, k, 0.01, NOISE)
        single = random_feature_spectrum(*power_law(jnp.float32), n, k, 0.01, NOISE)
        assert single.test.dtype == jnp.float32
        np.testing.assert_allclose(single.test, double.test, rtol=2e-4)


BAD = [
    (lambda e, b: finite_gaussian(0, 10, b, 0.1), r"p must lie in 1\.\.3, got p=0"),
    (lambda e, b: finite_gaussian(2, 0, b, 0.1), "n must be >= 1"),
    (lambda e, b: finite_gaussian(2, 10, b, -0.1), "noise must be >= 0 and finite"),
    (lambda e, b: general_covariance(-e, b, 10, 0.1, 0.1), "eigs must be >= 0 and finite"),
    (lambda e, b: general_covariance(e, b, 0, 0.1, 0.1), "n must be positive and finite"),
    (lambda e, b: random_feature_spectrum(e, b, 10, 0.0, 0.1, 0.1), "k must be > 0"),
    (lambda e, b: random_feature_spectrum(e, b, float("inf"), 5.0, 0.1, 0.1), "n must be positive and finite"),
    (lambda e, b: random_feature_spectrum(e, b, 10, 5.0, -0.1, 0.1), "ridge must be >= 0 and finite"),
    (lambda e, b: optimal_ridge(jnp.square, low=1.0, high=0.5), r"low must lie in \(0, 0.5\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_named(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones(3), jnp.ones(3))


def test_values_out_of_range_inside_jit_are_invalid_and_nan():
    """NaN, infinite or negative noise, ridges and eigenvalues."""
    eigs, beta = jnp.arange(1.0, 6.0) ** -2, jnp.ones(5)
    general = jax.jit(lambda lam, noise, eigs: general_covariance(eigs, beta, 3.0, lam, noise))
    features = jax.jit(lambda lam, noise, eigs: random_feature_spectrum(eigs, beta, 3.0, 9.0, lam, noise))
    exact = jax.jit(lambda noise: finite_gaussian(jnp.array([2]), 5, beta, noise))
    bad = [(0.1, jnp.nan, eigs), (jnp.inf, 0.1, eigs), (0.1, -1.0, eigs), (0.1, 0.1, -eigs)]
    risks = [law(*values) for law in (general, features) for values in bad] + [exact(x) for x in (jnp.nan, -1.0)]
    for risk in risks:
        assert (risk.status == Status.INVALID_INPUT).all()
        assert all(np.isnan(value).all() for value in risk[:-1])
    assert general(0.1, 0.1, eigs).status == Status.OK
    assert features(0.1, 0.1, eigs).status == Status.OK


def test_a_spectrum_over_many_decades_keeps_its_digits():
    """Eigenvalues 1, 1e-4, ..., 1e-16, n = 1e5, ridge 1e-8, noise .1, against the fixed point in 60 digits.

    With 5 features γ lies between the last two eigenvalues: all but 1.3 of the 5 modes are learned.
    """
    eigs = 10.0 ** -jnp.arange(0.0, 17.0, 4.0)
    risk = random_feature_spectrum(eigs, jnp.ones(5), 1e5, jnp.array([3.0, 5.0, 6.0, jnp.inf]), 1e-8, 0.1)
    assert (risk.status == Status.OK).all()
    np.testing.assert_allclose(risk.gamma, [1.14283047e-10, 3.90457886e-13, 2.71139968e-13, 1.0000391e-13], rtol=1e-5)
    np.testing.assert_allclose(risk.test, [0.100002997, 0.100003546, 0.100003632, 0.100003828], rtol=1e-5)


def test_small_integers_count_samples(float64, unchecked):
    """p = 3 features and n = 200 samples as uint8, whose difference is none: ‖unseen‖² (1 + p/(n − p − 1))."""
    risk = finite_gaussian(jnp.array([3], jnp.uint8), jnp.array([200], jnp.uint8), jnp.ones(5), 0.0)
    np.testing.assert_allclose(risk.bias, [2 * (1 + 3 / 196)], rtol=1e-14)


def test_coefficients_that_are_lost_are_not_a_risk():
    """Squares of 1e-25 are 0 in float32; NaN is no coefficient, also where its mode is fitted exactly."""
    assert finite_gaussian(1, 9, jnp.full(5, 1e-25), 0.0).status == Status.NOT_FINITE
    exact = jax.jit(lambda b: finite_gaussian(3, 9, b, 0.1).status)
    assert exact(jnp.array([jnp.nan, 1.0, 1.0, 1.0])) == Status.INVALID_INPUT
    lost = general_covariance(jnp.ones(3), jnp.full(3, 1e-25), 9.0, 0.1, 0.0)
    assert lost.status == Status.NOT_FINITE


@pytest.mark.slow
def test_an_eigenvalue_of_zero_has_the_derivative_of_its_power(float64):
    """A mode without variance is missed: d bias/dλ = β²/(1 − df/n) there, with κ as it is, for Σ of one other mode."""
    beta, n, lam = jnp.array([0.0, 3.0]), 4.0, 0.5

    def bias(small):
        return general_covariance(jnp.array([1.0, 0.0]) + small * jnp.array([0.0, 1.0]), beta, n, lam, 0.0).bias

    h = 1e-5
    one_sided = (-3 * bias(0.0) + 4 * bias(h) - bias(2 * h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(bias)(0.0), one_sided, rtol=1e-6)
    assert one_sided > 9


def test_a_best_ridge_that_is_not_found_is_not_ok(unchecked):
    """A risk whose derivative is NaN, and one that is lowest at a jump."""
    without = optimal_ridge(lambda lam: jnp.log(lam) ** 2 + jnp.where(lam > 0, 0.0, jnp.sqrt(lam - lam)))
    assert without.status != Status.OK
    jump = optimal_ridge(lambda lam: jnp.where(lam < 1.0, 2.0 - lam, 3.0 + lam))
    assert jump.status != Status.OK
    with pytest.raises(ValueError, match="risk must return one real number"):
        optimal_ridge(lambda lam: jnp.ones(2) * lam)
    with pytest.raises(ValueError, match="low must be known when the program is compiled"):
        jax.jit(lambda low: optimal_ridge(jnp.square, low=low).lam)(0.1)


# --- One ridge at every width -----------------------------------------------------------------------------------------

WIDTHS, RIDGES = (1.5, 3.0, 6.0), (0.03, 0.3, 3.0)  # features per m, below, at and above n = 3 m; ridges per m


def same(t):
    return t


def drawn(m, seed):
    """Points with the repeated spectrum, and random features as they are drawn: linear ones, given by their weights."""
    eigs, _ = repeated(m)
    x = np.random.default_rng((seed, m)).standard_normal((3 * m, 4 * m)) * np.sqrt(eigs)
    axes = np.sqrt(4 * m) * jnp.eye(4 * m)
    return x, np.asarray(random_features(axes, 6 * m, jax.random.key(seed), activation=same))


@pytest.mark.slow
def test_a_path_at_the_converted_ridge_is_ridge_regression_on_divided_features(float64):
    """At three ridges and widths, by normal equations."""
    x, weights = drawn(4, 0)
    z, y = x @ weights, x.sum(axis=1)
    for ridge in RIDGES:
        for p in (6, 12, 24):
            path = width_path(z, y, z, y, ridge=width_ridge(ridge, float(p)), widths=jnp.array([p]))
            f = z[:, :p] / np.sqrt(p)
            fit = np.linalg.solve(f.T @ f + ridge * np.eye(p), f.T @ y)
            np.testing.assert_allclose(path.test_mse[0], np.mean((f @ fit - y) ** 2), rtol=1e-9)


@pytest.mark.slow
def test_one_ridge_of_the_law_is_one_ridge_of_divided_features_at_every_width(float64):
    """What `random_features` draws, against `random_feature_spectrum`, which tells divided from undivided features."""

    def simulate(m, seed):
        (eigs, beta), (x, weights) = repeated(m), drawn(m, seed)
        risks = []
        for ridge in RIDGES:
            for share in WIDTHS:
                p = round(m * share)
                w = weights[:, :p] / np.sqrt(p)
                fit = w @ np.linalg.solve((x @ w).T @ (x @ w) + m * ridge * np.eye(p), (x @ w).T)
                error = fit @ x - np.eye(4 * m)
                risks.append(eigs @ error**2 @ beta**2 + NOISE * (1 + (eigs[:, None] * fit**2).sum()))
        return risks

    eigs, beta = map(jnp.asarray, repeated(50))
    law = partial(random_feature_spectrum, eigs, beta, 150.0, noise=NOISE)
    ridges, widths = 50 * jnp.array(RIDGES)[:, None], 50 * jnp.array(WIDTHS)[None, :]
    exact = law(widths, ridge=ridges).test
    converges(simulate, np.asarray(exact).ravel(), 10, 200)
    undivided = law(widths, ridge=ridges / widths).test / exact
    assert (jnp.abs(undivided - 1).max(axis=1) > 0.2).all()
