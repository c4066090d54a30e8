"""A sweep's Zarr v3 store: made at once, committed chunk by chunk, verified by checksum before it is continued.

Every array keeps one crc32c a chunk. A chunk of the sweep is one chunk of each variable; that of `status` is written
last, and is the commit. `provenance/environment` holds, for each chunk, which entry of the attribute `environments`
(versions, device, block) computed it, where that is not the first. Nothing is compressed or dated, so that equal
runs leave equal bytes.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import MemoryStore

from jaxtheory.checks import require
from jaxtheory.results import Status
from jaxtheory.sweeps import axes
from jaxtheory.sweeps.outputs import Variable

# A chunk of fill values is a result too; arrays take this setting when they are opened.
_WRITE_ALL = {"array.write_empty_chunks": True}
_STATUS = {"flag_values": [int(code) for code in Status], "flag_meanings": " ".join(c.name.lower() for c in Status)}


class Store(NamedTuple):
    """An open store: where it is (None: in memory), its root group and its variables, status last."""

    path: Path | None
    group: zarr.Group
    variables: dict[str, zarr.Array]


def create(
    path: Path | None,
    layout: axes.Layout,
    coordinates: dict[str, np.ndarray],
    schema: dict[str, Variable],
    attributes: dict[str, Any],
) -> Store:
    """An empty store, complete in a directory beside `path` before it is moved there: a kill leaves all or nothing."""
    if path is None:
        memory = MemoryStore()
        _build(memory, layout, coordinates, schema, attributes)
        return _opened(None, memory)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.partial")
        shutil.rmtree(beside, ignore_errors=True)
        _build(beside, layout, coordinates, schema, attributes)
        beside.rename(path)
    return _opened(path, path)


def existing(path: Path | None) -> Store | None:
    """The store at `path`, or None where there is none yet.

    Raises:
        ValueError: something else is there.
    """
    if path is None or not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    try:
        store = _opened(path, path)
        sweep = "environments" in store.group.attrs
    except (OSError, KeyError, ValueError):
        sweep = False
    require(sweep, "out", str(path), "be a sweep's store with sound metadata", "use another path or delete it")
    return store


def _opened(path: Path | None, where: Any) -> Store:
    with zarr.config.set(_WRITE_ALL):
        group = zarr.open_group(where, mode="r+", zarr_format=3)
        variables = dict(sorted(group.arrays(), key=lambda item: (item[0] == "status", item[0])))
    labels = json.loads(str(group.attrs["grid"]))
    return Store(path, group, {name: array for name, array in variables.items() if name not in labels})


def _build(where: Any, layout: axes.Layout, coordinates: Any, schema: Any, attributes: dict[str, Any]) -> None:
    group = zarr.create_group(where, zarr_format=3, attributes=attributes)
    for name, variable in schema.items():
        shape, chunk = layout.shape + variable.shape, layout.chunk + variable.shape
        attrs = _STATUS if name == "status" else {}
        _array(group, name, shape, chunk, variable.dtype, layout.names + variable.dims, attrs)
    for name, values in coordinates.items():
        _array(group, name, values.shape, values.shape, values.dtype, (name,))[:] = values
    made, names = axes.counts(layout), tuple(f"chunk_{name}" for name in layout.names)
    _array(group.create_group("provenance"), "environment", made, (1,) * len(made), "int32", names)
    with warnings.catch_warnings():  # Zarr's own: consolidated metadata is not yet in the specification
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(where, zarr_format=3)


def _array(
    group: zarr.Group, name: str, shape: Any, chunk: Any, dtype: Any, dims: tuple[str, ...], attributes: Any = None
) -> zarr.Array:
    kind = np.dtype(dtype).kind
    fill = {"f": np.nan, "c": complex(np.nan, np.nan), "T": "", "b": False}.get(kind, -1 if name == "status" else 0)
    return group.create_array(
        name,
        shape=shape,
        chunks=chunk,
        dtype=dtype,
        fill_value=fill,
        filters=None,
        serializer="auto" if kind == "T" else BytesCodec(endian="little" if np.dtype(dtype).itemsize > 1 else None),
        compressors=[Crc32cCodec()],
        dimension_names=dims,
        attributes=attributes or {},
        chunk_key_encoding={"name": "default", "separator": "/"},
        config={"write_empty_chunks": True},
    )


@contextmanager
def writing(path: Path | None) -> Iterator[None]:
    """An `OSError` on the way names the store and says what became of it."""
    try:
        yield
    except OSError as error:
        said = f"{error.strerror or error} while writing the sweep's store (what is committed is kept, run again)"
        raise OSError(error.errno or 0, said, str(path)) from error


def missing(store: Store, layout: axes.Layout) -> list[tuple[int, ...]]:
    """Chunks that are not wholly there and sound, in order. Reads the whole store once, to check its checksums."""
    return [chunk for chunk in axes.chunks(layout) if not _committed(store, chunk)]


def _committed(store: Store, chunk: tuple[int, ...]) -> bool:
    assert store.path is not None
    files = _files(store, chunk)
    variables = reversed(store.variables.items())
    if not all(files[name].is_file() and _sound(array, chunk) for name, array in variables):
        return False
    return not files["provenance"].exists() or _sound(_provenance(store), chunk)


def _sound(array: zarr.Array, chunk: tuple[int, ...]) -> bool:
    try:
        array.blocks[chunk]
    except ValueError:  # the checksum or the length is wrong
        return False
    return True


def _files(store: Store, chunk: tuple[int, ...]) -> dict[str, Path]:
    """Where Zarr keeps this chunk of each variable, status last; the specification's default chunk keys."""
    assert store.path is not None
    place = "/".join(map(str, chunk))
    files = {
        name: store.path / name / "c" / "/".join((place, *("0" for _ in range(array.ndim - len(chunk)))))
        for name, array in store.variables.items()
    }
    return {"provenance": store.path / "provenance" / "environment" / "c" / place} | files


