"""Run the code cells of tutorials as a program: `python docs/tutorials/execute.py NAME... [--figures FOLDER]`.

Without names it runs all of them. Prints the seconds each takes.
"""

import argparse
import re
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.md") if path.stem != "index")


def code(name: str) -> str:
    """The cells of a tutorial, one after another."""
    return "\n".join(re.findall(r"^```\{code-cell\}.*?\n(.*?)^```", (HERE / f"{name}.md").read_text(), re.S | re.M))


def run(name: str) -> dict:
    """The names that a tutorial leaves behind."""
    scope: dict = {"__name__": name}
    exec(compile(code(name), f"{name}.md", "exec"), scope)
    return scope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    for name in given.names or NAMES:
        begin = time.perf_counter()
        scope = run(name)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
        if given.figures:
            given.figures.mkdir(parents=True, exist_ok=True)
            scope["figure"].savefig(given.figures / f"{name}.png", dpi=70)
        plt.close("all")


if __name__ == "__main__":
    main()
