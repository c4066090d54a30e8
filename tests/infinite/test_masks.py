"""Dropout in training: the limit over masks, against closed forms, drawn networks and neural-tangents."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from flax import nnx
from infinite.recursion import relu_kernels
from infinite.simulation import draw, structs
from infinite.zoo import NHWC, as_written
from jax import lax
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import prior
from jaxtheory.infinite.trace import law

SIGMA_W, SIGMA_B, RATE = 1.4, 0.3, 0.3
RULE = prior.ntk(SIGMA_W, SIGMA_B)
KEY = jax.random.key(5)
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
TOKENS = jnp.asarray(np.random.default_rng(1).standard_normal((3, 3, 2)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(2).standard_normal((3, 4, 4, 2)), jnp.float32)


@pytest.fixture(autouse=True)
def as_users_write(unchecked):
    """With NumPy's promotion, and without shapes checked by beartype."""
    with relaxed_promotion():
        yield


def dropped(h, key, shape=None, rate=RATE):
    mask = jax.random.bernoulli(key, 1 - rate, h.shape if shape is None else shape)
    return jnp.where(mask, h / (1 - rate), 0.0)


def limit(f, shapes, x, **options):
    return infinite.limit(f, structs(shapes, jnp.float32), x, prior=RULE, **options)


def one_layer(size=1.0, everywhere=False):
    """E h h' of a ReLU layer times E m m' on the diagonal, or everywhere, through a readout without bias."""
    nngp, ntk = relu_kernels(X.astype(float), 1, SIGMA_W, 0.0)
    factor = np.full_like(nngp, size) if everywhere else np.where(np.eye(len(X)), size, 1.0)
    return nngp * factor, ntk * factor


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, use_bias=False)(
            nn.Dropout(RATE, deterministic=False)(nn.relu(nn.Dense(16, use_bias=False)(x)))
        )


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.one = nnx.Linear(4, 16, use_bias=False, rngs=rngs)
        self.drop = nnx.Dropout(RATE, rngs=rngs)
        self.two = nnx.Linear(16, 1, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.two(self.drop(nnx.relu(self.one(x))))


def by_equinox(p, x):
    drop = eqx.nn.Dropout(RATE)
    one = lambda z, key: drop(jax.nn.relu(z @ p["a"]), key=key) @ p["o"]  # noqa: E731
    return jax.vmap(one)(x, jax.random.split(KEY, len(x)))


DENSE = {"a": (4, 16), "o": (16, 1)}
SHARED = {
    "of all examples": lambda p, x: dropped(jax.nn.relu(x @ p["a"]), KEY, (1, 16)) @ p["o"],
    "under vmap": lambda p, x: jax.vmap(lambda z: dropped(jax.nn.relu(z @ p["a"]), KEY) @ p["o"])(x),
}
OWN = {
    "by hand": lambda p, x: dropped(jax.nn.relu(x @ p["a"]), KEY) @ p["o"],
    "as a factor": lambda p, x: (
        jax.nn.relu(x @ p["a"]) * jax.random.bernoulli(KEY, 1 - RATE, (len(x), 16)).astype(jnp.float32) / (1 - RATE)
    ) @ p["o"],
    "by bits": lambda p, x: (
        jax.nn.relu(x @ p["a"]) * (jax.random.bits(KEY, (len(x), 16), jnp.uint8) < 179) * (256 / 179)
    ) @ p["o"],
    "by an old key": lambda p, x: dropped(jax.nn.relu(x @ p["a"]), jax.random.PRNGKey(3)) @ p["o"],
    "equinox": by_equinox,
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
@pytest.mark.first_case
def test_masks_of_each_example_raise_the_diagonal(name):
    """E m² = 1/(1 − p) at an example with itself, E m E m' = 1 between two."""
    found = limit(OWN[name], DENSE, X, check_width=False)
    own, between = found.both(X), found.nngp(X, X.copy())  # the latter of examples that are equal by chance
    nngp, ntk = one_layer(256 / 179 if name == "by bits" else 1 / (1 - RATE))
    assert_close(own.nngp, nngp, condition=10)
    assert_close(own.ntk, ntk, condition=10)
    assert_close(between, one_layer()[0], condition=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_one_mask_for_all_examples_raises_every_entry(name):
    found, expected = limit(SHARED[name], DENSE, X), one_layer(1 / (1 - RATE), everywhere=True)
    assert_close(found.nngp(X), expected[0], condition=10)
    assert_close(found.ntk(X), expected[1], condition=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_modules_in_training(name):
    """With the module's own keys."""
    if name == "nnx":
        f, shapes = Nnx(nnx.Rngs(0)), None
    else:
        f = lambda p, x: Linen().apply(p, x, rngs={"dropout": KEY})  # noqa: E731
        shapes = jax.eval_shape(Linen().init, {"params": KEY, "dropout": KEY}, X)
    found, expected = infinite.limit(f, shapes, X, prior=RULE).both(X), one_layer(1 / (1 - RATE))
    assert_close(found.nngp, expected[0], condition=10)
    assert_close(found.ntk, expected[1], condition=10)


def convolve(k, h):
    return lax.conv_general_dilated(h, k, (1, 1), "SAME", dimension_numbers=NHWC)


def tokens(p, x, key):
    """Two masks, one before the mean of tokens and one after the activation of the next layer."""
    one, two = jax.random.split(key)
    h = dropped(jax.nn.relu(x @ p["a"]), one).mean(1)
    return dropped(jnp.tanh(h @ p["w"]), two, rate=0.5) @ p["o"]


def pixels(p, x, key):
    """One mask for all pixels of a channel."""
    h = jax.nn.relu(convolve(p["k"], x))
    h = dropped(h, key, (len(x), 1, 1, h.shape[-1]))
    return jnp.tanh(convolve(p["k2"], h)).mean((1, 2)) @ p["o"]


def residual(p, x, key):
    """A block of a transformer in training, without attention: dropout in its branch and after the sum."""
    one, two, three = jax.random.split(key, 3)
    h = dropped(x @ p["a"], one)
    y = h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-5)
    h = h + dropped(dropped(jax.nn.relu(y @ p["w"]), two) @ p["v"], three)
    return (h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-5)).mean(1) @ p["o"]


def halves(p, x, key):
    """Two halves of one masked array, whose masks are independent."""
    one, two = jnp.split(dropped(jax.nn.relu(x @ p["a"]), key), 2, axis=-1)
    return (one * two + 0.3 * one).mean(1) @ p["o"]


def looped(p, x, key):
    """A mask for each turn of a loop."""

    def step(h, layer):
        w, own = layer
        return h + dropped(jax.nn.relu(h @ w), own), None

    return lax.scan(step, x @ p["a"], (p["w"], jax.random.split(key, 2)))[0].mean(1) @ p["o"]


WIDTH, OUTPUTS, DRAWS = 128, 64, 40
DRAWN = {
    "tokens": (tokens, lambda n, o: {"a": (2, n), "w": (n, n), "o": (n, o)}, TOKENS),
    "pixels": (pixels, lambda n, o: {"k": (3, 3, 2, n), "k2": (2, 2, n, n), "o": (n, o)}, IMAGES),
    "residual": (residual, lambda n, o: {"a": (2, n), "w": (n, n), "v": (n, n), "o": (n, o)}, TOKENS),
    "halves": (halves, lambda n, o: {"a": (2, n), "o": (n // 2, o)}, TOKENS),
    "looped": (looped, lambda n, o: {"a": (2, n), "w": (2, n, n), "o": (n, o)}, TOKENS),
}


def layered(path, shape):
    return RULE(path, shape[-2:] if len(shape) == 3 else shape)


def measured(f, shapes, x):
    """Kernels of networks with drawn parameters and masks, and their standard errors."""
    weights = [float(layered(name, shape).weight) for name, shape in sorted(shapes.items())]

    @jax.jit
    def one(key):
        own, masks = jax.random.split(key)
        params = draw(shapes, layered, own, jnp.float32)
        values = f(params, x, masks)
        rows = jax.jacrev(lambda p: f(p, x, masks)[:, 0])(params)
        flat = [g.reshape(len(x), -1) for g in jax.tree.leaves(rows)]
        return values @ values.T / OUTPUTS, sum(w * (g @ g.T) for w, g in zip(weights, flat, strict=True))

    found = [one(k) for k in jax.random.split(jax.random.key(1), DRAWS)]
    parts = [np.stack([np.asarray(pair[i], np.float64) for pair in found]) for i in (0, 1)]
    return [(part.mean(0), part.std(0, ddof=1) / np.sqrt(DRAWS)) for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_networks_and_masks_have_the_kernels_of_the_limit(name):
    """Within 5 standard errors and a bias of order 1/width."""
    f, shapes, x = DRAWN[name]
    given = structs(shapes(WIDTH, 1), jnp.float32)
    kernels = infinite.limit(as_written(lambda p, x: f(p, x, KEY)), given, x, prior=layered).both(x)
    for kernel, (mean, error) in zip(kernels, measured(f, shapes(WIDTH, OUTPUTS), x), strict=True):
        z = (np.abs(np.asarray(kernel) - mean) - 4 / WIDTH * np.abs(mean).max()) / error
        assert z.max() < 5, f"z = {z.max():.1f}"


SHAPES = {"a": (4, 16), "w": (16, 16), "o": (16, 1)}


def test_probabilities_are_those_of_the_bits():
    """An interval of uniform numbers by its length, several values at once; a parity has no steps."""
    steps = lambda bits: np.where(bits < 2**30, 2.0, np.where(bits < 3 * 2**30 + 5, 0.0, -1.0))  # noqa: E731
    found = {float(values[0]): share for values, share in law(32, (steps,))}
    assert found == {2.0: 0.25, 0.0: 0.5 + 5 / 2**32, -1.0: 0.25 - 5 / 2**32}
    assert law(32, (lambda bits: bits % 2,)) is None
    assert law(64, (lambda bits: bits < 2**62,))[0][1] == 0.25
    assert [share for _, share in law(8, (lambda bits: bits < 179,))] == [179 / 256, 77 / 256]


REFUSED = {
    "of inputs": (lambda p, x: jax.nn.relu(dropped(x, KEY) @ p["a"]) @ p["o"], "draws with a key"),
    "of examples": (
        lambda p, x: dropped(jax.nn.relu(x @ p["a"]), KEY, (len(x), 1)) @ p["o"],
        "one number for all channels",
    ),
    "of weights": (lambda p, x: x @ dropped(p["a"], KEY) @ p["o"], "draws with a key numbers for parameters"),
    "normal": (
        lambda p, x: (x @ p["a"] + jax.random.normal(KEY, (len(x), 16))) @ p["o"],
        "more than a few values",
    ),
    "one key twice": (
        lambda p, x: dropped(dropped(jax.nn.relu(x @ p["a"]), KEY)[:, :8], KEY) @ p["o"][:8],
        "split the key",
    ),
    "both kinds": (
        lambda p, x: dropped(dropped(x @ p["a"], KEY), jax.random.key(1), (16,)) @ p["o"],
        "for all at once",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.first_case
def test_masks_without_a_limit_are_refused(name):
    """The reason, the line and what to do."""
    f, words = REFUSED[name]
    with pytest.raises(infinite.NoLimitError, match=words) as caught:
        limit(f, SHAPES, X)
    assert "test_masks.py:" in str(caught.value)
