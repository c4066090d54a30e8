"""Networks in the styles of public models, written here: structured kernels against explicit Jacobians in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from jax import lax

from jaxtheory import empirical

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def attention(q, k, v, bias):
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5 + bias
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, -1), v).reshape(*q.shape[:2], -1)


def distances(p, x):
    """A trainable table over distances, as in T5, for a scan over layers, as in Swin."""
    t = x.shape[1]
    places = np.arange(t)[:, None] - np.arange(t) + t - 1

    def step(h, layer):
        q, k, v = jnp.split((h @ layer["qkv"]).reshape(*h.shape[:2], 2, 6), 3, -1)
        return h + attention(q, k, v, layer["table"][places].transpose(2, 0, 1)), None

    return lax.scan(step, x, p["layers"])[0].mean(1) @ p["o"]


def partly_rotated(p, x):
    """Rotary positions on half of the channels, and slopes of the distances."""

    def turn(h):
        a, b, kept = jnp.split(h, [1, 2], -1)
        angle = jnp.arange(h.shape[1])[:, None, None]
        return jnp.concatenate(
            [a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle), kept], -1
        )

    q, k, v = ((x @ p[name]).reshape(*x.shape[:2], 2, 4) for name in "qkv")
    slopes = jnp.array([0.5, 0.25])[:, None, None] * -np.abs(np.arange(x.shape[1])[:, None] - np.arange(x.shape[1]))
    return attention(turn(q), turn(k), v, slopes).mean(1) @ p["o"]


def spectral_filter(p, x):
    """A Fourier neural operator in one dimension, its complex weights made of two real ones."""
    h = x @ p["in"]
    for layer in p["layers"]:
        modes = jnp.fft.rfft(h, axis=1)[:, :3]
        mixed = jnp.einsum("bki,kio->bko", modes, lax.complex(layer["real"], layer["imaginary"]))
        h = jax.nn.gelu(jnp.fft.irfft(mixed, n=h.shape[1], axis=1) + h @ layer["w"])
    return (h @ p["o"])[..., 0]


def splines(p, x):
    """A Kolmogorov-Arnold network with splines of degree one."""
    grid = jnp.linspace(-2.2, 2.2, 8)
    for layer in p:
        hats = jnp.maximum(1 - jnp.abs(x[..., None] - grid), 0)
        x = jnp.einsum("big,iog->bo", hats, layer["c"]) + jax.nn.silu(x) @ layer["w"]
    return x


def experts(p, x):
    """The two best of three experts for each token, by a softmax over their scores; also by rows of their weights."""
    best, which = lax.top_k(x @ p["gate"], 2)
    gates = (jax.nn.one_hot(which, 3) * jax.nn.softmax(best, -1)[..., None]).sum(-2)
    every = jax.nn.gelu(jnp.einsum("btd,edh->bteh", x, p["up"]) + p["b"])
    chosen = jnp.einsum("bd,bkdh->bkh", x[:, 0], p["up"][which[:, 0]]).sum(1)
    return jnp.einsum("bte,bteh->bh", gates, every) @ p["o"] + chosen[:, :2]


def selective(p, x):
    """A selective state space with gates, by an associative scan (Mamba)."""
    h, gate = jnp.split(x @ p["in"], 2, -1)
    step, b, c = jnp.split(jax.nn.silu(h) @ p["project"], [1, 4], -1)
    step = jax.nn.softplus(step * p["scale"] + p["shift"])
    decay = jnp.exp(step[..., None] * -jnp.exp(p["a"]))
    driven = step[..., None] * b[:, :, None] * h[..., None]
    join = lambda one, two: (one[0] * two[0], two[0] * one[1] + two[1])  # noqa: E731
    states = lax.associative_scan(join, (decay, driven), axis=1)[1]
    return (((states * c[:, :, None]).sum(-1) + h * p["d"]) * jax.nn.silu(gate)).mean(1) @ p["o"]


QUANTIZED = RNG.integers(-127, 127, size=(4, 5)).astype(np.int8)


def adapted(p, x):
    """An adapter of low rank added to weights of eight bits with a scale for each output."""
    w = QUANTIZED.astype(x.dtype) * p["scale"] + 2 * p["a"] @ p["b"]
    return jax.nn.relu(x @ w + p["bias"]) @ p["o"]


def spectrally_normalized(p, x):
    """One power iteration from a known vector, which has no derivative."""
    right = p["w"].T @ (p["w"] @ jnp.linspace(-1.0, 1.0, 5))
    right = lax.stop_gradient(right / jnp.linalg.norm(right))
    left = lax.stop_gradient(p["w"] @ right / jnp.linalg.norm(p["w"] @ right))
    return jnp.tanh(x @ (p["w"] / (left @ p["w"] @ right)) + p["b"]) @ p["o"]


def denoiser(p, given):
    """One level of a diffusion U-Net: images and times."""
    convolve = lambda h, k, s=1: lax.conv_general_dilated(h, k, (s, s), "SAME", None, None, ("NHWC", "HWIO", "NHWC"))  # noqa: E731
    angles = given["t"][:, None] * jnp.exp(-jnp.arange(2.0))
    time = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1) @ p["time"]
    top = convolve(given["x"], p["in"])
    scale, shift = jnp.split((jax.nn.silu(time) @ p["film"])[:, None, None], 2, -1)
    low = convolve(jax.nn.silu(top * (1 + scale) + shift), p["down"], 2)
    up = jax.image.resize(low, top.shape, "nearest")
    return convolve(jnp.concatenate([top, up], -1), p["out"]).mean((1, 2))


def graph_attention(p, given):
    """Weights over the edges of each example's own graph, by sums over segments."""

    def one(x, sender, receiver):
        h = x @ p["w"]
        scores = jnp.exp(jax.nn.leaky_relu((h[sender] * p["from"]).sum(-1) + (h[receiver] * p["to"]).sum(-1)))
        weights = scores / jax.ops.segment_sum(scores, receiver, 5)[receiver]
        return jax.nn.elu(jax.ops.segment_sum(weights[:, None] * h[sender], receiver, 5)).sum(0) @ p["o"]

    return jax.vmap(one)(given["x"], given["sender"], given["receiver"])


