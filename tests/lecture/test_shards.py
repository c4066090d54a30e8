"""Which topics can be shared among the runs of a job array, and that each of their sweeps is."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from jaxtheory import lecture, sweeps
from jaxtheory.lecture import mixed_smoothness
from jaxtheory.lecture.topic import settings
from jaxtheory.sweeps.content import digest

SWEEPING = {name: topic for name, topic in lecture.TOPICS.items() if topic.sweep is not None}


@pytest.mark.parametrize("name", SWEEPING)
@pytest.mark.first_case
def test_every_sweep_of_a_topic_does_the_share_that_is_asked_for(name, monkeypatch, tmp_path):
    asked = []

    def run(*args, shard, **options):
        asked.append((options["out"], shard))
        return xr.Dataset({"status": ("point", np.zeros(3, np.int32))})

    monkeypatch.setattr(sweeps, "run", run)
    config = replace(SWEEPING[name].Config(), out=tmp_path, x64=False, shard="3/4")
    swept = SWEEPING[name].sweep(config)
    assert asked == [(tmp_path / f"{part}.zarr", "3/4") for part in swept]


def test_six_topics_sweep():
    assert set(SWEEPING) == {"besov", "mixed-smoothness", "adaptivity", "kernel-regression", "double-descent", "ntk"}


@pytest.mark.parametrize("name", SWEEPING)
def test_where_and_in_which_share_a_topic_runs_is_no_part_of_its_points(name, tmp_path):
    """Else every share would warn that the code of the points is not what filled the store."""
    config = SWEEPING[name].Config()
    assert digest(config) == digest(replace(config, out=tmp_path, shard="0/2")) != digest(replace(config, seed=7))


def test_a_share_is_not_judged_and_is_no_other_configuration(tmp_path):
    whole = mixed_smoothness.Config(out=tmp_path)
    config = replace(whole, shard="0/2")
    with pytest.raises(ValueError, match="shard must be None where claims are judged"):
        lecture.run(mixed_smoothness.TOPIC, config)
    assert settings(config) == settings(whole)


def test_a_topic_without_sweeps_has_no_shares(tmp_path):
    topic = lecture.TOPICS["depth"]
    with pytest.raises(ValueError, match="topic must measure by sweeps"):
        lecture.share(topic, replace(topic.Config(), out=tmp_path))
