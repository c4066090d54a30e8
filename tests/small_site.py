"""A site of one topic of two numbers, under the name of a topic that has a page."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import xarray as xr

from jaxtheory import figures
from jaxtheory.lecture import Claim, Claims, Topic, run, site

PAGES = ("index.html", "ntk.html", "explorer.html")


@dataclass(frozen=True)
class Config:
    """A topic of two numbers, under the name of one with a page."""

    preset: Literal["quick", "paper"] = "quick"
    out: Path = Path("runs/ntk")
    seed: int = 0
    x64: bool = False

    @classmethod
    def of(cls, preset):
        return cls(preset=preset)


def predict(config):
    base = Claim("one", "start: one & <two>", "Someone (2001), Thm 1", 1.0, "rounding", tolerance=0.1, rival=2.0,
                 rival_law="another law")  # fmt: skip
    exact = base._replace(name="two", statement="no study here", source="Another (2002)", kind="formula", rival=None)
    return Claims((base, exact), {})


def draw(dataset, claims):
    figure, (ax,) = figures.canvas()
    figures.points(ax, [0, 1], [float(dataset.one), 2.0])
    return [figure, figures.canvas()[0]]


SMALL = Topic("ntk", Config, predict, lambda config: xr.Dataset({"one": 1.05, "two": 7.0}), draw)


def make(path):
    """The folder of its pages."""
    outcome = run(SMALL, Config(out=path / "ntk"))
    shutil.copy(outcome.figure, outcome.figure.parent / "neurons.gif")  # any animation is shown
    site.write(path, [outcome], {})
    return path
