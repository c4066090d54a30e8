"""Finite networks against a simulation by hand, and the scatter of networks about the limit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from feature_learning.common import TEST, TRAINING, X, Y, descend

from jaxtheory import feature_learning
from jaxtheory.results import Status


@functools.cache
def trained(step_size):
    """One network of width 16; a step of 1e-30 leaves its parameters where they started."""
    training = {**TRAINING, "steps": 5, "step_size": step_size}
    return feature_learning.networks(
        X, Y, width=16, depth=2, test_x=TEST, centered=True, key=jax.random.key(0), **training
    )


@pytest.mark.slow
def test_a_network_is_trained_as_written():
    found = trained(0.2)
    # parameters [inputs, outputs] in the gauge of unit variance
    params = [layer.weight[0].T for layer in trained(1e-30).params]
    params[-1] = params[-1][0]
    by_hand = descend(params, jnp.concatenate([X, TEST]), Y, activation=jnp.tanh, **{**TRAINING, "steps": 5})
    np.testing.assert_allclose(found.predictions[0], by_hand[:, :3], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(found.test_predictions[0], by_hand[:, 3:], rtol=2e-5, atol=2e-6)
    assert int(found.status[0]) == Status.OK


def test_kernels_of_a_network_are_inner_products_of_its_gradients():
    found = trained(1e-30)
    weights = [layer.weight[0] for layer in found.params]

    def f(weights):
        h = X / 2**0.5 @ weights[0]
        return (jnp.tanh(jnp.tanh(h) @ weights[1] / 4) @ weights[2])[:, 0] / 16

    slopes = jax.jacrev(f)(weights)
    # steps η γ0² N along the gradient of f: the kernel of df/d(ηt) is N times the sum of products
    expected = 16 * sum(jnp.einsum("ipq,jpq->ij", slope, slope) for slope in slopes)
    np.testing.assert_allclose(found.kernels.tangent[0, 0], expected, rtol=1e-5, atol=1e-6)


def test_scatter_at_the_start_is_the_kernel():
    training = {**TRAINING, "steps": 1, "record_every": 1}
    found = feature_learning.fluctuations(
        X, Y, depth=1, richness=2.0, width=128, networks=1024, key=jax.random.key(0),
        **{name: value for name, value in training.items() if name != "richness"},
    )  # fmt: skip
    z, weight = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(z, z, indexing="ij"), -1).reshape(-1, 2)
    mass = np.outer(weight, weight).ravel() / (2 * np.pi)
    expected = mass @ np.tanh(grid @ X.T / 2**0.5) ** 2 / 4
    limit = scipy.stats.t.ppf(1 - 0.005 / 3, 1023) * found.predictions.standard_error[0]
    np.testing.assert_array_less(np.abs(found.predictions.value[0] - expected), limit)
    assert int(found.status) == Status.OK


@pytest.mark.slow
@pytest.mark.parametrize("width", [256, 1024, 4096])
def test_scatter_after_training_is_that_of_networks(width):
    training = {**TRAINING, "steps": 10}
    found = feature_learning.fluctuations(X, Y, depth=2, width=256, networks=1024, key=jax.random.key(0), **training)
    count = {256: 512, 1024: 192, 4096: 32}[width]
    drawn = feature_learning.networks(X, Y, width=width, depth=2, count=count, key=jax.random.key(1), **training)
    scaled = width * np.var(drawn.predictions, axis=0, ddof=1)
    # the quotient of two variances: errors √(2/R) of each, widened by the kurtosis of f (at most 2 here), 9 entries
    error = 3.3 * np.sqrt(2 / count + 2 / 1024) * 1.4
    assert np.abs(scaled / found.predictions.value - 1).max() < error
    for ours, theirs in zip(found.kernels, drawn.kernels, strict=True):  # all entries of a kernel together
        assert abs(width * np.var(theirs, axis=0, ddof=1).sum() / ours.value.sum() - 1) < error
