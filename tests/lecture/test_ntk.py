"""The topic of the tangent kernel end to end at a size for tests, and its predictions against simulation."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_topics
import xarray as xr
from tolerances import assert_close

from jaxtheory.lecture import ntk, run

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


def test_published_sizes_are_those_of_the_paper_preset():
    paper = ntk.Config.of("paper")
    assert (paper.draws, paper.rich_seeds, max(paper.widths)) == (10000, 20, 16384)
