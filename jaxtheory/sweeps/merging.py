"""Several stores of one sweep as one: filled on machines that share no disk, or over different parts of the grid."""

import contextlib
import functools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray

from jaxtheory.checks import require
from jaxtheory.sweeps import contract, places, store
from jaxtheory.sweeps import layout as layouts
from jaxtheory.sweeps.axes import Column
from jaxtheory.sweeps.building import Content
from jaxtheory.sweeps.layout import Attributes, Chunk, Layout
from jaxtheory.sweeps.places import Place
from jaxtheory.sweeps.store import Committed, Store
from jaxtheory.sweeps.sweep import Frame, joined, stored_column

_KEPT = 64  # chunks of each store that are held, since several chunks of the result lie in one


class Source(NamedTuple):
    """A store that is merged: for each dimension, its position of each position of the result, -1 where it has none.

    `codes` are the places of its environments in the list of the result, and `read` gives its sound chunks.
    """

    store: Store
    positions: list[np.ndarray]
    codes: np.ndarray
    read: Callable[[Chunk], Committed | None]


def merge(stores: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> xarray.Dataset:
    """One store that holds every point of several stores of the same sweep, over the union of their grids.

    A point that several stores have is kept once where they agree to the bit, and refused where they do not. What was
    computed where is kept in `environments` and `provenance/environment`. The sources are only read.

    Args:
        stores: paths or URLs of stores with the same key, version, dtypes, outputs, static and paired axes.
        out: path or URL of the store to make, which must not exist. A folder appears whole or not at all.

    Returns:
        The merged dataset, which reads lazily from `out`; a call of `run` may continue and extend it.

    Raises:
        ValueError: other sweeps, named term by term; points that differ, named; no store there; `out` exists.
        OSError: `out` cannot be written.

    Cost: reads the sources once and writes the result; memory of two chunks and 64 of each source.

    >>> import tempfile
    >>> from jaxtheory import sweeps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part in ([0, 1], [1, 2]):
    ...         _ = sweeps.run(lambda seed, key: {"double": 2 * seed}, sweeps.grid(seed=part),
    ...                        out=f"{folder}/{part[0]}.zarr", progress=False)
    ...     merge([f"{folder}/0.zarr", f"{folder}/1.zarr"], f"{folder}/all.zarr").double.values.tolist()
    [0, 2, 4]
    """
    several = isinstance(stores, (list, tuple)) and len(stores) > 0
    require(several, "stores", stores, "be a list of paths", "write merge(['a.zarr', 'b.zarr'], out='all.zarr')")
    found = [_existing(path) for path in stores]
    place = places.located(out)
    require(not places.occupied(place), "out", str(place), "not exist yet", "choose another path, or delete it")
    _require_one_sweep(found)
    frame, environments = _union(found), _all_environments(found)
    layout = layouts.layout(tuple(frame.dims), frame.shape, _static_dims(found[0], frame), None)
    sources = [_source(each, frame, environments) for each in found]
    attributes = found[0].group.attrs.asdict() | {"grid": contract.grid_term(frame)}
    attributes |= {"chunk": list(layout.chunk), "shape": list(layout.shape), "environments": json.dumps(environments)}
    attributes |= {"errors": json.dumps(_errors(found))} if _errors(found) else {}
    attributes.pop("coordinates", None)
    content = Content(layout, frame.axes, frame.along, store.schema(found[0]), attributes)
    with _made(place, content) as made:
        for chunk in layouts.chunks(layout):
            values, environment = _gathered(made, layout, chunk, sources, frame)
            if (environment >= 0).any():
                store.commit(made, chunk, values, environment)
    opened = store.existing(place)
    assert opened is not None
    return store.dataset(opened)


def _existing(path: Any) -> Store:
    found = store.existing(places.located(path))
    require(found is not None, "stores", str(path), "be stores of sweeps", "check the path")
    assert found is not None
    return found


def _require_one_sweep(found: list[Store]) -> None:
    first = found[0].group.attrs.asdict()
    for other in found:
        differ = contract.differences(first, other.group.attrs.asdict(), f"in {other.place}")
        wish = f"hold one sweep (differing from {found[0].place} in {'; '.join(differ)})"
        require(not differ and "draws" in first, "stores", str(other.place), wish, "merge those that agree")


def _union(found: list[Store]) -> Frame:
    """Every value of every axis, those of the first store first."""
    dims: dict[str, tuple[str, ...]] = {}
    for name, axis in found[0].grid.items():
        dims[axis.get("dim", name)] = (*dims.get(axis.get("dim", name), ()), name)
    columns = _columns(found[0])
    for other in found[1:]:
        more = _columns(other)
        for names in dims.values():
            known, theirs = (list(zip(*(c[n].identities for n in names), strict=True)) for c in (columns, more))
            new = [i for i, place in enumerate(theirs) if place not in set(known)]
            columns |= {name: joined(columns[name], more[name], new) for name in names}
    return Frame(dims, columns, {})


def _columns(each: Store) -> dict[str, Column]:
    return {name: stored_column(name, axis) for name, axis in each.grid.items()}


def _all_environments(found: list[Store]) -> list[Attributes]:
    known: list[Attributes] = []
    for each in found:
        known += [environment for environment in store.environments(each) if environment not in known]
    return known


def _static_dims(each: Store, frame: Frame) -> list[str]:
    static = json.loads(str(each.group.attrs["static"]))
    return [dim for dim, names in frame.dims.items() if set(names) & set(static)]


def _errors(found: list[Store]) -> dict[str, str]:
    kept = [json.loads(str(each.group.attrs.get("errors", "{}"))) for each in found]
    return {name: text for errors in kept for name, text in errors.items()}


def _source(each: Store, frame: Frame, environments: list[Attributes]) -> Source:
    columns, positions = _columns(each), []
    for names in frame.dims.values():
        own = {place: i for i, place in enumerate(zip(*(columns[n].identities for n in names), strict=True))}
        all_places = zip(*(frame.columns[n].identities for n in names), strict=True)
        positions.append(np.array([own.get(place, -1) for place in all_places]))
    order = [each.dims.index(dim) for dim in frame.dims]
    codes = np.array([environments.index(environment) for environment in store.environments(each)])

    @functools.lru_cache(maxsize=_KEPT)
    def read(chunk: Chunk) -> Committed | None:
        inside = tuple(chunk[order.index(i)] for i in range(len(order)))
        kept = store.sound(each, inside)
        if kept is None:
            return None
        turned = {name: _turned(array, order) for name, array in kept.values.items()}
        return Committed(_turned(kept.environment, order), turned)

    return Source(each, positions, codes, read)


def _turned(array: np.ndarray, order: list[int]) -> np.ndarray:
    """The array with the dimensions of the grid in the result's order."""
    return array.transpose(*order, *range(len(order), array.ndim))


def _gathered(
    made: Store, layout: Layout, chunk: Chunk, sources: list[Source], frame: Frame
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A chunk of the result, from every store that has a part of it."""
    shape = layouts.extent(layout, chunk)
    values = {
        name: np.full(shape + array.shape[len(shape) :], array.fill_value, array.dtype)
        for name, array in made.variables.items()
    }
    environment, origin = np.full(shape, -1, np.int32), np.full(shape, -1)
    for number, source in enumerate(sources):
        for committed, theirs, ours in _overlaps(layout, chunk, source):
            done = committed.environment[theirs] >= 0
            both = done & (environment[ours] >= 0)
            for name, array in committed.values.items():
                block = values[name][ours]
                _require_equal(
                    block,
                    array[theirs],
                    both,
                    name,
                    (layout, chunk, ours, frame),
                    sources,
                    source=source,
                    origin=origin,
                )
                block[done] = array[theirs][done]
                values[name][ours] = block
            for array, new in ((environment, source.codes[committed.environment[theirs]]), (origin, number)):
                block = array[ours]
                block[done & (block < 0)] = np.broadcast_to(new, block.shape)[done & (block < 0)]
                array[ours] = block
    return values, environment


def _overlaps(layout: Layout, chunk: Chunk, source: Source) -> Iterator[tuple[Committed, Any, Any]]:
    """Each sound chunk of a store with points of this one: the indices of these points there and here."""
    spans = list(layouts.spans(layout, chunk))
    at = [positions[span.start : span.stop] for positions, span in zip(source.positions, spans, strict=True)]
    order = [source.store.dims.index(dim) for dim in layout.names]
    sizes = [source.store.chunk[i] for i in order]
    touched = [np.unique(along[along >= 0] // size) for along, size in zip(at, sizes, strict=True)]
    for place in np.ndindex(*(len(along) for along in touched)):
        theirs = tuple(int(along[i]) for along, i in zip(touched, place, strict=True))
        committed = source.read(theirs)
        if committed is not None:
            inside = [np.flatnonzero((p >= 0) & (p // n == i)) for p, n, i in zip(at, sizes, theirs, strict=True)]
            there = [p[here] % n for p, here, n in zip(at, inside, sizes, strict=True)]
            yield committed, np.ix_(*there), np.ix_(*inside)


def _require_equal(
    ours: np.ndarray, theirs: np.ndarray, both: np.ndarray, name: str, where: Any, sources: list[Source],
    *, source: Source, origin: np.ndarray,
) -> None:  # fmt: skip
    """Points that two stores have are the same, to the bit."""
    if not both.any():
        return
    shape = (-1, math.prod(ours.shape[both.ndim :]) * ours.dtype.itemsize)
    one, other = (np.ascontiguousarray(array[both]).view(np.uint8).reshape(shape) for array in (ours, theirs))
    differ = (one != other).any(axis=1)
    if not differ.any():
        return
    layout, chunk, inside, frame = where
    first = np.argwhere(both)[int(np.argmax(differ))]
    local = tuple(int(axis.ravel()[i]) for axis, i in zip(inside, first, strict=True))
    spans = dict(zip(layout.names, layouts.spans(layout, chunk), strict=True))
    at = {dim: spans[dim][i] for dim, i in zip(layout.names, local, strict=True)}
    point = ", ".join(f"{axis}={frame.axes[axis][at[dim]]}" for axis, dim in frame.along.items())
    known = sources[int(origin[local])].store.place
    wish = f"agree with {known} at {point}, where {name} differs"
    hint = 'delete the wrong one, or merge without it; what failed is tried again by run(..., retry="failed")'
    require(False, "stores", str(source.store.place), wish, hint)


@contextlib.contextmanager
def _made(place: Place, content: Content) -> Iterator[Store]:
    """A new store, moved to its place once it is filled; at a URL it is filled in its place."""
    if not place.local:
        yield store.create(place, content)[0]
        return
    parent, name = os.path.split(place.root)
    beside = places.located(Path(parent) / f".{name}.merged")
    with store.writing(place):
        shutil.rmtree(beside.root, ignore_errors=True)
        try:
            yield store.create(beside, content)[0]
            os.rename(beside.root, place.root)
        finally:
            shutil.rmtree(beside.root, ignore_errors=True)
