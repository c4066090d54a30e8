"""SGD with label noise: its penalty against eigenvalues, and its drift against runs of models with known minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from jaxtheory.optimization import label_noise
from jaxtheory.results import Status

ETA, VARIANCE, LABEL, IMBALANCE = 0.2, 0.05, 1.0, 3.0


def product(theta, x):
    """The model of two parameters."""
    return theta[0] * theta[1] * x


def minimum(a, y):
    """u, v with uv = y and u² − v² = a."""
    u = np.sqrt((a + np.sqrt(a**2 + 4 * y**2)) / 2)
    return np.array([u, y / u])


def test_the_penalty_is_that_of_the_eigenvalues(float64):
    """−(1/2η) Σ log(1 − ηh/2), and tr H/4 at small steps, to O(η tr H²/16)."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 3))
    H = jnp.asarray(root @ root.T)
    h, eta = np.linalg.eigvalsh(H), 0.15
    np.testing.assert_allclose(
        label_noise.flatness_penalty(H, eta), -np.log(1 - eta * h / 2).sum() / 2 / eta, rtol=1e-12
    )
    small = label_noise.flatness_penalty(H, 1e-4)
    np.testing.assert_allclose(small - np.trace(H) / 4, 1e-4 * (h**2).sum() / 16, rtol=1e-3)


def test_descent_of_the_penalty_is_the_flow_of_the_product(float64):
    """−∇(L + λR) at a minimum, along it, changes u² − v² as da/dk = −2η²σ²a/(2 − ηs) says."""
    loss = lambda theta: (theta[0] * theta[1] - LABEL) ** 2 / 2  # noqa: E731
    flat = label_noise.effective_loss(loss, step_size=ETA, noise_variance=VARIANCE)
    u, v = minimum(IMBALANCE, LABEL)
    s = u**2 + v**2
    slope = jax.grad(flat)(jnp.array([u, v]))
    along = np.array([u, -v]) / np.sqrt(s)
    velocity = -(np.asarray(slope) @ along) * along
    change = ETA * 2 * (u * velocity[0] - v * velocity[1])
    np.testing.assert_allclose(change, -2 * ETA**2 * VARIANCE * IMBALANCE / (2 - ETA * s), rtol=1e-10)


@pytest.mark.slow
def test_the_flow_of_the_product_solves_its_equation(float64):
    """Against scipy's integrator, for both signs; y = 0, a_0 = 0 and σ = 0 are their limits."""
    steps = jnp.array([0.0, 10.0, 300.0, 5000.0])

    def slope(_, a, y):
        return -2 * ETA**2 * VARIANCE * a / (2 - ETA * np.sqrt(a**2 + 4 * y**2))

    for start, y in ((3.0, 1.0), (-3.0, 0.7), (5.0, 0.0)):
        found = label_noise.product_flow(y, start, steps, step_size=ETA, noise_variance=VARIANCE)
        exact = scipy.integrate.solve_ivp(
            slope, (0, 5000), [start], t_eval=np.asarray(steps), args=(y,), rtol=1e-11, atol=1e-13
        )
        np.testing.assert_allclose(found.imbalance, exact.y[0], rtol=1e-7)
        np.testing.assert_allclose(found.sharpness, np.hypot(found.imbalance, 2 * y), rtol=1e-12)
    for start, y, variance in ((0.0, 1.0, 1.0), (0.0, 0.0, 1.0), (3.0, 1.0, 0.0)):
        still = label_noise.product_flow(y, start, steps, step_size=ETA, noise_variance=variance)
        np.testing.assert_allclose(still.imbalance, np.full(4, start), atol=1e-12)


def test_sgd_with_label_noise_follows_the_flow(key):
    """log(a_0/a) of 200 runs of 400 steps: within 4.5 standard errors and 5η²σ² of the flow, and not of tr H/4.

    The trace of the Hessian falls from 3.6 at the rate of R; at small steps, R = tr H/4, it would be da/dk = −η²σ²a.
    """
    steps, start = 400, jnp.asarray(minimum(IMBALANCE, LABEL), jnp.float32)
    one = jnp.ones(1)

    def run(key):
        return label_noise.label_noise_sgd(
            key, product, start, one, one * LABEL, step_size=ETA, noise_variance=VARIANCE, steps=steps
        )

    found = jax.jit(jax.vmap(run))(jax.random.split(key, 200))
    assert (found.status == Status.OK).all()
    u, v = np.asarray(found.params[:, -1], float).T
    fallen = np.log(IMBALANCE / (u**2 - v**2))
    flow = label_noise.product_flow(LABEL, IMBALANCE, jnp.array([float(steps)]), step_size=ETA, noise_variance=VARIANCE)
    expected = np.log(IMBALANCE / float(flow.imbalance[0]))
    allowed = 4.5 * fallen.std() / np.sqrt(200) + 5 * ETA**2 * VARIANCE * expected
    assert abs(fallen.mean() - expected) < allowed
    assert abs(fallen.mean() - ETA**2 * VARIANCE * steps) > 3 * allowed
    assert (u**2 + v**2).mean() < 3.0


