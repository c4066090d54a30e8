"""Rotary positions, grouped queries, and other known numbers that multiply the channels of queries and keys."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.test_scores import agree, layer_shapes, rule
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import MonteCarlo

HEADS, SIZE, TOKENS, CHANNELS, STEP = 4, 16, 3, 3, 3.0
KEY = jax.random.key(1)


def frequencies(count):
    """Turns of each pair of channels from token to token."""
    return STEP / 20.0 ** (jnp.arange(count) / count)


def halves(x):
    """Rotated [b t h d], as GPT-NeoX and Llama do: channels j and j + d/2 are a pair."""
    a, b = jnp.split(x, 2, -1)
    angle = jnp.arange(x.shape[1])[:, None] * frequencies(x.shape[-1] // 2)
    angle = jnp.concatenate([angle, angle], -1)[:, None]
    return x * jnp.cos(angle) + jnp.concatenate([-b, a], -1) * jnp.sin(angle)


def pairs(x):
    """Rotated as RoFormer does: channels 2j and 2j + 1 are a pair."""
    a, b = x[..., ::2], x[..., 1::2]
    angle = (jnp.arange(x.shape[1])[:, None] * frequencies(x.shape[-1] // 2))[:, None]
    turned = jnp.stack([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)
    return turned.reshape(x.shape)


def complex_pairs(x):
    """The same as the first implementation of Llama writes it, by complex numbers."""
    parts = x.reshape(*x.shape[:-1], -1, 2)
    angle = (jnp.arange(x.shape[1])[:, None] * frequencies(x.shape[-1] // 2))[:, None]
    turned = jax.lax.complex(parts[..., 0], parts[..., 1]) * jnp.exp(1j * angle)
    return jnp.stack([turned.real, turned.imag], -1).reshape(x.shape)


def partly(x):
    """The first half of the channels rotated, the others as they are, as GPT-NeoX does it with a quarter."""
    turned, kept = jnp.split(x, [x.shape[-1] // 2], -1)
    return jnp.concatenate([halves(turned), kept], -1)


def partly_in_pairs(x):
    """As GPT-J does: half of the channels rotated two by two, the others as they are."""
    turned, kept = jnp.split(x, [x.shape[-1] // 2], -1)
    crossed = jnp.stack([-turned[..., 1::2], turned[..., ::2]], -1).reshape(turned.shape)
    angle = jnp.repeat((jnp.arange(x.shape[1])[:, None] * frequencies(x.shape[-1] // 4))[:, None], 2, -1)
    return jnp.concatenate([turned * jnp.cos(angle) + crossed * jnp.sin(angle), kept], -1)


def partly_reshaped(x):
    """The same, a third of the channels, with the two of a pair on an axis of their own."""
    turned, kept = jnp.split(x, [2 * (x.shape[-1] // 6)], -1)
    a, b = jnp.moveaxis(turned.reshape(*turned.shape[:-1], -1, 2), -1, 0)
    angle = (jnp.arange(x.shape[1])[:, None] * frequencies(a.shape[-1]))[:, None]
    pair = [a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)]
    return jnp.concatenate([jnp.stack(pair, -1).reshape(turned.shape), kept], -1)


def in_three(x):
    """A quarter of the channels rotated, in three runs of unlike length."""
    a, b, kept = jnp.split(x, [x.shape[-1] // 8, x.shape[-1] // 4], -1)
    angle = (jnp.arange(x.shape[1])[:, None] * frequencies(x.shape[-1] // 8))[:, None]
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle), kept], -1)


def ramp(x):
    """Channels times numbers between 0 and 2."""
    return x * ((jnp.arange(x.shape[-1]) + 0.5) / x.shape[-1] * 2)


def repeated(q, k, v):
    """Heads of keys and values repeated, each for a group of queries."""
    k, v = (jnp.repeat(a, q.shape[2] // k.shape[2], axis=2) for a in (k, v))
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5, -1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def grouped(q, k, v):
    """Groups of queries as an axis that keys and values do not have."""
    groups = q.reshape(*q.shape[:2], k.shape[2], -1, q.shape[-1])
    weights = jax.nn.softmax(jnp.einsum("bqkgd,bskd->bkgqs", groups, k) / q.shape[-1] ** 0.5, -1)
    return jnp.einsum("bkgqs,bskd->bqkgd", weights, v).reshape(q.shape)


def attention(p, x, turn, attend):
    """One layer, read at the last token."""
    q, k, v = (jnp.einsum("btc,chd->bthd", x, p[name]) for name in "qkv")
    return jnp.einsum("bthd,hdc->btc", attend(turn(q), turn(k), v), p["w"])[:, -1]


def shapes(heads, shared, size, outputs):
    """Of `shared` heads of keys and values."""
    return layer_shapes(heads, size, CHANNELS, outputs) | dict.fromkeys("kv", (CHANNELS, shared, size))


def points(n=2):
    return jnp.asarray(1.5 * np.random.default_rng(2).standard_normal((n, TOKENS, CHANNELS)), jnp.float32)


def limit(turn, attend=repeated, shared=HEADS, samples=64, groups=16, **options):
    f = as_written(partial(attention, turn=turn, attend=attend))
    given = structs(shapes(HEADS, shared, SIZE, 1), jnp.float32)
    return infinite.limit(f, given, points(), prior=rule, monte_carlo=MonteCarlo(KEY, samples, groups), **options)


def rotation(t, s, t2, s2):
    """Mean over channels of what the covariance of two scores is multiplied by."""
    return np.cos(np.asarray(frequencies(SIZE // 2), np.float64) * ((s - t) - (s2 - t2))).mean()


def part_factor(t, s, t2, s2):
    angles = np.asarray(frequencies(SIZE // 4), np.float64) * ((s - t) - (s2 - t2))
    return np.cos(angles).mean() / 2 + 1 / 2


def ramp_factor(*_):
    return (((np.arange(SIZE) + 0.5) / SIZE * 2) ** 4).mean()


def expected_nngp(x, factor, draws):
    """E over scores, drawn from their covariance K_tt' K_ss' · factor, and the deviation of one draw."""
    k = 1.2**2 * np.einsum("atc,bsc->abts", x, x) / CHANNELS
    n, places = len(x), list(np.ndindex(len(x), TOKENS, TOKENS))
    law = np.array([[k[a, b, t, u] * k[a, b, s, r] * factor(t, s, u, r) for b, u, r in places] for a, t, s in places])
    root = np.linalg.cholesky(law + 1e-9 * np.eye(len(law)))
    scores = (np.random.default_rng(1).standard_normal((draws, len(law))) @ root.T).reshape(-1, n, TOKENS, TOKENS)
    weights = np.exp(scores[:, :, -1])
    weights /= weights.sum(-1, keepdims=True)
    values = 1.2**2 * np.einsum("zas,abst,zbt->zab", weights, k, weights)
    return values.mean(0), values.std(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turn", "factor", "samples"),
    [
        (halves, rotation, 256),
        (ramp, ramp_factor, 256),
        *(pytest.param(turn, part_factor, 512, marks=pytest.mark.slow) for turn in (partly, partly_in_pairs)),
    ],
)
@pytest.mark.first_case
def test_scores_have_the_covariance_of_their_channels(turn, factor, samples):
    """A sum over channels that differ is no product of averages; against draws from the explicit covariance."""
    x, draws, groups = points(), 50_000, 32
    found = np.asarray(limit(turn, samples=samples, groups=groups, check_width=False).nngp(x))
    mean, deviation = expected_nngp(np.asarray(x, np.float64), factor, draws)
    z = np.abs(found - mean) / (deviation * (1 / draws + 1 / (samples * groups)) ** 0.5)
    assert z.max() < 5
    plain, _ = expected_nngp(np.asarray(x, np.float64), lambda *_: 1.0, draws)
    assert (np.abs(mean - plain) > 8 * deviation / (samples * groups) ** 0.5).any()  # so that the numbers matter


@pytest.mark.slow
@pytest.mark.parametrize("shared", [2, 1])
def test_all_ways_to_write_rotations_and_groups_have_one_limit(shared):
    """Within five standard errors of their draws."""
    x, options = points(1), {"samples": 64, "groups": 8, "check_width": False}
    one, two = (
        limit(turn, attend, shared, **options).estimate(x) for turn, attend in ((halves, repeated), (pairs, grouped))
    )
    for first, second, error, another in (
        (one.nngp, two.nngp, one.nngp_error, two.nngp_error),
        (one.ntk, two.ntk, one.ntk_error, two.ntk_error),
    ):
        assert (np.abs(np.asarray(first - second)) < 5 * np.hypot(np.asarray(error), np.asarray(another))).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turn", "attend", "shared"),
    [
        (halves, repeated, 48),
        (pairs, grouped, 24),
        (complex_pairs, repeated, 48),
        (ramp, repeated, 48),
        (in_three, repeated, 48),
        (partly_in_pairs, repeated, 48),
        (partly_reshaped, grouped, 24),
    ],
)
def test_drawn_networks_have_the_kernels_of_the_limit(turn, attend, shared):
    """Both kernels, at as many frequencies as the limit has."""
    x, f = points(), as_written(partial(attention, turn=turn, attend=attend))
    given = structs(shapes(4, 4 * shared // 48, 48, 1), jnp.float32)
    exact = infinite.limit(f, given, x, prior=rule, monte_carlo=MonteCarlo(KEY, 256, 16)).estimate(x)
    found = measure(f, shapes(48, shared, 48, 64), rule, x, jax.random.key(6), 64, 64)
    agree(exact, found, 48)


def test_numbers_of_single_heads_are_refused():
    """Each head would have a limit of its own."""

    def turn(x):
        return x * jnp.arange(1.0, 1 + x.shape[2])[:, None]

    with pytest.raises(infinite.NoLimitError, match="differ between heads") as caught:
        limit(turn)
    assert "test_rotary.py:" in str(caught.value)


def biased(p, x):
    """A temperature of each head, and a bias of each pair of positions, added to the scores."""
    q, k, v = (jnp.einsum("btc,chd->bthd", x, p[name]) for name in "qkv")
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5 * p["temperature"] + p["bias"]
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v)
    return jnp.einsum("bthd,hdc->btc", mixed, p["w"])[:, -1]


@pytest.mark.slow
def test_parameters_of_scores_that_all_heads_share_are_constants_or_named():
    """With variance 0 they are their means; else the message names the parameter and the prior that helps."""
    given = structs(
        shapes(HEADS, HEADS, SIZE, 1) | {"temperature": (1, 1, 1), "bias": (1, TOKENS, TOKENS)}, jnp.float32
    )

    def fixed(path, shape):
        constants = {"temperature": infinite.Moments(1.0, 0.0, 0.0), "bias": infinite.Moments(0.5, 0.0, 0.0)}
        return constants.get(path) or rule(path, shape)

    x, options = points(), {"monte_carlo": MonteCarlo(KEY, 16, 2), "check_width": False}
    found = infinite.limit(as_written(biased), given, x, prior=fixed, **options).nngp(x)
    plain = limit(lambda q: q, samples=16, groups=2, check_width=False).nngp(x)
    np.testing.assert_allclose(found, plain, rtol=1e-4)  # a common bias does not change a softmax
    with pytest.raises(infinite.NoLimitError, match=r"parameter temperature has no channel axis.*give it variance 0"):
        infinite.limit(as_written(biased), given, x, prior=rule, **options)
