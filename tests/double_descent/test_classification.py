"""Separability, margins and penalized classifiers: reference values, closed forms, each other, and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.optimize import minimize_scalar, nnls
from scipy.special import expit, ndtr
from tolerances import tolerance

from jaxtheory.double_descent import covariance_logistic, isotropic, logistic, max_margin, separability_threshold
from jaxtheory.double_descent.margin_losses import prox_step
from jaxtheory.optimization import implicit_bias
from jaxtheory.results import Status

MEAN_S = 0.6057055096021588  # E S of logistic labels at signal 2, by quadrature in 30 digits


def draws(rng, n, d, signal):
    """Isotropic points and labels of a logistic teacher along the first axis."""
    x = rng.standard_normal((n, d))
    return x, np.where(rng.random(n) < expit(signal * x[:, 0]), 1.0, -1.0)


def within(found, predicted, errors=4, coarse=0.05):
    """Means within standard errors that are small enough to tell."""
    found = np.asarray(found)
    spread = found.std(0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(0) - predicted) < errors * spread).all(), (found.mean(0), spread, predicted)
    assert (spread < coarse * np.abs(predicted)).all(), "too coarse to fail"


# --- Separability and the largest margin ------------------------------------------------------------------------------


def test_thresholds_of_separability(float64):
    """Cover's 1/2, six digits of Candès and Sur's minimum at ρ = 1, 2, 5, and the limit of clean labels, 0."""
    found = separability_threshold(jnp.array([0.0, 1.0, 2.0, 5.0]))
    np.testing.assert_allclose(found, [0.5, 0.438939, 0.344930, 0.185052], atol=6e-7)


@pytest.mark.slow
def test_almost_clean_labels(dtype):
    """ρψ* tends to its limit as 1/ρ², with slope −ψ*/ρ; ψ is the margin over 1.00446 where ρ is infinite, ψ → 0."""
    signal = jnp.asarray([1e3, 1e5, 1e8, 1e15, 1e30], dtype)
    found, slope = jax.vmap(jax.value_and_grad(separability_threshold))(signal)
    wide = np.asarray(signal, float)
    scaled = np.asarray(found, float) * wide
    # min over t of ∫ √(2/π) σ(w) E(−tw − Z)₊² dw, the largest margin u/a where √(2/π) ∫_0^∞ E(u − w − Z)₊² dw = aψ,
    # and the error √(2/π)/a ∫_0^∞ P(Z > w) dw, by quadrature in 20 digits
    assert (np.abs(scaled / 1.01526786 - 1) < tolerance(dtype, 10) + 1e-8 + 3 / wide**2).all()
    np.testing.assert_allclose(np.asarray(slope[:4], float) * wide[:4] ** 2, -scaled[:4], rtol=1e-3)
    aspect = jnp.asarray([1e-2, 1e-6, 1e-9], dtype)
    best = max_margin(aspect, jnp.asarray(1e30, dtype))
    ratios = np.asarray(best.margin / aspect, float), np.asarray(best.error / aspect, float)
    np.testing.assert_allclose(ratios[0], 1.00445813, rtol=1e-3)
    np.testing.assert_allclose(ratios[1], 0.50048893, rtol=1e-3)
    assert not best.status.any()


def test_threshold_of_probit_labels_is_the_minimum_of_a_double_integral(float64):
    """E(−tS − Z)₊² by adaptive quadrature in the plane, minimized by Brent's method."""

    def mean(t):
        def integrand(z, s):
            return 2 * np.exp(-(s**2 + z**2) / 2) / (2 * np.pi) * ndtr(1.5 * s) * max(-t * s - z, 0) ** 2

        return dblquad(integrand, -6, 6, -8, lambda s: -t * s, epsabs=1e-7)[0]

    expected = minimize_scalar(mean, bounds=(0.5, 2.0), method="bounded", options={"xatol": 1e-3}).fun
    np.testing.assert_allclose(separability_threshold(1.5, "probit"), expected, atol=2e-6)


