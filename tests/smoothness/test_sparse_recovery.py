"""Sparse recovery: phase transitions and state evolution by simulation, solvers against others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, linprog, minimize_scalar
from scipy.stats import norm as gaussian
from sklearn.linear_model import Lasso, MultiTaskLasso

from jaxtheory.results import Status
from jaxtheory.smoothness.group_lasso import group_lasso
from jaxtheory.smoothness.lasso import basis_pursuit, lasso
from jaxtheory.smoothness.phase_transitions import donoho_tanner, lasso_risk


def minimax_risk(sparsity, tails):
    """M(ε) by minimization over the threshold."""

    def risk(t):
        return sparsity * (1 + t**2) + (1 - sparsity) * tails * ((1 + t**2) * gaussian.cdf(-t) - t * gaussian.pdf(t))

    return minimize_scalar(risk, bounds=(0, 10), method="bounded", options={"xatol": 1e-12}).fun


@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_phase_transition_inverts_the_minimax_risk(nonnegative):
    """ε/δ with M(ε) = δ found by scipy, from few measurements to many; ρ(1) = 1."""
    sizes = np.array([1e-3, 0.1, 0.5, 0.9])
    tails = 1 if nonnegative else 2
    expected = [brentq(lambda e, d=d: minimax_risk(e, tails) - d, 1e-9, d * (1 - 1e-9)) / d for d in sizes]
    np.testing.assert_allclose(donoho_tanner(jnp.asarray(sizes), nonnegative), expected, rtol=2e-6)
    assert donoho_tanner(1.0, nonnegative) == 1.0


@pytest.mark.slow
def test_the_checked_values_of_the_phase_transition(float64):
    assert abs(donoho_tanner(0.5) - 0.38568967) < 1e-8
    assert abs(donoho_tanner(0.5, True) - 0.55822769) < 1e-8


def recovered(rng, rows, unknowns, nonzero, nonnegative):
    """Whether linear programming finds the truth."""
    design = rng.normal(size=(rows, unknowns))
    truth = np.zeros(unknowns)
    truth[:nonzero] = 1.0 if nonnegative else rng.choice([-1.0, 1.0], nonzero)
    both = design if nonnegative else np.hstack([design, -design])
    found = linprog(np.ones(both.shape[1]), A_eq=both, b_eq=design @ truth).x
    return np.abs(found[:unknowns] - (0 if nonnegative else found[unknowns:]) - truth).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("nonnegative", [False, True])
def test_linear_programming_succeeds_below_the_transition_and_fails_above(nonnegative):
    """m = 80 of N = 160, at ρ ± 0.13: the transition's width there is ≈ 0.05, and the other sign's ρ is 0.17 away."""
    rng = np.random.default_rng(5)
    rho = float(donoho_tanner(0.5, nonnegative))
    below, above = (
        sum(recovered(rng, 80, 160, round(80 * (rho + move)), nonnegative) for _ in range(12)) for move in (-0.13, 0.13)
    )
    assert below >= 11
    assert above <= 1


def test_the_checked_values_of_state_evolution():
    found = lasso_risk(0.6, 0.1, 0.04, 0.3)
    np.testing.assert_allclose(found, (0.03439294, 0.31196404, 0.21560127), rtol=2e-6)


def small_noise(delta, share, level):
    """mse/σ², τ/σ and nonzero as σ → 0 with λ = level · σ: nothing that is 1 is killed, r(μ; a) = 1 + a²."""

    def at(a):
        null = 2 * ((1 + a**2) * gaussian.cdf(-a) - a * gaussian.pdf(a))
        risk, kept = share * (1 + a**2) + (1 - share) * null, share + 2 * (1 - share) * gaussian.cdf(-a)
        return risk, 1 / (1 - risk / delta), kept

    def excess(a):
        _, tau2, kept = at(a)
        return a * tau2**0.5 * (1 - kept / delta) - level

    risk, tau2, kept = at(brentq(excess, 1.0, 1.6))
    return risk * tau2, tau2**0.5, kept


def test_state_evolution_at_extreme_scales():
    """Noise and penalty of 1e-20 and 1e-10, and of 1e20, in single precision: limits in closed form."""
    mse, tau, nonzero = lasso_risk(0.6, 0.1, 1e-20, 1e-10)
    found = [float(mse) * 1e20, float(tau) * 1e10, float(nonzero)]
    np.testing.assert_allclose(found, small_noise(0.6, 0.1, 1.0), rtol=2e-4)
    np.testing.assert_allclose(lasso_risk(0.6, 0.1, 1e20, 1e20), (0.1, 1e10, 0.0), rtol=1e-5, atol=1e-30)


def test_state_evolution_at_a_penalty_below_rounding_is_its_limit():
    """λ → 0: as many nonzero as observations, their threshold from τ, the error by a fine grid; least squares δ > 1.

    At δ = 1 the error grows without bound, and what rounding moves by more than √eps is NaN.
    """
    z = np.linspace(-12, 12, 100_001)
    weight = gaussian.pdf(z) * (z[1] - z[0])
    for lam in (1e-7, 1e-14, 1e-37):
        mse, tau, kept = map(float, lasso_risk(0.5, 0.1, 0.04, lam))
        assert abs(kept - 0.5) < 2e-6
        assert abs(0.04 + mse / 0.5 - tau**2) < 1e-5 * tau**2

        def above(theta, tau=tau):
            one = gaussian.sf((theta - 1) / tau) + gaussian.cdf((-theta - 1) / tau)
            return 0.1 * one + 1.8 * gaussian.sf(theta / tau) - 0.5

        theta = brentq(above, 0, 1)
        soft = [np.sign(x) * np.maximum(np.abs(x) - theta, 0) for x in (1 + tau * z, tau * z)]
        assert abs(0.1 * weight @ (soft[0] - 1) ** 2 + 0.9 * weight @ soft[1] ** 2 - mse) < 1e-5 * mse
        np.testing.assert_allclose(lasso_risk(2.0, 0.1, 0.04, lam)[:2], (0.08, 0.08**0.5), rtol=1e-5)
    assert np.isnan(lasso_risk(1.0, 0.1, 0.04, 1e-9)).all()


@pytest.mark.slow
def test_derivatives_of_state_evolution_at_extreme_scales(dtype):
    """τ² = σ² + ε/δ where λ kills everything."""
    large = [jnp.asarray(value, dtype) for value in (0.6, 0.1, 1e20, 1e20)]
    slope = jax.grad(lambda *given: lasso_risk(*given).tau, argnums=2)(*large)
    np.testing.assert_allclose(slope, 0.5e-10, rtol=1e-5)


@pytest.mark.slow
def test_state_evolution_is_a_fixed_point_of_the_quadrature(float64):
    """E over z by a fine grid: the three equations, at few and many measurements, small and large noise."""
    delta, share = np.array([0.3, 0.6, 1.5, 0.3]), np.array([0.1, 0.0, 0.5, 0.2])
    noise, lam = np.array([1e-6, 4.0, 0.1, 1.0]), np.array([1e-3, 0.5, 0.1, 20.0])
    found = lasso_risk(delta, share, noise, lam)
    z = np.linspace(-12, 12, 400_001)
    weight = gaussian.pdf(z) * (z[1] - z[0])
    for d, e, v, level, mse, tau, kept in zip(delta, share, noise, lam, *map(np.asarray, found), strict=True):
        theta = level / (1 - kept / d)
        soft = [np.sign(x) * np.maximum(np.abs(x) - theta, 0) for x in (1 + tau * z, tau * z)]
        assert abs(e * weight @ (soft[0] - 1) ** 2 + (1 - e) * weight @ soft[1] ** 2 - mse) < 1e-6 * mse
        assert abs(e * weight @ (soft[0] != 0) + (1 - e) * weight @ (soft[1] != 0) - kept) < 1e-4 * kept + 1e-12
        assert abs(v + mse / d - tau**2) < 1e-9 * tau**2


def test_state_evolution_is_the_risk_of_the_lasso():
    """12 draws of scikit-learn's lasso with N = 1000: within 4 standard errors of the mean, which are below 5 %."""
    rng = np.random.default_rng(3)
    unknowns, rows, lam = 1000, 600, 0.3
    draws = []
    for _ in range(12):
        truth = (np.arange(unknowns) < 100) * rng.choice([-1.0, 1.0], unknowns)
        design = rng.normal(size=(rows, unknowns)) / np.sqrt(rows)
        y = design @ truth + 0.2 * rng.normal(size=rows)
        found = Lasso(alpha=lam / rows, fit_intercept=False, tol=1e-6).fit(design, y).coef_
        draws.append((np.mean((found - truth) ** 2), np.mean(found != 0)))
    predicted = lasso_risk(0.6, 0.1, 0.04, lam)
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert (error < 0.05 * np.mean(draws, axis=0)).all()
    assert abs(np.mean(draws, axis=0)[0] - predicted.mse) < 4 * error[0]
    assert abs(np.mean(draws, axis=0)[1] - predicted.nonzero) < 4 * error[1]


