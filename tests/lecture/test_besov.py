"""The topic of Besov spaces at a size for tests: exact risks against simulation, and the whole run."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.lecture import besov, judge, run
from jaxtheory.lecture.besov import balls, function_classes
from jaxtheory.lecture.besov.explicit_networks import ORDER, on_the_circle
from jaxtheory.results import standard_error
from jaxtheory.smoothness import approximation, bspline

TINY = tiny_topics.TINY["besov"].config


@pytest.mark.parametrize("name", ["spiky", "homogeneous"])
@pytest.mark.first_case
@pytest.mark.slow
def test_the_exact_linear_risk_is_the_mean_of_the_losses(name, key, float64):
    """A closed form in the claims, against the estimator that it is about."""
    ball = balls.BALLS[name]
    point = partial(balls.ball_risks, ball=ball, levels=4)
    losses = jax.jit(jax.vmap(lambda k: point(jnp.int64(4), jnp.int64(0), k)))(jax.random.split(key, 500))["linear"]
    assert abs(losses.mean() - balls.exact_linear_risk(4, ball)) < 4 * standard_error(losses)


def test_copies_on_the_circle_are_the_periodic_spline(float64):
    x = jnp.arange(64.0) / 64
    f = jnp.sin(2 * jnp.pi * x) + jnp.cos(6 * jnp.pi * x)
    terms, source = on_the_circle(approximation.spline_terms(f, ORDER), 100)
    unit = jax.vmap(lambda t: t.weights * bspline.cardinal((t.scales * x - t.shifts)[:, None], ORDER))(terms)
    best = jax.tree.map(lambda part: part[:100], approximation.spline_terms(f, ORDER))
    expected = approximation.evaluate_terms(best, x, ORDER, copies=ORDER)
    np.testing.assert_allclose(unit.sum(axis=0), expected, atol=1e-12)
    assert set(source.tolist()) == {*range(100), 256}


def test_predictions_need_no_measurement():
    """Exponents of the claims about minimax risks are the theorems', whatever the configuration."""
    with jax.enable_x64(True):
        claims = {claim.name: claim for claim in besov.TOPIC.predict(TINY).claims}
    assert claims["linear, s=1, p=1"].predicted == -0.5
    assert claims["adaptive, s=1, p=1"].predicted == pytest.approx(-2 / 3)
    assert claims["linear_spiky"].rival == pytest.approx(-2 / 3)
    assert claims["gap_spiky"].standard_errors < 0
    for row in function_classes.rows(16):
        for rate, rival, remainder in zip(
            (row.linear, row.adaptive), row.rivals, (row.linear_remainder, row.adaptive_remainder), strict=True
        ):
            assert abs(rate - rival) > remainder, row
    assert {f"{name}_adaptive" for name in ("holder", "sobolev", "besov", "piecewise", "mixed", "barron")} <= set(
        claims
    )


@pytest.mark.parametrize(("gain", "holds"), [(-1 / 6, True), (0.0, False)])
def test_an_estimator_that_gains_nothing_fails(gain, holds):
    """Ten groups of slopes with the scatter of the quick run: the claims hold with the law's gain, not without."""
    noise = np.random.default_rng(0).normal(0, 0.016, (4, 10))
    groups = {"linear_spiky": -0.5 + noise[0], "gap_spiky": gain + noise[1],
              "linear_homogeneous": -2 / 3 + noise[2], "gap_homogeneous": noise[3]}  # fmt: skip
    verdicts = judge(balls._gain_claims(), xr.Dataset(balls._gains(groups)))
    assert [verdict.holds for verdict in verdicts] == [holds, holds]


def test_published_sizes_are_those_of_the_paper_preset():
    paper = besov.Config.of("paper")
    assert (paper.levels, paper.replicates, paper.steps) == (20, 400, 20000)


@pytest.mark.slow
def test_every_claim_is_measured_and_risks_hold_every_estimator(tmp_path):
    outcome = run(besov.TOPIC, replace(TINY, out=tmp_path))
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    exact = [verdict for verdict in outcome.verdicts if verdict.claim.name.endswith(("p=1", "p=2"))]
    assert len(exact) == 8
    assert all(verdict.holds for verdict in exact)
    data = xr.open_zarr(outcome.dataset, consolidated=False).load()
    assert data.spiky_sure.sizes == {"octave": 4, "seed": 20}
    assert {f"signal_{rule}" for rule in ("linear", "ridge", "sure", "lasso", "network")} <= set(data)
    assert math.isclose(float(data.dictionary[2]), bspline.dictionary_size(3, 5, 3))
