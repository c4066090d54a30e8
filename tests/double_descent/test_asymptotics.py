"""Proportional asymptotics, against the published polynomials in mpmath, simulation, and exact limits."""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtheory.activations import gaussian_moments, resolve
from jaxtheory.double_descent.asymptotics import isotropic, mei_montanari
from jaxtheory.double_descent.finite import finite_gaussian
from jaxtheory.results import Status

# The docstrings promise this in float32; float64 has 2^29 times the resolution.
PROMISED = {"float32": 2e-6, "float64": 2e-6 / 2**29}
risk = partial(mei_montanari, signal=1.0, noise=1.0)


def published_mei_montanari(psi1, psi2, lam, mu1_squared, mu_star_squared):
    """B and V of Mei and Montanari's Definition 1: the rational function of χ, itself by bisection in 60 digits."""
    with mpmath.workdps(60):
        p1, p2, ridge = mpmath.mpf(psi1), mpmath.mpf(psi2), mpmath.mpf(lam) / mu_star_squared
        z = mpmath.mpf(mu1_squared) / mu_star_squared
        t = min(p1, p2) * z - z - 1
        low, high = mpmath.mpf(0), (mpmath.sqrt(t * t + 4 * z * min(p1, p2)) + t) / (2 * z)

        def left_minus_right(x):
            g = x + z * x / (1 + z * x)
            return (p1 - g) * (p2 - g) - p1 * p2 * ridge * x

        for _ in range(200 if lam > 0 else 0):
            middle = (low + high) / 2
            low, high = (middle, high) if left_minus_right(middle) > 0 else (low, middle)
        c = -high
        e0 = -(c**5) * z**3 + 3 * c**4 * z**2 + (p1 * p2 - p2 - p1 + 1) * c**3 * z**3 - 2 * c**3 * z**2 - 3 * c**3 * z
        e0 += (p1 + p2 - 3 * p1 * p2 + 1) * c**2 * z**2 + 2 * c**2 * z + c**2 + 3 * p1 * p2 * c * z - p1 * p2
        e1 = p2 * c**3 * z**2 - p2 * c**2 * z + p1 * p2 * c * z - p1 * p2
        e2 = c**5 * z**3 - 3 * c**4 * z**2 + (p1 - 1) * c**3 * z**3 + 2 * c**3 * z**2 + 3 * c**3 * z
        e2 += (-p1 - 1) * c**2 * z**2 - 2 * c**2 * z - c**2
        return float(e1 / e0), float(e2 / e0)


def published_isotropic(gamma, lam):
    """m'(−λ)λ² and γ(m − λm') by the Marchenko-Pastur transform of Dobriban and Wager, in 60 digits."""
    with mpmath.workdps(60):
        gamma, lam = mpmath.mpf(gamma), mpmath.mpf(lam)

        def transform(z):  # m(z) at z = −λ
            return (-(1 - gamma - z) + mpmath.sqrt((1 - gamma - z) ** 2 - 4 * gamma * z)) / (-2 * gamma * z)

        m, derivative = transform(-lam), mpmath.diff(transform, -lam)
        return float(lam**2 * derivative), float(gamma * (m - lam * derivative))


def points(seed, count=120):
    """ψ1, ψ2, λ over decades, half of them within 1e-6..1e-1 of the threshold, some on it."""
    rng = np.random.default_rng(seed)
    psi1, psi2, lam = 10 ** rng.uniform([[-1], [-1], [-9]], [[1], [1], [1]], (3, count))
    near = psi1 * (1 + 10 ** rng.uniform(-6, -1, count) * rng.choice([-1, 1], count))
    psi2 = np.where(np.arange(count) % 2, near, psi2)
    psi2[:10], lam[10:20] = psi1[:10], 0.0
    return psi1, psi2, lam


def relative_error(actual, expected):
    return np.abs(np.asarray(actual, np.float64) / np.asarray(expected) - 1).max()


