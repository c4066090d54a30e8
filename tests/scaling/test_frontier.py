"""Compute-optimal frontiers: closed forms, the theory's exponents, and the recursion of one-pass SGD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxtheory.results import Status
from jaxtheory.scaling import compute_optimal, frontier_exponents, one_pass_equivalent

WIDTHS, TIMES = np.geomspace(4, 400, 24), np.arange(2001.0)
BUDGETS = np.geomspace(400, 4000, 5)


def terms(width, steps):
    return 3 * width**-0.9 + 2 * steps**-0.6


@pytest.mark.parametrize("batch", [1.0, 4.0])
def test_the_frontier_is_the_minimum_over_widths(batch):
    """Against a search at each budget: the parabola through widths 22 % apart misses the minimum by less than 1e−3."""
    risk = terms(WIDTHS[:, None], np.maximum(TIMES, 0.5)[None, :])
    found = compute_optimal(WIDTHS, risk, BUDGETS, batch=batch)
    assert found.status == Status.OK
    for at, budget in enumerate(BUDGETS):
        best = minimize_scalar(
            lambda u, budget=budget: terms(np.exp(u), budget / batch / np.exp(u)), bounds=(0, 6), method="bounded"
        )
        np.testing.assert_allclose(found.risk[at], best.fun, rtol=1e-3)
        np.testing.assert_allclose(found.width[at], np.exp(best.x), rtol=2e-2)
    np.testing.assert_allclose(found.width * found.steps * batch, BUDGETS, rtol=1e-5)
    # d^(−0.9) = t^(−0.6) up to constants
    np.testing.assert_allclose(found.width_law.slope, 0.6 / 1.5, atol=0.01)
    np.testing.assert_allclose(found.risk_law.slope, -0.54 / 1.5, atol=0.01)


@pytest.mark.parametrize("compute", np.array([[4.0, 8.0, 16.0], [400.0, 4e3, 4e6]]), ids=["too small", "too large"])
def test_budgets_beyond_the_curves_are_not_ok(compute):
    risk = terms(WIDTHS[:, None], np.maximum(TIMES, 0.5)[None, :])
    assert compute_optimal(WIDTHS, risk, compute).status == Status.NOT_COMPUTED


def test_a_frontier_at_the_largest_width_is_not_ok():
    risk = np.broadcast_to(1 / WIDTHS[:, None], (24, 2001))
    assert compute_optimal(WIDTHS, risk, BUDGETS).status == Status.NOT_COMPUTED


def test_risks_that_hardly_differ_keep_their_digits():
    """An offset of 1e3: the logarithms are of risks over a power of two; and units of the risk change it alone."""
    risk = 1e3 + 10 * terms(WIDTHS[:, None], np.maximum(TIMES, 0.5)[None, :])
    with jax.enable_x64(True):
        exact = compute_optimal(*(jnp.asarray(v, float) for v in (WIDTHS, risk, BUDGETS)))
    found = compute_optimal(*(jnp.asarray(v, jnp.float32) for v in (WIDTHS, risk, BUDGETS)))
    np.testing.assert_allclose(found.width, exact.width, rtol=1e-2)
    far = compute_optimal(*(jnp.asarray(v, jnp.float32) for v in (WIDTHS, risk * 2.0**80, BUDGETS)))
    np.testing.assert_array_equal(far.risk, found.risk * 2.0**80)
    np.testing.assert_array_equal(far.risk_law.standard_error, found.risk_law.standard_error)
    np.testing.assert_allclose(far.risk_law.intercept - found.risk_law.intercept, 80 * np.log(2), rtol=1e-6)


def test_equal_widths_are_not_ok():
    twice = WIDTHS[np.array([0, 1, *range(1, 23)])]
    risk = 1 / twice[:, None] + 100 * np.abs(np.log(twice / WIDTHS[1]))[:, None] + 0 * TIMES[None, :]
    assert compute_optimal(twice, risk, BUDGETS).status == Status.NOT_COMPUTED


POINTS = [(0.8, 0.2), (1.0, 0.3), (2.0, -0.4), (1.2, 0.8), (1.5, 0.75), (0.75, 1.0), (1.0, 1.5), (0.6, 3.0)]
# of eigenvalues whose sum grows with their number
FLAT = [(0.4, 0.2), (0.2, 0.4), (0.4, 0.8), (0.3, 2.0), (0.28, 1.0), (0.26, 0.6), (0.2, 0.8), (0.1, 2.0)]


@pytest.mark.parametrize(("alpha", "beta"), [*POINTS, *FLAT])
def test_exponents_are_those_of_the_largest_of_the_four_terms(alpha, beta):
    """A search over d = f^u for the least of the largest exponent, at the largest stable step, γ ~ d^(2α − 1 ∧ 0)."""
    u = np.linspace(0, 1, 200_001)
    step = np.minimum(2 * alpha - 1, 0) * u  # exponents of γ and of γ t
    time = 1 - u + step
    rates = [u * (2 * alpha - max(0, 1 - 2 * beta)), time * (2 * alpha + 2 * beta - 1) / (2 * alpha)]
    if alpha > 0.25 and (beta > 0.5 or alpha > 0.5):
        rates.append(time * (2 - 1 / (2 * alpha)) - step)
    if beta > 0.5 and alpha > 0.5:
        rates.append(u + time * (1 - 1 / (2 * alpha)))
    rate = np.min(rates, axis=0)
    found = frontier_exponents(alpha, beta)
    np.testing.assert_allclose(-found.risk, rate.max(), atol=1e-5)
    best = u[rate > rate.max() - 1e-6]
    assert best.min() - 1e-4 <= found.width <= best.max() + 1e-4
    steep = 2 if beta < alpha else 3 if alpha > 0.5 else 4 if alpha > 0.25 else 1
    assert found.phase == (1 if beta < 0.5 else steep)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "beta"), [p for p in POINTS if 0 < p[1] < 2])
def test_the_recursion_has_the_exponents_of_its_phase(alpha, beta):
    """Widths 8 to 512 of 4096 modes: within 0.05 of theory over a decade of compute, where finite sizes still show.

    The exponents of the width differ between the phases' formulas by more than twice the tolerance at each point.
    """
    i, widths = jnp.arange(1.0, 4097.0), jnp.geomspace(8.0, 512.0, 13)

    def risk(width):
        return one_pass_equivalent(i ** (-2 * alpha), i**-beta, width, batch=1, step_size=0.3, steps=12_000).risk

    found = compute_optimal(widths, jax.jit(jax.vmap(risk))(widths), jnp.geomspace(6e3, 6e4, 9))
    expected = frontier_exponents(alpha, beta)
    assert found.status == Status.OK
    np.testing.assert_allclose(found.risk_law.slope, expected.risk, atol=0.05)
    np.testing.assert_allclose(found.width_law.slope, expected.width, atol=0.03)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": -WIDTHS}, "widths must be positive and finite"),
        ({"risk": np.ones((3, 5))}, "risk must have 24 rows"),
        ({"risk": np.zeros((24, 2001))}, "risk must be positive and finite"),
        ({"compute": BUDGETS[:2]}, "compute must hold at least 3 budgets"),
        ({"batch": 0.0}, "batch must be positive"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(changed, message, unchecked):
    given = {"widths": WIDTHS, "risk": np.ones((24, 2001)), "compute": BUDGETS}
    with pytest.raises(ValueError, match=message):
        compute_optimal(**given | changed)


@pytest.mark.parametrize(
    ("alpha", "beta", "message"), [(0.0, 1.0, "alpha must be positive"), (1.0, -0.5, r"alpha \+ beta must exceed 1/2")]
)
def test_exponents_outside_the_theory_are_refused(alpha, beta, message):
    with pytest.raises(ValueError, match=message):
        frontier_exponents(alpha, beta)


def test_equal_budgets_have_no_law():
    d, t = jnp.geomspace(4.0, 64.0, 9), jnp.arange(3000.0)
    found = compute_optimal(d, 1 / d[:, None] + 1 / jnp.maximum(t, 0.5)[None, :], jnp.full(3, 200.0))
    assert int(found.status) == Status.NOT_FINITE
    assert np.isnan(found.risk_law.slope)
