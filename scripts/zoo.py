"""Small networks of many architectures, each with parameters and inputs: what `benchmark_zoo` times."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MAPPED = ("NHWC", "HWIO", "NHWC")


class Draws:
    """Weights of variance 1/fan-in, tables and inputs, from one stream."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def weight(self, *shape: int) -> np.ndarray:
        """Normal entries over the root of the product of all axes but the last."""
        return self.normal(*shape) / np.float32(np.sqrt(np.prod(shape[:-1])))

    def normal(self, *shape: int) -> np.ndarray:
        """Normal entries."""
        return self.rng.standard_normal(shape).astype(np.float32)

    def tokens(self, limit: int, *shape: int) -> np.ndarray:
        """Integers below a limit."""
        return self.rng.integers(limit, size=shape).astype(np.int32)


def norm(h: jax.Array, scale: jax.Array) -> jax.Array:
    """Layer normalization without a shift."""
    centered = h - h.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-6) * scale


def attend(h: jax.Array, p: Any, heads: int, causal: bool) -> jax.Array:
    """Self-attention of h [n, t, d]."""
    n, t, d = h.shape
    q, k, v = jnp.split((h @ p["qkv"]).reshape(n, t, heads, -1), 3, axis=-1)
    scores = jnp.einsum("nthd,nshd->nhts", q, k) / (d // heads) ** 0.5
    scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9) if causal else scores
    return jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores, -1), v).reshape(n, t, d) @ p["o"]


def blocks(draw: Draws, layers: int, d: int) -> list[Any]:
    """Weights of transformer blocks."""
    return [
        {"qkv": draw.weight(d, 3 * d), "o": draw.weight(d, d), "up": draw.weight(d, 4 * d), "b": np.zeros(4 * d, "f"),
         "down": draw.weight(4 * d, d), "s": np.ones(d, "f"), "r": np.ones(d, "f")}
        for _ in range(layers)
    ]  # fmt: skip


def block(h: jax.Array, p: Any, causal: bool) -> jax.Array:
    """A pre-norm transformer block."""
    h = h + attend(norm(h, p["s"]), p, 4, causal)
    return h + jax.nn.gelu(norm(h, p["r"]) @ p["up"] + p["b"]) @ p["down"]


def mlp(draw: Draws) -> tuple[Any, ...]:
    """Three ReLU layers of width 256, 10 outputs."""
    sizes = (128, 256, 256, 10)
    params = [(draw.weight(a, b), np.zeros(b, "f")) for a, b in itertools.pairwise(sizes)]

    def f(params: Any, x: jax.Array) -> jax.Array:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ params[-1][0] + params[-1][1]

    return f, params, draw.normal(64, 128)


def language_model(draw: Draws, tied: bool = False, every: bool = False) -> tuple[Any, ...]:
    """A causal transformer of 3 layers, d = 64, vocabulary 32, 32 tokens: logits of the last token, or of all."""
    params = {"table": draw.normal(32, 64) / 8, "position": draw.normal(32, 64) / 8, "blocks": blocks(draw, 3, 64)}
    params |= {} if tied else {"out": draw.weight(64, 32)}

    def f(params: Any, x: jax.Array) -> jax.Array:
        h = params["table"][x] + params["position"]
        for p in params["blocks"]:
            h = block(h, p, causal=True)
        h = h if every else h[:, -1]
        return h @ (params["table"].T if tied else params["out"])

    return f, params, draw.tokens(32, 4 if every else 8, 32)


def vision_transformer(draw: Draws) -> tuple[Any, ...]:
    """Patches, a class token, 2 blocks of d = 64, 10 outputs."""
    params = {"patch": draw.weight(4, 4, 3, 64), "class": draw.normal(64), "blocks": blocks(draw, 2, 64),
              "out": draw.weight(64, 10)}  # fmt: skip

    def f(params: Any, x: jax.Array) -> jax.Array:
        h = jax.lax.conv_general_dilated(x, params["patch"], (4, 4), "VALID", dimension_numbers=MAPPED)
        h = h.reshape(len(x), -1, 64)
        h = jnp.concatenate([jnp.broadcast_to(params["class"], (len(x), 1, 64)), h], axis=1)
        for p in params["blocks"]:
            h = block(h, p, causal=False)
        return h[:, 0] @ params["out"]

    return f, params, draw.normal(8, 16, 16, 3)


