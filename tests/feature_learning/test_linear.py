"""Deep linear networks: exact limits against differential equations, closed forms and finite networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from feature_learning.common import TEST, TRAINING, X, Y, bound

from jaxtheory import feature_learning
from jaxtheory.feature_learning.solution import Estimate
from jaxtheory.results import Status

linear, linear_modes, linear_flow = (
    getattr(feature_learning, name) for name in ("linear", "linear_modes", "linear_flow")
)


@pytest.mark.parametrize(("richness", "expected"), [(0.5, 0.3602), (2.0, 0.2622)])
def test_one_datum_obeys_its_differential_equation(float64, richness, expected):
    # Δ̇ = −2√(1 + γ0²(y − Δ)²)Δ at t = .5; Euler's error is O(η), removed by extrapolation from two steps
    def slope(_, delta):
        return -2 * np.sqrt(1 + richness**2 * (1 - delta) ** 2) * delta

    ode = scipy.integrate.solve_ivp(slope, (0, 0.5), [1.0], rtol=1e-10, atol=1e-12).y[0, -1]
    assert abs(ode - expected) < 6e-5
    errors = []
    for steps in (32, 64):
        run = linear(
            jnp.ones((1, 1), float64), jnp.ones(1, float64), depth=1, richness=richness, step_size=0.5 / steps,
            steps=steps,
        )  # fmt: skip
        assert int(run.status) == Status.OK
        errors.append(1 - run.predictions[-1, 0] - ode)
    assert abs(2 * errors[1] - errors[0]) < 0.1 * abs(errors[1]) < 1e-3


def test_two_layers_are_the_quadrature_of_their_particles(float64):
    # a linear particle flow moves every particle by one matrix, so that its second moments obey an exact recursion
    x = X.astype(float64) / 2**0.5
    moment, eta = np.eye(3), 0.2
    expected = []
    for step in range(16):
        f = x @ moment[:2, 2]
        if step % 5 == 0:
            expected.append(f)
        pull = x.T @ (Y - f)
        move = np.eye(3)
        move[:2, 2] += eta * pull
        move[2, :2] += eta * pull
        moment = move @ moment @ move.T
    run = linear(jnp.asarray(X, float64), jnp.asarray(Y, float64), depth=1, **TRAINING)
    np.testing.assert_allclose(run.predictions, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_sampled_and_exact_limits_agree(depth):
    """The bias of a mean, c · groups / samples, cancels in twice a run less one of half its samples."""
    training = {**TRAINING, "step_size": 0.1, "steps": 10}
    exact = linear(X, Y, depth=depth, test_x=TEST, **training)
    half, whole = (
        feature_learning.solve(
            X, Y, depth=depth, activation="identity", samples=n, test_x=TEST, key=jax.random.key(n), **training
        )
        for n in (32_768, 65_536)
    )
    for ours, coarse, fine in (
        (exact.predictions, half.predictions, whole.predictions),
        (exact.test_predictions, half.test_predictions, whole.test_predictions),
        *zip(exact.kernels, half.kernels, whole.kernels, strict=True),
    ):
        error = np.sqrt(4 * np.square(fine.standard_error) + np.square(coarse.standard_error))
        found = Estimate(2 * fine.value - coarse.value, error)
        np.testing.assert_array_less(np.abs(found.value - ours), bound(found, 0.002) + 1e-5)


@pytest.mark.parametrize(("start", "imbalance"), [(0.1, 0.0), (0.1, 0.7), (0.0, 2.0), (3.0, 0.2)])
def test_modes_solve_their_equation(float64, start, imbalance):
    s, times = np.array([0.0, 0.4, 2.0]), np.array([0.0, 0.3, 1.7, 6.0])

    def slope(_, sigma):
        return np.sqrt(imbalance**2 + 4 * sigma**2) * (s - sigma)

    path = scipy.integrate.solve_ivp(slope, (0, 6), np.full(3, start), t_eval=times, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        linear_modes(s.astype(float64), times, start=start, imbalance=imbalance), path.y.T, rtol=1e-7, atol=1e-9
    )


@pytest.mark.slow
def test_modes_at_the_ends_of_the_range():
    modes = linear_modes(np.array([1e-20, 1.0, 1e4], np.float32), np.array([0.0, 1e3], np.float32), start=0.5)
    np.testing.assert_allclose(modes[0], 0.5, rtol=1e-6)
    # from .5 the mode of s = 0 decays as 1/(2 + 2t)
    np.testing.assert_allclose(modes[1], [1 / 2002, 1.0, 1e4], rtol=1e-5)
    # the origin stays, and a start at the smallest numbers of float32 is left on time: σ = 1/(1 + (1/σ₀ − 1) e^(−2t))
    np.testing.assert_array_equal(linear_modes([1.0], [0.0, 10.0, 1e3], start=0.0), 0)
    t, start = np.array([40.0, 43.0, 45.0, 1e3]), 2e-38
    expected = 1 / (1 + (1 / start - 1) * np.exp(-2 * t))
    np.testing.assert_allclose(linear_modes([1.0], t.astype(np.float32), start=start)[:, 0], expected, rtol=3e-5)
    modes = linear_modes([1e30], np.array([1.0, 1e30], np.float32), start=1e-20, imbalance=1e-20)
    np.testing.assert_allclose(modes, 1e30, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^imbalance must"):
        linear_modes([1.0], [1.0], start=0.1, imbalance=-1.0)
    assert np.isnan(jax.jit(lambda s: linear_modes(s, [1.0], start=0.1))(jnp.array([-1.0]))).all()


def test_flow_from_starts_that_are_neither_balanced_nor_aligned(float64):
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=shape) for shape in ((3, 2), (4, 3), (2, 4))]
    target, times = rng.normal(size=(2, 2)), np.array([0.2, 1.0])
    shapes = [layer.shape for layer in layers]
    ends = np.cumsum([0] + [layer.size for layer in layers])

    def slope(_, flat):
        w = [flat[a:b].reshape(shape) for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)]
        error = target - w[2] @ w[1] @ w[0]
        return np.concatenate([((w[2] @ w[1]).T @ error).ravel(), (w[2].T @ error @ w[0].T).ravel(),
                               (error @ (w[1] @ w[0]).T).ravel()])  # fmt: skip

    flat = np.concatenate([layer.ravel() for layer in layers])
    path = scipy.integrate.solve_ivp(slope, (0, 1), flat, t_eval=times, rtol=1e-10, atol=1e-12).y.T
    expected = []
    for row in path:
        w = [row[a:b].reshape(shape) for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)]
        expected.append(w[2] @ w[1] @ w[0])
    flow = linear_flow([jnp.asarray(layer, float64) for layer in layers], target, times)
    assert int(flow.status) == Status.OK
    np.testing.assert_allclose(flow.products, expected, rtol=1e-6, atol=1e-7)
    assert flow.residual < 1e-8


def test_an_aligned_flow_is_its_modes(float64):
    u, s, v = np.linalg.svd(np.random.default_rng(1).normal(size=(2, 2)))
    times = jnp.asarray([0.5, 2.0], float64)
    layers = [jnp.asarray(0.6 * v), jnp.asarray(u * 0.2)]
    flow = linear_flow(layers, jnp.asarray(u * s @ v), times)
    modes = linear_modes(jnp.asarray(s), times, start=0.12, imbalance=0.32)
    np.testing.assert_allclose(flow.products, np.einsum("ik,tk,kj->tij", u, modes, v), atol=1e-7)


@pytest.mark.slow
def test_a_flow_from_a_tiny_start_leaves_it_on_time():
    """Two weights of 1e-8 in float32: σ² = 1/2 at t = log 1e8 exactly, with errors that grow as the weights do."""
    start, times = jnp.full((1, 1), 1e-8), np.log(1e8) * jnp.array([0.5, 1.0])
    flow = linear_flow([start, start], jnp.ones((1, 1)), times)
    assert flow.status == Status.OK
    np.testing.assert_allclose(flow.products[:, 0, 0], [1e-8, 0.5], rtol=1e-4)


def test_weights_that_do_not_multiply_are_named():
    with pytest.raises(ValueError, match=r"^weights must"):
        linear_flow([jnp.ones((2, 3)), jnp.ones((2, 3))], jnp.ones((2, 3)), jnp.array([1.0]))


@pytest.mark.parametrize("y", [[0, 1, 2], [0.0, 1.0, 1.0]])
def test_labels_that_the_loss_does_not_take_are_invalid_inside_jit(y):
    train = jax.jit(lambda y: linear(X, y, depth=1, loss="logistic", richness=1.0, step_size=0.1, steps=1).status)
    assert int(train(jnp.asarray(y))) == Status.INVALID_INPUT
    assert int(train(jnp.asarray(y).at[:].set(jnp.asarray([1, -1, 1], jnp.asarray(y).dtype)))) == Status.OK


@pytest.mark.slow
def test_a_flow_that_cannot_be_followed_ends():
    """A step is at most 3 over the curvature: of 10⁹ times that, 10⁵ steps reach the stationary point or say so."""
    found = linear_flow([[[1.0]], [[0.1]]], [[1e3]], [1e6])
    assert int(found.status) == Status.NOT_CONVERGED or abs(found.products[0, 0, 0] - 1e3) < 1
    with pytest.raises(ValueError, match="times must be finite"):
        linear_flow([[[1.0]], [[0.1]]], [[1.0]], [np.inf])


@pytest.mark.slow
def test_a_mode_next_to_the_origin_grows_as_an_exponential(float64):
    """dσ(t)/dσ(0) at σ(0) = 0: e^(2st) of a balanced start, and at s = 0, t = 0 as well."""
    s, t = np.array([0.0, 0.5, 2.0]), np.array([0.0, 0.25, 1.5])
    slope = jax.jacfwd(lambda start: linear_modes(jnp.asarray(s), jnp.asarray(t), start=start, imbalance=0.0))(0.0)
    np.testing.assert_allclose(slope, np.exp(2 * t[:, None] * s), rtol=1e-12)
