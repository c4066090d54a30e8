"""Child of test_limits: a sweep whose disk fills up, then the same sweep with room."""

import pathlib
import resource
from typing import Any

import jax

from jaxtheory import sweeps
from jaxtheory.sweeps import store


def point(ridge, seed, key):
    return {"path": sweeps.named(ridge * jax.random.normal(key, (50,)), "time")}


GRID = sweeps.grid(ridge=[0.1, 1.0, 10.0, 100.0, 1e3, 1e4], seed=range(6))


def main(full: str, roomy: str) -> dict[str, Any]:
    """Fill the disk once `status` has been written twice, resume, and compare with an uninterrupted run."""
    replace, commit, limits = pathlib.Path.replace, store.commit, resource.getrlimit(resource.RLIMIT_FSIZE)
    commits = []

    def filling(self: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        moved = replace(self, target)
        if "status/c/1/" in str(target):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        return moved

    def counted(*arguments: object) -> int:
        commits.append(arguments)
        return commit(*arguments)

    pathlib.Path.replace, error = filling, None
    try:
        sweeps.run(point, GRID, out=full, progress=False)
    except OSError as raised:
        error = str(raised)
    pathlib.Path.replace = replace
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    committed = sum(file.is_file() for file in (pathlib.Path(full) / "status" / "c").rglob("*"))
    store.commit = counted
    sweeps.run(point, GRID, out=full, progress=False)
    recomputed = len(commits)
    sweeps.run(point, GRID, out=roomy, progress=False)
    chunks = len(commits) - recomputed
    return {"error": error, "committed": committed, "recomputed": recomputed, "chunks": chunks}