def linear_program(design, y):
    atoms = design.shape[1]
    return linprog(np.ones(2 * atoms), A_eq=np.hstack([design, -design]), b_eq=y).fun


@pytest.mark.slow
def test_basis_pursuit_is_the_linear_program(dtype):
    """Least ℓ1 norm and A b = y, whether the truth is found or not, for few rows, many, and repeated ones."""
    rng = np.random.default_rng(0)
    for rows, atoms, nonzero in [(20, 40, 4), (20, 40, 15), (20, 10, 10)]:
        design, truth = rng.normal(size=(rows, atoms)), np.zeros(atoms)
        truth[:nonzero] = rng.normal(size=nonzero)
        if nonzero == 4:
            design[-1] = design[0]
        design = np.asarray(design, dtype)
        y = design @ truth.astype(dtype)
        found = basis_pursuit(jnp.asarray(design), jnp.asarray(y))
        assert found.status == Status.OK
        least = linear_program(np.asarray(design, float), np.asarray(design, float) @ truth.astype(dtype))
        assert abs(np.abs(found.coefficients).sum() - least) < 1e3 * jnp.finfo(dtype).eps * least
        np.testing.assert_allclose(design @ found.coefficients, y, atol=1e2 * jnp.finfo(dtype).eps)
        assert jnp.sum(found.coefficients != 0) <= min(rows, atoms)


