"""The lazy regime's closed forms against matrix exponentials, ODE solvers, loops, samples, and trained networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.linalg
from conftest import relaxed_promotion
from sklearn.datasets import load_digits
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.results import Status

TIMES = (0.0, 0.3, 2.0, 50.0)


@pytest.fixture
def problem(float64, key):
    """Θ with two null directions, its cross block, targets and initial outputs of two outputs."""
    draw = [jax.random.fold_in(key, i) for i in range(4)]
    root = jax.random.normal(draw[0], (12, 6), jnp.float64)
    features, test = root[:8], root[8:]
    y, start, at_test = (jax.random.normal(k, (m, 2), jnp.float64) for k, m in zip(draw[1:], (8, 8, 4), strict=True))
    return features @ features.T, test @ features.T, y, start, at_test


def rhs(theta, cross, y, rate):
    """d(f, f*)/dt of gradient flow."""

    def field(_, state):
        error = y - state.reshape(12, 2)[:8]
        return rate * np.concatenate([theta @ error, cross @ error]).ravel()

    return field


def test_gradient_flow_is_the_ode(problem):
    theta, cross, y, start, at_test = problem
    path = kernels.gradient_flow(
        theta, y, learning_rate=0.2, times=jnp.array(TIMES), initial=start, ntk_test=cross, initial_test=at_test
    )
    both = np.concatenate([start, at_test]).ravel()
    field = rhs(*(np.asarray(a) for a in (theta, cross, y)), 0.2)
    ode = scipy.integrate.solve_ivp(field, (0, 50), both, "Radau", TIMES, rtol=1e-9, atol=1e-10)
    expected = ode.y.T.reshape(4, 12, 2)
    assert int(path.status) == Status.OK
    assert np.abs(path.train - expected[:, :8]).max() < 1e-7
    assert np.abs(path.test - expected[:, 8:]).max() < 1e-7
    flow = scipy.linalg.expm(-0.2 * 2.0 * np.asarray(theta))
    assert_close(path.train[2], y + flow @ (start - y), condition=10)


def test_infinite_time_is_min_norm_regression(problem):
    theta, cross, y, _, _ = problem
    path = kernels.gradient_flow(theta, y, learning_rate=1.0, times=jnp.array([jnp.inf]), ntk_test=cross)
    weights = np.linalg.pinv(np.asarray(theta), rcond=1e-10) @ y
    assert_close(path.train[0], theta @ weights, condition=1e3)
    assert_close(path.test[0], cross @ weights, condition=1e3)


@pytest.mark.slow
@pytest.mark.parametrize("friction", [0.1, 1.0, 30.0])
def test_heavy_ball_flow_is_the_ode(friction, problem):
    theta, cross, y, start, at_test = problem
    options = {"initial": start, "ntk_test": cross, "initial_test": at_test}
    times = jnp.array([*TIMES, jnp.inf])
    path = kernels.gradient_flow(theta, y, learning_rate=0.2, times=times, friction=friction, **options)
    force = rhs(*(np.asarray(a) for a in (theta, cross, y)), 0.2)

    def field(t, state):
        return np.concatenate([state[24:], force(t, state[:24]) - friction * state[24:]])

    both = np.concatenate([np.concatenate([start, at_test]).ravel(), np.zeros(24)])
    ode = scipy.integrate.solve_ivp(field, (0, 50), both, "DOP853", TIMES, rtol=1e-11, atol=1e-12)
    expected = ode.y[:24].T.reshape(4, 12, 2)
    assert np.abs(path.train[:4] - expected[:, :8]).max() < 1e-7
    assert np.abs(path.test[:4] - expected[:, 8:]).max() < 1e-7
    rest = kernels.gradient_flow(theta, y, learning_rate=0.2, times=times[-1:], **options)
    assert_close(path.test[-1], rest.test[0], condition=1e3)


def test_critical_damping_has_no_hole(float64):
    """u = e^(−t)(1 + t) where γ² = 4ηλ, approached from both sides."""
    for value in (1.0, 1.0 + 1e-13, 1.0 - 1e-13):
        path = kernels.gradient_flow(
            jnp.array([[value]]), jnp.zeros(1), learning_rate=1.0, times=jnp.array([0.5, 3.0]), friction=2.0,
            initial=jnp.ones(1),
        )  # fmt: skip
        t = np.array([0.5, 3.0])
        assert np.abs(path.train[:, 0] - np.exp(-t) * (1 + t)).max() < 1e-12


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_gradient_descent_is_optax(momentum, problem):
    """A linear model trained by optax.sgd, step by step."""
    theta, cross, y, start, at_test = problem
    root = jnp.linalg.svd(theta)[0][:, :6] * jnp.sqrt(jnp.linalg.svd(theta)[1][None, :6])
    test = cross @ jnp.linalg.pinv(root).T
    steps, rate = jnp.array([0, 1, 2, 37, 200]), 0.05
    options = {"initial": start, "ntk_test": cross, "initial_test": at_test}
    path = kernels.gradient_descent(theta, y, learning_rate=rate, steps=steps, momentum=momentum, **options)
    optimizer = optax.sgd(rate, momentum=momentum)
    weights, outputs = jnp.zeros((6, 2)), []
    with relaxed_promotion():
        state = optimizer.init(weights)
        for _ in range(201):
            outputs.append((start + root @ weights, at_test + test @ weights))
            gradient = root.T @ (start + root @ weights - y)
            updates, state = optimizer.update(gradient, state)
            weights = weights + updates
    for i, k in enumerate(steps.tolist()):
        assert_close(path.train[i], outputs[k][0], condition=1e3)
        assert_close(path.test[i], outputs[k][1], condition=1e4)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rate", [1e-4, 1e-8])
def test_small_steps_are_not_lost_beside_one(rate, momentum):
    """θ' = η(1 − θ) with ηk/(1 − μ) = 1, for k to 1e8: 1 + μ − ηλ in float32 keeps nothing of ηλ = 1e-8.

    Against the recursion's two roots in 30 digits, from η and μ as float32 holds them.
    """
    mpmath = pytest.importorskip("mpmath")
    rate, momentum, k = np.float32(rate), np.float32(momentum), round((1 - momentum) / rate)
    with mpmath.workdps(30):
        eta, mu = mpmath.mpf(float(rate)), mpmath.mpf(float(momentum))
        half, root = (1 + mu - eta) / 2, mpmath.sqrt(((1 + mu - eta) / 2) ** 2 - mu)
        slow, fast = half + root, half - root
        # u_0 = u_{-1} = 1
        left = (slow ** (k + 1) * (1 - fast) - fast ** (k + 1) * (1 - slow)) / (slow - fast)
        speed = -left + (slow**k * (1 - fast) - fast**k * (1 - slow)) / (slow - fast)
    run = kernels.gradient_descent(jnp.eye(1), jnp.ones(1), learning_rate=rate, steps=k, momentum=momentum)
    assert run.status == Status.OK
    np.testing.assert_allclose(1 - run.train[0, 0], float(left), rtol=1e-5)
    np.testing.assert_allclose(run.state.velocity[0], float(speed), rtol=1e-5)


def test_divergence_is_told(float64):
    path = kernels.gradient_descent(jnp.eye(2), jnp.ones(2), learning_rate=3.0, steps=jnp.array([10]))
    assert_close(path.train[0], 1 - (-2.0) ** 10 * np.ones(2))
    over = kernels.gradient_descent(jnp.eye(2), jnp.ones(2), learning_rate=3.0, steps=jnp.array([2000]))
    assert int(over.status) == Status.NOT_FINITE


def test_cross_entropy_is_the_ode(problem):
    theta, cross, _, start, at_test = problem
    labels = jax.nn.one_hot(jnp.arange(8) % 2, 2, dtype=jnp.float64)
    path = kernels.cross_entropy_flow(
        theta, labels, learning_rate=0.2, times=jnp.array(TIMES), initial=start, ntk_test=cross, initial_test=at_test,
        tolerance=1e-9,
    )  # fmt: skip
    whole, targets = np.concatenate([theta, cross]), np.asarray(labels)

    def field(_, state):
        logits = state.reshape(12, 2)[:8]
        return 0.2 * (whole @ (targets - scipy.special.softmax(logits, axis=1))).ravel()

    both = np.concatenate([start, at_test]).ravel()
    ode = scipy.integrate.solve_ivp(field, (0, 50), both, "Radau", TIMES, rtol=1e-10, atol=1e-10)
    expected = ode.y.T.reshape(4, 12, 2)
    assert int(path.status) == Status.OK
    assert np.abs(path.train - expected[:, :8]).max() < 1e-6
    assert np.abs(path.test - expected[:, 8:]).max() < 1e-6


def test_cross_entropy_says_when_steps_run_out(float64):
    labels = jnp.array([[1.0, 0.0]])
    path = kernels.cross_entropy_flow(1e6 * jnp.eye(1), labels, learning_rate=1.0, times=jnp.array([9.0]), max_steps=3)
    assert int(path.status) == Status.NOT_CONVERGED
    assert jnp.isnan(path.train).all()


@pytest.mark.slow
def test_ensemble_is_a_sample_of_networks(problem, key):
    """20,000 draws of f_0 ~ N(0, K), each flowed by itself: moments within 5 standard errors."""
    theta, cross, y, _, _ = problem
    y, draws = y[:, 0], 20_000
    root = jax.random.normal(key, (12, 12), jnp.float64)
    nngp = root @ root.T / 12
    times = jnp.array([0.0, 0.5, 3.0])
    blocks = (nngp[:8, :8], nngp[8:, :8], nngp[8:, 8:])
    found = kernels.ensemble_flow(theta, cross, *blocks, y, learning_rate=0.2, times=times)
    start = jax.random.normal(jax.random.fold_in(key, 9), (draws, 12), jnp.float64) @ (root.T / 12**0.5)
    path = kernels.gradient_flow(
        theta, jnp.broadcast_to(y[:, None], (8, draws)), learning_rate=0.2, times=times, initial=start[:, :8].T,
        ntk_test=cross, initial_test=start[:, 8:].T,
    )  # fmt: skip
    error = path.test.std(axis=2) / draws**0.5
    assert (jnp.abs(path.test.mean(axis=2) - found.mean) < 5 * error).all()
    for sample, covariance in zip(path.test, found.covariance, strict=True):
        spread = jnp.sqrt((jnp.outer(jnp.diagonal(covariance), jnp.diagonal(covariance)) + covariance**2) / draws)
        assert (jnp.abs(jnp.cov(sample) - covariance) < 5 * spread).all()


@pytest.mark.parametrize("bad", ["indefinite", "nan", "asymmetric"])
def test_bad_kernels_are_told(bad):
    matrix = {"indefinite": [[1.0, 2.0], [2.0, 1.0]], "nan": [[1.0, np.nan], [np.nan, 1.0]]}
    theta = jnp.array(matrix.get(bad, [[1.0, 0.0], [0.5, 1.0]]))
    y, times = jnp.ones(2), jnp.array([1.0, jnp.inf])
    for path in (
        kernels.gradient_flow(theta, y, learning_rate=1.0, times=times),
        kernels.gradient_flow(theta, y, learning_rate=1.0, times=times, friction=1.0),
        kernels.gradient_descent(theta, y, learning_rate=0.1, steps=jnp.array([3])),
    ):
        assert int(path.status) == (Status.NOT_FINITE if bad == "nan" else Status.INVALID_INPUT)
        assert jnp.isnan(path.train).all()


def test_arguments_are_named(unchecked):
    flow = {"learning_rate": 1.0, "times": jnp.array([1.0])}
    with pytest.raises(ValueError, match="ntk_train must be 3 by 3"):
        kernels.gradient_flow(jnp.eye(2), jnp.ones(3), **flow)
    with pytest.raises(ValueError, match="ntk_test must have 2 columns"):
        kernels.gradient_flow(jnp.eye(2), jnp.ones(2), ntk_test=jnp.ones((2, 3)), **flow)
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        kernels.gradient_flow(jnp.eye(2), jnp.ones(2), **flow | {"learning_rate": 0.0})
    with pytest.raises(ValueError, match="times must be >= 0"):
        kernels.gradient_flow(jnp.eye(2), jnp.ones(2), **flow | {"times": jnp.array([-1.0])})
    with pytest.raises(ValueError, match="friction must be positive"):
        kernels.gradient_flow(jnp.eye(2), jnp.ones(2), friction=0.0, **flow)
    with pytest.raises(ValueError, match="times must be finite, ascending"):
        kernels.cross_entropy_flow(jnp.eye(2), jnp.eye(2), learning_rate=1.0, times=jnp.array([1.0, 0.5]))


# Networks of width 4096 on real digits.
WIDTH = 4096


def digits():
    """64 training and 64 test images, unit length; two classes as ±1."""
    images, labels = load_digits(return_X_y=True)
    keep = np.isin(labels, (3, 8))
    x = images[keep][:128] / np.linalg.norm(images[keep][:128], axis=1, keepdims=True)
    return jnp.asarray(x, jnp.float32), jnp.asarray(np.where(labels[keep][:128] == 3, 1.0, -1.0), jnp.float32)


def network(weights, x):
    """v·relu(√2 W x)/√m, all entries standard normal: the bias-free two-layer ReLU network with σ_w² = 2."""
    return jnp.sqrt(2 / WIDTH) * jax.nn.relu(x @ weights["w"].T) @ weights["v"]


def relu_ntk(x1, x2):
    """Its infinite-width NTK: arc-cosine of order 1 (trained v) plus ⟨x, x'⟩ times order 0 (trained w)."""
    return kernels.arc_cosine(1)(x1, x2) + (x1 @ x2.T) * kernels.arc_cosine(0)(x1, x2)