SLOW_ONES = [pytest.param(name, marks=pytest.mark.slow) for name in ("tanh", "erf", "gelu")]


@pytest.mark.parametrize("activation", ["relu", *SLOW_ONES, lambda x: jnp.abs(x - 0.3)])
@pytest.mark.first_case
def test_mei_montanari_is_the_published_rational_function(activation, dtype):
    """At 120 points, at the rounded arguments; nothing is lost to their degree-five cancellations."""
    arguments = [jnp.asarray(v, dtype) for v in points(1)]
    moments = gaussian_moments(activation)
    # The rounding of ζ² and of 1/μ*² to float32 belongs to the promise: the oracle has the unrounded ones.
    oracle = [
        published_mei_montanari(*map(float, point), moments.linear**2, moments.nonlinear)
        for point in zip(*arguments, strict=True)
    ]
    predicted = risk(*arguments, activation=activation)
    assert predicted.bias.dtype == dtype
    assert not predicted.status.any()
    assert relative_error(predicted.bias, [bias for bias, _ in oracle]) < PROMISED[dtype.name]
    assert relative_error(predicted.variance, [variance for _, variance in oracle]) < PROMISED[dtype.name]


def test_isotropic_is_the_marchenko_pastur_transform(dtype):
    gamma, factor, lam = points(2)
    arguments = [jnp.asarray(v, dtype) for v in (gamma / factor, np.maximum(lam, 1e-9))]
    oracle = [published_isotropic(*map(float, point)) for point in zip(*arguments, strict=True)]
    predicted = isotropic(arguments[0], signal=1.0, noise=1.0, lam=arguments[1])
    assert predicted.bias.dtype == dtype
    assert relative_error(predicted.bias, [bias for bias, _ in oracle]) < PROMISED[dtype.name]
    assert relative_error(predicted.variance, [variance for _, variance in oracle]) < PROMISED[dtype.name]


@pytest.mark.parametrize(
    ("psi1", "lam", "bias", "variance"),
    [
        (1, 0, 0.895812, 1.0),
        (1, 0.01, 0.780997, 0.734994),
        (2, 0.01, 0.521967, 1.136337),
        (3, 0, 0.530820, 2.424016),
        (6, 0, 0.188371, 0.924016),
    ],
)
def test_published_values_of_mei_montanari(psi1, lam, bias, variance):
    """ReLU, ψ2 = 2; six published digits."""
    predicted = risk(psi1, 2, lam, activation="relu")
    assert abs(predicted.bias - bias) < 1e-6
    assert abs(predicted.variance - variance) < 3e-6  # half a digit and float32


def test_published_values_of_isotropic():
    """Five and six published digits; the optimal ridge is σ²γ/r²."""
    at = partial(isotropic, signal=1.0, noise=0.25)
    for gamma, lam, excess in [
        (0.5, 0.1, 0.17678),
        (1.25, 0.1, 0.54048),
        (0.5, 0.125, 0.175391),
        (1.0, 0.25, 0.390388),
    ]:
        assert abs(at(gamma, lam=lam).excess - excess) < 6e-6


@pytest.mark.parametrize("gamma", [0.3, 0.999, 1.001, 4.0])
def test_ridgeless_isotropic_is_exact(gamma, dtype):
    predicted = isotropic(jnp.asarray(gamma, dtype), signal=2.0, noise=0.5, lam=0.0)
    gamma = float(jnp.asarray(gamma, dtype))
    bias, variance = (0.0, gamma / (1 - gamma)) if gamma < 1 else ((gamma - 1) / gamma, 1 / (gamma - 1))
    np.testing.assert_allclose(predicted.bias, 2 * bias, rtol=PROMISED[dtype.name])
    np.testing.assert_allclose(predicted.variance, 0.5 * variance, rtol=PROMISED[dtype.name])
    # Ordinary least squares leaves noise·(1 − p/n); interpolation leaves nothing.
    np.testing.assert_allclose(predicted.train, 0.5 * max(1 - gamma, 0), rtol=2 * PROMISED[dtype.name])


