"""The topic of the tangent kernel end to end at a size for tests, and its predictions against simulation."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_topics
import xarray as xr
from tolerances import assert_close

from jaxtheory.lecture import ntk, run
from jaxtheory.lecture.ntk.start import one_hidden_layer

TINY = tiny_topics.TINY["ntk"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(ntk.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured(outcome):
    assert len(outcome.verdicts) == 13
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    holds = {verdict.claim.name: verdict.holds for verdict in outcome.verdicts}
    # what does not depend on size holds at any size
    assert holds["mean"]
    assert holds["round_off"]


@pytest.mark.slow
def test_curves_have_their_dimensions(outcome):
    dataset = xr.open_zarr(outcome.dataset, consolidated=False)
    assert dataset.drift_kernel.sizes == {"drift_activation": 2, "drift_width": 2, "drift_seed": 3}
    assert dataset.lazy_network.sizes == {"lazy_width": 2, "lazy_seed": 2, "lazy_step": 41, "lazy_block": 4}
    assert dataset.rich_ntk.sizes == {"rich_seed": 2, "rich_time": 7}
    assert_close(dataset.lazy_kernel.isel(lazy_step=0).values, np.ones((2, 2, 4)), dtype="float32")


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.5, 0.9])
def test_predicted_moments_are_those_of_one_unit(cosine):
    """2 [phi phi' + a^2 phi. phi.' cos] over 4e5 draws of one unit, within 4 standard errors."""
    rng, count = np.random.default_rng(0), 400_000
    u, v, a = rng.standard_normal((3, count))
    v = cosine * u + np.sqrt(1 - cosine**2) * v
    draws = 2 * (np.maximum(u, 0) * np.maximum(v, 0) + a**2 * (u > 0) * (v > 0) * cosine)
    mean, deviation = one_hidden_layer(cosine)
    assert abs(draws.mean() - mean) < 4 * draws.std() / count**0.5
    squares = (draws - mean) ** 2
    assert abs(squares.mean() - deviation**2) < 4 * squares.std() / count**0.5


def test_published_sizes_are_those_of_the_paper_preset():
    paper = ntk.Config.of("paper")
    assert (paper.draws, paper.rich_seeds, max(paper.widths)) == (10000, 20, 16384)
