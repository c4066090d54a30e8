"""What the README and docs/devices.md show, exists."""

import importlib
import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import pytest
from conftest import relaxed_promotion

from jaxtheory.lecture.command import parse

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
DEVICES = (DOCS / "devices.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


@pytest.mark.example
def test_three_things_to_try_run_as_printed(capsys):
    """One after another, as a reader would paste them; the third shows the peak where features equal samples."""
    scope = {}
    for code in SNIPPETS[:3]:
        assert sum(bool(line.strip()) for line in code.splitlines()) <= 6
        with relaxed_promotion():
            exec(code, scope)
    assert scope["theta"].shape == (20, 20)
    assert float(jnp.abs(scope["gp"].mean - jnp.sin((scope["x"] + 0.1).sum(1))).mean()) < 0.1
    below, peak, above = scope["path"].test_mse[jnp.array([50, 199, 599])]
    assert peak > 2 * max(below, above)
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_the_sweep_and_the_law_import_what_exists():
    assert len(SNIPPETS) == 4
    code = SNIPPETS[3]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20
    compile(code, "README.md", "exec")
    exec("\n".join(re.findall(r"^(?:import|from) .*$", code, re.M)), {})


def test_there_are_exactly_two_commands():
    section = README.read_text().split("## Two commands")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.S)
    assert [block.count("\n") for block in blocks] == [1, 1]


@pytest.mark.parametrize("path", re.findall(r"(?:scripts|docs|jaxtheory/\w+)/\w+\.\w+", README.read_text() + DEVICES))
def test_files_it_names_exist(path):
    assert (README.parent / path).exists()


PAGES = [README, README.parent / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_the_snippets_about_devices_import_what_exists():
    snippets = re.findall(r"```python\n(.*?)```", DEVICES, re.S)
    assert len(snippets) == 3
    for code in snippets:
        compile(code, "devices.md", "exec")
        exec("\n".join(re.findall(r"^(?:import|from) .*$", code, re.M)), {})


def test_eight_devices_do_what_is_shown():
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", DEVICES, re.S) if "make_mesh" in part)
    scope = {}
    exec(code.replace("1024", "64").replace("512", "16").replace("8192", "64"), scope)
    for result in (scope["gram"], scope["theta"], scope["run"].state.cloud.particles):
        assert len(result.sharding.device_set) == 8


@pytest.mark.parametrize("line", re.findall(r"^python scripts/.*--preset paper.*$", DEVICES, re.M))
def test_its_scripts_take_the_options_shown(line):
    _, script, *options = shlex.split(line)
    topic = importlib.import_module(f"jaxtheory.lecture.{Path(script).stem}").TOPIC
    assert parse(topic, options).preset == "paper"


def test_the_topics_said_to_take_a_shard_do():
    (told,) = re.findall(r"`--shard` is there where.*?\. ", DEVICES, re.S)
    for name in re.findall(r"`(\w+)\.py`", told):
        assert parse(importlib.import_module(f"jaxtheory.lecture.{name}").TOPIC, ["--shard", "1/2"]).shard == "1/2"
