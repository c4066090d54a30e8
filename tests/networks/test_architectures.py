"""Networks against loops over units, pixels and tokens in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tolerances import assert_close

from jaxtheory import infinite, networks
from jaxtheory.infinite import prior

WIDTH, OUTPUTS = 6, 2
NETWORKS = {
    "mlp": (networks.mlp(3, "tanh"), (4,)),
    "one layer": (networks.mlp(1, "tanh"), (4,)),
    "resnet": (networks.resnet_mlp(2, "tanh"), (4,)),
    "gap": (networks.cnn(2, "tanh"), (4, 6, 3)),
    "flatten": (networks.cnn(2, "tanh", head="flatten"), (4, 6, 3)),
    "vec": (networks.cnn(2, "tanh", head="vec"), (4, 6, 3)),
    "myrtle": (networks.myrtle(5, "tanh"), (8, 8, 3)),
    "attention": (networks.attention(2, "tanh"), (3, 4)),
}


def affine(layer, h):
    return h @ layer["kernel"] + layer["bias"]


def turns(p):
    return [{name: leaf[i] for name, leaf in p["hidden"].items()} for i in range(len(p["hidden"]["bias"]))]


def convolved(layer, image):
    """3 × 3 with a border of zeros."""
    height, width, _ = image.shape
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((height, width, layer["bias"].size))
    for i in range(height):
        for j in range(width):
            out[i, j] = np.einsum("abc,abcd->d", padded[i : i + 3, j : j + 3], layer["kernel"]) + layer["bias"]
    return out


def pooled(image):
    height, width, channels = image.shape
    return image.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def dense_network(p, x, residual):
    h = affine(p["in"], x)
    for layer in turns(p):
        step = affine(layer, np.tanh(h))
        h = h + step / math.sqrt(len(turns(p))) if residual else step
    return affine(p["out"], np.tanh(h))


def image_network(p, image, head):
    h = convolved(p["in"], image)
    for layer in turns(p):
        h = convolved(layer, np.tanh(h))
    h = np.tanh(h)
    return affine(p["out"], {"gap": h.mean((0, 1)), "flatten": h.ravel(), "vec": pooled(h).ravel()}[head])


def myrtle_network(p, image):
    layers = iter(p["convolutions"])
    for count in (2, 1, 1):
        for _ in range(count):
            image = np.tanh(convolved(next(layers), image))
        image = pooled(image)
    return affine(p["out"], image.mean((0, 1)))


def attention_network(p, tokens):
    h = affine(p["in"], tokens)
    mixed = np.zeros_like(h)
    for head in range(2):
        q, v = (h @ p[name]["kernel"][:, head] for name in ("query", "value"))
        mixed += softmax(q @ q.T / WIDTH) @ v @ p["project"]["kernel"][head]
    h = h + mixed
    h = h + affine(p["feed"], np.tanh(h))
    return affine(p["out"], np.tanh(h).mean(0))


ORACLES = {
    "mlp": lambda p, x: dense_network(p, x, False),
    "one layer": lambda p, x: dense_network(p, x, False),
    "resnet": lambda p, x: dense_network(p, x, True),
    "gap": lambda p, x: image_network(p, x, "gap"),
    "flatten": lambda p, x: image_network(p, x, "flatten"),
    "vec": lambda p, x: image_network(p, x, "vec"),
    "myrtle": myrtle_network,
    "attention": attention_network,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_loops(name, float64, key):
    network, example = NETWORKS[name]
    params = network.init(key, example, WIDTH, OUTPUTS, weight_variance=1.7, bias_variance=0.3, dtype=float64)
    x = jax.random.normal(jax.random.key(1), (3, *example), float64)
    plain = jax.tree.map(np.asarray, params)
    expected = np.stack([ORACLES[name](plain, np.asarray(one)) for one in x])
    assert_close(network.apply(params, x), expected, condition=100)


READY = {
    "mlp": (infinite.mlp(3, "tanh", 1.4, 0.3), (4,)),
    "resnet": (infinite.resnet_mlp(2, "tanh", 1.4, 0.3), (4,)),
    "cnn": (infinite.cnn(2, "tanh", 1.4, 0.3), (4, 6, 3)),
    "myrtle": (infinite.myrtle(5, "tanh", 1.4, 0.3), (8, 8, 3)),
    "attention": (infinite.attention(2, "tanh", 1.4, 0.3), (3, 4)),
}


@pytest.mark.parametrize("name", READY)
def test_draws_follow_the_prior(name, key):
    """Of wide layers, by their sample moments; fan-in counted here from the equations."""
    network, example = READY[name]
    prior.validate(network.prior, network.init(key, example, 64, 8))
    params = network.init(key, example, 64, 8)
    first = {"myrtle": lambda p: p["convolutions"][1], "attention": lambda p: p["query"]}
    kernel = np.asarray(first.get(name, lambda p: p["hidden"])(params)["kernel"], np.float64)
    fan_in = 64 * (9 if name in ("cnn", "myrtle") else 1)
    error = 1.4**2 / fan_in * math.sqrt(2 / kernel.size)
    assert abs((kernel**2).mean() - 1.4**2 / fan_in) < 5 * error


def test_sizes_that_make_no_network_are_refused(unchecked):
    for make, words in (
        (lambda: networks.mlp(0), "depth"),
        (lambda: networks.resnet_mlp(0), "blocks"),
        (lambda: networks.cnn(2, head="max"), "head"),
        (lambda: networks.myrtle(6), "depth"),
        (lambda: networks.attention(0), "heads"),
    ):
        with pytest.raises(ValueError, match=words):
            make()


def test_a_network_trains_like_any_other(key):
    """Small steps of the training loop that all rooms share lower the loss, each of them."""
    network = networks.cnn(1)
    x = jax.random.normal(key, (8, 4, 4, 1))
    y = jnp.sign(jax.random.normal(jax.random.key(2), (8, 1)))
    params = network.init(key, (4, 4, 1), 32, weight_variance=2.0)
    loss = lambda p: ((network.apply(p, x) - y) ** 2).mean()  # noqa: E731
    run = networks.train(loss, params, optimizer=optax.sgd(0.02), steps=50)
    losses = np.asarray(run.losses)
    assert (np.diff(losses) < 0).all()
    assert loss(run.params) < losses[0] / 2
