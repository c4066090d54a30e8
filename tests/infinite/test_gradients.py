"""Derivatives of limits in the inputs and in the variances of a prior, against differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import structs
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import prior

TOKENS, CHANNELS, N = 2, 3, 16
X = np.random.default_rng(8).standard_normal((2, TOKENS, CHANNELS))
SHAPES = {"in": (CHANNELS, N), "q": (N, N), "k": (N, N), "v": (N, N), "w": (N, N), "o": (N, 1)}


def normalized(h):
    h = h - h.mean(-1, keepdims=True)
    return h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-3)


def encoder(p, x):
    """A block of a transformer with both normalizations, scores over d."""
    h = x @ p["in"]
    g = normalized(h)
    scores = jnp.einsum("btc,bsc->bts", g @ p["q"], g @ p["k"]) / N
    h = h + jax.nn.softmax(scores, -1) @ (g @ p["v"])
    return normalized(jax.nn.gelu(normalized(h) @ p["w"], approximate=False)).mean(1) @ p["o"]


def tied(p, x):
    """Queries that are keys, so that scores over d do not vanish."""
    h = x @ p["in"]
    g = normalized(h)
    scores = jnp.einsum("btc,bsc->bts", g @ p["q"], g @ p["q"]) / N
    return jax.nn.relu((h + jax.nn.softmax(scores, -1) @ (g @ p["v"])) @ p["w"]).mean(1) @ p["o"]


CASES = {"normalized": encoder, "tied attention": tied}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_differences(name, kernel, float64):
    """Of an entry between two inputs and of one on the diagonal, by an input and by the scale of all weights.

    Differences over ±1e-4 err by 1e-8 of a third derivative, and by rounding over 1e-4. What is normalized hardly
    moves: errors are next to the derivative by the scale of weights, which is of the order of the kernel.
    """
    f, shapes, step = CASES[name], structs(SHAPES, jnp.float64), 1e-4

    def entries(x, sigma):
        limit = infinite.limit(as_written(f), shapes, X, prior=prior.ntk(sigma, 0.3), check_width=False)
        return getattr(limit, kernel)(x)[0]

    value = jax.jit(entries)
    x, move = jnp.asarray(X), jnp.zeros_like(X).at[0, 0, 1].set(step)
    by_x, by_sigma = jax.jit(jax.jacrev(entries, (0, 1)))(x, 1.2)
    for found, up, down in (
        (by_x[:, 0, 0, 1], value(x + move, 1.2), value(x - move, 1.2)),
        (by_sigma, value(x, 1.2 + step), value(x, 1.2 - step)),
    ):
        np.testing.assert_allclose(found, (up - down) / (2 * step), rtol=1e-6, atol=1e-6)
