"""Errors of N terms against laws and brute force; multilevel splines against SciPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

from jaxtheory.results import fit_slope
from jaxtheory.smoothness import approximation, besov, signals, wavelets

OCTAVES = 2 ** np.arange(8, 14)


def slope(terms, errors):
    return float(fit_slope(jnp.asarray(terms, float), jnp.asarray(errors)).slope)


def test_errors_are_those_of_brute_force(key, float64):
    x = jax.random.normal(key, (32,), jnp.float64)
    c = wavelets.dwt(x, "db2")
    flat = np.asarray(wavelets.ravel(c))
    for terms in (1, 7, 31):
        kept = np.where(np.argsort(np.argsort(-np.abs(flat))) < terms, flat, 0)
        np.testing.assert_allclose(approximation.n_term_errors(c)[terms - 1], np.linalg.norm(flat - kept))
    for terms, error in zip(approximation.linear_terms(c), approximation.linear_errors(c), strict=True):
        np.testing.assert_allclose(error, np.linalg.norm(flat[terms:]))


def remainder(kind, s, rate):
    """What finite N moves a slope by over the octaves 8 … 13 of 18 levels.

    The ten spikes of finer levels are ten terms less where a level of equal coefficients ends and the error falls as
    N^{1 − 4^s}; the last error lacks the levels beyond 18; the norm of weak-ℓ1 levels is a harmonic sum, a logarithm.
    """
    octaves = math.log(OCTAVES[-1] / OCTAVES[0])
    spikes = (4**s - 1) * math.log1p(10 / OCTAVES[0]) / octaves
    cut = -0.5 * math.log1p(-(4.0 ** (-5 * rate))) / octaves
    return spikes + cut + (kind == "weak-lp") / math.log(math.sqrt(OCTAVES[0] * OCTAVES[-1]))


@pytest.mark.smoke
@pytest.mark.parametrize(("s", "kind"), [(1.0, "spike+dense"), (1.5, "spike+dense"), (1.0, "weak-lp")])
@pytest.mark.first_case
def test_n_terms_beat_first_terms_where_the_sample_is_inhomogeneous(s, kind, key, float64):
    """DeVore (1998): N^{−s} against N^{−(s − 1/2)} at p = 1."""
    c = besov.sample(key, s, 1.0, math.inf, 18, kind, dtype=jnp.float64)
    rates = approximation.rates(s, 1.0)
    adaptive = slope(OCTAVES, approximation.n_term_errors(c)[OCTAVES - 1])
    terms, linear = approximation.linear_terms(c)[8:14], approximation.linear_errors(c)[8:14]
    assert abs(adaptive + rates.adaptive_error) < remainder(kind, s, rates.adaptive_error)
    assert abs(slope(terms, linear) + rates.linear_error) < remainder(kind, s, rates.linear_error)


def test_nothing_separates_for_a_gaussian_sample(key, float64):
    c = besov.sample(key, 1.0, 2.0, math.inf, 18, "gaussian", dtype=jnp.float64)
    adaptive = slope(OCTAVES, approximation.n_term_errors(c)[OCTAVES - 1])
    linear = slope(approximation.linear_terms(c)[8:14], approximation.linear_errors(c)[8:14])
    assert abs(adaptive - linear) < 0.05


def test_a_disc_is_half_as_hard_for_wavelets_as_for_fourier(float64):
    """Squared errors: N^{−1/2} for the first N frequencies, N^{−1} for N Haar terms."""
    image = signals.disc(512, 0.3, center=(0.497, 0.513))
    energy = np.abs(np.fft.fft2(image) / image.size) ** 2
    k = np.fft.fftfreq(512, 1 / 512)
    reach = np.maximum(np.abs(k)[:, None], np.abs(k)[None, :])
    cuts = 2 ** np.arange(2, 7)
    tails = [math.pi * 0.3**2 - energy[reach <= cut].sum() for cut in cuts]  # of all frequencies, not of the grid's
    assert abs(slope((2 * cuts + 1) ** 2, tails) + 0.5) < 0.05
    squares = np.sort(np.asarray(wavelets.ravel(wavelets.dwt(jnp.asarray(image) / 512, "haar"))) ** 2)[::-1]
    terms = 2 ** np.arange(6, 11)
    errors = math.pi * 0.3**2 - squares.cumsum()[terms - 1]
    assert abs(slope(terms, errors) + 1) < 0.1


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.first_case
def test_all_terms_together_are_the_interpolating_spline(order, float64):
    n = 32
    grid = np.arange(n + 1) / n
    values = np.sin(2 * np.pi * grid) + np.cos(6 * np.pi * grid) ** 3
    values[-1] = values[0]
    terms = approximation.spline_terms(jnp.asarray(values[:-1]), order)
    x = np.random.default_rng(0).uniform(size=100)
    expected = make_interp_spline(grid, values, order, bc_type="periodic")(x)
    ours = approximation.evaluate_terms(terms, jnp.asarray(x), order, copies=order)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.slow
def test_spline_terms_go_where_the_function_is_rough(float64):
    """Nine of ten of the finest knots of the best 60 terms lie within 1/16 of a singularity."""
    n, place = 2**10, 1 / math.sqrt(3)
    t = jnp.arange(n) / n
    terms = approximation.spline_terms(jnp.abs(t - place) ** 0.6 * jnp.sin(jnp.pi * t) ** 4, 3)
    scale, shift = terms.scales[:60], terms.shifts[:60]
    middle = (shift + 2) / scale
    fine = scale >= 64
    assert (jnp.abs(middle[fine] - place) < 1 / 16).mean() > 0.9


def test_rates_are_the_published_exponents():
    assert approximation.rates(1.0, 1.0)[:2] == (0.5, 1.0)
    np.testing.assert_allclose(approximation.rates(2.0, math.inf, dim=3), (2 / 3, 2 / 3, 4 / 7, 4 / 7))
    with pytest.raises(ValueError, match="s must be >"):
        approximation.rates(0.5, 1.0)
    with pytest.raises(ValueError, match="order must be odd"):
        approximation.spline_terms(jnp.ones(8), 2)
