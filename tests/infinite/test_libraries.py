"""Well-known architectures as their public implementations write them, in four libraries, against drawn networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from flax import nnx
from infinite.simulation import measure
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import MonteCarlo, prior
from jaxtheory.infinite.models import function_of

OUTPUTS, DRAWS = 32, 32
RULE = prior.ntk(1.3, 0.4)


class ResNet(nn.Module):
    """As the example of Flax: a stem with max-pooling, one block with a projection."""

    width: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        def norm(h):
            return nn.BatchNorm(use_running_average=True, momentum=0.9)(h)

        x = nn.relu(norm(nn.Conv(self.width, (3, 3), use_bias=False)(x)))
        x = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
        y = nn.relu(norm(nn.Conv(self.width, (3, 3), use_bias=False)(x)))
        y = norm(nn.Conv(self.width, (3, 3), use_bias=False)(y))
        x = nn.relu(norm(nn.Conv(self.width, (1, 1), use_bias=False)(x)) + y)
        return nn.Dense(self.outputs)(jnp.mean(x, axis=(1, 2)))


class UNet(nnx.Module):
    """One level down by a strided convolution and up by a transposed one, with a skip connection."""

    def __init__(self, width, outputs, rngs):
        self.enter = nnx.Conv(3, width, (3, 3), rngs=rngs)
        self.down = nnx.Conv(width, width, (2, 2), strides=2, rngs=rngs)
        self.up = nnx.ConvTranspose(width, width, (2, 2), strides=(2, 2), rngs=rngs)
        self.join = nnx.Conv(2 * width, width, (3, 3), rngs=rngs)
        self.head = nnx.Conv(width, outputs, (1, 1), rngs=rngs)

    def __call__(self, x):
        a = nnx.silu(self.enter(x))
        b = nnx.silu(self.up(nnx.silu(self.down(a))))
        return self.head(nnx.silu(self.join(jnp.concatenate([a, b], axis=-1))))


class ConvMixer(nnx.Module):
    """Patches, then a depthwise convolution with a residual connection and one of 1 x 1, gelu and norm after each."""

    def __init__(self, width, outputs, rngs):
        self.patch = nnx.Conv(3, width, (2, 2), strides=2, rngs=rngs)
        self.depth = nnx.Conv(width, width, (3, 3), feature_group_count=width, rngs=rngs)
        self.point = nnx.Conv(width, width, (1, 1), rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(width, use_running_average=True, rngs=rngs) for _ in range(3)])
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        first, second, third = self.norms
        x = first(nnx.gelu(self.patch(x)))
        x = x + second(nnx.gelu(self.depth(x)))
        x = third(nnx.gelu(self.point(x)))
        return self.head(x.mean(axis=(1, 2)))


class Gpt(nnx.Module):
    """As nanoGPT: learned positions, one causal block, logits of a matrix of its own or of the table of tokens."""

    def __init__(self, width, outputs, rngs, tied=False):
        self.tokens = nnx.Embed(7, width, rngs=rngs)
        self.positions = nnx.Embed(4, width, rngs=rngs)
        self.first, self.second, self.last = (nnx.LayerNorm(width, rngs=rngs) for _ in range(3))
        self.qkv, self.project = nnx.Linear(width, 3 * width, rngs=rngs), nnx.Linear(width, width, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)
        self.head = None if tied else nnx.Linear(width, outputs, use_bias=False, rngs=rngs)

    def attend(self, x):
        q, k, v = (a.reshape(*a.shape[:2], 4, -1) for a in jnp.split(self.qkv(x), 3, axis=-1))
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        return self.project(jax.nn.dot_product_attention(q, k, v, mask=mask).reshape(x.shape))

    def __call__(self, x):
        h = self.tokens(x) + self.positions(jnp.arange(x.shape[1]))
        h = h + self.attend(self.first(h))
        h = self.last(h + self.down(nnx.gelu(self.up(self.second(h)))))[:, -1]
        return self.tokens.attend(h) if self.head is None else self.head(h)


class Block(nnx.Module):
    """Attention and two layers, normalized before them as in ViT, or after the sums as in BERT."""

    def __init__(self, width, before, rngs):
        self.first, self.second = (nnx.LayerNorm(width, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(8, width, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 2 * width, rngs=rngs), nnx.Linear(2 * width, width, rngs=rngs)
        self.before = before

    def __call__(self, h, mask=None):
        if self.before:
            h = h + self.attention(self.first(h), mask=mask)
            return h + self.down(nnx.gelu(self.up(self.second(h))))
        h = self.first(h + self.attention(h, mask=mask))
        return self.second(h + self.down(nnx.gelu(self.up(h))))


def sine_and_cosine(rows, columns, width):
    """Fixed positions of patches: a quarter of the channels for the sine and the cosine of each axis."""
    frequency = 1.0 / 100.0 ** (np.arange(width // 4) / (width // 4))
    y, x = (np.outer(place.ravel(), frequency) for place in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], 1, dtype=np.float32)[None]


class Vit(nnx.Module):
    """Patches at fixed places and a class token, whose output is read."""

    def __init__(self, width, outputs, rngs):
        self.patch = nnx.Conv(3, width, (2, 2), strides=2, padding="VALID", rngs=rngs)
        self.token, self.places = nnx.Param(jnp.zeros((1, 1, width))), sine_and_cosine(2, 2, width)
        self.block = Block(width, True, rngs)
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        h = self.patch(x)
        h = h.reshape(h.shape[0], -1, h.shape[-1]) + self.places
        h = jnp.concatenate([jnp.tile(self.token[...], (h.shape[0], 1, 1)), h], axis=1)
        return self.head(self.norm(self.block(h))[:, 0])


class Bert(nnx.Module):
    """Words, positions and types, a mask of the padding, and a pooler of the first token."""

    def __init__(self, width, outputs, rngs):
        self.words, self.places, self.types = (nnx.Embed(n, width, rngs=rngs) for n in (7, 4, 2))
        self.norm, self.block = nnx.LayerNorm(width, rngs=rngs), Block(width, False, rngs)
        self.pool, self.head = nnx.Linear(width, width, rngs=rngs), nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        h = self.words(x) + self.places(jnp.arange(x.shape[1])) + self.types(x // 4)
        h = self.block(self.norm(h), nnx.make_attention_mask(x > 0, x > 0))
        return self.head(jnp.tanh(self.pool(h[:, 0])))


class DenseNet(eqx.Module):
    """Channels first, as Equinox has them: a layer beside what it reads, average pooling."""

    enter: eqx.nn.Conv2d
    grow: eqx.nn.Conv2d
    transition: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self, width, outputs, key):
        one, two, three, four = jax.random.split(key, 4)
        self.enter = eqx.nn.Conv2d(3, width, 3, padding=1, key=one)
        self.grow = eqx.nn.Conv2d(width, width, 3, padding=1, key=two)
        self.transition = eqx.nn.Conv2d(2 * width, width, 1, key=three)
        self.head = eqx.nn.Linear(width, outputs, key=four)

    def __call__(self, x):
        h = self.enter(x.transpose(2, 0, 1))
        h = jnp.concatenate([h, self.grow(jax.nn.relu(h))], axis=0)
        h = eqx.nn.AvgPool2d(2, 2)(self.transition(jax.nn.relu(h)))
        return self.head(jax.nn.relu(h).mean((1, 2)))


class Recurrent(eqx.Module):
    """The loop of Equinox's tutorial over a cell, and a readout of its state."""

    cell: eqx.Module
    head: eqx.nn.Linear

    def __init__(self, kind, width, outputs, key):
        one, two = jax.random.split(key)
        self.cell, self.head = kind(2, width, key=one), eqx.nn.Linear(width, outputs, key=two)

    def __call__(self, x):
        zero = jnp.zeros(self.cell.hidden_size)
        start = (zero, zero) if isinstance(self.cell, eqx.nn.LSTMCell) else zero
        last = jax.lax.scan(lambda state, now: (self.cell(now, state), None), start, x)[0]
        return self.head(last[0] if isinstance(last, tuple) else last)


