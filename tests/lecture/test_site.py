"""The pages: everything that is linked is there, headings are in order, images say what they show."""

import importlib
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import small_site
import xarray as xr
from small_site import PAGES, Config, predict

from jaxtheory import figures
from jaxtheory.lecture import judge, site
from jaxtheory.lecture.registry import TOPICS
from jaxtheory.lecture.site import markup, picture

VOID = {"meta", "link", "img", "source", "input", "br", "hr", "mspace"}


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
    return small_site.make(tmp_path_factory.mktemp("site"))


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