def test_the_threshold_without_ridge_is_infinite_and_says_so():
    at = isotropic(1.0, signal=1.0, noise=0.5, lam=0.0)
    assert (float(at.bias), float(at.variance), float(at.train)) == (0.0, np.inf, 0.0)
    features = risk(2.0, 2.0, 0.0, activation="relu")
    assert (float(features.bias), float(features.variance), float(features.train)) == (np.inf, np.inf, 0.0)
    assert int(at.status) == int(features.status) == Status.NOT_FINITE
    noiseless = isotropic(1.0, signal=1.0, noise=0.0, lam=0.0)
    assert (float(noiseless.excess), int(noiseless.status)) == (0.0, Status.OK)


def test_ridgeless_features_in_closed_form(float64):
    """With fewer features than samples and no ridge, V = ψ1/(ψ2 − ψ1) and train = noise·(1 + bias/noise)(1 − ψ1/ψ2)."""
    psi1, psi2 = jnp.array([0.2, 1.0, 2.9, 2.999999]), 3.0
    predicted = risk(psi1, psi2, 0.0, activation="tanh")
    np.testing.assert_allclose(predicted.variance, psi1 / (psi2 - psi1), rtol=1e-13)
    train = (predicted.bias * (1 - psi1 / psi2) + 1) * (1 - psi1 / psi2)
    np.testing.assert_allclose(predicted.train, train, rtol=1e-13)


@pytest.mark.parametrize("activation", ["abs", "square"])
def test_without_a_linear_part_features_and_samples_are_interchangeable(activation, float64):
    """ζ = 0: nothing is learned, and the variance is that of a random matrix and its transpose."""
    psi1, psi2, lam = points(3)
    one, other = risk(psi1, psi2, lam, activation=activation), risk(psi2, psi1, lam, activation=activation)
    finite = np.isfinite(one.variance)
    np.testing.assert_allclose(one.variance[finite], other.variance[finite], rtol=1e-12)
    assert (one.bias[finite] >= 1).all()


# --- Properties -------------------------------------------------------------------------------------------------------

ratio = st.floats(-2.0, 2.0).map(lambda exponent: 10.0**exponent)
penalty = st.one_of(st.just(0.0), st.floats(-10.0, 2.0).map(lambda exponent: 10.0**exponent))


