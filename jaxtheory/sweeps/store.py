"""A sweep's Zarr v3 store: made at once, committed chunk by chunk, extended in place, verified before it is continued.

The attribute `grid` says which values each axis has, in the order of their positions; new values come behind. A chunk
of the sweep is one chunk of each variable; that of `status` is written last, and is the commit. Beside them
`provenance/environment` holds for each point which entry of the attribute `environments` (versions, device, block,
code) computed it, -1 where none has, and `provenance/checksum` a hash of each chunk's values, its place, its axes'
values and the sweep's key, so that a chunk is sound in its own place alone. Every file ends in its crc32c. Nothing is
compressed or dated, so that equal runs leave equal bytes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from jaxtheory.checks import require
from jaxtheory.sweeps import inspection, places
from jaxtheory.sweeps.building import CHECKSUMS, Content, build, consolidate
from jaxtheory.sweeps.layout import Attributes, Chunk
from jaxtheory.sweeps.outputs import Schema, Variable
from jaxtheory.sweeps.places import Place
from jaxtheory.sweeps.sweep import stored_column

# A chunk of fill values is a result too; arrays take this setting when they are opened.
_WRITE_ALL = {"array.write_empty_chunks": True}


class Store(NamedTuple):
    """An open store: where it is (None: in memory), its root group, its axes by name, and its variables, status last.

    An axis is its dtype and values, for objects also the identities of their contents, for a zipped one its dimension.
    """

    place: Place | None
    group: zarr.Group
    grid: dict[str, Attributes]
    variables: dict[str, zarr.Array]

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the grid, in the order of the store."""
        return tuple(dict.fromkeys(axis.get("dim", name) for name, axis in self.grid.items()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each dimension."""
        return tuple(len(self.grid[dim]["values"]) for dim in self.dims)

    @property
    def chunk(self) -> tuple[int, ...]:
        """Points of a chunk along each dimension, fixed when the store was made."""
        return self.variables["status"].chunks

    @property
    def first_shape(self) -> tuple[int, ...]:
        """Number of values along each dimension when the store was made."""
        sizes: Any = self.group.attrs["shape"]
        return tuple(sizes)

    @property
    def identity(self) -> bytes:
        """What chunks are tied to beside their place: key, version, and which axes are static or paired."""
        return repr([self.group.attrs[name] for name in ("key", "point_version", "static", "paired")]).encode()

    def variable_dims(self, name: str) -> tuple[str, ...]:
        """Dimensions of a variable, those of the grid first."""
        return tuple(map(str, inspection.dimensions(self.variables[name])))


def create(place: Place | None, content: Content) -> tuple[Store, bool]:
    """An empty store, whole or not at all; False beside it says that another run was first and this is the other's.

    A folder is completed beside `place` and moved there. At a URL the root's metadata, without which there is no
    store, is written last.
    """
    if place is None:
        memory = MemoryStore()
        build(memory, content)
        return _opened(None, memory), True
    with writing(place):
        first = _create_folder(place, content) if place.local else _upload(place, content)
    return _opened(place, _where(place)), first


def _create_folder(place: Place, content: Content) -> bool:
    if existing(place) is not None:
        return False
    hint = "write out='runs/a.zarr'"
    require(not _is_worked_in(place.root), "out", place.name, "be none of the folders that this process is in", hint)
    parent, name = os.path.split(place.root)
    os.makedirs(parent, exist_ok=True)
    beside = os.path.join(parent, f".{name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    build(LocalStore(beside), content)
    os.rename(beside, place.root)
    return True


def _is_worked_in(folder: str) -> bool:
    """Whether the working folder is inside: it would be replaced, and the process left in one that is no more."""
    try:
        return Path.cwd().is_relative_to(folder)
    except FileNotFoundError:  # it was removed
        return False


def _upload(place: Place, content: Content) -> bool:
    if existing(place) is not None:
        return False
    made: dict[str, Any] = {}
    build(MemoryStore(made), content)
    for key in sorted(made, key=lambda key: (key == "zarr.json", key)):
        path = f"{place.root}/{key}"
        place.files.makedirs(os.path.dirname(path), exist_ok=True)
        place.files.pipe_file(path, made[key].to_bytes())
    return True


def existing(place: Place | None) -> Store | None:
    """The store at `place`, or None where there is none yet.

    Raises:
        ValueError: something else is there, or metadata that cannot be read.
    """
    if place is None or not places.occupied(place):
        return None
    if not place.local and not place.files.exists(f"{place.root}/zarr.json"):
        return None  # an upload that was cut short
    store, damage = None, "it has no `environments`"
    try:
        store = _opened(place, _where(place))
        environments(store)
    except Exception as error:  # whatever Zarr and JSON make of a file that is not theirs
        store, damage = None, f"{type(error).__name__}: {error}"
    wish = f"be a sweep's store with sound metadata ({damage})"
    require(store is not None, "out", str(place), wish, "use another path or delete it")
    return store


def _where(place: Place) -> Any:
    return LocalStore(place.root) if place.local else FsspecStore.from_url(place.name)


def _opened(place: Place | None, where: object) -> Store:
    with zarr.config.set(_WRITE_ALL):
        group = zarr.open_group(where, mode="r+", zarr_format=3)
        grid = json.loads(str(group.attrs["grid"]))
        return Store(place, group, grid, inspection.variables(group, grid))


@contextmanager
def writing(place: Place | None) -> Iterator[None]:
    """An `OSError` on the way names the store and says what became of it."""
    try:
        yield
    except OSError as error:
        said = f"{error.strerror or error} while writing the sweep's store (what is committed is kept, run again)"
        raise OSError(error.errno or 0, said, str(place)) from error


def extended(store: Store, axes: dict[str, np.ndarray], grid: str) -> Store:
    """The store with longer axes: arrays grow first, and the attribute `grid` that counts their values is written last.

    A run that was killed in between left arrays longer than the grid says; they are cut, or grow, again.
    """
    along = {name: axis.get("dim", name) for name, axis in json.loads(grid).items()}
    sizes = {along[name]: len(values) for name, values in axes.items()}
    shape = tuple(sizes[dim] for dim in store.dims)
    with writing(store.place), zarr.config.set(_WRITE_ALL):
        where = store.group.store
        group = zarr.open_group(where, mode="r+", zarr_format=3, use_consolidated=False)
        for name, array in store.variables.items():
            _resize(group, name, shape + array.shape[len(shape) :])
        _resize(group, "provenance/environment", shape)
        _resize(group, "provenance/checksum", tuple(-(-n // c) for n, c in zip(shape, store.chunk, strict=True)))
        for name, values in axes.items():
            _resize(group, name, values.shape)
            _member(group, name)[:] = values
        group.update_attributes({"grid": grid})
        consolidate(where)
        return _opened(store.place, where)


def _resize(group: zarr.Group, name: str, shape: tuple[int, ...]) -> None:
    array = _member(group, name)
    if array.shape != shape:
        array.resize(shape)


def _member(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def grown(store: Store) -> bool:
    """Whether the arrays are as long as the grid says, which a kill while they grew may have left undone."""
    whole = all(array.shape[: len(store.shape)] == store.shape for array in store.variables.values())
    return whole and store.group.metadata.consolidated_metadata is not None


class Committed(NamedTuple):
    """A chunk that is sound: the environment of each of its points, -1 where it is not done, and their values."""

    environment: np.ndarray
    values: dict[str, np.ndarray]


def sound(store: Store, chunk: Chunk) -> Committed | None:
    """A committed chunk; None where it is not whole, or not in its place."""
    if store.place is not None and not all(map(store.place.files.isfile, files(store, chunk).values())):
        return None
    try:
        values = {name: np.asarray(array.blocks[chunk]) for name, array in store.variables.items()}
        environment = np.asarray(_provenance(store).blocks[chunk])
        kept = int(np.asarray(_checksum(store).blocks[chunk]).item())
    except (ValueError, OSError):  # a crc32c or a length is wrong
        return None
    hashed = _hashed(store, chunk, values | {"provenance": environment})
    return Committed(environment, values) if hashed == kept else None


def _hashed(store: Store, chunk: Chunk, values: Mapping[str, np.ndarray]) -> int:
    """64 bits of a chunk's values, filled up to a whole chunk as in the file, of its place and its sweep."""
    made = hashlib.sha256(store.identity + str(chunk).encode())
    if CHECKSUMS in store.group.attrs:
        made.update(_axis_values(store, chunk, values["provenance"] >= 0))
    for name in sorted(values):
        array = values[name]
        whole = store.chunk + array.shape[len(store.chunk) :]
        if array.shape != whole:
            full = np.full(whole, _fill(store, name), array.dtype)
            full[tuple(slice(size) for size in array.shape)] = array
            array = full
        made.update(name.encode())
        made.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
    return int.from_bytes(made.digest()[:8], "little")


def _axis_values(store: Store, chunk: Chunk, done: np.ndarray) -> bytes:
    """What identifies the axes' values at a chunk's points that are done, as those that a longer axis adds are not."""
    found = b""
    for number, (dim, place, length) in enumerate(zip(store.dims, chunk, store.chunk, strict=True)):
        there = np.atleast_1d(done.any(axis=tuple(other for other in range(done.ndim) if other != number)))
        span = slice(place * length, place * length + len(there))
        for name, axis in store.grid.items():
            if axis.get("dim", name) == dim:
                part = {key: values[span] if isinstance(values, list) else values for key, values in axis.items()}
                found += b"".join(compress(stored_column(name, part).identities, there))
    return found


def _fill(store: Store, name: str) -> Any:
    return -1 if name == "provenance" else store.variables[name].fill_value


def files(store: Store, chunk: Chunk) -> dict[str, str]:
    """Where Zarr keeps this chunk of each array, status last; the specification's default chunk keys."""
    assert store.place is not None
    root, place = store.place.root, "/".join(map(str, chunk))
    beside = {name: f"{root}/provenance/{name}/c/{place}" for name in ("environment", "checksum")}
    return beside | {
        name: "/".join((root, name, "c", place, *("0" for _ in range(array.ndim - len(chunk)))))
        for name, array in store.variables.items()
    }


def repair(store: Store, labels: dict[str, np.ndarray], damaged: list[Chunk], alone: bool) -> None:
    """Remove what a kill left: the parts of these chunks, status first, and temporary files; restore the labels.

    `alone` says that nobody else writes, so that every temporary file is a dead one; else only those of these chunks.
    """
    place = store.place
    assert place is not None
    with writing(place), zarr.config.set(_WRITE_ALL):
        for stale in places.matching(place, place.root, "**/*.partial") if alone and place.local else ():
            places.remove(place, stale)
        for chunk in damaged:
            for file in reversed(files(store, chunk).values()):
                places.remove(place, file)
                parent, _, own = file.rpartition("/")
                for stale in () if alone or not place.local else places.matching(place, parent, f"{own}.*.partial"):
                    places.remove(place, stale)
        for name, values in labels.items():
            array = _member(store.group, name)
            if not _holds(array, values):
                array[:] = values


def _holds(array: zarr.Array, values: np.ndarray) -> bool:
    try:
        return bool(np.array_equal(np.asarray(array[:]), values))
    except (ValueError, OSError):  # a crc32c or a length is wrong
        return False


def commit(store: Store, chunk: Chunk, values: Mapping[str, np.ndarray], environment: np.ndarray) -> None:
    """Write a chunk, its status last. Not flushed: a power cut may undo it."""
    hashed = _hashed(store, chunk, {**values, "provenance": environment})
    with writing(store.place):
        for name, array in store.variables.items():
            if name == "status":
                _provenance(store).blocks[chunk] = environment
                _checksum(store).blocks[chunk] = np.uint64(hashed)
            array.blocks[chunk] = values[name]


def environments(store: Store) -> list[Attributes]:
    """Every environment that computed a part of this store."""
    return json.loads(str(store.group.attrs["environments"]))


def environment_code(store: Store, environment: Attributes) -> int:
    """Place of `environment` in the store's list, to which it is added if it is new."""
    known = environments(store)
    if environment in known:
        return known.index(environment)

    def added(text: str) -> str:
        now = json.loads(text)
        return json.dumps(now if environment in now else [*now, environment])

    return json.loads(update(store, "environments", added)).index(environment)


def update(store: Store, name: str, change: Callable[[str], str]) -> str:
    """Change an attribute, as it is now: other runs of a job array may change it too, one after another.

    At a URL nobody waits.
    """
    if store.place is None:
        return _changed(store.group, name, change)
    with writing(store.place), places.turn(store.place, f"{store.place.root}/provenance"):
        text = _changed(zarr.open_group(store.group.store, mode="r+", zarr_format=3), name, change)
    store.group.metadata.attributes[name] = text
    return text


def _changed(group: zarr.Group, name: str, change: Callable[[str], str]) -> str:
    before = str(group.attrs.get(name, "{}"))
    text = change(before)
    if text != before:
        group.update_attributes({name: text})
    return text


def provenance(store: Store) -> np.ndarray:
    """Place in the list of environments of the one that computed each point; -1 where none has yet."""
    return np.asarray(_provenance(store)[...])


def _provenance(store: Store) -> zarr.Array:
    return _member(store.group, "provenance/environment")


def _checksum(store: Store) -> zarr.Array:
    return _member(store.group, "provenance/checksum")


def dataset(store: Store) -> xarray.Dataset:
    """The store as labelled arrays: read when they are used where the store is a path, loaded where it is memory."""
    path = store.place is not None and store.place.local and "::" not in store.place.root
    where = store.place.root if store.place is not None and path else store.group.store
    # numbers are what the files hold, whatever attributes for their decoding say
    found = xarray.open_zarr(where, chunks=None, zarr_format=3, mask_and_scale=False, decode_times=False)
    return found.load() if store.place is None else found


def schema(store: Store) -> Schema:
    """What the points of a store return, from its arrays."""
    count = len(store.dims)
    variables = {
        name: Variable(store.variable_dims(name)[count:], array.shape[count:], str(array.dtype))
        for name, array in store.variables.items()
    }
    labels = {name: inspection.label(name, _member(store.group, name)) for name in inspection.labelled(store.group)}
    lost = [name for name, label in labels.items() if label is None]
    require(not lost, "out", str(store.place), f"have sound labels {lost}", "use another path or delete it")
    held = {name: label for name, label in labels.items() if label is not None}
    return Schema(dict(sorted(variables.items())), dict(sorted(held.items())))
