"""The site is complete: every public name, every paper, every page; and what its pages show runs."""

import ast
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import relaxed_promotion

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))

import docstrings  # noqa: E402
import inventory  # noqa: E402
import pages  # noqa: E402
import sources  # noqa: E402

GUIDES = ["models", "results", "derivatives"]
TUTORIALS = sorted(path for path in (DOCS / "tutorials").glob("*.md") if path.stem != "index")


def lists_of_names():
    """`__all__` of every public module by its source text: module, names."""
    for path in sorted((ROOT / "jaxtheory").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        text = path.read_text()
        for node in ast.parse(text).body if "__all__" in text else ():
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                yield module, ast.literal_eval(node.value)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages made from the code."""
    folder = tmp_path_factory.mktemp("generated")
    pages.write(folder)
    return folder


def test_every_public_name_is_on_one_page(site):
    """Names from the text of `__all__`, not from what the generator found."""
    text = "".join(path.read_text() for path in (site / "api").glob("*.rst"))
    found = Counter(f"{module}.{name}" for module, name in re.findall(r"^\.\. auto\w+:: (\S+)::(\S+)$", text, re.M))
    aliases = re.findall(r"^\.\. py:\w+:: (\w+)(?:\(\.\.\.\))?\n   :module: (\S+)$", text, re.M)
    found.update(f"{module}.{name}" for name, module in aliases)
    documented = set(re.findall(r"^\.\. automodule:: (\S+)$", text, re.M))
    rooms = {path.stem for path in (ROOT / "jaxtheory").iterdir() if (path / "__init__.py").exists()}
    expected = {
        f"{module}.{name}"
        for module, names in lists_of_names()
        if module in documented or module.removeprefix("jaxtheory.") in rooms
        for name in names
    }
    assert len(expected) > 500
    missing = expected - documented - set(found)
    # a module listed by another one has its page under its own name
    assert all(pkgutil.resolve_name(name).__name__ in documented for name in missing), sorted(missing)
    assert max(found.values()) == 1


def test_the_glossary_leads_to_functions_by_authors_names():
    """Each name behind a term or an author exists, and what readers of papers look for is listed."""
    text = (DOCS / "glossary.md").read_text()
    for name in re.findall(r"`([a-z_]+(?:\.\w+)+)", text):
        assert pkgutil.resolve_name(f"jaxtheory.{name}"), name
    rows = re.findall(r"^\| (.+?) \|", text, re.M)
    assert not {"Telgarsky", "kernel alignment", "Hanin–Nica", "Huang–Yau"} - set(rows)


def test_every_page_made_from_code_is_in_a_table_of_contents(site):
    linked = set()
    for path in [*site.rglob("*.rst")]:
        for tree in re.findall(r"^\.\. toctree::\n(.*?)(?=^\S|\Z)", path.read_text(), re.S | re.M):
            names = re.findall(r"^   ([\w.]+)$", tree, re.M)
            linked |= {(path.parent / f"{name}.rst").relative_to(site) for name in names}
    made = {path.relative_to(site) for path in site.rglob("*.rst")}
    assert made - linked == {Path(f"{name}.rst") for name in ("bibliography", "theorems", "topics", "api/index")}


def test_every_paper_that_a_docstring_names_is_in_the_bibliography():
    missing = {}
    for module in inventory.modules():
        for public in [inventory.Public(module.__name__, "", module), *inventory.names(module)]:
            for mention in sources.mentions(getattr(public.value, "__doc__", "") or ""):
                if not sources.resolve(mention) and not mention.names.startswith("RFC"):
                    missing[mention.text] = public.path
    assert not missing


def test_entries_of_the_bibliography_are_whole():
    text = (DOCS / "references.bib").read_text()
    entries = sources.bibliography()
    assert text.count("\n@") + text.startswith("@") == len(entries) > 250
    for entry in entries.values():
        assert entry.title
        assert 1900 < int(entry.year) < 2030
        assert entry.key.startswith(sources.plain(entry.surnames[0]) + entry.year)
        assert not entry.arxiv or re.fullmatch(r"\d{4}\.\d{4,5}|(cs|math|cond-mat)/\d{7}", entry.arxiv)
        assert not entry.doi or entry.doi.startswith("10.")
    works = [(entry.surnames, entry.title) for entry in entries.values()]
    assert len(set(works)) == len(works)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Belkin, Hsu, Xu (2020), theorem 1", ["belkin2020"]),
        ("Donoho and Johnstone (1994, 1995)", ["donoho1994", "donoho1995"]),
        ("mean-field Langevin, Suzuki, Wu, Nitanda (2023)", ["suzuki2023"]),
        ("d'Ascoli, Refinetti, Biroli, Krzakala (2020)", ["dascoli2020"]),
        ("Álvarez-Esteban, del Barrio, Cuesta-Albertos, Matrán (2016)", ["alvarezesteban2016"]),
        ("Chizat (2022, Sparse optimization on measures), algorithm 1", ["chizat2022b"]),
        ("from 2010 on, or RFC 3720", []),
    ],
)
def test_papers_are_found_in_prose(text, keys):
    found = [entry.key for mention in sources.mentions(text) for entry in sources.resolve(mention)[:1]]
    assert found == keys


def test_docstrings_keep_their_equations_and_lose_no_word():
    text = """Norm |x|_2 of `x`s.

    y = |x|_2 * z

Args:
    x, y: points_ *here*.
        More of them.
    z: others.

Cost: O(n). Source: Belkin, Hsu, Xu (2020).

>>> 1 + 1
2"""
    lines = docstrings.to_rst(text.splitlines(), sources.link)
    assert lines[0] == r"Norm \|x\|\_2 of ``x``\ s."
    assert "    y = |x|_2 * z" in lines
    assert r"- **x, y**: points\_ \*here\*. More of them." in lines
    assert "Source: :ref:`Belkin, Hsu, Xu (2020) <ref-belkin2020>`." in lines
    assert lines[lines.index("    >>> 1 + 1") - 2] == ".. code-block:: pycon"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_compile_and_end_in_a_figure(path):
    cells = re.findall(r"^```\{code-cell\}\n(.*?)^```", path.read_text(), re.S | re.M)
    compile("\n".join(cells), path.name, "exec")
    assert any("figure" in cell for cell in cells[-1:])
    assert path.stem in (DOCS / "tutorials" / "index.md").read_text().split()


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_guides_run_as_printed(name):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", (DOCS / "guides" / f"{name}.md").read_text(), re.S | re.M))
    with relaxed_promotion():
        exec(compile(code, f"{name}.md", "exec"), {})


@pytest.mark.slow
def test_the_program_of_two_processes_runs_as_printed(tmp_path):
    text = (DOCS / "guides" / "two_processes.md").read_text()
    (code,), (command,) = (
        re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M) for language in ("python", "sh")
    )
    (tmp_path / "two.py").write_text(code)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    ours = [line for line in done.stdout.splitlines() if not line.startswith("[Gloo]")]  # Gloo says who is connected
    assert sorted(ours) == ["0 4 True", "1 4 True"], done.stderr
