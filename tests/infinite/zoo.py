"""Networks of many kinds as plain functions; `n` in their shapes is the width."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from conftest import relaxed_promotion
from jax import lax

NHWC = ("NHWC", "HWIO", "NHWC")


def as_written(f):
    """A network with NumPy's promotion, as its user writes it."""

    def network(params, x):
        with relaxed_promotion():
            return f(params, x)

    return network


class Network(NamedTuple):
    """f(params, x); shapes of params at width n with o outputs; shape of an example; number of tokens if integer."""

    f: Callable[..., Any]
    shapes: Callable[[int, int], Any]
    example: tuple[int, ...]
    tokens: int = 0


def mlp(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    h = jnp.tanh(h @ p["w2"] + p["b2"])
    return h @ p["w3"] + p["b3"]


def mlp_shapes(n, o):
    return {"w1": (3, n), "b1": (n,), "w2": (n, n), "b2": (n,), "w3": (n, o), "b3": (o,)}


def left_weights(p, x):
    return (p["w2"] @ jax.nn.gelu(p["w1"] @ x.T, approximate=False)).T


def residual(p, x):
    h = x @ p["w0"]
    for w in (p["w1"], p["w2"]):
        h = h + jax.nn.silu(h) @ w
    return (h + jax.nn.softplus(h)) @ p["w3"]


def activation_after_activation(p, x):
    return jnp.sin(jax.nn.relu(x @ p["w1"]) - 0.3) @ p["w2"]


def gated(p, x):
    h = (x @ p["a"]) * jax.nn.sigmoid(x @ p["b"])
    return (jnp.tanh(h @ p["w"]) * (h @ p["v"])) @ p["o"]


def scanned(p, x):
    step = lambda h, layer: (h + jnp.tanh(h @ layer["w"] + layer["b"]) @ layer["v"], None)  # noqa: E731
    return jax.nn.relu(lax.scan(step, x @ p["w0"], p["layers"])[0]) @ p["o"]


def scanned_mlp(p, x):
    step = lambda h, w: (jax.nn.relu(h) @ w, None)  # noqa: E731
    return lax.scan(step, x @ p["w0"], p["w"])[0] @ p["o"]


def remat_and_jit(p, x):
    block = jax.checkpoint(jax.jit(lambda w, h: h + jnp.tanh(h @ w)))
    return block(p["w2"], x @ p["w1"]) @ p["o"]


@jax.custom_vjp
def dense(w, x):
    return x @ w


dense.defvjp(lambda w, x: (x @ w, (w, x)), lambda res, g: (res[1].T @ g, g @ res[0].T))


def custom_rules(p, x):
    return dense(p["w2"], jax.nn.selu(dense(p["w1"], x)))


def layer_norm(h, scale, shift, axes=(-1,)):
    mean = h.mean(axes, keepdims=True)
    variance = jnp.mean((h - mean) ** 2, axes, keepdims=True)
    return (h - mean) * lax.rsqrt(variance + 1e-6) * scale + shift


def normalized(p, x):
    h = layer_norm(x @ p["w1"], p["scale"], p["b1"])
    h = layer_norm(jax.nn.relu(h) @ p["w2"] + h, p["2"]["scale"], p["2"]["b"])
    return jnp.tanh(h) @ p["o"]


def normalized_after_relu(p, x):
    h = layer_norm(jax.nn.relu(x @ p["w1"]), p["scale"], p["b1"])
    return jax.nn.relu(h @ p["w2"]) @ p["o"]


def rms_norm(p, x):
    h = jax.nn.relu(x @ p["w1"])
    return (h * lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + 1e-6) * p["scale"]) @ p["o"]


def group_norm(p, x):
    h = lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=NHWC)
    g = h.reshape(*h.shape[:-1], 4, -1)
    mean, square = g.mean((1, 2, 4), keepdims=True), (g**2).mean((1, 2, 4), keepdims=True)
    h = ((g - mean) / jnp.sqrt(square - mean**2 + 1e-6)).reshape(h.shape) * p["scale"] + p["b"]
    return jax.nn.relu(h).mean((1, 2)) @ p["o"]


def batch_norm_in_inference(p, x):
    n = p["w1"].shape[1]
    h = (x @ p["w1"] - jnp.full(n, 0.2, x.dtype)) / jnp.sqrt(jnp.full(n, 1.5, x.dtype)) * p["scale"] + p["b1"]
    return jax.nn.relu(h) @ p["o"]


def split_and_concatenated(p, x):
    h = jax.nn.relu(x @ p["w1"])
    a, b = jnp.split(jnp.tanh(h @ p["w2"] + p["b2"]), 2, axis=-1)
    h = jnp.concatenate([x, a * b, h[:, ::2]], -1)
    return jnp.sin(h @ p["w3"]) @ p["o"]


def conv_flat(p, x):
    h = jax.nn.relu(lax.conv_general_dilated(x, p["k1"], (1, 1), "SAME", dimension_numbers=NHWC) + p["b1"])
    h = lax.conv_general_dilated(h, p["k2"], (2, 1), ((1, 0), (2, 1)), rhs_dilation=(1, 2), dimension_numbers=NHWC)
    return jnp.tanh(h).reshape(x.shape[0], -1) @ p["o"]


