"""One block of points as one compiled program, sharded over devices and sized to their memory."""

import functools
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxtheory.checks import require

# The rest is for what the analysis does not see: constants of the program, other arrays, the host's own work.
MEMORY_FRACTION = 0.5


class Block(NamedTuple):
    """A compiled program for `points` points, padded to `rows`, a multiple of the number of devices."""

    compiled: Any
    points: int
    rows: int


class Work(NamedTuple):
    """A point with its static values bound, what it takes, and where it runs."""

    evaluate: Callable[..., Any]
    dtypes: dict[str, np.dtype]
    words: int
    key: jax.Array
    mesh: Mesh


def points_mesh(mesh: Mesh | None) -> Mesh:
    """The devices of `mesh`, or this process' own, along one axis."""
    meant = mesh is None or isinstance(mesh, Mesh)
    require(meant, "mesh", mesh, "be a jax.sharding.Mesh", 'use jax.make_mesh((jax.device_count(),), ("points",))')
    devices = jax.local_devices() if mesh is None else list(mesh.devices.flat)
    return jax.make_mesh((len(devices),), ("points",), axis_types=(AxisType.Auto,), devices=devices)


def shapes(work: Work) -> Any:
    """What one point returns, without running it."""
    values = {name: jax.ShapeDtypeStruct((), dtype) for name, dtype in work.dtypes.items()}
    return jax.eval_shape(work.evaluate, values, jax.ShapeDtypeStruct((work.words,), np.uint32), work.key)


def fitting(work: Work, points: int) -> Block:
    """The largest of `points`, its half, its quarter, ... whose compiled program fits in the devices' memory.

    Temporaries of the compiled program, and arguments and outputs of the two blocks that are on their way at once,
    must fit in half of each device's memory limit, or of its share of the host's physical memory where it states none.
    """
    block = compiled(work, points)
    budget = MEMORY_FRACTION * _memory(work.mesh)
    while _needed(block) > budget and block.rows > work.mesh.size:
        block = compiled(work, _half(block, work.mesh))
    return block


def compiled(work: Work, points: int) -> Block:
    """The program of a block of `points`, or of the largest half of it for which the compiler finds memory."""
    rows = -(-points // work.mesh.size) * work.mesh.size
    try:
        return Block(_compile(work, rows), points, rows)
    except jax.errors.JaxRuntimeError as error:
        return halved(work, Block(None, points, rows), error)


def halved(work: Work, block: Block, error: jax.errors.JaxRuntimeError) -> Block:
    """The program of half a block, after an error that says that memory ran out; any other error is raised."""
    if not out_of_memory(error):
        raise error
    if block.rows == work.mesh.size:
        raise MemoryError(
            f"one point a device does not fit in memory ({work.mesh.size} devices); "
            "make the point smaller or pass a mesh of fewer devices"
        ) from error
    smaller = _half(block, work.mesh)
    warnings.warn(f"out of memory with blocks of {block.points} points: continuing with {smaller}", stacklevel=2)
    return compiled(work, smaller)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def dispatch(block: Block, work: Work, values: dict[str, np.ndarray], words: np.ndarray) -> Callable[[], PyTree]:
    """The call that starts a block of at most `block.points` points, padded with repeated ones, on placed arrays."""
    rows = np.minimum(np.arange(block.rows), len(words) - 1)
    placed = _placed(work, {name: column[rows] for name, column in values.items()}, words[rows])
    return functools.partial(block.compiled, *placed)


def fetch(outputs: PyTree, count: int) -> dict[str, np.ndarray]:
    """Wait for a block, the only time that the host does, and take its first `count` points."""
    return {name: np.asarray(output.array)[:count] for name, output in jax.device_get(outputs).items()}


def _placed(work: Work, values: dict[str, np.ndarray], words: np.ndarray) -> tuple[Any, ...]:
    rows, whole = NamedSharding(work.mesh, PartitionSpec("points")), NamedSharding(work.mesh, PartitionSpec())
    return (*jax.device_put((values, words), rows), jax.device_put(work.key, whole))


def _compile(work: Work, rows: int) -> Any:
    split, whole = PartitionSpec("points"), PartitionSpec()
    # check_vma=False: users' scans carry constants, which vary over no axis and would be refused.
    mapped = jax.shard_map(
        jax.vmap(work.evaluate, in_axes=(0, 0, None)),
        mesh=work.mesh,
        in_specs=(split, split, whole),
        out_specs=split,
        check_vma=False,
    )
    values = {name: np.zeros(rows, dtype) for name, dtype in work.dtypes.items()}
    return jax.jit(mapped).lower(*_placed(work, values, np.zeros((rows, work.words), np.uint32))).compile()


def _half(block: Block, mesh: Mesh) -> int:
    """Points of the next smaller block: half the rows of each device, rounded down."""
    return max(1, block.rows // mesh.size // 2) * mesh.size


def _needed(block: Block) -> int:
    analysis = block.compiled.memory_analysis()
    if analysis is None:
        return 0
    return analysis.temp_size_in_bytes + 2 * (analysis.argument_size_in_bytes + analysis.output_size_in_bytes)


def _memory(mesh: Mesh) -> float:
    """Bytes each device may hold."""
    stats = mesh.devices.flat[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / mesh.size
