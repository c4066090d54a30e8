"""Functions of several positions, drawn: max-pooling and the like, against formulas and against drawn networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.simulation import measure, structs
from infinite.zoo import NHWC, as_written
from jax import lax

from jaxtheory import infinite
from jaxtheory.infinite import MonteCarlo, prior

SIGMA_W = 1.3
RULE = prior.ntk(SIGMA_W, 0.0)
PAIRS = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 3)), jnp.float32)
TOKENS = jnp.asarray(np.random.default_rng(1).standard_normal((3, 4, 3)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(2).standard_normal((3, 4, 4, 2)), jnp.float32)


@pytest.fixture(autouse=True)
def as_users_write(unchecked):
    """With NumPy's promotion, and without shapes checked by beartype."""
    with relaxed_promotion():
        yield


def limit(f, shapes, x, draws=None, **options):
    return infinite.limit(as_written(f), structs(shapes, jnp.float32), x, prior=RULE, monte_carlo=draws, **options)


def largest(p, x):
    return (x @ p["a"]).max(1) @ p["o"]


def test_the_larger_of_two_gaussians_has_its_second_moment():
    """E max(g, h)² = (E g² + E h²)/2, as max² + min² = g² + h² and (g, h) and (−g, −h) have one law."""
    draws = MonteCarlo(jax.random.key(0), 512, 8)
    found = limit(largest, {"a": (3, 8), "o": (8, 1)}, PAIRS, draws, check_width=False).estimate(PAIRS)
    exact = SIGMA_W**4 * np.sum(np.square(PAIRS), (1, 2)) / 6
    assert (np.abs(np.diag(found.nngp) - exact) < 5 * np.diag(found.nngp_error)).all()
    # of 4096 draws of a square whose standard deviation is at most √2 times its mean
    assert (np.diag(found.nngp_error) < 3 * 2**0.5 / 64 * exact).all()
    # each channel's gradient is that of one of the two, and so is that of the readout: ∂_o gives max², ∂_a the same
    assert (np.abs(np.diag(found.ntk) - 2 * exact) < 5 * np.diag(found.ntk_error)).all()


def convolve(k, h):
    return lax.conv_general_dilated(h, k, (1, 1), "SAME", dimension_numbers=NHWC)


def max_pooled(p, x):
    """As in VGG."""
    h = nn.max_pool(jax.nn.relu(convolve(p["k"], x)), (2, 2), (2, 2))
    h = nn.max_pool(jax.nn.relu(convolve(p["l"], h)), (2, 2), (1, 2), "SAME")
    return h.reshape(len(x), -1) @ p["o"]


def activated_average(p, x):
    """As in DenseNet: an activation of pooled activations, beside the image that was pooled."""
    h = jax.nn.relu(convolve(p["k"], x))
    pooled = nn.avg_pool(h, (2, 2), (2, 2))
    return jnp.concatenate([jax.nn.relu(pooled - 0.5).mean((1, 2)), h.max((1, 2))], -1) @ p["o"]


def residual_max(p, x):
    """A residual sum of pooled values, normalized."""
    h = nn.max_pool(convolve(p["k"], x), (3, 3), (1, 1), "SAME")
    h = h + convolve(p["l"], jnp.tanh(h))
    return jax.nn.relu(h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 0.01)).mean((1, 2)) @ p["o"]


def tokens(p, x):
    """The largest and the median token, a running maximum, and the smallest."""
    h = jnp.tanh(x @ p["a"])
    return (jnp.sort(h, 1)[:, 1] + h.max(1) + lax.cummax(h, 1).mean(1) - 0.5 * h.min(1)) @ p["o"]


def gated(p, x):
    """A gate of pooled values on the values that are pooled, then an activation."""
    h = jax.nn.relu(x @ p["a"])
    gate = jax.nn.sigmoid(h.mean(1, keepdims=True))
    return jax.nn.relu(h * gate - 0.1).mean(1) @ p["o"]