def train(key, x, y, x_test, rate, steps, loss, momentum=0.0):
    """Outputs before every step of full-batch gradient descent on the summed loss."""
    k = jax.random.split(key)
    weights = {"w": jax.random.normal(k[0], (WIDTH, x.shape[1])), "v": jax.random.normal(k[1], (WIDTH,))}
    everything = jnp.concatenate([x, x_test])

    def step(state, _):
        weights, velocity = state
        gradient = jax.grad(lambda w: loss(network(w, x), y))(weights)
        velocity = jax.tree.map(lambda v, g: momentum * v - rate * g, velocity, gradient)
        return (jax.tree.map(jnp.add, weights, velocity), velocity), network(weights, everything)

    start = (weights, jax.tree.map(jnp.zeros_like, weights))
    return jax.jit(lambda s: jax.lax.scan(step, s, length=steps))(start)[1]


@pytest.mark.parametrize("momentum", [pytest.param(0.0, marks=pytest.mark.slow), 0.8])
@pytest.mark.slow
def test_networks_of_width_4096_follow_the_predicted_loss_curves(momentum, key):
    """Mean squared error on 64 training and 64 test digits at every step, three networks from scratch.

    The kernel of a network of width m differs from its limit, at initialization and by training, by 2/√m a unit of Θ
    (the standard deviation of its entries is 2.0/√m), so that outputs differ by at most their own size, of order
    ‖y − f_0‖_rms, times a few 2/√m. The curves agree within 4 · 2/√4096 = 0.125 of the initial error.
    """
    x, y = digits()
    train_x, test_x, train_y = x[:64], x[64:], y[:64]
    theta, cross = relu_ntk(train_x, train_x), relu_ntk(test_x, train_x)
    rate, steps = float(0.5 / jnp.linalg.eigvalsh(theta)[-1]), 300
    for seed in range(3):
        outputs = train(
            jax.random.fold_in(key, seed), train_x, train_y, test_x, rate, steps,
            lambda f, y: 0.5 * jnp.sum((f - y) ** 2), momentum,
        )  # fmt: skip
        path = kernels.gradient_descent(
            theta, train_y, learning_rate=rate, steps=jnp.arange(steps), momentum=momentum, initial=outputs[0, :64],
            ntk_test=cross, initial_test=outputs[0, 64:],
        )  # fmt: skip
        predicted = jnp.concatenate([path.train, path.test], axis=1)
        scale = jnp.sqrt(jnp.mean((outputs[0] - y) ** 2))
        for part in (slice(0, 64), slice(64, 128)):
            gap = jnp.sqrt(jnp.mean((outputs - predicted)[:, part] ** 2, axis=1)).max() / scale
            curve = [jnp.sqrt(jnp.mean((f[:, part] - y[None, part]) ** 2, axis=1)) for f in (outputs, predicted)]
            assert gap < 4 * 2 / WIDTH**0.5
            assert jnp.abs(curve[0] - curve[1]).max() < 4 * 2 / WIDTH**0.5 * scale
        assert curve[1][-1] < 0.75 * curve[1][0]  # it did learn, so that the agreement says something


