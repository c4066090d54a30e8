"""Duals where variances are small or far apart, against closed forms in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import activations
from jaxtheory.activations.angle import separation

FAR_APART = [(1e-12, 5e-7, 1.0), (1e-12, -9e-7, 1.0), (1.0, 3e8, 1e18), (1e-25, 5e-26, 1e-25), (1e25, 5e24, 1e25)]


def arc_cosine(q11, q12, q22):
    """E max(u, 0) max(v, 0), after Cho and Saul (2009)."""
    size = np.sqrt(q11) * np.sqrt(q22)
    angle = np.arccos(q12 / size)
    return size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


@pytest.mark.parametrize("q", FAR_APART)
def test_the_relu_does_not_depend_on_the_scales_of_its_variances(q):
    value, slope = jax.value_and_grad(activations.dual("relu"), argnums=1)(*map(jnp.float32, q))
    size = np.sqrt(q[0]) * np.sqrt(q[2])
    assert float(value) / size == pytest.approx(arc_cosine(*q) / size, abs=2e-6)
    assert float(slope) == pytest.approx((np.pi - np.arccos(q[1] / size)) / (2 * np.pi), abs=2e-6)


@pytest.mark.parametrize("q", FAR_APART)
def test_the_separation_and_its_derivative_at_every_scale(q):
    value, slope = jax.value_and_grad(separation, argnums=1)(*map(jnp.float32, q))
    size = np.sqrt(q[0]) * np.sqrt(q[2])
    correlation = q[1] / size
    assert float(value) / size == pytest.approx(np.sqrt(1 - correlation**2), abs=2e-6)
    assert float(slope) == pytest.approx(-correlation / np.sqrt(1 - correlation**2), rel=1e-5)


def test_the_separation_is_zero_on_the_diagonal_and_without_variance():
    q = jnp.float32([1e-30, 0.0, 3.0, 1e30])
    assert separation(q, q, q).tolist() == [0.0] * 4
    assert separation(q, 3 * q, 9 * q).tolist() == [0.0] * 4
    assert jax.vmap(jax.grad(separation, argnums=(0, 1, 2)))(q, q, q) == (pytest.approx(0.0),) * 3


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
def test_an_elu_of_small_numbers_is_the_identity(dtype):
    """e^x − 1 is x to 3e-13 there, so that the dual is q12."""
    with jax.enable_x64(True):
        q = [jnp.asarray(each, dtype) for each in (1e-25, 5e-26, 1e-25)]
        value = activations.dual("elu")(*q)
        assert float(value) / 1e-25 == pytest.approx(0.5, abs=1e-5 if dtype == jnp.float32 else 1e-8)


@pytest.mark.parametrize("s", [1e-3, 0.03])
def test_an_elu_of_moderate_numbers_in_float32(s):
    """Against a product rule in float64: E elu(u)² is one integral."""
    x, weight = np.polynomial.legendre.leggauss(60)
    below = 5 * (x - 1)  # [-10, 0]
    density = 5 * weight * np.exp(-(below**2) / 2) / np.sqrt(2 * np.pi)
    wanted = density @ np.expm1(s * below) ** 2 + s**2 / 2
    q = jnp.float32(s**2)
    assert float(activations.dual("elu")(q, q, q)) / s**2 == pytest.approx(wanted / s**2, abs=1e-5)


@pytest.mark.slow
def test_a_kink_at_zero_is_exact_for_small_numbers():
    """x² right of 0 and 0.1 x left of it: 0.01 E u₋v₋ to first order."""

    def bent(x):
        return jnp.where(x > 0, x**2, 0.1 * x)

    with jax.enable_x64(True):
        value = activations.dual(bent)(1e-25, 5e-26, 1e-25)
    assert float(value) / 1e-27 == pytest.approx(arc_cosine(1.0, 0.5, 1.0), abs=1e-8)
