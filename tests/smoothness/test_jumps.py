"""Random jumps against their definition and their covariance, and linear risks against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.smoothness import jumps

DRAWS = 4000


def bernoulli(n, energy):
    """Σh² B_2(|s − t|)/2 at i/n: the covariance of Σ ε h (1/2 − {t − t_i})."""
    u = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / n
    return energy / 2 * (u**2 - u + 1 / 6)


def agrees(draws, covariance):
    """Each entry of the sample covariance, within 5 of its standard errors."""
    products = np.einsum("ri,rj->rij", draws, draws)
    error = products.std(axis=0) / len(draws) ** 0.5
    return np.all(np.abs(products.mean(axis=0) - covariance) < 5 * error)


def test_half_spaces_have_the_covariance():
    """In three dimensions E|u_1| = 1/2."""
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 3)).astype(np.float32)
    draw = jax.jit(jax.vmap(lambda k: jumps.half_spaces(k, jnp.asarray(x), 2)))
    drawn = draw(jax.random.split(jax.random.key(0), DRAWS))
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.testing.assert_allclose(jumps.half_space_covariance(x, x), 1 - distance / 2, atol=1e-6)
    assert agrees(np.asarray(drawn), 1 - distance / 2)


@pytest.mark.parametrize(("d", "mean"), [(1, 1.0), (2, 2 / np.pi), (5, 0.375)])
def test_the_covariance_falls_by_the_mean_of_a_coordinate_of_the_sphere(d, mean):
    x = np.zeros((2, d))
    x[1, 0] = 0.5
    np.testing.assert_allclose(jumps.half_space_covariance(x, x)[0, 1], 1 - mean / 2, rtol=1e-6)


def test_jumps_on_the_circle_are_their_definition():
    """With the places and signs that the key draws; whole turns change nothing."""
    key, heights = jax.random.key(3), jnp.array([2.0, 1.0, 0.5])
    place_key, sign_key = jax.random.split(key)
    place, sign = jax.random.uniform(place_key, (3,)), jax.random.rademacher(sign_key, (3,), jnp.float32)
    t = jnp.array([0.0, 0.1, 0.47, 0.7, 0.999, 1.25, -0.75])
    expected = ((0.5 - np.mod(t[:, None] - place[None], 1.0)) * (heights * sign)[None]).sum(axis=1)
    np.testing.assert_allclose(jumps.jump_loop(key, t, heights), expected, atol=2e-6)


def test_both_loops_have_one_covariance():
    heights = jnp.array([2.0, 1.0, 0.5, 0.5])
    energy, keys = float((heights**2).sum()), jax.random.split(jax.random.key(1), DRAWS)
    t = jnp.arange(6) / 6
    draw = jax.jit(jax.vmap(lambda k: (jumps.jump_loop(k, t, heights), jumps.gaussian_loop(k, 6, energy))))
    assert all(agrees(np.asarray(values), bernoulli(6, energy)) for values in draw(keys))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_linear_risk_is_that_of_a_dense_filter(n, float64):
    """tr(C (C + σ²)^{−1} σ²)/n, the error of the best linear prediction of all samples from their noisy values."""
    covariance, variance = bernoulli(n, 3.0), 0.3**2
    expected = np.trace(covariance @ np.linalg.inv(covariance + variance * np.eye(n))) * variance / n
    np.testing.assert_allclose(jumps.loop_linear_risk(n, 3.0, 0.3), expected, rtol=1e-10)


@pytest.mark.parametrize(("energy", "sigma"), [(1.0, 1e25), (1e30, 1e-3), (1e-30, 1.0), (1e30, 1e15)])
@pytest.mark.first_case
def test_the_linear_risk_at_any_scale(energy, sigma):
    """Σ_k n e_k σ²/(n e_k + σ²)/n in float64: far above the signal a noise leaves its energy, not 0."""
    covariance = bernoulli(7, 1.0)
    shares = np.maximum(np.linalg.eigvalsh(covariance), 0) * energy
    expected = np.mean(shares * (sigma**2 / (shares + sigma**2)))
    np.testing.assert_allclose(jumps.loop_linear_risk(7, energy, sigma), expected, rtol=1e-4)


def test_the_linear_risk_has_its_exponent(float64):
    risks = [float(jumps.loop_linear_risk(2**j, 12.0, 0.3)) for j in (16, 18)]
    assert abs(np.log2(risks[1] / risks[0]) / 2 + 0.5) < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jumps.half_spaces(jax.random.key(0), jnp.zeros((2, 2)), 0), "count must be >= 1"),
        (lambda: jumps.half_space_covariance(jnp.ones((1, 2)), jnp.zeros((1, 2))), "x1 must lie in the unit ball"),
        (lambda: jumps.jump_loop(jax.random.key(0), jnp.zeros(2), -jnp.ones(2)), "heights must be >= 0"),
        (lambda: jumps.loop_linear_risk(0, 1.0, 1.0), "samples must be >= 1"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