def deep_image_prior(width, outputs, x):
    """Noise upsampled twice by bilinear interpolation, with convolutions between."""
    for _ in range(2):
        x = jax.nn.leaky_relu(hk.Conv2D(width, 3)(x), 0.2)
        x = jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear")
    return hk.Conv2D(outputs, 1)(jax.nn.leaky_relu(hk.Conv2D(width, 3)(x), 0.2))


def squeeze_and_excitation(width, outputs, x):
    """A residual block whose branch is gated channel by channel."""
    x = jax.nn.relu(hk.Conv2D(width, 3)(x))
    h = hk.Conv2D(width, 3)(jax.nn.relu(hk.Conv2D(width, 3)(x)))
    gate = hk.nets.MLP([width // 2, width])(h.mean((1, 2)))
    x = jax.nn.relu(x + h * jax.nn.sigmoid(gate)[:, None, None, :])
    return hk.Linear(outputs)(x.mean((1, 2)))


def rotary(x):
    """Turned by angles of the token, channels j and j + d/2 a pair."""
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[1])[:, None, None] / 10.0 ** (jnp.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), b * jnp.cos(angle) + a * jnp.sin(angle)], axis=-1)


def llama(width, outputs, x):
    """A block of RMS norms, rotary grouped queries and SwiGLU."""
    norm = lambda h: hk.RMSNorm(axis=-1)(h)  # noqa: E731
    linear = lambda size, h: hk.Linear(size, with_bias=False)(h)  # noqa: E731
    h = hk.Embed(7, width)(x)
    y = norm(h)
    q, k, v = linear(width, y), linear(width // 2, y), linear(width // 2, y)
    q, k, v = (a.reshape(*a.shape[:2], -1, width // 4) for a in (q, k, v))
    k, v = (jnp.repeat(a, 2, axis=2) for a in (rotary(k), v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", rotary(q), k) / jnp.sqrt(q.shape[-1])
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    a = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
    h = h + linear(width, a.reshape(h.shape))
    y = norm(h)
    h = h + linear(width, jax.nn.silu(linear(2 * width, y)) * linear(2 * width, y))
    return linear(outputs, norm(h)[:, -1])


SENDERS, RECEIVERS = np.array([0, 1, 1, 2, 3, 4, 0, 2]), np.array([1, 0, 2, 1, 4, 3, 3, 4])


def graph_convolution(width, outputs, x):
    """Two layers of normalized sums over known edges and self-loops, as Jraph writes them."""
    senders, receivers = (np.concatenate([ends, np.arange(5)]) for ends in (SENDERS, RECEIVERS))
    degree = lambda ends: jax.ops.segment_sum(jnp.ones(len(ends)), ends, 5)  # noqa: E731
    out, into = (jax.lax.rsqrt(jnp.maximum(degree(ends), 1.0))[:, None] for ends in (senders, receivers))
    for _ in range(2):
        h = hk.Linear(width)(x) * out
        x = jax.nn.relu(jax.vmap(lambda nodes: jax.ops.segment_sum(nodes[senders], receivers, 5))(h) * into)
    return hk.Linear(outputs)(x.mean(1))


def of_haiku(network, width):
    """A function and its parameters for a number of outputs, as `infinite.limit` takes them."""

    def make(outputs, x):
        transformed = hk.without_apply_rng(hk.transform(lambda x: network(width, outputs, x)))
        return transformed.apply, jax.eval_shape(transformed.init, jax.random.key(0), x)

    return make


class Case(NamedTuple):
    """A network for (outputs, x); the shape of an example; what is drawn; the place of the output that is compared.

    Of `networks` drawn ones, which may differ by `bias` over the width.
    """

    make: Callable[[int, Any], tuple[Any, Any]]
    example: tuple[int, ...]
    draws: int = 0
    place: tuple[int, ...] = ()
    tokens: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012
    networks: int = DRAWS
    bias: float = 4.0


WIDTH, IMAGE = 96, (4, 4, 3)
KEY = jax.random.key(0)
# their errors are larger than a bias of 1/64
MANY: dict[str, Any] = {"networks": 200, "bias": 0.0, "options": {"check_width": False}}
CASES = {
    "resnet": Case(lambda o, x: (ResNet(WIDTH, o), None), IMAGE, 64),
    "u-net": Case(lambda o, x: (UNet(WIDTH, o, nnx.Rngs(0)), None), IMAGE, place=(1, 2)),
    "convmixer": Case(lambda o, x: (ConvMixer(WIDTH, o, nnx.Rngs(0)), None), IMAGE, 64),
    "gpt": Case(lambda o, x: (Gpt(64, o, nnx.Rngs(0)), None), (4,), 64, tokens=True),
    "vit": Case(lambda o, x: (Vit(64, o, nnx.Rngs(0)), None), IMAGE, 256, **MANY),
    "bert": Case(lambda o, x: (Bert(64, o, nnx.Rngs(0)), None), (4,), 256, tokens=True, **MANY),
    "densenet": Case(lambda o, x: (DenseNet(WIDTH, o, KEY), None), IMAGE),
    "gru": Case(lambda o, x: (Recurrent(eqx.nn.GRUCell, WIDTH, o, KEY), None), (3, 2), 64),
    "lstm": Case(lambda o, x: (Recurrent(eqx.nn.LSTMCell, WIDTH, o, KEY), None), (3, 2), 64),
    "deep image prior": Case(of_haiku(deep_image_prior, WIDTH), (2, 2, 3), place=(3, 5)),
    "squeeze and excitation": Case(of_haiku(squeeze_and_excitation, WIDTH), IMAGE, 64),
    "llama": Case(of_haiku(llama, 64), (4,), 64, tokens=True, options={"check_width": False}),
    "graph convolution": Case(of_haiku(graph_convolution, WIDTH), (5, 3)),
}


def compare(case, width):
    """Distances of kernel and tangent from drawn networks beyond bias/width, in standard errors of both."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 7, (2, 4)) if case.tokens else rng.standard_normal((2, *case.example))
    x = jnp.asarray(x, jnp.int32 if case.tokens else jnp.float32)
    draws = MonteCarlo(jax.random.key(3), case.draws, 16) if case.draws else None
    with relaxed_promotion():
        limit = infinite.limit(*case.make(1, x), x, prior=RULE, monte_carlo=draws, positions="equal", **case.options)
        found = jax.tree.map(lambda kernel: np.asarray(kernel)[..., *case.place], limit.estimate(x))
        f, shapes = function_of(*case.make(OUTPUTS, x), x)
    one = as_written(lambda p, x: f(p, x)[:, *case.place])
    leaves, key = jax.tree.map(lambda s: s.shape, shapes), jax.random.key(1)
    drawn = measure(one, leaves, limit.prior, x, key, case.networks, OUTPUTS)
    return {
        name: np.max((abs(own - mean) - case.bias / width * np.max(abs(mean)) - 1e-5) / np.hypot(own_error, error))
        for name, own, own_error, mean, error in (
            ("nngp", found.nngp, found.nngp_error, drawn.nngp, drawn.nngp_error),
            ("ntk", found.ntk, found.ntk_error, drawn.ntk, drawn.ntk_error),
        )
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_public_architectures_have_the_kernels_of_their_limit(name):
    """Within 5 standard errors and a bias of at most 4/width, at width 64 or 96."""
    distances = compare(CASES[name], 64 if CASES[name].tokens else WIDTH)
    assert max(distances.values()) < 5, distances


@pytest.mark.slow
def test_a_tied_table_is_refused_with_the_step_that_works():
    """Logits of tokens of the input are no Gaussians of mean zero; with a matrix of its own it is `gpt` above."""
    model, tokens = Gpt(64, 1, nnx.Rngs(0), tied=True), jnp.zeros((2, 4), jnp.int32)
    with (
        relaxed_promotion(),
        pytest.raises(infinite.NoLimitError, match="give each role a weight of its own") as caught,
    ):
        infinite.limit(model, None, tokens, prior=RULE, monte_carlo=MonteCarlo(KEY, 8, 2))
    assert "test_libraries.py:" in str(caught.value)
