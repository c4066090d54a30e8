"""What a topic's page says in words: read from topics/<name>.toml beside this module."""

import tomllib
from importlib import resources
from typing import NamedTuple


class Text(NamedTuple):
    """The words of a page.

    `shows` is three sentences; `theorem` is what is assumed and said, in words, before `formula`, which is MathML;
    `alt` says what each figure shows, for who cannot see it; `functions` are the public functions that it uses.
    """

    title: str
    shows: str
    theorem: str
    formula: str
    source: str
    alt: list[str]
    functions: list[str]


def text(name: str) -> Text:
    """The words of a topic; for a topic without a file, its name alone.

    >>> text("ntk").title
    'The tangent kernel'
    >>> text("another").title
    'another'
    """
    path = resources.files("jaxtheory.lecture.site") / "topics" / f"{name}.toml"
    if not path.is_file():
        return Text(name, "", "", "", "", [f"The figure of the topic {name}."], [])
    return Text(**tomllib.loads(path.read_text(encoding="utf-8")))
