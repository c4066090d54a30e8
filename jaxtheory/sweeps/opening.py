"""The store of a sweep, made, continued or extended by the right one of its runs, and the right to write there."""

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray

from jaxtheory.results import Status
from jaxtheory.sweeps import contract, places, shares, store
from jaxtheory.sweeps import layout as layouts
from jaxtheory.sweeps.building import Content
from jaxtheory.sweeps.layout import Chunk
from jaxtheory.sweeps.places import Place
from jaxtheory.sweeps.programs import Programs
from jaxtheory.sweeps.shares import Share
from jaxtheory.sweeps.store import Store
from jaxtheory.sweeps.sweep import Laid, Sweep, frame_in, fresh_frame, laid


class Found(NamedTuple):
    """A sweep with its store open, its programs, and whether this call has made the store."""

    laid: Laid
    store: Store
    programs: Programs
    fresh: bool

    def dataset(self) -> xarray.Dataset:
        """What was asked for, in the order in which it was."""
        found, wanted = store.dataset(self.store), self.laid.frame.wanted
        chosen = {
            dim: places
            for (dim, places), size in zip(wanted.items(), self.store.shape, strict=True)
            if not np.array_equal(places, np.arange(size))
        }
        found = found.isel(chosen) if chosen else found
        dims = tuple(self.laid.sweep.grid.dims)
        return found if dims == tuple(self.laid.frame.dims) else found.transpose(*dims, ...)


@contextlib.contextmanager
def opened(sweep: Sweep, place: Place | None, share: Share) -> Iterator[Found]:
    """The sweep's store, while nobody else may write what this run does.

    Raises:
        ValueError: the store holds another sweep, or another run is writing there.
    """
    programs = Programs(sweep, place)
    with contextlib.ExitStack() as right:
        prepared = functools.partial(_prepared, sweep, place, share, programs, right)
        yield shares.first(share, prepared) or _after_the_first(sweep, place, programs)


def _prepared(sweep: Sweep, place: Place | None, share: Share, programs: Programs, right: Any) -> Found:
    """Open or make the store, and take the right to write."""
    fresh = laid(sweep, fresh_frame(sweep))
    if place is None:
        made, _ = store.create(None, _content(fresh, programs, _first_schema(fresh, share, programs)))
        return Found(fresh, made, programs, True)
    seen = store.existing(place)
    new = _content(fresh, programs, _first_schema(fresh, share, programs)) if seen is None else None
    with _turn(place):
        found, first = store.existing(place), False
        if found is None:
            new = new or _content(fresh, programs, _first_schema(fresh, share, programs))
            found, first = store.create(place, new)
        inside = fresh if first else _continued(sweep, place, found, programs)
        found = found if first else _grown(place, found, inside)
        among = share.runs > 1 and not share.together
        right.enter_context(places.held(place, shared=among))
    return Found(inside, found, programs, first)


def _after_the_first(sweep: Sweep, place: Place | None, programs: Programs) -> Found:
    """The store that process 0 has opened or made."""
    found = store.existing(place)
    if found is None or place is None:
        raise FileNotFoundError(f"process 0 made the sweep's store, but {place} is not to be seen from this process")
    return Found(_continued(sweep, place, found, programs), found, programs, False)


@contextlib.contextmanager
def _turn(place: Place) -> Iterator[None]:
    """Runs that start at once open the store one after another."""
    parent = os.path.dirname(place.root)
    with store.writing(place):
        if place.local:
            os.makedirs(parent, exist_ok=True)
        turn = contextlib.ExitStack()
        turn.enter_context(places.turn(place, parent))
    with turn:
        yield


def _first_schema(fresh: Laid, share: Share, programs: Programs) -> Any:
    """What the point returns: at all static values, or, where each is a call, at the first of this share."""
    if fresh.sweep.vmap:
        return programs.schema(fresh.sweep.places)
    mine = shares.own(share, layouts.chunks(fresh.layout)) or layouts.chunks(fresh.layout)
    return programs.first_schema([fresh.place(layouts.combination(fresh.layout, chunk)) for chunk in mine])


