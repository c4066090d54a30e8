"""Each law of implicit bias against SciPy or a run, and runs against each law."""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import LinearConstraint, linprog, minimize, minimize_scalar
from tolerances import assert_close

from jaxtheory.optimization import implicit_bias as bias
from jaxtheory.results import Status


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def separable(rng):
    x = rng.normal(size=(30, 4))
    y = np.sign(x @ np.arange(1.0, 5.0))
    return x + 0.1 * y[:, None], y


def test_descent_ends_at_the_nearest_interpolant(rng, float64):
    """And the component of the start across the rows stays, to round-off."""
    x, y, start = rng.normal(size=(5, 12)), rng.normal(size=5), rng.normal(size=12)
    beta = start.copy()
    step = 1 / np.linalg.eigvalsh(x @ x.T / 5)[-1]
    for _ in range(4000):
        beta -= step * x.T @ (x @ beta - y) / 5
    limit = bias.minimum_norm(jnp.asarray(x), jnp.asarray(y), jnp.asarray(start))
    np.testing.assert_allclose(limit, beta, atol=1e-10)
    null = np.eye(12) - np.linalg.pinv(x) @ x
    np.testing.assert_allclose(null @ np.asarray(limit), null @ start, atol=1e-13)


def test_flow_against_ridge_by_simulation(rng, float64):
    """Bias and variance of both estimators are means over label noise, within 4 standard errors."""
    x, beta, noise, t = rng.normal(size=(20, 4)), np.array([1.0, -2.0, 0.5, 0.0]), 0.5, 0.7
    h, vectors = np.linalg.eigh(x.T @ x / 20)
    labels = x @ beta + np.sqrt(noise) * rng.normal(size=(4000, 20))
    projected = labels @ x / 20 @ vectors
    for knob, share in ({"time": t}, (1 - np.exp(-h * t)) / h), ({"lam": 1 / t}, 1 / (h + 1 / t)):
        errors = ((projected * share - vectors.T @ beta) ** 2).sum(1)
        risk = bias.filtered_risk(jnp.asarray(h), jnp.asarray(vectors.T @ beta), samples=20, noise=noise, **knob)
        assert abs(float(risk.risk) - errors.mean()) < 4 * errors.std() / np.sqrt(4000)


def test_flow_is_never_far_from_ridge(float64):
    """At λ = 1/t bias is below, variance within the sharp constant, attained at x = ht = 1.7933."""
    found = minimize_scalar(lambda x: -(((1 - np.exp(-x)) * (1 + x) / x) ** 2), bounds=(1, 3), method="bounded",
                            options={"xatol": 1e-12})  # fmt: skip
    assert bias.flow_ratio() == pytest.approx(-found.fun, rel=1e-12)
    h = jnp.logspace(-3, 3, 400)
    for t in (0.1, 1.0, 10.0):
        one = partial(bias.filtered_risk, coefficients=jnp.ones(1), samples=10, noise=1.0)
        flow = jax.vmap(lambda v: one(v[None], time=t))(h)  # noqa: B023
        ridge = jax.vmap(lambda v: one(v[None], lam=1 / t))(h)  # noqa: B023
        assert (flow.bias <= ridge.bias * (1 + 1e-12)).all()
        assert (flow.variance <= ridge.variance * bias.flow_ratio()).all()


def test_stationary_covariance_solves_lyapunov_and_is_reached(rng, float64):
    a, c, eta = rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), 0.2
    hessian, noise = a @ a.T / 3 + 0.3 * np.eye(3), c @ c.T
    sigma = bias.stationary_covariance(jnp.asarray(hessian), jnp.asarray(noise), eta)
    step = np.eye(3) - eta * hessian
    assert_close(sigma, solve_discrete_lyapunov(step, eta**2 * noise), condition=100)
    theta, root = np.zeros((20_000, 3)), np.linalg.cholesky(noise)
    for _ in range(400):
        theta = theta @ step.T + eta * rng.normal(size=theta.shape) @ root.T
    spread = np.asarray(sigma).diagonal() * np.sqrt(2 / 20_000)
    assert (np.abs(np.cov(theta.T).diagonal() - np.asarray(sigma).diagonal()) < 4 * spread).all()


@pytest.mark.smoke
def test_largest_margin_is_the_quadratic_programs(separable, float64):
    x, y = separable
    fit = bias.max_margin(jnp.asarray(x), jnp.asarray(y))
    signed = y[:, None] * x
    start = np.asarray(fit.direction) / float(fit.margin) * 1.5
    qp = minimize(lambda w: w @ w / 2, start, jac=lambda w: w, method="SLSQP", options={"ftol": 1e-16, "maxiter": 500},
                  constraints={"type": "ineq", "fun": lambda w: signed @ w - 1, "jac": lambda w: signed})  # fmt: skip
    assert float(fit.margin) == pytest.approx(1 / np.linalg.norm(qp.x), rel=1e-8)
    np.testing.assert_allclose(fit.direction, qp.x / np.linalg.norm(qp.x), atol=1e-6)
    assert (signed @ np.asarray(fit.direction)).min() == pytest.approx(float(fit.margin), rel=1e-9)
    assert int(fit.status) == Status.OK


