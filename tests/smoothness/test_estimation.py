"""Estimators against simulation, Stein's identity and the optimality conditions; minimax exponents to a hundredth."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.integrate import quad
from scipy.stats import norm as gaussian
from sklearn.linear_model import Lasso as Reference

from jaxtheory.expressivity import relu_network as rn
from jaxtheory.results import Status, fit_slope, standard_error
from jaxtheory.smoothness import besov, bspline, estimation
from jaxtheory.smoothness.lasso import lasso, lasso_network
from jaxtheory.smoothness.wavelets import Coefficients

SIZES = 2.0 ** np.arange(10, 31)


@pytest.mark.smoke
@pytest.mark.parametrize(("s", "p"), [(1.0, 1.0), (1.5, 1.0), (2.0, 1.0), (1.0, 2.0), (1.0, math.inf), (1.0, 0.8)])
@pytest.mark.parametrize("estimator", ["linear", "adaptive"])
def test_minimax_exponents_to_a_hundredth(s, p, estimator, float64):
    lost = max(0.0, 1 / p - 0.5) * (estimator == "linear")
    theory = -2 * (s - lost) / (2 * (s - lost) + 1)
    risk = estimation.minimax_risk(s, p, jnp.asarray(SIZES), estimator=estimator)
    assert abs(fit_slope(jnp.asarray(SIZES), risk).slope - theory) < 0.01


@pytest.mark.slow
def test_best_soft_thresholds_lie_between_benchmark_and_linear(float64):
    """Never below what keeps the right coefficients, by at most 1 + 2 log m above; better than linear at p < 2."""
    n = jnp.asarray(SIZES[::5])
    soft, ideal, linear = (estimation.minimax_risk(1.0, 1.0, n, estimator=e) for e in ("soft", "adaptive", "linear"))
    assert (soft >= 0.5 * ideal).all()
    assert (soft <= (1 + 2 * jnp.log(n)) * ideal).all()
    assert soft[-1] < linear[-1] / 2


@pytest.mark.parametrize(("t", "mu"), [(0.5, 0.0), (1.5, 2.0), (4.0, 1.0)])
def test_soft_risk_is_its_integral(t, mu, float64):
    shrink = lambda y: np.sign(y) * max(abs(y) - t, 0)  # noqa: E731
    expected = quad(lambda z: (shrink(mu + z) - mu) ** 2 * gaussian.pdf(z), -12, 12, points=(t - mu, -t - mu))[0]
    np.testing.assert_allclose(estimation._soft_risk(jnp.asarray(t), jnp.asarray(mu)), expected, rtol=1e-7)
    grid, at_zero = estimation._at_zero()
    tail = quad(lambda z: 2 * (z - 4.0) ** 2 * gaussian.pdf(z), 4, 30)[0]
    np.testing.assert_allclose(at_zero[grid == 4.0], tail, rtol=1e-8)


def test_sure_is_unbiased_for_the_risk(key, float64):
    """The threshold that minimizes Stein's estimate, by brute force over its candidates."""
    beta = jnp.concatenate([5 * jnp.ones(30), jnp.zeros(34)])
    y = beta + jax.random.normal(key, (64,), jnp.float64)
    candidates = np.concatenate([[0.0], np.abs(y)])
    stein = [64 - 2 * (np.abs(y) <= t).sum() + (np.minimum(np.abs(y), t) ** 2).sum() for t in candidates]
    best = min(candidates[np.argmin(stein)], math.sqrt(2 * math.log(64)))
    np.testing.assert_allclose(estimation.sure(y, 1.0), best, rtol=1e-12)
    empty = jax.random.normal(key, (64,), jnp.float64)
    np.testing.assert_allclose(estimation.sure(empty, 1.0), math.sqrt(2 * math.log(64)), rtol=1e-6)


