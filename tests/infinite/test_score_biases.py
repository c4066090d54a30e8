"""What every head adds to its scores or multiplies them by: position biases, temperatures, slopes, windows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.test_rotary import CHANNELS, HEADS, KEY, SIZE, TOKENS, points
from infinite.test_scores import agree, layer_shapes, rule
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import Moments, MonteCarlo

DEVIATION, WEIGHT = 1.5, 0.7
DISTANCE = np.arange(TOKENS)[:, None] - np.arange(TOKENS)
SLOPES = np.array([0.3, 0.6, 1.2, 2.4], np.float32)


def attention(p, x, change):
    """One layer of scores that are changed, read at the last token."""
    q, k, v = (jnp.einsum("btc,chd->bthd", x, p[name]) for name in "qkv")
    scores = change(p, jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v)
    return jnp.einsum("bthd,hdc->btc", mixed, p["w"])[:, -1]


def table(p, scores):
    """A table over distances, as T5 has it."""
    return scores + p["table"][DISTANCE + TOKENS - 1].transpose(2, 0, 1)


def table_masked(p, scores):
    """The same with a causal mask added to it beforehand."""
    mask = jnp.where(DISTANCE >= 0, 0.0, -1e9)
    return scores + (p["table"][DISTANCE + TOKENS - 1].transpose(2, 0, 1)[None] + mask)


def positions(p, scores):
    """A number for each pair of positions, and a temperature that varies about 1."""
    return scores * p["temperature"] + p["bias"]


def slopes(p, scores):
    """Distances times slopes that the program knows, as ALiBi has them: those of four heads, repeated."""
    own = jnp.tile(SLOPES, scores.shape[1] // len(SLOPES))
    return scores - own[:, None, None] * jnp.abs(DISTANCE)


def windows(p, scores):
    """Every second head sees the last two tokens alone, and is multiplied by a number of its own."""
    local = (jnp.arange(scores.shape[1]) % 2 == 0)[:, None, None]
    seen = (jnp.abs(DISTANCE) < 2) | ~local
    return jnp.where(seen, jnp.where(local, 2.0, 1.0) * scores, -1e9)


CHANGES = {
    "table": (table, {"table": (2 * TOKENS - 1, HEADS)}),
    "masked table": (table_masked, {"table": (2 * TOKENS - 1, HEADS)}),
    "positions": (positions, {"bias": (HEADS, TOKENS, TOKENS), "temperature": (HEADS, 1, 1)}),
    "slopes": (slopes, {}),
    "windows": (windows, {}),
}
NAMES = [n if n in ("table", "slopes") else pytest.param(n, marks=pytest.mark.slow) for n in CHANGES]
MOMENTS = {
    "table": Moments(0.0, DEVIATION**2, WEIGHT),
    "bias": Moments(0.2, DEVIATION**2, WEIGHT),
    "temperature": Moments(1.0, 0.25, 0.5),
}


def varied(path, shape):
    return MOMENTS.get(path) or rule(path, shape)


def shapes(name, heads, size, outputs):
    given = layer_shapes(heads, size, CHANNELS, outputs)
    own = {leaf: tuple(heads if m == HEADS else m for m in shape) for leaf, shape in CHANGES[name][1].items()}
    return given | own


def limit(name, samples=64, groups=16, prior=varied, **options):
    f = as_written(partial(attention, change=CHANGES[name][0]))
    given = structs(shapes(name, HEADS, SIZE, 1), jnp.float32)
    return infinite.limit(f, given, points(), prior=prior, monte_carlo=MonteCarlo(KEY, samples, groups), **options)


def written_out(name, x, draws):
    """The last token's kernel for drawn heads [draws, n, n], whose scores have the covariance K_tt' K_ss', changed."""
    n, rng = len(x), np.random.default_rng(1)
    k = 1.2**2 * np.einsum("atc,bsc->abts", x, x) / CHANNELS
    law = np.einsum("abtu,absr->atsbur", k, k).reshape(n * TOKENS**2, -1)
    root = np.linalg.cholesky(law + 1e-9 * np.eye(len(law)))
    scores = (rng.standard_normal((draws, len(law))) @ root.T).reshape(-1, n, TOKENS, TOKENS)
    head = np.arange(draws) % HEADS
    seen = np.ones((draws, 1, TOKENS, TOKENS), bool)
    if "table" in name:
        rows = DEVIATION * rng.standard_normal((draws, 1, 2 * TOKENS - 1))
        scores += rows[..., DISTANCE + TOKENS - 1]
        seen &= (DISTANCE >= 0) | (name == "table")
    if name == "positions":
        scores *= 1 + 0.5 * rng.standard_normal((draws, 1, 1, 1))
        scores += 0.2 + DEVIATION * rng.standard_normal((draws, 1, TOKENS, TOKENS))
    if name == "slopes":
        scores -= SLOPES[head][:, None, None, None] * np.abs(DISTANCE)
    if name == "windows":
        local = (head % 2 == 0)[:, None, None, None]
        scores, seen = scores * np.where(local, 2.0, 1.0), (np.abs(DISTANCE) < 2) | ~local
    weights = np.where(seen, np.exp(scores), 0.0)[:, :, -1]
    weights /= weights.sum(-1, keepdims=True)
    return 1.2**2 * np.einsum("zas,abst,zbt->zab", weights, k, weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.first_case
@pytest.mark.first_case
def test_heads_are_averaged_with_what_is_their_own(name):
    """Against draws written out, within five standard errors; without what is changed the kernel is another one."""
    x, draws = points(), 40_000
    found = limit(name, 256, 32, check_width=False).estimate(x)
    own = written_out(name, np.asarray(x, np.float64), draws)
    mean, error = own.mean(0), own.std(0) / draws**0.5
    assert (np.abs(np.asarray(found.nngp) - mean) < 5 * np.hypot(np.asarray(found.nngp_error), error)).all()
    plain = written_out("plain", np.asarray(x, np.float64), draws).mean(0)
    assert (np.abs(mean - plain) > 8 * np.asarray(found.nngp_error)).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_drawn_networks_have_the_kernels_of_the_limit(name):
    """Both kernels, of networks of 48 heads."""
    x, f = points(), as_written(partial(attention, change=CHANGES[name][0]))
    exact = limit(name, 256, 16, check_width=False).estimate(x)
    agree(exact, measure(f, shapes(name, 48, 48, 64), varied, x, jax.random.key(6), 64, 64), 48)


def test_a_parameter_that_is_used_twice_on_scores_is_refused():
    """Its two uses would be drawn as if they were two parameters."""

    def twice(p, scores):
        return (scores + p["bias"]) * p["temperature"] + p["bias"].swapaxes(1, 2)

    f = as_written(partial(attention, change=twice))
    given, draws = structs(shapes("positions", HEADS, SIZE, 1), jnp.float32), MonteCarlo(KEY, 8, 2)
    with pytest.raises(infinite.NoLimitError, match="uses one parameter twice") as caught:
        infinite.limit(f, given, points(), prior=varied, monte_carlo=draws, check_width=False)
    assert "test_score_biases.py:" in str(caught.value)
