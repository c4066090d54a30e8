"""Refusals of Flax modules, most inside library code: the user's line, and a step that then has a limit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion

from jaxtheory import infinite
from jaxtheory.infinite import Moments, MonteCarlo, prior

WIDTH, VECTOR, TOKENS, IMAGE = 16, (3,), (4, 3), (4, 4, 3)
DRAWS = MonteCarlo(jax.random.key(0), 8, 2)
FILTER = np.fft.irfft(np.fft.rfft(np.eye(4), axis=0) * np.array([[1.0], [0.5], [0.2]]), 4, axis=0)


def dense(x):
    return nn.Dense(WIDTH)(x)


def hidden(x):
    return nn.relu(dense(x))


def convolved(x):
    return nn.relu(nn.Conv(WIDTH, (3, 3))(x))


def attention(deterministic):
    def body(m, x):
        layer = nn.MultiHeadDotProductAttention(4, dropout_rate=0.1, deterministic=deterministic)
        return layer(dense(x), dropout_rng=jax.random.key(0))[:, 0]

    return body


def looked_up(attend):
    def body(m, x):
        table = nn.Embed(7, WIDTH)
        h = hidden(table(jnp.argmax(x, -1)))
        return table.attend(h) if attend else nn.Dense(7)(h)

    return body


def own_matrices(m, x):
    each = m.param("each", nn.initializers.normal(), (4, 4, WIDTH))
    return nn.relu(jnp.einsum("bsc,stc->btc", dense(x), each)).mean(1)


def pooled(h):
    return nn.max_pool(h, (2, 2), (2, 2)).mean((1, 2))


class Case(NamedTuple):
    """A module's body, the shape of an example, words of the message, and another body or options, as these say."""

    body: Callable[[Any, Any], Any]
    example: tuple[int, ...]
    words: str
    step: Callable[[Any, Any], Any] | None = None
    draws: MonteCarlo | None = None
    constant: str = "nothing"


LEFT_OUT = "leave (out )?a normalization of weights"
CONSTANT = "variance 0 and weight 0 in the prior"
DRAW = r"monte_carlo=MonteCarlo\(key\)"
CASES = {
    "weight norm": Case(
        lambda m, x: nn.WeightNorm(nn.Dense(WIDTH))(hidden(x)), VECTOR, LEFT_OUT, lambda m, x: hidden(x)
    ),
    "spectral norm": Case(
        lambda m, x: nn.SpectralNorm(nn.Dense(WIDTH))(hidden(x), update_stats=False),
        VECTOR,
        LEFT_OUT,
        lambda m, x: hidden(x),
    ),
    "prelu": Case(lambda m, x: nn.PReLU()(dense(x)), VECTOR, CONSTANT, constant="negative_slope"),
    "learned scale": Case(
        lambda m, x: m.param("scale_all", nn.initializers.ones, ()) * dense(x), VECTOR, CONSTANT, constant="scale_all"
    ),
    "positive scales": Case(
        lambda m, x: dense(x) * nn.softplus(m.param("scales", nn.initializers.ones, (WIDTH,))),
        VECTOR,
        DRAW,
        None,
        DRAWS,
    ),
    "lstm": Case(lambda m, x: nn.RNN(nn.OptimizedLSTMCell(WIDTH))(x)[:, -1], (1, 3), DRAW, None, DRAWS),
    "max-pooling": Case(lambda m, x: pooled(convolved(x)), IMAGE, DRAW, None, DRAWS),
    "instance norm": Case(
        lambda m, x: nn.relu(nn.InstanceNorm()(nn.Conv(WIDTH, (3, 3))(x))).mean((1, 2)), IMAGE, DRAW, None, DRAWS
    ),
    "attention": Case(attention(True), TOKENS, DRAW, None, DRAWS),
    "dropped weights": Case(attention(False), TOKENS, "deterministic=True", attention(True), DRAWS),
    "fourier": Case(
        lambda m, x: jnp.fft.fft(dense(x), axis=1).real[:, 0],
        TOKENS,
        "real matrix of a filter",
        lambda m, x: jnp.einsum("ts,bsc->btc", FILTER.astype(np.float32), dense(x))[:, 0],
    ),
    "largest channel": Case(
        lambda m, x: nn.Embed(WIDTH, WIDTH)(jnp.argmax(dense(x), -1)), VECTOR, "a mean", lambda m, x: hidden(x)
    ),
    "softmax": Case(
        lambda m, x: nn.softmax(dense(x)), VECTOR, r"sigmoid\(h @ w\)", lambda m, x: nn.sigmoid(dense(x)) * dense(x)
    ),
    "tied": Case(looked_up(True), TOKENS, "a weight of its own", looked_up(False)),
    "rounded": Case(lambda m, x: jnp.round(dense(x)), VECTOR, "a smoother activation", lambda m, x: nn.tanh(dense(x))),
    "mixer": Case(
        lambda m, x: nn.Dense(4)(dense(x).swapaxes(1, 2)).mean(2), TOKENS, "weights of its own", own_matrices, DRAWS
    ),
}


class Module(nn.Module):
    """A body and its readout."""

    body: Callable[[Any, Any], Any]

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(self.body(self, x))


def limit(body, case, draws=None, constant="nothing"):
    rule = prior.by_path({constant: Moments(0.5, 0.0, 0.0)}, prior.ntk(1.3, 0.4))
    x = jnp.ones((2, *case.example))
    with relaxed_promotion():
        return infinite.limit(Module(body), None, x, prior=rule, monte_carlo=draws, check_width=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_refusal_names_the_line_of_the_module_and_a_step_that_works(name):
    case = CASES[name]
    with pytest.raises(infinite.NoLimitError, match=case.words) as caught:
        limit(case.body, case, case.draws if case.step else None)
    assert "test_messages.py:" in str(caught.value)
    assert limit(case.step or case.body, case, case.draws, case.constant).prior is not None