@given(ratio, ratio, penalty, st.sampled_from(["relu", "tanh", "abs", "exp"]), st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_risks_are_nonnegative_and_add_up(psi1, psi2, lam, activation, noise, nonlinear):
    predicted = mei_montanari(psi1, psi2, lam, activation=activation, signal=1.0, noise=noise, nonlinear=nonlinear)
    if np.float32(psi1) == np.float32(psi2) and lam == 0:  # as the law sees them
        return
    assert int(predicted.status) == Status.OK
    assert min(predicted.bias, predicted.variance, predicted.train) >= 0
    np.testing.assert_allclose(predicted.excess, predicted.bias + predicted.variance + nonlinear, rtol=1e-5)
    assert predicted.train <= (predicted.excess + noise) * (1 + 1e-5)


@given(ratio, ratio)
@settings(max_examples=30, deadline=None)
def test_training_error_grows_with_the_ridge_from_its_ridgeless_limit(psi1, psi2):
    """In float64, along λ = 0, 1e-14, …, 1e4: continuous at 0 and monotone, up to round-off."""
    with jax.enable_x64(True):
        lam = jnp.concatenate([jnp.zeros(1), jnp.logspace(-14, 4, 60)])
        for predicted in (
            risk(psi1, psi2, lam, activation="tanh"),
            isotropic(psi1, signal=1.0, noise=1.0, lam=lam),
        ):
            assert (jnp.diff(predicted.train) >= -1e-13).all()
            # Perturbation: the first-order effect of λ is at most 1/(distance from the threshold)² times a constant.
            if abs(psi1 / psi2 - 1) > 1e-2 and abs(psi1 - 1) > 1e-2:
                np.testing.assert_allclose(predicted.excess[1], predicted.excess[0], rtol=1e-8)


@pytest.mark.slow
@pytest.mark.first_case
def test_arguments_broadcast_and_vmap_and_jit_agree(dtype):
    psi1, lam = jnp.linspace(0.5, 4.0, 7, dtype=dtype)[:, None], jnp.array([[0.0, 0.01, 1.0]], dtype)
    call = partial(risk, activation="erf")
    table = call(psi1, 2, lam)
    assert table.excess.shape == table.status.shape == (7, 3)
    assert table.excess.dtype == dtype
    jitted = jax.jit(lambda a, b: call(a, 2, b))(psi1, lam)
    mapped = jax.vmap(jax.vmap(lambda a, b: call(a, 2, b), (None, 0)), (0, None))(psi1[:, 0], lam[0])
    for other in (jitted, mapped):
        for field, expected in zip(other, table, strict=True):
            np.testing.assert_allclose(field, expected, rtol=PROMISED[dtype.name])
    rows = jax.vmap(lambda g: isotropic(g, signal=1.0, noise=1.0, lam=lam[0]))(psi1[:, 0])
    np.testing.assert_allclose(rows.excess, isotropic(psi1, signal=1.0, noise=1.0, lam=lam).excess, rtol=1e-6)


# --- Derivatives ------------------------------------------------------------------------------------------------------

OFF_THRESHOLD = [pytest.param(point, marks=pytest.mark.slow) for point in ((0.7, 2.0, 0.05), (3.0, 2.0, 0.001))]
DERIVATIVES = [*OFF_THRESHOLD, (2.0, 2.0, 0.01), pytest.param((2.0 + 1e-9, 2.0, 1e-4), marks=pytest.mark.slow)]


def central(function, at, order):
    """Central difference of step h with error h⁴, by Richardson; h balances it against round-off."""
    h = 2e-3 * at
    if order == 1:
        difference = lambda h: (function(at + h) - function(at - h)) / (2 * h)  # noqa: E731
    else:
        difference = lambda h: (function(at + h) - 2 * function(at) + function(at - h)) / h**2  # noqa: E731
    return (4 * difference(h / 2) - difference(h)) / 3


@pytest.mark.parametrize("point", DERIVATIVES)
@pytest.mark.parametrize("argument", [0, 1, 2])
@pytest.mark.first_case
def test_first_and_second_derivatives_are_those_of_differences(point, argument, float64):
    """At, near and off the threshold, where |ψ1 − ψ2| would have a kink. Near it the scale of ψ is √λ."""

    def along(value):
        arguments = [jnp.asarray(value if i == argument else other) for i, other in enumerate(point)]
        return risk(*arguments, activation="relu").excess

    at = jnp.asarray(point[argument])
    np.testing.assert_allclose(jax.grad(along)(at), central(along, at, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.grad(jax.grad(along))(at), central(along, at, 2), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "lam"), [(0.5, 0.1), (1.0, 0.05), (0.9, 0.1), (3.0, 0.01)])
def test_derivatives_of_isotropic(gamma, lam, float64):
    """Also where γ + λ = 1, at which the two branches of the square root meet."""
    for along, at in [
        (lambda g: isotropic(g, signal=1.0, noise=0.5, lam=lam).excess, gamma),
        (lambda r: isotropic(gamma, signal=1.0, noise=0.5, lam=r).excess, lam),
    ]:
        np.testing.assert_allclose(jax.grad(along)(at), central(along, at, 1), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(jax.grad(jax.grad(along))(at), central(along, at, 2), rtol=1e-5, atol=1e-6)


def test_derivatives_at_no_ridge_are_one_sided_limits(float64):
    slope = jax.grad(lambda lam: risk(3.0, 2.0, lam, activation="relu").excess)
    np.testing.assert_allclose(slope(0.0), slope(1e-12), rtol=1e-8)
    slope = jax.grad(lambda lam: isotropic(0.5, signal=1.0, noise=0.5, lam=lam).excess)
    np.testing.assert_allclose(slope(0.0), slope(1e-12), rtol=1e-8)


def test_optimal_ridge_is_where_the_derivative_vanishes(float64):
    """λ* = σ²γ/r² for every γ (Dobriban and Wager, 2018)."""
    for gamma in (0.5, 1.0, 3.0):
        slope = jax.grad(lambda lam: isotropic(gamma, signal=2.0, noise=0.5, lam=lam).excess)  # noqa: B023
        assert abs(slope(0.25 * gamma)) < 1e-14


def sphere(rng, count, d):
    x = rng.standard_normal((count, d))
    return x * np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)


def ridge_solution(a, ridge):
    """(AᵀA + ridge·I)⁻¹Aᵀ, through the smaller Gram; the pseudo-inverse at ridge 0."""
    if a.shape[1] > a.shape[0]:
        return np.linalg.solve(a @ a.T + ridge * np.eye(len(a)), a).T
    return np.linalg.solve(a.T @ a + ridge * np.eye(a.shape[1]), a.T)


def feature_regression(activation, d, psi1, psi2, lam, seed, tests=400):
    """(bias, variance, nonlinear excess, train of the signal, train of the noise), averaged over targets and noise.

    The quadratic target is a Gaussian field of covariance (⟨x, x'⟩² − d)/(d² − d), of degree two exactly and power 1.
    """
    rng = np.random.default_rng((seed, d))
    samples, width = round(psi2 * d), round(psi1 * d)
    x, weights, fresh = sphere(rng, samples, d), sphere(rng, width, d), sphere(rng, tests, d)
    z, z_fresh = (np.asarray(resolve(activation)(jnp.asarray(a @ weights.T / np.sqrt(d)))) for a in (x, fresh))
    ridge = samples * width * lam / d
    solve = ridge_solution(z, ridge)
    smoother, hat = z_fresh @ solve, np.eye(samples) - z @ solve

    def field(a, b):
        return ((a @ b.T) ** 2 - d) / (d**2 - d)

    nonlinear = 1 + ((smoother @ field(x, x)) * smoother).sum(1).mean() - 2 * (smoother * field(fresh, x)).sum(1).mean()
    bias = ((fresh - smoother @ x) ** 2).sum() / (d * tests)
    variance, noise = (smoother**2).sum() / tests, (hat**2).sum() / samples
    return bias, variance, nonlinear, ((hat @ x) ** 2).sum() / (d * samples), noise


def isotropic_regression(n, gamma, lam, seed):
    """(bias, variance, train of the signal, train of the noise) of unit powers, averaged over β and noise."""
    rng = np.random.default_rng((seed, n))
    p = round(gamma * n)
    x = rng.standard_normal((n, p))
    solve = ridge_solution(x, n * lam)
    left, hat = np.eye(p) - solve @ x, np.eye(n) - x @ solve
    return (left**2).sum() / p, (solve**2).sum(), ((hat @ x) ** 2).sum() / (p * n), (hat**2).sum() / n


def assert_converges(simulate, predicted, size, seeds, errors=4):
    """The extrapolation from `size` and twice it is the prediction, within standard errors and what is left over.

    At finite size the mean is off by a/size + O(1/size²). Extrapolating removes a; what remains is the correction
    that it made times O(1/size), allowed here up to the correction over √(2·size).
    """
    small, large = (np.array([simulate(d, seed) for seed in range(seeds)]) for d in (size, 2 * size))
    limit = 2 * large.mean(0) - small.mean(0)
    error = np.sqrt((4 * large.var(0, ddof=1) + small.var(0, ddof=1)) / seeds)
    left_over = np.abs(large.mean(0) - small.mean(0)) / np.sqrt(2 * size)
    width = errors * error + left_over + 1e-12  # round-off, where interpolation makes a residual exactly 0
    assert (np.abs(limit - predicted) < width).all(), f"{limit} ± {error} (and {left_over}), predicted {predicted}"
    assert (width < 0.1 * np.abs(predicted) + 1e-11).all(), "the comparison is too coarse to fail"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "psi1", "psi2", "lam"),
    [("relu", 1.0, 2.0, 0.01), ("relu", 4.0, 2.0, 0.0), ("tanh", 1.5, 1.5, 0.01), ("erf", 3.0, 0.8, 0.1)],
)
def test_mei_montanari_is_the_limit_of_random_features(activation, psi1, psi2, lam, float64):
    """With ridge = n N lam/d added to the unnormalized Gram."""
    predict = partial(mei_montanari, psi1, psi2, lam, activation=activation)
    signal, noise = predict(signal=1.0, noise=0.0), predict(signal=0.0, noise=1.0)
    quadratic = predict(signal=0.0, noise=0.0, nonlinear=1.0)
    predicted = [signal.bias, noise.variance, quadratic.excess, signal.train, noise.train]
    assert_converges(
        lambda d, seed: feature_regression(activation, d, psi1, psi2, lam, seed), np.array(predicted), 60, 24
    )


