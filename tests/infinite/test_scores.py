"""Attention with scores over √d: limits drawn by Monte Carlo, against quadrature and against drawn networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.simulation import measure, structs
from infinite.zoo import as_written
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import MonteCarlo, prior

SIGMA, TOKENS, CHANNELS = 1.2, 2, 3


def heads(p, x):
    """Queries, keys and values [b t h d] and what softmax(q kᵀ/√d) makes of them."""
    q, k, v = (jnp.einsum("btc,chd->bthd", x, p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5, axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, v)


def attention(p, x):
    """One layer, read at the first token."""
    return jnp.einsum("bthd,hdc->btc", heads(p, x), p["w"])[:, 0]


def block(p, x):
    """Twice the layer with residuals and a relu."""
    h = x @ p["in"]
    for layer in (p["one"], p["two"]):
        h = h + jnp.einsum("bthd,hdc->btc", heads(layer, h), layer["w"])
        h = h + jax.nn.relu(h) @ layer["feed"]
    return h.mean(1) @ p["o"]


def layer_shapes(count, d, inputs, outputs):
    return {**dict.fromkeys("qkv", (inputs, count, d)), "w": (count, d, outputs)}


def block_shapes(count, d, outputs, n=96):
    layer = {**layer_shapes(count, d, n, n), "feed": (n, n)}
    return {"in": (CHANNELS, n), "one": layer, "two": layer, "o": (n, outputs)}


def rule(path, shape):
    """Heads are outputs of a query's weights."""
    flat = (shape[0], 1) if path[-1] in "qkv" else shape
    return prior.ntk(SIGMA)(path, flat)


def points(dtype, n=3):
    return jnp.asarray(np.random.default_rng(0).standard_normal((n, TOKENS, CHANNELS)), dtype)


def quadrature(x):
    """Both kernels of `attention` with two tokens, whose weights are sigmoids of D = S_00 − S_01.

    D and D' are Gaussian with covariance K_00 aᵀK a, a = (1, −1), for K the kernel of queries, keys and values alike;
    so E[A K A'ᵀ] is an integral over the plane. Every weight has learning rate and variance σ²/fan_in, so that the
    tangent of a linear layer is its kernel: Θ = 2 E[A K A'ᵀ] + E[σ'(D) σ'(D')] ⟨∂D, ∂D'⟩ aᵀK a, with ⟨∂D, ∂D'⟩ twice
    the covariance of D and D'.
    """
    kernel = SIGMA**2 * np.einsum("atc,bsc->abts", x, x) / x.shape[-1]
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    contrast = np.array([1.0, -1.0])
    spread = np.einsum("s,abst,t->ab", contrast, kernel, contrast)
    law = kernel[..., 0, 0] * spread
    sigmoid = lambda u: 1 / (1 + np.exp(-u))  # noqa: E731
    nngp, ntk = np.zeros(law.shape), np.zeros(law.shape)
    for i, j in np.ndindex(*law.shape):
        root, slope = law[i, i] ** 0.5, law[i, j] / law[i, i] ** 0.5
        rest = max(law[j, j] - slope**2, 0.0) ** 0.5
        p = sigmoid(root * nodes)[:, None] + 0 * nodes
        q = sigmoid(slope * nodes[:, None] + rest * nodes)
        mixed = np.einsum("sxy,st,txy->xy", np.stack([p, 1 - p]), kernel[i, j], np.stack([q, 1 - q]))
        nngp[i, j] = SIGMA**2 * (weights * mixed).sum()
        slopes = (weights * p * (1 - p) * q * (1 - q)).sum()
        ntk[i, j] = 2 * nngp[i, j] + SIGMA**2 * slopes * 2 * law[i, j] * spread[i, j]
    return nngp, ntk


def within(kernel, error, expected, errors):
    z = np.abs(np.asarray(kernel) - expected) / np.asarray(error)
    assert z.max() < errors, f"z = {z.max():.1f}"


def agree(exact, found, width):
    """Within five standard errors and a bias of order one over the width."""
    pairs = (
        (exact.nngp, exact.nngp_error, found.nngp, found.nngp_error),
        (exact.ntk, exact.ntk_error, found.ntk, found.ntk_error),
    )
    for kernel, own, mean, error in pairs:
        bias = 4 / width * np.abs(mean).max()
        z = (np.abs(np.asarray(kernel) - mean) - bias) / np.hypot(np.asarray(own), error)
        assert z.max() < 5, f"z = {z.max():.1f}"


