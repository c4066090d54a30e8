"""An empty store of a sweep: its arrays, labels and attributes."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from jaxtheory.results import Status
from jaxtheory.sweeps import layout as layouts
from jaxtheory.sweeps.layout import Attributes, Layout
from jaxtheory.sweeps.outputs import Schema

_STATUS = {"flag_values": [int(code) for code in Status], "flag_meanings": " ".join(c.name.lower() for c in Status)}
CHECKSUMS = "checksums"  # the attribute that says what they are of; stores of 0.1.0 have none, nor the axes' values
_OF = "SHA-256 of values, place, sweep and the axes' values, 64 bits"
_LABELS = 1024  # values of an axis in one file, at least: an axis that grows does not fall into many


class Content(NamedTuple):
    """What a store is made from: its cut, the labels of its axes, the outputs of its points, and its attributes."""

    layout: Layout
    axes: dict[str, np.ndarray]
    along: dict[str, str]
    schema: Schema
    attributes: Attributes


def build(where: object, content: Content) -> None:
    """Every array, without a chunk, and the labels."""
    layout, schema, names = content.layout, content.schema, content.layout.names
    labels = [*(name for name in content.axes if name not in names), *sorted(schema.labels)]
    named = {"coordinates": " ".join(labels)} if labels else {}
    group = zarr.create_group(where, zarr_format=3, attributes=content.attributes | {CHECKSUMS: _OF} | named)
    for name, variable in schema.variables.items():
        shape, chunk = layout.shape + variable.shape, layout.chunk + variable.shape
        attrs = _STATUS if name == "status" else {}
        _array(group, name, shape, chunk, variable.dtype, names + variable.dims, attributes=attrs)
    for name, label in schema.labels.items():
        _array(group, name, label.shape, label.shape, label.values.dtype, label.dims)[...] = label.values
    for name, values in content.axes.items():
        length = (max(len(values), _LABELS),)
        _array(group, name, values.shape, length, values.dtype, (content.along[name],))[:] = values
    beside, made = group.create_group("provenance"), layouts.counts(layout)
    _array(beside, "environment", layout.shape, layout.chunk, "int32", names, fill=-1)
    _array(beside, "checksum", made, (1,) * len(made), "uint64", tuple(f"chunk_{name}" for name in names))
    consolidate(where)


def consolidate(where: object) -> None:
    """Keep the metadata of every array in the root's."""
    with warnings.catch_warnings():  # Zarr's own: consolidated metadata is not yet in the specification
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(where, zarr_format=3)


def _array(
    group: zarr.Group, name: str, shape: Any, chunk: Any, dtype: Any, dims: tuple[str, ...], *, attributes: Any = None,
    fill: int = 0,
) -> zarr.Array:  # fmt: skip
    kind = np.dtype(dtype).kind
    fill = -1 if name == "status" else fill
    return group.create_array(
        name,
        shape=shape,
        chunks=chunk,
        dtype=dtype,
        fill_value=filling(kind, fill),
        filters=None,
        serializer="auto" if kind == "T" else BytesCodec(endian="little" if np.dtype(dtype).itemsize > 1 else None),
        compressors=[Crc32cCodec()],
        dimension_names=dims,
        attributes=attributes or {},
        chunk_key_encoding={"name": "default", "separator": "/"},
        config={"write_empty_chunks": True},
    )


def filling(kind: str, otherwise: int = 0) -> Any:
    """What stands where nothing was computed: NaN, or 0 where there is none."""
    return {"f": np.nan, "c": complex(np.nan, np.nan), "T": "", "b": False}.get(kind, otherwise)