@pytest.fixture(scope="module")
def flat_hull():
    """Two support vectors in the plane and far points: what is left across the margin decays like 1/t."""
    x = np.array([[1.0, 2.0], [1.0, -1.0], [3.0, 2.0], [4.0, -1.0]])
    y = np.array([1.0, 1.0, -1.0, 1.0])
    return y[:, None] * x, y


@pytest.mark.slow
def test_direction_is_found_at_the_speed_of_a_logarithm(flat_hull, float64):
    """What w keeps across ŵ tends to a limit known beforehand, so distance · log t does; never ‖w‖/log t itself."""
    x, y = map(jnp.asarray, flat_hull)
    path = bias.margin_path(x, y, step_size=0.1, doublings=18)
    limit = bias.limit_across(bias.max_margin(x, y), x, y)
    np.testing.assert_allclose(limit, [0, np.log(2) / 3], atol=1e-8)
    errors = jnp.linalg.norm(path.across - limit[None], axis=1)
    assert errors[-1] < 1e-3
    assert errors[-1] < errors[-4] / 4  # 1/t up to a logarithm: 8 times in three doublings
    np.testing.assert_allclose(path.distance[-1] * path.norm[-1], jnp.linalg.norm(limit), rtol=1e-2)
    assert (jnp.diff(path.log_loss) < 0).all()


@pytest.mark.slow
def test_normalized_descent_is_not_bound_by_the_logarithm(separable, float64):
    x, y = map(jnp.asarray, separable)
    slow = bias.margin_path(x, y, step_size=0.05, doublings=16)
    fast = bias.margin_path(x, y, step_size=0.05, doublings=16, method="normalized")
    best = float(bias.max_margin(x, y).margin)
    halved, still = (best - np.asarray(path.margin) for path in (fast, slow))
    rest = np.log(2**15) / (0.05 * 2**15)  # the order after 1/t, .6 %
    assert abs(halved[-2] / halved[-1] / 2 - 1) < rest
    assert still[-2] / still[-1] < 2**0.5  # not even the root of t
    assert halved[-1] < still[-1]
    assert float(fast.log_loss[-1]) < -90  # far below the smallest float32, and still finite
    assert jnp.isfinite(fast.log_loss).all()


def test_interpolant_has_least_entropy(rng, float64):
    """Against SciPy's constrained minimization of Q, and its limits: ℓ₁ for small starts, ℓ₂ for large ones."""
    x = rng.normal(size=(4, 9))
    y = x @ np.where(np.arange(9) < 2, 1.0, 0.0)
    found = bias.hyperbolic_interpolant(jnp.asarray(x), jnp.asarray(y), scale=0.5)
    assert float(found.residual) < 1e-13
    q = lambda b: float(bias.hyperbolic_entropy(jnp.asarray(b), 0.5))  # noqa: E731
    slope = lambda b: np.arcsinh(b / 0.5)  # noqa: E731
    best = minimize(q, np.linalg.pinv(x) @ y, jac=slope, method="trust-constr", options={"gtol": 1e-12, "xtol": 1e-14},
                    constraints=LinearConstraint(x, y, y))  # fmt: skip
    np.testing.assert_allclose(found.beta, best.x, atol=1e-6)
    large = bias.hyperbolic_interpolant(jnp.asarray(x), jnp.asarray(y), scale=100.0).beta
    np.testing.assert_allclose(large, np.linalg.pinv(x) @ y, atol=1e-6)
    y = rng.normal(size=4)  # of which no fewer than four features make the sparsest interpolant
    small = bias.hyperbolic_interpolant(jnp.asarray(x), jnp.asarray(y), scale=1e-100)
    least = linprog(np.ones(18), A_eq=np.hstack([x, -x]), b_eq=y).fun
    excess = 9 / (2 * least * np.log(1e100))  # Woodworth et al., Theorem 2: α <= exp(−d/(2 ε ‖β‖₁)) gives 1 + ε
    assert least * (1 - 1e-9) <= float(jnp.abs(small.beta).sum()) <= least * (1 + excess)
    assert float(small.residual) < 1e-12


