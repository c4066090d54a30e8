"""Exponents of every phase at budgets where they can be seen: the limit γ → 0 of one-pass SGD, solved at any width.

With q = p/(2γ) and κ the root of q = κ (1 − Σ λ/(λ + κ)/d), the Laplace transform of the risk is

    (1/p) Σ h² κ/(λ + κ) / (1 − (γ/2) (Σ λ − q Σ λ/(λ + κ))),

the Volterra equation of Paquette et al. (2024) with the deterministic equivalent of the features' spectrum. Sums over
10^40 modes are integrals over log j; times up to 10^25 cost as much as short ones.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxtheory.scaling import frontier_exponents, one_pass_equivalent

NODES = 24  # of Talbot's contour: 1e-9


def modes(alpha, beta, count):
    """Eigenvalues j^(−2α), how many each stands for, and their power: all of the first 600, Gauss–Legendre in log j."""
    j = number = np.arange(1.0, min(count, 600) + 1)
    number = np.ones_like(j)
    if count > 600:
        x, weight = np.polynomial.legendre.leggauss(6)
        ends = np.linspace(np.log(600.5), np.log(count + 0.5), int(np.log(count / 600)) + 2)
        half = (ends[1] - ends[0]) / 2
        later = np.exp((ends[:-1, None] + half * (1 + x)).ravel())
        j, number = np.r_[j, later], np.r_[number, later * np.tile(half * weight, len(ends) - 1)]
    eigs = j ** (-2 * alpha)
    return eigs, number, number * eigs * j ** (-2 * beta)


def flow_risk(alpha, beta, width, share, ratio, time):
    """The risk at one time, by Talbot's contour; γ = share / trace, `ratio` modes a feature."""
    eigs, number, power = modes(alpha, beta, ratio * width)
    step = share / (number @ eigs)

    def image(kappa):
        return kappa * (1 - number @ (eigs / (eigs + kappa)) / width)

    def slope(kappa):
        return 1 - number @ (eigs / (eigs + kappa)) ** 2 / width

    angles = np.arange(NODES) * np.pi / NODES
    with np.errstate(divide="ignore", invalid="ignore"):
        cot = 1 / np.tan(angles)
        path = angles * (cot + 1j)
        speed = 1 + 1j * (angles + (angles * cot - 1) * cot)
    path[0], speed[0] = 1, 0.5
    radius = 2 * NODES / (5 * time)
    low, high = eigs[-1] * 1e-6, radius / (2 * step) + 2 * share / step / width
    for _ in range(100):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if image(middle) < radius / (2 * step) else (low, middle)
    kappa, total = complex(low), 0.0
    for before, now, along in zip(np.r_[1, path[:-1]], path, speed, strict=True):
        for part in (1 / 3, 2 / 3, 1):
            goal = radius / (2 * step) * (before + part * (now - before))
            for _ in range(6):
                kappa -= (image(kappa) - goal) / slope(kappa)
        learned = number @ (eigs / (eigs + kappa))
        noise = step / 2 * (share / step - goal * learned)
        missed = power @ (kappa / (eigs + kappa))
        total += (np.exp(radius * time * now) * along * missed / (radius * now) / (1 - noise)).real
    return radius / NODES * total


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.3), (0.4, 0.8)])
def test_the_flow_is_the_limit_of_short_steps(alpha, beta, float64):
    """Against the recursion: the difference is of second order in the step, a quarter at half of it."""
    i, apart = jnp.arange(1.0, 401.0), []
    for share, steps in ((0.02, 2000), (0.01, 4000)):
        eigs = i ** (-2 * alpha)
        curve = one_pass_equivalent(eigs, i**-beta, 100, batch=1, step_size=share / eigs.sum(), steps=steps)
        apart.append(flow_risk(alpha, beta, 100, share, 4, steps) / float(curve.risk[-1]) - 1)
    assert abs(apart[0]) < 0.02**2
    assert apart[1] == pytest.approx(apart[0] / 4, rel=0.1)


# α, β, γ Σ λ, modes a feature, logarithms of the budgets to base 10
PHASES = {
    "Ia": (0.8, 0.2, 0.5, 4.0, (10, 13, 16, 19)),
    "Ib": (0.4, 0.3, 1.2, 4.0, (10, 14, 18, 22)),
    "Ic": (0.2, 0.8, 1.2, 4.0, (10, 15, 20, 25)),
    "II": (1.2, 0.8, 0.5, 4.0, (10, 15, 20, 25)),
    "III": (1.0, 2.0, 0.5, 4.0, (10, 13, 16, 19)),
    "IVa": (0.4, 0.8, 1.2, 4.0, (12, 15, 18, 21)),
    "IVb": (0.285, 2.0, 1.2, 1.5, (20, 26, 32, 38)),
}
SEARCHED = 1e-3  # accuracy of ln d


def frontier(alpha, beta, share, ratio, log_budget, start):
    """ln d of the best width and ln of the least risk, by a bounded search about the best of nine widths."""

    def log_risk(log_width):
        return np.log(flow_risk(alpha, beta, np.exp(log_width), share, ratio, np.exp(log_budget - log_width)))

    grid = log_budget * (start + np.linspace(-0.15, 0.15, 9))
    at = int(np.argmin([log_risk(x) for x in grid]))
    assert 0 < at < len(grid) - 1
    bounds = grid[at - 1], grid[at + 1]
    found = minimize_scalar(log_risk, bounds=bounds, method="bounded", options={"xatol": SEARCHED})
    return found.x, found.fun


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_its_exponents(phase):
    """Exponents between successive budgets; the last lacks at most a third of what they changed.

    The next order is a power of the budget that at least halves from one pair of budgets to the next: after s1, s2, s3
    there is |s3 − s1| q²/(1 − q²) left, q ≤ 1/2. The search for the minimum adds four of its accuracies.
    """
    alpha, beta, share, ratio, budgets = PHASES[phase]
    exact = frontier_exponents(alpha, beta)
    logs = np.log(10) * np.array(budgets, float)
    found = np.array([frontier(alpha, beta, share, ratio, log, float(exact.width)) for log in logs])
    slopes = np.diff(found, axis=0) / np.diff(logs)[:, None]
    tolerance = np.abs(slopes[2] - slopes[0]) / 3 + 4 * SEARCHED / (logs[3] - logs[2])
    assert (tolerance < 0.006).all()
    assert (np.abs(slopes[2] - [exact.width, exact.risk]) < tolerance).all()


def test_at_small_budgets_the_noise_of_phase_4_does_not_count(float64):
    """At α = 0.4, β = 0.8 the width has, about f = 10^7, the exponent 0.60 of the first two terms, as documented."""
    alpha, power = 0.4, 1.4
    early = power / (4 * alpha**2 + 2 * (1 - alpha) * power)
    logs = np.log(10) * np.array([6.0, 9.0])
    found = np.array([frontier(alpha, 0.8, 0.5, 4.0, log, early) for log in logs])
    slope = np.diff(found[:, 0])[0] / np.diff(logs)[0]
    assert abs(slope - early) < abs(slope - float(frontier_exponents(alpha, 0.8).width)) / 5