@pytest.mark.slow
def test_drawn_scores_have_the_kernels_of_quadrature(float64):
    """Both kernels, entry by entry, within five of the standard errors that are given."""
    x = points(jnp.float64)
    shapes = structs(layer_shapes(4, 16, CHANNELS, 1), jnp.float64)
    limit = infinite.limit(
        as_written(attention), shapes, x, prior=rule, monte_carlo=MonteCarlo(jax.random.key(1), 512, 32)
    )
    found, (nngp, ntk) = limit.estimate(x), quadrature(np.asarray(x))
    within(found.nngp, found.nngp_error, nngp, 5)
    within(found.ntk, found.ntk_error, ntk, 5)
    assert np.asarray(found.nngp_error).max() < 0.02 * nngp.max()  # 2^14 samples of numbers of order one: some 1/128


@pytest.mark.slow
def test_many_heads_have_the_kernels_of_the_limit():
    """Networks of 32 heads in two blocks, drawn: within 5 standard errors and a bias of order one over heads."""
    x, shapes = points(jnp.float32), block_shapes(32, 32, 1)
    draws = MonteCarlo(jax.random.key(2), 256, 16)
    limit = infinite.limit(as_written(block), structs(shapes, jnp.float32), x, prior=rule, monte_carlo=draws)
    exact = limit.estimate(x)
    found = measure(as_written(block), block_shapes(32, 32, 64), rule, x, jax.random.key(3), 48, 64)
    agree(exact, found, 96)
    assert_close(limit.both(x).ntk, exact.ntk)  # the same key, the same draws
    assert np.isfinite(jax.grad(lambda x: limit.ntk(x).sum())(x)).all()