def convolutional(draw: Draws, residual: bool = False) -> tuple[Any, ...]:
    """Three 3x3 convolutions of 32 channels on 12x12 images, pooled, 10 outputs; residual from the second on."""
    sizes = (3, 32, 32, 32)
    kernels = [draw.weight(3, 3, a, b) for a, b in itertools.pairwise(sizes)]

    def f(params: Any, x: jax.Array) -> jax.Array:
        for i, kernel in enumerate(params["kernels"]):
            h = jax.nn.relu(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=MAPPED))
            x = x + h if residual and i else h
        return x.mean((1, 2)) @ params["out"]

    return f, {"kernels": kernels, "out": draw.weight(32, 10)}, draw.normal(16, 12, 12, 3)


def mixer(draw: Draws) -> tuple[Any, ...]:
    """An MLP-mixer of 2 layers over 16 patches of 48 numbers."""
    layers = [{"t": draw.weight(16, 32), "u": draw.weight(32, 16), "c": draw.weight(48, 96), "d": draw.weight(96, 48)}
              for _ in range(2)]  # fmt: skip

    def f(params: Any, x: jax.Array) -> jax.Array:
        for p in params["layers"]:
            x = x + (jax.nn.gelu(x.swapaxes(1, 2) @ p["t"]) @ p["u"]).swapaxes(1, 2)
            x = x + jax.nn.gelu(x @ p["c"]) @ p["d"]
        return x.mean(1) @ params["out"]

    return f, {"layers": layers, "out": draw.weight(48, 10)}, draw.normal(16, 16, 48)


def unet(draw: Draws) -> tuple[Any, ...]:
    """One level down and up with a skip connection; the output is an 8x8 image."""
    params = {"a": draw.weight(3, 3, 2, 16), "b": draw.weight(3, 3, 16, 16), "c": draw.weight(3, 3, 32, 1)}

    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=MAPPED)

    def f(params: Any, x: jax.Array) -> jax.Array:
        top = jax.nn.silu(conv(x, params["a"]))
        low = top.reshape(len(x), 4, 2, 4, 2, 16).mean((2, 4))
        low = jax.nn.silu(conv(low, params["b"]))
        up = jnp.repeat(jnp.repeat(low, 2, axis=1), 2, axis=2)
        return conv(jnp.concatenate([top, up], axis=-1), params["c"])[..., 0]

    return f, params, draw.normal(8, 8, 8, 2)


def recurrent(draw: Draws) -> tuple[Any, ...]:
    """An LSTM of 48 units over 20 steps, 4 outputs."""
    params = {"x": draw.weight(8, 192), "h": draw.weight(48, 192), "b": np.zeros(192, "f"), "out": draw.weight(48, 4)}

    def f(params: Any, x: jax.Array) -> jax.Array:
        def step(state: Any, token: jax.Array) -> Any:
            h, c = state
            i, g, r, o = jnp.split(token @ params["x"] + h @ params["h"] + params["b"], 4, axis=-1)
            c = jax.nn.sigmoid(r) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((len(x), 48), x.dtype)
        return jax.lax.scan(step, (zero, zero), x.swapaxes(0, 1))[0][0] @ params["out"]

    return f, params, draw.normal(16, 20, 8)


def state_space(draw: Draws) -> tuple[Any, ...]:
    """A diagonal linear recurrence of 32 states over 32 steps between two dense layers."""
    params = {"in": draw.weight(8, 32), "decay": draw.normal(32), "out": draw.weight(32, 4)}

    def f(params: Any, x: jax.Array) -> jax.Array:
        rate = jax.nn.sigmoid(params["decay"])
        step = lambda h, u: (rate * h + u, None)  # noqa: E731
        driven = (x @ params["in"]).swapaxes(0, 1)
        return jax.nn.gelu(jax.lax.scan(step, jnp.zeros_like(driven[0]), driven)[0]) @ params["out"]

    return f, params, draw.normal(16, 32, 8)


