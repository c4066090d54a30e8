"""From points to chunks without pauses: blocks on their way while the last is fetched, chunks written beside.

The next block is dispatched before the one in front is fetched, also where the next belongs to another program, which
is compiled meanwhile. Finished chunks go to a thread that writes them in order, at most two of them waiting. A trace of
`jax.profiler` shows all of it under the names `sweeps.compile`, `.dispatch`, `.wait` and `.write`.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.profiler import TraceAnnotation
from jaxtyping import PyTree

from jaxtheory.sweeps.layout import Chunk

_AHEAD = 1  # blocks dispatched beyond the one that is fetched
_WAITING = 2  # chunks that may wait to be written


class Piece(NamedTuple):
    """A chunk of a task: where its slots begin, and which of its points they are, in the chunk's shape."""

    chunk: Chunk
    begin: int
    mask: np.ndarray


class Task(NamedTuple):
    """Chunks of one combination of static values that are computed together.

    `slots` are places in a row of points, each a row of `positions` (points, dimensions), or -1 where none is to do.
    """

    combination: Chunk
    slots: np.ndarray
    positions: np.ndarray
    pieces: tuple[Piece, ...]


@runtime_checkable
class Program(Protocol):
    """How the points of one combination of static values are computed."""

    def points(self) -> int:
        """Points of a block."""

    def dispatch(self, positions: np.ndarray) -> Callable[[], PyTree]:
        """Place what the points at these positions of the grid take; the call that starts them."""

    def fetch(self, flight: PyTree, count: int) -> dict[str, np.ndarray]:
        """Their outputs."""

    def smaller(self, points: int, error: Exception) -> None:
        """Make do with blocks smaller than `points`, or raise the error."""

    def void(self, count: int) -> dict[str, np.ndarray]:
        """Outputs of points that were not waited for."""

    def committed(self) -> None:
        """Points of it are in the store."""


class Flight(NamedTuple):
    """A block on its way: which slots of which task it computes."""

    program: Program
    task: Task
    start: int
    stop: int
    points: int
    outputs: Callable[[], PyTree]

    @property
    def real(self) -> np.ndarray:
        """The slots that hold points."""
        window = self.task.slots[self.start : self.stop]
        return self.start + np.flatnonzero(window >= 0)


class Landed(NamedTuple):
    """Outputs of some slots of a task."""

    program: Program
    task: Task
    real: np.ndarray
    outputs: dict[str, np.ndarray]


def computed(tasks: Iterable[Task], program: Callable[[Chunk], Program], limit: float | None) -> Iterator[Landed]:
    """The outputs of every task, block after block; with a time limit one block at a time."""
    ahead: deque[Flight] = deque()
    for task in tasks:
        with TraceAnnotation("sweeps.compile"):
            made = program(task.combination)
        for start, stop in _cuts(task, 0, len(task.slots), made.points()):
            ahead.append(_departed(made, task, start, stop, limit))
            while len(ahead) > (_AHEAD if limit is None else 0):
                yield from _landings(ahead.popleft(), limit)
    while ahead:
        yield from _landings(ahead.popleft(), limit)


def _cuts(task: Task, start: int, stop: int, points: int) -> Iterator[tuple[int, int]]:
    """Blocks of so many slots that hold a point to do; where they begin does not depend on what is to do."""
    for first in range(start, stop, points):
        last = min(first + points, stop)
        if (task.slots[first:last] >= 0).any():
            yield first, last


def _departed(program: Program, task: Task, start: int, stop: int, limit: float | None) -> Flight:
    """A block on its way; with a time limit it starts when it is waited for, in a thread that can be abandoned."""
    # slots without a point repeat a real one: a point keeps its row, whatever else is to do
    window = task.slots[start:stop]
    filled = np.where(window >= 0, window, window[np.argmax(window >= 0)])
    flight = Flight(program, task, start, stop, program.points(), lambda: None)
    try:
        with TraceAnnotation("sweeps.dispatch"):
            start_points = program.dispatch(task.positions[filled])
            if limit is not None:
                return flight._replace(outputs=start_points)
            outputs = start_points()
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        return flight._replace(outputs=functools.partial(_raised, error))
    return flight._replace(outputs=lambda: outputs)


def _raised(error: Exception) -> None:
    raise error


def _landings(flight: Flight, limit: float | None) -> Iterator[Landed]:
    """A block's outputs; of smaller blocks, one by one, where memory runs out."""
    program, task, rows, real = flight.program, flight.task, flight.stop - flight.start, flight.real
    try:
        with TraceAnnotation("sweeps.wait"):
            outputs = within(limit, lambda: program.fetch(flight.outputs(), rows))
        yield Landed(program, task, real, {name: array[real - flight.start] for name, array in outputs.items()})
    except TimeoutError:
        yield Landed(program, task, real, program.void(len(real)))
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if program.points() >= flight.points:
            program.smaller(flight.points, error)
        for start, stop in _cuts(task, flight.start, flight.stop, program.points()):
            yield from _landings(_departed(program, task, start, stop, limit), limit)


def within(limit: float | None, call: Callable[[], PyTree]) -> Any:
    """What the call returns; TimeoutError after `limit` seconds, with a thread left waiting for the device."""
    if limit is None:
        return call()
    found: Future[Any] = Future()
    config: Any = jax.config  # whose values this thread alone may have
    wide, precision = config.jax_enable_x64, config.jax_default_matmul_precision

    def wait() -> None:
        try:
            with jax.enable_x64(wide), jax.default_matmul_precision(precision):
                found.set_result(call())
        except BaseException as error:  # whatever it is, the caller's thread raises it
            found.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return found.result(min(limit, threading.TIMEOUT_MAX))


class Writer:
    """One thread that does what it is given in order; at most two things wait, then the caller does.

    What a thing returns is passed to `told`, in the caller's thread and in the same order, once it is done.
    """

    def __init__(self, told: Callable[[Any], None]) -> None:
        self._told = told
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._pool.shutdown(wait=True)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Do this after what was given before."""
        self._collect(_WAITING - 1)
        self._waiting.append(self._pool.submit(_written, call, *arguments))

    def finish(self) -> None:
        """Wait until everything is done."""
        self._collect(0)

    def _collect(self, most: int) -> None:
        """Take what is done, and wait until no more than so many are not."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            self._told(self._waiting.popleft().result())


def _written(call: Callable[..., Any], *arguments: Any) -> Any:
    with TraceAnnotation("sweeps.write"):
        return call(*arguments)
