"""The grid of a sweep: named axes, the chunks they are cut into, and the index each point draws its randomness by."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxtheory.checks import require

RESERVED = ("key", "status", "provenance")
_LARGEST = 2**32  # `fold_in` takes 32 bits


class Grid(NamedTuple):
    """Named axes, the first the slowest; a point is one value from each."""

    axes: dict[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each axis."""
        return tuple(len(values) for values in self.axes.values())

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)


class Layout(NamedTuple):
    """A grid cut into hyper-rectangles of `chunk` points an axis, the last of an axis possibly shorter."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    static: tuple[str, ...]
    paired: tuple[str, ...]


def grid(**axes: Any) -> Grid:
    """The product of named axes.

    Args:
        axes: one-dimensional sequences of distinct values: JAX or NumPy arrays, lists, ranges. Strings and other
            objects (functions with a name) are for axes that `run` is told are static.

    Raises:
        ValueError: no axis, an axis that is empty, not one-dimensional, or holds a value twice or a NaN, or more
            than 2³² points.

    >>> grid(ridge=[0.1, 1.0], seed=range(20)).shape
    (2, 20)
    """
    require(len(axes) > 0, "axes", axes, "name at least one axis", "write grid(seed=range(10))")
    made = Grid({name: _axis(name, values) for name, values in axes.items()})
    require(made.size <= _LARGEST, "axes", made.shape, "span at most 2**32 points", "run several sweeps")
    return made


def _axis(name: str, values: Any) -> np.ndarray:
    require(name not in RESERVED, "axis", name, f"not be one of {RESERVED}, which `run` uses", "rename the axis")
    array = np.asarray(values) if hasattr(values, "shape") else _sequence(name, values)
    require(array.ndim == 1, name, array.shape, "be a one-dimensional sequence", "list the axis' values")
    require(len(array) > 0, name, values, "hold at least one value", "drop the axis or fill it")
    require(array.dtype.kind != "f" or not np.isnan(array).any(), name, values, "hold no NaN", "drop that value")
    return array


def _sequence(name: str, values: Any) -> np.ndarray:
    listed = values if isinstance(values, str) or not hasattr(values, "__iter__") else list(values)
    require(isinstance(listed, list), name, values, "be a sequence", f"write {name}=[{values!r}]")
    if all(isinstance(value, bool | int | float | complex | np.generic | jax.Array) for value in listed):
        return np.asarray(listed)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array


def coordinates(grid: Grid, static: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The labels of each axis: JAX's default dtypes for Python numbers, names for objects on static axes.

    Raises:
        ValueError: values that are not real numbers on an axis that is not static, that JAX's default dtype cannot
            hold, or that coincide once they are labels.
    """
    labels = {
        name: _labels(name, values) if name in static else _numbers(name, values) for name, values in grid.axes.items()
    }
    for name, label in labels.items():
        distinct = len(set(label.tolist())) == len(label)
        require(distinct, name, label, f"hold distinct values (as {label.dtype})", "drop the repeated ones")
    return labels


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    hint = f'name it in static=("{name}",) to pass its values as they are'
    require(values.dtype.kind in "biuf", name, values, "hold real numbers", hint)
    half = values.dtype == np.float16
    require(not half, name, values, "not be float16, which cannot label an axis", "cast to it inside the point")
    converted = values.astype(jax.dtypes.canonicalize_dtype(values.dtype))
    exact = values.dtype.kind == "f" or np.array_equal(converted, values)
    require(exact, name, values, f"fit in {converted.dtype}", "use smaller values or enable 64-bit types")
    return converted


def _labels(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "biuf":
        return values
    names = [value if isinstance(value, str) else getattr(value, "__name__", repr(value)) for value in values.tolist()]
    for label in names:
        named = " at 0x" not in label
        require(named, name, label, "hold values with a lasting name", "pass strings, numbers or named functions")
    return np.array(names, np.dtypes.StringDType())


def layout(grid: Grid, static: tuple[str, ...], paired: tuple[str, ...], block: int | None) -> Layout:
    """Chunks of about √(points), or of `block` points where that is more: the last axes whole, static axes one by one.

    Devices and memory have no say, so that a store looks the same wherever it was made.

    >>> layout(grid(activation=["relu", "erf"], ridge=range(7), seed=range(20)), ("activation",), (), None).chunk
    (1, 1, 20)
    """
    wanted = max(math.isqrt(grid.size - 1) + 1, block or 1)
    chunk: list[int] = []
    for name, size in zip(reversed(grid.axes), reversed(grid.shape), strict=True):
        length = 1 if name in static else -(-size // max(1, size // wanted))
        chunk.insert(0, length)
        wanted = -(-wanted // length)
    return Layout(tuple(grid.axes), grid.shape, tuple(chunk), static, paired)


def counts(layout: Layout) -> tuple[int, ...]:
    """Number of chunks along each axis."""
    return tuple(-(-size // length) for size, length in zip(layout.shape, layout.chunk, strict=True))


def chunks(layout: Layout) -> list[tuple[int, ...]]:
    """Every chunk's place, those of one combination of static values together."""
    return sorted(np.ndindex(counts(layout)), key=lambda chunk: combination(layout, chunk))


def combination(layout: Layout, chunk: tuple[int, ...]) -> tuple[int, ...]:
    """Positions of a chunk along the static axes, whose chunks hold one value."""
    return tuple(place for name, place in zip(layout.names, chunk, strict=True) if name in layout.static)


def extent(layout: Layout, chunk: tuple[int, ...]) -> tuple[int, ...]:
    """Points of a chunk along each axis."""
    return tuple(len(span) for span in _spans(layout, chunk))


def positions(layout: Layout, chunk: tuple[int, ...]) -> np.ndarray:
    """(points, axes) positions in the grid of a chunk's points, in the chunk's order."""
    return np.array(list(itertools.product(*_spans(layout, chunk))), np.int64)


def _spans(layout: Layout, chunk: tuple[int, ...]) -> Iterator[range]:
    for size, length, place in zip(layout.shape, layout.chunk, chunk, strict=True):
        yield range(place * length, min(size, (place + 1) * length))


def stream(layout: Layout, positions: np.ndarray) -> np.ndarray:
    """What `fold_in` is given: each point's flat index over the axes that are not paired, the last axis fastest.

    >>> made = layout(grid(ridge=[0.1, 1.0], seed=range(3)), (), ("ridge",), None)
    >>> stream(made, np.array([[0, 2], [1, 2]]))
    array([2, 2], dtype=uint32)
    """
    index = np.zeros(len(positions), np.int64)
    for column, (name, size) in enumerate(zip(layout.names, layout.shape, strict=True)):
        if name not in layout.paired:
            index = index * size + positions[:, column]
    return index.astype(np.uint32)
