"""Laws of the synthetic draws: moments against their closed forms, within stated standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import data

BETA, SPECTRUM = jnp.array([1.0, -2.0, 0.5]), jnp.array([4.0, 1.0, 0.0])


def assert_mean(samples, expected):
    """The mean of independent samples is as expected, within 5 of its standard errors."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(0) - expected) <= 5 * error).all()


def products(rows):
    rows = np.asarray(rows, np.float64)
    return rows[:, :, None] * rows[:, None, :]


def test_linear_model_has_the_covariance_and_noise_it_states(key):
    draw = data.gaussian_linear(20_000, BETA, key, spectrum=SPECTRUM, noise=0.25)
    assert_mean(products(draw.x), np.diag(SPECTRUM))
    y, signal = (np.asarray(v, np.float64) for v in (draw.y, draw.signal))
    assert_mean((y - signal) ** 2, 0.25)
    assert_mean((y - signal) * signal, 0.0)
    assert_mean(y**2, 4 * 1 + 1 * 4 + 0.25)


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
    assert_mean(products(draw.x), np.eye(5) * r**2 / 5)


def test_sphere_has_the_fourth_moment_of_the_uniform_law(key):
    """E x₁⁴ = 3 d / (d + 2) on the sphere of radius √d, against 3 for a Gaussian."""
    assert_mean(np.asarray(data.sphere(50_000, 4, key).x) ** 4, 2.0)


@pytest.fixture(scope="module")
def teachers():
    """Signals of 8000 linear teachers and of as many with ReLU, of one key each, on the same three points."""
    x, keys = data.sphere(3, 4, jax.random.key(5)).x, jax.random.split(jax.random.key(20), 8000)
    activations = {"linear": lambda u: u, "relu": jax.nn.relu}
    draws = {
        name: jax.vmap(lambda k, phi=phi: data.random_teacher(x, 6, k, activation=phi).signal)
        for name, phi in activations.items()
    }
    return np.asarray(x), {name: np.asarray(jax.jit(draw)(keys)) for name, draw in draws.items()}


@pytest.mark.slow
def test_teacher_is_the_network_it_states_to_be(teachers):
    """For a linear φ, the signal over many teachers has covariance ⟨x, x'⟩ / d: within 5 standard errors."""
    x, signals = teachers
    assert_mean(products(signals["linear"]), x @ x.T / 4)


@pytest.mark.slow
def test_teacher_signal_has_the_variance_of_its_activation(teachers):
    """E relu(g)² = 1/2 on inputs of norm √d, within 5 standard errors over teachers."""
    assert_mean(teachers[1]["relu"] ** 2, 0.5)


def test_one_key_is_one_teacher_whatever_the_inputs(key):
    x = data.sphere(8, 5, jax.random.key(7)).x
    whole, part = (data.random_teacher(v, 20, key, activation=jnp.tanh) for v in (x, x[2:4]))
    assert_close(part.signal, whole.signal[2:4])


def test_teacher_noise_has_its_variance(dtype, key):
    x = jnp.ones((20_000, 1), dtype)
    draw = data.random_teacher(x, 2, key, activation=jnp.tanh, noise=0.09)
    assert draw.y.dtype == dtype
    assert_mean((np.asarray(draw.y) - np.asarray(draw.signal)) ** 2, 0.09)


def test_draws_can_be_traced_over_keys_and_noise(key):
    noises = jnp.array([0.0, 1.0, -1.0])
    draws = jax.jit(jax.vmap(lambda s: data.gaussian_linear(5, BETA, key, noise=s)))(noises)
    np.testing.assert_array_equal(draws.signal[0], draws.y[0])
    assert jnp.isnan(draws.y[2]).all()
    assert jax.jit(jax.vmap(lambda r: data.sphere(2, 3, key, radius=r).x))(jnp.array([1.0, 2.0])).shape == (2, 2, 3)


def test_bad_arguments_are_named(key, unchecked):
    x = jnp.ones((3, 2))
    with pytest.raises(ValueError, match="noise must be >= 0 and finite"):
        data.gaussian_linear(3, BETA, key, noise=-0.1)
    with pytest.raises(ValueError, match="spectrum must be >= 0 and finite"):
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
    with pytest.raises(ValueError, match="x must have at least one feature"):
        data.random_teacher(jnp.ones((3, 0)), 3, key, activation=jnp.tanh)
    with pytest.raises(ValueError, match=r"key must be a random key, got key=0; pass jax.random.key\(0\)"):
        data.sphere(3, 2, 0)
    with pytest.raises(ValueError, match="noise must be >= 0 and finite"):
        data.random_teacher(x, 3, key, activation=jnp.tanh, noise=float("nan"))
