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
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import FsspecStore, MemoryStore

from jaxtheory.checks import require
from jaxtheory.results import Status
from jaxtheory.sweeps import axes, places
from jaxtheory.sweeps.outputs import Variable
from jaxtheory.sweeps.places import Place

# A chunk of fill values is a result too; arrays take this setting when they are opened.
_WRITE_ALL = {"array.write_empty_chunks": True}
_STATUS = {"flag_values": [int(code) for code in Status], "flag_meanings": " ".join(c.name.lower() for c in Status)}


class Store(NamedTuple):
    """An open store: where it is (None: in memory), its root group and its variables, status last."""

    place: Place | None
    group: zarr.Group
    variables: dict[str, zarr.Array]


def create(
    place: Place | None,
    layout: axes.Layout,
    coordinates: dict[str, np.ndarray],
    schema: dict[str, Variable],
    attributes: dict[str, Any],
) -> tuple[Store, bool]:
    """An empty store, whole or not at all; False beside it says that another run was first and this is the other's.

    A folder is completed beside `place` and moved there. At a URL the root's metadata, without which there is no
    store, is written last.
    """
    described = (layout, coordinates, schema, attributes)
    if place is None:
        memory = MemoryStore()
        _build(memory, *described)
        return _opened(None, memory), True
    with writing(place):
        first = _create_folder(place, described) if place.local else _upload(place, described)
    return _opened(place, _where(place)), first


def _create_folder(place: Place, described: tuple[Any, ...]) -> bool:
    parent, name = os.path.split(place.root)
    os.makedirs(parent, exist_ok=True)
    with places.turn(place, parent):
        if existing(place) is not None:
            return False
        beside = os.path.join(parent, f".{name}.partial")
        shutil.rmtree(beside, ignore_errors=True)
        _build(beside, *described)
        os.rename(beside, place.root)
    return True


def _upload(place: Place, described: tuple[Any, ...]) -> bool:
    if existing(place) is not None:
        return False
    made: dict[str, Any] = {}
    _build(MemoryStore(made), *described)
    for key in sorted(made, key=lambda key: (key == "zarr.json", key)):
        path = f"{place.root}/{key}"
        place.files.makedirs(os.path.dirname(path), exist_ok=True)
        place.files.pipe_file(path, made[key].to_bytes())
    return True


def existing(place: Place | None) -> Store | None:
    """The store at `place`, or None where there is none yet.

    Raises:
        ValueError: something else is there.
    """
    if place is None or not places.occupied(place):
        return None
    if not place.local and not place.files.exists(f"{place.root}/zarr.json"):
        return None  # an upload that was cut short
    try:
        store = _opened(place, _where(place))
        sweep = "environments" in store.group.attrs
    except (OSError, KeyError, ValueError):
        sweep = False
    require(sweep, "out", str(place), "be a sweep's store with sound metadata", "use another path or delete it")
    return store


def _where(place: Place) -> Any:
    return place.root if place.local else FsspecStore.from_url(place.name)


def _opened(place: Place | None, where: Any) -> Store:
    with zarr.config.set(_WRITE_ALL):
        group = zarr.open_group(where, mode="r+", zarr_format=3)
        variables = dict(sorted(group.arrays(), key=lambda item: (item[0] == "status", item[0])))
    labels = json.loads(str(group.attrs["grid"]))
    return Store(place, group, {name: array for name, array in variables.items() if name not in labels})


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
def writing(place: Place | None) -> Iterator[None]:
    """An `OSError` on the way names the store and says what became of it."""
    try:
        yield
    except OSError as error:
        said = f"{error.strerror or error} while writing the sweep's store (what is committed is kept, run again)"
        raise OSError(error.errno or 0, said, str(place)) from error


def missing(store: Store, chunks: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Those of the chunks that are not wholly there and sound. Reads them once, to check their checksums."""
    return [chunk for chunk in chunks if not _committed(store, chunk)]


def _committed(store: Store, chunk: tuple[int, ...]) -> bool:
    assert store.place is not None
    files = _files(store, chunk)
    variables = reversed(store.variables.items())
    if not all(store.place.files.isfile(files[name]) and _sound(array, chunk) for name, array in variables):
        return False
    return not store.place.files.exists(files["provenance"]) or _sound(_provenance(store), chunk)


def _sound(array: zarr.Array, chunk: tuple[int, ...]) -> bool:
    try:
        array.blocks[chunk]
    except ValueError:  # the checksum or the length is wrong
        return False
    return True


def _files(store: Store, chunk: tuple[int, ...]) -> dict[str, str]:
    """Where Zarr keeps this chunk of each variable, status last; the specification's default chunk keys."""
    assert store.place is not None
    root, place = store.place.root, "/".join(map(str, chunk))
    files = {
        name: "/".join((root, name, "c", place, *("0" for _ in range(array.ndim - len(chunk)))))
        for name, array in store.variables.items()
    }
    return {"provenance": f"{root}/provenance/environment/c/{place}"} | files


def repair(store: Store, coordinates: dict[str, np.ndarray], chunks: list[tuple[int, ...]], alone: bool) -> Store:
    """The store without what a kill left: the parts of these chunks, status first, and temporary files.

    `alone` says that nobody else writes, so that every temporary file is a dead one; else only those of these chunks.
    """
    place = store.place
    assert place is not None
    with writing(place), zarr.config.set(_WRITE_ALL):
        for stale in place.files.glob(f"{place.root}/**/*.partial") if alone and place.local else ():
            places.remove(place, stale)
        for chunk in chunks:
            for file in reversed(_files(store, chunk).values()):
                places.remove(place, file)
                for stale in () if alone or not place.local else place.files.glob(f"{file}.*.partial"):
                    places.remove(place, stale)
        for name, values in coordinates.items():
            array = store.group[name]
            assert isinstance(array, zarr.Array)
            if not place.files.isfile(f"{place.root}/{name}/c/0") or not _sound(array, (0,)):
                array[:] = values
    return store


def commit(store: Store, chunk: tuple[int, ...], values: dict[str, np.ndarray], environment: int) -> int:
    """Write a chunk, its status last; returns how many points that is. Not flushed: a power cut may undo it."""
    with writing(store.place):
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
    """Place of `environment` in the store's list, to which it is added if it is new.

    Other runs of a job array may add theirs, so the list is read again while they wait; at a URL nobody waits.
    """
    known = environments(store)
    if environment in known:
        return known.index(environment)
    if store.place is None:
        return _added(store, known, environment)
    with writing(store.place), places.turn(store.place, f"{store.place.root}/provenance"):
        now = zarr.open_group(_where(store.place), mode="r", zarr_format=3, use_consolidated=False)
        return _added(store, json.loads(str(now.attrs["environments"])), environment)


def _added(store: Store, known: list[dict[str, Any]], environment: dict[str, Any]) -> int:
    if environment not in known:
        known.append(environment)
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
    if store.place is None:
        return xarray.open_zarr(store.group.store, chunks=None).load()
    return xarray.open_zarr(store.place.root if store.place.local else store.group.store, chunks=None)
