"""Against neural-tangents 0.6.5, in float64: networks as a user writes them against its combinators."""

import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.zoo import as_written
from jax import lax

from jaxtheory import infinite
from jaxtheory.infinite import prior
from jaxtheory.interop import neural_tangents

SIGMA_W, SIGMA_B = 1.3, 0.4
NHWC = ("NHWC", "HWIO", "NHWC")


class Case(NamedTuple):
    """f(params, x) or a Flax module (no shapes), the shape of an example, and the layers of neural-tangents."""

    f: Any
    shapes: Any
    example: tuple[int, ...]
    theirs: Callable[[Any], list[Any]]


def conv(x, w, b, strides=(1, 1), padding="SAME"):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC) + b


class LinenCNN(nn.Module):
    """As a user writes it, with what trains differently from how it predicts."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.BatchNorm(use_running_average=True, epsilon=0.0)(x)
        x = nn.relu(nn.Conv(8, (2, 2), (2, 1), padding="VALID")(x))
        x = nn.Dropout(0.5, deterministic=True)(x)
        return nn.Dense(1)(x.reshape(x.shape[0], -1))


def deep(phi, depth, layer):
    """A fully connected network of ours and theirs, `layer(stax)` their activation."""

    def f(p, x):
        for weights in p["hidden"]:
            x = phi(x @ weights["w"] + weights["b"])
        return x @ p["out"]["w"] + p["out"]["b"]

    widths = [3, *[16] * depth]
    hidden = [{"w": (a, b), "b": (b,)} for a, b in itertools.pairwise(widths)]
    shapes = {"hidden": hidden, "out": {"w": (16, 1), "b": (1,)}}
    return Case(f, shapes, (3,), lambda s: [part for _ in range(depth) for part in (dense(s), layer(s))] + [dense(s)])


def dense(stax):
    return stax.Dense(1, SIGMA_W, SIGMA_B)


def convolution(stax, *arguments, **options):
    return stax.Conv(1, *arguments, W_std=SIGMA_W, b_std=SIGMA_B, **options)


def branches(stax, one, two, fan_in):
    return [stax.FanOut(2), stax.parallel(stax.serial(*one), stax.serial(*two)), fan_in]


def resnet(p, x):
    h = x @ p["w0"] + p["b0"]
    for i in "12":
        h = h + jax.nn.relu(h) @ p["w" + i] + p["b" + i]
    return jax.nn.relu(h) @ p["w3"] + p["b3"]


def resnet_theirs(s):
    block = branches(s, [s.Identity()], [s.Relu(), dense(s)], s.FanInSum())
    return [dense(s), *block, *block, s.Relu(), dense(s)]


def cnn_gap(p, x):
    h = jax.nn.relu(conv(x, p["w0"], p["b0"]))
    return jax.nn.relu(conv(h, p["w1"], p["b1"], (2, 1), "VALID")).mean((1, 2)) @ p["w2"] + p["b2"]


def transposed(p, x):
    h = jax.nn.relu(conv(x, p["w0"], p["b0"]))
    h = lax.conv_transpose(h, p["w1"], (2, 1), "SAME", dimension_numbers=NHWC)
    return h.reshape(len(x), -1) @ p["w2"] + p["b2"]


def dropped(p, x):
    """Dropout in training, between two convolutions and before the readout."""
    h = masked(jax.nn.relu(conv(x, p["w0"], p["b0"])), 0.7, 1)
    h = jax.nn.relu(conv(h, p["w1"], p["b1"])).mean((1, 2))
    return masked(h, 0.25, 2) @ p["w2"] + p["b2"]


def masked(h, keep, seed):
    return jnp.where(jax.random.bernoulli(jax.random.key(seed), keep, h.shape), h / keep, 0.0)


def normalized(p, x):
    h = x @ p["w0"] + p["b0"]
    h = h - h.mean(-1, keepdims=True)
    return jax.nn.relu(h / jnp.sqrt((h**2).mean(-1, keepdims=True))) @ p["w1"] + p["b1"]


def attention(p, x):
    h = x @ p["w0"] + p["b0"]
    q, v = (jnp.einsum("ntc,chd->nthd", h, p[name]) for name in ("query", "value"))
    weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, q) / q.shape[-1], axis=-1)
    mixed = jnp.einsum("nhts,nshd->nthd", weights, v)
    return jnp.einsum("nthd,hdc->ntc", mixed, p["project"]).mean(1) @ p["w1"] + p["b1"]


def attention_theirs(s):
    spread = dict.fromkeys(("W_key_std", "W_value_std", "W_query_std", "W_out_std"), SIGMA_W)
    return [dense(s), s.GlobalSelfAttention(1, 1, 1, 1, **spread), s.GlobalAvgPool(), dense(s)]


def gate(p, x):
    one, two = (jax.nn.relu(x @ p["w0"] + p["b0"]), lax.erf(x @ p["w1"] + p["b1"]))
    return (one @ p["w2"] + p["b2"]) * (two @ p["w3"] + p["b3"]) @ p["w4"] + p["b4"]


def joined(p, x):
    h = jnp.concatenate([jax.nn.relu(x @ p["w0"] + p["b0"]), lax.erf(x @ p["w1"] + p["b1"])], axis=-1)
    return h @ p["w2"] + p["b2"]


def layers(*sizes):
    """Shapes w0, b0, w1, ... of weights of these shapes, each with a bias."""
    named = [{f"w{i}": size, f"b{i}": size[-1:]} for i, size in enumerate(sizes)]
    return {name: shape for layer in named for name, shape in layer.items()}


CASES = {
    "relu": deep(jax.nn.relu, 2, lambda s: s.Relu()),
    "erf": deep(lax.erf, 2, lambda s: s.Erf()),
    "gelu": deep(lambda x: jax.nn.gelu(x, approximate=False), 1, lambda s: s.Gelu()),
    "leaky": deep(lambda x: jax.nn.leaky_relu(x, 0.1), 2, lambda s: s.LeakyRelu(0.1)),
    "absolute": deep(jnp.abs, 2, lambda s: s.Abs()),
    "squared relu": deep(lambda x: jax.nn.relu(x) ** 2, 1, lambda s: s.RectifiedMonomial(2)),
    "sin": deep(jnp.sin, 1, lambda s: s.Sin()),
    "cos": deep(jnp.cos, 2, lambda s: s.Cos()),
    "exp": deep(lambda x: jnp.exp(0.3 * x), 1, lambda s: s.Exp(1, 0.3)),
    "gaussian": deep(lambda x: jnp.exp(-(x**2)), 1, lambda s: s.Gaussian()),
    "cube": deep(lambda x: x**3, 1, lambda s: s.Monomial(3)),
    "resnet": Case(resnet, layers((3, 16), (16, 16), (16, 16), (16, 1)), (3,), resnet_theirs),
    "layer normalization": Case(
        normalized,
        layers((3, 16), (16, 1)),
        (3,),
        lambda s: [dense(s), s.LayerNorm(eps=0.0), s.Relu(), dense(s)],
    ),
    "attention": Case(
        attention,
        layers((3, 16), (8, 1)) | {"query": (16, 4, 5), "value": (16, 4, 5), "project": (4, 5, 8)},
        (4, 3),
        attention_theirs,
    ),
    "product": Case(
        gate,
        layers((3, 16), (3, 16), (16, 16), (16, 16), (16, 1)),
        (3,),
        lambda s: [
            *branches(s, [dense(s), s.Relu(), dense(s)], [dense(s), s.Erf(), dense(s)], s.FanInProd()),
            dense(s),
        ],
    ),
    "concatenation": Case(
        joined,
        layers((3, 16), (3, 16), (32, 1)),
        (3,),
        lambda s: [*branches(s, [dense(s), s.Relu()], [dense(s), s.Erf()], s.FanInConcat(-1)), dense(s)],
    ),
    "gap": Case(
        cnn_gap,
        layers((3, 3, 2, 8), (3, 3, 8, 8), (8, 1)),
        (5, 4, 2),
        lambda s: [
            *(convolution(s, (3, 3), padding="SAME"), s.Relu(), convolution(s, (3, 3), (2, 1), "VALID"), s.Relu()),
            *(s.GlobalAvgPool(), dense(s)),
        ],
    ),
    "dropout": Case(
        dropped,
        layers((3, 3, 2, 8), (3, 3, 8, 8), (8, 1)),
        (4, 3, 2),
        lambda s: [
            *(convolution(s, (3, 3), padding="SAME"), s.Relu(), s.Dropout(0.7, mode="train")),
            *(convolution(s, (3, 3), padding="SAME"), s.Relu(), s.GlobalAvgPool(), s.Dropout(0.25, mode="train")),
            dense(s),
        ],
    ),
    "transposed convolution": Case(
        transposed,
        layers((3, 3, 2, 8), (3, 3, 8, 8), (8 * 6 * 3, 1)),
        (3, 3, 2),
        lambda s: [
            *(convolution(s, (3, 3), padding="SAME"), s.Relu()),
            *(s.ConvTranspose(1, (3, 3), (2, 1), "SAME", W_std=SIGMA_W), s.Flatten(), dense(s)),
        ],
    ),
    "linen": Case(
        LinenCNN(),
        None,
        (6, 4, 2),
        lambda s: [
            *(convolution(s, (3, 3), padding="SAME"), s.Relu(), s.AvgPool((2, 2), (2, 2))),
            *(convolution(s, (2, 2), (2, 1), "VALID"), s.Relu(), s.Dropout(0.5, mode="test"), s.Flatten(), dense(s)),
        ],
    ),
}
FAST = ("erf", "cnn, vec")


def inputs(example):
    return jnp.asarray(np.random.default_rng(0).standard_normal((5, *example)))


def agree(ours, theirs, x):
    """To 1e-10 on distinct inputs.

    On the diagonal theirs takes the angle of an input with itself from a rounded correlation, √(8 ε) at most, or from
    none (NaN, of the squared ReLU): ours, at correlation 1 exactly, may differ by 1/π of that a layer, of which there
    are three or more.
    """
    stax = neural_tangents.load().stax
    with relaxed_promotion(), warnings.catch_warnings(action="ignore"):  # FanInSum warns that it trusts its user
        expected = stax.serial(*theirs(stax))[2](x, None, ("nngp", "ntk"))
    for kernel in ("nngp", "ntk"):
        one, two = (np.asarray(getattr(both, kernel)) for both in (ours, expected))
        same = np.eye(len(x), dtype=bool)
        assert (np.abs(one - two) <= 1e-10 * np.abs(two))[~same].all(), kernel
        assert (~(np.abs(one - two) > 3 / np.pi * np.sqrt(8 * np.finfo(float).eps) * np.abs(two)))[same].all(), kernel
        assert np.isfinite(one).all()


def law(path, shape):
    """Of queries and values the fan-in is the first axis, the others are heads and channels; no bias in BatchNorm."""
    split = path.startswith(("query", "value"))
    if "BatchNorm" in path and path.endswith("bias"):  # theirs has none
        return infinite.Moments(0.0, 0.0, 0.0)
    return prior.ntk(SIGMA_W, SIGMA_B)(path, (shape[0], 1) if split else shape)


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_both_kernels_are_those_of_neural_tangents(name, float64):
    """Of networks as they are written."""
    case = CASES[name]
    x = inputs(case.example)
    tree = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, x.dtype), case.shapes, is_leaf=lambda s: isinstance(s, tuple))
    network = case.f if tree is None else as_written(case.f)
    with relaxed_promotion():  # Flax's pooling mixes integers and floats
        ours = infinite.limit(network, tree, x, prior=law).both(x)
    agree(ours, case.theirs, x)


def myrtle(stages):
    """Convolutions with ReLU, and a pooling after each stage."""

    def theirs(s):
        pair = [convolution(s, (3, 3), padding="SAME"), s.Relu()]
        pooled = [part for count in stages for part in [*pair * count, s.AvgPool((2, 2), (2, 2))]]
        return [*pooled, s.GlobalAvgPool(), dense(s)]

    return theirs


def plain(*head):
    """Two convolutions with ReLU and a head."""
    return lambda s: [
        *[convolution(s, (3, 3), padding="SAME"), s.Relu()] * 2,
        *(part(s) for part in head),
        dense(s),
    ]


READY = {
    "cnn, gap": (infinite.cnn(2, "relu", SIGMA_W, SIGMA_B), plain(lambda s: s.GlobalAvgPool())),
    "cnn, flatten": (infinite.cnn(2, "relu", SIGMA_W, SIGMA_B, head="flatten"), plain(lambda s: s.Flatten())),
    "cnn, vec": (
        infinite.cnn(2, "relu", SIGMA_W, SIGMA_B, head="vec"),
        plain(lambda s: s.AvgPool((2, 2), (2, 2)), lambda s: s.Flatten()),
    ),
    "myrtle 5": (infinite.myrtle(5, "relu", SIGMA_W, SIGMA_B), myrtle((2, 1, 1))),
    "myrtle 7": (infinite.myrtle(7, "relu", SIGMA_W, SIGMA_B), myrtle((2, 2, 2))),
    "myrtle 10": (infinite.myrtle(10, "relu", SIGMA_W, SIGMA_B), myrtle((3, 3, 3))),
}


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in READY])
@pytest.mark.slow
def test_ready_networks_are_those_of_neural_tangents(name, float64):
    """Of images."""
    network, theirs = READY[name]
    x = inputs((8, 8, 2))[:3]
    agree(network.both(x), theirs, x)