def deep_set(p, given):
    """A mean over the members of sets of unlike size."""
    h = jax.nn.relu(given["x"] @ p["a"] + p["b"])
    h = jnp.where(given["member"][..., None], h, 0.0).sum(1) / given["member"].sum(1, keepdims=True)
    return jax.nn.relu(h @ p["c"]) @ p["o"]


def equilibrium(p, x):
    """A fixed point whose derivative is implicit."""

    def residual(z):
        return jnp.tanh(x @ p["u"] + z @ (0.2 * p["w"]) + p["b"]) - z

    def tangent(linear, y):
        matrix = jax.jacobian(linear)(jnp.zeros_like(y)).reshape(y.size, y.size)
        return jnp.linalg.solve(matrix, y.ravel()).reshape(y.shape)

    search = lambda f, z: lax.fori_loop(0, 60, lambda _, z: z + f(z), z)  # noqa: E731
    return lax.custom_root(residual, jnp.zeros((len(x), 4)), search, tangent) @ p["o"]


def branches(p, given):
    """A branch for each example."""

    def one(x, which):
        h = lax.switch(which, [lambda h: jnp.tanh(h @ p["a"]), lambda h: h @ p["b"] + p["c"]], x)
        return lax.cond(x.sum() > 0, lambda h: h @ p["o"], lambda h: -h @ p["o"], h)

    return lax.map(lambda pair: one(*pair), (given["x"], given["which"]))


def ensemble(p, x):
    """Members under vmap inside a function of one example."""
    member = lambda q, one: jnp.tanh(q["w"] @ one + q["b"])  # noqa: E731
    return jax.vmap(lambda one: jax.vmap(member, (0, None))(p, one).mean(0))(x)


class Recurrent(nn.Module):
    """A GRU whose states an LSTM reads in both directions."""

    @nn.compact
    def __call__(self, x):
        float64 = {"param_dtype": jnp.float64}
        x = nn.RNN(nn.GRUCell(3, **float64))(x)
        forward, backward = (nn.RNN(nn.OptimizedLSTMCell(3, **float64)) for _ in range(2))
        return nn.Dense(2, **float64)(nn.Bidirectional(forward, backward)(x).mean(1))


def recurrent(p, x):
    return Recurrent().apply(p, x)


