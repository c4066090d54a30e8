"""The limit against a recursion written by hand, published values, and what must hold of any kernel."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from flax import nnx
from infinite.recursion import relu_kernels
from infinite.simulation import draw, structs
from infinite.zoo import NETWORKS, as_written
from jax import lax
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import prior
from jaxtheory.kernels.gram import gram
from jaxtheory.networks import multilayer

SIGMA_W, SIGMA_B = 1.4, 0.3


def recursion(x, depth):
    return relu_kernels(x, depth, SIGMA_W, SIGMA_B)


def mlp_of(width, depth, inputs=3, dtype=jnp.float64):
    def f(p, x):
        for layer in p[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"][None])
        return x @ p[-1]["w"] + p[-1]["b"][None]

    sizes = [inputs, *[width] * depth, 1]
    tree = [{"w": (a, b), "b": (b,)} for a, b in itertools.pairwise(sizes)]
    return f, structs(tree, dtype)


@pytest.mark.smoke
def test_relu_network_is_the_recursion(float64):
    """Plain JAX, to round-off, at widths that do not matter."""
    x = np.random.default_rng(1).standard_normal((6, 3))
    f, shapes = mlp_of(8, 3)
    kernels = infinite.limit(f, shapes, jnp.asarray(x), prior=prior.ntk(SIGMA_W, SIGMA_B)).both(jnp.asarray(x))
    expected = recursion(x, 3)
    assert_close(kernels.nngp, expected[0])
    assert_close(kernels.ntk, expected[1], condition=10)


def test_ready_network_is_the_recursion(float64):
    """By scan."""
    x = np.random.default_rng(2).standard_normal((5, 4))
    kernels = infinite.mlp(3, "relu", SIGMA_W, SIGMA_B).both(jnp.asarray(x))
    expected = recursion(x, 3)
    assert_close(kernels.nngp, expected[0])
    assert_close(kernels.ntk, expected[1], condition=10)


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(1, (2, 0.942331, 0.318310, 0)), (2, (3, 1.351480, 0.685709, 0.318310)), (3, (4, 1.737845, 1.060388, 0.685709))],
)
@pytest.mark.first_case
def test_published_values_of_the_bias_free_relu_network(depth, expected, float64):
    """σ_w² = 2 in every layer and |x|² = d/2, at cosines 1, 1/2, 0 and −1, to the digits that are published."""
    cosine = jnp.array([1.0, 0.5, 0.0, -1.0])
    x = jnp.stack([cosine, jnp.sqrt(1 - cosine**2)], 1)
    ntk = infinite.mlp(depth, "relu", 2**0.5, 0.0).ntk(x[:1], x)
    np.testing.assert_allclose(ntk[0], expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_flax_modules_of_both_kinds_are_their_plain_functions(float64):
    """Linen and NNX, with shapes only or with parameters."""

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.relu(nn.Dense(8)(x)))

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.one = nnx.Linear(3, 8, rngs=rngs)
            self.two = nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.two(nnx.relu(self.one(x)))

    x = jnp.asarray(np.random.default_rng(3).standard_normal((4, 3)))
    expected = recursion(np.asarray(x), 1)
    for model in (Linen(), Nnx(nnx.Rngs(0))):
        with relaxed_promotion():
            kernels = infinite.limit(model, None, x, prior=prior.ntk(SIGMA_W, SIGMA_B)).both(x)
        assert_close(kernels.ntk, expected[1], condition=10)


def test_weight_one_is_gradient_descent_on_the_parameters(float64):
    """f = W₂ relu(W₁ x) with W ~ N(0, 1/fan_in): Σ over ∂W₂ is n E[relu relu'], over ∂W₁ x·x' E[relu' relu']."""
    n, x = 50, np.array([[1.0, 2.0, -1.0]])
    f = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]  # noqa: E731
    shapes = structs({"a": (3, n), "b": (n, 1)}, jnp.float64)
    ntk = infinite.limit(f, shapes, jnp.asarray(x), prior=prior.lecun()).ntk(jnp.asarray(x))
    norm = float((x**2).sum())
    np.testing.assert_allclose(ntk, n * norm / 3 / 2 + norm / 2, rtol=1e-13)


@pytest.mark.slow
def test_gradients_are_those_of_the_recursion(float64):
    """Finite and right in inputs and in σ_w and σ_b, on the diagonal too, against finite differences."""
    x = np.random.default_rng(4).standard_normal((3, 2))

    @jax.jit
    def total(sigma_w, sigma_b, x):
        return infinite.mlp(2, "relu", sigma_w, sigma_b).ntk(x).sum()

    ours = jax.jit(jax.grad(total, (0, 1, 2)))(1.2, 0.5, jnp.asarray(x))
    step = 1e-6
    for i, direction in enumerate(([step, 0, 0], [0, step, 0])):
        up, down = (total(1.2 + s * direction[0], 0.5 + s * direction[1], jnp.asarray(x)) for s in (1, -1))
        assert abs(ours[i] - (up - down) / (2 * step)) < 1e-6 * abs(ours[i])
    move = np.zeros_like(x)
    move[1, 0] = step
    difference = (total(1.2, 0.5, jnp.asarray(x + move)) - total(1.2, 0.5, jnp.asarray(x - move))) / (2 * step)
    assert abs(ours[2][1, 0] - difference) < 1e-6 * abs(difference)


@pytest.mark.slow
def test_single_precision_is_double_precision_to_the_root_of_epsilon():
    """The angle of nearly equal inputs is known to √eps; everything else is far better."""
    x = np.random.default_rng(6).standard_normal((20, 5)).astype(np.float32)
    single = infinite.mlp(5, "relu", 2**0.5, 0.1).both(jnp.asarray(x))
    with jax.enable_x64(True):
        double = infinite.mlp(5, "relu", 2**0.5, 0.1).both(jnp.asarray(x, jnp.float64))
    for one, two in zip(single, double, strict=True):
        assert np.abs(np.asarray(one) - np.asarray(two)).max() < 5e-6 * np.abs(np.asarray(two)).max()


@pytest.mark.slow
def test_blocks_and_devices_give_the_same_kernel(float64):
    """Through the gram of every kernel function."""
    x = jnp.asarray(np.random.default_rng(7).standard_normal((16, 3)))
    kernel = infinite.mlp(2, "erf", 1.2, 0.1).ntk
    whole = kernel(x)
    assert_close(gram(kernel, x, block=5), whole, condition=10)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    assert_close(gram(kernel, x, mesh=mesh), whole, condition=10)


@pytest.mark.slow
def test_rolled_and_written_out_loops_agree(float64):
    """A scan over layers is the same network written out."""
    net = NETWORKS["mlp by scan"]
    x = jnp.asarray(np.random.default_rng(8).standard_normal((3, 3)))
    shapes = structs(net.shapes(8, 1), jnp.float64)
    rule = lambda path, shape: prior.ntk(1.3, 0.2)(path, shape[-2:])  # noqa: E731

    def unrolled(p, x):
        h = x @ p["w0"]
        for i in range(4):
            h = jax.nn.relu(h) @ p["w"][i]
        return h @ p["o"]

    one = infinite.limit(as_written(net.f), shapes, x, prior=rule).both(x)
    two = infinite.limit(unrolled, shapes, x, prior=rule).both(x)
    assert_close(one.nngp, two.nngp)
    assert_close(one.ntk, two.ntk)


@pytest.mark.slow
def test_members_of_an_ensemble_are_added_and_not_averaged(float64):
    """By vmap the members are an axis of channels; the sum of five has five times the kernel, and a readout on it."""
    member = lambda x, w, v: jax.nn.relu(x @ w) @ v  # noqa: E731
    together = lambda p, x: jax.vmap(member, (None, 0, 0))(x, p["w"], p["v"]).sum(0) @ p["o"]  # noqa: E731
    shapes = structs({"w": (5, 3, 16), "v": (5, 16, 16), "o": (16, 1)}, jnp.float64)
    rule = lambda path, shape: prior.ntk(1.3)(path, shape[-2:])  # noqa: E731
    x = np.random.default_rng(11).standard_normal((3, 3))
    ours = infinite.limit(together, shapes, jnp.asarray(x), prior=rule).both(jnp.asarray(x))
    nngp, ntk = relu_kernels(x, 1, 1.3, 0.0)
    assert_close(ours.nngp, 5 * 1.3**2 * nngp, condition=10)
    assert_close(ours.ntk, 5 * 1.3**2 * (nngp + ntk), condition=10)


def test_initializers_are_validated():
    """A rule that does not describe the draws is refused, and names the parameter."""
    shapes = {"a": {"kernel": (300, 200)}, "b": {"kernel": (200, 100)}}
    params = draw(shapes, prior.lecun(), jax.random.key(0), jnp.float32)
    prior.validate(prior.lecun(), params)
    with pytest.raises(ValueError, match="a/kernel"):
        prior.validate(prior.he(), params)


def test_a_static_condition_takes_its_branch(float64):
    """`lax.cond` on a constant is the branch that it takes."""
    f, shapes = mlp_of(8, 1)
    conditional = lambda p, x: lax.cond(jnp.asarray(True), f, lambda p, x: 2 * f(p, x), p, x)  # noqa: E731
    x = jnp.asarray(np.random.default_rng(9).standard_normal((2, 3)))
    kernels = infinite.limit(conditional, shapes, x, prior=prior.ntk(SIGMA_W, SIGMA_B)).both(x)
    assert_close(kernels.nngp, recursion(np.asarray(x), 1)[0])


@jax.custom_vjp
def hard_sign(h):
    return jnp.sign(h)


hard_sign.defvjp(lambda h: (jnp.sign(h), None), lambda _, g: (g,))

BAD = {
    "batch normalization in training": (
        lambda p, x: jax.nn.relu(x @ p["a"] - (x @ p["a"]).mean(0, keepdims=True)) @ p["o"],
        "mixes the examples",
    ),
    "a straight-through estimator": (lambda p, x: hard_sign(x @ p["a"]) @ p["o"], "derivative rule"),
    "sort": (lambda p, x: jnp.sort(jax.nn.relu(x @ p["a"])) @ p["o"], "sort"),
    "max over channels": (lambda p, x: jax.nn.softmax(x @ p["a"]) @ p["o"], "reduce_max"),
    "a weight and its transpose": (lambda p, x: jnp.tanh(x @ p["a"] @ p["w"]) @ p["w"].T @ p["o"], "another role"),
    "a power of the width": (lambda p, x: jax.nn.relu(x @ p["a"] * p["a"].shape[1] ** 0.5) @ p["o"], "twice the width"),
    "a nonlinearity of a product": (lambda p, x: jnp.tanh((x @ p["a"]) * (x @ p["b"])) @ p["o"], "one Gaussian"),
    "scores that keep fluctuating": (
        lambda p, x: (x @ p["a"]) * jnp.exp((x @ p["a"] * (x @ p["b"])).sum(-1, keepdims=True) / 4.0) @ p["o"],
        "keeps fluctuating",
    ),
    "products of pairs": (
        lambda p, x: jnp.einsum("bcp,bcp->bc", *[(x @ p["a"]).reshape(-1, 8, 2)] * 2) @ p["o"][:8],
        "independent copies",
    ),
    "a sum over the slower and longer axis of channels": (
        lambda p, x: (x @ p["a"]).reshape(-1, 8, 2).sum(1) @ p["o"][:2],
        "which of its axes of channels grow",
    ),
    "weights on copies": (
        lambda p, x: jnp.einsum("bpc,pc->bc", (x @ p["a"]).reshape(-1, 2, 8), p["b"][:2, :8]) @ p["o"][:8],
        "weights of its own over copies",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_has_no_limit_is_refused_with_its_line(name):
    """The operation, the reason and the place in this file."""
    f, words = BAD[name]
    shapes = structs({"a": (3, 16), "b": (3, 16), "w": (16, 16), "o": (16, 1)}, jnp.float32)
    with pytest.raises(infinite.NoLimitError, match=words) as caught:
        infinite.limit(f, shapes, jnp.ones((1, 3)), prior=prior.ntk())
    assert "test_limit.py:" in str(caught.value)


@pytest.mark.slow
def test_modules_whose_widths_are_attributes_are_widened():
    """A linen module is read at twice its width too, with those of the modules in it."""

    class Growing(nn.Module):
        width: int
        power: float

        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.relu(nn.Dense(self.width)(x) * self.width**self.power))

    with relaxed_promotion():
        x = jnp.ones((1, 3))
        for module in (Growing(16, 0.0), nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(1)])):
            assert infinite.limit(module, None, x, prior=prior.ntk()).nngp(x).shape == (1, 1)
        with pytest.raises(infinite.NoLimitError, match="twice the width"):
            infinite.limit(Growing(16, 0.5), None, x, prior=prior.ntk())


@pytest.mark.slow
def test_networks_that_are_trained_have_the_limit_of_ready_ones(float64):
    """`networks.multilayer` in its NTK parameterization, whose multipliers stand in the function, is `mlp`."""
    x = jnp.asarray(np.random.default_rng(10).standard_normal((3, 4)))
    net = multilayer(4, 16, 1, hidden_layers=2, weight_variance=1.4**2, bias_variance=0.3**2, dtype=jnp.float64)
    shapes = jax.eval_shape(net.init, jax.random.key(0))

    def law(path, shape):
        variance = 1.0 if len(shape) == 1 else 1.4**2 / (shape[0] if path.startswith("0") else 1)
        return infinite.Moments(0.0, variance, variance)

    ours = infinite.limit(net.apply, shapes, x, prior=law).both(x)
    ready = infinite.mlp(2, "relu", 1.4, 0.3).both(x)
    assert_close(ours.nngp, ready.nngp)
    assert_close(ours.ntk, ready.ntk)


def test_max_pooling_is_refused():
    """And average pooling offered."""

    def f(p, x):
        h = lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").mean((1, 2)) @ p["o"]

    shapes = structs({"k": (3, 3, 1, 8), "o": (8, 1)}, jnp.float32)
    with pytest.raises(infinite.NoLimitError, match=r"reduce_window_max.*average pooling"):
        infinite.limit(f, shapes, jnp.ones((1, 4, 4, 1)), prior=prior.ntk())


@pytest.mark.slow
def test_kernels_of_one_batch_are_symmetric_to_the_bit():
    """One block of pairs, with an activation that is rounded differently in the two orders of a pair."""

    def network(params, x):
        hidden = jax.nn.elu(jax.nn.elu(x @ params[0]) @ params[1] / params[1].shape[0] ** 0.5)
        return hidden @ params[2] / params[2].shape[0] ** 0.5

    params = [jnp.zeros((1, 64)), jnp.zeros((64, 64)), jnp.zeros((64, 1))]
    x = jnp.linspace(-31, 31, 40)[:, None]
    found = infinite.limit(network, params, x, prior=lambda path, shape: infinite.prior.Moments(0.0, 1.0, 1.0))
    for kernel in (found.nngp(x), found.ntk(x)):
        assert (kernel == kernel.T).all()
