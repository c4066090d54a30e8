"""A checked call of `run`, and its place in a store: which of the store's positions it asks for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxtheory.sweeps import axes
from jaxtheory.sweeps import layout as layouts
from jaxtheory.sweeps.axes import Column, Grid
from jaxtheory.sweeps.layout import Attributes, Chunk, Layout


class Version(NamedTuple):
    """What a point says of itself: its version, whether that was declared, and a hash of its code and constants."""

    number: int | str
    declared: bool
    code: str


class Sweep(NamedTuple):
    """A checked call of `run`; fields that have nothing to do with the point come last."""

    point: Callable[..., Any]
    grid: Grid
    columns: dict[str, Column]
    static: tuple[str, ...]
    paired: tuple[str, ...]
    vmap: bool
    takes_checkpoint: bool
    key: Any = None
    mesh: Any = None
    block: int | None = None
    limit: float | None = None
    version: Version = Version(0, True, "")

    @property
    def static_dims(self) -> tuple[str, ...]:
        """Dimensions along which a static axis varies."""
        return tuple(dim for dim, names in self.grid.dims.items() if set(names) & set(self.static))

    @property
    def traced(self) -> tuple[str, ...]:
        """Axes whose values the point gets as arrays."""
        return tuple(name for name in self.grid.axes if name not in self.static)

    @property
    def places(self) -> list[Chunk]:
        """Every combination of static values, as places along the static dimensions."""
        dims = self.grid.dims
        return list(np.ndindex(*(len(self.grid.axes[dim]) for dim in dims if dim in self.static_dims)))

    def static_values(self, place: Chunk) -> dict[str, Any]:
        """What the point gets at one combination: numbers as Python's, objects as they are."""
        index = dict(zip(self.static_dims, place, strict=True))
        along = {name: dim for dim, names in self.grid.dims.items() for name in names}
        return {name: self._python(name, index[along[name]]) for name in self.static}

    def _python(self, name: str, place: int) -> Any:
        value = self.grid.axes[name][place] if self.columns[name].by_content else self.columns[name].labels[place]
        return value.item() if isinstance(value, np.generic) else value

    def named(self, place: Chunk) -> str:
        """One combination of static values, as words."""
        index = dict(zip(self.static_dims, place, strict=True))
        along = {name: dim for dim, names in self.grid.dims.items() for name in names}
        return ", ".join(f"{name}={self.columns[name].labels[index[along[name]]]}" for name in self.static)

    @property
    def drawn(self) -> tuple[str, ...]:
        """Axes whose values a point's key depends on, in the order in which it is folded."""
        return tuple(sorted(set(self.grid.axes) - set(self.paired)))


class Frame(NamedTuple):
    """The positions of a store: for each axis the columns of all of its values, for each dimension those asked for."""

    dims: dict[str, tuple[str, ...]]
    columns: dict[str, Column]
    wanted: dict[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each dimension of the store."""
        return tuple(len(self.columns[dim].identities) for dim in self.dims)

    @property
    def axes(self) -> dict[str, np.ndarray]:
        """The labels of every axis."""
        return {name: column.labels for name, column in self.columns.items()}

    @property
    def along(self) -> dict[str, str]:
        """The dimension of every axis."""
        return {name: dim for dim, names in self.dims.items() for name in names}


def fresh_frame(sweep: Sweep) -> Frame:
    """The frame of a store that this call makes."""
    wanted = {dim: np.arange(len(sweep.grid.axes[dim])) for dim in sweep.grid.dims}
    return Frame(sweep.grid.dims, sweep.columns, wanted)


def frame_in(sweep: Sweep, stored: dict[str, Attributes]) -> Frame:
    """The frame of a store with these axes: its own values first, and those that this call adds behind them."""
    dims: dict[str, tuple[str, ...]] = {}
    for name, axis in stored.items():
        dims[axis.get("dim", name)] = (*dims.get(axis.get("dim", name), ()), name)
    columns: dict[str, Column] = {}
    wanted: dict[str, np.ndarray] = {}
    for dim, names in dims.items():
        known = {name: stored_column(name, stored[name]) for name in names}
        places = {place: i for i, place in enumerate(zip(*(known[n].identities for n in names), strict=True))}
        asked = list(zip(*(sweep.columns[name].identities for name in names), strict=True))
        new = [i for i, place in enumerate(asked) if place not in places]
        places |= {asked[i]: len(places) + k for k, i in enumerate(new)}
        wanted[dim] = np.array([places[place] for place in asked])
        columns |= {name: joined(known[name], sweep.columns[name], new) for name in names}
    return Frame(dims, columns, wanted)


def stored_column(name: str, axis: Attributes) -> Column:
    """The labels of an axis as a store describes it: by their contents where it kept those, else by their values."""
    if "contents" in axis:
        labels = np.array(axis["values"], np.dtypes.StringDType())
        return Column(labels, tuple(map(bytes.fromhex, axis["contents"])), True)
    labels = np.array(axis["values"], axis["dtype"])
    return Column(labels, axes.identified(name, labels)[1], False)


def joined(known: Column, asked: Column, new: list[int]) -> Column:
    """Stored values and new ones; labels of objects are kept apart where they are the same."""
    labels, more = known.labels.tolist(), asked.labels.tolist()
    for i in new:
        taken = asked.by_content and more[i] in labels
        labels.append(f"{more[i]} {asked.identities[i].hex()[:8]}" if taken else more[i])
    identities = known.identities + tuple(asked.identities[i] for i in new)
    return Column(np.array(labels, known.labels.dtype), identities, known.by_content)


class Laid(NamedTuple):
    """A sweep in its frame, cut as its store is; `words` are what keys are folded with, for each value of an axis."""

    sweep: Sweep
    frame: Frame
    layout: Layout
    words: dict[str, np.ndarray]

    @property
    def asked(self) -> list[np.ndarray]:
        """The positions asked for along each dimension, in the store's order of dimensions."""
        return [self.frame.wanted[dim] for dim in self.frame.dims]

    def place(self, combination: Chunk) -> Chunk:
        """Where in the asked grid a combination of positions along the static dimensions is."""
        at = dict(zip(self.layout.static, combination, strict=True))
        return tuple(int(np.flatnonzero(self.frame.wanted[dim] == at[dim])[0]) for dim in self.sweep.static_dims)

    def values(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The numbers of the axes that are not static, at these positions."""
        return {name: self.frame.columns[name].labels[positions[:, self._column[name]]] for name in self.sweep.traced}

    def keywords(self, positions: np.ndarray) -> np.ndarray:
        """What each point's key is folded with: two words for each axis that is drawn."""
        parts = [self.words[name][positions[:, self._column[name]]] for name in self.sweep.drawn]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(positions), 0), np.uint32)

    @property
    def _column(self) -> dict[str, int]:
        return {name: i for i, names in enumerate(self.frame.dims.values()) for name in names}


def laid(sweep: Sweep, frame: Frame, chunk: tuple[int, ...] | None = None) -> Laid:
    """The sweep in this frame, in chunks of this size, or in those of a new store."""
    static = [dim for dim in frame.dims if dim in sweep.static_dims]
    made = layouts.layout(tuple(frame.dims), frame.shape, static, sweep.block)
    words = {name: axes.words(frame.columns[name].identities) for name in sweep.drawn}
    return Laid(sweep, frame, made if chunk is None else made._replace(chunk=chunk), words)
