"""One page with every figure beside its claims."""

import html
import os
from collections.abc import Sequence
from pathlib import Path

from jaxtheory.lecture.claims import Verdict, cells
from jaxtheory.lecture.topic import Outcome

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222 }
img { max-width: 100% } table { border-collapse: collapse; width: 100%; font-size: 85% }
th, td { text-align: left; vertical-align: top; padding: .3em .6em; border-bottom: 1px solid #ddd }
.holds { color: #00664b } .fails { color: #b33c00; font-weight: bold }
"""


def write(path: Path, outcomes: Sequence[Outcome], failures: dict[str, str]) -> Path:
    """Write index.html: a section a topic, its figure and its table of claims; topics that broke say how.

    Args:
        path: the page; figures are linked relative to it.
        outcomes: topics that ran.
        failures: topic to the error that stopped it.

    Returns:
        `path`.
    """
    sections = [_section(outcome, path.parent) for outcome in outcomes]
    sections += [f"<h2>{html.escape(n)}</h2><p class=fails>{html.escape(error)}</p>" for n, error in failures.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>jaxtheory: the lecture</title><style>{_STYLE}</style>"
    )
    path.write_text(head + "<h1>The mathematics of deep learning, measured</h1>" + "".join(sections), encoding="utf-8")
    return path


def _section(outcome: Outcome, folder: Path) -> str:
    image = html.escape(Path(os.path.relpath(outcome.figure, folder)).as_posix())
    rows = "".join(map(_row, outcome.verdicts))
    names = ("claim", "source", "predicted", "measured", "tolerance", "verdict")
    header = "".join(f"<th>{name}</th>" for name in names)
    title = html.escape(outcome.topic)
    return f'<h2>{title}</h2><img src="{image}" alt="{title}"><table><tr>{header}</tr>{rows}</table>'


def _row(verdict: Verdict) -> str:
    *plain, last = map(html.escape, cells(verdict))
    data = "".join(f"<td>{cell}</td>" for cell in plain)
    return f'<tr>{data}<td class="{"holds" if verdict.holds else "fails"}">{last}</td></tr>'