@pytest.mark.parametrize(("gamma", "lam"), [(0.5, 0.1), (1.0, 0.2), (2.0, 0.0), (3.0, 0.5)])
def test_isotropic_is_the_limit_of_ridge_regression(gamma, lam, float64):
    """With ridge = n lam added to the unnormalized Gram."""
    signal = isotropic(gamma, signal=1.0, noise=0.0, lam=lam)
    noise = isotropic(gamma, signal=0.0, noise=1.0, lam=lam)
    predicted = np.array([signal.bias, noise.variance, signal.train, noise.train])
    assert_converges(lambda n, seed: isotropic_regression(n, gamma, lam, seed), predicted, 60, 80)


def misspecified_regression(n, gamma, lam, seed, ratio=1.5):
    """(excess, train) of a fit that sees p of D = (1 + ratio) p features, β_j ∝ ±1, averaged over the noise exactly."""
    rng = np.random.default_rng((seed, n))
    p = round(gamma * n)
    beta = np.concatenate([np.full(p, np.sqrt(1 / p)), np.full(round(ratio * p), np.sqrt(0.6 / round(ratio * p)))])
    x = rng.standard_normal((n, len(beta)))
    seen, signal = x[:, :p], x @ beta
    solve = ridge_solution(seen, n * lam)
    residual, hat = signal - seen @ (solve @ signal), np.eye(n) - seen @ solve
    excess = ((solve @ signal - beta[:p]) ** 2).sum() + (beta[p:] ** 2).sum() + 0.3 * (solve**2).sum()
    return excess, ((residual**2).sum() + 0.3 * (hat**2).sum()) / n


