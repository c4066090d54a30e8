"""Taylor polynomials, training in function and weight space, the kernel's drift, averages over initializations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from tolerances import assert_close

from jaxtheory import empirical, kernels, networks
from jaxtheory.results import fit_slope


def problem(key, width=16, **options):
    net = networks.multilayer(3, width, 1, activation=jnp.tanh, dtype=jnp.float64, **options)
    return net, net.init(key), jax.random.normal(jax.random.fold_in(key, 1), (6, 3), jnp.float64)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_taylor_error_is_of_the_next_order(degree, float64, key):
    """||f - polynomial|| ~ h^(degree + 1) in the distance h."""
    net, params, x = problem(key)
    direction = jax.tree.map(lambda p: jax.random.normal(key, p.shape, p.dtype), params)
    polynomial, steps = empirical.taylor(net.apply, params, degree), jnp.array([0.02, 0.01, 0.005])
    moved = lambda h: jax.tree.map(lambda p, d: p + h * d, params, direction)  # noqa: E731
    errors = [jnp.linalg.norm(net.apply(moved(h), x) - polynomial(moved(h), x)) for h in steps]
    # the next term bends the slope by O(h)
    assert abs(fit_slope(steps, jnp.stack(errors)).slope - (degree + 1)) < 0.1


def test_linearized_network_trains_as_its_kernel_says(float64, key):
    """Gradient descent in weight space is y + (I - eta Theta)^t (f0 - y); the flow is the matrix exponential."""
    net, params, x = problem(key)
    y, flat = jnp.sin(x[:, :1]), empirical.linearize(net.apply, params)
    theta = np.asarray(empirical.kernel_fn(net.apply, params)(x))
    rate = 1.0 / np.linalg.norm(theta, 2)
    loss = lambda p: 0.5 * jnp.sum((flat(p, x) - y) ** 2)  # noqa: E731
    path = networks.train(loss, params, optimizer=optax.sgd(rate), steps=29, record=lambda p: flat(p, x)[:, 0])
    start = np.asarray(net.apply(params, x) - y)[:, 0]
    discrete = np.asarray(y)[:, 0] + np.linalg.matrix_power(np.eye(6) - rate * theta, 29) @ start
    assert_close(path.records[-1], discrete, condition=100)
    initial, times = net.apply(params, x)[:, 0], jnp.array([0.0, 2.0])
    flow = kernels.gradient_flow(jnp.asarray(theta), y[:, 0], learning_rate=1.0, times=times, initial=initial)
    assert_close(flow.train[1], np.asarray(y)[:, 0] + scipy.linalg.expm(-2 * theta) @ start, condition=100)


def test_drift_is_the_velocity_of_the_kernel(float64, key):
    """Against a central difference along the gradient flow, error O(h^2)."""
    net, params, x = problem(key)
    residual = net.apply(params, x) - jnp.sin(x[:, :1])
    drift = empirical.ntk_drift(net.apply, params, x, residual)
    gradient = jax.grad(lambda p: 0.5 * jnp.sum((net.apply(p, x) - jnp.sin(x[:, :1])) ** 2))(params)
    at = lambda h: empirical.ntk(net.apply, jax.tree.map(lambda p, g: p - h * g, params, gradient), x)  # noqa: E731
    step = 1e-4
    assert_close(drift.velocity, (at(step) - at(-step)) / (2 * step), condition=step**2 / 1e-13 * 1e2)


def test_the_speed_of_the_kernel_at_small_inputs():
    """f = a·x + b² with x = 2^−60: Θ = x² + 4b², Θ̇ = −16 b² r, where the part of a underflows; and at r = 2^−100."""
    f = lambda p, x: p["a"] * x + p["b"] ** 2  # noqa: E731
    params = {"a": jnp.float32(1.0), "b": jnp.float32(2.0**-20)}
    drift = empirical.ntk_drift(f, params, jnp.full(1, 2.0**-60), jnp.full(1, 2.0**-100))
    np.testing.assert_allclose(drift.speed, 4 * 2.0**-100, rtol=1e-6)
    # Θ̇ = −2^(4 − 40 − 100) is below the smallest number of the format
    assert drift.velocity == 0


@pytest.mark.slow
def test_drift_falls_with_width(float64, key):
    """The relative speed of the kernel at initialization falls as 1/n (Dyer and Gur-Ari 2020, conjecture 1).

    Velocity is n^(-3/2) times a sum over n units, each with the sign of its readout weight: n^(-3/2) n^(1/2).
    """
    widths, seeds = jnp.array([64.0, 256.0, 1024.0]), 24

    def speeds(width):
        net, _, x = problem(key, int(width))

        def one(seed):
            params = net.init(seed)
            residual = net.apply(params, x) - jnp.sin(x[:, :1])
            return empirical.ntk_drift(net.apply, params, x, residual).speed ** 2

        return jax.vmap(one)(jax.random.split(key, seeds))

    squares = jnp.stack([speeds(w) for w in widths])
    error = squares.std(1, ddof=1) / jnp.sqrt(seeds * 1.0)
    fit = fit_slope(widths, squares.mean(1), error)
    assert abs(fit.slope + 2) < 4 * fit.standard_error
    assert fit.standard_error < 0.2


@pytest.mark.slow
def test_monte_carlo_is_the_arc_cosine_kernel(float64, key):
    """Bias-free ReLU with variance 2: NNGP and NTK of one hidden layer (Cho and Saul 2009), 4 standard errors."""
    net = networks.multilayer(3, 256, 1, weight_variance=2.0, dtype=jnp.float64)
    x = jnp.eye(3)[:2] + jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    unit = x / jnp.linalg.norm(x, axis=1, keepdims=True) * jnp.sqrt(3.0)
    angle = np.arccos(np.clip(np.asarray(unit @ unit.T) / 3, -1, 1))
    cosine = np.cos(angle)
    derivative = (np.pi - angle) / np.pi
    covariance = (np.sin(angle) + (np.pi - angle) * cosine) / np.pi
    # the readout also has variance 2
    nngp = empirical.nngp(net.init, net.apply, unit, None, key, 400)
    assert abs((nngp.kernel - 2 * covariance) / nngp.standard_error).max() < 4
    mean = empirical.mean_ntk(net.init, net.apply, unit, None, key, 400)
    # df/dw2 gives E[phi phi], df/dw1 gives E[phi' phi'] <x, x'> times the readout's variance 2
    expected = 2 * covariance / 2 + 2 * derivative / 2 * cosine * 3
    assert abs((mean.kernel - expected) / mean.standard_error).max() < 4


@pytest.mark.slow
def test_monte_carlo_error_falls_as_the_root_of_samples(float64, key):
    net = networks.multilayer(3, 16, 1, activation=jnp.tanh, dtype=jnp.float64)
    x, counts = jnp.eye(3), [50, 200, 800]
    errors = [empirical.nngp(net.init, net.apply, x, None, key, c).standard_error.mean() for c in counts]
    fit = fit_slope(jnp.asarray(counts, jnp.float64), jnp.stack(errors))
    # each standard error is known to about 1 / sqrt(2 * 50)
    assert abs(fit.slope + 0.5) < 4 * 0.1 / np.log(16)
    with pytest.raises(ValueError, match="samples must be >= 2"):
        empirical.nngp(net.init, net.apply, x, None, key, 1)
