"""Both topics about expressivity end to end, at sizes for tests."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.lecture import depth, expressivity, run
from jaxtheory.lecture.depth import separation


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    return run(
        expressivity.TOPIC,
        replace(tiny_topics.TINY["expressivity"].config, out=tmp_path_factory.mktemp("expressivity")),
    )


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    return run(depth.TOPIC, replace(tiny_topics.TINY["depth"].config, out=tmp_path_factory.mktemp("depth")))


def verdicts(outcome):
    return {verdict.claim.name: verdict for verdict in outcome.verdicts}


@pytest.mark.slow
def test_expressivity_keeps_its_promises(shallow):
    """What holds at any size: laws, bounds, exact integers; rates and training need the presets' sizes."""
    found = verdicts(shallow)
    assert all(np.isfinite(verdict.measured) for verdict in found.values())
    exact = {"random_2_8", "random_2_512", "superposition_5", "blur_10", "increment", "sprecher", "digit"}
    assert {name for name, verdict in found.items() if verdict.holds} >= exact
    assert shallow.figure.stat().st_size > 10_000


@pytest.mark.slow
def test_depth_keeps_its_promises(layers):
    """Certificates hold for barely trained networks too, and the explicit networks are the same at every size."""
    found = verdicts(layers)
    assert all(verdict.holds for verdict in found.values())
    assert found.keys() >= {"three_20", "gap_20", "growth", "adversary_2", "pieces", "montufar", "slice"}
    assert "gap_5" not in found  # the certificate is void there, and says nothing


@pytest.mark.slow
def test_depth_counts_neurons_by_audit(layers):
    dataset = xr.open_zarr(layers.dataset, consolidated=False).load()
    assert dataset.neurons.values.tolist() == [
        separation._neurons(dim, separation._size(depth.Config(), dim)) for dim in (5, 10, 20)
    ]  # fmt: skip


def test_published_sizes_are_those_of_the_paper_preset():
    assert depth.Config.of("paper").starts == 64
    assert (expressivity.Config.of("paper").draws, expressivity.Config.of("paper").x64) == (2000, True)
