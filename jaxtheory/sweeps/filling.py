"""Fill a store: compute what is to do, write it in order, and tell how far it is."""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray
from tqdm import tqdm

from jaxtheory.results import Status
from jaxtheory.sweeps import checkpoint, contract, pipeline, programs, store
from jaxtheory.sweeps import layout as layouts
from jaxtheory.sweeps.layout import Chunk
from jaxtheory.sweeps.opening import Found, todo
from jaxtheory.sweeps.pipeline import Landed, Piece, Task, Writer
from jaxtheory.sweeps.shares import Share
from jaxtheory.sweeps.tasks import tasks


class Progress(NamedTuple):
    """How far a run is, after a chunk that it has committed.

    Points that are `done` (those of earlier runs too) of `total`; `failed`, of this run's, whose status is not OK;
    `points` that this run has computed in `seconds`; and the chunk, as a dataset of its coordinates and outputs.
    """

    done: int
    total: int
    failed: int
    points: int
    seconds: float
    chunk: xarray.Dataset

    @property
    def seconds_per_point(self) -> float:
        """Of this run so far, compilation included."""
        return self.seconds / max(self.points, 1)

    @property
    def seconds_left(self) -> float:
        """At that rate."""
        return self.seconds_per_point * (self.total - self.done)


class Part(NamedTuple):
    """A chunk that is computed: which of its points, their outputs, and the program that made them."""

    piece: Piece
    outputs: dict[str, np.ndarray]
    program: Any
    combination: Chunk


def fill(
    found: Found, share: Share, retry: bool, progress: bool, callback: Callable[[Progress], object] | None
) -> None:
    """Compute this share's missing points, each chunk written by a second thread while the next ones are computed.

    Raises:
        TimeoutError: a block took longer than the sweep's limit.
        Exception: what the point raised, where it did so at all static values.
    """
    left = todo(found, share, retry)
    inside, sweep = found.laid, found.laid.sweep
    if sweep.vmap and not found.fresh and left:
        found.programs.schema(_places(found, left))
    made = tasks(inside.layout, found.store.first_shape, left, layouts.wanted_points(sweep.grid.shape, sweep.block))
    lengths = _lengths(made)
    told = _Told(found, share, left, progress, callback)
    program = _announced(found, left, lengths)
    with told.bar, Writer(told) as writer:
        for landed in pipeline.computed(made, program, sweep.limit):
            for part in told.assembled(landed):
                _commit(found, part, writer)
                late = int((part.outputs["status"] == Status.TIMED_OUT).sum()) if sweep.limit is not None else 0
                if late:
                    writer.finish()
                    chunk, hint = part.piece.chunk, "run again for the rest"
                    raise TimeoutError(
                        f"{late} points of chunk {chunk} took longer than {sweep.limit} s a block; {hint}"
                    )
    checkpoint.tidied(found.store.place)
    _errors_kept(found, left, forget=True)


def _places(found: Found, left: dict[Chunk, np.ndarray]) -> list[Chunk]:
    """The combinations of static values at which something is to do, as places of the asked grid."""
    layout = found.laid.layout
    combinations = dict.fromkeys(layouts.combination(layout, chunk) for chunk in left)
    return [found.laid.place(combination) for combination in combinations]


def _lengths(made: list[Task]) -> dict[Chunk, int]:
    """Slots of the longest task of each combination."""
    lengths: dict[Chunk, int] = {}
    for task in made:
        lengths[task.combination] = max(lengths.get(task.combination, 0), len(task.slots))
    return lengths


def _announced(found: Found, left: dict[Chunk, np.ndarray], lengths: dict[Chunk, int]) -> Callable[[Chunk], Any]:
    """Programs by combination, the last one kept; failures are told of, and so is another environment."""
    last: dict[Chunk, Any] = {}
    told: set[Chunk] = set()

    def program(combination: Chunk) -> Any:
        if combination not in last:
            length = lengths[combination]
            if found.laid.sweep.vmap:
                # programs are made for a whole chunk, as when the store was made, or for all that is to do
                length = max(length, _usual(found, left, combination))
            made = found.programs(found.laid, combination, length)
            last.clear()
            last[combination] = made
            _warn_if_elsewhere(found, combination, made, _usual(found, left, combination) > 0)
            place = found.laid.place(combination)
            error = found.programs.failure(place)
            if error is not None and place not in told:
                programs.tell(found.laid.sweep, place, error, not told)
                told.add(place)
        return last[combination]

    return program


def _usual(found: Found, left: dict[Chunk, np.ndarray], combination: Chunk) -> int:
    """The points of a whole chunk, if one of this combination is to do."""
    layout = found.laid.layout
    own = [mask for chunk, mask in left.items() if layouts.combination(layout, chunk) == combination]
    return math.prod(layout.chunk) if any(mask.all() for mask in own) else 0


def _commit(found: Found, part: Part, writer: Writer) -> None:
    """Hand a chunk to the writer: new points beside those that it had."""
    inside, chunk = found.laid, part.piece.chunk
    values, environment = _whole_chunk(found, part)
    here = contract.environment(inside.sweep.mesh, part.program.points(), inside.sweep.version.code)
    environment[part.piece.mask] = store.environment_code(found.store, here)
    if found.programs.failure(inside.place(part.combination)) is not None:
        _errors_kept(found, {chunk: part.piece.mask}, forget=False)

    def write() -> Part:
        store.commit(found.store, chunk, values, environment)
        part.program.committed()  # here, so that it is done for every chunk that is written, however the run ends
        return part

    writer.submit(write)


