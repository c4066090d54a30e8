"""Margins in the largest norm against a search over the square, and descent by signs and Adam that find them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.optimization import implicit_bias as bias

POINTS, LABELS = np.array([[1.0, 0.1], [0.4, 0.9], [-0.2, -1.5]]), np.array([1.0, 1.0, -1.0])
SPACE = np.array([[1.0, 0.5, 0.5, 0.4], [1.2, 0.4, 0.6, 0.5], [-1.0, -0.6, -0.4, -0.5]])


def best_on_the_square(signed, count=100_001):
    """Every direction with ‖w‖_∞ = 1."""
    side = np.linspace(-1, 1, count)
    edges = [np.stack([c * np.ones(count), side][:: 1 - 2 * k], axis=1) for k in (0, 1) for c in (-1, 1)]
    return max((edge @ signed.T).min(axis=1).max() for edge in edges)


def test_sign_margin_is_the_best_on_the_square_at_any_scale():
    for x in (POINTS, POINTS * [3.0, 0.2], POINTS * 2.0**60):
        fit = bias.sign_margin(x, LABELS)
        signed = LABELS[:, None] * x
        np.testing.assert_allclose(fit.margin, best_on_the_square(signed), rtol=1e-4)
        np.testing.assert_allclose((signed @ np.asarray(fit.direction, float)).min(), fit.margin, rtol=1e-5)
        np.testing.assert_allclose(abs(np.asarray(fit.weights, float) @ signed).sum(), fit.margin, rtol=1e-5)
        assert fit.gap <= 1e-6 * fit.margin
    with pytest.raises(ValueError, match="x must be separable"):
        bias.sign_margin(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.ones(2))


def test_signs_and_adam_find_the_largest_margin_in_the_largest_norm():
    """Within log t/√t at t = 4096; the separator of largest Euclidean margin is farther away than that."""
    best = bias.sign_margin(SPACE, LABELS).margin
    euclidean = np.asarray(bias.max_margin(SPACE, LABELS).direction, float)
    signed = LABELS[:, None] * SPACE
    rival = (signed @ euclidean).min() / abs(euclidean).max()
    allowed = np.log(4096) / 64 * best
    path = bias.sign_descent(SPACE, LABELS, step_size=0.2, doublings=12)
    w, first, second = np.zeros(4), np.zeros(4), np.zeros(4)
    for t in range(1, 4097):
        slope = -(1 / (1 + np.exp(signed @ w))) @ signed
        first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
        w = w - 0.2 / t**0.5 * (first / (1 - 0.9**t)) / np.sqrt(second / (1 - 0.99**t))
    adam = (signed @ w).min() / abs(w).max()
    assert jnp.all(path.margin <= best * (1 + 1e-5))
    for margin in (path.margin[-1], adam):
        assert best - margin < allowed
    assert best - rival > allowed