def test_diagonal_networks_find_it_up_to_their_step(rng, float64):
    """Halving the step halves the distance from the flow's limit: a ratio of 2 within the next order, 10%."""
    x = rng.normal(size=(5, 15))
    y = x @ np.where(np.arange(15) < 3, 1.0, 0.0)
    limit = bias.hyperbolic_interpolant(jnp.asarray(x), jnp.asarray(y), scale=0.1).beta
    far, near = (
        jnp.linalg.norm(
            bias.diagonal_descent(jnp.asarray(x), jnp.asarray(y), scale=0.1, step_size=e, steps=int(200 / e))[0] - limit
        )
        for e in (0.01, 0.005)
    )
    assert float(far / near) == pytest.approx(2, rel=0.1)


def test_runs_are_vmapped_over_starts_and_steps(rng, flat_hull, float64):
    """A grid of sizes of the start and of the step in one program is its runs, one by one."""
    x, y = jnp.asarray(rng.normal(size=(3, 6))), jnp.asarray(rng.normal(size=3))
    run = jax.jit(lambda a, e: bias.diagonal_descent(x, y, scale=a, step_size=e, steps=50)[0])
    scales, steps = jnp.array([0.1, 0.5]), jnp.array([0.01, 0.02, 0.04])
    grid = jax.vmap(jax.vmap(run, (None, 0)), (0, None))(scales, steps)
    assert_close(grid, np.stack([[run(a, e) for e in steps] for a in scales]), condition=10)
    points, signs = map(jnp.asarray, flat_hull)
    margin = jax.jit(lambda e: bias.margin_path(points, signs, step_size=e, doublings=5).margin)
    assert_close(jax.vmap(margin)(steps), np.stack([margin(e) for e in steps]), condition=10)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_modes_solve_their_equation(depth, float64):
    s, times = np.array([2.0, 1.0]), np.linspace(0, 8, 5)
    flow = lambda t, v: depth * v ** (2 - 2 / depth) * (s - v)  # noqa: E731
    solved = solve_ivp(flow, (0, 8), [0.02, 0.02], t_eval=times, rtol=1e-11, atol=1e-13).y.T
    np.testing.assert_allclose(
        bias.deep_linear_modes(jnp.asarray(s), depth, 0.02, jnp.asarray(times)), solved, atol=1e-8
    )


def test_modes_have_the_derivatives_of_their_flow(float64):
    """Of an autonomous flow: dσ/dt = f(σ) and dσ/dσ(0) = f(σ)/f(σ(0)); in s by differences of SciPy's solutions."""
    s, start, time = 2.0, 0.1, 1.3
    flow = lambda v, s: 3 * v ** (4 / 3) * (s - v)  # noqa: E731

    def solved(s):
        return solve_ivp(lambda t, v: flow(v, s), (0, time), [start], method="DOP853", rtol=1e-13, atol=1e-15).y[0, -1]

    mode = lambda s, start, t: bias.deep_linear_modes(s[None], 3, start, t[None])[0, 0]  # noqa: E731
    at, gradient = jax.jit(jax.value_and_grad(mode, argnums=(0, 1, 2)))(*map(jnp.asarray, (s, start, time)))
    end = solved(s)
    np.testing.assert_allclose(at, end, rtol=1e-11)
    in_s = (solved(s + 1e-4) - solved(s - 1e-4)) / 2e-4
    np.testing.assert_allclose(gradient, [in_s, flow(end, s) / flow(start, s), flow(end, s)], rtol=1e-6)
    assert gradient[2] == pytest.approx(0.22845, abs=1e-5)


@pytest.mark.parametrize("depth", [2, 3])
def test_modes_without_a_singular_value_decay(depth, dtype):
    """At s = 0: σ^{2/N − 2} σ̇ = −N σ, so that σ^{−(2 − 2/N)} grows by N (2 − 2/N) t; in value, and in start and t."""
    power, start, times = 2 - 2 / depth, 0.5, np.array([0.0, 3.0, 1e4])
    exact = (start**-power + depth * power * times) ** (-1 / power)
    mode = lambda start, t: bias.deep_linear_modes(jnp.zeros(1, dtype), depth, start, t)[:, 0]  # noqa: E731
    at = jnp.asarray(start, dtype), jnp.asarray(times, dtype)
    found, moved = jax.jvp(mode, at, (jnp.ones((), dtype), jnp.ones(3, dtype)))
    assert_close(found, exact, condition=10)
    assert_close(moved, (exact / start) ** (1 + power) - depth * exact ** (1 + power), condition=100)


