"""The pages: all topics as cards, and each topic with its theorem, figure, claims and how to repeat it."""

import importlib
import inspect
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from urllib.parse import quote_plus

from jaxtheory.lecture.site import explorer, markup
from jaxtheory.lecture.site.markup import anchor, escape, page, picture
from jaxtheory.lecture.site.text import Text, text
from jaxtheory.lecture.topic import Outcome

_ASSETS = ("site.css", "explorer.js")


def write(folder: Path, outcomes: Sequence[Outcome], failures: Mapping[str, str]) -> Path:
    """Write the site of the topics that ran so far; what is there of an earlier call is replaced.

    Args:
        folder: gets index.html, explorer.html, a page a topic, and assets.
        outcomes: topics that ran; their figures and data are linked where they are.
        failures: topic to the error that stopped it.

    Returns:
        The front page.

    Cost: the first call computes the explorer's arrays, some seconds; each further one writes text.
    """
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    source = resources.files("jaxtheory.lecture.site") / "assets"
    for name in _ASSETS:
        (folder / "assets" / name).write_text((source / name).read_text(encoding="utf-8"), encoding="utf-8")
    explorer.write(folder / "explorer.html")
    for outcome in outcomes:
        (folder / f"{outcome.topic}.html").write_text(topic_page(outcome, folder), encoding="utf-8")
    front = folder / "index.html"
    front.write_text(front_page(outcomes, failures, folder), encoding="utf-8")
    return front


def front_page(outcomes: Sequence[Outcome], failures: Mapping[str, str], folder: Path) -> str:
    """What the lecture is, and a card for each topic: its figure, its first sentence, how many claims hold."""
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
    held = sum(verdict.holds for verdict in verdicts)
    body = [
        f"<h1>{markup.TITLE}</h1>",
        "<p>Each topic takes a theorem, writes down what it predicts, and only then measures. "
        "Lines in the figures are theory, points are measurements. "
        f"Of {len(verdicts)} claims in {len(outcomes)} topics, {held} hold.</p>",
        '<p>The <a href="explorer.html">explorer</a> has three of the laws with sliders.</p>',
        "<h2>Topics</h2>",
        '<ul class="cards">',
        *[_card(outcome, folder) for outcome in outcomes],
        "</ul>",
    ]
    if failures:
        broken = [f"<li><strong>{escape(name)}</strong>: {escape(error)}</li>" for name, error in failures.items()]
        body += ["<h2>Topics that stopped with an error</h2>", '<ul class="fails">', *broken, "</ul>"]
    return page(f"jaxtheory: {markup.TITLE.lower()}", "\n".join(body))


def _card(outcome: Outcome, folder: Path) -> str:
    words, held = text(outcome.topic), sum(verdict.holds for verdict in outcome.verdicts)
    image = picture(_link(_drawings(outcome)[0], folder), words.alt[0], loading="lazy")
    first = words.shows.split(". ")[0].rstrip(".")
    sentence = f"<p>{escape(first)}.</p>" if first else ""
    tone = "holds" if held == len(outcome.verdicts) else "fails"
    return (
        f'<li>{image}<h3><a href="{escape(outcome.topic)}.html">{escape(words.title)}</a></h3>{sentence}'
        f'<p class="{tone}">{held} of {len(outcome.verdicts)} claims hold</p></li>'
    )


def topic_page(outcome: Outcome, folder: Path) -> str:
    """Three sentences, the theorem, figures, claims, sources, functions, and how to repeat it."""
    words = text(outcome.topic)
    drawings = _drawings(outcome)
    alts = [*words.alt, *[words.alt[-1]] * len(drawings)]
    shown = [
        f'<figure><div class="scroll" tabindex="0" role="group" aria-label="Figure">'
        f'<a href="{escape(_link(path, folder))}">{picture(_link(path, folder), alt)}</a></div>'
        f"<figcaption>{escape(alt)} Lines: theory; points: measured.</figcaption></figure>"
        for path, alt in zip(drawings, alts, strict=False)
    ]
    films = sorted(outcome.figure.parent.glob("*.gif"))
    shown += [
        f'<figure><img src="{escape(_link(path, folder))}" alt="Animation: {escape(path.stem)} over training time." '
        f'loading="lazy"><figcaption>Animation: {escape(path.stem)} over training time.</figcaption></figure>'
        for path in films
    ]
    body = [
        f"<h1>{escape(words.title)}</h1>",
        f"<p>{escape(words.shows)}</p>" if words.shows else "",
        _theorem(words),
        "<h2>Measured</h2>",
        *shown,
        "<h2>Claims</h2>",
        "<p>A claim holds if the measurement lies within the tolerance of the prediction, and the tolerance does not "
        "reach the rival.</p>",
        markup.claims(outcome.verdicts),
        "<h2>Sources</h2>",
        _sources(outcome, words),
        _functions(words),
        "<h2>Repeat it</h2>",
        _repeat(outcome, folder),
    ]
    return page(f"{words.title} – jaxtheory", "\n".join(part for part in body if part))


