"""Random features against the closed forms of their kernels, within stated standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import data, kernels
from jaxtheory.results import standard_error

pytestmark = pytest.mark.smoke

WIDTH = 20_000


@pytest.fixture
def x():
    """Four points of different norms, and two that are nearly one."""
    points = jax.random.normal(jax.random.key(1), (4, 5)) * jnp.array([0.3, 1.0, 1.0, 2.0])[:, None]
    return jnp.concatenate([points, points[:1] + 0.01])


def gram_by_columns(z):
    """Each column's contribution to the Gram matrix; the columns are independent."""
    return z.T[:, :, None] * z.T[:, None, :]


def assert_gram_is(z, expected):
    """The mean over columns is `expected` within 5 of its standard errors, entry by entry."""
    products = gram_by_columns(z)
    error = np.abs(np.asarray(products.mean(0), np.float64) - expected)
    assert (error <= 5 * np.asarray(standard_error(products)) + 1e-6).all()


def relu_kernel(covariance):
    """Cho and Saul (2009), order 1: the Gaussian expectation of relu(u) relu(v)."""
    norms = np.sqrt(np.diag(covariance))
    outer = norms[:, None] * norms[None]
    angle = np.arccos(np.clip(covariance / outer, -1, 1))
    return outer * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)


def erf_kernel(covariance):
    """Williams (1998): the Gaussian expectation of erf(u) erf(v)."""
    variance = 1 + 2 * np.diag(covariance)
    return 2 / np.pi * np.arcsin(2 * covariance / np.sqrt(variance[:, None] * variance[None]))


@pytest.mark.parametrize(("activation", "kernel"), [("relu", relu_kernel), ("erf", erf_kernel)])
@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (1.7, 0.4)])
@pytest.mark.first_case
@pytest.mark.slow
def test_gram_tends_to_the_gaussian_expectation(x, key, activation, kernel, scale, bias):
    """The covariance of the pre-activations is s² ⟨x, x'⟩ / d + b²."""
    z = kernels.random_features(x, WIDTH, key, activation=activation, scale=scale, bias=bias)
    inputs = np.asarray(x, np.float64)
    assert_gram_is(z, kernel(scale**2 * inputs @ inputs.T / 5 + bias**2))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_fourier_features_tend_to_the_gaussian_kernel(x, key, scale):
    z = kernels.random_features(x, WIDTH, key, activation="cos", scale=scale)
    inputs = np.asarray(x, np.float64)
    distance = ((inputs[:, None] - inputs[None]) ** 2).sum(-1)
    assert_gram_is(z, np.exp(-(scale**2) * distance / (2 * 5)))


def test_fourier_phases_are_uniform_on_the_circle(key):
    phase = kernels.feature_weights(2, WIDTH, key).phase
    assert float(phase.min()) >= 0
    assert float(phase.max()) < 2 * np.pi + 1e-6
    for harmonic in (1, 2):
        for wave in (jnp.cos(harmonic * phase), jnp.sin(harmonic * phase)):
            assert abs(float(wave.mean())) < 5 * np.sqrt(0.5 / WIDTH)


@pytest.mark.first_case
def test_a_function_of_the_users_is_applied_elementwise(x, key, dtype):
    points = x.astype(dtype)
    drawn = kernels.feature_weights(5, 7, key, dtype=dtype)
    z = kernels.random_features(points, 7, key, activation=lambda u: u**3 - u, scale=0.5, bias=2.0)
    inside = 0.5 * np.asarray(points) @ np.asarray(drawn.directions).T / np.sqrt(5) + 2 * np.asarray(drawn.gaussian)
    assert z.dtype == dtype
    assert_close(z, (inside**3 - inside).astype(dtype))


def test_cosine_as_a_function_has_no_phase(x, key):
    z = kernels.random_features(x, 9, key, activation=jnp.cos)
    drawn = kernels.feature_weights(5, 9, key)
    assert_close(z, np.cos(np.asarray(x) @ np.asarray(drawn.directions).T / np.sqrt(5).astype(np.float32)))


def test_spherical_weights_have_norm_root_d(key, float64):
    dtype = float64
    directions = kernels.feature_weights(7, 500, key, weights="sphere", dtype=dtype).directions
    assert directions.dtype == dtype
    assert float(jnp.abs(jnp.linalg.norm(directions, axis=1) - np.sqrt(7)).max()) <= 8 * jnp.finfo(dtype).eps


