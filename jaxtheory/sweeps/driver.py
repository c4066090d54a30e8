"""Run a point over a grid: block by block on all devices, chunk by chunk into a store that another call continues."""

import inspect
import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.sharding import Mesh
from jaxtyping import Array

from jaxtheory.checks import require
from jaxtheory.sweeps import axes, blocks, contract, places, shares
from jaxtheory.sweeps.axes import Grid
from jaxtheory.sweeps.filling import Progress, fill
from jaxtheory.sweeps.opening import opened
from jaxtheory.sweeps.sweep import Sweep


def run(
    point: Callable[..., Any],
    grid: Grid,
    *,
    out: str | os.PathLike[str] | None = None,
    key: int | np.integer | Array = 0,
    block: int | np.integer | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    static: str | Sequence[str] = (),
    paired: str | Sequence[str] = (),
    shard: str | None = None,
    time_limit: float | None = None,
    retry: Literal["failed"] | None = None,
    version: int | str | None = None,
    callback: Callable[[Progress], object] | None = None,
    vmap: bool = True,
) -> xarray.Dataset:
    r"""Evaluate a point everywhere on a grid, with randomness of its own: point(x₁, ..., x_d, key=k(x₁, ..., x_d)).

    k folds into `key`, for every axis that is not `paired`, in the order of their names, 64 bits of the SHA-256 of the
    axis' name, dtype and value as it is stored, little-endian, −0 as 0 (of the content of a static object). So a
    point's draws depend on the key and on the point's own values: not on the rest of the grid, the order of its axes,
    blocks, devices, or what ran before; and more values of an axis, on either side, are new draws beside the old.

    Blocks of points are vmapped, compiled once for each combination of static values, and sharded over the mesh's
    devices; the next is dispatched before the last is fetched. Finished chunks, about √(points) points each or one
    `block` where that is more, are committed to `out` as the run goes, by a thread of its own. The same call made again
    verifies them by checksum and computes what is missing or damaged; a call with other values of the axes computes
    those that are not there, and returns those it asked for. With the same JAX, device count and block a chunk that is
    computed whole has the same bytes; otherwise the call warns, and records in the store's attribute `environments`
    and its array `provenance/environment` what computed which point.

    Under `jax.distributed` every process calls `run` alike: process 0 makes the store and sees what is missing, each
    process computes its share on its own devices and writes its own chunks, and all return when all are done, with
    the bytes of one process. A process that dies leaves its chunks missing; any number of processes finish them.

    Args:
        point: a pure function of the axes by name and of `key`, that returns a dict of scalars and of
            `sweeps.named` arrays, and may return its own integer "status": a scalar, or a named array of the statuses
            of its parts, of which the worst is the point's and all are kept, as are integer outputs whose names end
            in "_status". NaN or infinity in its outputs makes an OK status NOT_FINITE; its neighbours are unaffected.
        grid: from `sweeps.grid`.
        out: path of the Zarr v3 store, or a URL that fsspec knows; None keeps the result in memory, of each process.
        key: seed, or a key of JAX's threefry generator.
        block: points computed at once, at most, padded to a multiple of the devices. None takes the largest of a
            chunk, its half, its quarter, ... whose compiled program needs at most half of each device's memory.
            Memory that runs out halves the block, with a warning.
        mesh: whose devices to use, whatever its shape; None for all of this process.
        progress: show a bar with points per second and time left.
        static: axes whose values `point` gets as Python objects: shapes, names, functions, optimizers. One compilation
            each. They are the same value in the next run where their contents are, whatever their names. A value at
            which the point raises marks its points INVALID_INPUT; its error is printed, and kept in the attribute
            `errors`.
        paired: axes whose points share their key, and so their draws; a store's are settled when it is made.
        shard: "i/n", the i-th of n runs that know nothing of each other (a job array) and fill one store: chunks i,
            i + n, i + 2n, ... are this run's, and what it returns is -1 where the others are not done.
        time_limit: seconds for one block, compilation left out. Points of a block that takes longer have status
            TIMED_OUT and NaN; their chunk is committed, so that the next call goes on behind it, and `run` raises.
        retry: "failed" computes again the points whose status is not OK.
        version: of the point (`point.version`, or 0): another one than the store's is refused. Where none is declared,
            the point's code and the values that it closes over are compared, and a change is warned of.
        callback: called after each chunk that is committed, with a `Progress`.
        vmap: False calls `point` as it is, point after point, with Python values: all axes are static, it may use NumPy
            or start programs of its own such as `networks.train_widths`, may return an `xarray.Dataset`, and may take
            a `checkpoint` to go on in the middle of a long computation.

    Returns:
        Dataset with the grid's axes as dimensions and an int32 `status` at each point; -1 is not computed. With `out`,
        it reads lazily from the store.

    Raises:
        ValueError: bad arguments; a point that decides in Python by a traced value; another run is writing `out`; or
            `out` holds another sweep (key, version, dtypes, outputs, `static` or `paired`), named term by term with
            both values, or one whose draws were by place, which can be read alone; metadata that contradict each other.
        OSError: `out` cannot be written; names the path. What was committed stays.
        MemoryError: not even one point a device fits.
        TimeoutError: a block took longer than `time_limit`; the device may be busy with it until this process ends.
        Exception: what the point raised, where it did so at all static values.

    Cost: 2 traces and 1 compilation for each static combination; host memory of four chunks; a resume reads the store.
    Source of the checksums: RFC 3720 (crc32c), FIPS 180-4 (SHA-256).

    >>> ds = run(lambda x, seed, key: {"square": x**2}, axes.grid(x=[1.0, 3.0], seed=range(2)), progress=False)
    >>> ds.square.dims, ds.square.values[:, 0].tolist()
    (('x', 'seed'), [1.0, 9.0])
    """
    words, devices = _key_words(key), blocks.points_mesh(mesh)
    require(
        retry is None or (isinstance(retry, str) and retry == "failed"),
        "retry",
        repr(retry),
        "be 'failed' or None",
        "write retry='failed'",
    )
    usual = callback is None or callable(callback)
    require(usual, "callback", callback, "be a function of a Progress", "write callback=print")
    with jax.set_mesh(devices):  # a mesh of the caller's in context would contradict it
        typed = jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")
        sweep = _checked(point, grid, _names("static", static), _names("paired", paired), vmap)
        sweep = sweep._replace(key=typed, mesh=devices, block=_block(block), limit=_limit(time_limit))
        sweep = sweep._replace(version=contract.version_of(point, version))
        place = None if out is None else places.located(out)
        require(place is not None or shard is None, "out", out, "be a store that shards fill together", "pass out=")
        share = shares.ALONE if place is None else shares.share(shard)
        with opened(sweep, place, share) as found:
            fill(found, share, retry == "failed", progress, callback)
            shares.finished(share)
        return found.dataset()


