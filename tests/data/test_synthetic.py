"""Laws of the synthetic draws: moments against their closed forms, within stated standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import data
from jaxtheory.results import standard_error

BETA, SPECTRUM = jnp.array([1.0, -2.0, 0.5]), jnp.array([4.0, 1.0, 0.0])


def test_linear_model_has_the_covariance_and_noise_it_states(key):
    draw = data.gaussian_linear(20_000, BETA, key, spectrum=SPECTRUM, noise=0.25)
    products = draw.x[:, :, None] * draw.x[:, None, :]
    error = jnp.abs(products.mean(0) - jnp.diag(SPECTRUM))
    assert bool((error <= 5 * standard_error(products)).all())
    noise = draw.y - draw.signal
    assert abs(float((noise**2).mean()) - 0.25) < 5 * float(standard_error(noise**2))
    assert abs(float((noise * draw.signal).mean())) < 5 * float(standard_error(noise * draw.signal))
    assert abs(float((draw.y**2).mean()) - (4 * 1 + 1 * 4 + 0.25)) < 5 * float(standard_error(draw.y**2))


def test_signal_is_linear_in_the_inputs(dtype, key):
    beta = BETA.astype(dtype)
    draw = data.gaussian_linear(50, beta, key)
    assert (draw.x.dtype, draw.y.dtype) == (dtype, dtype)
    assert_close(draw.y, np.asarray(draw.x) @ np.asarray(beta))
    np.testing.assert_array_equal(draw.y, draw.signal)


@pytest.mark.parametrize("radius", [None, 0.5])
def test_sphere_has_its_radius_and_an_isotropic_covariance(dtype, key, radius):
    draw = data.sphere(4000, 5, key, radius=radius, dtype=dtype)
    r = np.sqrt(5) if radius is None else radius
    assert draw.x.dtype == dtype
    assert_close(draw.radius, np.asarray(r, dtype))
    assert_close(jnp.linalg.norm(draw.x, axis=1), np.full(4000, r, dtype))
    products = draw.x[:, :, None] * draw.x[:, None, :]
    assert bool((jnp.abs(products.mean(0) - jnp.eye(5, dtype=dtype) * r**2 / 5) <= 5 * standard_error(products)).all())


def test_sphere_has_the_fourth_moment_of_the_uniform_law(key):
    """E x₁⁴ = 3 d / (d + 2) on the sphere of radius √d, against 3 for a Gaussian."""
    fourth = data.sphere(50_000, 4, key).x ** 4
    assert bool((jnp.abs(fourth.mean(0) - 2.0) < 5 * standard_error(fourth)).all())


def test_teacher_is_the_network_it_states_to_be(key):
    """For a linear φ, the signal over many teachers has covariance ⟨x, x'⟩ / d: within 5 standard errors."""
    x = jax.random.normal(jax.random.key(5), (3, 4))
    draw = jax.vmap(lambda k: data.random_teacher(x, 6, k, activation=lambda u: u).signal)
    signals = draw(jax.random.split(key, 8000))
    products = signals[:, :, None] * signals[:, None, :]
    expected = np.asarray(x) @ np.asarray(x).T / 4
    assert bool((jnp.abs(products.mean(0) - expected) <= 5 * standard_error(products)).all())


def test_teacher_signal_has_the_variance_of_its_activation(key):
    """E relu(g)² = 1/2 on inputs of norm √d, within 5 standard errors over teachers."""
    x = data.sphere(1, 9, jax.random.key(6)).x
    draw = jax.vmap(lambda k: data.random_teacher(x, 5, k, activation=jax.nn.relu).signal[0])
    squares = draw(jax.random.split(key, 8000)) ** 2
    assert abs(float(squares.mean()) - 0.5) < 5 * float(standard_error(squares))


def test_one_key_is_one_teacher_whatever_the_inputs(key):
    x = data.sphere(8, 5, jax.random.key(7)).x
    whole, part = (data.random_teacher(v, 20, key, activation=jnp.tanh) for v in (x, x[2:4]))
    assert_close(part.signal, whole.signal[2:4])


def test_teacher_noise_has_its_variance(dtype, key):
    x = jnp.ones((20_000, 1), dtype)
    draw = data.random_teacher(x, 2, key, activation=jnp.tanh, noise=0.09)
    assert draw.y.dtype == dtype
    squares = (draw.y - draw.signal) ** 2
    assert abs(float(squares.mean()) - 0.09) < 5 * float(standard_error(squares))


def test_draws_can_be_traced_over_keys_and_noise(key):
    noises = jnp.array([0.0, 1.0, -1.0])
    draws = jax.jit(jax.vmap(lambda s: data.gaussian_linear(5, BETA, key, noise=s)))(noises)
    np.testing.assert_array_equal(draws.signal[0], draws.y[0])
    assert jnp.isnan(draws.y[2]).all()
    assert jax.jit(jax.vmap(lambda r: data.sphere(2, 3, key, radius=r).x))(jnp.array([1.0, 2.0])).shape == (2, 2, 3)


def test_bad_arguments_are_named(key, unchecked):
    x = jnp.ones((3, 2))
    with pytest.raises(ValueError, match="noise must be finite and >= 0"):
        data.gaussian_linear(3, BETA, key, noise=-0.1)
    with pytest.raises(ValueError, match="spectrum must be finite and >= 0"):
        data.gaussian_linear(3, BETA, key, spectrum=jnp.array([1.0, jnp.nan, 1.0]))
    with pytest.raises(ValueError, match="spectrum must have one variance for each of the 3 coefficients"):
        data.gaussian_linear(3, BETA, key, spectrum=jnp.ones(2))
    with pytest.raises(ValueError, match="samples must be >= 1"):
        data.gaussian_linear(0, BETA, key)
    for radius in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="radius must be positive"):
            data.sphere(3, 2, key, radius=radius)
    with pytest.raises(ValueError, match="features must be >= 1"):
        data.sphere(3, 0, key)
    with pytest.raises(ValueError, match="dtype must be at most 32 bits"):
        data.sphere(3, 2, key, dtype="float64")
    with pytest.raises(ValueError, match="width must be >= 1"):
        data.random_teacher(x, 0, key, activation=jnp.tanh)
    with pytest.raises(ValueError, match="x must be two-dimensional"):
        data.random_teacher(x[0], 3, key, activation=jnp.tanh)
    with pytest.raises(ValueError, match="noise must be finite"):
        data.random_teacher(x, 3, key, activation=jnp.tanh, noise=float("nan"))
