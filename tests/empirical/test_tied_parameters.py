"""One leaf that several layers use along different axes: exact in either way of contracting it, and cheaper."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from empirical.test_kernel import REDUCTIONS, oracle
from jax import lax

from jaxtheory import empirical
from jaxtheory.empirical import strategies

WORDS, WIDTH, LENGTH = 6, 4, 3


def normalized(h):
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)


def language_model(p, tokens, scale=1.0, last=False):
    """Two layers in the style of GPT-2, whose table of embeddings is also the matrix of the logits."""
    mask = jnp.tril(jnp.ones((tokens.shape[1], tokens.shape[1]), bool))[None]
    h = p["table"][tokens] * scale + p["positions"][None]
    for layer in p["layers"]:
        q, k, v = jnp.split(normalized(h) @ layer["qkv"], 3, axis=-1)
        h = h + jax.nn.softmax(jnp.where(mask, q @ k.swapaxes(1, 2) / 2, -1e9), axis=-1) @ v
        h = h + jax.nn.gelu(normalized(h) @ layer["up"] + layer["b"][None, None]) @ layer["down"]
    logits = scale * (normalized(h) @ p["table"].T) + p["logits"][None, None]
    return logits[:, -1] if last else logits


def draws(seed, shapes):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.standard_normal(s), shapes, is_leaf=lambda s: isinstance(s, tuple))


LAYER = {"qkv": (WIDTH, 3 * WIDTH), "up": (WIDTH, 5), "b": (5,), "down": (5, WIDTH)}
MODEL = {"table": (WORDS, WIDTH), "positions": (LENGTH, WIDTH), "layers": [LAYER, LAYER], "logits": (WORDS,)}
TOKENS = np.random.default_rng(1).integers(WORDS, size=(3, LENGTH))
X = np.random.default_rng(2).standard_normal((3, 4))


def convolved(p, x):
    numbers = ("NCHW", "OIHW", "NCHW")
    image = jnp.tanh(lax.conv_general_dilated(x.reshape(-1, 1, 2, 2), p["k"], (1, 1), "SAME", None, None, numbers))
    back = lax.conv_general_dilated(image, p["k"].transpose(1, 0, 2, 3), (1, 1), "SAME", None, None, numbers)
    return jnp.tanh(back).mean((2, 3))


def recurrent(p, tokens):
    """A table that is read, multiplied from the right and from the left in every turn."""
    step = lambda h, t: (jnp.tanh(h @ p["table"].T @ p["table"] + p["table"][t]), None)  # noqa: E731
    return lax.scan(step, jnp.zeros((len(tokens), WIDTH)), tokens.T)[0]


TIED = {
    "autoencoder": (
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"] + p["b"][None]) @ p["w"].T + p["c"][None]),
        draws(0, {"w": (4, 5), "b": (5,), "c": (4,)}),
        X,
    ),
    "a language model with scaled embeddings": (partial(language_model, scale=0.5), draws(1, MODEL), TOKENS),
    "the last logits": (partial(language_model, last=True), draws(2, MODEL), TOKENS),
    "a table used three times": (
        lambda p, t: jnp.tanh(jnp.tanh(p["e"][t].mean(1)) @ p["e"].T) @ p["e"],
        draws(3, {"e": (WORDS, WIDTH)}),
        TOKENS,
    ),
    "words out of range": (
        lambda p, t: jnp.tanh(p["e"].at[2 * t - 2].get(mode="fill", fill_value=0.0).mean(1)) @ p["e"].T,
        draws(4, {"e": (WORDS, WIDTH)}),
        TOKENS,
    ),
    "rows and columns looked up": (
        lambda p, t: jnp.tanh(p["e"][t % 4]).mean(1) + jnp.sin(p["e"].T[t % 4]).sum(1),
        draws(5, {"e": (4, 4)}),
        TOKENS,
    ),
    "heads": (
        lambda p, x: jnp.einsum("nhd,hde->nhe", jnp.tanh(jnp.einsum("ni,hdi->nhd", x, p["w"])), p["w"]).sum(1),
        draws(6, {"w": (2, 3, 4)}),
        X,
    ),
    "a convolution and its transpose": (convolved, draws(7, {"k": (2, 1, 3, 3)}), X),
    "stacked layers and their transposes": (
        lambda p, x: lax.scan(lambda h, w: (jnp.tanh(jnp.tanh(h @ w) @ (-0.5 * w.T)), None), x, p["w"])[0],
        draws(8, {"w": (3, 4, 4)}),
        X,
    ),
    "a recurrent network": (recurrent, draws(9, {"table": (WORDS, WIDTH)}), TOKENS),
    "under remat": (
        lambda p, x: jax.checkpoint(lambda w: jnp.tanh(x @ w) @ w.T)(p["w"]),
        draws(10, {"w": (4, 4)}),
        X,
    ),
}
NAMES = [name if name == "autoencoder" else pytest.param(name, marks=pytest.mark.slow) for name in TIED]


@pytest.fixture(params=["rows apart", "summed"])
def strategy(request, monkeypatch):
    """One of the two ways to contract every group, whatever it costs."""
    both, number = strategies.group_costs, ["rows apart", "summed"].index(request.param)
    monkeypatch.setattr(strategies, "group_costs", lambda group, problem: (both(group, problem)[number],) * 2)
    monkeypatch.setattr(strategies, "SAVED", 0)
    strategies._tied_costs.cache_clear()
    yield
    strategies._tied_costs.cache_clear()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.first_case
def test_tied_groups_have_the_kernel_of_jacobians(name, strategy, float64):
    """Of all outputs and of their diagonal, for two different inputs."""
    f, params, x = TIED[name]
    params, x = jax.tree.map(jnp.asarray, (params, x))
    expected = oracle(f, params, x, x[:2])
    anew = lambda params, x: f(params, x)  # noqa: E731, programs are kept for a function
    rows = empirical.explain(anew, params, x, method="structured").rows
    assert any(" tied with " in row.detail for row in rows)
    count = int(np.prod(expected.shape[2:])) ** 0.5
    flat = expected.reshape(3, 2, round(count), -1)
    for output in ("full", "diagonal"):
        wanted = np.asarray(REDUCTIONS[output](flat))
        found = empirical.ntk(anew, params, x, x[:2], method="structured", output=output)
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=1e-12 * abs(wanted).max())


def test_tied_groups_are_taken_where_they_cost_less():
    """Many words and few positions: products. Many positions: the Jacobian, by plain differentiation."""
    params = draws(0, {"table": (1000, 8)})
    f = lambda p, t: jnp.tanh(p["table"][t].mean(1)) @ p["table"].T  # noqa: E731
    few, many = (jax.ShapeDtypeStruct((8, length), jnp.int32) for length in (4, 400))
    chosen = [empirical.explain(f, params, t, output="trace", method="structured").rows[0] for t in (few, many)]
    assert chosen[0].rule == "structured"
    assert (chosen[1].rule, chosen[1].detail[:30]) == ("fallback", "uses that read it along differ")
    assert chosen[0].flops < chosen[1].flops / 4


@pytest.mark.slow
def test_a_tied_network_takes_less_memory_than_its_jacobians(key):
    """An autoencoder of 64 examples: both groups keep their factors, n (inputs + o outputs) numbers."""
    f, w, x = (lambda w, x: jnp.tanh(x @ w) @ w.T), jax.random.normal(key, (32, 256)), jax.random.normal(key, (64, 32))
    kernel = jax.jit(lambda w, x: empirical.ntk(f, w, x, output="trace"))
    held = kernel.lower(w, x).compile().memory_analysis().temp_size_in_bytes
    assert held < 64 * 32 * w.size * 4 / 4
    j = np.asarray(jax.jacrev(f)(w, x), np.float64).reshape(64, -1)
    np.testing.assert_allclose(kernel(w, x), j @ j.T / 32, rtol=0, atol=1e-5 * (j**2).sum(1).max())
