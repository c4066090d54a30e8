"""Sums of tensor B-splines with a scale for each axis as one ReLU network: values and audit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.expressivity import relu_network as rn
from jaxtheory.smoothness import bspline


def sum_of_two(order, accuracy):
    scales = jnp.array([[2.0, 1.0], [1.0, 4.0]])
    return bspline.relu_sum(jnp.array([1.5, -2.0]), scales, jnp.array([[0.0, -1.0], [1.0, 2.0]]), order, accuracy)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_scale_for_each_axis_is_a_product_of_splines_at_their_scales(order, float64):
    """Within the accuracy of the terms, also written out as one network."""
    net = sum_of_two(order, 1e-3)
    x = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 3, (40, 2)))
    expected = 0.0
    for c, s, k in zip(net.weights, net.scales, net.shifts, strict=True):
        expected = expected + c * bspline.cardinal(s[None, :] * x - k[None, :], order)
    found = bspline.evaluate_sum(net, x)
    assert jnp.abs(expected).max() > 0.5
    assert jnp.abs(found - expected).max() <= 1e-3 * 3.5
    np.testing.assert_allclose(rn.evaluate(bspline.as_network(net), x)[:, 0], found, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2])
def test_the_audit_counts_the_network_that_is_written_out(order):
    net = sum_of_two(order, 0.1)
    assert bspline.audit_sum(net) == rn.audit(bspline.as_network(net))
    written = sum(np.count_nonzero(part) for layer in bspline.as_network(net) for part in layer)
    assert bspline.audit_sum(net).nonzeros == written


def test_equal_scales_are_one_scale():
    shifts, weights = jnp.array([[0.0, 1.0]]), jnp.ones(1)
    one, both = (bspline.relu_sum(weights, s, shifts, 1, 0.1) for s in (jnp.array([2.0]), jnp.full((1, 2), 2.0)))
    assert bspline.audit_sum(one) == bspline.audit_sum(both)
    x = jnp.array([[0.3, 0.9], [0.7, 0.8]])
    np.testing.assert_array_equal(bspline.evaluate_sum(one, x), bspline.evaluate_sum(both, x))


@pytest.mark.slow
def test_scales_of_another_number_of_axes_are_named(unchecked):
    with pytest.raises(ValueError, match="scales must be one a term"):
        bspline.relu_sum(jnp.ones(1), jnp.ones((1, 3)), jnp.zeros((1, 2)), 1, 0.1)
