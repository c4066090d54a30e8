"""What the README shows, exists."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_api_in_twenty_lines_imports_what_exists():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20
    compile(code, "README.md", "exec")
    exec("\n".join(re.findall(r"^(?:import|from) .*$", code, re.M)), {})


def test_there_are_exactly_two_commands():
    section = README.read_text().split("## Two commands")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.S)
    assert [block.count("\n") for block in blocks] == [1, 1]


@pytest.mark.parametrize("path", re.findall(r"(?:scripts|docs|jaxtheory/\w+)/\w+\.\w+", README.read_text()))
def test_files_it_names_exist(path):
    assert (README.parent / path).exists()
