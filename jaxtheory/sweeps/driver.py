"""Run a point over a grid: block by block on all devices, chunk by chunk into a store that another call continues."""

import contextlib
import functools
import inspect
import itertools
import json
import math
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.sharding import Mesh
from jaxtyping import Array
from tqdm import tqdm

from jaxtheory.checks import require
from jaxtheory.results import Status
from jaxtheory.sweeps import axes, blocks, contract, outputs, places, shares, store
from jaxtheory.sweeps.axes import Grid, Layout
from jaxtheory.sweeps.blocks import Block, Work
from jaxtheory.sweeps.outputs import Variable
from jaxtheory.sweeps.places import Place
from jaxtheory.sweeps.shares import Share
from jaxtheory.sweeps.store import Store

Chunk = tuple[int, ...]


class Sweep(NamedTuple):
    """A checked call of `run`."""

    point: Callable[..., Any]
    grid: Grid
    coordinates: dict[str, np.ndarray]
    layout: Layout
    key: jax.Array
    mesh: Mesh
    block: int | None
    limit: float | None


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
) -> xarray.Dataset:
    r"""Evaluate a point everywhere on a grid, with randomness of its own: point(x₁, ..., x_d, fold_in(key, i)).

    i is the point's flat index over the axes that are not `paired` (the last axis fastest), so that a point's draws
    depend on the key, the grid and its place there, not on blocks, devices, or what ran before. Blocks of points
    are vmapped, compiled once for each combination of static values, and sharded over the mesh's devices. Finished
    chunks, about √(points) points each or one `block` where that is more, are committed to `out` as the run goes;
    the same call made again verifies them by checksum and computes what is missing or damaged. With the same JAX,
    device count and block it ends with the same bytes; otherwise it warns, and records in the store's attribute
    `environments` and its array `provenance/environment` what computed which chunk.

    Under `jax.distributed` every process calls `run` alike: process 0 makes the store and sees what is missing, each
    process computes its share on its own devices and writes its own chunks, and all return when all are done, with
    the bytes of one process. A process that dies leaves its chunks missing; any number of processes finish them.

    Args:
        point: a pure function of the axes by name and of `key`, that returns a dict of scalars and of
            `sweeps.named` arrays, and may return its own integer "status". NaN or infinity in its outputs makes an
            OK status NOT_FINITE; its neighbours are unaffected. `point.version` (0 unless declared) tells results of
            a changed point from those of the old one: neither code nor data it closes over is compared.
        grid: from `sweeps.grid`.
        out: path of the Zarr v3 store, or a URL that fsspec knows; None keeps the result in memory, of each process.
        key: seed, or a key of JAX's threefry generator.
        block: points computed at once, at most, padded to a multiple of the devices. None takes the largest of a
            chunk, its half, its quarter, ... whose compiled program needs at most half of each device's memory.
            Memory that runs out halves the block, with a warning.
        mesh: whose devices to use, whatever its shape; None for all of this process.
        progress: show a bar with points per second and time left.
        static: axes whose values `point` gets as Python objects: shapes, names, functions. One compilation each.
        paired: axes whose points share their key, and so their draws.
        shard: "i/n", the i-th of n runs that know nothing of each other (a job array) and fill one store: chunks i,
            i + n, i + 2n, ... are this run's, and what it returns is -1 where the others are not done.
        time_limit: seconds for one block, compilation left out. Points of a block that takes longer have status
            TIMED_OUT and NaN; their chunk is committed, so that the next call goes on behind it, and `run` raises.

    Returns:
        Dataset with the axes as dimensions and an int32 `status` at each point; -1 is not computed. With `out`, it
        reads lazily from the store.

    Raises:
        ValueError: bad arguments; another run is writing `out`; or `out` holds another sweep (grid, key, version,
            dtypes, outputs, `static` or `paired`), named term by term with both values.
        OSError: `out` cannot be written; names the path. What was committed stays.
        MemoryError: not even one point a device fits.
        TimeoutError: a block took longer than `time_limit`; the device may be busy with it until this process ends.

    Cost: 2 traces and 1 compilation for each static combination; host memory of two chunks; a resume reads the store.

    >>> ds = run(lambda x, seed, key: {"square": x**2}, axes.grid(x=[1.0, 3.0], seed=range(2)), progress=False)
    >>> ds.square.dims, ds.square.values[:, 0].tolist()
    (('x', 'seed'), [1.0, 9.0])
    """
    words, devices = _key_words(key), blocks.points_mesh(mesh)
    with jax.set_mesh(devices):  # a mesh of the caller's in context would contradict it
        typed = jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")
        sweep = _checked(point, grid, typed, block, devices, _names(static), _names(paired), time_limit)
        place = None if out is None else places.located(out)
        return _run(sweep, place, shares.ALONE if place is None else shares.share(shard), progress)


