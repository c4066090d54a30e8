"""Gradient flow of least squares, against scipy's integrator and its own limits; its risk, against draws of noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxtheory.double_descent import flow_risk, linear_flow


@pytest.mark.parametrize(("samples", "width"), [(12, 5), (5, 12)])
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
    with pytest.raises(ValueError, match="n must be >= 3, the number of modes, got n=2"):
        flow_risk(jnp.ones(3), jnp.ones(3), 2, 0.1, jnp.ones(1))
    with pytest.raises(ValueError, match="noise must be finite"):
        flow_risk(jnp.ones(3), jnp.ones(3), 4, -0.1, jnp.ones(1))
