"""Attention without a softmax, keys times values first: against a formula, the other order, and drawn networks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.test_scores import agree
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import prior

SIGMA, TOKENS, CHANNELS, WIDTH = 1.2, 3, 3, 512
RULE = prior.ntk(SIGMA)
X = jnp.asarray(np.random.default_rng(4).standard_normal((3, TOKENS, CHANNELS)), jnp.float32)


def keys_first(q, k, v):
    return q @ jnp.einsum("bsd,bse->bde", k, v)


def values_first(q, k, v):
    """The matrix transposed, as where values are the left operand."""
    return jnp.einsum("bed,btd->bte", jnp.einsum("bse,bsd->bed", v, k), q)


def causal(q, k, v):
    return jnp.einsum("btd,btde->bte", q, jnp.cumsum(jnp.einsum("btd,bte->btde", k, v), 1))


def causal_by_products(q, k, v):
    return jnp.einsum("btd,btde->bte", q, jnp.cumsum(k[..., None] * v[:, :, None], 1))


def anticausal(q, k, v):
    return jnp.einsum("btd,btde->bte", q, jax.lax.cumsum(jnp.einsum("btd,bte->btde", k, v), 1, reverse=True))


def scores_first(q, k, v):
    return (q @ k.swapaxes(1, 2)) @ v


def network(p, x, attend=keys_first, feature=jax.nn.relu, token=-1):
    """One layer, over d or with weights that add up to one, read at one token, the last if not said otherwise."""
    q, k, v = (x @ p[name] for name in "qkv")
    q, k = feature(q) / q.shape[-1], feature(k)
    return (attend(q, k, v) @ p["w"])[:, token]


def normalized(p, x):
    """Two layers of it with residuals, the sum of each token's weights divided out after both products."""
    h = x @ p["in"]
    for layer in (p["one"], p["two"]):
        q, k, v = (h @ layer[name] for name in "qkv")
        q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
        h = h + keys_first(q, k, v) / jnp.einsum("btd,bd->bt", q, k.sum(1))[..., None]
    return h.mean(1) @ p["o"]


def causal_layers(p, x):
    """The same where each token sums over those before it."""
    h = x @ p["in"]
    for layer in (p["one"], p["two"]):
        q, k, v = (h @ layer[name] for name in "qkv")
        q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
        h = h + causal(q, k, v) / jnp.einsum("btd,btd->bt", q, jnp.cumsum(k, 1))[..., None]
    return h.mean(1) @ p["o"]


def of_heads(p, x):
    """Heads whose matrices are divided by their size."""
    q, k, v = (jnp.einsum("btc,chd->bthd", x, p[name]) for name in "qkv")
    state = jnp.einsum("bshd,bshe->bhde", jax.nn.relu(k), v) / q.shape[-1]
    return jnp.einsum("bthd,hdc->btc", jnp.einsum("bthd,bhde->bthe", jax.nn.relu(q), state), p["w"])[:, 0]


def shapes(n, outputs):
    return {**dict.fromkeys("qkv", (CHANNELS, n)), "w": (n, outputs)}


def deep_shapes(n, outputs):
    layer = dict.fromkeys("qkv", (n, n))
    return {"in": (CHANNELS, n), "one": layer, "two": layer, "o": (n, outputs)}


def head_shapes(n, outputs):
    return {**dict.fromkeys("qkv", (CHANNELS, 4, n)), "w": (4, n, outputs)}


def rule(path, shape):
    return RULE(path, (shape[0], 1) if path[-1] in "qkv" else shape)


def limit(f, of=shapes, given=RULE, **options):
    return infinite.limit(as_written(f), structs(of(64, 1), jnp.float32), X, prior=given, **options)


@pytest.mark.slow
def test_weights_are_products_of_means_in_every_order():
    """E relu(q_t) relu(k_s) = √(K_tt K_ss)/2π for independent q and k, so that E o_t o_t' is a sum over s and s'."""
    kernel = SIGMA**2 * np.einsum("atc,bsc->abts", X, X) / CHANNELS
    size = np.sqrt(np.einsum("aatt->at", kernel) / (2 * np.pi))
    weights = size[:, -1, None] * size
    expected = SIGMA**2 * np.einsum("as,abst,bt->ab", weights, kernel, weights)
    found = limit(network, check_width=False).both(X)
    np.testing.assert_allclose(found.nngp, expected, rtol=2e-5)
    for order in (values_first, scores_first):
        other = limit(partial(network, attend=order), check_width=False).both(X)
        np.testing.assert_allclose(other.nngp, found.nngp, rtol=2e-5)
        np.testing.assert_allclose(other.ntk, found.ntk, rtol=2e-5)


@pytest.mark.parametrize(
    ("attend", "some"),
    [
        (causal, [1, 1, 0]),
        pytest.param(causal_by_products, [1, 1, 0], marks=pytest.mark.slow),
        pytest.param(anticausal, [0, 1, 1], marks=pytest.mark.slow),
    ],
    ids=["einsum", "products", "reverse"],
)
def test_running_sums_are_masks_of_the_weights(attend, some):
    """At the second token, over those up to it or from it on."""
    kernel = SIGMA**2 * np.einsum("atc,bsc->abts", X, X) / CHANNELS
    size = np.sqrt(np.einsum("aatt->at", kernel) / (2 * np.pi))
    weights = size[:, 1, None] * size * np.array(some)
    expected = SIGMA**2 * np.einsum("as,abst,bt->ab", weights, kernel, weights)
    found = limit(partial(network, attend=attend, token=1), check_width=False).nngp(X)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


DRAWN = {
    "causal": (causal_layers, deep_shapes, RULE),
    "over d": (network, shapes, RULE),
    "normalized": (normalized, deep_shapes, RULE),
    "of heads": (of_heads, head_shapes, rule),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_networks_have_the_kernels_of_the_limit(name):
    f, of, given = DRAWN[name]
    exact = limit(f, of, given).estimate(X)
    agree(exact, measure(as_written(f), of(WIDTH, 64), given, X, jax.random.key(3), 32, 64), WIDTH)


@pytest.mark.slow
def test_what_such_a_matrix_is_not_used_for_is_refused_with_a_step():
    """An activation of it has no limit as an average over channels; scores of mean zero are scaled before the sum."""

    def bent(p, x):
        q, k, v = (x @ p[name] for name in "qkv")
        return (q @ jnp.tanh(jnp.einsum("bsd,bse->bde", k, v)) @ p["w"])[:, -1]

    with pytest.raises(infinite.NoLimitError, match=r"channels by channels.*write \(q @ k.T\) @ v") as caught:
        limit(bent)
    assert "test_linear_attention.py:" in str(caught.value)

    def summed(p, x):
        q, k, v = (x @ p[name] for name in "qkv")
        return ((q[..., None] * (k[..., None] + v[:, :, None])).sum(2) @ p["w"])[:, -1]

    with pytest.raises(infinite.NoLimitError, match="a matrix of channels by channels"):
        limit(summed)
    plain = partial(network, feature=lambda a: a)
    assert not np.asarray(limit(plain).nngp(X)).any()  # over d they vanish
    with pytest.raises(infinite.NoLimitError, match="keeps fluctuating"):
        limit(lambda p, x: plain(p | {"q": p["q"] * p["q"].shape[-1] ** 0.5}, x))
    with pytest.raises(infinite.NoLimitError, match="queries / d"):
        limit(lambda p, x: plain(p | {"q": p["q"] * p["q"].shape[-1]}, x) / p["q"].shape[-1])