@pytest.mark.slow
def test_each_step_multiplies_the_imbalance(float64):
    """u'² − v'² = (u² − v²)(1 − η²g²), so full records give back the noisy residuals g: ±σ beside uv − y."""
    start = jnp.asarray(minimum(IMBALANCE, LABEL))
    run = label_noise.label_noise_sgd(
        jax.random.key(3),
        product,
        start,
        jnp.ones(1),
        jnp.ones(1),
        step_size=ETA,
        noise_variance=VARIANCE,
        steps=20,
        record_every=1,
    )
    path = np.concatenate([np.asarray(start)[None], np.asarray(run.params)])
    u, v = path.T
    a, residual = u**2 - v**2, u * v - LABEL
    squares = (1 - a[1:] / a[:-1]) / ETA**2
    signs = [np.abs(squares - (residual[:-1] + sign * np.sqrt(VARIANCE)) ** 2) for sign in (1, -1)]
    assert np.minimum(*signs).max() < 1e-12
    assert run.recorded_at.tolist() == list(range(1, 21))


@pytest.mark.slow
def test_flat_minima_of_a_diagonal_network(key):
    """Two points, three features, f = Σ (u_i² − v_i²) x_i: noise lowers the trace of the Hessian along the minima."""
    x, y = jnp.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.8]]), jnp.array([0.5, -0.4])
    model = lambda theta, x: jnp.vdot(theta[:3] ** 2 - theta[3:] ** 2, x)  # noqa: E731
    loss = lambda theta: ((jax.vmap(lambda row: model(theta, row))(x) - y) ** 2).mean() / 2  # noqa: E731
    trace = lambda theta: float(jnp.trace(jax.hessian(loss)(theta)))  # noqa: E731
    start = jnp.array([0.9, 0.8, 0.7, 0.6, 0.9, 0.8])
    ends = {}
    for variance in (0.0, 0.25):
        run = label_noise.label_noise_sgd(
            key, model, start, x, y, step_size=0.05, noise_variance=variance, steps=20_000, record_every=10_000
        )
        assert int(run.status) == Status.OK
        ends[variance] = [trace(theta) for theta in run.params]
    assert ends[0.25][0] < 0.7 * ends[0.0][0]
    assert abs(ends[0.0][1] - ends[0.0][0]) < 1e-3


@pytest.mark.parametrize("step", [1e-2, 1e-6, 1e-12, 1e-30])
def test_the_penalty_at_small_steps(step, dtype):
    """tr H/4 + η tr H²/16 to third order in η, where 1 − ηH/2 is 1 in this precision."""
    h = np.array([[1.0, 0.5], [0.5, 2.0]])
    found = label_noise.flatness_penalty(jnp.asarray(h, dtype), step)
    expected = np.trace(h) / 4 + step * np.trace(h @ h) / 16
    np.testing.assert_allclose(found, expected, rtol=8 * float(jnp.finfo(dtype).eps) + step**2)


def test_errors_name_the_argument(unchecked):
    one = jnp.ones(1)
    options = {"step_size": 0.1, "noise_variance": 1.0}
    run = lambda **given: label_noise.label_noise_sgd(jax.random.key(0), product, jnp.ones(2), one, one, **given)  # noqa: E731
    wrong = [
        (lambda: label_noise.flatness_penalty(jnp.eye(2), 2.0), "step_size must be below 2"),
        (lambda: label_noise.flatness_penalty(jnp.eye(2), 0.0), "step_size must be positive"),
        (lambda: label_noise.effective_loss(jnp.sum, **options, batch_size=0), "batch_size must be"),
        (lambda: run(**options, steps=5, record_every=2), "steps must be a multiple"),
        (lambda: run(**options | {"noise_variance": -1.0}, steps=5), "noise_variance must be"),
        (lambda: label_noise.product_flow(1.0, 30.0, one, **options), "step_size must be below 2"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
    assert jnp.isnan(jax.jit(label_noise.flatness_penalty)(jnp.eye(2), 2.0))
