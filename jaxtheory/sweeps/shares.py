"""Which chunks are this process' own: all, those of its place among JAX's processes, or those of a shard."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from jaxtheory.checks import require


class Share(NamedTuple):
    """The `number`-th of `runs` shares; `together` with processes that wait for each other, or by itself."""

    number: int
    runs: int
    together: bool


ALONE = Share(0, 1, False)


def share(shard: str | None) -> Share:
    """The share that "i/n" names, or this process' among those of `jax.distributed`.

    Raises:
        ValueError: not two whole numbers i/n with 0 ≤ i < n.

    >>> share("2/8")
    Share(number=2, runs=8, together=False)
    """
    if shard is None:
        return Share(jax.process_index(), jax.process_count(), jax.process_count() > 1)
    parts = str(shard).split("/")
    numbers = [int(part) for part in parts if part.strip().isdecimal()]
    good = len(parts) == len(numbers) == 2 and numbers[0] < numbers[1]
    require(good, "shard", repr(shard), "be 'i/n' with 0 <= i < n", "shard='0/4', ..., shard='3/4' make four runs")
    return Share(numbers[0], numbers[1], together=False)


def own(share: Share, chunks: list[Any]) -> list[Any]:
    """Every `runs`-th chunk from the `number`-th on."""
    return chunks[share.number :: share.runs]


def first(share: Share, work: Callable[[], PyTree]) -> Any:
    """`work()` where nobody waits; together, process 0 does it while the others wait, and they get None.

    Raises:
        RuntimeError: on every other process, where process 0 could not.
    """
    if not share.together:
        return work()
    if share.number > 0:
        done = bool(multihost_utils.broadcast_one_to_all(np.zeros((), np.int32)))
        if not done:
            raise RuntimeError("process 0 could not prepare the sweep's store; its own error says why")
        return None
    made = False
    try:
        result = work()
        made = True
    finally:
        multihost_utils.broadcast_one_to_all(np.asarray(made, np.int32))
    return result


def told(share: Share, marks: list[bool]) -> list[bool]:
    """What process 0 knows of each chunk, on every process."""
    if not share.together:
        return marks
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(marks, np.int32))).astype(bool).tolist()


def finished(share: Share) -> None:
    """Wait until every process has come this far.

    Raises:
        RuntimeError: of JAX, where one of them died.
    """
    if share.together:
        multihost_utils.sync_global_devices("jaxtheory.sweeps")
