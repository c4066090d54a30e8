"""Kernels and random features on the sphere: against ridge regression on uniform data, and the limit of steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.double_descent import general_covariance, random_feature_spectrum, sphere_risk, staircase
from jaxtheory.results import Status

DIM, DEGREES, NOISE = 20, 8, 0.1
POWER = np.array([0.0, 1.0, 0.6, 0.3] + [0.0] * (DEGREES - 3))


def ntk(t):
    """Of two layers of ReLU without biases, the arc-cosine kernels of orders 1 and 0, over 2: κ(1) = 1."""
    angle = jnp.arccos(jnp.clip(t, -1, 1))
    return (jnp.sqrt(jnp.clip(1 - t**2, 0)) + 2 * (jnp.pi - angle) * t) / (2 * jnp.pi)


@functools.cache
def spectrum(name):
    with jax.enable_x64(True):
        profile = {"ntk": ntk, "tanh": lambda t: jnp.tanh(DIM**0.5 * t)}[name]
        return kernels.sphere_eigenvalues(profile, DIM, DEGREES)


def sphere(rng, n):
    x = rng.normal(size=(n, DIM))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def target(x):
    """x_1, x_2 x_3 and x_4 x_5 x_6, each of mean square POWER, harmonics of degree 1, 2, 3."""
    parts = x[:, 0], x[:, 1] * x[:, 2], x[:, 3] * x[:, 4] * x[:, 5]
    squares = DIM, DIM * (DIM + 2), DIM * (DIM + 2) * (DIM + 4)
    return sum((power * square) ** 0.5 * part for power, square, part in zip(POWER[1:4], squares, parts, strict=True))


def simulate(rng, features, n, ridge, repeats):
    """Test errors of kernel ridge regression, each on its own data (and features), on fresh points."""
    found = []
    for _ in range(repeats):
        x, fresh = sphere(rng, n), sphere(rng, 400)
        a, b = features(rng, x, fresh)
        y = target(x) + NOISE**0.5 * rng.normal(size=n)
        found.append(np.mean((target(fresh) - b @ np.linalg.solve(a + ridge * np.eye(n), y)) ** 2) + NOISE)
    return np.array(found)


def ntk_gram(rng, x, fresh):
    def gram(a, b):
        t = np.clip(a @ b.T, -1, 1)
        return (np.sqrt(1 - t**2) + 2 * (np.pi - np.arccos(t)) * t) / (2 * np.pi)

    return gram(x, x), gram(fresh, x)


def tanh_features(width):
    def gram(rng, x, fresh):
        weights = DIM**0.5 * sphere(rng, width)
        a, b = np.tanh(x @ weights.T) / width**0.5, np.tanh(fresh @ weights.T) / width**0.5
        return a @ a.T, b @ a.T

    return gram


@pytest.mark.parametrize(("n", "ridge"), [(60, 0.0), (400, 0.02), pytest.param(1000, 0.0, marks=pytest.mark.slow)])
def test_risk_is_that_of_the_tangent_kernel_on_the_sphere(n, ridge, float64):
    """Below, between and above n = d and n = d²: within 4 standard errors, each at most 3 % of the risk."""
    draws = simulate(np.random.default_rng(n), ntk_gram, n, ridge, 40)
    found = sphere_risk(spectrum("ntk"), POWER, n, np.inf, ridge, NOISE, trace=1.0)
    error = draws.std(ddof=1) / len(draws) ** 0.5
    assert int(found.status) == Status.OK
    assert error < 0.03 * draws.mean()
    assert abs(draws.mean() - found.test) < 4 * error, (draws.mean(), error, found.test)


@pytest.mark.parametrize(("n", "width"), [(150, 40), (60, 300), pytest.param(400, 120, marks=pytest.mark.slow)])
def test_risk_is_that_of_random_features_on_the_sphere(n, width, float64):
    """tanh learns nothing of degree 2, whose power acts as noise: within 4 standard errors."""
    xi = spectrum("tanh")
    t = np.linspace(-1, 1, 20_001)
    density = (1 - t**2) ** ((DIM - 3) / 2)
    trace = np.sum(np.tanh(DIM**0.5 * t) ** 2 * density) / density.sum()
    squares = kernels.SphereSpectrum(xi.eigenvalues**2, xi.multiplicity, xi.error * (xi.error + 2 * xi.eigenvalues))
    found = sphere_risk(squares, POWER, n, width, 0.05, NOISE, trace=trace)
    draws = simulate(np.random.default_rng(width), tanh_features(width), n, 0.05, 40)
    error = draws.std(ddof=1) / len(draws) ** 0.5
    assert int(found.status) == Status.OK
    assert error < 0.03 * draws.mean()
    assert abs(draws.mean() - found.test) < 4 * error, (draws.mean(), error, found.test)


@pytest.mark.slow
def test_multiplicities_are_repeated_eigenvalues(float64):
    """The same modes listed one by one: `random_feature_spectrum`, and `general_covariance` for the kernel."""
    eigs, counts, power = np.array([0.5, 0.2, 0.01]), np.array([1.0, 3.0, 20.0]), np.array([0.3, 1.0, 0.5])
    some = kernels.SphereSpectrum(jnp.asarray(eigs), jnp.asarray(counts), jnp.zeros(3))
    trace = float(counts @ eigs)
    listed = np.repeat(eigs, counts.astype(int))
    beta = np.repeat(np.sqrt(power / counts / eigs), counts.astype(int))
    for ridge in (0.0, 0.1):
        found = sphere_risk(some, power, 10, 15, ridge, NOISE, trace=trace)
        expected = random_feature_spectrum(listed, beta, 10, 15, ridge, NOISE)
        assert_close(found.test, expected.test, condition=100)
        assert_close(found.train, expected.train, condition=100)
        kernel = sphere_risk(some, power, 10, np.inf, ridge, NOISE, trace=trace)
        assert_close(kernel.test, general_covariance(listed, beta, 10, ridge / 10, NOISE).excess + NOISE, condition=100)
    # what a degree left out holds acts as a ridge, and its power as noise
    cut = kernels.SphereSpectrum(some.eigenvalues[:2], some.multiplicity[:2], some.error[:2])
    part = sphere_risk(cut, power[:2], 10, np.inf, 0.1, NOISE, trace=trace, unlearnable=0.5)
    ridged = sphere_risk(cut, power[:2], 10, np.inf, 0.1 + 0.2, NOISE + 0.5, trace=trace - 0.2)
    assert_close(part.test, ridged.test, condition=100)


@pytest.mark.slow
def test_risk_falls_in_steps_in_high_dimension(float64):
    """Toward the limit at exponents between the integers, as d grows; the degrees are learned one after another."""
    power = np.array([0.2, 1.0, 0.5, 0.25, 0.0])
    exponents = np.array([0.5, 1.5, 2.5])
    limit = staircase(power, exponents)
    assert_close(limit, np.array([1.75, 0.75, 0.25]))
    assert_close(staircase(power, exponents, 1.25), np.array([1.75, 0.75, 0.75]))
    gaps = []
    for dim in (100, 1000):
        found = kernels.sphere_eigenvalues(jnp.exp, dim, 4, radius=2.0)
        kernel = sphere_risk(found, power, dim**exponents, np.inf, 0.0, 0.0, trace=np.e)
        narrow = sphere_risk(found, power, dim**2.5, dim ** exponents[:2], 0.0, 0.0, trace=np.e)
        assert (np.asarray(kernel.status) == Status.OK).all()
        gaps.append(np.abs(np.concatenate([kernel.test - limit, narrow.test - limit[:2]])))
    assert (gaps[1] < 0.5 * gaps[0]).all()  # corrections of order d^(−1/2): a factor of 0.32
    assert gaps[1].max() < 0.1
    steps = np.asarray(kernel.learned)
    assert (np.diff(steps, axis=0) >= 0).all()
    assert (np.diff(steps, axis=1) <= 0).all()
