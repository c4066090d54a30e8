"""The topic of large steps end to end at a size for tests; a wrong law fails."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny_topics

from jaxtheory.lecture import edge_of_stability, judge, run
from jaxtheory.lecture.edge_of_stability import catapults, central, hovering

TINY = tiny_topics.TINY["edge-of-stability"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(edge_of_stability.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured_and_exact_laws_hold_at_any_size(outcome):
    held = {verdict.claim.name: verdict.holds for verdict in outcome.verdicts}
    assert len(held) == 16
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    assert all(held[name] for name in held if name.startswith(("threshold", "catapult")))
    assert outcome.figure.stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("module", [hovering, catapults])
def test_thresholds_without_momentum_fail(module, monkeypatch, float64):
    """2/η for every optimizer: claims of β > 0 fail against the same measurement."""
    study = hovering.MOMENTUM if module is hovering else catapults.QUADRATIC
    config = edge_of_stability.Config()
    seen = study.measure(config)
    assert all(verdict.holds for verdict in judge(study.predict(config).claims, seen))
    monkeypatch.setattr(module, "stability_threshold", lambda step_size, **_: 2 / step_size)
    wrong = [claim for claim in study.predict(config).claims if claim.name != "sharpness_0"]
    assert not any(verdict.holds for verdict in judge(wrong, seen))


@pytest.mark.slow
def test_a_flow_without_its_oscillation_fails(monkeypatch, float64):
    config = edge_of_stability.Config()
    seen = central.measure(config)
    right = central._flow(config)
    bare = right._replace(
        mean_loss=right.loss, squared_gradient=right.squared_gradient / 2, covariance=right.covariance / 2
    )
    monkeypatch.setattr(central, "_flow", lambda config: bare)
    verdicts = {verdict.claim.name: verdict.holds for verdict in judge(central.claims(config).claims, seen)}
    assert not any(verdicts[f"central_{name}"] for name in ("loss", "gradient", "spread"))


@pytest.mark.parametrize(
    ("square", "draws", "error"),
    [([1.0, 1.0, 1.0], 3.0, (1 / 3) ** 0.5), ([2.0, 1.0, 1.0], 16 / 6, (3.875 / 2 / 3) ** 0.5 * 3 / 4),
     ([1.0, 1e-9, 1e-9], 2.0, np.nan)],
)  # fmt: skip
def test_an_error_over_starts_counts_the_starts_that_oscillate(square, draws, error):
    """Of the curvatures 3, 4, 5: equal starts count in full; where one alone oscillates there is no error."""
    square, curvature = np.reshape(square, (1, 3, 1)), np.array([3.0, 4.0, 5.0])
    found = hovering._pooled(["edge"], curvature[None, :, None] * square, square)
    mean = np.average(curvature, weights=square.ravel())
    right = {"edge": mean, "edge_error": error, "edge_draws": draws}
    assert found == pytest.approx(right, nan_ok=True)


def test_the_start_of_a_catapult_has_its_output_and_curvature(float64):
    """After one step from f₀ = 1, λ₀ = 2 with n = 50: f₁ and λ₁ of the recursion, by hand."""
    outputs, curvatures = jax.jit(lambda e: catapults._thrown(TINY, e, 1))(3.0)
    np.testing.assert_allclose(outputs[0], 1 - 3 + 1.5**2 / 50, rtol=1e-12)
    np.testing.assert_allclose(curvatures[0], 2 + 1.5 / 50 * (3 - 4), rtol=1e-12)
