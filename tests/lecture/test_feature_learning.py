"""The topic of feature learning end to end at a size for tests, and what a wrong law does to its claims."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.lecture import feature_learning, judge, run
from jaxtheory.lecture.feature_learning import training, transfer, width

TINY = tiny_topics.TINY["feature-learning"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(feature_learning.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured(outcome):
    names = {verdict.claim.name for verdict in outcome.verdicts}
    assert names >= {"digits_rich", "teacher_lazy", "classes_apart", "kurtosis", "width_mean", "width_scatter"}
    assert names >= {"coordinates_hidden_maximal", "transfer_mlp_standard"}
    # the exponent of a sweep whose best rate is at its end is NaN, and so is that of a mean below its limit
    finite = {v.claim.name for v in outcome.verdicts if np.isfinite(v.measured)}
    assert names - finite <= {"width_mean", "transfer_mlp_maximal", "transfer_mlp_standard"}
    dataset = xr.open_zarr(outcome.dataset, consolidated=False)
    assert dataset.digits_loss.sizes == {"digits_richness": 2, "digits_width": 3, "digits_time": 5}
    assert (outcome.dataset.parent / "figure.png").exists()


@pytest.mark.slow
def test_a_wrong_limit_fails(outcome):
    """The lines of the other end of the axis: measurements of the rich end are not within the lazy end's claim."""
    dataset = xr.open_zarr(outcome.dataset, consolidated=False)
    claims = {verdict.claim.name: verdict.claim for verdict in outcome.verdicts}
    for right, wrong in (("digits_rich", "digits_lazy"), ("teacher_rich", "teacher_lazy")):
        mutant = claims[right]._replace(predicted=claims[wrong].predicted, rival=claims[right].predicted)
        assert not judge([mutant], dataset)[0].holds


def test_the_best_rate_is_the_vertex_of_a_parabola_and_its_exponent_is_found():
    """log losses (log₂ rate − v)² with v = 1 − log₂ N / 2 at N = 4, 8: the vertices, and NaN where one is outside."""
    rates = tuple(2.0 ** np.arange(-4, 5))
    octaves = np.log2(rates)
    vertices = np.array([1 - np.log2(n) / 2 for n in (4, 8)])
    losses = np.exp((octaves[None] - vertices[:, None]) ** 2)[None].repeat(3, 0)
    np.testing.assert_allclose(transfer._best(losses, rates), vertices, atol=1e-12)
    assert np.isnan(transfer._best(losses, rates[:4])).all()


def test_claims_name_the_other_law_as_their_rival():
    claims = {claim.name: claim for claim in (*transfer.predict(TINY).claims, *width.predict(TINY).claims)}
    assert (claims["transfer_mlp_maximal"].predicted, claims["transfer_mlp_maximal"].rival) == (0.0, -1.0)
    assert (claims["width_mean"].predicted, claims["width_scatter"].predicted) == (-1.0, -0.5)
    assert len(training.MARKERS) == len(feature_learning.Config().widths)


@pytest.mark.slow
def test_the_transformer_needs_no_change_and_starts_at_chance(tmp_path):
    """Its scores fall as 1/d, so nothing is advised; a small readout gives log 16 nats; one step of Adam runs."""
    given = transfer.model("transformer", 4, 0)
    how = transfer.parameterized("maximal", given, 64)
    assert how.advice == ()
    assert how.roles["embed"] == "embedding"
    assert {how.roles[name] for name in ("qkv", "project", "up", "down")} == {"hidden"}
    x = given.batch[0]
    assert (int(x.max()) < 16, x.shape) == (True, (4, 12))
    config = replace(TINY, out=tmp_path, models=("transformer",), examples=4, transfer_widths=(32,), rates=(1e-9, 0.1))
    losses = transfer.sweep(config, "transformer").loss.sel(rule="maximal", width=32).mean("seed").values
    assert abs(losses[0] - np.log(16)) < 0.5
    assert losses[1] != losses[0]
