"""The command line: `jaxtheory lecture [TOPIC ...]`, `sweep status PATH`, `benchmark`, or `python -m jaxtheory ...`.

Each command is a function of its arguments that returns an exit code; a new one is an entry here.
"""

import importlib
import sys
from collections.abc import Sequence

import jaxtheory

COMMANDS = {
    "lecture": "jaxtheory.lecture.command:main_all",
    "sweep": "jaxtheory.sweeps.command:main",
    "benchmark": "jaxtheory.benchmark.command:main",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what was asked, 2 if it cannot be understood.

    >>> main(["--version"])
    jaxtheory 0.1.0
    0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"jaxtheory {jaxtheory.__version__}")
        return 0
    if not given or given[0] not in COMMANDS:
        asked = given[:1] in (["-h"], ["--help"])
        usage = f"usage: jaxtheory {{{','.join(COMMANDS)}}} ...\n       jaxtheory --version"
        print(usage, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    module, function = COMMANDS[given[0]].split(":")
    return getattr(importlib.import_module(module), function)(given[1:])
