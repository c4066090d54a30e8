"""Gradient flow of least squares, against scipy's integrator and its own limits; its risk, against draws of noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxtheory.double_descent import flow_risk, linear_flow


@pytest.mark.parametrize(("samples", "width"), [(12, 5), (5, 12)])
@pytest.mark.first_case
def test_the_flow_is_the_integral_of_its_gradient(float64, samples, width):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((samples, width)), rng.standard_normal(samples)
    times = np.array([0.0, 0.1, 1.0, 7.0])
    path = linear_flow(jnp.asarray(x), jnp.asarray(y), jnp.asarray(times))
    exact = solve_ivp(
        lambda _, b: x.T @ (y - x @ b) / samples, (0, 7.0), np.zeros(width), t_eval=times, rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(path, exact.y.T, atol=1e-9)
    last = linear_flow(jnp.asarray(x), jnp.asarray(y)[:, None], jnp.array([1e4]))[0, :, 0]
    np.testing.assert_allclose(last, np.linalg.pinv(x) @ y, atol=1e-9)


def test_the_risk_is_the_mean_over_noise(float64):
    """2000 draws on one design with XᵀX/n = diag(λ): within 4 standard errors at every time."""
    eigs, beta = jnp.array([1.0, 0.6, 0.01]), jnp.array([1.0, -0.5, 9.0])
    orthonormal = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (8, 3)))[0]
    x = jnp.sqrt(8 * eigs)[None] * orthonormal
    y = (x @ beta)[:, None] + jnp.sqrt(0.7) * jax.random.normal(jax.random.key(1), (8, 2000))
    times = jnp.array([0.0, 0.5, 3.0, 40.0, 1e4])
    error = jnp.sum(eigs[None, :, None] * (linear_flow(x, y, times) - beta[None, :, None]) ** 2, axis=1)
    risk = flow_risk(eigs, beta, 8, 0.7, times)
    spread = error.std(axis=1) / np.sqrt(2000)
    assert (jnp.abs(error.mean(axis=1) - risk.excess) <= 4 * spread + 1e-12).all()
    np.testing.assert_allclose(risk.excess[0], jnp.sum(eigs * beta**2), rtol=1e-14)


def test_bad_arguments_are_named(unchecked):
    with pytest.raises(ValueError, match="times must be >= 0"):
        linear_flow(jnp.eye(2), jnp.ones(2), jnp.array([-1.0]))
    with pytest.raises(ValueError, match="n must be finite and >= 3, the number of modes, got n=2"):
        flow_risk(jnp.ones(3), jnp.ones(3), 2, 0.1, jnp.ones(1))
    with pytest.raises(ValueError, match="noise must be >= 0 and finite"):
        flow_risk(jnp.ones(3), jnp.ones(3), 4, -0.1, jnp.ones(1))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_late_flow_of_dependent_features_is_the_minimum_norm_solution(shape):
    """Rank one in float32, late enough for the directions that rounding leaves, in any units: β = ȳ/p (1, ..., 1)."""
    x, y = np.ones(shape, np.float32), np.arange(1, shape[0] + 1, dtype=np.float32)
    for unit in (1.0, 2.0**60, 2.0**-50):
        time = 1e12 if unit >= 1 else 3e38
        late = linear_flow(jnp.asarray(x * np.float32(unit)), jnp.asarray(y), jnp.array([time]))
        expected = np.full(shape[1], y.mean() / shape[1] / unit)
        np.testing.assert_allclose(late[0], expected, rtol=1e-5)


def test_the_start_of_the_flow_keeps_small_units():
    """t Xᵀy/n while t w is below rounding, where the square of the features underflows."""
    found = linear_flow(jnp.full((4, 2), 2.0**-90), jnp.ones(4), jnp.array([2.0**20]))
    np.testing.assert_allclose(found, np.full((1, 2), 2.0**-70), rtol=1e-6)


@pytest.mark.slow
def test_derivatives_in_repeated_features_are_those_of_the_integral(float64):
    """XᵀX/n = s²: β = (1 − e^(−s²t))/s · Xᵀy/n for X of s = 1, where dβ/ds = (2t e^(−t) − (1 − e^(−t))) Xᵀy/n."""
    x, y, t = 2 * jnp.eye(4, 2), jnp.arange(1.0, 5.0), 0.7
    found = jax.grad(lambda s: linear_flow(x * s, y, jnp.array([t]))[0, 0])(1.0)
    decay = np.exp(-t)
    np.testing.assert_allclose(found, (2 * t * decay - (1 - decay)) * 0.5, rtol=1e-12)


def test_bad_values_inside_jit_give_nan():
    eigs, beta, times = jnp.ones(3), jnp.ones(3), jnp.ones(1)
    risk = jax.jit(lambda e, n, noise, t: flow_risk(e, beta, n, noise, t).excess)
    for given in [
        (-eigs, 8.0, 0.1, times),
        (eigs, 2.0, 0.1, times),
        (eigs, 8.0, jnp.inf, times),
        (eigs, 8.0, 0.1, -times),
    ]:
        assert np.isnan(risk(*given)).all()
