"""Weights that are normalized: refused, and what the message says to write instead has the limit of drawn networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.test_scores import agree
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import Moments, prior

WIDTH, VARIANCE, WEIGHT = 128, 4.0, 0.5


def network(weight):
    """A hidden layer with weight(p) between two others."""
    return as_written(lambda p, x: jnp.tanh(jax.nn.relu(x @ p["in"]) @ weight(p)) @ p["o"])


def standardized(p):
    """Of mean zero and variance 1/fan-in in each output, as BiT has them."""
    w = p["w"] - p["w"].mean(0)
    return w / jnp.sqrt(w.var(0) * len(w))


def normalized(p):
    """A direction and a length for each output."""
    return p["w"] / jnp.sqrt((p["w"] ** 2).sum(0)) * p["scale"]


def spectral(p):
    """Of spectral norm 1; Gaussian entries of variance v have that of 2 √(v n) in a square matrix."""
    return p["w"] / jnp.linalg.norm(p["w"], 2)


NORMALIZED = {
    "standardized": (standardized, 1 / WIDTH, r"\(h - h.mean\(-1, keepdims=True\)\) @ w"),
    "normalized": (normalized, 1 / WIDTH, "leave out a normalization of weights"),
    "spectral": (spectral, 1 / (4 * WIDTH), "divide a weight by the number that its norm tends to"),
}


def shapes(outputs):
    return {"in": (3, WIDTH), "w": (WIDTH, WIDTH), "scale": (WIDTH,), "o": (WIDTH, outputs)}


def rule(moments):
    return prior.by_path({"w": moments, "scale": Moments(1.0, 0.0, 0.3)}, prior.ntk(1.2))


@pytest.mark.parametrize("name", NORMALIZED)
@pytest.mark.first_case
def test_normalized_weights_are_refused_with_a_step(name):
    weight, _, words = NORMALIZED[name]
    given, x = structs(shapes(1), jnp.float32), jnp.ones((1, 3))
    with pytest.raises(infinite.NoLimitError, match=words) as caught:
        infinite.limit(network(weight), given, x, prior=rule(Moments(0.0, VARIANCE, WEIGHT)))
    assert "test_normalized_weights.py:" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMALIZED)
def test_the_step_has_the_kernels_of_drawn_networks(name):
    """The weight as it is, with the variance of the normalized one and as much less weight in the tangent kernel.

    A weight whose mean over inputs is taken off reads inputs whose mean over channels is, which a relu has.
    """
    weight, variance, _ = NORMALIZED[name]
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3)), jnp.float32)

    def written(p, x):
        h = jax.nn.relu(x @ p["in"])
        h = h - h.mean(-1, keepdims=True) if name == "standardized" else h
        return jnp.tanh(h @ p["w"] * (p["scale"] if name == "normalized" else 1.0)) @ p["o"]

    plain = as_written(written)
    moments = Moments(0.0, variance, WEIGHT * variance / VARIANCE)
    exact = infinite.limit(plain, structs(shapes(1), jnp.float32), x, prior=rule(moments), check_width=False)
    drawn = rule(Moments(0.0, VARIANCE, WEIGHT))
    agree(exact.estimate(x), measure(network(weight), shapes(64), drawn, x, jax.random.key(1), 48, 64), WIDTH)