def test_the_margin_of_noisy_labels(float64):
    """ψ = .8, ρ = 2: five digits; without signal and with many features √ψ − 1 at first order; none below ψ*."""
    found = max_margin(jnp.array([0.8, 0.34, 1e6, 0.8]), jnp.array([2.0, 2.0, 0.0, 0.0]))
    np.testing.assert_allclose([v[0] for v in found[:3]], [0.47592, 0.49531, 0.37715], atol=6e-6)
    assert found.status.tolist() == [Status.OK, Status.NOT_FINITE, Status.OK, Status.OK]
    assert np.isnan(found.margin[1])
    # (κ² + 1)/ψ = 1 up to the tail of a normal: every point is a support vector
    np.testing.assert_allclose(found.margin[2], np.sqrt(1e6 - 1), rtol=1e-9)
    np.testing.assert_allclose([v[3] for v in found[1:3]], [0.0, 0.5], atol=1e-8)


@pytest.mark.slow
def test_derivative_of_the_threshold(float64):
    """Against central differences; without signal it is 0, by symmetry."""
    slope = jax.vmap(jax.grad(separability_threshold))(jnp.array([0.0, 1.0]))
    h = 1e-4
    high, low = separability_threshold(jnp.array([1 + h, 1 - h]))
    np.testing.assert_allclose(slope, [0.0, (high - low) / (2 * h)], atol=1e-8)


# --- Penalized losses -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.smoke
def test_reference_values_of_ridge_logistic_regression(float64):
    """δ = 2, ridge = .1, ρ = 2: seven digits; and Sur and Candès' maximum likelihood at d/n = .2, ρ² = 5."""
    fit = logistic(jnp.array([2.0, 5.0]), jnp.array([0.1, 0.0]), jnp.array([2.0, np.sqrt(5.0)]))
    expected = [0.9270145, 1.832235, 0.6848508, 0.3254763, 0.6065358, 0.3387544]
    np.testing.assert_allclose([value[0] for value in fit[:-1]], expected, rtol=2e-6)
    bias, spread = fit.alignment[1] / np.sqrt(5.0), np.sqrt((fit.squared_norm - fit.alignment**2)[1] * 5)
    np.testing.assert_allclose([bias, spread], [1.4994, 4.7436], atol=6e-5)
    assert not fit.status.any()


def test_the_squared_loss_is_ridge_regression_of_the_labels(float64):
    """Labels are ⟨x, β⟩ E S + noise of variance 1 − (E S)²: against the closed form of `isotropic`."""
    delta, ridge = jnp.array([0.5, 2.0]), jnp.array([1e-3, 0.1])
    fit = logistic(delta, ridge, jnp.array([2.0, 2.0]), loss="squared")
    signal = MEAN_S**2
    exact = isotropic(1 / delta, signal=signal, noise=1 - signal, lam=ridge)
    excess = (fit.alignment - MEAN_S) ** 2 + fit.squared_norm - fit.alignment**2
    np.testing.assert_allclose(excess, exact.excess, rtol=1e-6)
    np.testing.assert_allclose(2 * fit.test_loss, exact.excess + 1 - signal, rtol=1e-6)
    np.testing.assert_allclose(2 * fit.train_loss, exact.train, rtol=1e-5)


@pytest.mark.slow
def test_a_hinge_with_little_ridge_is_the_largest_margin(float64):
    """The penalty is exact: at ridge .1 as at 1e-4 the fit of separable data is 1/margin long, with no loss."""
    fit, best = logistic(jnp.array([0.5, 0.5]), jnp.array([0.1, 1e-4]), 2.0, loss="hinge"), max_margin(2.0, 2.0)
    np.testing.assert_allclose(fit.squared_norm, 1 / best.margin**2, rtol=1e-8)
    np.testing.assert_allclose(fit.cosine, best.alignment, rtol=1e-8)
    np.testing.assert_allclose(fit.error, best.error, rtol=1e-8)
    assert (fit.train_loss < 1e-12).all()


