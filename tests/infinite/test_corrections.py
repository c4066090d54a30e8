"""Exact laws at finite width, against draws and closed values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.infinite.corrections import relu_moments, relu_pair_moments, sample_relu

ERRORS = 4.5  # standard errors


def off(samples, expected):
    """Standard errors between a mean and its expectation."""
    samples = np.asarray(samples, float)
    return abs(samples.mean() - expected) / (samples.std(ddof=1) / math.sqrt(len(samples)))


@pytest.mark.smoke
@pytest.mark.parametrize("widths", [(20,), (30, 12), (16, 16, 16, 16)])
@pytest.mark.first_case
def test_moments_of_drawn_networks(widths, key):
    x = jnp.array([0.3, -1.0, 0.8])
    draws = sample_relu(key, x, widths, draws=40_000)
    moments, q = relu_moments(widths), float((x**2).mean())
    assert off(draws.features, q) < ERRORS
    assert off(draws.features**2, q**2 * moments.features) < ERRORS
    assert off(draws.output**4, q**2 * moments.output) < ERRORS
    mean = (len(widths) + 1) * q
    assert off(draws.ntk, mean) < ERRORS
    assert off((draws.ntk / mean - 1) ** 2, moments.ntk_variance) < ERRORS


@pytest.mark.parametrize("width", [1, 7, 1000, 2**60])
def test_one_hidden_layer_by_hand(width):
    """Var Θ̂ = 12/n for mean 2: each unit contributes 2r² + 2a²1[r > 0], of second moment 16."""
    moments = relu_moments((width,))
    assert moments.ntk_variance == pytest.approx(3 / width, rel=1e-12)
    assert moments.features == pytest.approx(1 + 5 / width, rel=1e-12)


def test_two_layers_of_one_unit_by_enumeration():
    """n₁ = n₂ = 1: three normals, two coins. Θ̂ = 4d₁d₂(w₁²w₂² + a²w₁² + a²w₂²): E Θ̂² = 16/4·(3·9 + 6·3)."""
    assert relu_moments((1, 1)).ntk_variance == pytest.approx(4 * 45 / 9 - 1, rel=1e-12)


def test_large_networks_depend_on_depth_over_width():
    """∏(1 + 5/n) → e^(5L/n), with error 25 L/(2n²) in the logarithm."""
    deep, wide = 100, 400
    assert abs(math.log(relu_moments((wide,) * deep).features) - 5 * deep / wide) < 12.6 * deep / wide**2
    ratio = relu_moments((2 * wide,) * (2 * deep)).ntk_variance / relu_moments((wide,) * deep).ntk_variance
    assert abs(ratio - 1) < 5 / deep


def test_draws_follow_the_dtype_of_the_input(dtype, key):
    draws = sample_relu(key, jnp.ones(3, dtype), (4,), draws=3)
    assert {leaf.dtype for leaf in jax.tree.leaves(draws)} == {dtype}


@pytest.mark.parametrize("widths", [(), (4, 0)])
def test_widths_are_required(widths):
    with pytest.raises(ValueError, match="widths must name at least one hidden layer"):
        relu_moments(widths)


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.5, 0.9])
def test_predicted_moments_are_those_of_one_unit(cosine):
    """2 [phi phi' + a^2 phi. phi.' cos] over 4e5 draws of one unit, within 4 standard errors."""
    rng, count = np.random.default_rng(0), 400_000
    u, v, a = rng.standard_normal((3, count))
    v = cosine * u + np.sqrt(1 - cosine**2) * v
    draws = 2 * (np.maximum(u, 0) * np.maximum(v, 0) + a**2 * (u > 0) * (v > 0) * cosine)
    mean, deviation = relu_pair_moments(cosine)
    assert abs(draws.mean() - mean) < 4 * draws.std() / count**0.5
    squares = (draws - mean) ** 2
    assert abs(squares.mean() - deviation**2) < 4 * squares.std() / count**0.5


@pytest.mark.parametrize("width", [1, 7])
def test_a_pair_of_equal_inputs_is_one_input(width):
    """Var Θ̂ = deviation²/m, which `relu_moments` has relative to the mean."""
    mean, deviation = relu_pair_moments(1.0)
    assert deviation**2 / width / mean**2 == pytest.approx(relu_moments((width,)).ntk_variance, rel=1e-12)
    assert relu_pair_moments(-1.0).mean == pytest.approx(0, abs=1e-15)