def _theorem(words: Text) -> str:
    if not words.formula:
        return ""
    return (
        f'<h2>The theorem</h2>\n<p>{escape(words.theorem)}</p>\n<div class="theorem" tabindex="0" role="group" '
        f'aria-label="Formula">{words.formula.strip()}</div>\n'
        f'<p class="source"><a href="#{anchor(words.source)}">{escape(words.source)}</a></p>'
    )


def _sources(outcome: Outcome, words: Text) -> str:
    """Each source once, with a search for it: that link does not go stale."""
    named = dict.fromkeys([words.source] if words.source else [])
    named |= dict.fromkeys(verdict.claim.source for verdict in outcome.verdicts)
    rows = [
        f'<li id="{anchor(name)}">{escape(name)} '
        f'(<a href="https://scholar.google.com/scholar?q={quote_plus(name)}" rel="external" '
        f'aria-label="search for {escape(name)}">search</a>)</li>'
        for name in {anchor(name): name for name in named}.values()
    ]
    return f"<ul>{''.join(rows)}</ul>"


def _functions(words: Text) -> str:
    """The public functions used, each with its documentation, which opens on the page."""
    if not words.functions:
        return ""
    rows = []
    for path in words.functions:
        module, _, name = path.rpartition(".")
        told = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        rows.append(
            f"<details><summary><code>{escape(path)}</code>: {escape(told.splitlines()[0])}</summary>"
            f'<pre tabindex="0">{escape(told)}</pre></details>'
        )
    return "<h2>Functions</h2>\n" + "\n".join(rows)


def _repeat(outcome: Outcome, folder: Path) -> str:
    place = outcome.figure.parent
    config = json.loads((place / "predictions.json").read_text(encoding="utf-8"))["config"]
    ran = json.loads((place / "run.json").read_text(encoding="utf-8"))
    command = f"jaxtheory lecture {outcome.topic} --preset {config['preset']} --seed {config['seed']}"
    facts = {
        "Version": f"jaxtheory {ran['version']}, JAX {ran['jax']}",
        "Device": ran["device"],
        "Seed": config["seed"],
        "Precision": "float64" if config["x64"] else "float32",
        "Time": f"{ran['seconds']:.0f} s, compilation included",
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    files = {"Figure (PDF)": outcome.figure.with_suffix(".pdf"), "Figure (PNG)": outcome.figure}
    files |= {"Data (zipped Zarr)": _zipped(outcome.dataset), "Predictions (JSON)": place / "predictions.json"}
    files |= {"Verdicts (text)": place / "verdicts.txt"}
    links = "".join(
        f'<li><a href="{escape(_link(path, folder))}" download>{escape(name)}</a></li>' for name, path in files.items()
    )
    return f'<pre tabindex="0"><code>{escape(command)}</code></pre>\n<dl>{rows}</dl>\n<ul class="files">{links}</ul>'


def _drawings(outcome: Outcome) -> list[Path]:
    """The topic's figures for light pages, the first one first."""
    found = [path for path in outcome.figure.parent.glob("figure*.svg") if not path.stem.endswith("-dark")]
    return sorted(found, key=lambda path: path.stem)


def _zipped(dataset: Path) -> Path:
    """The store as one file, made anew where the store is newer."""
    archive = dataset.with_name(f"{dataset.name}.zip")
    if not archive.exists() or archive.stat().st_mtime < dataset.stat().st_mtime:
        shutil.make_archive(str(dataset), "zip", dataset)
    return archive


def _link(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
