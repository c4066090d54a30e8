"""How the points of one combination of static values are computed: as a compiled program, by calls, or not at all."""

import functools
import hashlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import PyTree

from jaxtheory.checks import require
from jaxtheory.results import Status
from jaxtheory.sweeps import blocks, outputs
from jaxtheory.sweeps.axes import words
from jaxtheory.sweeps.blocks import Work
from jaxtheory.sweeps.building import filling
from jaxtheory.sweeps.checkpoint import Checkpoint
from jaxtheory.sweeps.layout import Chunk
from jaxtheory.sweeps.outputs import Schema
from jaxtheory.sweeps.places import Place
from jaxtheory.sweeps.sweep import Laid, Sweep

_TRACED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
_folded = jax.jit(outputs.folded)


class Mapped:
    """A vmapped block of points as one compiled program; smaller ones where memory runs out."""

    def __init__(self, laid: Laid, work: Work, length: int) -> None:
        """For at most `length` points at once, or the sweep's `block`, in equal parts."""
        self._laid, self._work = laid, work
        most = laid.sweep.block
        if most is None:
            self._block = blocks.fitting(work, length)
        else:
            self._block = blocks.compiled(work, -(-length // -(-length // most)))

    def points(self) -> int:
        """Points of a block."""
        return self._block.points

    def dispatch(self, positions: np.ndarray) -> Callable[[], PyTree]:
        """Place what the points at these positions take; the call that starts them."""
        return blocks.dispatch(self._block, self._work, self._laid.values(positions), self._laid.keywords(positions))

    def fetch(self, flight: PyTree, count: int) -> dict[str, np.ndarray]:
        """Wait for their outputs."""
        return blocks.fetch(flight, count)

    def smaller(self, points: int, error: Exception) -> None:
        """Make do with half, or raise what is no lack of memory."""
        assert isinstance(error, jax.errors.JaxRuntimeError)
        self._block = blocks.halved(self._work, self._block, error)

    def void(self, count: int) -> dict[str, np.ndarray]:
        """Outputs of points that were not waited for."""
        return void(outputs.schema(blocks.shapes(self._work)), count, Status.TIMED_OUT)

    def committed(self) -> None:
        """Its points are in the store."""


class Called:
    """One point, called as it is; what it raises makes it INVALID_INPUT."""

    def __init__(self, sweep: Sweep, place: Chunk, beside: Place | None, schema: Callable[[], Schema]) -> None:
        """At one place of the grid, whose progress lies beside the store."""
        self._sweep, self._place, self._schema = sweep, place, schema
        self._result: dict[str, Any] | None = None
        self.failure: Exception | None = None
        self._checkpoint = Checkpoint(beside, _identity(sweep, place))

    def points(self) -> int:
        """Always one."""
        return 1

    def dispatch(self, positions: np.ndarray) -> Callable[[], PyTree]:
        """Nothing runs ahead of a call."""
        return lambda: None

    def fetch(self, flight: PyTree, count: int) -> dict[str, np.ndarray]:
        """Call the point, unless that was done to learn what it returns."""
        found, schema = self.result(), self._schema()
        try:
            cast = None if found is None else outputs.cast(found, schema)
        except ValueError as error:
            self.failure, cast = error, None
        return void(schema, 1, Status.INVALID_INPUT) if cast is None else cast

    def result(self) -> dict[str, Any] | None:
        """What the point returns; None where it raises."""
        if self._result is None and self.failure is None:
            sweep = self._sweep
            keywords = words(tuple(_identities(sweep, self._place, sweep.drawn))).ravel()
            key = _folded(sweep.key, jnp.asarray(keywords, jnp.uint32))
            arguments = sweep.static_values(self._place) | {"key": key}
            arguments |= {"checkpoint": self._checkpoint} if sweep.takes_checkpoint else {}
            try:
                self._result = outputs.called_point(sweep.point, tuple(sweep.grid.axes), **arguments)
            except Exception as error:  # a point may raise anything
                if blocks.out_of_memory(error):
                    raise
                self.failure = error
        return self._result

    def smaller(self, points: int, error: Exception) -> None:
        """A call cannot be made smaller."""
        raise error

    def void(self, count: int) -> dict[str, np.ndarray]:
        """Outputs of a point that was not waited for."""
        return void(self._schema(), count, Status.TIMED_OUT)

    def committed(self) -> None:
        """The point is in the store: its progress is not needed any more."""
        self._result = None
        self._checkpoint.clear()


class Failed:
    """Points at static values at which the point raises."""

    def __init__(self, schema: Schema, length: int) -> None:
        """Void outputs for at most `length` points at once."""
        self._schema, self._length = schema, length

    def points(self) -> int:
        """As many as a task has."""
        return self._length

    def dispatch(self, positions: np.ndarray) -> Callable[[], PyTree]:
        """Nothing runs."""
        return lambda: None

    def fetch(self, flight: PyTree, count: int) -> dict[str, np.ndarray]:
        """Void outputs, marked."""
        return void(self._schema, count, Status.INVALID_INPUT)

    def smaller(self, points: int, error: Exception) -> None:
        """Never asked for."""
        raise error

    def void(self, count: int) -> dict[str, np.ndarray]:
        """Never asked for."""
        return void(self._schema, count, Status.TIMED_OUT)

    def committed(self) -> None:
        """Its points are in the store."""


def void(schema: Schema, count: int, status: Status) -> dict[str, np.ndarray]:
    """Outputs of points that were not computed: NaN, or 0 where there is none."""
    made = {
        name: np.full((count, *variable.shape), filling(np.dtype(variable.dtype).kind), variable.dtype)
        for name, variable in schema.variables.items()
    }
    return made | {"status": np.full(count, status, np.int32)}


class Programs:
    """The program of every combination of static values, made when it is asked for; and what raised at some of them."""

    def __init__(self, sweep: Sweep, place: Place | None) -> None:
        """For a sweep, whose store is at `place`."""
        self.sweep = sweep
        self._failures: dict[Chunk, Exception] = {}
        self._place = place
        self._schema: Schema | None = None
        self._calls: dict[Chunk, Called] = {}
        self._last: tuple[Any, Any] = (None, None)
        self._works = functools.lru_cache(maxsize=2)(self._work)

    def schema(self, places: list[Chunk]) -> Schema:
        """What the point returns, the same at each of these combinations at which it does not raise.

        Raises:
            ValueError: other outputs at other static values.
            Exception: what the point raised, where it did so at all of them and nothing else says what it returns.
        """
        found = [schema for place in places for schema in self._schema_at(place)]
        if not found and self._schema is not None:
            return self._schema
        if not found:
            raise self._raised(places)
        for other in found[1:]:
            hint = "pad to one shape, or run one sweep each"
            first = found[0].shown()
            wish = f"return what it does at the first static values, {first}"
            require(other == found[0], "point", other.shown(), wish, hint)
        self._schema = found[0]
        return found[0]

    def expect(self, schema: Schema) -> None:
        """What a store says that the points return."""
        self._schema = schema

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """The coordinates of the outputs, where it is known what the points return."""
        return {} if self._schema is None else {name: label.values for name, label in self._schema.labels.items()}

    def first_schema(self, places: list[Chunk]) -> Schema:
        """What the point returns at the first of these combinations at which it does not raise."""
        for place in places:
            for schema in self._schema_at(place):
                self._schema = schema
                return schema
        raise self._raised(places)

    def _schema_at(self, place: Chunk) -> list[Schema]:
        """The outputs at one combination; none where the point raises."""
        if not self.sweep.vmap:
            result = self.called(place).result()
            return [] if result is None else [outputs.schema(result)]
        try:
            return [outputs.schema(traced_shapes(self.sweep, self._works(place)))]
        except Exception as error:
            self._note(place, error)
            return []

    def _note(self, place: Chunk, error: Exception) -> None:
        """Keep the first error of a combination; a lack of memory is no fault of its values."""
        if blocks.out_of_memory(error):
            raise error
        self._failures.setdefault(place, error)

    def __call__(self, laid: Laid, combination: Chunk, length: int) -> Any:
        """The program for at most `length` points at once."""
        place = laid.place(combination)
        if not self.sweep.vmap:
            return self.called(place)
        if self._last[0] != (laid.frame.shape, place, length):
            self._last = (laid.frame.shape, place, length), self._made(laid, place, length)
        return self._last[1]

    def _made(self, laid: Laid, place: Chunk, length: int) -> Any:
        if place not in self._failures:
            try:
                return Mapped(laid, self._works(place), length)
            except Exception as error:
                self._note(place, error)
        assert self._schema is not None
        return Failed(self._schema, length)

    def called(self, place: Chunk) -> Called:
        """The call at one place of the grid."""
        if place not in self._calls:
            self._calls[place] = Called(self.sweep, place, self._place, self._known_schema)
        return self._calls[place]

    def failure(self, place: Chunk) -> Exception | None:
        """What the point raised at a combination, if it did."""
        if place in self._calls and self._calls[place].failure is not None:
            return self._calls[place].failure
        return self._failures.get(place)

    def _raised(self, places: list[Chunk]) -> Exception:
        return next(error for error in map(self.failure, places) if error is not None)

    def _known_schema(self) -> Schema:
        require(self._schema is not None, "point", "no result yet", "return once before it may fail", "run again")
        assert self._schema is not None
        return self._schema

    def _work(self, place: Chunk) -> Work:
        """The point at one combination of static values."""
        sweep = self.sweep
        dtypes = {name: sweep.columns[name].labels.dtype for name in sweep.traced}
        one_point = outputs.mapped_point(sweep.point, sweep.static_values(place), tuple(sweep.grid.axes))
        # jit, so that blocks of several sizes share one trace of the point
        return Work(jax.jit(one_point), dtypes, 2 * len(sweep.drawn), sweep.key, sweep.mesh)


def traced_shapes(sweep: Sweep, work: Work) -> Any:
    """What one point returns; an error that traced values cause names the axes whose values would have to be static."""
    try:
        return blocks.shapes(work)
    except (TypeError, IndexError, AttributeError) as error:
        guilty = [name for name in sweep.traced if _runs_with(sweep, work, name)]
        if not guilty and not isinstance(error, _TRACED):
            raise
        named = ", ".join(guilty) or "its draws"
        first = guilty[0] if guilty else next(iter(sweep.traced), "width")
        raise ValueError(
            f"point must be written in jax.numpy for values that are traced, got {type(error).__name__} from {named}; "
            f'name static=("{first}",) to pass that axis as Python values, or use jnp.where, lax.cond and jax.numpy.'
        ) from error


def _runs_with(sweep: Sweep, work: Work, name: str) -> bool:
    """Whether the point can be traced once an axis has a known value."""
    value = sweep.columns[name].labels[0].item()

    def evaluate(values: dict[str, Any], words: Any, key: Any) -> Any:
        return outputs.settled(sweep.point(**values, **{name: value}, key=key), tuple(sweep.grid.axes))

    dtypes = {other: dtype for other, dtype in work.dtypes.items() if other != name}
    static = {other: sweep.static_values(sweep.places[0])[other] for other in sweep.static}
    try:
        blocks.shapes(work._replace(evaluate=lambda v, w, k: evaluate({**static, **v}, w, k), dtypes=dtypes))
    except Exception:  # the point has more than one fault, or another
        return False
    return True


def _identity(sweep: Sweep, place: Chunk) -> str:
    """A point by its values, its sweep and its code."""
    values = _identities(sweep, place, sorted(sweep.grid.axes))
    key = np.asarray(jax.random.key_data(sweep.key)).tolist()
    code = sweep.version.number if sweep.version.declared else sweep.version.code
    return hashlib.sha256(repr((values, key, sorted(sweep.paired), code)).encode()).hexdigest()[:32]


def _identities(sweep: Sweep, place: Chunk, names: Sequence[str]) -> list[bytes]:
    """Of these axes' values at one place of a grid whose axes are all static."""
    along = {name: i for i, group in enumerate(sweep.grid.dims.values()) for name in group}
    return [sweep.columns[name].identities[place[along[name]]] for name in names]


def tell(sweep: Sweep, place: Chunk, error: Exception, in_full: bool) -> None:
    """Print that points failed, the first time with the traceback."""
    if in_full:
        tqdm.tqdm.write("".join(traceback.format_exception(error)), file=sys.stderr, end="")
    tqdm.tqdm.write(
        f"sweep: points with {sweep.named(place)} are marked INVALID_INPUT: {described(error)}", file=sys.stderr
    )


def described(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {error}"
