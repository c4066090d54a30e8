"""How far a sweep's store is, from the outside: also of one that runs, on this machine or another."""

import json
import os
import time
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from jaxtheory.checks import require
from jaxtheory.results import Status
from jaxtheory.sweeps import layout as layouts
from jaxtheory.sweeps import places, store
from jaxtheory.sweeps.layout import Layout
from jaxtheory.sweeps.store import Store

_RECENT = 50  # commits that the rate is taken from
_PAUSE = 10  # intervals so many times the median are pauses between runs


class Report(NamedTuple):
    """Points of a store: all, done, and those done whose status is not OK, by status; how fast, and what is left.

    `seconds_per_point` comes from the times of the last chunks, pauses left out, and `idle` is the time since the last
    of them; None where there are too few. `errors` are what the point raised, by static values.
    """

    total: int
    done: int
    failed: dict[str, int]
    seconds_per_point: float | None
    idle: float | None
    errors: dict[str, str]

    @property
    def seconds_left(self) -> float | None:
        """At the present rate."""
        if self.done == self.total:
            return 0.0
        return None if self.seconds_per_point is None else self.seconds_per_point * (self.total - self.done)


def status(path: str | os.PathLike[str]) -> Report:
    """How far the sweep is that fills this store; on the command line `jaxtheory sweep status PATH`.

    Args:
        path: a folder or URL, of a store that is finished, stopped or running, here or on another machine. Stores of
            earlier versions, whose draws were by place, can be looked at too.

    Raises:
        ValueError: no sweep's store is there.

    Cost: reads the statuses and the times of their files.

    >>> import tempfile
    >>> from jaxtheory import sweeps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     grid = sweeps.grid(x=[4.0, -1.0, 9.0])
    ...     _ = sweeps.run(lambda x, key: {"root": x**0.5}, grid, out=f"{folder}/a.zarr", progress=False)
    ...     report = status(f"{folder}/a.zarr")
    >>> report.done, report.total, report.failed
    (3, 3, {'NOT_FINITE': 1})
    """
    found = store.existing(places.located(path))
    require(found is not None, "path", str(path), "be a sweep's store", "pass the `out` of a sweep")
    assert found is not None
    statuses = np.asarray(found.variables["status"][...])
    done = _done(found, statuses)
    codes, counts = np.unique(statuses[done], return_counts=True)
    names = {int(code): code.name for code in Status} | {Status.OK: ""}
    failed = {names.get(int(code), f"status {code}"): int(n) for code, n in zip(codes, counts, strict=True)}
    failed.pop("", None)
    rate, idle = _rate(found)
    errors = json.loads(str(found.group.attrs.get("errors", "{}")))
    return Report(statuses.size, int(done.sum()), failed, rate, idle, errors)


def _done(found: Store, statuses: np.ndarray) -> np.ndarray:
    """Which points are committed."""
    environment = store.provenance(found)
    return environment >= 0 if environment.shape == statuses.shape else statuses != Status.NOT_COMPUTED


def _rate(found: Store) -> tuple[float | None, float | None]:
    """Seconds a point over the last commits, and seconds since the last one."""
    assert found.place is not None
    found.place.files.invalidate_cache()
    folder = f"{found.place.root}/status/c"
    files = found.place.files.find(folder, detail=True) if found.place.files.exists(folder) else {}
    layout = Layout(found.dims, found.shape, found.chunk, ())
    commits = []
    for file, info in files.items():
        parts = file[len(folder) :].strip("/").split("/")
        when = _when(info)
        if when is not None and all(part.isdecimal() for part in parts):
            chunk = tuple(map(int, parts[: len(found.dims)]))
            commits.append((when, int(np.prod(layouts.extent(layout, chunk)))))
    if not commits:
        return None, None
    times, points = (np.array(column, float)[-_RECENT:] for column in zip(*sorted(commits), strict=True))
    idle = max(0.0, time.time() - float(times[-1]))
    intervals = np.diff(times)
    if not len(intervals) or not intervals.any():
        return None, idle
    usual = intervals <= _PAUSE * max(float(np.median(intervals)), 1e-3)
    return float(intervals[usual].sum() / max(points[1:][usual].sum(), 1)), idle


def _when(info: dict[str, Any]) -> float | None:
    """The time of a file, in seconds, as filesystems call it."""
    found = next((info[name] for name in ("mtime", "LastModified", "last_modified", "created") if name in info), None)
    return found.timestamp() if isinstance(found, datetime) else found if isinstance(found, int | float) else None
