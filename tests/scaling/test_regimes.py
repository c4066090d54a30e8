"""The four regimes of a scaling law: against the risk at finite sizes, drawn features, and power laws."""

import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory.double_descent import random_feature_spectrum
from jaxtheory.results import Status, fit_slope
from jaxtheory.scaling import four_regimes

MODES, FIXED, NOISE = 400, 12.0, 0.1
SIZES = np.array([20.0, 50.0])


def power_law(alpha, beta, modes=MODES):
    i = np.arange(1.0, modes + 1)
    return i ** (-2 * alpha), i**-beta


@pytest.mark.slow
def test_regimes_are_limits_of_the_risk_of_random_features(float64):
    eigs, target = power_law(0.8, 0.3)
    found = four_regimes(eigs, target, SIZES, FIXED, NOISE)
    assert (np.asarray(found.status) == Status.OK).all()
    endless = 1e9
    assert_close(found.data, random_feature_spectrum(eigs, target, SIZES, np.inf, 0.0, NOISE).test, condition=1e4)
    # at 1e9 samples the risk is the limit to 1e-7
    many = random_feature_spectrum(eigs, target, endless, np.append(SIZES, FIXED), 0.0, NOISE).test
    np.testing.assert_allclose(found.width, many[:2], rtol=1e-6)
    narrow = random_feature_spectrum(eigs, target, SIZES, FIXED, 0.0, NOISE).test
    np.testing.assert_allclose(found.variance, narrow - many[2], rtol=1e-5)
    few = random_feature_spectrum(eigs, target, FIXED, np.append(SIZES, np.inf), 0.0, NOISE).test
    np.testing.assert_allclose(found.variance, few[:2] - few[2], rtol=1e-5)


def test_width_and_variance_are_those_of_drawn_features():
    """Projections in NumPy: L(∞, N) for drawn W, and least squares on n samples, within 4 standard errors."""
    rng, (eigs, target) = np.random.default_rng(0), power_law(0.8, 0.3, 100)
    held = np.sqrt(eigs) * target
    floors, excess = [], []
    for _ in range(200):
        features = np.sqrt(eigs)[:, None] * rng.normal(size=(100, 12))
        basis = np.linalg.qr(features)[0]
        floors.append(held @ held - np.sum((basis.T @ held) ** 2))
        z = rng.normal(size=(50, 100))
        fit = np.linalg.lstsq(z @ features, z @ held + NOISE**0.5 * rng.normal(size=50))[0]
        excess.append(np.sum((features @ fit - held) ** 2) - floors[-1])
    found = four_regimes(eigs, target, SIZES, FIXED, NOISE)
    at_fixed = four_regimes(eigs, target, [FIXED], 1.0, NOISE)
    for draws, predicted in ((floors, at_fixed.width[0] - NOISE), (excess, found.variance[1])):
        error = np.std(draws, ddof=1) / len(draws) ** 0.5
        # and the equivalent's own error, of order 1/N² of the risk
        assert abs(np.mean(draws) - predicted) < 4 * error + np.mean(draws) / FIXED**2, (
            np.mean(draws),
            error,
            predicted,
        )
        assert error < 0.05 * np.mean(draws)


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (0.6, 1.5), (1.0, 0.7)])
def test_exponents_of_power_laws(alpha, beta):
    """Within 0.1 at sizes 30 to 300 of 1e5 modes; the variance within 0.02 of 1 where m ≫ F."""
    eigs, target = power_law(alpha, beta, 100_000)
    sizes = np.geomspace(30, 300, 6)
    found = four_regimes(eigs, target, sizes, 1.0)
    signal = 2 * alpha + 2 * beta - 1
    exponents = {"data": min(signal, 4 * alpha), "width": min(signal, 2 * alpha), "variance": 1.0}
    assert (np.asarray(found.status) == Status.OK).all()
    for name, exponent in exponents.items():
        slope = float(fit_slope(jnp.asarray(sizes), getattr(found, name)).slope)
        assert abs(slope + exponent) < (0.02 if name == "variance" else 0.1), (name, slope, exponent)


def test_sizes_below_the_fixed_one_are_refused():
    with pytest.raises(ValueError, match="sizes - fixed must be positive"):
        four_regimes(*power_law(1.0, 0.5), [10.0, 20.0], 15.0)
