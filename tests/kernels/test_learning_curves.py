"""Learning curves against exact roots, simulated regressions and power laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.results import Status, fit_slope, standard_error

EIGS = np.arange(1, 301.0) ** -1.5
COEFFICIENTS = np.arange(1, 301.0) ** -1.0


def curve(n, ridge, noise, **options):
    eigs, coefficients = (jnp.asarray(a, jnp.result_type(float)) for a in (EIGS, COEFFICIENTS))
    return kernels.learning_curve(eigs, coefficients, jnp.asarray(n, eigs.dtype), ridge, noise, **options)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
@pytest.mark.first_case
def test_regularization_is_the_root_and_learnability_is_conserved(ridge, dtype):
    sizes = [3.0, 50.0, 200.0]
    found = curve(sizes, ridge, 0.1)
    eigs = np.arange(1, 301.0) ** -1.5
    for n, kappa in zip(sizes, np.asarray(found.kappa), strict=True):
        root = scipy.optimize.brentq(
            lambda k, n=n: np.sum(eigs / (eigs + k)) + ridge / k - n, 1e-12, 1e4, xtol=1e-16, rtol=1e-14
        )
        assert_close(jnp.asarray(kappa), np.asarray(root), condition=1e2)
    assert_close(found.conserved, jnp.array(sizes, found.conserved.dtype), condition=10)
    assert ((found.learnability >= 0) & (found.learnability <= 1)).all()
    assert found.status.tolist() == [Status.OK] * 3


@pytest.mark.parametrize(("n", "ridge", "noise"), [(60, 0.0, 0.05), (60, 0.5, 0.05), (150, 0.05, 0.0)])
@pytest.mark.first_case
@pytest.mark.slow
def test_curve_is_the_mean_of_simulated_regressions(n, ridge, noise, float64, key):
    """Gaussian features, 200 draws: test and train errors within 4 standard errors plus the theory's own O(1/n)."""
    eigs, coefficients = jnp.asarray(EIGS, jnp.float64), jnp.asarray(COEFFICIENTS, jnp.float64)

    def draw(key):
        k1, k2 = jax.random.split(key)
        phi = jax.random.normal(k1, (n, 300), jnp.float64)
        y = phi @ coefficients + noise**0.5 * jax.random.normal(k2, (n,), jnp.float64)
        gram = (phi * eigs[None]) @ phi.T
        alpha = jnp.linalg.solve(gram + ridge * jnp.eye(n), y)
        learned = eigs * (phi.T @ alpha)
        return jnp.sum((learned - coefficients) ** 2) + noise, jnp.mean((y - gram @ alpha) ** 2)

    test, train = jax.lax.map(draw, jax.random.split(key, 200))
    found = curve([float(n)], ridge, noise)
    for sample, predicted in ((test, found.test[0]), (train, found.train[0])):
        assert abs(sample.mean() - predicted) < 4 * standard_error(sample) + predicted / n + 1e-20


@pytest.mark.slow
def test_truncated_tail_acts_as_a_ridge(float64):
    """Modes far below κ, replaced by their trace: equal to the whole spectrum up to λ_tail/κ."""
    whole = curve([20.0], 0.01, 0.1)
    head = kernels.learning_curve(
        jnp.asarray(EIGS[:200]), jnp.asarray(COEFFICIENTS[:200]), jnp.array([20.0]), 0.01, 0.1,
        tail=float(EIGS[200:].sum()), unlearnable=float((COEFFICIENTS[200:] ** 2).sum()),
    )  # fmt: skip
    cut = kernels.learning_curve(jnp.asarray(EIGS[:200]), jnp.asarray(COEFFICIENTS[:200]), jnp.array([20.0]), 0.01, 0.1)
    ratio = float(EIGS[200] / whole.kappa[0])
    assert abs(head.test[0] / whole.test[0] - 1) < ratio
    assert abs(head.train[0] / whole.train[0] - 1) < 2 * ratio
    assert abs(cut.train[0] / whole.train[0] - 1) > 4 * ratio  # leaving the tail out is seen


def test_multiplicity_is_repetition(float64):
    eigs, counts, power = jnp.array([1.0, 0.1]), jnp.array([2.0, 30.0]), jnp.array([1.0, 2.0])
    grouped = kernels.learning_curve(eigs, power, jnp.array([10.0]), 0.1, 0.1, multiplicity=counts)
    each = jnp.repeat(power / jnp.sqrt(counts), jnp.array([2, 30]))
    flat = kernels.learning_curve(jnp.repeat(eigs, jnp.array([2, 30])), each, jnp.array([10.0]), 0.1, 0.1)
    assert_close(grouped.test, flat.test)


def test_finite_rank_is_classical_least_squares(float64):
    """n > p without ridge: noise · n/(n − p); infinite at n = p."""
    found = kernels.learning_curve(jnp.ones(10), jnp.ones(10), jnp.array([40.0, 10.0]), 0.0, 0.3)
    assert_close(found.test[0], 0.3 * 40 / 30)
    assert_close(found.train[0], 0.3 * 30 / 40)
    assert found.status.tolist() == [Status.OK, Status.NOT_FINITE]


@pytest.mark.slow
def test_curve_is_differentiable(float64):
    def risk(ridge):
        return curve([50.0], ridge, 0.1).test[0]

    step = 1e-6
    central = (risk(0.1 + step) - risk(0.1 - step)) / (2 * step)
    assert abs(jax.grad(risk)(0.1) - central) < 1e-6 * abs(central)


@pytest.mark.parametrize(("capacity", "source"), [(1.5, 0.6), (2.0, 0.5), (2.0, 1.5)])
def test_rates_are_slopes_of_the_curve(capacity, source, float64):
    """Deterministic slopes over n = 10⁵…10⁷ at λ = n^(−b/(2rb+1)), within 0.02: the next order is n^(−1/(2rb+1))."""
    i = jnp.arange(1, 200_001.0)
    eigs = i**-capacity
    # |⟨f, φ_i⟩|² = λ_i^(2r) i^(−1): the edge of the source condition
    coefficients = jnp.sqrt(eigs ** (2 * source) / i)
    n = jnp.geomspace(1e5, 1e7, 6)
    risk, exponent = kernels.optimal_rate(capacity, source)
    excess = [
        kernels.learning_curve(eigs, coefficients, m[None], float(m ** (1 + exponent)), 0.5).test[0] - 0.5 for m in n
    ]
    assert abs(fit_slope(n, jnp.stack(excess)).slope - risk) < 0.02


@pytest.mark.parametrize(("capacity", "source"), [(1.5, 0.5), (2.0, 1.5)])
@pytest.mark.first_case
def test_noiseless_rate_is_a_slope_of_the_curve(capacity, source, float64):
    i = jnp.arange(1, 400_001.0)
    eigs = i**-capacity
    n = jnp.geomspace(100, 3000, 5)
    found = kernels.learning_curve(eigs, jnp.sqrt(eigs ** (2 * source) / i), n, 0.0, 0.0)
    assert abs(fit_slope(n, found.test).slope - kernels.noiseless_rate(capacity, source)) < 0.05


def test_arguments_are_named():
    with pytest.raises(ValueError, match="noise must be >= 0"):
        curve([10.0], 0.1, -0.1)
    with pytest.raises(ValueError, match="capacity must exceed 1"):
        kernels.optimal_rate(1.0, 0.5)