def conv_shapes(n, o):
    return {"k1": (3, 3, 2, n), "b1": (n,), "k2": (2, 2, n, n), "o": (2 * 6 * n, o)}


def conv_pooled(p, x):
    h = jax.nn.relu(lax.conv_general_dilated(x, p["k1"], (1, 1), "VALID", dimension_numbers=NHWC) + p["b1"])
    h = lax.reduce_window(h, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 1, 1), "VALID") / 4.0
    h = jnp.tanh(lax.conv_general_dilated(h, p["k2"], (1, 1), "SAME", dimension_numbers=NHWC))
    return h.mean((1, 2)) @ p["o"]


def conv_groups(p, x):
    x = jnp.concatenate([x, x[..., ::-1]], -1)
    h = lax.conv_general_dilated(x, p["k1"], (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=2)
    h = jax.nn.relu(h)
    h = lax.conv_general_dilated(h, p["k2"], (2, 2), "SAME", dimension_numbers=NHWC, feature_group_count=2)
    return jnp.tanh(h).mean((1, 2)) @ p["o"]


def depthwise(p, x):
    h = jax.nn.relu(lax.conv_general_dilated(x, p["k1"], (1, 1), "SAME", dimension_numbers=NHWC))
    n = h.shape[-1]
    h = lax.conv_general_dilated(h, p["k2"], (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=n)
    h = jax.nn.relu(jnp.einsum("bhwc,cd->bhwd", h, p["w"]))
    return h.mean((1, 2)) @ p["o"]


def transposed_conv(p, x):
    h = lax.conv_transpose(x, p["k1"], (2, 2), "SAME", dimension_numbers=NHWC)
    h = lax.conv_transpose(jnp.tanh(h), p["k2"], (2, 1), "VALID", dimension_numbers=NHWC)
    return jnp.tanh(h).reshape(x.shape[0], -1) @ p["o"]


def bordered(p, x):
    h = jax.nn.relu(lax.conv_general_dilated(x, p["k1"], (1, 1), "VALID", dimension_numbers=NHWC))
    h = jnp.pad(h, ((0, 0), (1, 0), (0, 2), (0, 0)), constant_values=0.7)
    h = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return jnp.tanh(lax.conv_general_dilated(h, p["k2"], (2, 1), "VALID", dimension_numbers=NHWC)).mean((1, 2)) @ p["o"]


def channels_first(p, x):
    h = lax.conv_general_dilated(
        x.transpose(0, 3, 1, 2), p["k1"], (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
    )
    h = jax.nn.relu(h + p["b1"][:, None, None])[:, :, 1:, ::2]
    return jnp.pad(h, ((0, 0), (0, 0), (1, 0), (0, 1))).sum((2, 3)) @ p["o"]


def embedding(p, x):
    h = p["embedding"][x] + p["pos"]
    return jnp.tanh(h.mean(1) @ p["w"]) @ p["o"]


def rnn(p, x):
    def step(h, token):
        return jnp.tanh(h @ p["w"] + token @ p["u"] + p["b"]), None

    return lax.scan(step, jnp.zeros((x.shape[0], p["w"].shape[0]), x.dtype), x.swapaxes(0, 1))[0] @ p["o"]


def rnn_all_states(p, x):
    def step(h, token):
        h = jnp.tanh(h @ p["w"] + token @ p["u"] + p["b"])
        return h, h

    _, states = lax.scan(step, jnp.zeros((x.shape[0], p["w"].shape[0]), x.dtype), x.swapaxes(0, 1), reverse=True)
    return states.sum(0) @ p["o"]


def siamese(p, x):
    h = lambda z: jax.nn.relu(z @ p["w"] + p["b"])  # noqa: E731
    return (h(x[:, 0]) - 0.5 * h(x[:, 1])) @ p["o"]


def tied_attention(p, x):
    q = jnp.einsum("btc,chd->bthd", x, p["q"])
    v = jnp.einsum("btc,chd->bthd", x, p["v"])
    scores = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, q) / q.shape[-1], -1)
    h = jnp.einsum("bhts,bshd,hdc->btc", scores, v, p["w"])
    return jax.nn.relu(h)[:, 0] @ p["o"]


def fused_attention(p, x):
    h = jnp.concatenate([jnp.broadcast_to(p["cls"], (x.shape[0], 1, p["cls"].shape[-1])), x @ p["w0"]], 1) + p["pos"]
    q, k, v = jnp.split(h @ p["qkv"], 3, axis=-1)
    a = jax.nn.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1], axis=-1)
    h = h + (a @ v) @ p["w"]
    return layer_norm(h, p["scale"], p["b"])[:, 0] @ p["o"]


