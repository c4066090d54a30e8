"""Whether the metadata of a store agree: its attributes with each other, and every array with what they say of it."""

import json
from typing import Any

import numpy as np
import zarr

from jaxtheory.sweeps.layout import Attributes
from jaxtheory.sweeps.outputs import Label, Variable
from jaxtheory.sweeps.sweep import stored_column

_KINDS: dict[str, Any] = {
    "draws": str,
    "key": str,
    "dtype": str,
    "point_version": int | str,
    "shape": list,
    "chunk": list,
}
_LABEL = "coordinate "
_TEXTS: dict[str, Any] = {"outputs": dict, "static": list, "paired": list, "environments": list}  # as JSON


def variables(group: zarr.Group, grid: dict[str, Attributes]) -> dict[str, zarr.Array]:
    """The arrays of the points' outputs, status last.

    Raises:
        ValueError: metadata that contradict each other; says which.
    """
    arrays = dict(sorted(group.arrays(), key=lambda item: (item[0] == "status", item[0])))
    dims = tuple(dict.fromkeys(axis.get("dim", name) for name, axis in grid.items()))
    attributes = group.attrs.asdict()
    if "draws" not in attributes:  # a store of the time before, which is only read
        return {name: a for name, a in arrays.items() if dimensions(a)[: len(dims)] == dims and name not in grid}
    _agree("zarr_format", group.metadata.zarr_format, 3)
    told = _attributes(attributes, len(dims))
    _check_axes(grid, dims, arrays)
    chunk = tuple(told["chunk"])
    found = {name: array for name, array in arrays.items() if name in told["outputs"]}
    for name in sorted(told["outputs"]):
        if name.startswith(_LABEL):
            continue
        array = _array(found, name)
        own = dimensions(array)
        kind = Variable(own[len(dims) :], array.shape[len(dims) :], str(array.dtype))  # type: ignore[arg-type]
        _agree(name, (own[: len(dims)], str(kind)), (dims, told["outputs"][name]))
        _agree(f"chunks of {name}", array.chunks, chunk + array.shape[len(dims) :])
    for name in labelled(group):
        found_label = label(name, _array(arrays, name))
        if found_label is not None:  # else it is damaged, which can be repaired
            _agree(name, str(found_label), told["outputs"][_LABEL + name])
    environment, checksum = group["provenance/environment"], group["provenance/checksum"]
    assert isinstance(environment, zarr.Array)
    assert isinstance(checksum, zarr.Array)
    _agree("provenance", (environment.dtype, environment.chunks), (np.dtype("int32"), chunk))
    _agree("checksums", (checksum.dtype, checksum.chunks), (np.dtype("uint64"), (1,) * len(chunk)))
    return found


def labelled(group: zarr.Group) -> list[str]:
    """The coordinates of the outputs."""
    outputs = json.loads(str(group.attrs["outputs"]))
    return [name.removeprefix(_LABEL) for name in outputs if name.startswith(_LABEL)]


def label(name: str, array: zarr.Array) -> Label | None:
    """A coordinate of the outputs; None where its file is not there or damaged."""
    try:
        values = np.asarray(array[...])
    except (ValueError, OSError):  # a crc32c or a length is wrong
        return None
    return Label.of(name, tuple(map(str, dimensions(array))), values) if array.nchunks_initialized else None


def dimensions(array: zarr.Array) -> tuple[str | None, ...]:
    """Names of an array's dimensions."""
    names: Any = getattr(array.metadata, "dimension_names", None)
    return tuple(names or ())


def _attributes(attributes: Attributes, count: int) -> Attributes:
    """What the attributes say, those in JSON read, once each is there and of its kind."""
    read = attributes | {name: json.loads(attributes[name]) for name in _TEXTS}
    for name, kind in (_KINDS | _TEXTS).items():
        _agree(f"type of the attribute {name}", isinstance(read[name], kind), True)
    for name in ("shape", "chunk"):
        _agree(name, [isinstance(size, int) and size >= 1 for size in read[name]], [True] * count)
    _agree("environments", all(isinstance(environment, dict) for environment in read["environments"]), True)
    _agree("status", "status" in read["outputs"], True)
    return read


def _check_axes(grid: dict[str, Attributes], dims: tuple[str, ...], arrays: dict[str, zarr.Array]) -> None:
    for dim in dims:
        together = {name: axis for name, axis in grid.items() if axis.get("dim", name) == dim}
        columns = {name: stored_column(name, axis) for name, axis in together.items()}
        places = list(zip(*(column.identities for column in columns.values()), strict=True))
        _agree(f"distinct values of {dim}", len(set(places)), len(places))
        for name, column in columns.items():
            array = _array(arrays, name)
            _agree(name, (dimensions(array), array.dtype), ((dim,), column.labels.dtype))


def _array(arrays: dict[str, zarr.Array], name: str) -> zarr.Array:
    _agree(f"array {name}", name in arrays, True)
    _agree(f"attribute _FillValue of {name}", "_FillValue" in arrays[name].attrs, False)
    return arrays[name]


def _agree(name: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise ValueError(f"{name}: {found} where {wanted} is right")
