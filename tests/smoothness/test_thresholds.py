"""Data-driven thresholds against NumPy loops, brute-force minimax problems, and draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm as gaussian

from jaxtheory.smoothness import estimation, thresholds
from jaxtheory.smoothness.wavelets import Coefficients


def soft_risk(mean, t):
    """E(soft_t(μ + z) − μ)², the textbook's form."""
    inside = gaussian.cdf(t - mean) - gaussian.cdf(-t - mean)
    return (
        1
        + t**2
        + (mean**2 - t**2 - 1) * inside
        - (t - mean) * gaussian.pdf(t + mean)
        - (t + mean) * gaussian.pdf(t - mean)
    )


@pytest.mark.parametrize("size", [1, 4, 64, 65536])
def test_the_minimax_threshold_minimizes_the_worst_ratio_to_the_oracle(size):
    """Over a grid of thresholds (step 0.01) and means up to 12; it and its worst ratio are below the universal ones."""
    means, grid = np.linspace(0, 12, 2401), np.arange(0.0, 5.0, 0.01)
    oracle = 1 / size + np.minimum(means**2, 1)
    worst = np.array([(soft_risk(means, t) / oracle).max() for t in grid])
    found = float(thresholds.minimax(size, 1.0))
    assert abs(found - grid[worst.argmin()]) < 0.011
    assert (soft_risk(means, found) / oracle).max() < worst.min() * 1.001
    if size >= 64:
        assert found < estimation.universal(size, 1.0)
    assert thresholds.minimax(size, 0.5) == jnp.float32(found) * 0.5


def test_the_published_minimax_thresholds():
    """Donoho and Johnstone (1994), Table 2, the first two rows."""
    np.testing.assert_allclose([thresholds.minimax(n, 1.0) for n in (64, 128)], [1.474, 1.669], atol=6e-4)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_median_of_sizes_is_numpys(size):
    y = np.random.default_rng(size).normal(size=size).astype(np.float32)
    np.testing.assert_allclose(thresholds.mad(y), np.median(np.abs(y)) / gaussian.ppf(0.75), rtol=1e-6)


def test_the_noise_is_found_under_sparse_signals():
    """m = 4096 entries of σ = 0.3: standard error 1.17 σ/√m, and 1 % of large entries move the median by ≈ 1 %."""
    rng = np.random.default_rng(0)
    y = 0.3 * rng.normal(size=4096)
    assert abs(thresholds.mad(y) - 0.3) < 4 * 1.17 * 0.3 / 64
    y[:41] += 100
    assert abs(thresholds.mad(y) - 0.3) < 4 * 1.17 * 0.3 / 64 + 0.01 * 0.3 * 2


@pytest.mark.parametrize(("size", "block"), [(11, 4), (8, 2), (3, 5), (11, None)])
def test_blocks_are_shrunk_as_in_a_loop(size, block):
    y = np.random.default_rng(2).normal(size=size) * 3
    length = block or max(1, int(np.log(size)))
    expected = y.copy()
    for start in range(0, size, length):
        part = y[start : start + length]
        expected[start : start + length] *= max(0, 1 - 4.50524 * len(part) * 0.8**2 / (part @ part))
    np.testing.assert_allclose(thresholds.block_js(jnp.asarray(y), 0.8, block=block), expected, atol=1e-5)


@pytest.mark.slow
def test_blocks_below_the_noise_do_not_move_and_what_is_not_finite_is_seen():
    """Derivatives of both orders are 0 where a block is killed, however small; an infinite entry is its block's."""
    y = jnp.asarray([1e-20, 2e-20, 0.0, 0.0, 0.5, 0.0])
    total = lambda y: thresholds.block_js(y, 1.0, block=2).sum()  # noqa: E731
    np.testing.assert_array_equal(jax.grad(total)(y), np.zeros(6))
    np.testing.assert_array_equal(jax.hessian(total)(y), np.zeros((6, 6)))
    found = thresholds.block_js(jnp.asarray([jnp.inf, 1.0, 9.0, 9.0]), 1.0, block=2)
    assert jnp.isnan(found[:2]).all()
    np.testing.assert_allclose(found[2:], 9 * (1 - 2 * 4.505241495792885 / 162), rtol=1e-6)


