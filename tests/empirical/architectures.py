"""Small networks of many kinds, as plain functions of a list or dict of arrays; each with the leaves that fall back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from conftest import relaxed_promotion
from jax import lax


class Network(NamedTuple):
    """network(params, x), shapes of params and of one example, and the number of leaves that may fall back."""

    network: Callable[..., Any]
    shapes: Any
    example: tuple[int, ...]
    fallbacks: int = 0
    integers: int = 0

    def f(self, params: Any, x: Any) -> Any:
        """The network as a user writes it, with NumPy's promotion."""
        with relaxed_promotion():
            return self.network(params, x)


def dense(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    h = jnp.tanh(h @ p["w2"] / jnp.sqrt(jnp.asarray(6.0, h.dtype)) + p["b2"])
    return h @ p["w3"] + p["b3"]


def transposed_dense(p, x):
    return (p["w2"] @ jnp.tanh(p["w1"] @ x.T)).T


def einsum_layouts(p, x):
    h = jnp.einsum("bti,iho->bhto", x, p["w1"])
    h = jnp.tanh(jnp.einsum("bhto,hoc->bthc", h, p["w2"]))
    return jnp.einsum("bthc,kch->bk", h, p["w3"])


def conv(p, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    h = lax.conv_general_dilated(x, p["k1"], (1, 1), "SAME", dimension_numbers=numbers) + p["b1"]
    h = lax.conv_general_dilated(jax.nn.relu(h), p["k2"], (2, 1), ((1, 0), (2, 1)), dimension_numbers=numbers)
    return jnp.tanh(h).mean((1, 2)) @ p["w"]


def conv_dilated_grouped(p, x):
    h = lax.conv_general_dilated(x, p["k1"], (1, 2), "VALID", rhs_dilation=(2, 1), feature_group_count=2)
    return jnp.tanh(h).reshape(h.shape[0], -1) @ p["w"]


def depthwise(p, x):
    h = lax.conv_general_dilated(
        x, p["k1"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )
    return jnp.tanh(h).mean((1, 2)) @ p["w"]


def transposed_conv(p, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    h = lax.conv_transpose(x, p["k1"], (2, 2), "SAME", dimension_numbers=numbers)
    h = lax.conv_transpose(jnp.tanh(h), p["k2"], (2, 1), "VALID", dimension_numbers=numbers, transpose_kernel=True)
    return jnp.tanh(h).mean((1, 2))


def conv_one_dimension(p, x):
    h = lax.conv_general_dilated(x, p["k1"], (1,), ((2, 0),), dimension_numbers=("NTC", "TIO", "NTC"))
    return jnp.tanh(h).max(1) @ p["w"]


def attention(p, x):
    heads = lambda w: jnp.einsum("btc,chd->bhtd", x, w)  # noqa: E731
    scores = heads(p["q"]) @ heads(p["k"]).swapaxes(-1, -2) / 2.0
    mixed = jax.nn.softmax(scores, axis=-1) @ heads(p["v"])
    return jnp.einsum("bhtd,hdc->btc", mixed, p["o"]).mean(1)


def fused_attention(p, x):
    q, k, v = jnp.split(x @ p["qkv"] + p["b"], 3, axis=-1)
    return (jax.nn.softmax(q @ k.swapaxes(-1, -2), axis=-1) @ v)[:, 0]


def split_parameter(p, x):
    q, k = p["w"][:, :3], p["w"][:, 3:]
    return jnp.tanh(x @ q) * (x @ k)


def layer_norm(p, x):
    h = x @ p["w1"]
    h = (h - h.mean(-1, keepdims=True)) * lax.rsqrt(h.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["shift"]
    return jnp.tanh(h) @ p["w2"]


def batch_norm(p, x):
    h = (x @ p["w1"] - jnp.linspace(-1.0, 1.0, 5, dtype=x.dtype)) / jnp.linspace(1.0, 2.0, 5, dtype=x.dtype)
    return jnp.tanh(h * p["scale"] + p["shift"]) @ p["w2"]


def embedding(p, x):
    return jnp.tanh(p["table"][x].mean(1) @ p["w1"]) @ p["w2"]


def embedding_by_vmap(p, x):
    """Rows looked up one by one, some out of range, and a table of numbers, as eqx.nn.Embedding does it."""

    def sentence(tokens):
        hidden = jax.vmap(lambda token: jnp.tanh(p["table"][token + 1]) * p["scale"][token])(tokens)
        return jnp.tanh(hidden.sum(axis=0) @ p["w1"]) @ p["w2"]

    return jax.vmap(sentence)(x)


def tied_embedding(p, x):
    return jnp.tanh(p["table"][x].mean(1)) @ p["table"].T


def twice_used(p, x):
    return jnp.tanh(jnp.tanh(x @ p["w"]) @ p["w"]) @ p["w"]


def tied_transpose(p, x):
    return jnp.tanh(x @ p["w"]) @ p["w"].T


def scan_over_layers(p, x):
    step = lambda h, layer: (jnp.tanh(h @ layer["w"] + layer["b"]), None)  # noqa: E731
    return lax.scan(step, x, p["layers"])[0] @ p["out"]


def scan_over_conv_layers(p, x):
    def step(h, kernel):
        return jnp.tanh(lax.conv_general_dilated(h, kernel, (1, 1), "SAME")), None

    return lax.scan(step, x, p["k"])[0].mean((2, 3))


def remat(p, x):
    block = jax.checkpoint(lambda w, h: h + jnp.tanh(h @ w))
    return block(p["w2"], block(p["w1"], x)) @ p["w3"]


def residual(p, x):
    h = x + jax.nn.relu(x @ p["w1"])
    return (h + jax.nn.gelu(h @ p["w2"])) @ p["w3"]


def concatenation(p, x):
    h = jnp.concatenate([x, jnp.tanh(x @ p["w1"])], axis=-1)
    return jnp.concatenate([h, jnp.sin(h @ p["w2"])], axis=-1) @ p["w3"]


def rnn_by_scan(p, x):
    def step(h, token):
        return jnp.tanh(h @ p["w"] + token @ p["u"] + p["b"]), h

    last, states = lax.scan(step, jnp.zeros((x.shape[0], 4), x.dtype), x.swapaxes(0, 1), reverse=True)
    return (last + states.sum(0)) @ p["v"]


def rnn_unrolled(p, x):
    h = jnp.zeros((x.shape[0], 4), x.dtype)
    for t in range(x.shape[1]):
        h = jnp.tanh(h @ p["w"] + x[:, t] @ p["u"])
    return h @ p["v"]


def conditional(p, x):
    def one(x):
        return lax.cond(x.sum() > 0, lambda w1, w2: jnp.tanh(x @ w1), lambda w1, w2: x @ w2, p["w1"], p["w2"])

    return lax.map(one, x)


@jax.custom_vjp
def custom_dense(w, x):
    return x @ w


custom_dense.defvjp(lambda w, x: (x @ w, (w, x)), lambda res, g: (res[1].T @ g, g @ res[0].T))


@jax.custom_jvp
def custom_layer(w, x):
    return jnp.tanh(x @ w)


@custom_layer.defjvp
def _custom_layer_jvp(primals, tangents):
    (w, x), (dw, dx) = primals, tangents
    out = jnp.tanh(x @ w)
    return out, (1 - out**2) * (x @ dw + dx @ w)


def custom_rules(p, x):
    return custom_dense(p["w2"], custom_layer(p["w1"], x)) + jax.nn.silu(x @ p["w3"])


@jax.custom_vjp
def straight_through(w, x):
    return x @ jnp.sign(w)


straight_through.defvjp(lambda w, x: (x @ jnp.sign(w), (w, x)), lambda res, g: (res[1].T @ g, g @ jnp.sign(res[0]).T))


def binary_weights(p, x):
    return jnp.tanh(straight_through(p["w1"], x)) @ p["w2"]


def weight_norm(p, x):
    w = p["v"] / jnp.sqrt((p["v"] ** 2).sum(0, keepdims=True)) * p["g"]
    return jnp.tanh(x @ w) @ p["w"]


def masked_weights(p, x):
    return jnp.tanh(x @ (p["w1"] * jnp.tril(jnp.ones((5, 5), x.dtype)))) @ p["w2"]


def scaled_weights(p, x):
    return jnp.tanh(-p["gain"] * (x @ (p["w1"] * 0.3 / 2.0)) + x @ (p["w1"].T * p["gain"])[:, :4]) @ p["w2"].reshape(
        4, 3
    )


def image_output(p, x):
    return lax.conv_general_dilated(jnp.tanh(x), p["k"], (1, 1), "SAME")


def gated_product(p, x):
    return (x @ (p["a"] @ p["b"])) * jax.nn.sigmoid(x @ p["c"])


NETWORKS = {
    "dense": Network(dense, {"w1": (5, 6), "b1": (6,), "w2": (6, 6), "b2": (6,), "w3": (6, 3), "b3": (3,)}, (5,)),
    "dense, parameter on the left": Network(transposed_dense, {"w1": (6, 5), "w2": (3, 6)}, (5,)),
    "einsum layouts": Network(einsum_layouts, {"w1": (3, 2, 4), "w2": (2, 4, 3), "w3": (2, 3, 2)}, (5, 3)),
    "conv": Network(conv, {"k1": (3, 3, 2, 4), "b1": (4,), "k2": (2, 3, 4, 3), "w": (3, 2)}, (6, 5, 2)),
    "conv, dilated and grouped": Network(conv_dilated_grouped, {"k1": (6, 2, 2, 3), "w": (48, 2)}, (4, 6, 5)),
    "depthwise conv": Network(depthwise, {"k1": (3, 3, 1, 8), "w": (8, 2)}, (5, 5, 4)),
    "transposed conv": Network(transposed_conv, {"k1": (3, 3, 2, 3), "k2": (2, 3, 2, 3)}, (4, 3, 2)),
    "conv in one dimension": Network(conv_one_dimension, {"k1": (3, 2, 4), "w": (4, 2)}, (6, 2)),
    "attention": Network(attention, {"q": (4, 2, 3), "k": (4, 2, 3), "v": (4, 2, 3), "o": (2, 3, 4)}, (5, 4)),
    "fused attention": Network(fused_attention, {"qkv": (4, 12), "b": (12,)}, (5, 4)),
    "split parameter": Network(split_parameter, {"w": (4, 6)}, (4,)),
    "layer norm": Network(layer_norm, {"w1": (4, 5), "scale": (5,), "shift": (5,), "w2": (5, 3)}, (4,)),
    "batch norm in inference": Network(batch_norm, {"w1": (4, 5), "scale": (5,), "shift": (5,), "w2": (5, 3)}, (4,)),
    "embedding": Network(embedding, {"table": (7, 4), "w1": (4, 5), "w2": (5, 3)}, (6,), integers=7),
    "embedding by vmap": Network(
        embedding_by_vmap, {"table": (7, 4), "scale": (7,), "w1": (4, 5), "w2": (5, 3)}, (6,), integers=7
    ),
    "tied embedding": Network(tied_embedding, {"table": (70, 4)}, (3,), integers=70),
    "one weight used three times": Network(twice_used, {"w": (4, 4)}, (4,)),
    "weight and its transpose": Network(tied_transpose, {"w": (4, 5)}, (4,)),
    "scan over layers": Network(scan_over_layers, {"layers": {"w": (3, 4, 4), "b": (3, 4)}, "out": (4, 2)}, (4,)),
    "scan over conv layers": Network(scan_over_conv_layers, {"k": (3, 2, 2, 3, 3)}, (2, 4, 4)),
    "remat": Network(remat, {"w1": (4, 4), "w2": (4, 4), "w3": (4, 2)}, (4,)),
    "residual": Network(residual, {"w1": (4, 4), "w2": (4, 4), "w3": (4, 2)}, (4,)),
    "concatenation": Network(concatenation, {"w1": (4, 3), "w2": (7, 2), "w3": (9, 2)}, (4,)),
    "RNN by scan": Network(rnn_by_scan, {"w": (4, 4), "u": (3, 4), "b": (4,), "v": (4, 2)}, (5, 3)),
    "RNN unrolled": Network(rnn_unrolled, {"w": (4, 4), "u": (3, 4), "v": (4, 2)}, (5, 3)),
    "cond": Network(conditional, {"w1": (4, 3), "w2": (4, 3)}, (4,)),
    "custom rules": Network(custom_rules, {"w1": (4, 5), "w2": (5, 3), "w3": (4, 3)}, (4,)),
    "binary weights, straight through": Network(binary_weights, {"w1": (4, 5), "w2": (5, 3)}, (4,), fallbacks=1),
    "weight norm": Network(weight_norm, {"v": (4, 5), "g": (5,), "w": (5, 2)}, (4,), fallbacks=1),
    "masked weights": Network(masked_weights, {"w1": (5, 5), "w2": (5, 2)}, (5,), fallbacks=1),
    "scaled weights": Network(scaled_weights, {"w1": (4, 4), "gain": (), "w2": (12,)}, (4,), fallbacks=1),
    "image output": Network(image_output, {"k": (2, 3, 3, 3)}, (3, 4, 4)),
    "product of parameters": Network(gated_product, {"a": (4, 2), "b": (2, 3), "c": (4, 3)}, (4,), fallbacks=1),
}


def draw(network: Network, key: Any, n: int, dtype: Any) -> tuple[Any, Any]:
    """Parameters and n examples from a standard normal (or uniform integers), by NumPy: nothing to compile."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    normal = lambda shape: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    params = jax.tree.map(normal, network.shapes, is_leaf=lambda s: isinstance(s, tuple))
    shape = (n, *network.example)
    return params, jnp.asarray(rng.integers(network.integers, size=shape)) if network.integers else normal(shape)