@pytest.mark.slow
def test_linear_oracle_risk_is_the_mean_over_draws(key, float64):
    truth = besov.sample(key, 1.0, 1.0, math.inf, 6, dtype=jnp.float64)
    sigma = 0.05

    def loss(k):
        leaves = jax.tree.leaves(truth)
        keys = jax.random.split(k, len(leaves))
        noise = [sigma * jax.random.normal(q, leaf.shape, leaf.dtype) for q, leaf in zip(keys, leaves, strict=True)]
        noisy = jax.tree.unflatten(jax.tree.structure(truth), [a + b for a, b in zip(leaves, noise, strict=True)])
        guess = estimation.linear_oracle(noisy, truth, sigma)
        return sum(jnp.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(guess), leaves, strict=True))

    draws = jax.jit(jax.vmap(loss))(jax.random.split(key, 2000))
    assert abs(draws.mean() - estimation.linear_oracle_risk(truth, sigma)) < 4 * standard_error(draws)


def test_no_linear_estimator_does_better_over_signs_and_places(float64):
    """Over all matrices: the mean of ββᵀ over every sign and place, by enumeration, and the Wiener filter of it."""
    levels, sigma = (np.array([1.5]), np.array([2.0]), np.array([3.0, 0.5])), 0.7
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=4)))
    orbit = np.concatenate([signs * np.concatenate([*levels[:2], last]) for last in (levels[2], levels[2][::-1])])
    covariance = orbit.T @ orbit / len(orbit)
    best = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(4))
    least = np.trace((np.eye(4) - best) @ covariance)
    truth = Coefficients(jnp.asarray(levels[0]), (jnp.asarray(levels[1])[None], jnp.asarray(levels[2])[None]))
    np.testing.assert_allclose(estimation.linear_oracle_risk(truth, sigma), least, rtol=1e-12)
    filtered = estimation.linear_oracle(jax.tree.map(jnp.ones_like, truth), truth, sigma)
    np.testing.assert_allclose(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(filtered)]), best.sum(1))


def test_linear_oracle_risk_where_squares_leave_the_dtype():
    """E m σ²/(E + m σ²) in exact arithmetic, for a noise and a signal of any scale; E itself where σ is far above."""
    ones = Coefficients(jnp.ones(1), (jnp.ones((1, 1)), jnp.zeros((1, 2))))
    for size, sigma in ((1.0, 1e25), (1e18, 1e25), (1e25, 1e18), (1.0, 0.0), (3.0, 3.0), (1e-15, 1e-15)):
        truth = jax.tree.map(lambda b, size=size: b * size, ones)
        ratio = min(size, sigma) / max(size, sigma)
        expected = 2 * min(size, sigma) ** 2 / (1 + ratio**2)
        np.testing.assert_allclose(estimation.linear_oracle_risk(truth, sigma), expected, rtol=1e-5)
    slope = jax.grad(estimation.linear_oracle_risk, 1)
    assert float(slope(ones, 1.0)) == pytest.approx(1.0, rel=1e-6)  # 2 · 2σ/(1 + σ²)²
    assert float(slope(ones, 0.0)) == 0.0


def test_a_linear_estimator_may_beat_the_oracle_at_one_function(float64):
    """The oracle bounds a class, not a function: the projection on the truth itself has risk σ², all of it noise."""
    truth = Coefficients(jnp.full(1, 10.0), (jnp.full((1, 1), 10.0), jnp.full((1, 2), 10.0)))
    assert estimation.linear_oracle_risk(truth, 1.0) > 3 * 1.0


def test_ridge_risks_are_those_of_the_smoother(key, float64):
    a = jax.random.normal(key, (12, 12), jnp.float64)
    gram, signal, sigma = a @ a.T, a[0], 0.3
    for ridge, risk in zip((0.1, 2.0), estimation.ridge_risks(gram, signal, sigma, jnp.array([0.1, 2.0])), strict=True):
        smoother = np.linalg.solve(np.asarray(gram) + ridge * np.eye(12), np.asarray(gram)).T
        bias = ((smoother @ signal - signal) ** 2).mean()
        np.testing.assert_allclose(risk, bias + sigma**2 * (smoother**2).sum() / 12, rtol=1e-9)


