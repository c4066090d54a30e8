"""The grid of a sweep: named axes, some of which vary together, and what identifies each of their values."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.checks import require
from jaxtheory.sweeps.content import NoContentError, digest

RESERVED = ("key", "status", "provenance", "checkpoint")
MOST_VALUES = 2**32  # points: more are not enumerated


class Grid(NamedTuple):
    """Named axes, the first the slowest; a point is one value from each.

    `zips` are the axes that vary together, along one dimension that has the name of the first of them; `names` are
    labels that the user gave to the values of an axis.
    """

    axes: dict[str, np.ndarray]
    zips: tuple[tuple[str, ...], ...] = ()
    names: Mapping[str, tuple[str, ...]] | None = None

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Each dimension, with the axes that vary along it."""
        together = {name: names for names in self.zips for name in names}
        return {name: together.get(name, (name,)) for name in self.axes if together.get(name, (name,))[0] == name}

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each dimension."""
        return tuple(len(self.axes[name]) for name in self.dims)

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)


class Zipped(NamedTuple):
    """Axes that vary together: their i-th values make one place along a dimension."""

    axes: dict[str, Any]


class Column(NamedTuple):
    """The values of one axis as they are stored: labels, identities (SHA-256), and whether these are of their content.

    A draw depends on the identities of a point's values, and a store finds its points by them.
    """

    labels: np.ndarray
    identities: tuple[bytes, ...]
    by_content: bool


def grid(*zips: Zipped, **axes: object) -> Grid:
    """The product of named axes, and of axes that vary together.

    Args:
        zips: made by `sweeps.zipped` or `sweeps.random`; each is one dimension, with the name of its first axis.
        axes: one-dimensional sequences of distinct values: JAX or NumPy arrays, lists, ranges. Strings and other
            objects are for axes that `run` lists as static; a dict gives each of its values its key as label.

    Raises:
        ValueError: no axis, an axis that is empty, not one-dimensional, or holds a value twice or a NaN, or more
            than 2³² points.

    >>> grid(ridge=[0.1, 1.0], seed=range(20)).shape
    (2, 20)
    >>> grid(zipped(width=[8, 16], rate=[0.1, 0.05]), seed=range(3)).shape
    (2, 3)
    """
    for part in zips:
        hint = "write grid(sweeps.zipped(width=[8, 16], rate=[0.1, 0.05]), seed=range(3))"
        require(isinstance(part, Zipped), "axes", part, "be named, or made by sweeps.zipped", hint)
        zipped(**part.axes)
    named = [*(pair for part in zips for pair in part.axes.items()), *axes.items()]
    require(len(named) > 0, "axes", axes, "name at least one axis", "write grid(seed=range(10))")
    names = [name for name, _ in named]
    require(len(set(names)) == len(names), "axes", names, "have one name each", "rename the repeated one")
    labels = {name: tuple(map(str, values)) for name, values in named if isinstance(values, Mapping)}
    for name, given in labels.items():
        require(len(set(given)) == len(given), name, given, "have distinct labels, as text", "rename one of the keys")
    made = Grid({name: _axis(name, values) for name, values in named}, tuple(tuple(part.axes) for part in zips), labels)
    require(made.size <= MOST_VALUES, "axes", made.shape, "span at most 2**32 points", "run several sweeps")
    return made


def zipped(**axes: object) -> Zipped:
    """Axes that vary together, as `zip` does, for `grid`.

    Args:
        axes: as in `grid`, all of one length; places must be distinct, values of one axis need not be.

    Raises:
        ValueError: no axes, or other lengths.

    >>> made = grid(zipped(width=[8, 16, 16], rate=[0.1, 0.05, 0.01]))
    >>> made.dims, made.size
    ({'width': ('width', 'rate')}, 3)
    """
    require(len(axes) > 0, "axes", axes, "name at least one axis", "write zipped(width=[8, 16], rate=[0.1, 0.05])")
    lengths = {name: len(_axis(name, values)) for name, values in axes.items()}
    require(len(set(lengths.values())) == 1, "axes", lengths, "have one length", "give a value of each for every place")
    return Zipped(dict(axes))


def _axis(name: str, values: object) -> np.ndarray:
    require(name not in RESERVED, "axis", name, f"not be one of {RESERVED}, which `run` uses", "rename the axis")
    require_name("axis", name)
    values = list(values.values()) if isinstance(values, Mapping) else values
    traced = any(isinstance(value, jax.core.Tracer) for value in (values if isinstance(values, list) else [values]))
    require(not traced, name, "traced values", "be known when the grid is made", "make the grid outside jax.jit")
    keys = isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key)
    require(not keys, name, values, "hold values, from which points' keys are drawn", f"write {name}=range(10)")
    masked = isinstance(values, np.ma.MaskedArray) and bool(np.ma.getmaskarray(values).any())
    require(not masked, name, values, "hold no masked values", "pass its compressed()")
    array = np.asarray(values) if hasattr(values, "shape") else _sequence(name, values)
    require(array.ndim == 1, name, array.shape, "be a one-dimensional sequence", "list the axis' values")
    require(len(array) > 0, name, values, "hold at least one value", "drop the axis or fill it")
    require(array.dtype.kind not in "fc" or not np.isnan(array).any(), name, values, "hold no NaN", "drop that value")
    return array


def require_name(what: str, name: str) -> None:
    """Raise where a store cannot hold an array of this name.

    >>> require_name("axis", "a/b")
    Traceback (most recent call last):
    ValueError: axis must be named by a word, got axis='a/b'; rename it, without slashes.
    """
    usual = name not in ("", ".", "..", "zarr.json") and not name.startswith("__") and not {"/", "\\", "\0"} & set(name)
    require(usual, what, repr(name), "be named by a word", "rename it, without slashes")


def _sequence(name: str, values: Any) -> np.ndarray:
    count = len(values) if isinstance(values, range) else 0
    require(count <= MOST_VALUES, name, values, "hold at most 2**32 values", "run several sweeps")
    listed = values if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__") else list(values)
    require(isinstance(listed, list), name, values, "be a sequence", f"write {name}=[{values!r}]")
    if all(isinstance(value, bool | int | float | complex | np.generic) or _is_scalar(value) for value in listed):
        return _numeric(name, listed)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array


def _numeric(name: str, listed: list[Any]) -> np.ndarray:
    """Numbers as one array, none of them changed by those beside it."""
    truths = [isinstance(value, bool | np.bool_) for value in listed]
    require(
        all(truths) or not any(truths), name, listed, "hold numbers or booleans", "write 1 for True and 0 for False"
    )
    array = np.asarray(listed)
    require(
        array.dtype.kind != "O", name, listed, "hold integers of at most 64 bits", "write them as floats or strings"
    )
    exact = all(array[i].item() == value for i, value in enumerate(listed) if isinstance(value, int))
    require(exact, name, listed, f"hold integers that fit in {array.dtype} beside the others", "use other values")
    return array


def _is_scalar(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "biufc"
    scalar = isinstance(value, jax.Array) and value.ndim == 0
    return scalar and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def columns(grid: Grid, static: tuple[str, ...]) -> dict[str, Column]:
    """Labels and identities of every axis: JAX's default dtypes for numbers, names for objects on static axes.

    Raises:
        ValueError: values that are not real numbers on an axis that is not static, that JAX's default dtype cannot
            hold, whose content cannot be read, or that coincide.
    """
    given = grid.names or {}
    made = {
        name: _static(name, values, given.get(name)) if name in static else _numbers(name, values)
        for name, values in grid.axes.items()
    }
    for dim, names in grid.dims.items():
        places = list(zip(*(made[name].identities for name in names), strict=True))
        distinct = len(set(places)) == len(places)
        label = made[dim].labels
        require(distinct, dim, label, f"hold distinct values (as {label.dtype})", "drop the repeated ones")
    return made


def _numbers(name: str, values: np.ndarray) -> Column:
    hint = f'name it in static=("{name}",) to pass its values as they are'
    require(values.dtype.kind in "biuf", name, values, "hold real numbers", hint)
    half = values.dtype == np.float16 or values.dtype.itemsize > 8
    require(not half, name, values.dtype, "be of 32 or 64 bits, to label an axis", "cast to it inside the point")
    dtype = jax.dtypes.canonicalize_dtype(values.dtype)
    usual = _representable(values, dtype)
    wish = f"fit in {dtype}"
    require(bool(usual.all()), name, values[~usual], wish, "use other values, or enable 64-bit types")
    return Column(*identified(name, values.astype(dtype)), False)


def _representable(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Which values a dtype holds: integers exactly, real numbers rounded, but not to infinity or below normal size."""
    if values.dtype.kind != "f":
        return values.astype(dtype) == values
    limits, sizes = np.finfo(dtype), np.abs(values)
    return ((sizes <= limits.max) & (sizes >= limits.tiny)) | (values == 0) | np.isinf(values)


