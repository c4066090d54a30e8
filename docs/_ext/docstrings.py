"""A docstring of this package as reStructuredText: equations stay as they are typed, everything else is escaped."""

import re
from collections.abc import Callable, Iterator

SECTIONS = ("Args:", "Returns:", "Raises:", "Yields:")
_ITEM = re.compile(r"^([A-Za-z_*`][\w*`.,| ]*): (.*)$", re.S)
_CODE = re.compile(r"``(.+?)``|`([^`]+)`")


def escape(text: str) -> str:
    """Text without markup; parts in backticks become code."""
    parts, end = [], 0
    for match in _CODE.finditer(text):
        code = (match.group(1) or match.group(2)).strip()
        before = "" if match.start() == 0 or text[match.start() - 1].isspace() else r"\ "
        after = "" if match.end() == len(text) or text[match.end()].isspace() else r"\ "
        parts += [re.sub(r"([\\*_|`<>])", r"\\\1", text[end : match.start()]), f"{before}``{code}``{after}"]
        end = match.end()
    return "".join([*parts, re.sub(r"([\\*_|`<>])", r"\\\1", text[end:])])


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines without an empty one between them; a section keeps its indented body with its header."""
    current: list[str] = []
    for line in [*lines, ""]:
        if line.strip() and current and current[0] in SECTIONS and not line.startswith(" "):
            yield current
            current = []
        if line.strip() and current and (line in SECTIONS or line.startswith(">>> ")) and current[0][:3] != ">>>":
            yield current
            current = []
        if line.strip():
            current.append(line)
        elif current:
            yield current
            current = []


def items(body: list[str]) -> Iterator[str]:
    """Entries of a section: a line at the least indentation begins one, deeper lines continue it."""
    least = min(len(line) - len(line.lstrip()) for line in body)
    entry: list[str] = []
    for line in body:
        if entry and len(line) - len(line.lstrip()) == least:
            yield " ".join(entry)
            entry = []
        entry.append(line.strip())
    yield " ".join(entry)


def bullets(block: list[str]) -> Iterator[str]:
    """Entries of a list written with hyphens."""
    entry = ""
    for line in block:
        if line.startswith("- ") and entry:
            yield entry
            entry = ""
        entry = f"{entry} {line.strip()}".strip()
    yield entry


def literal(block: list[str]) -> list[str]:
    """Equations and tables, as they are typed."""
    least = min(len(line) - len(line.lstrip()) for line in block)
    return [".. code-block:: none", "", *(f"    {line[least:]}" for line in block), ""]


def to_rst(lines: list[str], link: Callable[[str], str] = lambda text: text) -> list[str]:
    """The docstring `lines`, cleaned of indentation, with `link` applied to escaped prose."""

    def prose(text: str) -> str:
        return link(escape(text))

    found: list[str] = []
    for block in blocks(lines):
        head = block[0]
        if head in SECTIONS and len(block) > 1:
            found += [f"**{head[:-1]}**", ""]
            for entry in items(block[1:]):
                named = _ITEM.match(entry)
                text = f"**{escape(named.group(1))}**: {prose(named.group(2))}" if named else prose(entry)
                found += [f"- {text}"]
            found += [""]
        elif head.startswith(">>>"):
            found += [".. code-block:: pycon", "", *(f"    {line}" for line in block), ""]
        elif head.startswith(" "):
            first_prose = next((i for i, line in enumerate(block) if not line.startswith(" ")), len(block))
            found += literal(block[:first_prose])
            found += [prose(" ".join(block[first_prose:])), ""] if first_prose < len(block) else []
        elif head.startswith("- "):
            found += [*(f"- {prose(entry[2:])}" for entry in bullets(block)), ""]
        else:
            text = " ".join(line.strip() for line in block)
            for part in re.split(r"(?<=[.;]) (?=(?:Cost|Source|Sources|Derivatives): )", text):
                found += [prose(part), ""]
    return found