def test_derivatives_of_two_layers_do_not_cancel(dtype):
    """σ = s/(1 + e (s − σ₀)/σ₀), e = e^(−2st), long after it is learned, before, and at scales far apart."""
    cases = [(1e15, 1e-20, 1e20), (1e-20, 0.1, 1e10), (2.0, 0.1, 10.0), (1.0, 5.0, 3.0), (3.0, 1e-6, 2.0), (1, 1, 3)]
    mode = lambda s, start, t: bias.deep_linear_modes(s[None], 2, start, t[None])[0, 0]  # noqa: E731
    found = jax.jit(jax.vmap(jax.grad(mode, argnums=(0, 1, 2))))(*jnp.asarray(cases, dtype).T)
    with mpmath.workdps(60):
        right = [_two_layers(*map(mpmath.mpf, np.asarray(case, dtype).tolist())) for case in cases]
    # e and s/σ₀ are known to the rounding of their exponents, of which the largest is 40
    np.testing.assert_allclose(np.transpose(found), np.array(right, float), rtol=100 * jnp.finfo(dtype).eps)


def _two_layers(s, start, t):
    """∂σ/∂s, ∂σ/∂σ₀ and ∂σ/∂t."""
    e = mpmath.exp(-2 * s * t)
    below = 1 + e * (s - start) / start
    along = 1 / below - s / below**2 * (e / start - 2 * t * e * (s - start) / start)
    return along, (s / below / start) ** 2 * e, 2 * s**2 / below**2 * e * (s - start) / start


@pytest.mark.parametrize("depth", [2, 3])
def test_deep_linear_descent_learns_mode_after_mode(depth, rng, float64):
    """Gradient descent on all matrices from the balanced start; Euler's error is of the order of the step."""
    left, right = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    s, eta, start = np.array([2.0, 1.0, 0.5]), 1e-3, 0.01
    target = left * s @ right.T
    weights = [start ** (1 / depth) * (left @ right.T if layer == 0 else np.eye(3)) for layer in range(depth)]
    times, measured = [2.0, 4.0, 8.0], []
    for step in range(1, int(times[-1] / eta) + 1):
        gap = np.linalg.multi_dot(weights[::-1]) - target
        gradients = [
            np.linalg.multi_dot([*[np.eye(3)] * 2, *[w.T for w in weights[i + 1 :]]])
            @ gap
            @ np.linalg.multi_dot([*[w.T for w in weights[:i]], *[np.eye(3)] * 2])
            for i in range(depth)
        ]
        weights = [w - eta * g for w, g in zip(weights, gradients, strict=True)]
        if any(abs(step * eta - t) < eta / 2 for t in times):
            measured.append(np.diag(left.T @ np.linalg.multi_dot(weights[::-1]) @ right))
    predicted = bias.deep_linear_modes(jnp.asarray(s), depth, start, jnp.asarray(times))
    np.testing.assert_allclose(measured, predicted, atol=20 * eta)


def test_effective_rank_counts(float64):
    assert float(bias.effective_rank(jnp.array([3.0, 3.0, 3.0, 0.0]))) == pytest.approx(3.0)


def test_integer_labels_are_labels(unchecked):
    x, y = jnp.array([[1.0, 0.2], [-1.0, 0.3], [2.0, 1.0]]), jnp.array([1, -1, 1])
    fits = bias.max_margin(x, y), bias.max_margin(x, y.astype(x.dtype))
    assert fits[0].margin == fits[1].margin > 0


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bias.minimum_norm(jnp.ones((2, 3)), jnp.ones(3)), "y"),
        (lambda: bias.filtered_risk(jnp.ones(2), jnp.ones(2), samples=5, noise=1.0), "time"),
        (lambda: bias.filtered_risk(jnp.ones(2), jnp.ones(2), samples=5, noise=1.0, lam=-1.0), "lam"),
        (lambda: bias.stationary_covariance(jnp.eye(2), jnp.eye(2), 2.5), "step_size"),
        (lambda: bias.stationary_covariance(-jnp.eye(2), jnp.eye(2), 0.5), "hessian"),
        (lambda: bias.max_margin(jnp.ones((2, 1)), jnp.array([1.0, -1.0])), "x"),
        (lambda: bias.max_margin(jnp.ones((2, 1)), jnp.array([1.0, 0.0])), "y"),
        (lambda: bias.margin_path(jnp.eye(2), jnp.ones(2), step_size=9.0, doublings=2), "step_size"),
        (lambda: bias.hyperbolic_interpolant(jnp.ones((3, 2)), jnp.ones(3), scale=1.0), "x"),
        (lambda: bias.hyperbolic_interpolant(jnp.ones((1, 2)), jnp.ones(1), scale=0.0), "scale"),
        (lambda: bias.deep_linear_modes(jnp.ones(1), 3, 0.0, jnp.ones(1)), "start"),
        (lambda: bias.balanced_start(jax.random.key(0), 2, 2, 0.0), "size"),
    ],
)
def test_bad_arguments_are_named(call, named, unchecked):
    with pytest.raises(ValueError, match=f"^{named} must"):
        call()