LAYER = {"real": normal(3, 4, 4), "imaginary": normal(3, 4, 4), "w": normal(4, 4)}
GRAPH = {"sender": RNG.integers(5, size=(2, 7)), "receiver": RNG.integers(5, size=(2, 7))}
STATE = {"scale": normal(4), "shift": normal(4), "a": normal(4, 3), "d": normal(4), "o": normal(4, 2)}
WEIGHTS = {name: normal(4, 8) for name in "qkv"}
SQUARES = {"a": normal(4, 4), "b": normal(4, 4), "c": normal(4), "o": normal(4, 2)}
MODELS = {
    "distances": (
        distances,
        {"layers": {"qkv": normal(2, 4, 12), "table": normal(2, 9, 2)}, "o": normal(4, 2)},
        normal(2, 5, 4),
    ),
    "partly rotated": (partly_rotated, WEIGHTS | {"o": normal(8, 2)}, normal(2, 4, 4)),
    "spectral filter": (
        spectral_filter,
        {"in": normal(2, 4), "layers": [LAYER, LAYER], "o": normal(4, 1)},
        normal(2, 8, 2),
    ),
    "splines": (
        splines,
        [{"c": normal(3, 3, 8), "w": normal(3, 3)}, {"c": normal(3, 2, 8), "w": normal(3, 2)}],
        normal(3, 3),
    ),
    "experts": (
        experts,
        {"gate": normal(4, 3), "up": normal(3, 4, 5), "b": normal(3, 5), "o": normal(5, 2)},
        normal(2, 3, 4),
    ),
    "selective": (selective, STATE | {"in": normal(3, 8), "project": normal(4, 7)}, normal(2, 4, 3)),
    "adapted": (
        adapted,
        {"scale": 0.02 * normal(5), "a": normal(4, 2), "b": normal(2, 5), "bias": normal(5), "o": normal(5, 2)},
        normal(3, 4),
    ),
    "spectrally normalized": (
        spectrally_normalized,
        {"w": normal(4, 5), "b": normal(5), "o": normal(5, 2)},
        normal(3, 4),
    ),
    "denoiser": (
        denoiser,
        {
            "time": normal(4, 5),
            "film": normal(5, 8),
            "in": normal(3, 3, 2, 4),
            "down": normal(3, 3, 4, 4),
            "out": normal(1, 1, 8, 2),
        },
        {"x": normal(2, 4, 4, 2), "t": normal(2)},
    ),
    "graph attention": (
        graph_attention,
        {"w": normal(3, 4), "from": normal(4), "to": normal(4), "o": normal(4, 2)},
        GRAPH | {"x": normal(2, 5, 3)},
    ),
    "deep set": (
        deep_set,
        {"a": normal(3, 4), "b": normal(4), "c": normal(4, 4), "o": normal(4, 2)},
        {"x": normal(3, 5, 3), "member": np.arange(5) < np.array([[3], [5], [2]])},
    ),
    "equilibrium": (
        equilibrium,
        {"u": normal(3, 4), "w": normal(4, 4), "b": normal(4), "o": normal(4, 2)},
        normal(2, 3),
    ),
    "branches": (branches, SQUARES, {"x": normal(3, 4), "which": np.array([0, 1, 1])}),
    "ensemble": (ensemble, {"w": normal(3, 4, 4), "b": normal(3, 4)}, normal(3, 4)),
    "recurrent": (recurrent, None, normal(2, 5, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_kernel_of_its_jacobians(name, float64, unchecked):
    f, params, x = MODELS[name]
    with relaxed_promotion():
        if params is None:
            shapes = jax.eval_shape(lambda: Recurrent().init(jax.random.key(0), x))
            params = jax.tree.map(lambda leaf: 0.5 * normal(*leaf.shape), shapes)
        params, x = jax.tree.map(jnp.asarray, (params, x))
        one = jax.jit(jax.jacrev(lambda p, example: f(p, jax.tree.map(lambda leaf: leaf[None], example))[0]))
        rows = []
        for i in range(len(jax.tree.leaves(x)[0])):
            found = jax.tree.leaves(one(params, jax.tree.map(lambda leaf, i=i: leaf[i], x)))
            rows.append(np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in found], -1))
        jacobian = np.stack(rows)
        expected = np.einsum("ikp,jlp->ijkl", jacobian, jacobian)
        actual = empirical.ntk(f, params, x, method="structured")
    assert actual.dtype == jnp.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * abs(expected).max())