def test_block_shrinkage_obeys_its_oracle_inequality():
    """Risk below Σ_b min(‖θ_b‖², λ* L) + 4, L = log n: Cai (1999), Theorem 1, for n = 1024, dense in 20 blocks of 6."""
    rng = np.random.default_rng(1)
    truth = np.zeros(1024)
    truth[:120] = 4.0
    found = jax.vmap(lambda y: thresholds.block_js(y, 1.0))(jnp.asarray(truth + rng.normal(size=(50, 1024))))
    losses = np.sum((np.asarray(found) - truth) ** 2, axis=1)
    assert losses.mean() < 20 * min(6 * 16.0, 4.50524 * 6) + 4 + 4 * losses.std() / np.sqrt(50)
    soft = estimation.threshold(jnp.asarray(truth + rng.normal(size=(50, 1024))), estimation.universal(1024, 1.0))
    assert losses.mean() < 0.5 * np.mean(np.sum((np.asarray(soft) - truth) ** 2, axis=1))


@pytest.mark.parametrize(
    "method", ["block", *(pytest.param(m, marks=pytest.mark.slow) for m in ("universal", "minimax", "sure"))]
)
def test_each_band_has_its_noise_and_its_threshold(method):
    """Two bands of noise of σ = 1 and 10 with one large entry each: band by band with its own MAD; σ given is used."""
    rng = np.random.default_rng(4)
    details = np.stack([rng.normal(size=64), 10 * rng.normal(size=64), rng.normal(size=64)]).astype(np.float32)
    details[:, 3] = [40.0, 400.0, 40.0]
    given = Coefficients(jnp.ones((1, 1)), (jnp.ones((3, 1, 1)), jnp.asarray(details.reshape(3, 8, 8))))
    found = thresholds.denoise_bands(given, method=method)
    fixed = thresholds.denoise_bands(given, 2.0, method)
    rules = {
        "universal": lambda y, s: estimation.threshold(y, estimation.universal(64, s)),
        "minimax": lambda y, s: estimation.threshold(y, thresholds.minimax(64, s)),
        "sure": lambda y, s: estimation.threshold(y, estimation.sure(y, s)),
        "block": lambda y, s: thresholds.block_js(y, s, block=int(np.log(1 + 3 + 192))),
    }
    for band, kept, other in zip(details, found.details[1], fixed.details[1], strict=True):
        sigma = np.median(np.abs(band)) / gaussian.ppf(0.75)
        np.testing.assert_allclose(kept.ravel(), rules[method](jnp.asarray(band), float(sigma)), atol=1e-3)
        np.testing.assert_allclose(other.ravel(), rules[method](jnp.asarray(band), 2.0), atol=1e-3)
    assert (found.details[0] == 1).all()


def test_bands_without_noise_are_kept():
    given = Coefficients(jnp.ones(1), (jnp.zeros((1, 8)).at[0, 3].set(2.0),))
    np.testing.assert_array_equal(thresholds.denoise_bands(given, coarse=0).details[0], given.details[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: thresholds.mad(jnp.ones(0)), "y must hold"),
        (lambda: thresholds.minimax(0, 1.0), "size must be"),
        (lambda: thresholds.minimax(4, -1.0), "sigma must be"),
        (lambda: thresholds.block_js(jnp.ones(4), 0.0), "sigma must be"),
        (lambda: thresholds.block_js(jnp.ones(4), 1.0, block=0), "block must be"),
        (lambda: thresholds.denoise_bands(Coefficients(jnp.ones(1), ()), 0.0), "sigma must be"),
        (lambda: thresholds.denoise_bands(Coefficients(jnp.ones(1), ()), 1.0, "firm"), "method must be"),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