def _run(sweep: Sweep, place: Place | None, share: Share, progress: bool) -> xarray.Dataset:
    program = _programs(sweep)
    opened, fresh = shares.first(share, functools.partial(_opened, sweep, place, program)) or _opened_by_first(place)
    if not fresh:
        sweep = _continued(sweep, opened)
        program = _programs(sweep)
    with contextlib.ExitStack() as right:
        if place is not None:
            among = share.runs > 1 and not share.together
            shares.first(share, lambda: right.enter_context(places.held(place, shared=among)))
        todo = _todo(sweep, opened, share, fresh)
        if not fresh:
            _schema(sweep, _combinations(sweep, todo))
        _fill(sweep, opened, todo, program, _bar(sweep, share, todo, progress))
        shares.finished(share)
    return store.dataset(opened)


def _programs(sweep: Sweep) -> Callable[[Chunk], tuple[Work, Block]]:
    return functools.lru_cache(maxsize=1)(functools.partial(_program, sweep))


def _opened(sweep: Sweep, place: Place | None, program: Callable[[Chunk], Any]) -> tuple[Store, bool]:
    """The store, and whether this call has made it."""
    found = store.existing(place)
    if found is not None:
        return found, False
    places = _combinations(sweep, axes.chunks(sweep.layout))
    schema = _schema(sweep, places)
    return _created(sweep, place, schema, program(places[0])[1])


def _opened_by_first(place: Place | None) -> tuple[Store, bool]:
    found = store.existing(place)
    if found is None:
        raise FileNotFoundError(f"process 0 made the sweep's store, but {place} is not to be seen from this process")
    return found, False


def _todo(sweep: Sweep, opened: Store, share: Share, fresh: bool) -> list[Chunk]:
    """This share's chunks that are missing or damaged, and cleared of what a kill left."""
    chunks = axes.chunks(sweep.layout)
    if not share.together:
        mine = shares.own(share, chunks)
        return mine if fresh else _cleared(sweep, opened, mine, share.runs == 1)
    found = shares.first(share, lambda: chunks if fresh else _cleared(sweep, opened, chunks, True))
    left = set(found or ())
    marks = shares.told(share, [chunk in left for chunk in chunks])
    return shares.own(share, list(itertools.compress(chunks, marks)))


def _cleared(sweep: Sweep, opened: Store, chunks: list[Chunk], alone: bool) -> list[Chunk]:
    todo = store.missing(opened, chunks)
    store.repair(opened, sweep.coordinates, todo, alone)
    return todo