def bag_of_words(draw: Draws) -> tuple[Any, ...]:
    """A table of 20000 words, the mean over 16 of them, 4 outputs."""
    params = {"table": draw.normal(20000, 32), "out": draw.weight(32, 4)}
    return (lambda p, x: jnp.tanh(p["table"][x]).mean(1) @ p["out"]), params, draw.tokens(20000, 16, 16)


def graph(draw: Draws) -> tuple[Any, ...]:
    """Two rounds of messages over known edges of 12 nodes, 3 outputs."""
    senders, receivers = draw.tokens(12, 40), draw.tokens(12, 40)
    params = {"a": draw.weight(8, 32), "b": draw.weight(32, 32), "out": draw.weight(32, 3)}

    def f(params: Any, x: jax.Array) -> jax.Array:
        for w in (params["a"], params["b"]):
            x = jax.nn.relu(jnp.zeros((len(x), 12, w.shape[1]), x.dtype).at[:, receivers].add((x @ w)[:, senders]))
        return x.mean(1) @ params["out"]

    return f, params, draw.normal(16, 12, 8)


def low_rank(draw: Draws) -> tuple[Any, ...]:
    """Adapters of rank 4 beside fixed weights of width 256, 10 outputs."""
    fixed = [draw.weight(256, 256) for _ in range(3)]
    params = [{"a": draw.weight(256, 4), "b": draw.normal(4, 256) / 8} for _ in range(3)]
    last = draw.weight(256, 10)

    def f(params: Any, x: jax.Array) -> jax.Array:
        for w, p in zip(fixed, params, strict=True):
            x = jax.nn.relu(x @ w + x @ p["a"] @ p["b"])
        return x @ last

    return f, params, draw.normal(32, 256)


def scanned(draw: Draws) -> tuple[Any, ...]:
    """Eight stacked dense layers of width 64 by a scan, rematerialized, 10 outputs."""
    params = {"w": np.stack([draw.weight(64, 64) for _ in range(8)]), "out": draw.weight(64, 10)}

    def f(params: Any, x: jax.Array) -> jax.Array:
        step = jax.checkpoint(lambda h, w: (h + jnp.tanh(h @ w), None))
        return jax.lax.scan(step, x, params["w"])[0] @ params["out"]

    return f, params, draw.normal(32, 64)


def fourier(draw: Draws) -> tuple[Any, ...]:
    """A Fourier operator of 2 layers of 16 channels on 32 points: 8 modes with complex weights of two real ones."""
    layers = [{"real": draw.weight(8, 16, 16), "imaginary": draw.weight(8, 16, 16), "w": draw.weight(16, 16)}
              for _ in range(2)]  # fmt: skip

    def f(params: Any, x: jax.Array) -> jax.Array:
        h = x @ params["in"]
        for p in params["layers"]:
            modes = jnp.fft.rfft(h, axis=1)[:, :8]
            modes = jnp.einsum("nki,kio->nko", modes, jax.lax.complex(p["real"], p["imaginary"]))
            h = jax.nn.gelu(jnp.fft.irfft(modes, n=h.shape[1], axis=1) + h @ p["w"])
        return (h @ params["out"])[..., 0]

    return f, {"in": draw.weight(2, 16), "layers": layers, "out": draw.weight(16, 1)}, draw.normal(8, 32, 2)


ARCHITECTURES: dict[str, Callable[[Draws], tuple[Any, ...]]] = {
    "mlp": mlp,
    "language model": language_model,
    "tied language model": partial(language_model, tied=True),
    "language model, all tokens": partial(language_model, every=True),
    "vision transformer": vision_transformer,
    "cnn": convolutional,
    "resnet": partial(convolutional, residual=True),
    "mixer": mixer,
    "u-net": unet,
    "lstm": recurrent,
    "state space": state_space,
    "bag of words": bag_of_words,
    "graph network": graph,
    "low-rank adapters": low_rank,
    "scan over layers": scanned,
    "fourier operator": fourier,
}