@pytest.mark.slow
def test_thresholds_beat_the_linear_oracle_on_spikes_only(key, float64):
    """At n = 2^14: on spike+dense the ideal risk is less than half the linear one, on a Gaussian sample it is not."""
    sigma = 2.0**-7
    ratio = {}
    for kind, p in (("spike+dense", 1.0), ("gaussian", 2.0)):
        truth = besov.sample(key, 1.0, p, math.inf, 14, kind, dtype=jnp.float64)
        ratio[kind] = float(estimation.ideal_risk(truth, sigma) / estimation.linear_oracle_risk(truth, sigma))
    assert ratio["spike+dense"] < 0.5 < ratio["gaussian"]


def test_denoise_keeps_coarse_levels_and_kills_noise(key):
    noise = Coefficients(
        jnp.ones(1), tuple(jax.random.normal(k, (1, 2**j)) for j, k in enumerate(jax.random.split(key, 6)))
    )
    for method in ("hard", "soft", "sure"):
        kept = estimation.denoise(noise, 1.0, method, coarse=2)
        assert (kept.details[1] == noise.details[1]).all()
        assert float(sum((d != 0).sum() for d in kept.details[2:])) <= 3


@pytest.mark.slow
def test_lasso_satisfies_its_optimality_conditions(key, float64):
    """Aᵀ(y − Ab) = λ sgn(b) on the support, ≤ λ off it, for columns of norm 1."""
    design = jax.random.normal(key, (40, 60), jnp.float64)
    y = design[:, 0] * 2 - design[:, 5] + 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (40,), jnp.float64)
    fit = lasso(design, y, 0.5, steps=3000)
    assert fit.status == Status.OK
    norms = np.linalg.norm(design, axis=0)
    correlation = np.asarray(design.T @ (y - fit.fitted)) / norms
    support = np.abs(fit.coefficients) > 1e-8
    np.testing.assert_allclose(correlation[support], 0.5 * np.sign(fit.coefficients[support]), atol=1e-4)
    assert np.abs(correlation).max() < 0.5 + 1e-4
    assert support[0]
    assert lasso(design, y, 0.5, steps=2).status == Status.NOT_CONVERGED


@pytest.mark.slow
def test_lasso_on_nested_splines_is_scikit_learns(key, float64):
    """With the default steps: 41 nested atoms, 32 points; the same least objective and the same fit."""
    t = jnp.linspace(0.01, 0.99, 32)
    design = bspline.dictionary(t, 2, 4)
    y = jnp.sign(t - 0.37) + 0.1 * jax.random.normal(key, (32,), jnp.float64)
    sizes = np.linalg.norm(design, axis=0)
    unit, observed = np.asarray(design) / sizes, np.asarray(y)
    for penalty in (0.3, 1e-3):
        fit = lasso(design, y, penalty)
        found = Reference(alpha=penalty / 32, fit_intercept=False, tol=1e-12, max_iter=10**5).fit(unit, observed).coef_
        ours, theirs = (
            ((observed - unit @ c) ** 2).sum() / 2 + penalty * np.abs(c).sum()
            for c in (np.asarray(fit.coefficients) * sizes, found)
        )
        assert fit.status == Status.OK
        assert ours <= theirs * (1 + 1e-7)
        np.testing.assert_allclose(fit.fitted, unit @ found, atol=1e-3)


