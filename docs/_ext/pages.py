"""Pages made from the code: the API, the bibliography, the index from papers to functions, and the topics."""

import inspect
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import ModuleType

from docstrings import escape
from inventory import Public, modules, names, rooms
from sources import Entry, bibliography, mentions, resolve

DIRECTIVE = {"class": "autoclass", "function": "autofunction", "data": "autodata"}


def heading(text: str, mark: str = "=") -> list[str]:
    return [text, mark * len(text), ""]


def first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").split("\n")[0]


def short(module: ModuleType) -> str:
    return module.__name__.removeprefix("jaxtheory.")


def homes() -> dict[int, Public]:
    """Where each object is documented, by its id: the first module that lists it. Elsewhere its page says so."""
    found: dict[int, Public] = {}
    for module in modules():
        for public in names(module):
            if public.kind != "data":
                found.setdefault(id(public.value), public)
    return found


def api_entry(public: Public, home: Public) -> list[str]:
    """The directive of one public name."""
    if home.path != public.path:
        directive = "py:class" if public.kind == "class" else "py:function"
        signature = "" if public.kind == "class" else "(...)"
        head = [f".. {directive}:: {public.name}{signature}", f"   :module: {public.module}", ""]
        return [*head, f"   The same as {reference(home)}.", ""]
    lines = [f".. {DIRECTIVE[public.kind]}:: {public.module}::{public.name}"]
    return [*lines, *(["   :no-value:"] if public.kind == "data" else []), ""]


def api_page(module: ModuleType, below: list[ModuleType], home: dict[int, Public]) -> list[str]:
    """The docstring of a module, then an entry for each public name."""
    lines = [*heading(short(module)), f".. automodule:: {module.__name__}", "   :no-members:", ""]
    if below:
        lines += [".. toctree::", "   :maxdepth: 1", "", *(f"   {short(each)}" for each in below), ""]
    for kind, title in (("function", "Functions"), ("class", "Classes"), ("data", "Types and constants")):
        found = [public for public in names(module) if public.kind == kind]
        lines += heading(title, "-") if found else []
        for public in found:
            lines += api_entry(public, home.get(id(public.value), public))
    return lines


@cache
def functions_by_paper() -> dict[str, list[tuple[Public, str]]]:
    """Key of a paper to the public objects whose docstring names it, with the words around its name."""
    found: dict[str, list[tuple[Public, str]]] = defaultdict(list)
    for module in modules():
        for public in names(module):
            if public.kind == "data":
                continue
            text = " ".join((inspect.getdoc(public.value) or "").split())
            for mention in mentions(text):
                place = text.split(mention.text, 1)[1]
                where = re.match(r"(?:,| for|,? section| in)? ?([^;:>]*?)(?=[;:>]|\. |\.$|$)", place)
                words = where.group(1).strip(" ,") if where and place.startswith((",", " section")) else ""
                for entry in resolve(mention):
                    if all(public.path != known.path for known, _ in found[entry.key]):
                        found[entry.key].append((public, words))
    return found


def cite(entry: Entry) -> str:
    """One line of the bibliography."""
    people = " and ".join(f"{given.strip()} {name}" for name, _, given in (a.partition(",") for a in entry.authors))
    links = [f"`doi:{entry.doi} <https://doi.org/{entry.doi}>`__"] if entry.doi else []
    links += [f"`arXiv:{entry.arxiv} <https://arxiv.org/abs/{entry.arxiv}>`__"] if entry.arxiv else []
    where = f" {escape(entry.where)}." if entry.where else ""
    return f"{escape(people)} ({entry.year}). *{escape(entry.title)}*.{where} {' '.join(links)}".rstrip()


def reference(public: Public) -> str:
    role = "class" if public.kind == "class" else "func"
    return f":py:{role}:`{public.path.removeprefix('jaxtheory.')} <{public.path}>`"


def bibliography_page() -> list[str]:
    """Every entry, with the functions that name it."""
    lines = heading("Bibliography")
    lines += ["Every paper and book that a docstring names; `docs/references.bib` has the entries for BibTeX.", ""]
    used = functions_by_paper()
    for entry in sorted(bibliography().values(), key=lambda entry: (entry.surnames, entry.year)):
        lines += [f".. _ref-{entry.key}:", "", cite(entry), ""]
        if entry.key in used:
            lines += [f"   Used by {', '.join(reference(public) for public, _ in used[entry.key])}.", ""]
    return lines


def theorems_page() -> list[str]:
    """A table for each room: paper and place, function, what it computes."""
    lines = heading("From a theorem to its function")
    lines += ["The functions whose docstrings name a paper, with the place in the paper they name.", ""]
    rows: dict[str, set[tuple[str, str, str, str]]] = defaultdict(set)
    for key, found in functions_by_paper().items():
        entry = bibliography()[key]
        several = "" if len(entry.authors) < 3 else " et al."
        paper = f"{' and '.join(entry.surnames) if not several else entry.surnames[0]}{several} ({entry.year})"
        for public, words in found:
            room = public.module.split(".")[1]
            rows[room].add((f":ref:`{paper} <ref-{key}>`", escape(words), reference(public), first_line(public.value)))
    for room in sorted(rows):
        lines += [*heading(room, "-"), ".. list-table::", "   :header-rows: 1", "   :widths: 22 20 23 35", ""]
        header = ("Paper", "Where", "Function", "What it computes")
        for row in (header, *((a, b, c, escape(d)) for a, b, c, d in sorted(rows[room]))):
            lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
        lines += [""]
    return lines


def topics_page() -> list[str]:
    """The lecture: what each topic states, and the commands that measure it."""
    from jaxtheory.lecture.registry import TOPICS

    lines = heading("Topics of the lecture")
    lines += [
        "Each topic states its predictions first, measures, and writes verdicts and a figure. All of them run by "
        "``jaxtheory lecture``; one by its name, for example ``jaxtheory lecture saddles``.",
        "",
    ]
    for name in TOPICS:
        home = inspect.getmodule(inspect.unwrap(TOPICS[name].predict))
        doc = (inspect.getdoc(home) or "").split("\n")
        lines += [*heading(name, "-"), f"**{escape(doc[0])}**", ""]
        lines += [*([escape(" ".join(" ".join(doc[2:]).split())), ""] if len(doc) > 2 else [])]
        lines += [".. code-block:: sh", "", f"   jaxtheory lecture {name}", ""]
    return lines


def write(folder: Path) -> None:
    """Write all pages, leaving those that have not changed."""
    everything = list(modules())
    inside = {m.__name__: [n for n in everything if n.__name__.rpartition(".")[0] == m.__name__] for m in everything}
    home = homes()
    pages = {f"api/{short(module)}": api_page(module, inside[module.__name__], home) for module in everything}
    index = [*heading("API"), "Every public name of every module.", "", ".. toctree::", "   :maxdepth: 1", ""]
    pages["api/index"] = [*index, *(f"   {short(room)}" for room in rooms()), ""]
    pages |= {"bibliography": bibliography_page(), "theorems": theorems_page(), "topics": topics_page()}
    for name, lines in pages.items():
        path = folder / f"{name}.rst"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(lines)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
