"""The pages: everything that is linked is there, headings are in order, images say what they show."""

import importlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import xarray as xr

from jaxtheory import figures
from jaxtheory.lecture import Claim, Claims, Topic, judge, run, site
from jaxtheory.lecture.registry import TOPICS
from jaxtheory.lecture.site import markup, picture

VOID = {"meta", "link", "img", "source", "input", "br", "hr", "mspace"}


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


class Page(HTMLParser):
    """Tags with their attributes, text, and whether every tag is closed in order."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def named(self, *tags):
        return [attrs for tag, attrs in self.tags if tag in tags]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("site")
    outcome = run(SMALL, Config(out=path / "ntk"))
    shutil.copy(outcome.figure, outcome.figure.parent / "neurons.gif")  # any animation is shown
    site.write(path, [outcome], {})
    return path


PAGES = ("index.html", "ntk.html", "explorer.html")


@pytest.mark.parametrize("name", PAGES)
def test_every_link_and_image_is_there(folder, name):
    page = Page(folder / name)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    places = [attrs.get("href") or attrs.get("src") or attrs.get("srcset") for attrs in
              page.named("a", "img", "source", "link", "script")]  # fmt: skip
    for place in filter(None, places):
        if place.startswith("#"):
            assert place[1:] in ids
        elif not place.startswith(("https://", "data:")):
            assert (folder / place).is_file(), place


@pytest.mark.parametrize("name", PAGES)
def test_pages_can_be_read_without_seeing_them(folder, name):
    """One first heading, no level left out, alternative texts, names of controls, a language and a viewport."""
    page = Page(folder / name)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels), default=0) <= 1
    assert all(len(attrs.get("alt", "")) > 20 for attrs in page.named("img"))
    assert page.named("html")[0]["lang"] == "en"
    assert any(attrs.get("name") == "viewport" for attrs in page.named("meta"))
    assert page.open == []


def test_a_topic_page_tells_theorem_claims_and_how_to_repeat(folder):
    page = Page(folder / "ntk.html")
    words = " ".join(page.words)
    assert page.named("math")
    for part in ("one & <two>", "Simulation against law", "Formula against formula", "another law", "FAILS",
                 "jaxtheory lecture ntk --preset quick --seed 0", "float32", "start"):  # fmt: skip
        assert part in words, part
    links = [attrs["href"] for attrs in page.named("a")]
    for place in ("ntk/figure.pdf", "ntk/measurements.zarr.zip", "#someone-2001-thm-1", "ntk/figure-2.svg"):
        assert place in links
    assert "ntk/neurons.gif" in [attrs["src"] for attrs in page.named("img")]


def test_the_archive_is_the_dataset(folder, tmp_path):
    shutil.unpack_archive(folder / "ntk" / "measurements.zarr.zip", tmp_path)
    assert float(xr.open_zarr(tmp_path, consolidated=False).one) == 1.05


@pytest.mark.parametrize("name", TOPICS)
def test_every_topic_has_its_words_and_its_functions_exist(name):
    """Three sentences, a formula that is well-formed, a description of each figure, and functions with a docstring."""
    words = site.text(name)
    assert words.title != name
    assert words.shows.count(". ") == 2
    checker = Page.__new__(Page)
    HTMLParser.__init__(checker)
    checker.tags, checker.open, checker.words = [], [], []
    checker.feed(words.formula)
    assert checker.open == []
    assert checker.tags[0][0] == "math"
    assert all(len(alt) > 60 for alt in words.alt)
    for path in words.functions:
        module, _, function = path.rpartition(".")
        assert getattr(importlib.import_module(module), function).__doc__


def test_the_explorer_holds_the_laws(folder):
    """Against closed forms: kernel flow at γ₀ → 0, no signal without weights in the limit, the peak at N = n."""
    text = (folder / "explorer.html").read_text(encoding="utf-8")
    held = json.loads(re.search(r'id="numbers">(.*?)</script>', text).group(1))
    rich = held["richness"]
    np.testing.assert_allclose(rich["output"][0], 1 - np.exp(-2 * np.array(rich["time"])), atol=1e-4)
    assert np.all(np.diff(np.array(rich["output"])[:, 20]) > 0)
    surface = held["surface"]
    noise = np.array(surface["noise"][0])
    assert surface["ratio"][int(noise.argmax())] == 1.0
    phases = held["phases"]
    one = np.array(phases["correlation"])[0]
    i, j = phases["weight"].index(1.5), len(phases["bias"]) - 1
    erf = lambda q, c: 2 / np.pi * np.arcsin(2 * q * c / (1 + 2 * q))  # noqa: E731
    expected = (1.5**2 * erf(1, 0.5) + 1) / (1.5**2 * erf(1, 1) + 1)
    assert abs(one[j, i] - expected) < 1e-3


def test_dark_figures_turn_greys_and_keep_colours():
    turned = picture.dark('<svg fill="#000000" stroke="#D55E00" color="#ffffff" href="#abcdefg"/>')
    assert 'fill="#ededed"' in turned
    assert 'color="#171717"' in turned
    assert "#abcdefg" in turned
    assert 'stroke="#000000"' not in turned
    assert re.search(r'stroke="#ff[0-9a-f]{4}"', turned)


def test_equal_figures_give_equal_files(tmp_path):
    first, second = (picture.save_svg(figures.canvas()[0], tmp_path / name)[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_claims_are_grouped_by_study_in_the_order_they_come():
    claims = predict(Config()).claims
    data = xr.Dataset({"one": 1.0, "two": 1.0, "three": 1.0})
    verdicts = judge([claims[0], claims[0]._replace(name="two", statement="end: last"),
                      claims[0]._replace(name="three", statement="start: again")], data)  # fmt: skip
    table = markup.claims(verdicts)
    assert table.count("<table>") == 2
    assert table.index("again") < table.index("last")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>
addEventListener("error", (event) => { document.title = "ERROR " + event.message; });
addEventListener("load", () => {
  const wide = document.documentElement.scrollWidth, room = document.documentElement.clientWidth;
  const broken = [...document.images].filter((image) => image.complete && image.naturalWidth === 0).length;
  let moved = "none";
  const pens = [...document.querySelectorAll("canvas")];
  if (pens.length) {
    const before = pens.map((canvas) => canvas.toDataURL());
    for (const input of document.querySelectorAll("input[type=range]")) {
      input.value = String(Number(input.value) > Number(input.min) ? input.min : input.max);
      input.dispatchEvent(new Event("input"));
    }
    moved = pens.filter((canvas, i) => canvas.toDataURL() !== before[i]).length + " of " + pens.length;
  }
  const report = document.createElement("p");
  report.id = "report";
  report.textContent = JSON.stringify({ over: wide - room, room, broken, moved, title: document.title });
  document.body.append(report);
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_in_a_browser(folder, tmp_path, name, width):
    """No error, no broken image, nothing wider than the screen, and sliders move their curves.

    The page stands in a frame of that width, since a headless window is never narrower than 500 pixels.
    """
    shutil.copytree(folder, tmp_path / "site")
    shutil.copy(Path(__file__).parents[2] / "docs" / "double_descent.png", tmp_path / "site" / "ntk" / "neurons.gif")
    path = tmp_path / "site" / name
    path.write_text(path.read_text(encoding="utf-8").replace("<head>", f"<head>{PROBE}", 1), encoding="utf-8")
    outer = tmp_path / "site" / "frame.html"
    outer.write_text(
        f'<!doctype html><body style="margin:0"><iframe src="{name}" style="width:{width}px;height:900px;border:0">'
        "</iframe><script>addEventListener('load', () => { setTimeout(() => { const p = document.createElement('p');"
        "p.textContent = 'FOUND' + frames[0].document.getElementById('report').textContent + 'END';"
        "document.body.append(p); }, 300); });</script>"
    )
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
               "--enable-logging=stderr", "--virtual-time-budget=5000", "--window-size=1400,1000",
               f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", outer.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    report = json.loads(re.search(r"FOUND(\{.*?\})END", done.stdout).group(1))
    assert report["room"] >= width - 20
    assert report["over"] <= 0
    assert report["broken"] == 0
    assert not report["title"].startswith("ERROR")
    assert report["moved"] == ("3 of 3" if name == "explorer.html" else "none")