@pytest.mark.slow
def test_a_flax_module_is_its_plain_function():
    """`MultiHeadDotProductAttention` divides its queries beforehand; the draws are the same, so are the kernels."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.MultiHeadDotProductAttention(4, qkv_features=64, out_features=1, use_bias=False)(x)[:, 0]

    def named(path, shape):
        return rule("w" if "/out/" in path else "q", shape)

    x, draws = points(jnp.float32), MonteCarlo(jax.random.key(4), 32, 4)
    with relaxed_promotion():
        module = infinite.limit(Model(), None, x, prior=named, monte_carlo=draws).both(x)
    shapes = structs(layer_shapes(4, 16, CHANNELS, 1), jnp.float32)
    plain = infinite.limit(as_written(attention), shapes, x, prior=rule, monte_carlo=draws).both(x)
    np.testing.assert_allclose(module.nngp, plain.nngp, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(module.ntk, plain.ntk, rtol=1e-4, atol=1e-4)


def one_head(p, x):
    q, k, v = (x @ p[name][:, 0] for name in "qkv")
    return (jax.nn.softmax(q @ k.swapaxes(1, 2) / 4.0, -1) @ v @ p["w"][0])[:, 0]


def grouped(p, x):
    """Two heads of queries share each head of keys and values."""
    k, v = (jnp.repeat(jnp.einsum("btc,chd->bthd", x, p[name]), 2, axis=2) for name in "kv")
    q = jnp.einsum("btc,chd->bthd", x, p["q"])
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5, axis=-1)
    return jnp.einsum("bthd,hdc->btc", jnp.einsum("bhts,bshd->bthd", weights, v), p["w"])[:, 0]


def grouped_by_products(p, x):
    """The same by a product that leaves the shared keys in place."""
    q = jnp.einsum("btc,cghd->btghd", x, p["q"].reshape(CHANNELS, 2, 2, 16))
    k, v = (jnp.einsum("btc,chd->bthd", x, p[name][:, :2]) for name in "kv")
    weights = jax.nn.softmax(jnp.einsum("btghd,bshd->bghts", q, k) / 4.0, axis=-1)
    return jnp.einsum("btghd,ghdc->btc", jnp.einsum("bghts,bshd->btghd", weights, v), p["w"].reshape(2, 2, 16, 1))[:, 0]


@pytest.mark.slow
def test_grouped_queries_have_the_limit_of_heads_of_their_own():
    """Scores of two heads with one key are uncorrelated, and so are the weights that read them: nothing is left."""
    shapes = structs(layer_shapes(4, 16, CHANNELS, 1), jnp.float32)
    shared = structs(grouped_shapes(4, 16, 1), jnp.float32)
    x, key = points(jnp.float32), jax.random.key(3)
    draws = MonteCarlo(key, 64, 16)
    own = infinite.limit(as_written(attention), shapes, x, prior=rule, monte_carlo=draws).estimate(x)
    other = infinite.limit(as_written(grouped), shared, x, prior=rule, monte_carlo=draws).estimate(x)
    found = measure(as_written(grouped), grouped_shapes(64, 64, 64), rule, x, key, 64, 64)
    product = infinite.limit(as_written(grouped_by_products), shared, x, prior=rule, monte_carlo=draws).estimate(x)
    for two in (other, product):
        for one, second, error in ((own.nngp, two.nngp, two.nngp_error), (own.ntk, two.ntk, two.ntk_error)):
            assert (np.abs(np.asarray(one - second)) <= 5 * np.asarray(error)).all()
    agree(other, found, 64)


def grouped_shapes(count, d, outputs):
    """With half as many heads of keys and values."""
    return layer_shapes(count, d, CHANNELS, outputs) | dict.fromkeys("kv", (CHANNELS, count // 2, d))


REFUSED = {
    "without being asked for": (attention, None, r"monte_carlo=MonteCarlo\(key\)"),
    "of a single head": (one_head, MonteCarlo(jax.random.key(0)), "keeps fluctuating"),
    "of one head of many": (
        lambda p, x: (heads(p, x)[:, :, 0] @ p["w"][0])[:, 0],
        MonteCarlo(jax.random.key(0)),
        "heads",
    ),
    "before a nonlinearity": (
        lambda p, x: jnp.einsum("bthd,hdc->btc", jnp.tanh(heads(p, x)), p["w"])[:, 0],
        MonteCarlo(jax.random.key(0)),
        "drawn",
    ),
    "heads kept apart": (
        lambda p, x: jnp.einsum("bthd,hdc->bthc", heads(p, x), p["w"]).sum(2)[:, 0],
        MonteCarlo(jax.random.key(0)),
        "heads",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.first_case
def test_scores_that_are_not_averaged_are_refused(name):
    """Their kernel would be random: the error says so, and where."""
    f, draws, words = REFUSED[name]
    shapes = structs(layer_shapes(4, 16, CHANNELS, 1), jnp.float32)
    with pytest.raises(infinite.NoLimitError, match=words) as caught:
        infinite.limit(as_written(f), shapes, points(jnp.float32), prior=rule, monte_carlo=draws)
    assert "test_scores.py:" in str(caught.value)


def test_draws_are_checked():
    """A standard error needs two groups."""
    shapes = structs(layer_shapes(4, 16, CHANNELS, 1), jnp.float32)
    with pytest.raises(ValueError, match="groups"):
        infinite.limit(
            as_written(attention),
            shapes,
            points(jnp.float32),
            prior=rule,
            monte_carlo=MonteCarlo(jax.random.key(0), 8, 1),
        )


WIDTH = 32


def scaled(where, power=0.5, linear=False, normalized=False):
    """Attention of a hidden layer whose weights have unit variance, the factors 1/√fan_in where `where` says."""

    def f(p, x):
        h = x @ p["in"] / CHANNELS**0.5
        h = h / jnp.sqrt((h**2).mean(-1, keepdims=True)) if normalized else h
        n, d = p["q"].shape[0], p["q"].shape[-1]
        before, on_query = 1 / n**0.5, 1 / d**power
        h = h * before if where == "inputs" else h
        q, k, v = (
            jnp.einsum("btc,chd->bthd", h, p[name] * before if where == "weights" else p[name]) for name in "qkv"
        )
        if where == "outputs":
            q, k, v = q * before, k * before, v * before
        q = q * before * on_query if where == "query" else q
        scores = jnp.einsum("bthd,bshd->bhts", q, k)
        scores = scores * (before if where == "query" else 1 / n if where == "scores" else 1.0)
        scores = scores if where == "query" else scores * on_query
        v = v * before if where in ("query", "scores") else v
        mixed = jnp.einsum("bhts,bshd->bthd", scores if linear else jax.nn.softmax(scores, axis=-1), v)
        return jnp.einsum("bthd,hdc->btc", mixed, p["w"])[:, 0] / (p["w"].shape[0] * d) ** 0.5

    return as_written(f)


def scaled_shapes(count, d, outputs):
    return {"in": (CHANNELS, WIDTH), **layer_shapes(count, d, WIDTH, outputs)}


def read(f, **options):
    shapes = structs(scaled_shapes(4, 16, 1), jnp.float32)
    return infinite.limit(f, shapes, points(jnp.float32), prior=prior.unit(), **options)


PLACES = ("scores", "outputs", "query", "weights", "inputs")


@pytest.mark.parametrize("where", [p if p in PLACES[:3] else pytest.param(p, marks=pytest.mark.slow) for p in PLACES])
@pytest.mark.first_case
@pytest.mark.first_case
def test_the_variance_of_the_scores_decides_wherever_their_factors_stand(where):
    """Over √d they keep fluctuating, over d they vanish: at uniform weights. Also after a normalization."""
    for normalized in (False, True):
        for linear in (False, True):
            with pytest.raises(infinite.NoLimitError, match="keeps fluctuating"):
                read(scaled(where, 0.5, linear, normalized))
    kernel, x = read(scaled(where, 1.0)).nngp(points(jnp.float32)), points(jnp.float32).mean(1)
    np.testing.assert_allclose(kernel, x @ x.T / CHANNELS, rtol=1e-4, atol=1e-6)
    with pytest.raises(infinite.NoLimitError, match="grows with the width"):
        read(scaled(where, 0.0))


@pytest.mark.slow
def test_scores_of_small_and_of_large_size_are_judged_by_their_power():
    """A factor of 0.01 does not make them vanish, nor one of 30 them fluctuate; without another width size decides."""
    plain = scaled("scores", 0.5)
    small = lambda p, x: plain(p | {"q": 0.01 * p["q"]}, x)  # noqa: E731
    with pytest.raises(infinite.NoLimitError, match="keeps fluctuating"):
        read(small)
    vanishing = scaled("scores", 1.0)
    read(lambda p, x: vanishing(p | {"q": 30.0 * p["q"]}, x))
    for where in PLACES:
        read(scaled(where, 1.0), check_width=False)
        with pytest.raises(infinite.NoLimitError, match="keeps fluctuating"):
            read(scaled(where, 0.5), check_width=False)


def test_queries_that_are_keys_have_scores_over_d():
    """Over √d their average grows, and softmax has no limit."""
    f = scaled("outputs", 0.5)
    with pytest.raises(infinite.NoLimitError, match=r"twice the width what it is given is 1\.41 times as large"):
        read(lambda p, x: f(p | {"k": p["q"]}, x))


@pytest.mark.slow
@pytest.mark.parametrize("linear", [False, True])
def test_drawn_scores_are_those_of_networks_wherever_their_factors_stand(linear):
    """Every place has the draws of every other, and drawn networks of 48 heads have their kernels."""
    x, draws = points(jnp.float32), MonteCarlo(jax.random.key(5), 256, 16)
    found = {where: read(scaled(where, 0.5, linear), monte_carlo=draws).estimate(x) for where in PLACES}
    for other in found.values():
        assert_close(other.nngp, found["scores"].nngp)
    assert (np.abs(np.asarray(found["scores"].nngp)) > 5 * np.asarray(found["scores"].nngp_error)).any()
    drawn = measure(
        scaled("scores", 0.5, linear), scaled_shapes(48, 48, 64), prior.unit(), x, jax.random.key(6), 96, 64
    )
    within(found["scores"].nngp, np.hypot(found["scores"].nngp_error, drawn.nngp_error), drawn.nngp, 5)


@pytest.mark.parametrize("tangent", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_are_those_of_the_draws_and_those_of_kinks_are_refused(tangent, float64):
    """With weights relu(scores): the second derivative of a draw has no part at the kink, where its average has one."""

    def f(p, x):
        q, k, v = (jnp.einsum("btc,chd->bthd", x, p[name]) for name in "qkv")
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
        weights = jax.nn.softmax(scores, -1) if tangent else jax.nn.relu(scores)
        return jnp.einsum("bthd,hdc->btc", jnp.einsum("bhts,bshd->bthd", weights, v), p["w"])[:, 0]

    x, draws = points(jnp.float64, 2), MonteCarlo(jax.random.key(7), 16, 2)
    shapes = structs(layer_shapes(4, 16, CHANNELS, 1), jnp.float64)
    limit = infinite.limit(as_written(f), shapes, x, prior=rule, monte_carlo=draws, check_width=False)
    kernel = limit.ntk if tangent else limit.nngp
    total = jax.jit(lambda a: kernel(a, x[::-1])[0, 0])
    step = jnp.zeros_like(x).at[0, 0, 0].set(1e-4)
    difference = (total(x + step) - total(x - step)) / 2e-4
    # four tokens in three dimensions: their covariance is singular, its root known to some 1e-9, over the step
    assert abs(jax.grad(total)(x)[0, 0, 0] - difference) < 1e-4 * abs(difference) + 1e-5 * abs(total(x))
    if not tangent:
        with pytest.raises(ValueError, match="drawn scores with kinks"):
            jax.grad(lambda a: limit.ntk(a, x[::-1])[0, 0])(x)
