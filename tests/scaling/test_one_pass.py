"""One-pass SGD on random features: the exact mean against matrices of moments and against simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory.results import Status
from jaxtheory.scaling import one_pass_risk


def problem(modes, width, alpha, beta, seed=0):
    """A random-feature problem with eigenvalues j^(−2α) and target j^(−β), in float64."""
    i = np.arange(1, modes + 1)
    drawn = np.random.default_rng(seed).normal(size=(modes, width)) / width**0.5
    return drawn, i ** (-2.0 * alpha), i ** (-1.0 * beta)


def moments(features, eigs, target, batch, step_size, momentum):
    """The risk from the full matrices E δδᵀ, E δvᵀ, E vvᵀ, undiagonalized; `floor` by least squares."""
    root = np.sqrt(eigs)
    best = np.linalg.lstsq(root[:, None] * features, root * target, rcond=None)[0]
    floor = np.sum((root * (features @ best - target)) ** 2)
    k = features.T @ (eigs[:, None] * features)
    dd = np.outer(best, best)
    dv, vv = np.zeros_like(k), np.zeros_like(k)
    risk = [np.trace(k @ dd) + floor]
    for b, g, mu in zip(batch, step_size, momentum, strict=True):
        # E gradient gradientᵀ for Gaussian data, by Isserlis
        gg = (1 - 1 / b) * k @ dd @ k + (2 * k @ dd @ k + k * (np.trace(k @ dd) + floor)) / b
        # E δ v'ᵀ with v' = μ v − γ g
        dv_next = mu * dv - g * dd @ k
        vv = mu**2 * vv - mu * g * (dv.T @ k + k @ dv) + g**2 * gg
        dd = dd + dv_next + dv_next.T + vv
        dv = dv_next + vv
        risk.append(np.trace(k @ dd) + floor)
    return np.array(risk), floor


SCHEDULES = {
    "constant": (np.full(40, 2.0), np.full(40, 0.3), np.zeros(40)),
    "heavy ball": (np.full(40, 2.0), np.full(40, 0.1), np.full(40, 0.8)),
    "all vary": (np.linspace(1, 9, 40).round(), np.linspace(0.4, 0.01, 40), np.linspace(0, 0.9, 40)),
}


@pytest.mark.parametrize("plan", SCHEDULES.values(), ids=SCHEDULES)
def test_one_pass_risk_is_that_of_the_full_matrices_of_moments(plan, float64):
    given = problem(15, 4, 0.8, 0.6)
    expected, floor = moments(*given, *plan)
    batch, step_size, momentum = plan
    found = one_pass_risk(*given, batch=batch, step_size=step_size, steps=40, momentum=momentum)
    assert found.status == Status.OK
    assert_close(found.risk, expected, condition=100)
    assert_close(found.floor, floor, condition=100)


def test_more_features_than_modes_and_repeated_features_are_no_exception(float64):
    features, eigs, target = problem(4, 3, 0.8, 0.6)
    wide = np.concatenate([features, features, 0 * features], axis=1)
    eigs[3] = 0
    plan = SCHEDULES["all vary"]
    expected, floor = moments(wide, eigs, target, *plan)
    found = one_pass_risk(wide, eigs, target, batch=plan[0], step_size=plan[1], steps=40, momentum=plan[2])
    assert found.status == Status.OK
    np.testing.assert_allclose(found.risk, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.floor, floor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("modes", [6, 3])
def test_the_floor_is_that_of_the_columns_that_differ(modes, dtype):
    """Repeated and empty columns add nothing, whatever their lengths, with fewer columns than modes and with more."""
    features, eigs, target = problem(6, 3, 0.8, 0.6)
    eigs[modes:] = 0
    wide = np.concatenate([features[:, :2], 1e-6 * features[:, 1:2], 0 * features[:, :1]], axis=1)
    given = [jnp.asarray(value, dtype) for value in (wide, eigs, target)]
    found = one_pass_risk(*given, batch=2, step_size=0.1, steps=3)
    root = np.sqrt(eigs)[:, None]
    residual = np.linalg.lstsq(root * features[:, :2], root[:, 0] * target, rcond=None)[1]
    np.testing.assert_allclose(found.floor, residual[0], rtol=2e3 * float(jnp.finfo(dtype).eps))
    assert found.status == Status.OK


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.first_case
def test_one_pass_risk_is_the_mean_of_simulated_sgd(momentum, key):
    """Against averages over independent streams, within 4 of their standard errors."""
    features, eigs, target = (jnp.asarray(value, jnp.float32) for value in problem(20, 6, 0.8, 0.6))
    batch, steps, repeats, step_size = 2, 40, 4000, 0.15
    root = jnp.sqrt(eigs)

    def risk(theta):
        return jnp.sum((root * (features @ theta - target)) ** 2)

    def step(state, x):
        theta, velocity = state
        seen = x @ features
        gradient = seen.T @ (seen @ theta - x @ target) / batch
        velocity = momentum * velocity - step_size * gradient
        return (theta + velocity, velocity), risk(theta + velocity)

    def run(stream):
        data = jax.random.normal(stream, (steps, batch, 20)) * root[None, None, :]
        return jax.lax.scan(step, (jnp.zeros(6), jnp.zeros(6)), data)[1]

    drawn = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(key, repeats)))
    predicted = one_pass_risk(features, eigs, target, batch=batch, step_size=step_size, steps=steps, momentum=momentum)
    at = np.array([0, 3, 9, 24, 39])
    error = drawn.std(axis=0, ddof=1) / repeats**0.5
    assert (np.abs(drawn.mean(axis=0) - np.asarray(predicted.risk)[1:])[at] < 4 * error[at]).all()


def test_small_steps_give_the_volterra_equation(float64):
    """P(s) = F(s) + γ ∫ K(s − u) P(u) du at s = γt, with F = Σ h² e^(−2λs), K = Σ λ² e^(−2λs)/B: to O(γ²)."""
    step_size, steps, batch = 0.01, 1500, 1
    eigs, target = np.arange(1, 11) ** -1.2, np.arange(1, 11) ** -0.4
    s = step_size * np.arange(steps + 1)
    decay = np.exp(-2 * s[:, None] * eigs[None, :])
    forcing, kernel = decay @ (eigs * target**2), decay @ eigs**2 / batch
    weight = step_size**2 * kernel
    volterra = [forcing[0]]
    for t in range(1, steps + 1):
        # trapezoidal rule, of which the last term holds the unknown
        past = weight[t:0:-1] @ volterra - weight[t] * volterra[0] / 2
        volterra.append((forcing[t] + past) / (1 - weight[0] / 2))
    found = one_pass_risk(np.eye(10), eigs, target, batch=batch, step_size=step_size, steps=steps)
    np.testing.assert_allclose(found.risk, volterra, rtol=10 * step_size**2)
    # which the noise of the gradient exceeds by far
    assert found.risk[-1] > 1.02 * forcing[-1]


def test_decays_below_the_rounding_of_float32_count():
    """γλ = 1e−8 for 20,000 steps: (1 − 1e−8)^40000, which float32 products would leave at 1."""
    found = one_pass_risk([[1e-4]], [1.0], [1.0], batch=jnp.inf, step_size=1.0, steps=20_000)
    single = 1e-4 * 1e-4
    expected = (1 - np.float64(single)) ** 40_000.0
    assert abs(found.risk[-1] - expected) < 3e-7
    assert abs((1 - found.risk[-1]) / (1 - expected) - 1) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("momentum", "step_size", "batch"), [(0.0, 1e-5, 1.0), (0.99, 0.002, 2.0), (0.5, 0.9, 1e6)])
def test_float32_follows_float64_over_20000_steps(momentum, step_size, batch):
    """With λ over five decades: to 1e−4, relative, at every step."""
    features = np.float32(np.random.default_rng(0).normal(size=(60, 20)) / 20**0.5)
    i, plan = np.arange(1, 61), {"batch": batch, "step_size": step_size, "steps": 20_000, "momentum": momentum}
    single = one_pass_risk(features, np.float32(i**-3.0), np.float32(i**-0.5), **plan)
    with jax.enable_x64(True):
        double = one_pass_risk(np.float64(features), i**-3.0, i**-0.5, **plan)
    assert single.status == double.status == Status.OK
    assert single.risk.dtype == np.float32
    np.testing.assert_allclose(single.risk, double.risk, rtol=1e-4)


def test_gradient_descent_on_the_risk_reaches_it_in_one_newton_step():
    found = one_pass_risk([[1.0], [0.0]], [1.0, 1.0], [2.0, 3.0], batch=jnp.inf, step_size=1.0, steps=2)
    np.testing.assert_array_equal(found.risk, [13.0, 9.0, 9.0])
    assert found.floor == 9.0


def test_steps_that_diverge_are_not_ok():
    found = one_pass_risk([[1.0]], [1.0], [1.0], batch=1, step_size=3.0, steps=200)
    assert found.status == Status.NOT_FINITE


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": jnp.ones(3)}, r"batch must be one number or an array \[5\]"),
        ({"step_size": -1.0}, "step_size must be >= 0"),
        ({"momentum": 1.5}, "momentum must lie in"),
        ({"steps": -1}, "steps must be >= 0"),
        ({"batch": 0.5}, "batch must be >= 1"),
        ({"eigs": jnp.ones(4)}, "features must have 4 rows"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(changed, message, unchecked):
    given = {"features": jnp.ones((3, 2)), "eigs": jnp.ones(3), "target": jnp.ones(3)}
    given |= {"batch": 1.0, "step_size": 0.1, "steps": 5}
    with pytest.raises(ValueError, match=message):
        one_pass_risk(**given | changed)