def smaller_of_both(p, x):
    """The smaller of two layers whose inputs are dependent."""
    g, h = x[:, 0] @ p["a"], x[:, 1] @ p["a"]
    return jnp.minimum(jax.nn.relu(g), jnp.tanh(h)) @ p["o"]


def depthwise(p, x):
    """As in ConvMixer: an activation of a convolution of each channel by itself, beside what it convolves."""
    h = jax.nn.relu(convolve(p["k"], x))
    d = lax.conv_general_dilated(
        h, p["d"], (1, 2), "SAME", rhs_dilation=(1, 2), dimension_numbers=NHWC, feature_group_count=h.shape[-1]
    )
    return (jnp.maximum(d + p["b"], 0) + h[:, :, : d.shape[2]]).mean((1, 2)) @ p["o"]


DRAWN = {
    "depthwise": (depthwise, lambda n, o: {"k": (2, 2, 2, n), "d": (2, 2, 1, n), "b": (n,), "o": (n, o)}, IMAGES),
    "max-pooling": (max_pooled, lambda n, o: {"k": (3, 3, 2, n), "l": (2, 2, n, n), "o": (2 * n, o)}, IMAGES),
    "activated average": (activated_average, lambda n, o: {"k": (3, 3, 2, n), "o": (2 * n, o)}, IMAGES),
    "residual": (residual_max, lambda n, o: {"k": (3, 3, 2, n), "l": (2, 2, n, n), "o": (n, o)}, IMAGES),
    "tokens": (tokens, lambda n, o: {"a": (3, n), "o": (n, o)}, TOKENS),
    "gated": (gated, lambda n, o: {"a": (3, n), "o": (n, o)}, TOKENS),
    "smaller of both": (smaller_of_both, lambda n, o: {"a": (3, n), "o": (n, o)}, TOKENS),
}
WIDTH, OUTPUTS, DRAWS = 128, 64, 40


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_networks_have_the_kernels_of_the_limit(name):
    """Within 5 standard errors of both and a bias of order 1/width."""
    f, shapes, x = DRAWN[name]
    found = limit(f, shapes(16, 1), x, MonteCarlo(jax.random.key(1), 128, 8), check_width=False).estimate(x)
    drawn = measure(as_written(f), shapes(WIDTH, OUTPUTS), RULE, x, jax.random.key(2), DRAWS, OUTPUTS)
    for kernel, own, mean, error in (
        (found.nngp, found.nngp_error, drawn.nngp, drawn.nngp_error),
        (found.ntk, found.ntk_error, drawn.ntk, drawn.ntk_error),
    ):
        z = (np.abs(np.asarray(kernel) - mean) - 4 / WIDTH * np.abs(mean).max()) / np.hypot(np.asarray(own), error)
        assert z.max() < 5, f"z = {z.max():.1f}"


SHAPES = {"a": (3, 8), "o": (8, 1)}
REFUSED = {
    "without draws": (largest, None, r"pass monte_carlo=MonteCarlo\(key\)"),
    "of channels": (
        lambda p, x: jnp.sort(jax.nn.relu(x @ p["a"]), -1).mean(1) @ p["o"],
        MonteCarlo(jax.random.key(0)),
        "orders channels",
    ),
    "of a parameter": (
        lambda p, x: (x @ p["a"]).mean(1) * p["o"].max(0) @ p["o"],
        MonteCarlo(jax.random.key(0)),
        "compares the entries of a parameter",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.first_case
def test_what_is_not_drawn_is_refused_with_an_action(name):
    f, draws, words = REFUSED[name]
    with pytest.raises(infinite.NoLimitError, match=words) as caught:
        limit(f, SHAPES, TOKENS, draws)
    assert "test_fields.py:" in str(caught.value)


@pytest.mark.slow
def test_gradients_of_draws_are_refused():
    kernel = limit(largest, SHAPES, TOKENS, MonteCarlo(jax.random.key(0), 8, 2), check_width=False).nngp
    with pytest.raises(ValueError, match="finite differences"):
        jax.grad(lambda x: kernel(x).sum())(TOKENS)
