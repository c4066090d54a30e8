"""Topics at once: the same results as one after another, and what breaks in one process is told by the others."""

import os
from pathlib import Path

import pytest
from stand_in_topics import compute

from jaxtheory.lecture import processes
from jaxtheory.lecture.claims import ConfigurationError


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_breaks_does_not_stop_the_others(jobs, capfd):
    configs = {"one": 1, "broken": 2, "three": 3}
    found = dict(processes.results(compute, configs, jobs))
    assert str(found.pop("broken")) == "no 2"
    assert ("a bar" in capfd.readouterr().err) == (jobs == 1)  # bars of several processes would write over each other
    seen = {name: (result.topic, result.dataset) for name, result in found.items()}
    assert seen == {"one": ("one", Path("1")), "three": ("three", Path("3"))}
    assert all((result.figure == Path(str(os.getpid()))) == (jobs == 1) for result in found.values())


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_user_can_put_right_ends_all_at_once(jobs):
    with pytest.raises(ConfigurationError, match="another configuration"):
        dict(processes.results(compute, {"folder": 0, "endless": 1}, jobs))


@pytest.mark.slow
def test_a_killed_process_is_told_with_what_helps():
    found = dict(processes.results(compute, {"killed": 0, "endless": 1}, 2))
    assert {str(error) for error in found.values()} == {
        "a process was killed, perhaps for its memory; the same with --jobs 1 keeps what is finished"
    }


def test_a_process_needs_a_core_and_memory(monkeypatch):
    monkeypatch.setattr(processes, "_MEMORY", 1)
    assert processes.fitting(1) == 1
    assert 1 <= processes.fitting(100) <= os.cpu_count()
    monkeypatch.setattr(processes, "_MEMORY", 2**60)
    assert processes.fitting(100) == 1
