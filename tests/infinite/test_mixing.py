"""Weights that mix positions, gates of experts: what has no limit says so, and the steps that are named have one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.test_scores import agree
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import Moments, prior

TOKENS, CHANNELS, WIDTH = 3, 3, 512
RULE = prior.ntk(1.2, 0.3)
X = jnp.asarray(np.random.default_rng(5).standard_normal((3, TOKENS, CHANNELS)), jnp.float32)
KNOWN = [jnp.asarray(np.random.default_rng(6).standard_normal(s) / 2, jnp.float32) for s in ((3, 5), (5, 3))]


def mixed(p, x, mix):
    """A block of an MLP-mixer after an embedding of patches: over tokens, then over channels."""
    h = x @ p["in"]
    h = h + mix(p, h)
    return jax.nn.relu(h @ p["w"]).mean(1) @ p["o"]


def shared(p, h):
    """As it is published: one matrix for all channels."""
    y = jax.nn.gelu(h.swapaxes(1, 2) @ p["down"])
    return (y @ p["up"]).swapaxes(1, 2)


def own(p, h):
    """A matrix for each channel."""
    return jnp.tanh(jnp.einsum("bsc,stc->btc", h, p["each"]))


def known(p, h):
    """Matrices of numbers."""
    return jnp.einsum("bsc,st->btc", jax.nn.gelu(jnp.einsum("bsc,st->btc", h, KNOWN[0])), KNOWN[1])


def experts(p, x, gate):
    """Two layers of each of three experts, after one that is common."""
    h = jax.nn.relu(x[:, 0] @ p["in"])
    return sum(gate(p, x[:, 0], h)[:, e : e + 1] * (jax.nn.relu(h @ p["one"][e]) @ p["two"][e]) for e in range(3))


def of_layer(p, x, h):
    return jax.nn.softmax(h @ p["router"], -1)


def of_input(p, x, h):
    return jax.nn.softmax(x @ KNOWN[0][:, :3], -1)


def shapes(n, outputs):
    return {"in": (CHANNELS, n), "w": (n, n), "o": (n, outputs), "down": (TOKENS, 5), "up": (5, TOKENS)} | {
        "each": (TOKENS, TOKENS, n)
    }


def expert_shapes(n, outputs):
    return {"in": (CHANNELS, n), "router": (n, 3), "one": [(n, n)] * 3, "two": [(n, outputs)] * 3}


def rule(path, shape):
    return Moments(0.0, 0.5, 0.7) if path == "each" else RULE(path, shape)


NETWORKS = {
    "shared": (lambda p, x: mixed(p, x, shared), shapes),
    "own": (lambda p, x: mixed(p, x, own), shapes),
    "known": (lambda p, x: mixed(p, x, known), shapes),
    "experts": (lambda p, x: experts(p, x, of_layer), expert_shapes),
    "known gates": (lambda p, x: experts(p, x, of_input), expert_shapes),
}


def limit(name, draws=None):
    f, of = NETWORKS[name]
    return infinite.limit(as_written(f), structs(of(64, 1), jnp.float32), X, prior=rule, monte_carlo=draws)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shared", r"mix positions.*give each channel weights of its own"),
        ("experts", "softmax over channels, stay random"),
    ],
)
def test_what_stays_random_is_refused_with_a_step(name, words):
    """One matrix for all channels, and few gates, are draws that no width averages; with MonteCarlo too."""
    with pytest.raises(infinite.NoLimitError, match=words) as caught:
        limit(name, infinite.MonteCarlo(jax.random.key(0)))
    assert "test_mixing.py:" in str(caught.value)


@pytest.mark.slow
def test_kernels_of_a_mixer_do_not_settle_with_the_width():
    """Of 64 networks of width 1024, beyond what few outputs leave of an average, a relative variance of 2/256."""
    f, given = NETWORKS["shared"][0], structs(shapes(1024, 256), jnp.float32)
    one = jax.jit(lambda key: jnp.mean(f(prior.draw(key, given, rule), X[:1]) ** 2))
    found = np.array([one(key) for key in jax.random.split(jax.random.key(1), 64)])
    assert found.var() > 10 * 2 / 256 * found.mean() ** 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own", "known", "known gates"])
def test_the_steps_have_the_kernels_of_drawn_networks(name):
    f, of = NETWORKS[name]
    exact = limit(name, infinite.MonteCarlo(jax.random.key(2), 256, 16)).estimate(X)
    agree(exact, measure(as_written(f), of(WIDTH, 64), rule, X, jax.random.key(3), 32, 64), WIDTH)
