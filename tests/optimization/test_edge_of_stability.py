"""Large steps against dense linear algebra, roots of recursions, descent run step by step, and solvable flows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import relaxed_promotion

from jaxtheory.networks import train
from jaxtheory.optimization import edge_of_stability as edge
from jaxtheory.optimization.central import _complement
from jaxtheory.results import Status

DRAWS = np.random.default_rng(0)
SLOPE = jax.grad(lambda w: polynomial(w))
MIX = DRAWS.normal(size=(12, 12))


def quartic(params):
    """A loss with a full Hessian, of a dict."""
    flat = jnp.concatenate([params["a"].ravel(), params["b"]])
    return jnp.sum(jnp.sin(jnp.asarray(MIX, flat.dtype) @ flat)) + jnp.sum(flat**4)


@pytest.mark.slow
def test_sharpness_is_the_largest_eigenvalue_and_its_derivative_is_that_of_differences(float64):
    params = {"a": jnp.asarray(DRAWS.normal(size=(2, 3))), "b": jnp.asarray(DRAWS.normal(size=6))}
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    hessian = jax.jit(jax.hessian(lambda p: quartic(unravel(p))))
    values, vectors = np.linalg.eigh(hessian(flat))
    measure = jax.jit(lambda p: edge.sharpness(quartic, p, jax.random.key(0)))
    found = measure(params)
    assert found.status == Status.OK
    np.testing.assert_allclose(found.value, values[-1], rtol=1e-10)
    direction = jax.flatten_util.ravel_pytree(found.direction)[0]
    np.testing.assert_allclose(abs(direction @ vectors[:, -1]), 1, rtol=1e-10)
    slope = jax.jit(jax.grad(lambda p: edge.sharpness(quartic, unravel(p), jax.random.key(0)).value))(flat)
    ahead, behind = (np.linalg.eigvalsh(hessian(flat + h * direction))[-1] for h in (1e-5, -1e-5))
    np.testing.assert_allclose(slope @ direction, (ahead - behind) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize(("curvature", "expected"), [((0.0, 0.0, 0.0), 0.0), ((-1.0, -3.0, -2.0), -1.0)])
def test_sharpness_is_signed(curvature, expected):
    """A linear loss has none; of a concave one it is the least negative curvature."""
    loss = lambda w: jnp.sum(jnp.asarray(curvature) * w**2) / 2 + jnp.sum(w)  # noqa: E731
    found = edge.sharpness(loss, jnp.ones(3), jax.random.key(1))
    assert found.status == Status.OK
    np.testing.assert_allclose(found.value, expected, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_thresholds_are_where_the_roots_of_the_recursion_leave_the_unit_disc(beta):
    eta = 0.3

    def largest(optimizer, h):
        a = {
            "gradient_descent": [[1 - eta * h, 0], [0, 0]],
            "momentum": [[1 - eta * h, -eta * beta], [h, beta]],  # of (w, v) before the step
            "nesterov": [[1 - eta * h * (1 + beta), -eta * beta**2], [h, beta]],
            "adam": [[1 - eta * (1 - beta) * h, -eta * beta], [(1 - beta) * h, beta]],
        }[optimizer]
        return abs(np.linalg.eigvals(np.array(a, float))).max()

    for optimizer in ("gradient_descent", "momentum", "nesterov", "adam"):
        limit = edge.stability_threshold(eta, optimizer=optimizer, beta=beta)
        assert largest(optimizer, 0.999 * limit) < 1 < largest(optimizer, 1.001 * limit)


def polynomial(w):
    """Three numbers coupled to sixth order; the first oscillates."""
    x, y, z = w[0], w[1], w[2]
    along = x**2 + x**3 / 3 - x**4 / 8 + x**6 / 40
    return along + y**2 / 5 + x**2 * y / 3 + x**3 * z / 4 + z**2 / 3 + x * y * z / 2 + x**4 * y / 20


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.first_case
def test_curvature_of_a_steady_oscillation_to_next_order(beta, float64):
    """Cycles that descent settles at: what is left beyond the next order falls as the fourth power of their size."""
    gaps, sizes = [], []
    for excess in (0.02, 0.005):
        eta = (1 + beta) * (1 + excess)
        step = lambda s: (s[0] - eta * (beta * s[1] + SLOPE(s[0])), beta * s[1] + SLOPE(s[0]))  # noqa: E731, B023
        start = jnp.array([0.1, 0.0, 0.0]), jnp.zeros(3)
        state = jax.jit(lambda s: jax.lax.fori_loop(0, 8000, lambda _, s: step(s), s))(start)  # noqa: B023
        x = state[0], step(state)[0]
        w, d = (x[0] + x[1]) / 2, (x[0] - x[1]) / 2
        seen = d @ jax.hessian(polynomial)(w) @ d / (d @ d)
        gaps.append(seen - edge.steady_curvature(polynomial, w, d, step_size=eta, beta=beta))
        sizes.append(d @ d)
        assert abs(gaps[-1]) < 0.1 * abs(seen - edge.stability_threshold(eta, optimizer="momentum", beta=beta))
    np.testing.assert_allclose(gaps[0] / gaps[1], (sizes[0] / sizes[1]) ** 2, rtol=0.2)


def test_a_direction_across_the_oscillation_may_be_sharper_than_the_edge(float64):
    """Two steps of descent across a cycle of size σ: stable up to 2/η − κσ²/2 + c²σ²/h, found by bisection."""
    c, kappa, h, eta, size = 0.6, 0.4, 0.5, 1.0, 0.02

    def grows(curvature):
        across = lambda x: np.array([[curvature + kappa * x**2 / 2, c * x], [c * x, h]])  # noqa: E731
        twice = (np.eye(2) - eta * across(-size)) @ (np.eye(2) - eta * across(size))
        return np.abs(np.linalg.eigvals(twice)).max() > 1

    low, high = 1.9, 2.1
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if grows(middle) else (middle, high)
    np.testing.assert_allclose(low - 2 / eta, (c**2 / h - kappa / 2) * size**2, rtol=0.01)


@pytest.mark.parametrize("eta_lambda", [1.5, 3.0, 4.5])
def test_catapult_is_gradient_descent_on_the_network(eta_lambda, float64):
    """Step by step against u and v in numpy; above 4 it diverges, above 2 the loss rises and λ falls below 2/η."""
    n, steps = 50, 60
    u, v = DRAWS.normal(size=(2, n))
    lam, f = (u @ u + v @ v) / n, u @ v / n**0.5
    eta = eta_lambda / lam
    found = edge.catapult(f, lam, step_size=eta, width=n, steps=steps)
    outputs, curvatures = [f], [lam]
    for _ in range(8 if eta_lambda > 4 else steps):
        u, v = u - eta * f * v / n**0.5, v - eta * f * u / n**0.5
        f, lam = u @ v / n**0.5, (u @ u + v @ v) / n
        outputs.append(f)
        curvatures.append(lam)
    # at chaotic steps rounding grows by a factor below four a step until the curvature settles
    np.testing.assert_allclose(found.output[: len(outputs)], outputs, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.curvature[: len(outputs)], curvatures, rtol=1e-8)
    assert (found.status == Status.OK) == (eta_lambda < 4)
    if eta_lambda == 3.0:
        assert abs(found.output).max() > 2 * abs(found.output[0])
        assert found.curvature[-1] < 2 / eta < found.curvature[0]


def test_complement_meets_its_conditions(float64):
    """X ⪰ 0, Z = M + G(X) ⪰ 0, ⟨X, Z⟩ = 0 for random convex problems of three directions."""
    solve = jax.jit(_complement)
    for _ in range(5):
        third = DRAWS.normal(size=(3, 3, 20))
        third = third + third.swapaxes(0, 1)
        slack = DRAWS.normal(size=(3, 3))
        slack, gram = slack + slack.T, np.einsum("ijp,klp->ijkl", third, third)
        x = np.zeros((3, 3))
        for _ in range(20):
            x = solve(slack, gram, x)
        z = slack + np.einsum("ijkl,kl->ij", gram, x)
        assert np.linalg.eigvalsh(x)[0] > -1e-9
        assert np.linalg.eigvalsh(z)[0] > -1e-6
        assert abs(np.sum(x * z)) < 1e-6


@pytest.mark.slow
def test_flow_of_solvable_losses(float64):
    """Σ (y_i x_i²/2 − b_i y_i): y_i rises by ηb_i a step until 2/η and stays, with variance 2b_i."""
    eta, b, steps = 0.5, np.array([0.4, 0.3]), 60
    loss = lambda w: jnp.sum(w["y"] * w["x"] ** 2 / 2 - jnp.asarray(b) * w["y"])  # noqa: E731
    start = {"x": np.zeros(2), "y": np.array([1.0, 0.5])}
    found = edge.central_flow(loss, start, step_size=eta, steps=steps, directions=2)
    exact = np.minimum(start["y"] + eta * b * np.arange(steps + 1)[:, None], 2 / eta)
    assert found.status == Status.OK
    np.testing.assert_allclose(found.params["y"], exact, atol=1e-6)
    np.testing.assert_allclose(np.linalg.eigvalsh(found.covariance[-1]), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.mean_loss[-1] - found.loss[-1], 2 * b.sum() / eta, rtol=1e-6)
    np.testing.assert_allclose(found.squared_gradient[-1], b @ b + 8 * b.sum() / eta**2, rtol=1e-6)
    # both are at the edge, where eigenvectors turn freely: Σ is in those of the Hessian at w
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda leaf: leaf[-1], found.params))
    vectors = np.linalg.eigh(jax.hessian(lambda p: loss(unravel(p)))(flat))[1][:, ::-1][:, :2]
    expected = np.zeros((4, 4))
    expected[0, 0], expected[1, 1] = 2 * b
    np.testing.assert_allclose(vectors @ found.covariance[-1] @ vectors.T, expected, atol=1e-6)
    blunt = edge.central_flow(loss, start, step_size=5.0, steps=2)
    assert blunt.status == Status.INVALID_INPUT


def network():
    """The loss of a tanh network on twenty points, of a vector, and a start."""
    draws = np.random.default_rng(3)
    x = jnp.asarray(draws.normal(size=(20, 3)))
    y = jnp.asarray(np.sin(2 * np.asarray(x[:, 0])) + np.asarray(x[:, 1] * x[:, 2]) / 2)
    shapes = {"w": (6, 3), "b": (6,), "a": (6,)}
    start = {name: jnp.asarray(draws.normal(size=shape)) * 0.7 for name, shape in shapes.items()}
    flat, unravel = jax.flatten_util.ravel_pytree(start)

    def loss(w):
        p = unravel(w)
        return jnp.mean((jnp.tanh(x @ p["w"].T + p["b"][None]) @ p["a"] - y) ** 2) / 2

    return loss, flat


def rmsprop(loss, eta, decay, start, second_moment, steps, eps=0.0):
    """Parameters, ν, losses and gradients before each step of RMSProp, written out."""

    def step(state, _):
        w, squares = state
        value, slope = jax.value_and_grad(loss)(w)
        new = decay * squares + (1 - decay) * slope**2
        return (w - eta * slope / jnp.sqrt(new + eps), new), (w, squares, value, slope)

    return map(np.asarray, jax.jit(lambda s: jax.lax.scan(step, s, None, length=steps)[1])((start, second_moment)))


@pytest.mark.slow
def test_rmsprop_flow_of_quadratics(float64):
    """√ν falls to ηh/2 and Σ = η²/4 in every direction: the cycle of ±η/2 that RMSProp itself is at."""
    eta, decay, h = 0.1, 0.98, jnp.array([1.0, 3.0])
    loss = lambda w: jnp.sum(h * w**2) / 2  # noqa: E731
    begin, steps = jnp.array([1.0, 2.0]), 400
    flow = edge.rmsprop_flow(
        loss, jnp.zeros(2), step_size=eta, steps=steps, decay=decay, eps=0.0, second_moment=begin, directions=2
    )
    falling = np.exp(-(1 - decay) / decay * np.arange(steps + 1))[:, None] * np.asarray(begin)
    assert flow.status == Status.OK
    # explicit Euler of four substeps: its relative error is rate² · time · dt / 2
    np.testing.assert_allclose(
        flow.second_moment,
        np.maximum(falling, np.asarray(eta * h / 2) ** 2),
        rtol=((1 - decay) / decay) ** 2 * steps / 8,
    )
    np.testing.assert_allclose(np.linalg.eigvalsh(flow.covariance[-1]), np.asarray(h) * eta**3 / 8, rtol=1e-6)
    _, squares, losses, slopes = rmsprop(loss, eta, decay, jnp.full(2, eta / 2), flow.second_moment[-1], 50)
    np.testing.assert_allclose(squares[-1], flow.second_moment[-1], rtol=1e-3)
    np.testing.assert_allclose(losses.mean(), flow.mean_loss[-1], rtol=1e-3)
    np.testing.assert_allclose((slopes**2).sum(1).mean(), flow.squared_gradient[-1], rtol=1e-3)


@pytest.mark.slow
def test_rmsprop_flow_where_the_oscillation_cancels_the_gradient(float64):
    """L = yx²/2 − by with Σ near 5b/4: ν of y follows (b − Σ/2)² and not b², and y grows by η a step, not η/3."""
    eta, decay, b, steps = 0.01, 0.99, 2e-5, 600
    loss = lambda w: w[1] * w[0] ** 2 / 2 - b * w[1]  # noqa: E731
    start, begin = jnp.array([0.0, 100.0]), jnp.array([(50 * eta) ** 2, (b - eta**2 / 8) ** 2])
    flow = edge.rmsprop_flow(loss, start, step_size=eta, steps=steps, decay=decay, eps=0.0, second_moment=begin)
    assert flow.status == Status.OK
    spread = flow.covariance[:, 0, 0] / jnp.sqrt(flow.second_moment[:, 0])
    path, squares, _, _ = rmsprop(loss, eta, decay, start.at[0].set(eta / 2), begin, steps + 1)
    # first order of 1 − β
    np.testing.assert_allclose(path[-1, 1] - 100, flow.params[-1, 1] - 100, rtol=1 - decay)
    np.testing.assert_allclose(path[-1, 1] - 100, eta * steps, rtol=1 - decay)
    np.testing.assert_allclose(squares[-1], flow.second_moment[-1], rtol=1 - decay)
    np.testing.assert_allclose((path[-20:, 0] ** 2).mean(), spread[-1], rtol=1 - decay)


@pytest.mark.slow
def test_rmsprop_at_the_edge_follows_its_flow(float64):
    """A tanh network: averages of loss and squared gradient from w + σu, beside what the flow alone has."""
    flat, start = network()
    eta, decay, steps, begin, last = 0.02, 0.99, 1300, 1000, 300
    squares = jnp.full(start.size, 0.05)
    follow = lambda w: edge.rmsprop_flow(  # noqa: E731
        flat, w, step_size=eta, steps=steps, decay=decay, second_moment=squares, directions=2
    )
    flow = jax.jit(follow)(start)
    assert flow.status == Status.OK
    np.testing.assert_allclose(flow.sharpness[begin:, 0], 2 / eta, rtol=1e-4)
    w, squares = flow.params[begin], flow.second_moment[begin]
    half = (squares + 1e-8) ** -0.25
    vectors = np.linalg.eigh(half[:, None] * jax.jit(jax.hessian(flat))(w) * half[None])[1][:, ::-1][:, :2]
    values, turned = np.linalg.eigh(flow.covariance[begin])
    offset = half * (vectors @ turned[:, -1]) * values[-1] ** 0.5
    _, _, losses, slopes = rmsprop(flat, eta, decay, w + offset, squares, last, eps=1e-8)
    window = slice(begin, begin + last)
    for seen, predicted in ((losses, flow.mean_loss), ((slopes**2).sum(1), flow.squared_gradient)):
        level = float(predicted[window].mean())
        missed = (seen - predicted[window]).reshape(-1, 20).mean(1)
        # first order of 1 − β, and what averages over blocks of 20 steps leave of the oscillation
        assert abs(missed.mean()) < 2 * (1 - decay) * level + 4.5 * missed.std(ddof=1) / len(missed) ** 0.5
        assert missed.std(ddof=1) / len(missed) ** 0.5 < 0.1 * level
    assert losses.mean() > 3 * flow.loss[window].mean()


@pytest.mark.slow
def test_descent_at_the_edge_follows_the_flow_in_loss_sharpness_and_variance(float64):
    """A tanh network on twenty points: averages of descent from w + σu are those of the flow."""
    flat, start = network()
    eta, steps, begin, last = 0.6, 1500, 1200, 300
    flow = jax.jit(lambda p: edge.central_flow(flat, p, step_size=eta, steps=steps))(start)
    assert flow.status == Status.OK
    np.testing.assert_allclose(flow.sharpness[begin:, 0], 2 / eta, rtol=1e-4)
    ws = np.asarray(flow.params)
    step = lambda w, _: (w - eta * jax.grad(flat)(w), (w, flat(w), jnp.sum(jax.grad(flat)(w) ** 2)))  # noqa: E731
    variance = flow.covariance[begin, 0, 0]
    u = np.linalg.eigh(jax.jit(jax.hessian(flat))(ws[begin]))[1][:, -1]
    run = jax.jit(lambda w: jax.lax.scan(step, w, None, length=last)[1])
    path, losses, squares = map(np.asarray, run(ws[begin] + variance**0.5 * u))
    seen = losses.mean(), squares.mean(), ((path - ws[begin : begin + last]) @ u).var()
    predicted = [np.mean(v[begin : begin + last]) for v in (flow.mean_loss, flow.squared_gradient, flow.covariance)]
    smooth = np.stack([path[i : i + 20].mean(axis=0) for i in range(0, last, 20)])
    sharp = np.asarray(jax.jit(jax.vmap(lambda w: jnp.linalg.eigvalsh(jax.hessian(flat)(w))[-1]))(jnp.asarray(smooth)))
    np.testing.assert_allclose(seen, predicted, rtol=0.02)
    assert seen[0] > 3 * flow.loss[begin : begin + last].mean()  # what the flow alone has
    np.testing.assert_allclose(sharp.mean(), 2 / eta, rtol=0.005)


@pytest.mark.slow
def test_sharpness_observes_the_training_loop_and_any_run_of_optax(float64):
    """λ_max of the dense Hessian at recorded steps, in the one training loop and in a scan over optax's updates."""
    optimizer = optax.adam(0.02)
    loss = lambda w: jnp.sum(jnp.sin(jnp.asarray(MIX[:4, :4]) @ w)) + jnp.sum(w**4)  # noqa: E731
    start, key = jnp.array([0.5, -0.3, 0.2, 0.8]), jax.random.key(0)
    observe = lambda w: (edge.sharpness(loss, w, key).value, w)  # noqa: E731

    def step(state, _):
        w, memory = state
        move, memory = optimizer.update(jax.grad(loss)(w), memory, w)
        return (optax.apply_updates(w, move), memory), observe(optax.apply_updates(w, move))

    with relaxed_promotion():  # of optax
        scanned = jax.jit(lambda w: jax.lax.scan(step, (w, optimizer.init(w)), None, length=6)[1])(start)
        loop = train(loss, start, optimizer=optimizer, steps=6, record=observe, record_every=2).records
    for values, places in (scanned, loop):
        dense = np.linalg.eigvalsh(np.asarray(jax.vmap(jax.hessian(loss))(places)))[:, -1]
        np.testing.assert_allclose(values, dense, rtol=1e-9)
    np.testing.assert_allclose(loop[0], scanned[0][1::2], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu], ids=["tanh", "relu"])