@pytest.mark.parametrize(("gamma", "lam"), [(0.5, 0.1), (2.0, 0.0), (1.0, 0.5)])
def test_unseen_features_are_the_limit_of_a_misspecified_fit(gamma, lam, float64):
    """With features that enter the target and not the fit: excess risk and training error, 3 standard errors."""
    law = isotropic(gamma, signal=1.0, noise=0.3, lam=lam, unseen=0.6)
    simulate = partial(misspecified_regression, gamma=gamma, lam=lam)
    predicted = np.array([law.excess, law.train])
    assert_converges(lambda n, seed: simulate(n, seed=seed), predicted, 60, 200, errors=3)


@pytest.mark.parametrize("gamma", [0.25, 0.8, 1.25, 4.0])
@pytest.mark.first_case
@pytest.mark.slow
def test_unseen_features_are_the_limit_of_the_finite_law(gamma, float64):
    """At n = 80·2^k the exact risk is 1 + O(1/n) times the limit: each doubling halves the distance."""
    law = isotropic(gamma, signal=1.0, noise=0.3, lam=0.0, unseen=0.6)
    distances = []
    for n in 80 * 2 ** np.arange(8):
        p = round(gamma * n)
        beta = jnp.concatenate([jnp.full(p, np.sqrt(1 / p)), jnp.full(p, np.sqrt(0.6 / p))])
        exact = finite_gaussian(p, int(n), beta, 0.3)
        distances.append(float(exact.excess / law.excess) - 1)
        np.testing.assert_allclose(exact.train, law.train, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.divide(distances[1:], distances[:-1])[-3:], 0.5, rtol=0.01)
    assert abs(distances[-1]) < 1e-3