@pytest.mark.slow
def test_networks_of_width_4096_follow_the_cross_entropy_flow(key):
    """The same for the logistic loss (two classes with logits ±f/2, of NTK Θ/2 and Θ scalar), small steps as the flow.

    A step η adds an Euler error of at most η λ_max/2 = 5% of what is moved in a step's time; the width's as above.
    """
    x, y = digits()
    train_x, test_x, train_y = x[:64], x[64:], y[:64]
    theta, cross = relu_ntk(train_x, train_x), relu_ntk(test_x, train_x)
    rate, steps = float(0.4 / jnp.linalg.eigvalsh(theta)[-1]), 400
    outputs = train(key, train_x, train_y, test_x, rate, steps, lambda f, y: jnp.sum(jnp.logaddexp(0.0, -f * y)))
    labels = jnp.stack([(1 + train_y) / 2, (1 - train_y) / 2], axis=1)

    def logits(f):
        return jnp.stack([f / 2, -f / 2], axis=1)

    shown = jnp.arange(0, steps, 50)
    # d(f/2)/dt = (η/2) Θ (Y₁ − p₁): the flow of the two logits has half the network's rate
    path = kernels.cross_entropy_flow(
        theta, labels, learning_rate=rate / 2, times=shown.astype(jnp.float32), initial=logits(outputs[0, :64]),
        ntk_test=cross, initial_test=logits(outputs[0, 64:]),
    )  # fmt: skip
    assert int(path.status) == Status.OK
    predicted = 2 * jnp.concatenate([path.train, path.test], axis=1)[:, :, 0]
    losses = [jnp.mean(jnp.logaddexp(0.0, -f * y[None]), axis=1) for f in (outputs[shown], predicted)]
    assert jnp.abs(losses[0] - losses[1]).max() < 4 * 2 / WIDTH**0.5 * losses[1][0]
    assert losses[1][-1] < 0.75 * losses[1][0]


