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
@pytest.mark.first_case
def test_outputs_are_those_of_loops(name, float64):
    network, example = NETWORKS[name]
    rng = np.random.default_rng(len(name))
    shapes = network.shapes(example, WIDTH, OUTPUTS)
    params = jax.tree.map(lambda s: rng.standard_normal(s) / 2, shapes, is_leaf=lambda s: isinstance(s, tuple))
    x = rng.standard_normal((3, *example))
    expected = np.stack([ORACLES[name](params, one) for one in x])
    assert_close(jax.jit(network.apply)(jax.tree.map(jnp.asarray, params), x), expected, condition=100)


READY = {
    "mlp": (infinite.mlp(3, "tanh", 1.4, 0.3), (4,)),
    "resnet": (infinite.resnet_mlp(2, "tanh", 1.4, 0.3), (4,)),
    "cnn": (infinite.cnn(2, "tanh", 1.4, 0.3), (4, 6, 3)),
    "myrtle": (infinite.myrtle(5, "tanh", 1.4, 0.3), (8, 8, 3)),
    "attention": (infinite.attention(2, "tanh", 1.4, 0.3), (3, 4)),
}


@pytest.mark.parametrize(
    "name", [n if n in ("cnn", "attention") else pytest.param(n, marks=pytest.mark.slow) for n in READY]
)
@pytest.mark.first_case
def test_draws_follow_the_prior(name, key):
    """Of wide layers, by their sample moments; fan-in counted here from the equations."""
    network, example = READY[name]
    params = network.init(key, example, 64, 8)
    prior.validate(network.prior, params)
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


SHAPES = {
    "example": (lambda: networks.mlp(2).init(jax.random.key(0), 4, 8), "example must be a tuple of integers.*=4"),
    "images": (lambda: networks.cnn(2).init(jax.random.key(0), (4, 4), 8), r"example must have the axes \[h w c\]"),
    "tokens": (lambda: networks.attention().init(jax.random.key(0), (4,), 8), r"example must have the axes \[t c\]"),
    "eighths": (lambda: networks.myrtle(5).init(jax.random.key(0), (12, 4, 1), 8), "divisible by 8"),
    "windows": (lambda: networks.cnn(2, head="vec").init(jax.random.key(0), (1, 4, 1), 8), "of 2 × 2 pixels or more"),
    "width": (lambda: networks.mlp(2).init(jax.random.key(0), (4,), 0), "width must be >= 1"),
    "variance": (
        lambda: networks.mlp(2).init(jax.random.key(0), (4,), 8, weight_variance=-1),
        "weight_variance must be",
    ),
    "key": (lambda: networks.mlp(2).init(0, (4,), 8), "key must be a random key, got key=0"),
    "features": (lambda: networks.mlp(1).apply(zeros(networks.mlp(1), (4,)), jnp.ones((2, 3))), r"be points \[n, 4\]"),
    "batch": (lambda: networks.cnn(2).apply({}, jnp.ones((4, 4, 1))), r"the axes \[n h w c\].*x\[None\]"),
    "pooled": (lambda: networks.myrtle(5).apply({}, jnp.ones((1, 4, 4, 1))), "x must have height and width divisible"),
}


def zeros(network, example):
    return jax.tree.map(jnp.zeros, network.shapes(example, 5, 1), is_leaf=lambda s: isinstance(s, tuple))


@pytest.mark.parametrize("what", SHAPES)
def test_examples_of_another_shape_are_named(what, unchecked):
    call, message = SHAPES[what]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["mlp", "gap", "myrtle", "attention"])
def test_parameters_of_another_network_are_named(name, unchecked):
    network, example = NETWORKS[name]
    shapes = network.shapes(example, WIDTH, OUTPUTS)
    params = jax.tree.map(np.zeros, shapes, is_leaf=lambda node: isinstance(node, tuple))
    shorter = jax.tree.map(lambda leaf: leaf[..., None], params)
    texts = jax.tree.map(lambda leaf: "a", params)
    lists = jax.tree.map(lambda leaf: leaf.tolist(), params)
    wide = params | {"out": {"kernel": np.zeros((99, OUTPUTS)), "bias": np.zeros(OUTPUTS)}}
    for junk in (None, "abc", 3, [1, 2], {}, np.ones(3), network, shorter, texts, lists, wide):
        with pytest.raises(ValueError, match=r"params.* must h"):
            network.apply(junk, np.ones((2, *example), np.float32))


def test_a_negative_variance_is_nan_inside_jit(key):
    network = networks.mlp(1)
    drawn = jax.jit(lambda v: network.init(key, (2,), 3, weight_variance=v))(-1.0)
    assert jnp.isnan(drawn["out"]["kernel"]).all()


@pytest.mark.slow
def test_a_network_trains_like_any_other(key):
    """Small steps of the training loop that all rooms share lower the loss, each of them."""
    network = networks.cnn(1)
    x = jax.random.normal(key, (8, 4, 4, 1))
    y = jnp.sign(jax.random.normal(jax.random.key(2), (8, 1)))
    rng = np.random.default_rng(0)  # the He draw, by NumPy
    params = zeros(network, (4, 4, 1))
    for part, fan_in in (("in", 9), ("out", 5)):
        shape = params[part]["kernel"].shape
        params[part]["kernel"] = jnp.asarray(rng.standard_normal(shape) * np.sqrt(2 / fan_in), jnp.float32)
    loss = lambda p: ((network.apply(p, x) - y) ** 2).mean()  # noqa: E731
    run = networks.train(loss, params, optimizer=optax.sgd(0.02), steps=50)
    losses = np.asarray(run.losses)
    assert (np.diff(losses) < 0).all()
    assert loss(run.params) < losses[0] / 2
