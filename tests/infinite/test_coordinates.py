"""Nonlinearities of several Gaussians: limits drawn by Monte Carlo, against integrals and against drawn networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.zoo import NHWC, as_written
from jax import lax

from jaxtheory import infinite
from jaxtheory.infinite import MonteCarlo, prior

RULE = prior.ntk(1.3, 0.0)


def two_branches(p, x):
    """cos(relu(g) + u) of independent Gaussians g and u."""
    return jnp.cos(jax.nn.relu(x @ p["a"]) + x @ p["u"]) @ p["o"]


def residual(p, x):
    """A residual network that is activated after each sum."""
    h = jax.nn.relu(x @ p["in"])
    for layer in (p["one"], p["two"]):
        h = jax.nn.relu(h + jax.nn.relu(h @ layer["v"]) @ layer["w"])
    return h @ p["o"]


def convolved(p, x):
    """The same of images, with a global pooling."""

    def convolve(k, h):
        return lax.conv_general_dilated(h, k, (1, 1), "SAME", dimension_numbers=NHWC)

    h = jax.nn.relu(convolve(p["in"], x))
    h = jax.nn.relu(h + convolve(p["w"], jax.nn.relu(convolve(p["v"], h))))
    return h.mean((1, 2)) @ p["o"]


def product(p, x):
    """A nonlinearity of a product, and its mean over channels."""
    h = jnp.tanh((x @ p["a"]) * (x @ p["b"]) + 0.5)
    return (h - h.mean(-1, keepdims=True)) @ p["o"]


def mixed(p, x):
    """A gate between a value and a constant, as in a GRU: sums of functions of different sets of Gaussians."""
    new = jnp.tanh(x @ p["n"] + jax.nn.sigmoid(x @ p["r"]) * (x @ p["w"]))
    return ((1 - jax.nn.sigmoid(x @ p["z"])) * new) @ p["o"]


def halves(p, x):
    """Two halves of the channels of one nonlinearity, independent copies of it, in another."""
    one, two = jnp.split(jax.nn.relu(jax.nn.relu(x @ p["a"]) + x @ p["b"]), 2, axis=-1)
    return jnp.tanh(one - 0.5 * two) @ p["o"]


def looped(p, x):
    """Drawn in every turn of a loop whose carry is Gaussian."""

    def step(h, layer):
        return jax.nn.relu(jax.nn.relu(h) + x @ layer["u"]) @ layer["w"], None

    return jnp.tanh(lax.scan(step, x @ p["in"], p["layers"])[0]) @ p["o"]


def residual_shapes(n, o):
    return {"in": (3, n), "one": {"v": (n, n), "w": (n, n)}, "two": {"v": (n, n), "w": (n, n)}, "o": (n, o)}


def convolved_shapes(n, o):
    return {"in": (3, 3, 2, n), "v": (3, 3, n, n), "w": (3, 3, n, n), "o": (n, o)}


def layered(path, shape):
    return RULE(path, shape[-2:])


def points(shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(0).standard_normal((3, *shape)), dtype)


def expected(k11, k12, k22):
    """Both kernels of `two_branches` for g and u of equal covariance, before σ_w² of the readout.

    Given a = relu(g) and b = relu(g'), with m = exp(−E(u ∓ u')²/2):  E cos cos = (cos(a−b) m₋ + cos(a+b) m₊)/2 and
    E sin sin = (cos(a−b) m₋ − cos(a+b) m₊)/2. Both g and g' are integrated over each quadrant by Gauss–Legendre; ∂_u is
    the sine, ∂_g the sine where g and g' are positive, and ⟨∂g, ∂g'⟩ = ⟨∂u, ∂u'⟩ = k12.
    """
    nodes, weights = np.polynomial.legendre.leggauss(80)
    half, weights = 5 * (nodes + 1), 5 * weights
    minus, plus = np.exp(-(k11 + k22 - 2 * k12) / 2), np.exp(-(k11 + k22 + 2 * k12) / 2)
    precision = np.linalg.inv([[k11, k12], [k12, k22]])
    kernel, tangent = 0.0, 0.0
    for left, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        g, h = np.meshgrid(left * half * k11**0.5, right * half * k22**0.5, indexing="ij")
        form = precision[0, 0] * g**2 + 2 * precision[0, 1] * g * h + precision[1, 1] * h**2
        density = (
            np.exp(-form / 2) * np.sqrt(np.linalg.det(precision) * k11 * k22) / (2 * np.pi) * np.outer(weights, weights)
        )
        a, b = np.maximum(g, 0), np.maximum(h, 0)
        one, two = np.cos(a - b) * minus, np.cos(a + b) * plus
        kernel += (density * (one + two) / 2).sum()
        tangent += (density * (one - two) / 2).sum() * k12 * (2 if left == right == 1 else 1)
    return kernel, tangent


@pytest.mark.slow
def test_drawn_channels_have_the_kernels_of_an_integral(float64):
    """Of three inputs in the plane, within five of the standard errors that are given, and these small."""
    x = points((2,), jnp.float64)
    shapes = structs({"a": (2, 8), "u": (2, 8), "o": (8, 1)}, jnp.float64)
    limit = infinite.limit(as_written(two_branches), shapes, x, prior=RULE, monte_carlo=MonteCarlo(jax.random.key(0)))
    found = limit.estimate(x)
    k = 1.3**2 * np.asarray(x @ x.T) / 2
    for i, j in ((0, 1), (0, 2), (1, 2)):
        kernel, tangent = expected(k[i, i], k[i, j], k[j, j])
        for value, error, exact in (
            (found.nngp, found.nngp_error, 1.3**2 * kernel),
            (found.ntk, found.ntk_error, 1.3**2 * (kernel + tangent)),
        ):
            assert abs(float(value[i, j]) - exact) < 5 * float(error[i, j])
            assert float(error[i, j]) < 0.02  # of 2048 draws of numbers of order one, some 1/45 if independent


DRAWN = {
    "residual": (residual, residual_shapes, (3,)),
    "convolved": (convolved, convolved_shapes, (3, 3, 2)),
    "mixed": (mixed, lambda n, o: {**dict.fromkeys("nrwz", (3, n)), "o": (n, o)}, (3,)),
    "halves": (halves, lambda n, o: {"a": (3, n), "b": (3, n), "o": (n // 2, o)}, (3,)),
    "looped": (looped, lambda n, o: {"in": (3, n), "layers": {"u": (2, 3, n), "w": (2, n, n)}, "o": (n, o)}, (3,)),
    "product": (product, lambda n, o: {"a": (3, n), "b": (3, n), "o": (n, o)}, (3,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_networks_have_the_kernels_of_the_limit(name):
    """Within 5 standard errors of both and a bias of order 1/width."""
    f, shapes, example = DRAWN[name]
    x, draws, rule = points(example), MonteCarlo(jax.random.key(1), 256, 16), layered if name == "looped" else RULE
    limit = infinite.limit(as_written(f), structs(shapes(16, 1), jnp.float32), x, prior=rule, monte_carlo=draws)
    exact = limit.estimate(x)
    found = measure(as_written(f), shapes(128, 64), rule, x, jax.random.key(2), 48, 64)
    pairs = (
        (exact.nngp, exact.nngp_error, found.nngp, found.nngp_error),
        (exact.ntk, exact.ntk_error, found.ntk, found.ntk_error),
    )
    for kernel, own, mean, error in pairs:
        z = (np.abs(np.asarray(kernel) - mean) - 4 / 128 * np.abs(mean).max()) / np.hypot(np.asarray(own), error)
        assert z.max() < 5, f"z = {z.max():.1f}"


@pytest.mark.slow
def test_gradients_are_those_of_the_samples_and_those_of_kinks_are_refused(float64):
    """In all inputs, those that coincide too, against differences of the same draws; not of the tangent kernel."""
    x, samples = points((3,), jnp.float64), 1024
    shapes = structs({"a": (3, 8), "u": (3, 8), "o": (8, 1)}, jnp.float64)
    f = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p["a"]) + x @ p["u"]) @ p["o"]  # noqa: E731
    draws = MonteCarlo(jax.random.key(1), samples, 2)
    limit = infinite.limit(as_written(f), shapes, x, prior=RULE, monte_carlo=draws)

    def total(x, y):
        return limit.nngp(x, y)[0, 0]

    step = jnp.zeros_like(x).at[0, 1].set(1e-2)
    for other in (x[1:], x):
        exact = (total(x + step, other) - total(x - step, other)) / 2e-2
        gradient = jax.grad(total)(x, other)[0, 1]
        assert abs(gradient - exact) < 5 / (2 * samples) ** 0.5 * limit.nngp(x).max()
    assert np.isfinite(jax.grad(lambda x: limit.nngp(x).sum())(x)).all()
    with pytest.raises(ValueError, match="finite differences"):
        jax.grad(lambda x: limit.ntk(x).sum())(x)


def test_the_opt_in_is_named():
    """Without it a sum is refused, and a product of dependent values, which are drawn together."""
    shapes = structs(residual_shapes(8, 1), jnp.float32)
    with pytest.raises(infinite.NoLimitError, match=r"monte_carlo=MonteCarlo\(key\)"):
        infinite.limit(as_written(residual), shapes, points((3,)), prior=RULE)
    tied = lambda p, x: jnp.tanh((x @ p["in"]) * (x[:, ::-1] @ p["in"])) @ p["o"]  # noqa: E731
    with pytest.raises(infinite.NoLimitError, match=r"two nonlinearities, or draw its channels: pass monte_carlo"):
        infinite.limit(as_written(tied), shapes, points((3,)), prior=RULE)
