"""Three networks of different depth, trained on the digits once for all tests of the room."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtheory import data
from jaxtheory import generalization as gen
from jaxtheory.networks import train


@pytest.fixture(scope="session")
def sample():
    split = data.digits(train=200)
    return split.x, split.y


@pytest.fixture(
    scope="session",
    params=[(16,), pytest.param((24, 12), marks=pytest.mark.slow), pytest.param((8, 8, 8), marks=pytest.mark.slow)],
    ids=str,
)
def trained(request, sample):
    """(weights, initial weights) of three depths, trained on the digits."""
    x, y = sample
    sizes = (x.shape[1], *request.param, 10)
    keys = jax.random.split(jax.random.key(1), len(sizes))
    start = [
        (jax.random.normal(k, (a, b)) * np.sqrt(2 / a), jnp.zeros(b))
        for k, (a, b) in zip(keys, itertools.pairwise(sizes), strict=False)
    ]

    def loss(weights):
        log_shares = jax.nn.log_softmax(gen.forward(gen.chain(weights), x))
        return -jnp.take_along_axis(log_shares, y[:, None], 1).mean()

    run = jax.jit(lambda w: train(loss, w, optimizer=optax.adam(1e-2), steps=150, record_every=150))(start)
    return run.params, start