@pytest.mark.slow
def test_basis_pursuit_at_other_scales_and_without_a_solution():
    """Units are powers of two: the same bits. Equations that cannot be met: never OK."""
    rng = np.random.default_rng(1)
    design = jnp.asarray(rng.normal(size=(6, 10)), jnp.float32)
    y = jnp.asarray(rng.normal(size=6), jnp.float32)
    plain = basis_pursuit(design, y)
    np.testing.assert_array_equal(basis_pursuit(design, y * 2.0**83).coefficients, plain.coefficients * 2.0**83)
    np.testing.assert_array_equal(basis_pursuit(design * 2.0**60, y).coefficients, plain.coefficients * 2.0**-60)
    assert basis_pursuit(design.at[1].set(design[0]), y).status == Status.NOT_CONVERGED
    assert (basis_pursuit(design, 0 * y).coefficients == 0).all()


@pytest.mark.slow
def test_group_lasso_of_groups_of_one_and_of_rows_is_scikit_learns(float64):
    """Groups of one: the lasso. A Kronecker design with groups of outputs: the multi-task lasso."""
    rng = np.random.default_rng(0)
    design = rng.normal(size=(12, 6))
    y = design[:, 0] - 2 * design[:, 1] + rng.normal(size=12)
    found = group_lasso(design, y, jnp.arange(6), 2.0)
    theirs = Lasso(alpha=2 / 12, fit_intercept=False, tol=1e-14, max_iter=10**5).fit(design, y).coef_
    assert found.status == Status.OK
    np.testing.assert_allclose(found.coefficients, theirs, atol=1e-10)
    x = rng.normal(size=(6, 3))
    both = x[:, :1] @ rng.normal(size=(1, 2)) + 0.3 * rng.normal(size=(6, 2))
    theirs = MultiTaskLasso(alpha=1 / 6, fit_intercept=False, tol=1e-14, max_iter=10**5).fit(x, both).coef_
    labels = jnp.asarray(np.repeat([5, 0, 2], 2))
    found = group_lasso(np.kron(x, np.eye(2)), both.ravel(), labels, 1 / np.sqrt(2))
    assert found.status == Status.OK
    np.testing.assert_allclose(found.coefficients, theirs.T.ravel(), atol=1e-10)
    assert (np.abs(theirs).max(axis=0) == 0).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: donoho_tanner(0.0), "undersampling must lie in"),
        (lambda: donoho_tanner(1.5), "undersampling must lie in"),
        (lambda: lasso_risk(0.5, 1.5, 0.1, 0.1), "sparsity must lie in"),
        (lambda: lasso_risk(0.5, 0.5, 0.0, 0.1), "noise must be positive"),
        (lambda: lasso_risk(jnp.ones(2), jnp.ones(3), 0.1, 0.1), "undersampling must have a shape"),
        (lambda: basis_pursuit(jnp.eye(2), jnp.ones(3)), "y must have one entry"),
        (lambda: group_lasso(jnp.eye(2), jnp.ones(2), jnp.array([0, 2]), 1.0), "groups must lie"),
        (lambda: group_lasso(jnp.eye(2), jnp.ones(2), jnp.array([0]), 1.0), "groups must have one label"),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_labels_out_of_range_are_not_ok_under_jit():
    found = jax.jit(group_lasso)(jnp.eye(2), jnp.ones(2), jnp.array([0, 7]), 0.5)
    assert found.status == Status.INVALID_INPUT