def test_unseen_features_add_to_the_best_ridge(float64):
    """λ* = (σ² + unseen)γ/r² makes the derivative vanish."""
    for gamma in (0.5, 1.0, 3.0):
        slope = jax.grad(lambda lam: isotropic(gamma, signal=2.0, noise=0.5, lam=lam, unseen=0.7).excess)  # noqa: B023
        assert abs(slope(0.6 * gamma)) < 1e-14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"psi1": 0.0}, r"psi1 must be > 0, got psi1=0\.0; pass a ratio"),
        ({"psi2": -1.0}, "psi2 must be > 0"),
        ({"psi1": float("nan")}, "psi1 must be > 0"),
        ({"psi1": float("inf"), "psi2": float("inf")}, "psi2 must be finite where psi1 is not"),
        ({"lam": -0.1}, r"lam must be >= 0 and finite, got lam=-0\.1; .*lam=0"),
        ({"noise": -1.0}, "noise must be >= 0 and finite"),
        ({"signal": -1.0}, "signal must be >= 0 and finite"),
        ({"nonlinear": float("inf")}, "nonlinear must be >= 0 and finite"),
        ({"activation": "identity"}, "activation must have a nonlinear part.*use isotropic"),
        ({"activation": lambda x: 0.1 * x + 0.3}, "activation must have a nonlinear part"),
        ({"activation": "rleu"}, "activation must be a function or one of"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"psi1": 1.0, "psi2": 2.0, "lam": 0.1, "activation": "relu", "signal": 1.0, "noise": 1.0} | change
    with pytest.raises(ValueError, match=message):
        mei_montanari(**arguments)


@pytest.mark.parametrize(
    ("name", "value"), [("gamma", 0.0), ("lam", -1.0), ("signal", -1.0), ("noise", float("nan")), ("unseen", -1.0)]
)
def test_bad_arguments_of_isotropic_are_named(name, value):
    allowed = "positive and finite" if name == "gamma" else ">= 0 and finite"
    with pytest.raises(ValueError, match=f"{name} must be {allowed}"):
        isotropic(
            **({"gamma": 1.0, "signal": 1.0, "noise": 1.0, "lam": 0.1, "unseen": 0.0} | {name: jnp.array([value])})
        )


@pytest.mark.slow
def test_inside_jit_bad_arguments_are_a_status():
    psi1, lam = jnp.array([1.0, -1.0, 1.0, 2.0]), jnp.array([0.1, 0.1, -0.1, 0.0])
    predicted = jax.jit(lambda a, b: risk(a, 2.0, b, activation="relu"))(psi1, lam)
    assert predicted.status.tolist() == [Status.OK, Status.INVALID_INPUT, Status.INVALID_INPUT, Status.NOT_FINITE]
    assert jnp.isnan(predicted.excess[1:3]).all()
    ridge = jax.jit(lambda a, b: isotropic(a, signal=1.0, noise=1.0, lam=b))(psi1, lam)
    assert ridge.status.tolist() == [Status.OK, Status.INVALID_INPUT, Status.INVALID_INPUT, Status.OK]
    assert jnp.isnan(ridge.excess[1:3]).all()
