"""Against neural-tangents 0.6.5, in float64: networks as a user writes them against its combinators."""

import contextlib
import itertools
import warnings

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


def conv(x, w, b, strides=(1, 1), padding="SAME"):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC) + b


class LinenCNN(nn.Module):
    """As a user writes it."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(8, (2, 2), (2, 1), padding="VALID")(x))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))


def mlp(phi, depth):
    def f(p, x):
        for layer in p["hidden"]:
            x = phi(x @ layer["w"] + layer["b"])
        return x @ p["out"]["w"] + p["out"]["b"]

    widths = [3, *[16] * depth]
    hidden = [{"w": (a, b), "b": (b,)} for a, b in itertools.pairwise(widths)]
    return f, {"hidden": hidden, "out": {"w": (16, 1), "b": (1,)}}


def resnet(p, x):
    h = x @ p["w0"] + p["b0"]
    for i in "12":
        h = h + jax.nn.relu(h) @ p["w" + i] + p["b" + i]
    return jax.nn.relu(h) @ p["w3"] + p["b3"]


def cnn_gap(p, x):
    h = jax.nn.relu(conv(x, p["w0"], p["b0"]))
    return jax.nn.relu(conv(h, p["w1"], p["b1"], (2, 1), "VALID")).mean((1, 2)) @ p["w2"] + p["b2"]


def shapes(tree):
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float64), tree, is_leaf=lambda s: isinstance(s, tuple))


def dense(stax):
    return stax.Dense(1, SIGMA_W, SIGMA_B)


def layers(stax, name):
    """The same network of neural-tangents."""
    d, c = dense(stax), lambda *a, **k: stax.Conv(1, *a, W_std=SIGMA_W, b_std=SIGMA_B, **k)
    block = stax.serial(stax.FanOut(2), stax.parallel(stax.Identity(), stax.serial(stax.Relu(), d)), stax.FanInSum())
    return {
        "relu": lambda: stax.serial(d, stax.Relu(), d, stax.Relu(), d),
        "erf": lambda: stax.serial(d, stax.Erf(), d, stax.Erf(), d),
        "gelu": lambda: stax.serial(d, stax.Gelu(), d),
        "leaky": lambda: stax.serial(d, stax.LeakyRelu(0.1), d, stax.LeakyRelu(0.1), d),
        "sin": lambda: stax.serial(d, stax.Sin(), d),
        "resnet": lambda: stax.serial(d, block, block, stax.Relu(), d),
        "gap": lambda: stax.serial(
            c((3, 3), padding="SAME"), stax.Relu(), c((3, 3), (2, 1), "VALID"), stax.Relu(), stax.GlobalAvgPool(), d
        ),
        "linen": lambda: stax.serial(
            c((3, 3), padding="SAME"), stax.Relu(), stax.AvgPool((2, 2), (2, 2)), c((2, 2), (2, 1), "VALID"),
            stax.Relu(), stax.Flatten(), d,
        ),
    }[name]()  # fmt: skip


OURS = {
    "relu": (*mlp(jax.nn.relu, 2), (3,)),
    "erf": (*mlp(lax.erf, 2), (3,)),
    "gelu": (*mlp(lambda x: jax.nn.gelu(x, approximate=False), 1), (3,)),
    "leaky": (*mlp(lambda x: jax.nn.leaky_relu(x, 0.1), 2), (3,)),
    "sin": (*mlp(jnp.sin, 1), (3,)),
    "resnet": (
        resnet,
        {
            "w0": (3, 16),
            "b0": (16,),
            "w1": (16, 16),
            "b1": (16,),
            "w2": (16, 16),
            "b2": (16,),
            "w3": (16, 1),
            "b3": (1,),
        },
        (3,),
    ),
    "gap": (
        cnn_gap,
        {"w0": (3, 3, 2, 8), "b0": (8,), "w1": (3, 3, 8, 8), "b1": (8,), "w2": (8, 1), "b2": (1,)},
        (5, 4, 2),
    ),
    "linen": (LinenCNN(), None, (6, 4, 2)),
}


FAST = ("erf",)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in OURS]
)
def test_both_kernels_are_those_of_neural_tangents(name, float64):
    """To 1e-10 on distinct inputs and on the diagonal."""
    f, tree, example = OURS[name]
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, *example)))
    params = None if tree is None else shapes(tree)
    with (
        relaxed_promotion() if params is None else contextlib.nullcontext()
    ):  # Flax's pooling mixes integers and floats
        network = f if params is None else as_written(f)
        ours = infinite.limit(network, params, x, prior=prior.ntk(SIGMA_W, SIGMA_B), check_width=False).both(x)
    stax = neural_tangents.load().stax
    with relaxed_promotion(), warnings.catch_warnings(action="ignore"):  # FanInSum warns that it trusts its user
        theirs = layers(stax, name)[2](x, None, ("nngp", "ntk"))

    for kernel in ("nngp", "ntk"):
        expected = np.asarray(getattr(theirs, kernel))
        assert (np.abs(np.asarray(getattr(ours, kernel)) - expected) <= 1e-10 * np.abs(expected)).all()
