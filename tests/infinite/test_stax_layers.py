"""The layers of neural-tangents that no other test has: each with its default options, against ours in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from conftest import relaxed_promotion
from infinite.test_neural_tangents import (
    Case,
    agree,
    conv,
    convolution,
    deep,
    dense,
    inputs,
    law,
    layers,
)
from infinite.zoo import as_written
from jax import lax

from jaxtheory import infinite

IMAGE, WIDTHS = (4, 3, 2), ((3, 3, 2, 8), (3, 3, 8, 8), (8, 1))


def two_convolutions(between, head, widths=WIDTHS):
    """A network of two convolutions with something between them, and a head before its readout."""

    def f(p, x):
        h = jax.nn.relu(conv(x, p["w0"], p["b0"]))
        h = jax.nn.relu(conv(between(h), p["w1"], p["b1"]))
        return head(h) @ p["w2"] + p["b2"]

    def theirs(layer, last):
        def network(s):
            two = [convolution(s, (3, 3), padding="SAME"), s.Relu()]
            return [*two, *layer(s), *two, *last(s), dense(s)]

        return network

    return lambda layer, last: Case(f, layers(*widths), IMAGE, theirs(layer, last))


def mean(h):
    return h.mean((1, 2))


def pooled(s):
    return [s.GlobalAvgPool()]


def local(p, x):
    """Weights of their own at each place, one filter's patches multiplied by those of that place."""
    h = jax.nn.relu(conv(x, p["w0"], p["b0"]))
    padded = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = jnp.concatenate([padded[:, i : i + 4, j : j + 3] for i in range(3) for j in range(3)], -1)
    h = jax.nn.relu(jnp.einsum("nhwc,hwcd->nhwd", patches, p["local"]) + p["bias"])
    return h.mean((1, 2)) @ p["w1"] + p["b1"]


def resized(h):
    return jax.image.resize(h, (len(h), 6, 6, h.shape[-1]), "linear")


def sums(h):
    padded = [(0, 0), (0, 0), (0, 0), (0, 0)]
    return lax.reduce_window(h, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), padded)


CASES = {
    "ABRelu": deep(lambda x: jnp.where(x < 0, 0.3 * x, 1.2 * x), 1, lambda s: s.ABRelu(0.3, 1.2)),
    "Gabor": deep(lambda x: jnp.exp(-(x**2)) * jnp.sin(x), 1, lambda s: s.Gabor()),
    "Polynomial": deep(lambda x: 0.5 + x - 0.3 * x**2, 1, lambda s: s.Polynomial((0.5, 1.0, -0.3))),
    "Rbf": deep(lambda x: 2**0.5 * jnp.sin(2**0.5 * x + jnp.pi / 4), 1, lambda s: s.Rbf()),
    "Sigmoid_like": deep(lambda x: 0.5 * lax.erf(x / 2.4020563531719796) + 0.5, 1, lambda s: s.Sigmoid_like()),
    "Sign": deep(jnp.sign, 1, lambda s: s.Sign()),
    "Elementwise": deep(
        lambda x: lax.erf(0.7 * x),
        1,
        lambda s: s.Elementwise(nngp_fn=lambda c, v, w: erf_kernel(0.7, c, v, w)),
    ),
    "ConvLocal": Case(
        local,
        layers((3, 3, 2, 8), (8, 1)) | {"local": (4, 3, 72, 8), "bias": (4, 3, 8)},
        IMAGE,
        lambda s: [
            *(convolution(s, (3, 3), padding="SAME"), s.Relu()),
            *(s.ConvLocal(1, (3, 3), padding="SAME", W_std=1.3, b_std=0.4), s.Relu(), s.GlobalAvgPool(), dense(s)),
        ],
    ),
    "ImageResize": two_convolutions(resized, mean)(
        lambda s: [s.ImageResize((-1, 6, 6, -1), "linear", antialias=True)], pooled
    ),
    "SumPool": two_convolutions(sums, mean)(lambda s: [s.SumPool((2, 2), (1, 1))], pooled),
    "GlobalSumPool": two_convolutions(lambda h: h, lambda h: h.sum((1, 2)))(
        lambda s: [s.Identity()], lambda s: [s.GlobalSumPool()]
    ),
    "Index": two_convolutions(lambda h: h[:, 1:4:2], mean)(lambda s: [s.Index(s.Slice[:, 1:4:2])], pooled),
}


def erf_kernel(scale, cov, one, two):
    """The arcsine kernel of erf(scale x)."""
    square = scale**2
    return 2 / jnp.pi * jnp.arcsin(2 * square * cov / jnp.sqrt((1 + 2 * square * one) * (1 + 2 * square * two)))


def prior_of(path, shape):
    """Biases of single places are biases; of local weights the fan-in is the patch."""
    if path == "bias":
        return infinite.Moments(0.0, 0.4**2, 0.4**2)
    return law(path, shape[2:] if path == "local" else shape)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_layers_have_the_kernels_of_neural_tangents(name, float64):
    case: Any = CASES[name]
    x = inputs(case.example)
    tree = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, x.dtype), case.shapes, is_leaf=lambda s: isinstance(s, tuple))
    with relaxed_promotion():
        ours = infinite.limit(as_written(case.f), tree, x, prior=prior_of, check_width=False).both(x)
    agree(ours, case.theirs, x)
