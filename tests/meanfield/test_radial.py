"""The radial reduction against the network it reduces, and the threshold in Δ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

from jaxtheory import meanfield
from jaxtheory.meanfield import radial


def test_psi_and_its_slope_are_integrals_over_the_sphere(float64):
    """Against scipy's quadrature with the kinks given, and beyond the table along the last slope."""
    psi = radial.tabulate(radial.ramp, 40, reach=12.0, dtype=jnp.float64)
    norm = scipy.special.beta(0.5, 39 / 2)

    def integral(g, a):
        kinks = [k / a for k in (0.5, 1.5) if k < a]
        return scipy.integrate.quad(lambda u: g(u) * (1 - u * u) ** 18.5, -1, 1, points=kinks, epsabs=1e-12)[0] / norm

    for a in (0.3, 1.7, 5.0, 11.9):
        value = integral(lambda u, a=a: np.clip(10 * a * u - 7.5, -2.5, 7.5), a)
        slope = integral(lambda u, a=a: 10 * u * (0.5 < a * u < 1.5), a)
        np.testing.assert_allclose(float(psi(jnp.asarray(a))), value, atol=1e-5)
        np.testing.assert_allclose(float(jax.grad(psi)(jnp.asarray(a))), slope, atol=1e-3)
    np.testing.assert_allclose(
        float(psi(jnp.asarray(14.0)) - psi(jnp.asarray(13.0))), float(jax.grad(psi)(jnp.asarray(12.0))), rtol=1e-6
    )


@pytest.mark.slow
def test_the_radial_risk_is_the_networks(key):
    """1,000 directions uniform on the sphere at the same radii: the risk on fresh points, within 4 standard errors."""
    dimension, delta, particles = 40, 0.6, 20_000
    psi = radial.tabulate(radial.ramp, dimension, reach=30.0)
    radii = jnp.array([0.5, 1.5])
    limit = radial.risk(psi, dimension, delta)(radii)
    directions = jax.random.normal(key, (particles, dimension))
    directions = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)
    points = radial.mixture(jax.random.fold_in(key, 1), 20_000, dimension, delta)
    outputs = meanfield.predict(
        meanfield.neuron(radial.ramp), directions * jnp.resize(radii, particles)[:, None], points.x
    )
    errors = np.asarray((outputs - points.y) ** 2)
    spread = errors.std() / np.sqrt(len(errors))
    bias = 25.0 / particles  # |σ + 2.5| ≤ 10, so the variance of N units adds at most 25/N
    assert abs(errors.mean() - float(limit)) < 4 * spread + bias


def test_zero_risk_is_reachable_from_the_published_threshold():
    assert abs(radial.threshold(radial.ramp) - 0.4742) < 5e-4


def test_the_least_risk_is_below_every_law_of_radii(float64):
    """In d = ∞: random laws on the curve never do better, and a least-squares search comes close."""
    curve = radial._curve(radial.ramp, 0.3, 400)
    scipy_best = scipy.optimize.nnls(np.vstack([curve.T, 1e4 * np.ones(len(curve))]), np.array([1.0, -1.0, 1e4]))[1]
    np.testing.assert_allclose(radial.least_risk(radial.ramp, 0.3), scipy_best**2 / 2, rtol=1e-3)


@pytest.mark.slow
def test_sgd_follows_the_radial_flow(key):
    """d = 40, N = 800: online SGD from N(0, .64/d I) stays within .02 of the limit's risk at five times."""
    dimension, delta, particles = 40, 0.8, 800
    psi = radial.tabulate(radial.ramp, dimension, reach=40.0)
    F = radial.risk(psi, dimension, delta)
    flow = meanfield.gradient_flow(F, 0.01, method="heun")
    radii = radial.initial_radii(500, dimension, 0.8)
    limit = meanfield.simulate(flow, radii, steps=1000, key=key, observe=F, record_every=200).records
    # Noise of 200 points pushes radii out by about 2 ε/200 E[(y − f)² σ'² s²]/r = .01 a unit of time.
    sgd = radial.sgd(radial.ramp, delta, step_size=2e-3, batch=200)
    start = 0.8 / np.sqrt(dimension) * jax.random.normal(key, (particles, dimension))
    test = radial.mixture(jax.random.fold_in(key, 7), 20_000, dimension, delta)
    unit = meanfield.neuron(radial.ramp)
    observe = lambda cloud: ((meanfield.predict(unit, cloud, test.x) - test.y) ** 2).mean()  # noqa: E731
    run = meanfield.simulate(sgd, start, steps=5000, key=key, observe=observe, record_every=1000)
    assert np.abs(np.asarray(run.records - limit)).max() <= 0.02


@pytest.mark.parametrize("dimension", [2, 3, 1_000_000])
def test_psi_of_a_square_in_any_dimension(dimension):
    """E (a n₁)² = a²/d, from the circle to a million dimensions, in float32; ψ is even, and smooth at 0."""
    psi = radial.tabulate(lambda z: z**2, dimension, reach=4.0, points=64)
    at = jnp.array([-3.7, -1.0, 0.0, 0.3, 2.9])
    np.testing.assert_allclose(jax.vmap(psi)(at) * dimension, at**2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(psi))(at) * dimension, 2 * at, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(jax.grad(jax.grad(psi))(0.0) * dimension, 2.0, rtol=1e-2)


@pytest.mark.parametrize("dimension", [1, 2, 40, 1_000_000])
def test_the_radial_risk_of_a_linear_psi(dimension):
    """ψ(a) = a at radius 1/√d: E (y − (1 + yΔ)χ/√d)² = 1 − 2Δ Eχ/√d + 1 + Δ², χ the law of |x|."""
    delta = 0.6
    mean = np.sqrt(2 / dimension) * np.exp(
        scipy.special.gammaln((dimension + 1) / 2) - scipy.special.gammaln(dimension / 2)
    )
    found = radial.risk(lambda a: a, dimension, delta)(jnp.array([dimension**-0.5]))
    np.testing.assert_allclose(found, 2 - 2 * delta * mean + delta**2, rtol=1e-4)


@pytest.mark.parametrize("delta", [0.01, 0.99])
def test_the_least_risk_of_activations_that_cannot_tell(delta):
    """An odd σ has q = 0; a bump has 0 < f₊ < f₋, the wrong order: nothing is better than f = 0, of risk 1."""
    for activation in ("tanh", lambda z: jnp.exp(-(z**2))):
        np.testing.assert_allclose(radial.least_risk(activation, delta, points=200), 1.0, atol=1e-3)


@pytest.mark.slow
def test_radial_says_what_is_wrong(unchecked):
    with pytest.raises(ValueError, match=r"delta must be in \(0, 1\)"):
        radial.mixture(jax.random.key(0), 3, 4, 1.5)
    with pytest.raises(ValueError, match="dimension must be >= 2"):
        radial.tabulate(jnp.tanh, 1, reach=1.0)
    with pytest.raises(ValueError, match="reach must be positive"):
        radial.tabulate(jnp.tanh, 3, reach=0.0)
    with pytest.raises(ValueError, match="activation must reach zero risk"):
        radial.threshold(jnp.sin)