_TWO = lambda n, o: {"w1": (3, n), "w2": (n, o)}  # noqa: E731
_NORM = lambda n, o: {"w1": (3, n), "scale": (n,), "b1": (n,), "w2": (n, n), "o": (n, o)}  # noqa: E731
_RNN = lambda n, o: {"w": (n, n), "u": (2, n), "b": (n,), "o": (n, o)}  # noqa: E731

NETWORKS = {
    "mlp": Network(mlp, mlp_shapes, (3,)),
    "weights on the left": Network(left_weights, lambda n, o: {"w1": (n, 3), "w2": (o, n)}, (3,)),
    "residual, with non-Gaussian branches": Network(
        residual, lambda n, o: {"w0": (3, n), "w1": (n, n), "w2": (n, n), "w3": (n, o)}, (3,)
    ),
    "activation after activation": Network(activation_after_activation, _TWO, (3,)),
    "gated": Network(
        gated, lambda n, o: {"a": (3, n), "b": (3, n), "w": (n, n), "v": (n, n), "o": (n, o)}, (3,)
    ),
    "residual by scan": Network(
        scanned,
        lambda n, o: {"w0": (3, n), "layers": {"w": (3, n, n), "b": (3, n), "v": (3, n, n)}, "o": (n, o)},
        (3,),
    ),
    "mlp by scan": Network(scanned_mlp, lambda n, o: {"w0": (3, n), "w": (4, n, n), "o": (n, o)}, (3,)),
    "remat and jit": Network(remat_and_jit, lambda n, o: {"w1": (3, n), "w2": (n, n), "o": (n, o)}, (3,)),
    "custom rules": Network(custom_rules, _TWO, (3,)),
    "layer norm": Network(
        normalized,
        lambda n, o: {
            "w1": (3, n), "scale": (n,), "b1": (n,), "w2": (n, n), "2": {"scale": (n,), "b": (n,)}, "o": (n, o),
        },
        (3,),
    ),
    "layer norm after relu": Network(normalized_after_relu, _NORM, (3,)),
    "rms norm": Network(rms_norm, lambda n, o: {"w1": (3, n), "scale": (n,), "o": (n, o)}, (3,)),
    "group norm": Network(
        group_norm, lambda n, o: {"k": (3, 3, 2, n), "scale": (n,), "b": (n,), "o": (n, o)}, (4, 3, 2)
    ),
    "batch norm in inference": Network(
        batch_norm_in_inference, lambda n, o: {"w1": (3, n), "scale": (n,), "b1": (n,), "o": (n, o)}, (3,)
    ),
    "split and concatenated": Network(
        split_and_concatenated,
        lambda n, o: {"w1": (3, n), "w2": (n, n), "b2": (n,), "w3": (3 + n // 2 + n // 2, n), "o": (n, o)},
        (3,),
    ),
    "conv, flattened": Network(conv_flat, conv_shapes, (4, 5, 2)),
    "conv, pooled": Network(
        conv_pooled, lambda n, o: {"k1": (3, 3, 2, n), "b1": (n,), "k2": (3, 3, n, n), "o": (n, o)}, (6, 5, 2)
    ),
    "grouped conv": Network(
        conv_groups, lambda n, o: {"k1": (3, 3, 2, n), "k2": (3, 3, n // 2, n), "o": (n, o)}, (4, 4, 2)
    ),
    "depthwise conv": Network(
        depthwise, lambda n, o: {"k1": (3, 3, 2, n), "k2": (3, 3, 1, n), "w": (n, n), "o": (n, o)}, (4, 3, 2)
    ),
    "transposed conv": Network(
        transposed_conv, lambda n, o: {"k1": (3, 3, 2, n), "k2": (2, 3, n, n), "o": (12 * 8 * n, o)}, (3, 3, 2)
    ),
    "borders of numbers and of edges": Network(
        bordered, lambda n, o: {"k1": (2, 2, 2, n), "k2": (3, 3, n, n), "o": (n, o)}, (4, 4, 2)
    ),
    "channels first": Network(
        channels_first, lambda n, o: {"k1": (n, 2, 3, 3), "b1": (n,), "o": (n, o)}, (4, 4, 2)
    ),
    "embedding": Network(
        embedding, lambda n, o: {"embedding": (7, n), "pos": (5, n), "w": (n, n), "o": (n, o)}, (5,), tokens=7
    ),
    "rnn": Network(rnn, _RNN, (4, 2)),
    "rnn, all states": Network(rnn_all_states, _RNN, (3, 2)),
    "siamese": Network(siamese, lambda n, o: {"w": (3, n), "b": (n,), "o": (n, o)}, (2, 3)),
    "tied attention": Network(
        tied_attention,
        lambda n, o: {"q": (3, 2, n), "v": (3, 2, n), "w": (2, n, n), "o": (n, o)},
        (4, 3),
    ),
    "fused attention": Network(
        fused_attention,
        lambda n, o: {
            "cls": (1, 1, n), "w0": (3, n), "pos": (4, n), "qkv": (n, 3 * n), "w": (n, n),
            "scale": (n,), "b": (n,), "o": (n, o),
        },
        (3, 3),
    ),
}  # fmt: skip
