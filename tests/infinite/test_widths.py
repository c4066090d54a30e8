"""Factors of the width wherever they are written, and what belongs to one width alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.recursion import relu_kernels
from infinite.simulation import structs

from jaxtheory import infinite
from jaxtheory.infinite import prior
from jaxtheory.networks import multilayer

WIDTH, SIGMA_W = 64, 1.4
SHAPES = {"a": (3, WIDTH), "w": (WIDTH, WIDTH), "o": (WIDTH, 1)}
X = np.random.default_rng(0).standard_normal((3, 3))
SCALE = SIGMA_W / np.sqrt(WIDTH)  # a number of the program, as of a width that the user holds


@pytest.fixture(autouse=True)
def as_users_write():
    """With NumPy's promotion."""
    with relaxed_promotion():
        yield


def layer(how):
    """h W σ_w/√fan_in as it is written, W of unit variance."""
    return {
        "after, by the shape of the input": lambda h, w: SIGMA_W * (h @ w) / jnp.sqrt(h.shape[-1]),
        "after, by the shape of the weight": lambda h, w: (SIGMA_W * (1 / w.shape[0]) ** 0.5) * (h @ w),
        "after, by NumPy": lambda h, w: h @ w * SIGMA_W / np.sqrt(len(w)),
        "by a reciprocal root": lambda h, w: SIGMA_W * jax.lax.rsqrt(jnp.float32(h.shape[-1])) * jnp.dot(h, w),
        "on the weight": lambda h, w: h @ (w * (SIGMA_W / w.shape[0] ** 0.5)),
        "on the input": lambda h, w: (h * (SIGMA_W / h.shape[-1] ** 0.5)) @ w,
        "by a width that is held": lambda h, w: h @ w * SIGMA_W / (np.sqrt(WIDTH) if len(w) > 3 else 3**0.5),
        "by the square root in JAX of one": lambda h, w: SIGMA_W * h @ w / jnp.sqrt(WIDTH if len(w) > 3 else len(w)),
    }[how]


def network(how):
    dense = layer(how)
    return lambda p, x: dense(jax.nn.relu(dense(jax.nn.relu(dense(x, p["a"])), p["w"])), p["o"])


SLOW = (
    "after, by the shape of the weight", "after, by NumPy", "by a reciprocal root", "on the weight", "on the input",
    "by the square root in JAX of one",
)  # fmt: skip
FAST = ("after, by the shape of the input", "by a width that is held")


@pytest.mark.parametrize("how", [*FAST, *(pytest.param(how, marks=pytest.mark.slow) for how in SLOW)])
@pytest.mark.first_case
def test_the_tangent_parameterization_as_it_is_written(how):
    """Passes by default, and is the recursion."""
    kernels = infinite.limit(network(how), structs(SHAPES, jnp.float32), X, prior=prior.unit()).both(X)
    nngp, ntk = relu_kernels(np.asarray(X), 2, SIGMA_W, 0.0)
    np.testing.assert_allclose(kernels.nngp, nngp, rtol=1e-4)
    np.testing.assert_allclose(kernels.ntk, ntk, rtol=1e-4)


def test_a_factor_that_is_taken_back_after_a_homogeneous_function():
    """√(2/n) relu(W h), as in Arora et al. (2019): what is between has a power of the width, the kernel has none."""
    f = lambda p, x: jax.nn.relu(x @ p["a"]) * np.sqrt(2 / WIDTH) @ p["o"]  # noqa: E731
    g = lambda p, x: jax.nn.relu(x @ p["a"] * WIDTH**0.5) / p["o"].shape[0] @ p["o"] * 2**0.5  # noqa: E731
    expected = np.array([[1.0, 0.5], [0.5, 1.0]])
    x = np.sqrt(3) * np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    for network in (f, g):
        kernel = infinite.limit(network, structs(SHAPES, jnp.float32), x, prior=prior.unit()).nngp(x)
        np.testing.assert_allclose(kernel, 3 * np.where(expected == 1, 1.0, 1 / np.pi), rtol=1e-5)


GROWING = {
    "the output": (lambda p, x: jax.nn.relu(x @ p["a"]) @ p["o"], "2 times as large"),
    "a saturating activation": (
        lambda p, x: jnp.tanh(x @ p["a"] * len(p["o"]) ** 0.5) @ p["o"] / 8.0,
        "2 times as large",
    ),
    "a wave": (lambda p, x: jnp.sin(x @ p["a"] * len(p["o"])) @ p["o"] / 8.0, "times as large"),
    "the input of tanh by a held width": (lambda p, x: jnp.tanh(x @ p["a"] * 8.0) @ p["o"] / len(p["o"]), "as large"),
    "an average in an exponential": (
        lambda p, x: (x @ p["a"]) * jnp.exp(-((x @ p["a"]) ** 2).sum(-1, keepdims=True) / 8.0) @ p["o"] / 8.0,
        "what it is given",
    ),
}


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.first_case
def test_what_grows_with_the_width_is_refused(name):
    """The weight and the line are named; the network is read all the same where that is asked for."""
    f, words = GROWING[name]
    with pytest.raises(infinite.NoLimitError, match=f"twice the width.*{words}") as caught:
        infinite.limit(f, structs(SHAPES, jnp.float32), X, prior=prior.unit())
    assert "test_widths.py:" in str(caught.value)
    infinite.limit(f, structs(SHAPES, jnp.float32), X, prior=prior.unit(), check_width=False)