def test_a_wide_network_is_thrown_as_the_linear_one(activation, float64):
    """Below 2/λ the loss only falls and λ stays; between 2/λ and 4/λ it first rises, and λ ends below 2/η."""
    width, draws = 2000, np.random.default_rng(5)
    x, y = jnp.asarray(draws.normal(size=(3, 2))), jnp.asarray(draws.normal(size=3))
    start = jnp.asarray(draws.normal(size=(width, 2))), jnp.asarray(draws.normal(size=width))
    predict = lambda p: activation(x @ p[0].T) @ p[1] / width**0.5  # noqa: E731
    loss = lambda p: jnp.mean((predict(p) - y) ** 2) / 2  # noqa: E731

    def curvature(p):
        slopes = jnp.concatenate([leaf.reshape(3, -1) for leaf in jax.jacrev(predict)(p)], axis=1)
        return jnp.linalg.eigvalsh(slopes @ slopes.T / 3)[-1]

    @jax.jit
    def run(eta):
        step = lambda p, _: (jax.tree.map(lambda a, b: a - eta * b, p, jax.grad(loss)(p)), loss(p))  # noqa: E731
        end, losses = jax.lax.scan(step, start, None, length=400)
        return losses, curvature(end)

    first = curvature(start)
    (slow, kept), (fast, fallen) = run(1.5 / first), run(3 / first)
    assert (jnp.diff(slow) <= 1e-16 * slow[0]).all()
    np.testing.assert_allclose(kept, first, rtol=0.05)
    assert fast.max() > 10 * fast[0]
    assert fast[-1] < 0.1 * fast[0]
    assert fallen < 2 / 3 * first
