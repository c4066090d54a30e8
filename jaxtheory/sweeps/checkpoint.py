"""Where a point of a sweep keeps its progress, so that a long training goes on after a kill.

Checkpoints lie beside the store, in a folder of their own that is gone when the sweep is done; each belongs to a point
by the values of its axes, the key, the version and the point's code, so that a changed point does not find them.
"""

import contextlib
import io
import os
import time
import uuid
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxtheory.checks import require
from jaxtheory.sweeps.places import Place, matching, remove

_STRUCTURE, _DTYPE = "structure", "dtype_{}"


class Checkpoint:
    """Progress of one point: `load` what an earlier call `save`d, whenever saving is `due`.

    >>> kept = Checkpoint(None, "example")
    >>> kept.load(like={"step": 0})
    >>> kept.save({"step": jnp.arange(3)})
    >>> kept.load(like={"step": 0})["step"].tolist()
    [0, 1, 2]
    """

    def __init__(self, place: Place | None, identity: str, every: float = 60.0) -> None:
        """`every` is the number of seconds between two saves that `due` asks for; a point may change it."""
        self.every = every
        self._place = place
        self._identity = identity
        self._memory: dict[str, bytes] = {}
        self._last = time.monotonic()

    def load(self, like: PyTree, name: str = "state") -> Any:
        """What was saved under a name, as NumPy arrays in the structure of `like`.

        None where nothing was, where it is damaged, or where it has another structure.
        """
        raw = self._read(name)
        if raw is None:
            return None
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
                held = {key: archive[key] for key in archive.files}
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
            return None
        structure: Any = jax.tree.structure(like)
        if str(held.get(_STRUCTURE)) != str(structure):
            return None
        leaves = [_unpacked(held[f"leaf_{i}"], str(held[_DTYPE.format(i)])) for i in range(structure.num_leaves)]
        return jax.tree.unflatten(structure, leaves)

    def save(self, tree: PyTree, name: str = "state") -> None:
        """Keep a pytree of arrays under a name, in place of what was saved before; whole or not at all."""
        require(isinstance(name, str) and name != "" and "/" not in name, "name", name, "be a word", "use 'state'")
        held: dict[str, Any] = {_STRUCTURE: np.array(str(jax.tree.structure(tree)))}
        for i, leaf in enumerate(jax.tree.leaves(tree)):
            held[f"leaf_{i}"], held[_DTYPE.format(i)] = _packed(leaf)
        buffer = io.BytesIO()
        np.savez(buffer, **held)
        self._write(name, buffer.getvalue())
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether `every` seconds have gone by since the last save, or since the start."""
        return time.monotonic() - self._last >= self.every

    def clear(self) -> None:
        """Remove what was saved, once the point is done."""
        self._memory.clear()
        if self._place is not None:
            for path in matching(self._place, folder(self._place), f"{self._identity}-*"):
                remove(self._place, path)

    def _file(self, place: Place, name: str) -> str:
        return f"{folder(place)}/{self._identity}-{name}.npz"

    def _read(self, name: str) -> bytes | None:
        if self._place is None:
            return self._memory.get(name)
        try:
            return self._place.files.cat_file(self._file(self._place, name))
        except FileNotFoundError:
            return None

    def _write(self, name: str, raw: bytes) -> None:
        if self._place is None:
            self._memory[name] = raw
            return
        target = self._file(self._place, name)
        self._place.files.makedirs(folder(self._place), exist_ok=True)
        if not self._place.local:
            self._place.files.pipe_file(target, raw)
            return
        draft = f"{target}.{uuid.uuid4().hex}.partial"
        with open(draft, "wb") as file:
            file.write(raw)
        os.replace(draft, target)


def folder(place: Place) -> str:
    """Where the checkpoints of a store lie: beside it, hidden."""
    parent, _, name = place.root.rpartition("/")
    return f"{parent}/.{name}.checkpoints"


def tidied(place: Place | None) -> None:
    """Remove the folder of checkpoints once it is empty."""
    if place is not None and place.local:
        with contextlib.suppress(OSError):
            for stale in matching(place, folder(place), "*.partial"):
                remove(place, stale)
            os.rmdir(folder(place))


def _packed(leaf: object) -> tuple[np.ndarray, np.ndarray]:
    """An array as bytes of a type that NumPy writes, and its own type."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), np.array(f"key {jax.random.key_impl(leaf)}")
    array = np.asarray(leaf)
    usual = array.dtype.kind in "biufc"
    require(usual or array.dtype.kind == "V", "tree", array.dtype, "hold arrays of numbers", "save numbers alone")
    return (array if usual else array.view(f"u{array.dtype.itemsize}")), np.array(array.dtype.name)


def _unpacked(array: np.ndarray, dtype: str) -> Any:
    if dtype.startswith("key "):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=dtype.removeprefix("key "))
    return array if array.dtype.name == dtype else array.view(jnp.dtype(dtype))