def _content(fresh: Laid, programs: Programs, schema: Any) -> Content:
    """All that a new store is made from."""
    sweep, layout = fresh.sweep, fresh.layout
    here = contract.environment(sweep.mesh, _block(fresh, programs), sweep.version.code)
    attributes = contract.terms(sweep, fresh.frame, schema) | here
    attributes |= {"chunk": list(layout.chunk), "shape": list(layout.shape), "environments": json.dumps([here])}
    return Content(layout, fresh.frame.axes, fresh.frame.along, schema, attributes)


def _block(fresh: Laid, programs: Programs) -> int:
    """Points of a block at the first static values."""
    if not fresh.sweep.vmap:
        return 1
    chunk = layouts.chunks(fresh.layout)[0]
    length = int(np.prod(fresh.layout.chunk))
    return programs(fresh, layouts.combination(fresh.layout, chunk), length).points()


def _continued(sweep: Sweep, place: Place, found: Store, programs: Programs) -> Laid:
    """The sweep in the frame of the store that it continues.

    Raises:
        ValueError: the store holds another sweep.
    """
    attributes = found.group.attrs.asdict()
    frame = fresh_frame(sweep)
    schema = None
    if "draws" in attributes:  # else it is refused by that, before anything is traced
        schema = programs.first_schema(sweep.places) if sweep.vmap else None
        if not sweep.vmap:
            programs.expect(store.schema(found))
    contract.require_same(place, attributes, contract.terms(sweep, frame, schema))
    contract.warn_of_other_code(place, store.environments(found), sweep.version)
    return laid(sweep, frame_in(sweep, found.grid), found.chunk)


def _grown(place: Place, found: Store, inside: Laid) -> Store:
    """The store with all of the values that are asked for; nobody else may be writing meanwhile."""
    if inside.layout.shape == found.shape and store.grown(found):
        return found
    with places.held(place, shared=False):
        return store.extended(found, inside.frame.axes, contract.grid_term(inside.frame))


def todo(found: Found, share: Share, retry: bool) -> dict[Chunk, np.ndarray]:
    """This share's chunks that miss points asked for, and which; cleared of what a kill left."""
    layout = found.laid.layout
    every = layouts.chunks(layout)
    asked = set(layouts.touched(layout, found.laid.asked))
    if found.fresh and not share.together:
        return {chunk: np.ones(layouts.extent(layout, chunk), bool) for chunk in shares.own(share, every)}
    if not share.together:
        return _cleared(found, [chunk for chunk in shares.own(share, every) if chunk in asked], retry, share.runs == 1)
    wanted = [chunk for chunk in every if chunk in asked]
    left = shares.first(share, lambda: _cleared(found, wanted, retry, True)) or {}
    marks = shares.told(share, [chunk in left for chunk in wanted])
    mine = shares.own(share, [chunk for chunk, mark in zip(wanted, marks, strict=True) if mark])
    return {chunk: left[chunk] if chunk in left else _missing(found, chunk, retry)[0] for chunk in mine}


def _cleared(found: Found, chunks: list[Chunk], retry: bool, alone: bool) -> dict[Chunk, np.ndarray]:
    missing = {chunk: _missing(found, chunk, retry) for chunk in chunks}
    damaged = [chunk for chunk, (_, whole) in missing.items() if not whole]
    store.repair(found.store, found.programs.labels | found.laid.frame.axes, damaged, alone)
    return {chunk: mask for chunk, (mask, _) in missing.items() if mask.any()}


def _missing(found: Found, chunk: Chunk, retry: bool) -> tuple[np.ndarray, bool]:
    """The points of a chunk that are asked for and not there, and whether what is there is sound."""
    wanted = layouts.within(found.laid.layout, chunk, found.laid.asked)
    kept = store.sound(found.store, chunk)
    if kept is None:
        return wanted, False
    done = kept.environment >= 0
    if retry:
        done &= kept.values["status"] == Status.OK
    return wanted & ~done, True
