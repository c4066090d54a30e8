"""Flax modules as their users write them, linen and NNX: each agrees with drawn networks, or says what to change."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from flax import nnx
from infinite.simulation import measure
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import prior
from jaxtheory.infinite.models import function_of

WIDTH, OUTPUTS, DRAWS = 128, 64, 32
STACKED = ("Scan", "Vmap")


def rule(path, shape):
    """Stacked layers by the shape of one of them."""
    return prior.ntk(1.3, 0.4)(path, shape[1:] if any(word in path for word in STACKED) else shape)


class Layer(nn.Module):
    """One turn of a scan over layers."""

    width: int

    @nn.compact
    def __call__(self, h, _):
        return h + nn.Dense(self.width)(nn.gelu(nn.LayerNorm()(h))), None


class Pair(nn.Module):
    """A member of an ensemble."""

    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(nn.relu(nn.Dense(self.width)(x)))


def conv_batch_norm(m, x):
    h = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(m.width, (3, 3), 2)(x)))
    return nn.relu(nn.Conv(m.width, (3, 3))(h)).mean((1, 2))


def residual(m, x):
    norm = partial(nn.BatchNorm, use_running_average=True)
    h = nn.Conv(m.width, (3, 3))(x)
    y = nn.relu(norm()(h))
    short = nn.Conv(m.width, (1, 1), 2)(y)
    y = nn.relu(norm()(nn.Conv(m.width, (3, 3), 2, use_bias=False)(y)))
    return nn.relu(norm()(short + nn.Conv(m.width, (3, 3), use_bias=False)(y))).mean((1, 2))


def causal(m, x):
    h = nn.Embed(7, m.width)(x) + m.param("pos", nn.initializers.normal(), (1, 4, m.width))
    g = nn.LayerNorm()(h)
    q, k, v = (nn.DenseGeneral((4, m.width // 4), name=name)(g) for name in ("query", "key", "value"))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1]
    scores = jnp.where(jnp.tril(jnp.ones((4, 4), bool)), scores, -1e9)
    h = h + nn.DenseGeneral(m.width, axis=(-2, -1))(jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), v))
    h = h + nn.Dense(m.width)(nn.gelu(nn.Dense(m.width)(nn.LayerNorm()(h))))
    return nn.LayerNorm()(h)[:, -1]


def heads_of_flax(m, x):
    h = nn.Dense(m.width)(x)
    return (h + nn.MultiHeadDotProductAttention(8)(h, h))[:, 0]


def convnext(m, x):
    h = nn.LayerNorm()(nn.Conv(m.width, (2, 2), (2, 2))(x))
    y = nn.LayerNorm()(nn.Conv(m.width, (3, 3), feature_group_count=m.width)(h))
    y = nn.Dense(m.width)(nn.gelu(nn.Dense(m.width)(y)))
    return nn.LayerNorm()((h + y * m.param("gamma", nn.initializers.ones, (m.width,))).mean((1, 2)))


def dense_net(m, x):
    h = nn.Conv(m.width, (3, 3))(x)
    y = nn.Conv(m.width // 2, (3, 3))(nn.relu(nn.BatchNorm(use_running_average=True)(h)))
    return nn.avg_pool(nn.relu(jnp.concatenate([h, y], -1)), (3, 3), (2, 2), "SAME", False).mean((1, 2))


def squeeze_and_excite(m, x):
    h = nn.relu(nn.Conv(m.width, (3, 3))(x))
    gate = nn.sigmoid(nn.Dense(m.width)(nn.relu(nn.Dense(m.width // 2)(h.mean((1, 2))))))
    return (h * gate[:, None, None]).mean((1, 2))


def u_net(m, x):
    a = nn.relu(nn.Conv(m.width, (3, 3))(x))
    b = nn.relu(nn.Conv(m.width, (3, 3), (2, 2))(a))
    h = jnp.concatenate([a, nn.ConvTranspose(m.width, (2, 2), (2, 2))(b), b.repeat(2, 1).repeat(2, 2)], -1)
    return nn.relu(nn.Conv(m.width, (3, 3))(h)).mean((1, 2))


def scan_of_layers(m, x):
    layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    return layers(m.width)(nn.Dense(m.width)(x), None)[0]


def ensemble(m, x):
    members = nn.vmap(Pair, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=3)
    return nn.tanh(members(m.width)(x).mean(0))


def pairs(m, x):
    h = nn.relu(nn.Dense(2 * m.width)(x)).reshape(-1, m.width, 2).sum(-1)
    return nn.relu(nn.Dense(m.width)(h)).reshape(-1, m.width // 8, 8).mean(-1)  # and eights


def resized(m, x):
    h = nn.relu(nn.Conv(m.width, (3, 3))(x))
    h = jax.image.resize(h, (h.shape[0], 8, 8, m.width), "nearest")
    return nn.relu(nn.Conv(m.width, (3, 3))(h)).mean((1, 2))


def recurrent(m, x):
    return nn.RNN(nn.SimpleCell(m.width))(x)[:, -1]


IMAGE = (4, 4, 3)
X = jnp.ones((2, 3))
MODULES = {
    "conv, batch norm": (conv_batch_norm, IMAGE),
    "residual": (residual, IMAGE),
    "causal": (causal, (4,)),
    "heads of flax": (heads_of_flax, (4, 3)),
    "convnext": (convnext, IMAGE),
    "dense net": (dense_net, IMAGE),
    "squeeze and excite": (squeeze_and_excite, IMAGE),
    "u-net": (u_net, IMAGE),
    "scan of layers": (scan_of_layers, (3,)),
    "ensemble": (ensemble, (3,)),
    "pairs": (pairs, (3,)),
    "resized": (resized, IMAGE),
    "recurrent": (recurrent, (3, 2)),
}


class Module(nn.Module):
    """A body of the table and its readout."""

    body: str
    width: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs)(MODULES[self.body][0](self, x))


class Recurrent(nnx.Module):
    """An NNX loop, whose cell counts its random numbers."""

    def __init__(self, width, outputs, rngs):
        self.loop = nnx.RNN(nnx.SimpleCell(2, width, rngs=rngs))
        self.readout = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        return self.readout(self.loop(x)[:, -1])


class Gated(nnx.Module):
    """Convolution, batch norm, a gated unit, dropout in inference."""

    def __init__(self, width, outputs, rngs):
        self.conv = nnx.Conv(3, width, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, width, rngs=rngs)
        self.gate = nnx.Linear(width, width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.readout = nnx.Linear(width, outputs, rngs=rngs)
        self.eval()

    def __call__(self, x):
        h = nnx.relu(self.norm(self.conv(x)))
        return self.readout(self.drop(nnx.silu(self.gate(h)) * self.up(h)).mean((1, 2)))


NNX = {"recurrent": (Recurrent, (3, 2)), "gated": (Gated, IMAGE)}


def agree(make, example, draws=None):
    """Kernel and tangent within 5 standard errors and a bias of 4/width, as of plain functions."""
    rng = np.random.default_rng(1)
    tokens = len(example) == 1 and example[0] == 4
    x = rng.integers(0, 7, (3, 4)) if tokens else rng.standard_normal((3, *example))
    x = jnp.asarray(x, jnp.int32 if tokens else jnp.float32)
    with relaxed_promotion():
        limit = infinite.limit(make(1), None, x, prior=rule, monte_carlo=draws).estimate(x)
        f, shapes = function_of(make(OUTPUTS), None, x)
    found = measure(as_written(f), jax.tree.map(lambda s: s.shape, shapes), rule, x, jax.random.key(1), DRAWS, OUTPUTS)
    for kernel, own, mean, drawn in (
        (limit.nngp, limit.nngp_error, found.nngp, found.nngp_error),
        (limit.ntk, limit.ntk_error, found.ntk, found.ntk_error),
    ):
        bias = 4 / WIDTH * np.abs(mean).max() + 1e-5
        z = (np.abs(np.asarray(kernel) - mean) - bias) / np.hypot(np.asarray(own), drawn)
        assert z.max() < 5, f"z = {z.max():.1f}"


FAST = ("pairs",)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.slow
def test_copies_are_added_and_not_averaged(name):
    """Pairs and eights of channels are few next to those that are kept: their sums stay random."""
    agree(lambda o: Module(name, WIDTH, o), MODULES[name][1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODULES if name not in FAST])
def test_linen_modules_have_the_kernels_of_their_limit(name):
    """As tutorials write them."""
    draws = infinite.MonteCarlo(jax.random.key(3), 128, 16) if name == "heads of flax" else None
    agree(lambda o: Module(name, WIDTH, o), MODULES[name][1], draws)


@pytest.mark.slow
@pytest.mark.parametrize("name", NNX)
def test_nnx_modules_have_the_kernels_of_their_limit(name):
    """With counters and running averages beside their parameters."""
    make, example = NNX[name]
    agree(lambda o: make(WIDTH, o, nnx.Rngs(0)), example)


@pytest.mark.slow
def test_a_convolution_and_its_running_averages_have_a_limit():
    """Means 0 and variances 1 of inference are numbers, also where there are places."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, *IMAGE)), jnp.float32)
    with relaxed_promotion():
        limit = infinite.limit(Module("conv, batch norm", 8, 1), None, x, prior=prior.ntk(1.3))
        kernel = limit.nngp(x)
    assert np.linalg.eigvalsh(np.asarray(kernel)).min() > 0


