"""The papers that docstrings name, and their entries in `references.bib`."""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

BIBLIOGRAPHY = Path(__file__).parents[1] / "references.bib"
_NAME = r"(?:(?:d'|de |De |del |Van |von |O')*[A-ZÁÉŠŁØÖÇ][\w'’-]+)"
_JOIN = r"(?:,? and |, )"
_YEARS = r"\((\d{4}(?:, \d{4})*)(?:, ([^()\d][^()]*))?\)|(?<= )(\d{4})\b(?!\))"
MENTION = re.compile(rf"({_NAME}(?:{_JOIN}(?:del )?{_NAME})*(?: et al\.)?) (?:{_YEARS})")


class Entry(NamedTuple):
    """One paper or book."""

    key: str
    authors: tuple[str, ...]
    year: str
    title: str
    where: str
    doi: str
    arxiv: str

    @property
    def surnames(self) -> tuple[str, ...]:
        return tuple(author.split(",")[0] for author in self.authors)


@cache
def plain(name: str) -> str:
    """Letters without accents, in lower case, to compare names."""
    spread = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("ł", "l").replace("Ł", "L"))
    return "".join(c for c in spread if c.isalnum()).lower()


@cache
def bibliography(path: Path = BIBLIOGRAPHY) -> dict[str, Entry]:
    """Entries by key. The file keeps one field a line and accents as they are, so that it reads without a library."""
    found = {}
    for key, body in re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", path.read_text(), re.S | re.M):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, re.M))
        where = fields.get("journal") or fields.get("booktitle") or fields.get("publisher") or ""
        authors = tuple(fields["author"].split(" and "))
        title, doi, arxiv = fields["title"], fields.get("doi", ""), fields.get("eprint", "")
        found[key] = Entry(key, authors, fields["year"], title, where, doi, arxiv)
    return found


@cache
def matches(names: str, year: str) -> list[Entry]:
    """Entries whose year is `year` and whose authors begin with those named; "et al." stands for any others."""
    more = names.endswith(" et al.")
    wanted = [plain(name) for name in re.split(_JOIN, names.removesuffix(" et al."))]

    def fits(entry: Entry) -> bool:
        authors = [plain(name) for name in entry.surnames]
        return entry.year == year and (authors[: len(wanted)] == wanted if more else authors == wanted)

    return [entry for entry in bibliography().values() if fits(entry)]


class Mention(NamedTuple):
    """Names as printed, one year, the whole text, and what follows the year in the parentheses: a title."""

    names: str
    year: str
    text: str
    title: str = ""


def mentions(text: str) -> list[Mention]:
    """The papers named in a text, "Belkin, Hsu, Xu (2020)" or "Nacson et al. (2019)", one for each year."""
    found = MENTION.finditer(" ".join(text.split()))
    return [
        Mention(match.group(1), year, match.group(0), match.group(3) or "")
        for match in found
        for year in (match.group(2) or match.group(4)).split(", ")
    ]


def resolve(mention: Mention) -> list[Entry]:
    """The entries of a mention. Leading words that are no author ("Langevin, Suzuki, Wu (2023)") are dropped."""
    names = re.split(f"({_JOIN})", mention.names)
    while names:
        if found := matches("".join(names), mention.year):
            titled = [entry for entry in found if mention.title and entry.title.startswith(mention.title)]
            return titled or found
        names = names[2:]
    return []


def link(text: str) -> str:
    """Escaped reStructuredText in which each paper is a link to its entry, unless names and year fit several teams."""

    def one(match: re.Match[str]) -> str:
        (first, *_) = found = mentions(match.group(0)) or [None]
        entries = resolve(first) if first and len(found) == 1 else []
        if len({entry.authors for entry in entries}) != 1:
            return match.group(0)
        return f":ref:`{match.group(0)} <ref-{entries[0].key}>`"

    return MENTION.sub(one, text)
