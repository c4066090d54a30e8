"""Sphinx extension: docstrings of this package for autodoc, and a check that every public name has its page."""

import inspect
import re

from docstrings import to_rst
from inventory import fields, modules, names
from sources import link
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def process(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Replace the lines of a docstring by reStructuredText, and add what a NamedTuple, dataclass or Enum holds."""
    text = inspect.cleandoc("\n".join(lines)).splitlines()
    found = to_rst(text, link)
    if held := fields(value):
        word = "Members" if hasattr(value, "__members__") else "Fields"
        found += [f"**{word}**: {', '.join(f'``{field}``' for field in held)}", ""]
    lines[:] = found


def shorten(
    app: Sphinx, what: str, name: str, value: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """The signature with `Array` in place of the name of its private home."""
    short = (text and re.sub(r"\b(?:jax\.)?jaxlib\._jax\.", "", text) for text in (signature, returns))
    first, second = short
    return first, second


def complete(app: Sphinx, env: object) -> None:
    """Fail where a public name is on no page."""
    documented = set(app.env.get_domain("py").data["objects"])
    expected = {public.path for module in modules() for public in names(module)}
    if missing := sorted(expected - documented):
        raise ExtensionError(f"public names without an entry on an API page: {', '.join(missing)}")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", shorten)
    app.connect("env-check-consistency", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