def test_kernels_of_attention_have_the_fan_in_that_flax_draws():
    """Axes of inputs, heads, channels: the rule describes the initializer."""
    with relaxed_promotion():
        drawn = nn.MultiHeadDotProductAttention(4).init(jax.random.key(0), jnp.ones((1, 3, 64)), jnp.ones((1, 3, 64)))
    kernel = drawn["params"]["query"]["kernel"]
    assert kernel.shape == (64, 4, 16)
    prior.validate(prior.lecun(), {"query": {"kernel": kernel}})


def gru(m, x):
    return nn.RNN(nn.GRUCell(m.width))(x)[:, -1]


def prelu(m, x):
    return nn.PReLU()(nn.Dense(m.width)(x))


def weight_norm(m, x):
    return nn.relu(nn.WeightNorm(nn.Dense(m.width))(x))


REFUSED = {
    "gru": (gru, (3, 2), "MonteCarlo"),
    "prelu": (prelu, (3,), "negative_slope has no channel axis.*variance 0"),
    "weight norm": (weight_norm, (3,), "no infinite-width limit here"),
    "unscaled heads": (heads_of_flax, (4, 3), "scores / d.*MonteCarlo"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_line_of_the_module(name, monkeypatch):
    """The operation, the line in this file, the hint."""
    body, example, words = REFUSED[name]
    monkeypatch.setitem(MODULES, name, (body, example))
    with relaxed_promotion(), pytest.raises(infinite.NoLimitError, match=words) as caught:
        infinite.limit(Module(name, 64, 1), None, jnp.ones((2, *example)), prior=prior.ntk(1.3, 0.4))
    assert "test_flax.py:" in str(caught.value)


def test_a_model_of_library_layers_alone_names_their_line():
    """No line of it is the user's; the one of the layer that has no limit tells which it is."""
    layers = nn.Sequential([nn.Dense(16), nn.PReLU(), nn.Dense(1)])
    with (
        relaxed_promotion(),
        pytest.raises(infinite.NoLimitError, match=r"in PReLU.__call__, flax/.*\.py:\d+") as caught,
    ):
        infinite.limit(lambda p, x: layers.apply(p, x), layers.init(jax.random.key(0), X), X, prior=rule)
    assert "test_flax.py:" in str(caught.value)
    with (
        relaxed_promotion(),
        pytest.raises(infinite.NoLimitError, match=r"mul at PReLU.__call__, flax/.*\.py:\d+ has no"),
    ):
        infinite.limit(layers, None, X, prior=rule)