@pytest.mark.slow
def test_spherical_weights_have_the_moments_of_the_sphere(key):
    """At ‖x‖² = d: E u u' = ⟨x, x'⟩ / d and E u⁴ = 3 d / (d + 2), against 3 for Gaussian weights."""
    inputs = data.sphere(4, 3, jax.random.key(2)).x
    u = kernels.random_features(inputs, WIDTH, key, activation="identity", weights="sphere")
    assert_gram_is(u, np.asarray(inputs) @ np.asarray(inputs).T / 3)
    fourth = u.T**4
    assert bool((jnp.abs(fourth.mean(0) - 9 / 5) < 5 * standard_error(fourth)).all())


@pytest.mark.parametrize("weights", ["gaussian", "sphere"])
@pytest.mark.first_case
def test_a_narrow_draw_is_the_beginning_of_a_wide_one(key, float64, weights):
    """Not bit for bit: a compiler may round a short vector otherwise than a long one."""
    drawn = [kernels.feature_weights(5, p, key, weights=weights, dtype=float64) for p in (3, 64)]
    for narrow, wide in zip(*drawn, strict=True):
        assert narrow.dtype == float64
        assert_close(narrow, wide[:3])


@pytest.mark.parametrize("activation", ["relu", "cos"])
@pytest.mark.first_case
def test_narrow_features_are_the_first_columns_of_wide_ones(x, key, activation):
    few, many = (kernels.random_features(x, p, key, activation=activation) for p in (3, 64))
    assert_close(many[:, :3], few)


def test_columns_and_keys_differ(x, key):
    z = kernels.random_features(x, 50, key, activation="tanh")
    assert np.unique(np.asarray(z), axis=1).shape == (5, 50)
    other = kernels.random_features(x, 50, jax.random.key(21), activation="tanh")
    assert not np.isin(np.asarray(other), np.asarray(z)).any()


def test_features_can_be_traced_over_everything_but_their_shape(x, key):
    """jit and vmap over keys and scales give what a loop gives."""
    keys, scales = jax.random.split(key, 2), jnp.array([0.5, 1.5])
    features = jax.jit(jax.vmap(lambda k, s: kernels.random_features(x, 6, k, activation="relu", scale=s)))
    loop = [
        kernels.random_features(x, 6, k, activation="relu", scale=float(s)) for k, s in zip(keys, scales, strict=True)
    ]
    assert_close(features(keys, scales), np.stack(loop))


@pytest.mark.slow
def test_features_of_sharded_points_are_those_of_one_device(key):
    mesh = jax.make_mesh((8,), ("points",), axis_types=(jax.sharding.AxisType.Auto,))
    points = jax.random.normal(key, (16, 5))
    split = jax.device_put(points, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("points")))
    assert_close(
        kernels.random_features(split, 6, key, activation="erf"),
        kernels.random_features(points, 6, key, activation="erf"),
    )


def test_raw_keys_are_keys(x, unchecked):
    raw, new = (kernels.random_features(x, 3, k(0), activation="relu") for k in (jax.random.PRNGKey, jax.random.key))
    np.testing.assert_array_equal(raw, new)


def test_bad_arguments_are_named(x, key, unchecked):
    def features(points=x, width=3, k=key, activation="relu", **options):
        return kernels.random_features(points, width, k, activation=activation, **options)

    with pytest.raises(ValueError, match="width must be >= 1, got width=0"):
        features(width=0)
    with pytest.raises(ValueError, match=r"x must be of shape \[samples d\], got shape \(1, 5, 5\)"):
        features(jnp.ones((1, 5, 5)))
    with pytest.raises(ValueError, match=r"key must be a random key, got key=0; pass jax.random.key\(0\)"):
        features(k=0)
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(ValueError, match="x must be finite"):
            features(x.at[0, 0].set(bad))
    with pytest.raises(ValueError, match="weights must be one of 'gaussian', 'sphere', got weights='cube'"):
        features(weights="cube")
    with pytest.raises(ValueError, match=r"activation must be .*'rleu'"):
        features(activation="rleu")
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale must be positive and finite"):
            features(scale=scale)
    with pytest.raises(ValueError, match="bias must be >= 0 and finite"):
        features(bias=-0.1)
    with pytest.raises(ValueError, match="key must be a threefry key, got key=a key of rbg"):
        features(k=jax.random.key(0, impl="rbg"))
    with pytest.raises(ValueError, match="features must be >= 1"):
        kernels.feature_weights(0, 3, key)
    for dtype in ("float64", "int32"):
        with pytest.raises(ValueError, match=r"dtype must be (a floating type|at most 32 bits)"):
            kernels.feature_weights(2, 3, key, dtype=dtype)


def test_what_is_bad_inside_jit_is_not_finite(x, key):
    features = jax.jit(lambda points: kernels.random_features(points, 4, key, activation="cos"))
    z = features(x.at[0, 0].set(jnp.nan))
    assert jnp.isnan(z[0]).all()
    assert jnp.isfinite(z[1:]).all()