def planted(rng, rows, groups, size, active, penalty):
    """A design and y = A b + λν whose group lasso is b: A_gᵀν = w b_g/‖b_g‖ on its groups, shorter on the others."""
    dual, weight = rng.normal(size=rows), np.sqrt(size)
    design = rng.normal(size=(rows, groups, size))
    slopes = np.einsum("igk,i->gk", design, dual)
    wanted = np.where(np.arange(groups) < active, weight, 0.6 * weight)
    design = design * (wanted / np.linalg.norm(slopes, axis=1))[None, :, None]
    slopes = np.einsum("igk,i->gk", design, dual)
    truth = slopes * np.where(np.arange(groups) < active, rng.uniform(1, 3, groups), 0)[:, None]
    design = design.reshape(rows, -1)
    least = weight * np.linalg.norm(truth, axis=1).sum() + penalty * np.sum(dual**2) / 2
    return design, design @ truth.ravel() + penalty * dual, least


@pytest.mark.slow
@pytest.mark.parametrize(("size", "active"), [(3, 2), (3, 3), (1, 4)])
def test_groups_at_penalties_far_below_the_data_are_those_of_the_least_norm(dtype, size, active):
    """Groups of three, dependent columns among them, and of one: the objective over λ is that of the planted b."""
    rng = np.random.default_rng(size + active)
    labels = np.repeat(np.arange(6), size)
    for penalty in (1e-3, 1e-5, 1e-9, 1e-20):
        design, y, least = planted(rng, 8, 6, size, active, penalty)
        found = group_lasso(jnp.asarray(design, dtype), jnp.asarray(y, dtype), labels, penalty)
        assert found.status == Status.OK
        b = np.asarray(found.coefficients, float).reshape(6, size)
        total = np.sqrt(size) * np.linalg.norm(b, axis=1).sum()
        # below, it is the rounding of y
        missed = np.sum((y - design @ b.ravel()) ** 2) / 2 / penalty if penalty > 1e-4 else 0.0
        # the gap bounds the excess by 2√ε of the objective; rounding of y moves the norm by 64 ε‖y‖ times a slope
        rounding = 5 * float(jnp.finfo(dtype).eps) ** 0.5 * least + (penalty < 1e-4) * 10 * penalty
        assert abs(total + missed - least) < rounding


@pytest.mark.slow
def test_the_lasso_at_a_vanishing_penalty_is_basis_pursuit():
    """λ = 1e-20 in float32 is below the square of the rounding of y; the answer is still that of the linear program."""
    rng = np.random.default_rng(0)
    design, y = rng.normal(size=(6, 12)), rng.normal(size=6)
    design = np.float32(design / np.linalg.norm(design, axis=0))
    found = lasso(design, np.float32(y), 1e-20)
    assert found.status == Status.OK
    least = linear_program(np.asarray(design, float), np.asarray(np.float32(y), float))
    assert abs(np.abs(found.coefficients).sum() - least) < 1e-3 * least