@pytest.mark.slow
def test_lasso_where_there_is_nothing_to_fit(key):
    """No signal, columns of zeros, a tiny penalty, and units far from 1: OK, and right."""
    design = jax.random.normal(key, (8, 5)).at[:, 2].set(0).at[:, 4].set(0)
    y = design[:, 0] + jax.random.normal(jax.random.fold_in(key, 1), (8,))
    plain = lasso(design, y, 0.5)
    assert plain.status == Status.OK
    assert (plain.coefficients[jnp.array([2, 4])] == 0).all()
    nothing = lasso(design, 0 * y, 0.5)
    assert nothing.status == Status.OK
    assert (nothing.coefficients == 0).all()
    far = lasso(design, y * 2.0**83, 0.5 * 2.0**83)
    assert far.status == Status.OK
    np.testing.assert_array_equal(far.coefficients, plain.coefficients * 2.0**83)
    units = 2.0 ** jnp.array([60.0, 0.0, 0.0, -60.0, 3.0])
    np.testing.assert_allclose(lasso(design * units[None], y, 0.5).coefficients * units, plain.coefficients, atol=1e-6)
    loose = lasso(design, y, 1e-8)
    assert loose.status == Status.OK
    np.testing.assert_allclose(loose.coefficients, np.linalg.lstsq(*map(np.asarray, (design, y)))[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("wide", [True, False], ids=["wide", "tall and dependent"])
def test_lasso_at_a_tiny_penalty_is_basis_pursuit(wide):
    """In float32 with the default steps, λ from 1e-5 to 1e-15: OK, and the least ℓ1 norm of a least-squares fit.

    To first order in λ that is the solution of the linear program; residuals of λ itself are lost in the rounding of y.
    """
    rng = np.random.default_rng(0)
    design = rng.standard_normal((8, 24)) if wide else np.tile(rng.standard_normal((20, 6)), 2)
    y = rng.standard_normal(len(design))
    unit = design / np.linalg.norm(design, axis=0)
    inside, both = unit @ np.linalg.pinv(unit) @ y, np.hstack([unit, -unit])
    least = scipy.optimize.linprog(np.ones(both.shape[1]), A_eq=both, b_eq=inside, bounds=(0, None)).fun
    for penalty in (1e-5, 1e-8, 1e-15):
        fit = lasso(jnp.asarray(design, jnp.float32), jnp.asarray(y, jnp.float32), penalty)
        assert fit.status == Status.OK
        assert abs(float(fit.gap)) < 1e-5
        np.testing.assert_allclose(fit.fitted, inside, atol=1e-4)
        size = np.abs(np.asarray(fit.coefficients) * np.linalg.norm(design, axis=0)).sum()
        np.testing.assert_allclose(size, least, rtol=1e-3)


@pytest.mark.slow
def test_the_lasso_estimate_is_a_relu_network(key, float64):
    """A network of its terms, within the terms' accuracy of the fitted values."""
    t = jnp.linspace(0.01, 0.99, 64)
    design = bspline.dictionary(t, 3, 3)
    y = jnp.sign(t - 0.37) + 0.1 * jax.random.normal(key, (64,), jnp.float64)
    fit = lasso(design, y, 0.3, steps=4000)
    net = lasso_network(fit.coefficients, 3, 3, 1e-4)
    values = bspline.evaluate_sum(net, t[:, None])
    assert jnp.abs(values - fit.fitted).max() <= 1e-4 * jnp.abs(fit.coefficients).sum()
    assert rn.audit(net.block).depth == bspline.audit_sum(net).depth
    assert bspline.audit_sum(net).width == len(net.weights) * rn.audit(net.block).width


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimation.threshold(jnp.ones(2), -1.0), "at must be >= 0"),
        (lambda: estimation.threshold(jnp.ones(2), 1.0, "firm"), "kind must be"),
        (lambda: estimation.denoise(Coefficients(jnp.ones(1), (jnp.ones((1, 1)),)), -1.0), "sigma must be > 0"),
        (lambda: estimation.minimax_risk(0.5, 1.0, jnp.ones(2)), "s must be >"),
        (lambda: estimation.minimax_risk(0.5, 0.0, jnp.ones(2)), "p must lie"),
        (lambda: estimation.minimax_risk(1.0, 1.0, jnp.ones(2), estimator="best"), "estimator must be"),
        (lambda: lasso(jnp.eye(2), jnp.ones(3), 1.0), "y must have one entry"),
        (lambda: lasso(jnp.eye(2), jnp.ones(2), -1.0), "penalty must be >= 0"),
        (lambda: lasso_network(jnp.zeros(5), 1, 1, 0.1), "coefficients must hold"),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
