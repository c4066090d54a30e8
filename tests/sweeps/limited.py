"""Child of test_limits: forks a process for each limit, so that each costs its run and not the imports."""

import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

from scripts.kill_sweeps import started


def reported(file: pathlib.Path, work: Callable[..., Any], *arguments: str) -> None:
    """The report of a run that had a process of its own, as JSON."""

    def run() -> None:
        warnings.simplefilter("error")
        file.write_text(json.dumps(work(*arguments)))

    _, status = os.waitpid(started(run), 0)
    assert status == 0, f"{file.stem} ended with status {status}"


def main(where: str) -> None:
    folder = pathlib.Path(where)
    reported(folder / "full.json", full.main, f"{where}/full.zarr", f"{where}/roomy.zarr")
    reported(folder / "memory.json", memory.main, f"{where}/memory.zarr")
    reported(folder / "endless.json", endless.main, f"{where}/endless.zarr")
    reported(folder / "again.json", endless.main, f"{where}/endless.zarr")


if __name__ == "__main__":
    import endless  # beside this file, where a script finds them and a test collector does not
    import full
    import memory

    main(*sys.argv[1:])