def _bar(sweep: Sweep, share: Share, todo: list[Chunk], progress: bool) -> Any:
    """A bar over this share's points; what it does not have to do is done."""
    left = sum(math.prod(axes.extent(sweep.layout, chunk)) for chunk in todo)
    total = sweep.grid.size if share.runs == 1 else left
    return tqdm(total=total, initial=total - left, unit=" points", disable=not progress)


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _checked(
    point: Any,
    grid: Grid,
    key: jax.Array,
    block: Any,
    mesh: Mesh,
    static: tuple[str, ...],
    paired: tuple[str, ...],
    limit: float | None,
) -> Sweep:
    require(isinstance(grid, Grid) and bool(grid.axes), "grid", grid, "be made by sweeps.grid", "sweeps.grid(seed=[0])")
    for argument, names in (("static", static), ("paired", paired)):
        unknown = sorted(set(names) - set(grid.axes))
        require(not unknown, argument, names, f"name axes of the grid, {tuple(grid.axes)}", f"drop {unknown}")
    natural = block is None or (isinstance(block, int | np.integer) and bool(block >= 1))
    require(natural, "block", block, "be at least one point", "use block=None to fit it to memory")
    require(limit is None or limit > 0, "time_limit", limit, "be seconds > 0", "use None to wait for ever")
    _check_point(point, grid)
    static, paired = (tuple(name for name in grid.axes if name in names) for names in (static, paired))
    block = None if block is None else int(block)
    made = axes.layout(grid, static, paired, block)
    return Sweep(point, grid, axes.coordinates(grid, static), made, key, mesh, block, limit)


def _check_point(point: Any, grid: Grid) -> None:
    hint = f"write def point({', '.join(grid.axes)}, key)"
    require(callable(point), "point", point, "be a function", hint)
    try:
        inspect.signature(point).bind(**dict.fromkeys([*grid.axes, "key"]))
    except TypeError as error:
        require(False, "point", point, f"take the axes and `key` by name ({error})", hint)


def _key_words(key: Any) -> np.ndarray:
    """The words of a threefry key, wherever it lives."""
    hint = "pass a seed or jax.random.key(0, impl='threefry2x32')"
    if not hasattr(key, "dtype") or (jnp.issubdtype(key.dtype, jnp.integer) and key.ndim == 0):
        seed = operator.index(key)
        require(0 <= seed < 2**32, "key", seed, "be a seed of 32 bits", hint)
        return np.array([0, seed], np.uint32)
    typed = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    require(typed.shape == (), "key", typed.shape, "be one key", hint)
    impl = str(jax.random.key_impl(typed))
    require(impl == "threefry2x32", "key", impl, "be of threefry, whose draws do not depend on vmap", hint)
    return np.asarray(jax.random.key_data(typed))


def _continued(sweep: Sweep, found: Store) -> Sweep:
    """The sweep in the layout of the store that it continues.

    Raises:
        ValueError: the store holds another sweep.
    """
    first = (0,) * len(sweep.layout.static)
    contract.require_same(found.place, found.group.attrs.asdict(), _terms(sweep, _schema(sweep, [first])))
    return sweep._replace(layout=sweep.layout._replace(chunk=store.chunk_shape(found)))


def _created(sweep: Sweep, place: Place | None, schema: dict[str, Variable], block: Block) -> tuple[Store, bool]:
    here = contract.environment(sweep.mesh, block.points)
    attributes = _terms(sweep, schema) | here
    attributes |= {"chunk": list(sweep.layout.chunk), "environments": json.dumps([here])}
    return store.create(place, sweep.layout, sweep.coordinates, schema, attributes)


def _terms(sweep: Sweep, schema: dict[str, Variable]) -> dict[str, Any]:
    version = contract.declared_version(sweep.point)
    return contract.terms(sweep.layout, sweep.coordinates, schema, sweep.key, version)


def _combinations(sweep: Sweep, chunks: list[Chunk]) -> list[Chunk]:
    return list(dict.fromkeys(axes.combination(sweep.layout, chunk) for chunk in chunks))


def _schema(sweep: Sweep, places: list[Chunk]) -> dict[str, Variable]:
    """What the point returns, the same at these combinations of static values."""
    schemas = [outputs.schema(blocks.shapes(_work(sweep, place))) for place in places]
    for other in schemas[1:]:
        shown, first = ({name: str(variable) for name, variable in s.items()} for s in (other, schemas[0]))
        hint = "pad to one shape, or run one sweep each"
        require(other == schemas[0], "point", shown, f"return what it does at the first static values, {first}", hint)
    return schemas[0] if schemas else {}