@pytest.mark.parametrize("smooth", [False, True])
def test_long_training_in_float32_is_ok_where_it_agrees_with_float64(smooth):
    """OK is within 1 % of float64; noise at 10⁶ steps is decided by the rounding of the kernel, and says so."""
    draws = np.random.default_rng(1)
    x, x_test = draws.standard_normal((60, 5)), draws.standard_normal((8, 5))
    ntk = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 18)
    cross = np.exp(-((x_test[:, None] - x[None]) ** 2).sum(-1) / 18)
    top = np.linalg.eigvalsh(ntk)[-1]
    ntk, cross = np.float32(ntk / top), np.float32(cross / top)
    y = np.float32(np.sin(x[:, 0]) if smooth else draws.standard_normal(60))
    values, vectors = np.linalg.eigh(np.float64(ntk))
    said = []
    for steps in (100, 10**6, 10**8):
        found = kernels.gradient_descent(ntk, y, learning_rate=1.0, steps=steps, ntk_test=cross)
        left = (1 - values) ** steps
        gain = vectors @ ((1 - left) / values * (vectors.T @ y))
        said.append(int(found.status))
        if found.status == Status.OK:
            error = found.train[0] - (y - vectors @ (left * (vectors.T @ y)))
            assert np.linalg.norm(error) < 1e-2 * np.linalg.norm(y)
            assert np.linalg.norm(found.test[0] - cross @ gain) < 1e-2 * np.linalg.norm(cross @ gain)
    assert said[0] == Status.OK
    assert said[2] == Status.ILL_CONDITIONED
    assert (said[1] == Status.OK) == smooth