def mended(store: Store, coordinates: dict[str, np.ndarray], chunks: list[tuple[int, ...]]) -> Store:
    """The store without what a kill left: temporary files, and the parts of these chunks, status first."""
    with writing(store.path), zarr.config.set(_WRITE_ALL):
        assert store.path is not None
        for stale in store.path.rglob("*.partial"):
            stale.unlink(missing_ok=True)
        for chunk in chunks:
            for file in reversed(_files(store, chunk).values()):
                file.unlink(missing_ok=True)
        for name, values in coordinates.items():
            array = store.group[name]
            assert isinstance(array, zarr.Array)
            if not (store.path / name / "c" / "0").is_file() or not _sound(array, (0,)):
                array[:] = values
    return store


def commit(store: Store, chunk: tuple[int, ...], values: dict[str, np.ndarray], environment: int) -> int:
    """Write a chunk, its status last; returns how many points that is. Not flushed: a power cut may undo it."""
    with writing(store.path):
        if environment != 0:
            _provenance(store).blocks[chunk] = environment
        for name, array in store.variables.items():
            array.blocks[chunk] = values[name]
    return values["status"].size


def chunk_shape(store: Store) -> tuple[int, ...]:
    """Points of a chunk along each axis, fixed when the store was made."""
    return store.variables["status"].chunks


def environments(store: Store) -> list[dict[str, Any]]:
    """Every environment that computed a part of this store."""
    return json.loads(str(store.group.attrs["environments"]))


def environment_code(store: Store, environment: dict[str, Any]) -> int:
    """Place of `environment` in the store's list, to which it is added if it is new."""
    known = environments(store)
    if environment not in known:
        known.append(environment)
        with writing(store.path):
            store.group.update_attributes({"environments": json.dumps(known)})
    return known.index(environment)


def provenance(store: Store) -> np.ndarray:
    """Code of the environment that computed each chunk; 0 also where none has yet."""
    return np.asarray(_provenance(store)[...])


def _provenance(store: Store) -> zarr.Array:
    array = store.group["provenance/environment"]
    assert isinstance(array, zarr.Array)
    return array


def dataset(store: Store) -> xarray.Dataset:
    """The store as labelled arrays: read when they are used where the store is a path, loaded where it is memory."""
    if store.path is None:
        return xarray.open_zarr(store.group.store, chunks=None).load()
    return xarray.open_zarr(os.fspath(store.path), chunks=None)
