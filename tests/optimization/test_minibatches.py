"""Covariance of SGD against the second moment of all its batches, counted one by one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.optimization import implicit_bias as bias

DRAWS = np.random.default_rng(0)
X, Y = DRAWS.normal(size=(5, 2)), DRAWS.normal(size=5)


@pytest.mark.parametrize(("size", "replacement"), [(1, True), (2, True), (2, False), (5, False)])
def test_it_is_the_fixed_point_of_the_recursion_over_all_batches(size, replacement, float64):
    """Σ ← mean over batches of (I − ηH_b)Σ(I − ηH_b) + η² g_b g_bᵀ, with the mean at least squares."""
    eta, best = 0.2, np.linalg.lstsq(X, Y, rcond=None)[0]
    draws = itertools.product(range(5), repeat=size) if replacement else itertools.combinations(range(5), size)
    rows = [(X[list(b)], Y[list(b)]) for b in draws]
    maps = [np.eye(2) - eta * a.T @ a / size for a, _ in rows]
    noise = np.mean([np.outer(g, g) for g in (eta * a.T @ (a @ best - b) / size for a, b in rows)], axis=0)
    sigma = np.zeros((2, 2))
    for _ in range(500):
        sigma = np.mean([m @ sigma @ m.T for m in maps], axis=0) + noise
    found = bias.sgd_covariance(X, Y, step_size=eta, batch_size=size, replacement=replacement)
    np.testing.assert_allclose(found, sigma, rtol=1e-10, atol=1e-14)


def test_small_steps_are_those_of_constant_noise(float64):
    """At η = 1e-4 the noise at the minimum, C = Σ r² x xᵀ/n, to order η."""
    residual = Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    noise = (X * residual[:, None] ** 2).T @ X / 5
    constant = bias.stationary_covariance(X.T @ X / 5, noise, 1e-4)
    found = bias.sgd_covariance(X, Y, step_size=1e-4, batch_size=1)
    np.testing.assert_allclose(found, constant, rtol=1e-3)
    assert not np.allclose(found, constant, rtol=1e-6, atol=0)


def test_the_second_moment_is_unstable_before_the_mean(float64):
    """One feature: 1 − 2ηh + η² E x⁴ < 1 is η < 2h/E x⁴, below 2/h."""
    x = np.array([[1.0], [3.0]])
    edge = 2 * 5.0 / 41.0
    assert np.isfinite(bias.sgd_covariance(x, [1.0, 0.0], step_size=0.999 * edge, batch_size=1)).all()
    with pytest.raises(ValueError, match="step_size must be small enough"):
        bias.sgd_covariance(x, [1.0, 0.0], step_size=1.001 * edge, batch_size=1)
    inside = jax.jit(lambda eta: bias.sgd_covariance(jnp.asarray(x), jnp.ones(2), step_size=eta, batch_size=1))
    assert np.isnan(inside(1.001 * edge)).all()


def test_units_of_the_data_do_not_matter():
    """x of scale c and η of scale 1/c² leave c²Σ: the same bits at powers of two, also where c⁴ is no number."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((8, 2), (8,)))
    found = [bias.sgd_covariance(x * 2.0**p, y, step_size=0.1 * 4.0**-p, batch_size=2) * 4.0**p for p in (0, -45, 45)]
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    # a step that is small in units of the data: Σ = ηc σ²/2 H⁻¹H, off the diagonal too
    small = bias.sgd_covariance(x * 2.0**-60, y, step_size=0.0625, batch_size=2)
    with jax.enable_x64(True):
        exact = bias.sgd_covariance(*(jnp.asarray(v, float) for v in (x * 2.0**-60, y)), step_size=0.0625, batch_size=2)
    np.testing.assert_allclose(small, exact, rtol=1e-4)
