"""Child of test_kill: forks a process for each planned kill, then resumes every store in one more.

Forking after the imports, and before any device is touched, makes a kill cost the run itself and not the imports.
"""

import functools
import json
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable

import jax

from scripts import kill_sweeps

sweep = functools.partial(kill_sweeps.sweep, ridges=24, seeds=10)  # 12 chunks of 20 points


def die(how: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), how)
    time.sleep(60)  # the signal is on its way


def arm(mode: str, count: float) -> None:
    """Plan this process' death: at its `count`-th write after the first commit, or `count` seconds after it.

    "temporary" leaves half of a temporary file, "torn" half of a chunk where the whole should be (a file system
    whose rename is not atomic), "between" dies where all data is written and status is not, "terminated" too, by
    SIGTERM; "creation" counts from the start.
    """
    replace, seen = pathlib.Path.replace, []

    def counted(self: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        counts = mode == "creation" or any("status/c/" in str(earlier) for earlier in seen)
        seen.append(target)
        if counts and mode != "moment":
            arm.left -= mode not in ("between", "terminated") or "status/c/" in str(target)
            if arm.left == 0:
                end(self, target)
        if mode == "moment":
            time.sleep(0.005)
        moved = replace(self, target)
        if mode == "moment" and sum("status/c/" in str(earlier) for earlier in seen) == 1:
            threading.Timer(count, die).start()
        return moved

    def end(temporary: pathlib.Path, target: pathlib.Path) -> None:
        if mode in ("temporary", "creation"):
            os.truncate(temporary, temporary.stat().st_size // 2)
        if mode == "torn":
            target.write_bytes(temporary.read_bytes()[: temporary.stat().st_size // 2])
            temporary.unlink()
        die(signal.SIGTERM if mode == "terminated" else signal.SIGKILL)

    arm.left = count
    pathlib.Path.replace = counted


def forked(work: Callable[[], None]) -> int:
    """The signal that ended a forked process, 0 where it ended by itself."""
    _, status = os.waitpid(kill_sweeps.started(work), 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def state(out: pathlib.Path) -> dict[str, int]:
    """What a kill left: committed chunks, data written beyond them, files cut short, temporary files."""
    sizes = {"status": 84, "bits": 84, "path": 80_004, "provenance/environment": 84, "provenance/checksum": 12}
    chunks = {name: [file for file in (out / name / "c").rglob("*") if file.is_file()] for name in sizes}
    whole = {name: [file for file in files if file.suffix != ".partial"] for name, files in chunks.items()}
    return {
        "committed": len(whole["status"]),
        "written": min(len(files) for name, files in whole.items() if name != "status"),
        "torn": sum(file.stat().st_size < sizes[name] for name, files in whole.items() for file in files),
        "temporary": len(list(out.rglob("*.partial"))),
    }


def main(where: str, plans: str) -> None:
    """Each plan is a store's name and its kills in turn; prints what each left."""
    jax.config.update("jax_num_cpu_devices", 2)
    root, report = pathlib.Path(where), {}

    def killed(out: pathlib.Path, mode: str, count: float) -> None:
        arm(mode, count)
        sweep(out)
        time.sleep(10)  # a moment drawn after the end

    def finished() -> None:
        for name in ["uninterrupted", *json.loads(plans)]:
            sweep(root / name)

    for name, kills in json.loads(plans).items():
        report[name] = []
        for mode, count in kills:
            end = forked(lambda out=root / name, mode=mode, count=count: killed(out, mode, count))
            report[name].append({"mode": mode, "signal": end} | state(root / name))
    report["resumed"] = forked(finished)
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
