"""Leverage scores against NumPy's inverse, and features drawn by them against features drawn uniformly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import kernels


def test_scores_are_those_of_the_inverse_and_average_to_the_effective_dimension(float64):
    """At every ridge, for more features than points and fewer, with repeated features."""
    rng = np.random.default_rng(0)
    for shape in ((4, 9), (9, 4)):
        z = rng.normal(size=shape)
        z[:, 1] = z[:, 0]
        gram = z @ z.T / shape[1]
        for ridge in (1e-3, 0.5, 100.0):
            expected = np.diag(z.T @ np.linalg.inv(gram + ridge * np.eye(len(z))) @ z)
            found = kernels.leverage_scores(jnp.asarray(z), ridge)
            np.testing.assert_allclose(found, expected, rtol=1e-9)
            eigs = jnp.asarray(np.linalg.eigvalsh(gram).clip(0))
            np.testing.assert_allclose(found.mean(), kernels.degrees_of_freedom(eigs, ridge), rtol=1e-9)


def test_scores_at_other_scales():
    """z and the root of the ridge scaled alike: the same bits."""
    z = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32)
    plain = kernels.leverage_scores(z, 0.5)
    for power in (40, -40):
        scaled = kernels.leverage_scores(z * 2.0**power, jnp.asarray(2.0 ** (2 * power - 1), jnp.float32))
        np.testing.assert_array_equal(scaled, plain)


def test_a_ridge_far_above_the_kernel_draws_by_squared_norms(key):
    """ℓ_j → ‖z_j‖²/ridge, whose shares remain where the leverages themselves underflow."""
    z = np.random.default_rng(1).normal(size=(3, 5)) * [1.0, 2.0, 0.0, 0.5, 4.0]
    found = kernels.leverage_features(key, jnp.asarray(1e-25 * z, jnp.float32), 1e10, 4000)
    share = (z**2).sum(axis=0) / (z**2).sum()
    counts = np.bincount(found.indices, minlength=5)
    assert (np.abs(counts - 4000 * share) <= 4.5 * np.sqrt(4000 * share)).all()
    expected = 1e-25 * z[:, found.indices] / np.sqrt(5 * share[found.indices])
    np.testing.assert_allclose(found.features, expected, rtol=1e-5)
    assert (found.scores == 0).all()


def test_at_least_one_feature_is_needed():
    assert kernels.features_needed(1e-3, 1.0) == 1.0


def rare_features():
    """One feature in 200 is alone in its direction: P = 1000 features at 20 points, 5 of them rare and large."""
    rng = np.random.default_rng(2)
    z = np.zeros((20, 1000))
    z[:15] = rng.normal(size=(15, 1000))
    z[15:, :5] = 14 * np.eye(5)
    return z


def missed(z, kept, ridge):
    """‖(K + ridge)^{−1/2}(K − K̂)(K + ridge)^{−1/2}‖, below 1 where the features represent the ball."""
    gram, found = z @ z.T / z.shape[1], kept @ kept.T / kept.shape[1]
    values, vectors = np.linalg.eigh(gram)
    root = vectors / np.sqrt(values + ridge)
    return np.linalg.norm(root.T @ (gram - found) @ root, 2)


@pytest.mark.slow
def test_features_by_leverage_are_enough_where_uniform_ones_are_not(key):
    """m = 5 d log(16 d/δ): below 1 in all of 10 draws by leverage (δ = .05: 3 or more failures have p = .01).

    A uniform draw of as many, 838 of 1000, misses one of the rare features with probability ≈ 1 − (1 − e^−.84)^5 = .94.
    """
    z, ridge = rare_features(), 0.02
    scores = np.asarray(kernels.leverage_scores(jnp.asarray(z, jnp.float32), ridge))
    count = int(kernels.features_needed(float(scores.mean())))
    assert count < kernels.features_needed(float(scores.max())) / 5
    by_leverage, uniform = [], []
    for draw in jax.random.split(key, 10):
        found = kernels.leverage_features(draw, jnp.asarray(z, jnp.float32), ridge, count)
        by_leverage.append(missed(z, np.asarray(found.features, float), ridge))
        columns = np.random.default_rng(int(found.indices[0])).integers(0, 1000, count)
        uniform.append(missed(z, z[:, columns], ridge))
    assert sum(error >= 1 for error in by_leverage) <= 2
    assert np.median(by_leverage) < 0.5 * np.median(uniform)


@pytest.mark.slow
def test_the_draw_is_unbiased(key):
    """The mean of Z_m Z_mᵀ/m over 4000 single draws: within 5 standard errors of K, entry by entry."""
    z = np.random.default_rng(3).normal(size=(3, 6))
    found = kernels.leverage_features(key, jnp.asarray(z, jnp.float32), 0.5, 4000)
    products = np.einsum("im,jm->mij", found.features, found.features)
    error = products.std(axis=0) / np.sqrt(4000)
    assert (np.abs(products.mean(axis=0) - z @ z.T / 6) < 5 * error).all()


def test_a_ridge_below_rounding_is_not_answered():
    z = jnp.asarray(np.random.default_rng(4).normal(size=(5, 3)), jnp.float32)
    assert jnp.isnan(kernels.leverage_scores(z, 1e-9)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.leverage_scores(jnp.ones((2, 0)), 1.0), "features must hold"),
        (lambda: kernels.leverage_scores(jnp.ones((2, 2)), 0.0), "ridge must be"),
        (lambda: kernels.leverage_features(jax.random.key(0), jnp.ones((2, 2)), 1.0, 0), "count must be"),
        (lambda: kernels.features_needed(-1.0), "dimension must be"),
        (lambda: kernels.features_needed(1.0, 2.0), "delta must lie"),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