def identified(name: str, values: np.ndarray) -> tuple[np.ndarray, tuple[bytes, ...]]:
    """Numbers without a negative zero, and SHA-256 of the axis' name, dtype and each little-endian value."""
    values = values.astype(np.dtype(values.dtype.name))  # NumPy has two types of 64 bits, of which Zarr knows one
    values = values + np.zeros((), values.dtype) if values.dtype.kind == "f" else values
    raw, size = values.astype(values.dtype.newbyteorder("<")).tobytes(), values.dtype.itemsize
    head = f"{name}\0{values.dtype.name}\0".encode()
    return values, tuple(hashlib.sha256(head + raw[i : i + size]).digest() for i in range(0, len(raw), size))


def _static(name: str, values: np.ndarray, given: tuple[str, ...] | None) -> Column:
    """Numbers and strings as they are; other objects by their content, labelled by their names."""
    if values.dtype.kind in "biuf" and given is None:
        usual = values.dtype != np.float16 and values.dtype.itemsize <= 8
        require(usual, name, values.dtype, "be of 32 or 64 bits, to label an axis", "cast to it inside the point")
        return Column(*identified(name, values), False)
    listed = values.tolist()
    try:
        contents = [digest(value) for value in listed]
    except NoContentError as error:
        hint = "pass numbers, strings, functions, or objects made of them"
        require(False, name, f"{error}", "hold values that can be compared between runs", hint)
        raise
    head = f"{name}\0object\0".encode()
    identities = tuple(hashlib.sha256(head + content).digest() for content in contents)
    labels = given or [_name(value) for value in listed]
    unique = list(labels)
    for i, label in enumerate(labels):
        if given is None and (label in unique[:i] or "<" in label):
            unique[i] = f"{label} {contents[i].hex()[:8]}"
    return Column(np.array(unique, np.dtypes.StringDType()), identities, True)


def _name(value: object) -> str:
    """A short label that holds in the next run too: the value's own name or text where it has one, else its type's."""
    if isinstance(value, (str, bool, int, float, complex, type(None))):
        return str(value)
    own = getattr(value, "__name__", None) or getattr(getattr(value, "func", None), "__name__", None)
    return own if isinstance(own, str) else f"<{type(value).__name__}>"


def words(identities: tuple[bytes, ...]) -> np.ndarray:
    """The first 64 bits of each identity as two words of 32, which a point's key is folded with.

    >>> words((bytes(range(32)),))
    array([[ 50462976, 117835012]], dtype=uint32)
    """
    raw = b"".join(identity[:8] for identity in identities)
    return np.frombuffer(raw, "<u4").reshape(-1, 2).astype(np.uint32)