def _work(sweep: Sweep, place: Chunk) -> Work:
    """The point at one combination of static values."""
    names = [name for name in sweep.layout.names if name in sweep.layout.static]
    chosen = {name: _plain(sweep.grid.axes[name][i]) for name, i in zip(names, place, strict=True)}
    dtypes = {name: label.dtype for name, label in sweep.coordinates.items() if name not in chosen}
    one_point = outputs.one_point(sweep.point, chosen, sweep.layout.names)
    # jit, so that blocks of several sizes share one trace of the point
    return Work(jax.jit(one_point), dtypes, sweep.key, sweep.mesh)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _program(sweep: Sweep, place: Chunk) -> tuple[Work, Block]:
    """The compiled block for one combination of static values; equal parts of a chunk, none larger than asked."""
    work, points = _work(sweep, place), math.prod(sweep.layout.chunk)
    if sweep.block is None:
        return work, blocks.fitting(work, points)
    return work, blocks.compiled(work, -(-points // -(-points // sweep.block)))


def _fill(sweep: Sweep, opened: Store, todo: list[Chunk], program: Callable[[Chunk], Any], bar: Any) -> None:
    """Compute these chunks, each written by a second thread while the next one is computed."""
    writing: Future[int] | None = None
    with bar, ThreadPoolExecutor(1) as writer:
        for place, chunks in itertools.groupby(todo, key=functools.partial(axes.combination, sweep.layout)):
            work, block = program(place)
            _warn_if_elsewhere(sweep, opened, todo, place, block)
            for chunk in chunks:
                values, block = _values(sweep, work, block, chunk)
                code = store.environment_code(opened, contract.environment(sweep.mesh, block.points))
                bar.update(0 if writing is None else writing.result())
                writing = writer.submit(store.commit, opened, chunk, values, code)
                late = int((values["status"] == Status.TIMED_OUT).sum()) if sweep.limit is not None else 0
                if late:
                    writing.result()
                    hint = "run again for the rest"
                    raise TimeoutError(
                        f"{late} points of chunk {chunk} took longer than {sweep.limit} s a block; {hint}"
                    )
        bar.update(0 if writing is None else writing.result())


def _values(sweep: Sweep, work: Work, block: Block, chunk: Chunk) -> tuple[dict[str, np.ndarray], Block]:
    """A chunk's outputs, and the block that had the memory for them."""
    places = axes.positions(sweep.layout, chunk)
    values = {name: sweep.coordinates[name][places[:, sweep.layout.names.index(name)]] for name in work.dtypes}
    index, shape = axes.stream(sweep.layout, places), axes.extent(sweep.layout, chunk)
    while True:
        try:
            flat = blocks.evaluate(block, work, values, index, sweep.limit)
            return {name: array.reshape(shape + array.shape[1:]) for name, array in flat.items()}, block
        except jax.errors.JaxRuntimeError as error:
            block = blocks.halved(work, block, error)


def _warn_if_elsewhere(sweep: Sweep, opened: Store, todo: list[Chunk], place: Chunk, block: Block) -> None:
    """Say so where what was committed before came from another JAX, other devices or another block."""
    here, known = contract.environment(sweep.mesh, block.points), store.environments(opened)
    left = set(todo)
    done = [chunk for chunk in axes.chunks(sweep.layout) if chunk not in left]
    codes = store.provenance(opened)
    alike = [known[codes[chunk]] for chunk in done if axes.combination(sweep.layout, chunk) == place]
    before = alike or [environment | {"block": here["block"]} for environment in known]
    if here not in before:
        changed = ", ".join(
            f"{name} {before[0][name]} -> {here[name]}" for name in here if before[0][name] != here[name]
        )
        message = f"{opened.place} is continued elsewhere ({changed}): values agree to rounding, not bit for bit"
        warnings.warn(message, stacklevel=4)
