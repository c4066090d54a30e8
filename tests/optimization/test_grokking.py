"""Accuracies of linear students against gradient descent, and the law of eigenvalues against its moments."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import erf, erfinv

from jaxtheory.optimization import linear_grokking, marchenko_pastur
from jaxtheory.results import Status

EIGS, WEIGHTS = np.array([3.0, 0.5, 0.01, 0.0]), np.array([0.2, 0.5, 0.3, 0.0])


@pytest.mark.parametrize("aspect", [1e-6, 0.25, 0.999, 1 - 1e-6, 1.0, 1 + 1e-6, 3.0, 1e6])
def test_the_law_has_the_moments_and_the_inverse_moment_of_random_matrices(aspect, float64):
    """E h^k is the Narayana polynomial; E 1/h over h > 0 is 1/|1 − γ|, over γ for γ > 1."""
    h, w = map(np.asarray, marchenko_pastur(aspect))
    moments = [1, 1, 1 + aspect, 1 + 3 * aspect + aspect**2, 1 + 6 * aspect + 6 * aspect**2 + aspect**3]
    np.testing.assert_allclose([np.sum(w * h**k) for k in range(5)], moments, rtol=1e-12)
    if aspect != 1:
        inverse = 1 / abs(1 - aspect) / max(aspect, 1)
        np.testing.assert_allclose(np.sum(w[:-1] / h[:-1]), inverse, rtol=1e-12)


@pytest.mark.parametrize("aspect", [1e-6, 1.0, np.float32(1 + 1e-6), 3.0, 1e6])
def test_float32_keeps_mass_and_mean_of_the_law(aspect):
    """Sums of 2049 numbers, each with a few roundings of 6e-8, which are random."""
    h, w = (np.asarray(values, np.float64) for values in marchenko_pastur(aspect))
    np.testing.assert_allclose([w.sum(), np.sum(w * h)], 1.0, rtol=1e-6)


def test_times_are_roots_of_the_losses(float64):
    """Against Brent's method on erf itself."""
    times, margin, level = np.array([0.0, 1.0, 50.0]), 0.3, 0.9
    found = linear_grokking(EIGS, WEIGHTS, times, margin=margin, level=level)
    for name, weights in (("train", EIGS * WEIGHTS), ("test", WEIGHTS)):
        error = lambda t, weights=weights: np.sum(weights * np.exp(-2 * EIGS * t))  # noqa: E731
        accuracy = lambda t, error=error: erf(margin / np.sqrt(2 * error(t)))  # noqa: E731
        np.testing.assert_allclose(getattr(found, f"{name}_loss"), [error(t) / 2 for t in times], rtol=1e-12)
        np.testing.assert_allclose(getattr(found, f"{name}_accuracy"), [accuracy(t) for t in times], rtol=1e-12)
        root = brentq(lambda t, accuracy=accuracy: accuracy(t) - level, 0, 1e4, xtol=1e-10)
        np.testing.assert_allclose(getattr(found, f"{name}_time"), root, rtol=1e-9)
    np.testing.assert_allclose(found.delay, found.test_time - found.train_time, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_times_are_found_over_wide_spectra(scale, float64):
    """One direction at the end, whatever the others: t = log(w/E)/(2h), eigenvalues over ten decades."""
    h, w = scale * np.logspace(0, -10, 11), np.full(11, 1.0)
    found = linear_grokking(h, w, [0.0], margin=0.1, level=0.95)
    least = (0.1 / erfinv(0.95)) ** 2 / 2
    np.testing.assert_allclose(found.test_time, np.log(1 / least) / (2 * h[-1]), rtol=1e-3)


def test_directions_that_are_not_seen_have_no_time_and_easy_starts_none_to_wait():
    never = linear_grokking([1.0, 0.0], [0.5, 0.5], [0.0], margin=0.1)
    assert (never.test_time, never.delay, never.status) == (np.inf, np.inf, Status.NOT_FINITE)
    assert np.isfinite(never.train_time)
    done = linear_grokking([1.0, 0.5], [1e-4, 1e-4], [0.0], margin=0.1)
    assert (done.train_time, done.test_time, done.status) == (0, 0, Status.OK)


def test_gradient_descent_has_these_losses_and_accuracies(float64):
    """One run with n = 400 points and d = 300 inputs: exact losses, accuracies within 4 binomial errors."""
    draws, n, d, step, count, margin = np.random.default_rng(0), 400, 300, 0.01, 500, 0.05
    x, error = draws.normal(size=(n, d)), draws.normal(size=d) / np.sqrt(d)
    values, vectors = np.linalg.eigh(x.T @ x / n)
    for _ in range(count):
        error = error - step * (x.T @ (x @ error)) / n
    start = draws_again(n, d)
    # (1 − ηh)^k = e^{−h'ηk}
    rates = -np.log1p(-step * values) / step
    found = linear_grokking(rates, (vectors.T @ start) ** 2, [step * count], margin=margin)
    np.testing.assert_allclose(2 * found.test_loss[0], np.sum(error**2), rtol=1e-9)
    fresh = np.abs(draws.normal(size=(20_000, d)) @ error) < margin
    expected = float(found.test_accuracy[0])
    assert abs(fresh.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / 20_000)
    seen = np.mean(np.abs(x @ error) < margin)
    assert abs(seen - found.train_accuracy[0]) < 4 * np.sqrt(0.25 / n)


def draws_again(n, d):
    """The start of the run."""
    draws = np.random.default_rng(0)
    draws.normal(size=(n, d))
    return draws.normal(size=d) / np.sqrt(d)
