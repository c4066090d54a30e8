"""The topic of infinite width end to end, at a size for tests."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny_topics

from jaxtheory.lecture import infinite_width, run
from jaxtheory.lecture.infinite_width import convergence

TINY = tiny_topics.TINY["infinite-width"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(infinite_width.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured(outcome):
    names = {verdict.claim.name for verdict in outcome.verdicts}
    assert names >= {"rate_0.7", "rate_1", "rate_1.2", "chaos", "gp_gain"}
    assert names >= {"slope_tanh_mlp"}
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    assert (outcome.dataset.parent / "figure.png").exists()


@pytest.mark.slow
def test_predictions_are_those_of_the_theory(float64):
    """−1/2 for every architecture; log χ₁ of tanh by a quadrature of its own."""
    whole = replace(infinite_width.Config(), x64=True)
    claims = {claim.name: claim.predicted for claim in infinite_width.TOPIC.predict(whole).claims}
    slopes = {name: value for name, value in claims.items() if name.startswith("slope")}
    assert slopes == {f"slope_{name}": -0.5 for name in ("tanh_mlp", "residual_mlp", "relu_cnn", "tanh_rnn")}
    x, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    q = 1.0
    for _ in range(200):
        q = weight @ np.tanh(math.sqrt(q) * x) ** 2 + 0.09
    chi = weight @ np.cosh(math.sqrt(q) * x) ** -4.0
    assert abs(claims["rate_1"] - math.log(chi)) < 1e-8


def test_the_next_order_halves_when_widths_double():
    """The exponent's allowance is the slope of log(1 + 5/n), which is 5/n for large n."""
    near, far = (convergence._next_order(tuple(k * n for n in (1000, 2000, 4000))) for k in (1, 2))
    assert abs(near / far - 2) < 5 / 1000 * 2
    expected = np.log1p(5 / 32) - np.log1p(5 / 64)
    assert abs(convergence._next_order((32, 64)) - expected / np.log(2)) < 1e-12


def test_published_sizes_are_those_of_the_paper_preset():
    paper = infinite_width.Config.of("paper")
    assert (paper.draws, paper.splits, paper.deep_width) == (400, 12, 4096)