@pytest.mark.slow
def test_networks_that_hold_their_width_have_a_limit_by_default(float64):
    """`networks.multilayer` computes its multipliers beforehand."""
    net = multilayer(3, WIDTH, 1, hidden_layers=2, weight_variance=1.4**2, dtype=jnp.float64)
    shapes = jax.eval_shape(net.init, jax.random.key(0))

    def law(path, shape):
        variance = 0.0 if len(shape) == 1 else 1.4**2 / (shape[0] if path.startswith("0") else 1)
        return infinite.Moments(0.0, variance, variance)

    nngp, _ = relu_kernels(X, 2, 1.4, 0.0)
    kernel = infinite.limit(net.apply, shapes, X, prior=law).nngp(jnp.asarray(X))
    np.testing.assert_allclose(kernel, nngp, rtol=1e-12)


def test_a_convolution_of_each_channel_keeps_its_taps_at_twice_the_width():
    """Three taps and one channel a group: K(x, x') = Σ_t x_t · x'_t / (3 c), which no width enters."""

    def f(p, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, p["in"], (1, 1), "VALID", dimension_numbers=numbers)
        h = jax.lax.conv_general_dilated(
            h, p["own"], (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=h.shape[-1]
        )
        return h[:, 0, 1] @ p["out"]

    x = np.random.default_rng(0).standard_normal((3, 1, 3, 4)).astype(np.float32)
    shapes = structs({"in": (1, 1, 4, WIDTH), "own": (1, 3, 1, WIDTH), "out": (WIDTH, 1)}, jnp.float32)
    found = infinite.limit(f, shapes, jnp.asarray(x), prior=prior.ntk()).nngp(jnp.asarray(x))
    np.testing.assert_allclose(found, np.einsum("iatc,jatc->ij", x, x) / 12, rtol=1e-5, atol=1e-6)


KEY = jax.random.key(0)
MASK = np.random.default_rng(1).integers(0, 2, WIDTH).astype(np.float32)


HELD = {
    "a mask that is held": (lambda p, x: jax.nn.relu(x @ p["a"]) * MASK @ p["o"], "differ between channels"),
    "a mask before the activation": (lambda p, x: jax.nn.relu(x @ p["a"] * MASK) @ p["o"], "differ between channels"),
    "noise": (lambda p, x: (x @ p["a"] + jax.random.normal(KEY, (WIDTH,))) @ p["o"], "draws with a key"),
    "stochastic depth": (lambda p, x: x @ p["a"] * jax.random.bernoulli(KEY, 0.5) @ p["o"], "draws with a key"),
    "dropped weights": (
        lambda p, x: x @ (p["a"] * jax.random.bernoulli(KEY, 0.5, (3, WIDTH))) @ p["o"],
        "draws with a",
    ),
    "a mask for the batch": (
        lambda p, x: x * jax.random.bernoulli(KEY, 0.5, x.shape) @ p["a"] @ p["o"],
        "draws with a key.*deterministic=True",
    ),
    "a mask of all inputs": (
        lambda p, x: jnp.where(jax.random.bernoulli(KEY, 0.5, (3,)), x, 0.0) @ p["a"] @ p["o"],
        "masks inputs by what the program draws with a key.*deterministic=True",
    ),
}


@pytest.mark.parametrize("name", HELD)
@pytest.mark.first_case
def test_numbers_of_one_width_or_one_draw_are_refused(name):
    """The limit would be that of the draw: the line is named, and what to leave out."""
    f, words = HELD[name]
    with pytest.raises(infinite.NoLimitError, match=words) as caught:
        infinite.limit(f, structs(SHAPES, jnp.float32), X, prior=prior.ntk())
    assert "test_widths.py:" in str(caught.value)


@pytest.mark.slow
def test_numbers_of_the_input_and_of_every_width_are_part_of_the_network():
    """A mask of pixels, features that are drawn beforehand, signs that a width of any size has."""
    pixels = np.array([1.0, 0.0, 1.0], np.float32)
    masked = infinite.limit(
        lambda p, x: (x * pixels) @ p["a"] @ p["o"], structs(SHAPES, jnp.float32), X, prior=prior.ntk()
    )
    np.testing.assert_allclose(masked.nngp(X), (X * pixels) @ X.T / 3, rtol=1e-5, atol=1e-6)
    drawn = np.asarray(jax.random.normal(KEY, (3, WIDTH)))
    features = lambda p, x: jnp.tanh(x @ jax.random.normal(KEY, (3, WIDTH))) @ p["o"]  # noqa: E731
    fixed = infinite.limit(features, structs(SHAPES, jnp.float32), X, prior=prior.ntk())
    np.testing.assert_allclose(fixed.nngp(X), np.tanh(X @ drawn) @ np.tanh(X @ drawn).T / WIDTH, rtol=1e-5)
    signs = lambda p, x: jax.nn.relu(x @ p["a"]) * (-1.0) ** jnp.arange(len(p["o"])) @ p["o"]  # noqa: E731
    plain = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["o"]  # noqa: E731
    one, two = (infinite.limit(f, structs(SHAPES, jnp.float32), X, prior=prior.ntk()).nngp(X) for f in (signs, plain))
    np.testing.assert_allclose(one, two, rtol=1e-5)