def _names(argument: str, names: object) -> tuple[str, ...]:
    listed = (
        (names,)
        if isinstance(names, str)
        else tuple(names)
        if isinstance(names, (tuple, list, set, frozenset, dict))
        else (names,)
    )
    usual = all(isinstance(name, str) for name in listed)
    require(usual, argument, repr(names), "be names of axes", f'write {argument}=("width",), or leave it out')
    return listed


def _checked(point: Any, grid: Grid, static: tuple[str, ...], paired: tuple[str, ...], vmap: bool) -> Sweep:
    require(isinstance(grid, Grid) and bool(grid.axes), "grid", grid, "be made by sweeps.grid", "sweeps.grid(seed=[0])")
    for argument, names in (("static", static), ("paired", paired)):
        unknown = sorted(set(names) - set(grid.axes))
        require(not unknown, argument, names, f"name axes of the grid, {tuple(grid.axes)}", f"drop {unknown}")
    require(isinstance(vmap, bool), "vmap", vmap, "be True or False", "use vmap=False to call points one by one")
    takes = _check_point(point, grid, vmap)
    static, paired = (tuple(name for name in grid.axes if name in names) for names in (static, paired))
    static = static if vmap else tuple(grid.axes)
    return Sweep(point, grid, axes.columns(grid, static), static, paired, vmap, takes)


def _block(block: Any) -> int | None:
    natural = block is None or (isinstance(block, int | np.integer) and block is not True and bool(block >= 1))
    require(natural, "block", block, "be at least one point", "use block=None to fit it to memory")
    return None if block is None else int(block)


def _limit(limit: Any) -> float | None:
    usual = limit is None or (isinstance(limit, int | float | np.number) and limit is not True and bool(limit > 0))
    require(usual, "time_limit", limit, "be seconds > 0", "use None to wait without limit")
    return limit


def _check_point(point: Any, grid: Grid, vmap: bool) -> bool:
    """Whether the point, which takes the axes and the key, takes a checkpoint too."""
    hint = f"write def point({', '.join(grid.axes)}, key)"
    require(callable(point), "point", point, "be a function", hint)
    signature = inspect.signature(point)
    takes = not vmap and "checkpoint" in signature.parameters
    names = [*grid.axes, "key", *(["checkpoint"] if takes else [])]
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        require(False, "point", point, f"take the axes and `key` by name ({error})", hint)
    return takes


def _key_words(key: Any) -> np.ndarray:
    """The words of a threefry key, wherever it lives."""
    hint = "pass a seed or jax.random.key(0, impl='threefry2x32')"
    if not hasattr(key, "dtype") or (jnp.issubdtype(key.dtype, jnp.integer) and key.ndim == 0):
        whole = isinstance(key, (int, np.integer, np.ndarray, jax.Array)) and not isinstance(key, bool)
        require(whole, "key", repr(key), "be a seed of 32 bits", hint)
        seed = operator.index(key)
        require(0 <= seed < 2**32, "key", seed, "be a seed of 32 bits", hint)
        return np.array([0, seed], np.uint32)
    typed = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else _wrapped(key)
    require(typed.shape == (), "key", typed.shape, "be one key", hint)
    impl = str(jax.random.key_impl(typed))
    require(impl == "threefry2x32", "key", impl, "be of threefry, whose draws do not depend on vmap", hint)
    return np.asarray(jax.random.key_data(typed))


def _wrapped(key: Any) -> jax.Array:
    raw = key.dtype == jnp.uint32 and key.ndim >= 1 and key.shape[-1] == 2
    hint = "pass a seed or jax.random.key(0, impl='threefry2x32')"
    require(raw, "key", f"{key.dtype}{list(key.shape)}", "be a seed or a key", hint)
    return jax.random.wrap_key_data(key, impl="threefry2x32")
