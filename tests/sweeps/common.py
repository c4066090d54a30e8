"""What the tests of sweeps share: points that compile soon, the definition of a draw, and what is computed."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory import sweeps
from jaxtheory.sweeps import opening, pipeline

run = functools.partial(sweeps.run, progress=False)
GRID = sweeps.grid(ridge=[0.1, 1.0, 10.0, 100.0], seed=range(5))
CHUNKS = 4  # of 5 points each


def draws(ridge, seed, key):
    """A point whose outputs are its draw and an array that depends on its values."""
    path = jnp.asarray(ridge, float) * jax.random.uniform(key, (3,))
    return {"bits": jax.random.bits(key), "path": sweeps.named(path, "time")}


def plain(ridge, seed, key):
    """A point without draws, which compiles in no time."""
    ridge, seed = jnp.asarray(ridge, float), jnp.asarray(seed, int)
    path = ridge * jnp.arange(3.0) + seed.astype(ridge.dtype)
    return {"bits": (1000 * ridge).astype(int) + seed, "path": sweeps.named(path, "time")}


def keyed(key, paired=(), **values):
    """The definition: for each axis that is not paired, by name, 64 bits of SHA-256 of name, dtype and value."""
    for name in sorted(set(values) - set(paired)):
        value = np.asarray(values[name])
        value = value + np.zeros((), value.dtype) if value.dtype.kind == "f" else value
        raw = value.astype(value.dtype.newbyteorder("<")).tobytes()
        words = np.frombuffer(hashlib.sha256(f"{name}\0{value.dtype.name}\0".encode() + raw).digest()[:8], "<u4")
        for word in words:
            key = jax.random.fold_in(key, word)
    return key


def content(path):
    """Every file of the store, by name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def devices(count):
    return jax.make_mesh((count,), ("anything",), devices=jax.devices()[:count])


def counting(monkeypatch):
    """The points that are computed from now on, by their flat index in the store, repetitions for padding left out."""
    indices, landings = [], pipeline.computed

    def counted(tasks, program, limit):
        for landed in landings(tasks, program, limit):
            positions = landed.task.positions[landed.task.slots[landed.real]]
            indices.extend(np.ravel_multi_index(positions.T, shapes[-1]).tolist())
            yield landed

    shapes, todo = [], opening.todo

    def known(found, share, retry):
        shapes.append(found.laid.layout.shape)
        return todo(found, share, retry)

    monkeypatch.setattr("jaxtheory.sweeps.pipeline.computed", counted)
    monkeypatch.setattr("jaxtheory.sweeps.filling.todo", known)
    return indices
