"""Measures the code: types, functions, files and imports of each room, as a table.

    python scripts/measure_code.py [folder]

Columns: lines; files and the longest; `Any` and `isinstance` for each thousand lines; functions with a body over 40
lines (docstring left out); functions with more than 6 positional parameters; the longest chain of imports in the room.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

LONG_BODY, MANY_PARAMETERS = 40, 6


class Row(NamedTuple):
    """What is measured of one room."""

    room: str
    lines: int
    files: int
    longest_file: int
    any_per_kloc: float
    isinstance_per_kloc: float
    long_functions: int
    wide_functions: int
    import_chain: int


def measure(package: Path) -> list[Row]:
    """One row for each room (a module or folder directly below the package) and one for the whole."""
    rooms: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        rooms[path.relative_to(package).parts[0].removesuffix(".py")].append(path)
    everything = [path for paths in rooms.values() for path in paths]
    return [_row(room, paths, package) for room, paths in [*rooms.items(), ("(all)", everything)]]


def _row(room: str, paths: list[Path], package: Path) -> Row:
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    counts = {path: text.count("\n") + 1 for path, text in texts.items()}
    total = sum(counts.values())
    functions = [node for text in texts.values() for node in _functions(ast.parse(text))]
    return Row(
        room,
        total,
        len(paths),
        max(counts.values()),
        1000 * sum(len(re.findall(r"\bAny\b", text)) for text in texts.values()) / total,
        1000 * sum(text.count("isinstance(") for text in texts.values()) / total,
        sum(_body_lines(node) > LONG_BODY for node in functions),
        sum(_positional(node) > MANY_PARAMETERS for node in functions),
        _longest_chain({_module(path, package): _imports(text, package.name) for path, text in texts.items()}),
    )


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _body_lines(node: ast.FunctionDef) -> int:
    documentation = ast.get_docstring(node, clean=False)
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    return lines - (documentation.count("\n") + 1 if documentation else 0)


def _positional(node: ast.FunctionDef) -> int:
    return len([a for a in node.args.posonlyargs + node.args.args if a.arg not in ("self", "cls")])


def _module(path: Path, package: Path) -> str:
    return ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")


def _imports(text: str, package: str) -> set[str]:
    """The modules of the package that a file imports when it is imported."""
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _longest_chain(graph: dict[str, set[str]]) -> int:
    """The most modules that import one another in a row; a package stands for its modules, and is no link itself."""

    @cache
    def depth(name: str) -> int:
        others = {other for other in graph[name] & set(graph) if not any(n.startswith(other + ".") for n in graph)}
        return 1 + max((depth(other) for other in others - {name}), default=0)

    return max(map(depth, graph))


def main() -> None:
    """Print the table."""
    rows = measure(Path(sys.argv[1] if len(sys.argv) > 1 else "jaxtheory"))
    names = ("room", "lines", "files", "longest", "Any/k", "isinst./k", "long", "wide", "chain")
    print(" ".join(f"{name:>14}" if i == 0 else f"{name:>9}" for i, name in enumerate(names)))
    for row in rows:
        cells = [f"{value:9.1f}" if isinstance(value, float) else f"{value:>9}" for value in row[1:]]
        print(f"{row.room:>14}", *cells)


if __name__ == "__main__":
    main()
