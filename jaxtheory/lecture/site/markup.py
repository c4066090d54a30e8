"""HTML by hand: escaped text, tables of claims, pages with one frame."""

import html
import re
from collections.abc import Sequence
from itertools import groupby

from jaxtheory.lecture.claims import HEADER, Verdict, cells

TITLE = "The mathematics of deep learning, measured"


def page(title: str, body: str, *, scripts: str = "") -> str:
    """A whole document: language, viewport, style, a link past the navigation, and a footer."""
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n"
        '<link rel="icon" href="data:,">\n<link rel="stylesheet" href="assets/site.css">\n</head>\n'
    )
    top = (
        '<a class="skip" href="#main">Skip to the content</a>\n<header><nav aria-label="Pages">'
        '<a href="index.html">All topics</a> <a href="explorer.html">Explorer</a></nav></header>\n'
    )
    return f'{head}<body>\n{top}<main id="main">\n{body}\n</main>\n{scripts}</body>\n</html>\n'


def escape(text: object) -> str:
    """Text for HTML, in attributes too."""
    return html.escape(str(text), quote=True)


def anchor(text: str) -> str:
    """A name for a link within a page.

    >>> anchor("Mei, Montanari (2022), Thm 2")
    'mei-montanari-2022-thm-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def picture(source: str, alt: str, *, loading: str = "eager") -> str:
    """A figure for light pages, and its dark twin."""
    dark = source.removesuffix(".svg") + "-dark.svg"
    return (
        f'<picture><source srcset="{escape(dark)}" media="(prefers-color-scheme: dark)">'
        f'<img src="{escape(source)}" alt="{escape(alt)}" loading="{loading}"></picture>'
    )


def study(verdict: Verdict) -> tuple[str, str]:
    """The study that a claim belongs to, and what is claimed within it: "study: statement"."""
    before, colon, after = verdict.claim.statement.partition(": ")
    return (before, after) if colon else ("", before)


def claims(verdicts: Sequence[Verdict]) -> str:
    """Tables of claims, one a study: simulations against laws first, formulas against formulas after them."""
    parts = []
    for kind, heading in (
        ("simulation", "Simulation against law"),
        ("formula", "Formula against formula"),
    ):
        chosen = [verdict for verdict in verdicts if verdict.claim.kind == kind]
        if chosen:
            parts.append(f"<h3>{heading}</h3>")
            order = {name: i for i, name in reversed(list(enumerate(study(v)[0] for v in chosen)))}
            chosen.sort(key=lambda verdict: order[study(verdict)[0]])
            parts += [_table(name, list(rows)) for name, rows in groupby(chosen, lambda v: study(v)[0])]
    return "\n".join(parts)


def _table(name: str, verdicts: list[Verdict]) -> str:
    columns = [column for column in HEADER if column != "kind"]
    header = "".join(f'<th scope="col">{column}</th>' for column in columns)
    rows = "\n".join(map(_row, verdicts))
    caption = f"<caption>{escape(name)}</caption>" if name else '<caption class="hidden">Claims</caption>'
    return f"<table>{caption}<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"


def _row(verdict: Verdict) -> str:
    statement, source = study(verdict)[1], verdict.claim.source
    values = dict(zip(HEADER, cells(verdict), strict=True))
    link = f'<a href="#{anchor(source)}">{escape(source)}</a>'
    tone = "holds" if verdict.holds else "fails"
    parts = [f'<th scope="row">{escape(statement)}</th>', f'<td data-label="source">{link}</td>']
    parts += [
        f'<td data-label="{column}">{escape(values[column]) or "–"}</td>'
        for column in ("predicted", "measured", "tolerance", "rival")
    ]
    parts.append(f'<td data-label="verdict" class="{tone}">{escape(values["verdict"])}</td>')
    return f"<tr>{''.join(parts)}</tr>"
