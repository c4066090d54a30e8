"""What the README and docs/devices.md show, exists."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from jaxtheory.lecture.command import parse

README = Path(__file__).parents[1] / "README.md"
DEVICES = (README.parent / "docs" / "devices.md").read_text()


def test_the_api_in_twenty_lines_imports_what_exists():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
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
