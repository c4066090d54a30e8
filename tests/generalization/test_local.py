"""Local Rademacher complexities against root finding, exact rates, and draws of a kernel class."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from jaxtheory.generalization import local_complexity, local_rademacher

SPECTRA = {
    "powers": np.arange(1.0, 200.0) ** -2,
    "exponential": 2.0 ** -np.arange(30.0),
    "finite rank": np.array([3.0, 3.0, 1.0, 0.0, 0.0]),
    "one": np.array([2.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_fixed_point_is_the_root(name, float64):
    """Against brentq on ψ(r) − r from numpy, few examples to many, in any order."""
    eigs = np.pad(SPECTRA[name], (0, 199 - len(SPECTRA[name])))  # one program
    n = np.array([0.5, 7.0, 1e3, 1e6])
    found = local_complexity(jnp.asarray(eigs[::-1].copy()), jnp.asarray(n))
    for size, radius, modes in zip(n, *map(np.asarray, found), strict=True):
        root = brentq(lambda r, m=size: np.sqrt(2 / m * np.minimum(r, eigs).sum()) - r, 1e-14, 1e4, xtol=1e-16)
        assert abs(radius - root) < 1e-9 * root
        assert modes == (eigs >= radius).sum()
        assert abs(local_rademacher(jnp.asarray(eigs), size, radius) - radius) < 1e-12 * radius


@pytest.mark.parametrize("decay", [2.0, pytest.param(4.0, marks=pytest.mark.slow)])
def test_the_fast_rate_of_power_laws(decay, float64):
    """λ_i = i^{−b}: r* ~ n^{−b/(b+1)} within .01 over n = 1e4 … 1e7, far from the global n^{−1/2}."""
    eigs = jnp.asarray(np.arange(1.0, 30_001.0) ** -decay)
    n = np.logspace(4, 7, 7)
    found = np.polyfit(np.log(n), np.log(local_complexity(eigs, jnp.asarray(n)).fixed_point), 1)[0]
    assert abs(found + decay / (decay + 1)) < 0.01


def test_the_bound_holds_for_a_class_on_the_circle():
    """{Σ_k β_k φ_k: Σβ²/λ ≤ 1, Σβ² ≤ r}, cosines on the circle: it contains the ellipsoid Σβ²/min(λ, r) ≤ 1.

    The complexity of that one, E‖√min(λ, r) (1/n) Σ_i ε_i φ(x_i)‖, is below ψ(r)/√2, and above 0.8 of it by Gaussian
    concentration where many modes take part.
    """
    rng = np.random.default_rng(0)
    n, r, k = 200, 0.02, np.arange(1, 101)
    eigs = k**-1.5
    norms = []
    for _ in range(200):
        x = rng.uniform(0, 2 * np.pi, n)
        signs = rng.choice([-1.0, 1.0], n)
        mean = np.sqrt(2) * np.cos(np.outer(k, x)) @ signs / n
        norms.append(np.linalg.norm(np.sqrt(np.minimum(eigs, r)) * mean))
    bound = float(local_rademacher(jnp.asarray(eigs, jnp.float32), n, r)) / np.sqrt(2)
    assert 0.8 * bound < np.mean(norms) < bound + 4 * np.std(norms) / np.sqrt(200)


def least_squares(rng, eigs, count, mode, kept):
    """Excess risk over the ball of `kept` modes at the worst function, √λ φ of one mode, with noise 1/2."""
    phi = np.sqrt(2) * np.cos(np.outer(rng.uniform(0, 2 * np.pi, count), np.arange(1, len(eigs) + 1)))
    truth = np.where(np.arange(len(eigs)) == mode, np.sqrt(eigs), 0)
    y = phi @ truth + 0.5 * rng.normal(size=count)
    features = (phi * np.sqrt(eigs))[:, :kept]
    values, basis = np.linalg.eigh(features.T @ features / count)
    c = basis.T @ (features.T @ y) / count
    beyond = lambda mu: ((c / (values + mu)) ** 2).sum() - 1  # noqa: E731
    mu = brentq(beyond, 1e-14, 1e3) if beyond(1e-14) > 0 else 1e-14
    found = np.sqrt(eigs[:kept]) * (basis @ (c / (values + mu)))
    return ((np.pad(found, (0, len(eigs) - kept)) - truth) ** 2).sum()


def test_the_excess_risk_is_proportional_to_the_fixed_point(float64):
    """λ_i = i^{−2}, n from 64 to 16384: one ratio for all n, with a truncated kernel too; n^{−1/2} is off by 2.5.

    Cutting the kernel where its eigenvalues are r*/4 saves noise, less than half of the risk, and costs nothing.
    """
    eigs, ratios, errors = np.arange(1.0, 201.0) ** -2, [], []
    for n in (64, 1024, 16384):
        radius, modes = map(float, local_complexity(jnp.asarray(eigs), float(n)))
        cut = int((eigs >= radius / 4).sum())
        both = [
            [least_squares(np.random.default_rng([i, n]), eigs, n, int(modes) - 1, kept) for kept in (200, cut)]
            for i in range(20)
        ]
        whole, part = np.mean(both, axis=0)
        assert 0.5 < part / whole < 1.0
        ratios.append(whole / radius)
        errors.append(np.std(both, axis=0, ddof=1)[0] / np.sqrt(20) / radius)
    assert 4 * max(errors) < 0.5 * np.mean(ratios)
    assert np.ptp(ratios) < 4 * np.hypot(*sorted(errors)[1:])


@pytest.mark.slow
def test_scales_and_nothing():
    """λ and r in other units change ψ by the root; no eigenvalue, no complexity."""
    eigs = jnp.asarray(SPECTRA["powers"], jnp.float32)
    plain = local_rademacher(eigs, 64.0, 0.125)
    np.testing.assert_allclose(local_rademacher(eigs * 2.0**80, 64.0, 0.125 * 2.0**80), plain * 2.0**40, rtol=1e-6)
    none = local_complexity(jnp.zeros(3), 10.0)
    assert none.fixed_point == 0.0
    assert none.modes == 0
    # what is far above the other, and n beyond the roots of the smallest numbers
    np.testing.assert_allclose(local_rademacher([3e25, 1e25], 8.0, 1e-25), (2 / 8 * 2e-25) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(local_rademacher([3e-25, 1e-25], 8.0, 1e25), (2 / 8 * 4e-25) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(local_rademacher([1.0], 3e38, 1.0), (2 / 3e38) ** 0.5, rtol=1e-6)
    assert local_complexity(2.0**83 * eigs, 64.0).fixed_point < jnp.inf
    # ψ(r) = r* = √(2λ/n) of one small eigenvalue λ and a large n, for λ ≤ r
    np.testing.assert_allclose(local_rademacher([1e-30], 1e30, 1e-30), 2e-60**0.5, rtol=1e-6)
    np.testing.assert_allclose(local_complexity([1e-30], 1e30).fixed_point, 2e-60**0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: local_complexity(jnp.array([1.0, -1.0]), 10.0), "eigs must be"),
        (lambda: local_complexity(jnp.ones(2), 0.0), "n must be"),
        (lambda: local_rademacher(jnp.ones(2), 10.0, -1.0), "variance must be"),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