def _whole_chunk(found: Found, part: Part) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A chunk's arrays with the part in its places; the rest as it is in the store."""
    layout, piece = found.laid.layout, part.piece
    shape = layouts.extent(layout, piece.chunk)
    if piece.mask.all():
        values = {name: array.reshape(shape + array.shape[1:]) for name, array in part.outputs.items()}
        return values, np.full(shape, -1, np.int32)
    kept = None if found.fresh else store.sound(found.store, piece.chunk)
    if kept is not None:
        values, environment = dict(kept.values), kept.environment.copy()
    else:
        values = {
            name: np.full(shape + array.shape[1:], found.store.variables[name].fill_value, array.dtype)
            for name, array in part.outputs.items()
        }
        environment = np.full(shape, -1, np.int32)
    for name, array in part.outputs.items():
        values[name][piece.mask] = array
    return values, environment


def _errors_kept(found: Found, chunks: dict[Chunk, np.ndarray], forget: bool) -> None:
    """Keep the errors of these chunks' static values in the store, and forget those of values that now succeed."""
    sweep = found.laid.sweep
    told = {sweep.named(place): found.programs.failure(place) for place in _places(found, chunks)}

    def changed(text: str) -> str:
        before = json.loads(text)
        now = {name: programs.described(error) for name, error in told.items() if error is not None}
        gone = {name for name, error in told.items() if error is None} if forget else set()
        return json.dumps({name: said for name, said in (before | now).items() if name not in gone})

    if any(told.values()) or "errors" in found.store.group.attrs:
        store.update(found.store, "errors", changed)


class _Told:
    """Puts parts together as they land, and keeps count of what is committed."""

    def __init__(
        self, found: Found, share: Share, left: dict[Chunk, np.ndarray], progress: bool, callback: Any
    ) -> None:
        self._found, self._callback = found, callback
        self._parts: dict[Chunk, list[np.ndarray]] = {}
        self._start, self._points, self._failed = time.monotonic(), 0, 0
        count = sum(int(mask.sum()) for mask in left.values())
        self._total = found.laid.sweep.grid.size if share.runs == 1 else count
        self._done = self._total - count
        self.bar = tqdm(total=self._total, initial=self._done, unit=" points", disable=not progress)

    def assembled(self, landed: Landed) -> Iterator[Part]:
        """The chunks that a block completes."""
        for piece in landed.task.pieces:
            count = int(piece.mask.sum())
            inside = (landed.real >= piece.begin) & (landed.real < piece.begin + count)
            if not inside.any():
                continue
            parts = self._parts.setdefault(piece.chunk, [])
            parts.append({name: array[inside] for name, array in landed.outputs.items()})  # type: ignore[arg-type]
            if sum(len(part["status"]) for part in parts) == count:
                names = self._parts.pop(piece.chunk)
                whole = {name: np.concatenate([part[name] for part in names]) for name in landed.outputs}
                yield Part(piece, whole, landed.program, landed.task.combination)

    def __call__(self, part: Part) -> None:
        """A chunk is committed."""
        count = int(part.piece.mask.sum())
        self._points += count
        self._done += count
        self._failed += int((part.outputs["status"] != Status.OK).sum())
        self.bar.update(count)
        if self._callback is not None:
            seconds = time.monotonic() - self._start
            shown = _chunk_dataset(self._found, part)
            self._callback(Progress(self._done, self._total, self._failed, self._points, seconds, shown))


def _chunk_dataset(found: Found, part: Part) -> xarray.Dataset:
    """A chunk as a dataset; points that were not computed now are void."""
    layout, frame, piece = found.laid.layout, found.laid.frame, part.piece
    spans = dict(zip(layout.names, layouts.spans(layout, piece.chunk), strict=True))
    shape = layouts.extent(layout, piece.chunk)
    arrays = {}
    for name, array in part.outputs.items():
        whole = np.full(shape + array.shape[1:], found.store.variables[name].fill_value, array.dtype)
        whole[piece.mask] = array
        arrays[name] = (found.store.variable_dims(name), whole)
    labels = {name: (dim, frame.axes[name][list(spans[dim])]) for name, dim in frame.along.items()}
    return xarray.Dataset(arrays, coords=labels)


def _warn_if_elsewhere(found: Found, combination: Chunk, program: Any, whole: bool) -> None:
    """Say so where what was committed before came from another JAX, other devices or another block.

    Single points are packed into blocks of their own; the block counts where chunks are computed whole.
    """
    inside = found.laid
    if found.fresh:
        return
    here = contract.environment(inside.sweep.mesh, program.points(), "")
    known = [environment | {"code": ""} for environment in store.environments(found.store)]
    known = known if whole else [environment | {"block": here["block"]} for environment in known]
    codes = store.provenance(found.store)
    static = dict(zip(inside.layout.static, combination, strict=True))
    own = codes[tuple(static.get(name, slice(None)) for name in inside.layout.names)]
    alike = [known[code] for code in np.unique(own) if code >= 0]
    before = alike or [environment | {"block": here["block"]} for environment in known]
    if here not in before:
        changed = ", ".join(
            f"{name} {before[0].get(name)} -> {here[name]}" for name in here if before[0].get(name) != here[name]
        )
        message = f"{found.store.place} is continued elsewhere ({changed}): values agree to rounding, not bit for bit"
        warnings.warn(message, stacklevel=5)
