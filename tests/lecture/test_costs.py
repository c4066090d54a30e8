"""What a preset cost here is told before it runs again, in its help and by the command."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import xarray as xr

from jaxtheory import figures
from jaxtheory.lecture import Claim, Claims, Topic, command, costs
from jaxtheory.lecture.site import explorer

pytestmark = pytest.mark.smoke


@dataclass(frozen=True)
class Config:
    """A topic that measures a constant."""

    preset: Literal["quick", "paper"] = "quick"
    out: Path = Path("runs/area")
    seed: int = 0
    x64: bool = False
    size: int = 3

    @classmethod
    def of(cls, preset):
        return replace(cls(), preset=preset)


def draw(dataset, claims):
    figure, (ax,) = figures.canvas()
    figures.points(ax, [0], [float(dataset.area)])
    return figure


def measure(config):
    """An area."""
    return xr.Dataset({"area": 3.14159})


AREA = Topic(
    "area", Config, lambda config: Claims((Claim("area", "area", "Archimedes", 3.1416, "rounding", 1e-4),), {}),
    measure, draw,
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "keep_compilations", lambda: None)
    return tmp_path / "cache" / "jaxtheory" / "costs.jsonl"


def test_a_run_of_a_preset_is_recorded_once_and_told_before_the_next(tmp_path, capsys, cache):
    arguments = ["--out", str(tmp_path / "run")]
    assert command.main(AREA, arguments) == 0
    assert "area, quick: no run recorded on this machine yet" in capsys.readouterr().out
    assert command.main(AREA, arguments) == 0  # complete: nothing is measured, told or recorded
    assert "quick:" not in capsys.readouterr().out
    assert command.main(AREA, ["--out", str(tmp_path / "other"), "--size", "4"]) == 0  # not the preset's size
    assert len(cache.read_text().splitlines()) == 1
    cost = costs.last("area", "quick")
    assert (cost.topic, cost.preset) == ("area", "quick")
    assert 0 <= cost.seconds < 300
    assert cost.memory > 2**20
    assert costs.last("area", "paper") is None


def test_help_tells_what_the_presets_cost(capsys):
    costs.record(AREA, Config(), "1 × cpu", 41.6, 3 * 2**29)
    with pytest.raises(SystemExit):
        command.parse(AREA, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "about 42 s and up to 1.50 GiB" in text.replace("│ ", "").replace(" │", "")
    assert "area, paper: no run recorded" in text.replace("│ ", "").replace(" │", "")


def test_the_whole_lecture_sums_its_topics(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(explorer, "write", lambda path: path)
    monkeypatch.setattr(command, "TOPICS", {"area": AREA, "disc": AREA._replace(name="disc")})
    costs.record(AREA, Config(seed=3), "1 × cpu", 20.0, 2**30)
    costs.record(AREA, Config(), "1 × cpu", 30.0, 2**30)  # the last run counts
    assert command.main_all(["--out", str(tmp_path), "--jobs", "1"]) == 0
    assert "quick: about 30 s and up to 1.00 GiB, by the last runs of 1 of 2 topics" in capsys.readouterr().out


def test_topics_at_once_begin_with_the_longest_and_those_unknown():
    for name, seconds in (("area", 20.0), ("disc", 30.0)):
        costs.record(AREA._replace(name=name), Config(), "1 × cpu", seconds, 2**30)
    assert costs.longest_first(("area", "disc", "ball"), "quick") == ["ball", "disc", "area"]


def test_lines_that_are_no_costs_and_folders_that_cannot_be_written_are_passed_over(cache, monkeypatch, tmp_path):
    costs.record(AREA, Config(), "1 × cpu", 20.0, 2**30)
    with cache.open("a") as file:
        file.write('{"topic": "area"}\n{"top')
    assert costs.last("area", "quick").seconds == 20.0
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    costs.record(AREA, Config(), "1 × cpu", 20.0, 2**30)
    assert costs.last("area", "quick") is None