@pytest.mark.slow
def test_reference_values_of_the_largest_margin_of_a_power_law(float64):
    """λ_j = j^(−1/2), d = 600, n = 300, ρ = 3, six digits: ‖b‖², margin, correlation and error, at any small ridge."""
    eigs = jnp.arange(1.0, 601.0) ** -0.5
    fit = covariance_logistic(eigs, jnp.ones(600), 300.0, jnp.array([1e-2, 1e-4]), 3.0, loss="hinge")
    for value, expected in (
        (fit.squared_norm, 9.763537),
        (fit.squared_norm**-0.5, 0.320034),
        (fit.cosine, 0.482065),
        (fit.error, 0.363249),
    ):
        np.testing.assert_allclose(value, expected, atol=6e-7 * max(1.0, expected))
    assert not fit.status.any()


@pytest.mark.slow
def test_any_covariance_with_equal_eigenvalues_is_isotropic(float64):
    """Also in other units: x twice as long and a ridge four times as large halve b and leave the scores."""
    delta, ridge, signal = jnp.array([2.0, 5.0]), jnp.array([0.1, 1e-3]), jnp.array([2.0, np.sqrt(5.0)])
    exact = logistic(delta, ridge, signal)
    fit = covariance_logistic(jnp.full(120, 4.0), jnp.arange(1.0, 121.0), 120 * delta, 4 * ridge, signal)
    for name in ("alignment", "cosine", "error", "test_loss", "train_loss"):
        np.testing.assert_allclose(getattr(fit, name), getattr(exact, name), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(4 * fit.squared_norm, exact.squared_norm, rtol=1e-9)
    assert not fit.status.any()


def test_a_proximal_step_solves_its_equation(float64):
    """u = V σ(−(t + u)) for V over twenty decades and margins −1000 to 600."""
    t, v = jnp.meshgrid(jnp.linspace(-1e3, 600.0, 41), jnp.logspace(-8, 12, 21))
    step = prox_step(t, v)
    log_sigma = -np.logaddexp(0, np.asarray(t + step))
    np.testing.assert_allclose(np.log(step), np.log(v) + log_sigma, atol=1e-9)


def test_what_has_no_solution_is_not_ok(float64):
    """Maximum likelihood of separable data, and least squares with fewer samples than dimensions."""
    for loss in ("logistic", "squared"):
        fit = logistic(jnp.array([0.5, 2.0]), jnp.array([0.0, 0.1]), jnp.array([2.0, 2.0]), loss=loss)
        assert fit.status.tolist() == [Status.NOT_CONVERGED, Status.OK]
    with pytest.raises(ValueError, match="samples_per_dimension must be positive"):
        logistic(0.0, 0.1, 2.0)


@pytest.mark.slow
def test_a_ridge_below_rounding_decides_nothing():
    """In float32 separable data at 1e-30: the equations hold to rounding at norms 10^5 too large."""
    fit = logistic(2.0, jnp.float32([1e-30, 1e-10]), 2.0, loss="hinge")
    assert fit.status.tolist() == [Status.NOT_CONVERGED, Status.OK]
    best = max_margin(0.5, 2.0)
    assert float(fit.squared_norm[1]) == pytest.approx(float(best.margin) ** -2, rel=1e-4)


@pytest.mark.slow
def test_nodes_that_are_too_coarse_are_not_ok(float64):
    """Labels almost without noise: ‖b‖ exceeds 200, and the loss bends on 1/200 of the scale of the margins."""
    fit = logistic(jnp.array([1e3, 30.0]), jnp.zeros(2), jnp.array([200.0, 5.0]))
    assert fit.squared_norm[0] > 200**2
    assert fit.status.tolist() == [Status.NOT_CONVERGED, Status.OK]


@pytest.mark.parametrize("signal", [0.0, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.first_case
def test_a_norm_that_grows_without_bound_is_not_ok(signal, dtype):
    """Maximum likelihood next to where labels can be separated: δ = 2 without signal (Cover), 2.28 at ρ = 1."""
    delta = jnp.asarray([2.0 if signal == 0 else 1 / float(separability_threshold(1.0)), 5.0], dtype)
    fit = logistic(delta, jnp.zeros(2, dtype), jnp.full(2, signal, dtype))
    assert fit.status.tolist() == [Status.NOT_CONVERGED, Status.OK]


@pytest.mark.slow
def test_only_the_direction_of_a_teacher_counts():
    """At scales whose squares float32 does not hold, bit for bit."""
    eigs, beta = jnp.array([2.0, 1.0, 0.5]), jnp.array([1.0, -2.0, 0.5])
    found = [covariance_logistic(eigs, beta * 2.0**power, 8.0, 0.1, 2.0) for power in (0, -80, 80)]
    for other in found[1:]:
        np.testing.assert_array_equal(jnp.stack(other[:-1]), jnp.stack(found[0][:-1]))
        assert other.status == Status.OK


# --- Simulation -------------------------------------------------------------------------------------------------------


def newton_logistic(x, y, ridge):
    b = np.zeros(x.shape[1])
    for _ in range(12):
        p = expit(-y * (x @ b))
        curvature = (x * (p * (1 - p))[:, None]).T @ x / len(x) + ridge * np.eye(len(b))
        b -= np.linalg.solve(curvature, -x.T @ (y * p) / len(x) + ridge * b)
    return b


def fitted(b, x, y, loss):
    """Alignment, ‖b‖², cosine, error and training loss of a fit, at a teacher along the first axis, ρ = 2."""
    s, weight = np.polynomial.hermite_e.hermegauss(120)
    across = np.sqrt(b @ b - b[0] ** 2)
    error = (weight * 2 * expit(2 * s) * ndtr(-b[0] * s / across)).sum() / np.sqrt(2 * np.pi)
    return b[0], b @ b, b[0] / np.sqrt(b @ b), error, loss(y * (x @ b)).mean()


def predicted(fit):
    return np.array([fit.alignment, fit.squared_norm, fit.cosine, fit.error, fit.train_loss], float)


@pytest.mark.parametrize(("n", "repeats"), [(200, 60), pytest.param(1000, 60, marks=pytest.mark.slow)])
@pytest.mark.first_case
def test_ridge_logistic_regression_is_the_limit_of_newton(float64, n, repeats):
    rng = np.random.default_rng(n)
    found = []
    for _ in range(repeats):
        x, y = draws(rng, n, n // 2, 2.0)
        found.append(fitted(newton_logistic(x, y, 0.1), x, y, lambda t: np.logaddexp(0, -t)))
    within(found, predicted(logistic(jnp.array([2.0, 2.0]), jnp.array([0.1, 0.1]), jnp.array([2.0, 2.0])))[:, 0])


@pytest.mark.slow
def test_a_soft_margin_is_the_limit_of_dual_ascent():
    """Coordinate ascent on Σ a − ‖Σ a y x‖²/(2 n ridge) over 0 ≤ a ≤ 1, to a gap below 1e-4."""
    rng, n, ridge, found = np.random.default_rng(5), 400, 0.1, []
    for _ in range(30):
        x, y = draws(rng, n, n // 2, 2.0)
        z = x * y[:, None]
        a, b, sizes = np.zeros(n), np.zeros(n // 2), (x**2).sum(1) / (n * ridge)
        for _ in range(100):
            for i in range(n):
                new = min(max(a[i] + (1 - z[i] @ b) / sizes[i], 0.0), 1.0)
                b += (new - a[i]) * z[i] / (n * ridge)
                a[i] = new
        primal, dual = np.maximum(0, 1 - z @ b).mean() + ridge * b @ b / 2, a.mean() - ridge * b @ b / 2
        assert primal - dual < 1e-4
        found.append(fitted(b, x, y, lambda t: np.maximum(0, 1 - t)))
    within(found, predicted(logistic(2.0, 0.1, 2.0, loss="hinge")))


@pytest.mark.slow
def test_the_largest_margin_is_the_limit_of_separators():
    """ψ = .8, ρ = 2, n = 400: the shortest vector of the hull of y x by non-negative least squares."""
    rng, found = np.random.default_rng(7), []
    for _ in range(30):
        x, y = draws(rng, 400, 320, 2.0)
        z = x * y[:, None]
        weight = nnls(np.vstack([z.T, np.ones(400)]), np.append(np.zeros(320), 1.0))[0]
        b = z.T @ weight
        b /= np.linalg.norm(b)
        margin = (z @ b).min()
        assert abs(margin - np.linalg.norm(z.T @ weight) / weight.sum()) < 1e-8
        found.append((margin, b[0]))
    x, y = draws(rng, 40, 40, 2.0)
    separator = implicit_bias.max_margin(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    weight = nnls(np.vstack([(x * y[:, None]).T, np.ones(40)]), np.append(np.zeros(40), 1.0))[0]
    np.testing.assert_allclose(separator.margin, np.linalg.norm((x * y[:, None]).T @ weight) / weight.sum(), rtol=1e-4)
    best = max_margin(0.8, 2.0)
    within(found, [float(best.margin), float(best.alignment)])


@pytest.mark.slow
def test_any_covariance_is_the_limit_of_newton(float64):
    """λ from 4 to 1/16, β heavier on small ones: n = 240, d = 120, ridge .05; the error from the fit's own scores."""
    rng, found = np.random.default_rng(11), []
    eigs, beta = np.logspace(2, -4, 120, base=2), np.linspace(0.5, 2.0, 120)
    t = beta / np.sqrt(eigs @ beta**2)
    for _ in range(80):
        x = rng.standard_normal((240, 120)) * np.sqrt(eigs)
        y = np.where(rng.random(240) < expit(2.0 * (x @ t)), 1.0, -1.0)
        b = newton_logistic(x, y, 0.05)
        m, q = (b * eigs) @ t, (b * eigs) @ b
        found.append([m, b @ b, m / np.sqrt(q), np.logaddexp(0, -y * (x @ b)).mean()])
    fit = covariance_logistic(eigs, beta, jnp.array([240.0, 240.0]), jnp.array([0.05, 0.05]), jnp.array([2.0, 2.0]))
    within(found, [float(v[0]) for v in (fit.alignment, fit.squared_norm, fit.cosine, fit.train_loss)])


@pytest.mark.slow
def test_random_features_are_gaussian_features(float64):
    """tanh of 300 random projections in d = 200, probit labels at ρ = 2, n = 400: E zzᵀ and E z⟨x, θ⟩ by quadrature."""
    rng, found, expected = np.random.default_rng(13), [], []
    d, p, n, rho, ridge = 200, 300, 400, 2.0, 0.01
    nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    linear, power = weight @ (nodes * np.tanh(nodes)), weight @ np.tanh(nodes) ** 2
    for _ in range(20):
        w = rng.standard_normal((p, d))
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        theta = np.eye(d)[0]
        sigma = linear**2 * w @ w.T + (power - linear**2) * np.eye(p)
        eigs, basis = np.linalg.eigh(sigma)
        beta = basis.T @ np.linalg.solve(sigma, linear * w @ theta)
        seen = eigs @ beta**2
        signal = rho * np.sqrt(seen) / np.sqrt(1 + rho**2 * (1 - seen))
        fit = covariance_logistic(eigs, beta, float(n), ridge, signal, link="probit")
        expected.append([fit.squared_norm, fit.error, fit.train_loss])
        x, fresh = rng.standard_normal((n, d)), rng.standard_normal((20000, d))
        y = np.where(rng.random(n) < ndtr(rho * x @ theta), 1.0, -1.0)
        b = newton_logistic(np.tanh(x @ w.T), y, ridge)
        wrong = ndtr(-rho * (fresh @ theta) * np.sign(np.tanh(fresh @ w.T) @ b)).mean()
        found.append([b @ b, wrong, np.logaddexp(0, -y * (np.tanh(x @ w.T) @ b)).mean()])
    difference = np.array(found) - np.array(expected, float)
    spread = difference.std(0, ddof=1) / np.sqrt(20)
    # W Wᵀ for tanh is exact in the linear part alone: E zzᵀ has cubic terms of order d^(−3/2)
    assert (np.abs(difference.mean(0)) < 4 * spread + 0.01 * np.mean(found, 0)).all(), (difference.mean(0), spread)
    assert (spread < 0.03 * np.mean(found, 0)).all()
