"""Wrong laws fail: a claim with a rival holds at the law's value and not at the rival's."""

import functools
from statistics import NormalDist

import jax
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from jaxtheory.lecture import Claim, judge
from jaxtheory.lecture.claims import SIGNIFICANT, needed, negative, positive, statistical, student
from jaxtheory.lecture.registry import TOPICS


@functools.cache
def claims_of(name):
    """What a topic claims at its quick sizes."""
    config = TOPICS[name].Config()
    with jax.enable_x64(config.x64):
        return TOPICS[name].predict(config).claims


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TOPICS)
def test_the_rival_of_every_claim_fails(name):
    """At no error: what the rival predicts does not hold; a sign does not hold at no effect; names are unique."""
    claims = claims_of(name)
    names = [claim.name for claim in claims]
    assert len(names) == len(set(names))
    for claim in claims:
        if claim.standard_errors < 0:
            at_rival, error = claim.predicted, 1e-9
        elif claim.rival is not None:
            at_rival, error = claim.rival, 0.0
            right = xr.Dataset({claim.name: claim.predicted, f"{claim.name}_error": 0.0, f"{claim.name}_draws": 9.0})
            assert judge([claim], right)[0].holds, claim
            assert claim.rival_law, claim
        else:
            continue
        wrong = xr.Dataset({claim.name: at_rival, f"{claim.name}_error": error, f"{claim.name}_draws": 9.0})
        assert not judge([claim], wrong)[0].holds, claim
    assert np.all([claim.kind in ("simulation", "formula") for claim in claims])


@pytest.mark.slow
@pytest.mark.timeout(1800)  # alone it makes the predictions of every topic, which the tests above have made
def test_the_lecture_on_five_seeds_fails_by_chance_in_less_than_one_of_a_hundred_runs():
    """Every statistical claim counts as many standard errors as Šidák's correction over all of them needs."""
    statistical = [claim for name in TOPICS for claim in claims_of(name) if claim.standard_errors]
    least = min(abs(claim.standard_errors) for claim in statistical)
    assert len(statistical) > 100
    assert least >= needed(len(statistical)), (len(statistical), [c.name for c in statistical if abs(c[6]) == least])


@pytest.mark.parametrize(("claims", "seeds", "budget"), [(1, 1, 0.05), (160, 5, 0.01), (1000, 5, 0.01)])
def test_the_level_is_that_of_so_many_independent_tests(claims, seeds, budget):
    """All of 5m tests at the level hold together with probability 1 − budget."""
    one = 2 * NormalDist().cdf(needed(claims, seeds=seeds, budget=budget)) - 1
    assert one ** (claims * seeds) == pytest.approx(1 - budget, rel=1e-6)


def test_the_level_of_the_lecture_serves_some_280_claims():
    assert needed(280) < SIGNIFICANT < needed(300)


@pytest.mark.parametrize(
    "arguments", [{"statistical": 0}, {"statistical": 1, "seeds": 0}, {"statistical": 1, "budget": 1.0}]
)
def test_a_level_of_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        needed(**arguments)


@pytest.mark.parametrize("draws", [2, 3, 16, 1000])
def test_few_draws_are_judged_by_students_quantile(draws):
    """A mean of normal draws, studentized, is beyond the quantile as often as a normal one is beyond the level."""
    assert student(SIGNIFICANT, draws) == pytest.approx(stats.t.isf(stats.norm.sf(SIGNIFICANT), draws - 1), rel=1e-9)
    assert student(-SIGNIFICANT, draws) == -student(SIGNIFICANT, draws)
    claim = Claim("mean", "the mean", "Student (1908)", 0.0, "statistics", standard_errors=SIGNIFICANT)
    allowed = student(SIGNIFICANT, draws)
    for measured, holds in ((0.99 * allowed, True), (1.01 * allowed, False)):
        data = xr.Dataset({"mean": measured, "mean_error": 1.0, "mean_draws": float(draws)})
        assert judge([claim], data)[0].holds is holds


@pytest.mark.parametrize(("make", "side"), [(negative, -1.0), (positive, 1.0)])
def test_a_sign_is_significant_on_its_side_alone(make, side):
    """Beyond 4.5 standard errors of many draws it holds; within them, at no effect and on the other side it fails."""
    claim = make("gain", "the gain", "nobody")
    for effect, holds in ((4.6 * side, True), (4.4 * side, False), (0.0, False), (-9.0 * side, False)):
        assert judge([claim], xr.Dataset({"gain": effect, "gain_error": 1.0, "gain_draws": 1e9}))[0].holds is holds


def test_a_statistical_claim_is_allowed_its_tolerance_and_errors_and_rejects_its_rival():
    """1 ± (0.2 + 4.5 · 0.1): 1.6 holds and 1.7 fails; a rival at 1.9 is 3 standard errors too near, one at 2 is not."""
    for measured, rival, holds in ((1.6, 2.0, True), (1.7, 2.0, False), (1.6, 1.9, False), (1.6, None, True)):
        claim = statistical("peak", "height", "nobody", 1.0, "a remainder", tolerance=0.2, rival=(rival, "another law"))
        data = xr.Dataset({"peak": measured, "peak_error": 0.1, "peak_draws": 1e9})
        assert judge([claim], data)[0].holds is holds
    assert claim.basis == "a remainder; 4.5 standard errors"


def test_a_sign_of_three_draws_needs_an_effect_of_many_errors():
    claim = Claim("gain", "the gain", "nobody", 0.0, "significance", standard_errors=-SIGNIFICANT, relation=">=")
    for draws, holds in ((3.0, False), (100.0, True)):
        assert judge([claim], xr.Dataset({"gain": 6.0, "gain_error": 1.0, "gain_draws": draws}))[0].holds is holds
