"""Gates, recurrent cells, graphs and state spaces against drawn networks of 512 channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.test_scores import agree
from infinite.zoo import NHWC, as_written
from jax import lax

from jaxtheory import infinite
from jaxtheory.infinite import MonteCarlo, prior

WIDTH, OUTPUTS, DRAWS = 512, 64, 24
RULE = prior.ntk(1.3, 0.3)
EDGES = np.array([[0, 1], [1, 2], [3, 2], [4, 0], [1, 4], [2, 4]])


def swiglu(p, x):
    """A residual block and a readout, gated."""
    h = x @ p["in"]
    h = h + (jax.nn.silu(h @ p["a"]) * (h @ p["b"])) @ p["c"]
    return (jax.nn.silu(h @ p["d"]) * (h @ p["e"])) @ p["o"]


def lstm(p, x):
    """Gates from one product, as optimized cells have them."""
    c = h = jnp.zeros((len(x), p["w"].shape[0]))
    for t in range(x.shape[1]):
        i, f, g, o = jnp.split(x[:, t] @ p["u"] + h @ p["w"] + p["bias"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return h @ p["o"]


def gru(p, x):
    """As a scan over time."""

    def step(h, now):
        r, z = (jax.nn.sigmoid(now @ p["u" + k] + h @ p["w" + k]) for k in "rz")
        new = jnp.tanh(now @ p["un"] + r * (h @ p["wn"]))
        return (1 - z) * new + z * h, None

    start = jnp.zeros((len(x), p["wn"].shape[0]))
    return lax.scan(step, start, x.swapaxes(0, 1))[0] @ p["o"]


def graph(p, x):
    """Two rounds of messages along edges, summed at their ends."""
    h = jax.nn.relu(x @ p["in"])
    for layer in p["rounds"]:
        message = jax.nn.relu(h[:, EDGES[:, 0]] @ layer["from"] + h[:, EDGES[:, 1]] @ layer["to"])
        arrived = jax.vmap(lambda m: jax.ops.segment_sum(m, EDGES[:, 1], 5))(message)
        h = jax.nn.relu(h @ layer["self"] + arrived @ layer["sum"])
    return h.mean(1) @ p["o"]


def convolve(k, h):
    return lax.conv_general_dilated(h, k, (1, 1), "SAME", dimension_numbers=NHWC)


def squeeze_and_excite(p, x):
    """Channels times gates of their means, then another convolution."""
    h = jax.nn.relu(convolve(p["k"], x))
    gate = jax.nn.sigmoid(jax.nn.relu(h.mean((1, 2)) @ p["down"]) @ p["up"])
    return jax.nn.relu(convolve(p["l"], h * gate[:, None, None])).mean((1, 2)) @ p["o"]


def max_pooled(p, x):
    h = jax.nn.relu(convolve(p["k"], x))
    h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(convolve(p["l"], h)).mean((1, 2)) @ p["o"]


def state_space(p, x):
    """A recurrence of known decay, what enters and leaves it scaled channel by channel, and a skip."""

    def step(state, now):
        state = 0.7 * state + now * p["into"]
        return state, state * p["out of"]

    h = x @ p["in"]
    y = lax.scan(step, jnp.zeros_like(h[:, 0]), h.swapaxes(0, 1))[1].swapaxes(0, 1) + h * p["skip"]
    return jax.nn.gelu(y @ p["w"]).mean(1) @ p["o"]


def decaying(p, x):
    """A recurrence whose decays are parameters, written as sums over what came before."""
    h, decay = x @ p["in"], jax.nn.sigmoid(p["decay"])
    state = jnp.zeros_like(h[:, 0])
    for t in range(x.shape[1]):
        state = decay * state + h[:, t]
    return jax.nn.relu(state @ p["w"]) @ p["o"]


def normalized(h):
    h = h - h.mean(-1, keepdims=True)
    return h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-3)


def masked(p, x):
    """Layer normalization under a mask that is made of the input, and a mean over what it leaves."""
    real = (x[..., :1] > -0.3).astype(x.dtype)
    h = normalized((x @ p["in"]) * real) * real
    return (jax.nn.relu(h @ p["w"]) * real).sum(1) / (1 + real.sum(1)) @ p["o"]


def encoder(p, x):
    """As BERT: embeddings of words, positions and types, normalization after each sum, a pooler of the first token."""
    h = normalized(p["word"][x] + p["place"][None] + p["type"][x // 4])
    for layer in p["layers"]:
        q, k, v = (jnp.einsum("btc,chd->bthd", h, layer[name]) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5, -1)
        h = normalized(h + jnp.einsum("bthd,hdc->btc", jnp.einsum("bhts,bshd->bthd", weights, v), layer["mix"]))
        h = normalized(h + jax.nn.gelu(h @ layer["up"]) @ layer["down"])
    return jnp.tanh(h[:, 0] @ p["pool"]) @ p["o"]


def _encoder_shapes(n, o):
    heads = {**dict.fromkeys("qkv", (n, 16, n // 16)), "mix": (16, n // 16, n)}
    layer = {**heads, "up": (n, n), "down": (n, n)}
    return {"word": (7, n), "place": (3, n), "type": (2, n), "layers": [layer], "pool": (n, n), "o": (n, o)}


def rule(path, shape):
    """Heads are outputs of the weights of queries, keys and values; rows of tables have variance 1."""
    if path in ("word", "place", "type"):
        return infinite.Moments(0.0, 1.0, 1.0)
    return RULE(path, (shape[0], 1) if path[-1] in "qkv" and len(shape) == 3 else shape)


def _layers(n):
    return [dict.fromkeys(("from", "to", "self", "sum"), (n, n))] * 2


def _images(n, o):
    return {"k": (3, 3, 2, n), "l": (3, 3, n, n), "o": (n, o)}


def _inner(n):
    return dict.fromkeys(("wr", "wz", "wn"), (n, n))


VECTOR, STEPS, TOKENS, NODES, IMAGE = (3,), (2, 3), (3, 3), (5, 3), (4, 4, 2)
NETWORKS = {
    "swiglu": (swiglu, lambda n, o: {"in": (3, n), **dict.fromkeys("abcde", (n, n)), "o": (n, o)}, VECTOR),
    "lstm": (lstm, lambda n, o: {"u": (3, 4 * n), "w": (n, 4 * n), "bias": (4 * n,), "o": (n, o)}, STEPS),
    "gru": (gru, lambda n, o: {**dict.fromkeys(("ur", "uz", "un"), (3, n)), **_inner(n), "o": (n, o)}, STEPS),
    "graph": (graph, lambda n, o: {"in": (3, n), "rounds": _layers(n), "o": (n, o)}, NODES),
    "squeeze": (squeeze_and_excite, lambda n, o: {**_images(n, o), "down": (n, n // 2), "up": (n // 2, n)}, IMAGE),
    "max-pooling": (max_pooled, _images, IMAGE),
    "state space": (
        state_space,
        lambda n, o: {"in": (3, n), **dict.fromkeys(("into", "out of", "skip"), (n,)), "w": (n, n), "o": (n, o)},
        TOKENS,
    ),
    "masked": (masked, lambda n, o: {"in": (3, n), "w": (n, n), "o": (n, o)}, TOKENS),
    "encoder": (encoder, _encoder_shapes, (3,)),
    "decays": (decaying, lambda n, o: {"in": (3, n), "decay": (n,), "w": (n, n), "o": (n, o)}, TOKENS),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_drawn_networks_have_the_kernels_of_the_limit(name):
    """Within five standard errors of both and a bias of order one over the width."""
    f, shapes, example = NETWORKS[name]
    rng, width = np.random.default_rng(3), WIDTH if f is not encoder else 16  # the bias is of order one over heads
    x = jnp.asarray(0.6 * rng.standard_normal((3, *example)), jnp.float32)
    x = jnp.asarray(rng.integers(0, 7, (3, 3))) if f is encoder else x
    given, draws = structs(shapes(WIDTH, 1), jnp.float32), MonteCarlo(jax.random.key(5), 128, 8)
    exact = infinite.limit(as_written(f), given, x, prior=rule, monte_carlo=draws, check_width=False).estimate(x)
    agree(exact, measure(as_written(f), shapes(WIDTH, OUTPUTS), rule, x, jax.random.key(1), DRAWS, OUTPUTS), width)
