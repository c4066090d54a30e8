"""The networks' topic end to end at a size for tests: curves, claims, and a run that continues."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.lecture import double_descent_networks as topic
from jaxtheory.lecture import run
from jaxtheory.lecture.double_descent_networks import descents
from jaxtheory.lecture.study import kept

TINY = tiny_topics.TINY["double-descent-networks"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(topic.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured(outcome):
    assert {v.claim.name for v in outcome.verdicts} >= {
        "peak_ratio",
        "modern",
        "more_data",
        "flow_bump",
        "network_rise",
    }
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    exact = [verdict for verdict in outcome.verdicts if verdict.claim.name.startswith("flow")]
    assert len(exact) == 3
    assert all(verdict.holds for verdict in exact)


@pytest.mark.slow
def test_curves_and_continuation(outcome):
    """Every width, seed, step and number of samples; parts that are there are read and not measured again."""
    dataset = xr.open_zarr(outcome.dataset, consolidated=False).load()
    assert dataset.test_loss.sizes == {"width": 3, "seed": 2, "step": 4}
    assert dataset.samples_loss.sizes == {"samples": 2, "width": 3, "seed": 2}
    folder = outcome.dataset.parent
    marked = kept(folder, "noisy", lambda: pytest.fail("measured again"))
    np.testing.assert_array_equal(marked.test_loss, dataset.test_loss)


def test_the_law_has_two_descents():
    """Falls, rises by more than a tenth, and ends lower than it was at its first minimum."""
    curve = np.array(topic.TOPIC.predict(TINY).curves["flow"])
    first, bump = descents._first_minimum(curve), descents._bump(curve)
    assert 0 < first < bump < len(curve) - 1
    assert curve[0] > 1.1 * curve[first]
    assert curve[bump] > 1.1 * curve[first]
    assert curve[-1] < curve[first]
    assert (np.diff(curve[: first + 1]) < 0).all()
    assert (np.diff(curve[first : bump + 1]) > 0).all()
    # at the very end the slow group fits its own noise, of power slow · σ²/n
    assert curve[-1] - curve[bump:].min() < descents._FLOW.slow * descents._FLOW.noise / descents._FLOW.samples


def test_published_sizes_are_those_of_the_paper_preset():
    paper = topic.Config.of("paper")
    assert (paper.images, paper.samples, paper.preset) == ("mnist", 4000, "paper")
