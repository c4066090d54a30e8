"""Gram matrices at size: in blocks, each symmetric pair once, over devices; and products that never form them."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Shaped

from jaxtheory import placement
from jaxtheory.checks import boundary, require
from jaxtheory.guarded import dot
from jaxtheory.kernels.functions import Kernel, widest
from jaxtheory.kernels.problems import as_kernel, as_points, in_dtype

_ROWS = "rows"  # the axis of the meshes made here


@boundary(static=("block",))
def gram(
    kernel: Kernel | Shaped[Array, "p p"],
    x1: Shaped[Array, "n1 ..."],
    x2: Shaped[Array, "n2 ..."] | None = None,
    *,
    block: int | None = None,
    mesh: Mesh | None = None,
) -> Shaped[Array, "n1 n2 ..."]:
    """The matrix K_ij = kernel(x1_i, x2_j), computed in blocks and over the devices of a mesh.

    Args:
        kernel: kernel(x1, x2) -> [n1 n2], or [n1 n2 ...] for several kernels at once (without `mesh`).
        x1: points along the first axis; [n1] is [n1, 1].
        x2: other points, or None for x1, where each off-diagonal pair of blocks is computed once and mirrored.
        block: rows and columns of a block; None asks the kernel for all at once.
        mesh: the rows of K are split over all its devices (of one process, or of several that make the same call); x1's
            length must be a multiple of their number.

    Returns:
        K [n1 n2]; sharded by rows over `mesh`.

    Raises:
        ValueError: no kernel, block < 1, points of two shapes, or rows that do not divide over the mesh.

    Peak memory: n1 n2 for K itself, plus O(block²) and what the kernel needs for one block, also in reverse mode, where
    each block is computed again; with p devices n1 n2 / p for K on each, twice that in flight. Flops: one kernel
    evaluation an entry; half for x2 = None in blocks.

    >>> from jaxtheory.kernels.functions import laplace
    >>> gram(laplace(), jnp.arange(6.0)[:, None], block=2).shape
    (6, 6)
    """
    wrapped, x1 = as_kernel(kernel, x1, "x1", several=mesh is None)
    _require_block(block)
    x2 = None if x2 is None else _others(wrapped, x2, x1, "x1")
    if mesh is None:
        return _gram(wrapped, x1, x2, block)
    mesh = placement.line(mesh, _ROWS)
    placement.require_rows(x1.shape[0], "x1", mesh)
    return _sharded(wrapped, *placement.whole((x1, x2), mesh), block, mesh)


@boundary(static=("block",))
def matvec(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."],
    v: Float[Array, "m ..."],
    block: int = 2048,
    *,
    x2: Shaped[Array, "m ..."] | None = None,
    mesh: Mesh | None = None,
) -> Shaped[Array, "n ..."]:
    """K v without the matrix: K = kernel(x, x2), or kernel(x, x) where each pair of blocks serves both triangles.

    Args:
        kernel: kernel(x1, x2) -> [n1 n2]; with x2 = None its upper blocks are taken from the lower ones by symmetry.
        x: n points; [n] is [n, 1].
        v: vector [m] or outputs [m o].
        block: rows and columns of a block.
        x2: m other points.
        mesh: the work is shared out over all its p devices and K v is split over them by rows, v as well if it was;
            n (with x2 m too) must be a multiple of p. Blocks are then smaller than `block` where there are too few.

    Returns:
        K v, of v's trailing shape.

    Raises:
        ValueError: no kernel, block < 1, v of the wrong length, points of two shapes, or rows that do not divide over
            the mesh.

    Peak memory: O(block² + n (d + o)), on each device of a mesh and in reverse mode too, where each block is computed
    again. Flops: one kernel evaluation for each pair (half,
    by symmetry, without x2) and 2 n m o for the products, divided by p. A mesh communicates twice: m o numbers are
    gathered on each device and, without x2, n o numbers are summed and scattered.

    >>> from jaxtheory.kernels.functions import laplace
    >>> f"{matvec(laplace(), jnp.zeros((4, 1)), jnp.ones(4), 3)}"
    '[4. 4. 4. 4.]'
    """
    wrapped, x = as_kernel(kernel, x)
    _require_block(block)
    x2 = None if x2 is None else _others(wrapped, x2, x, "x")
    points = x if x2 is None else x2
    fits = v.ndim >= 1 and v.shape[0] == points.shape[0]
    require(fits, "v", v.shape, f"have {points.shape[0]} rows, one a point", "check x and v")
    dtype = widest(jax.eval_shape(wrapped, x[:1], points[:1]).dtype, v.dtype)
    x, x2 = in_dtype(x, dtype), None if x2 is None else in_dtype(x2, dtype)
    columns = v.reshape(v.shape[0], math.prod(v.shape[1:])).astype(dtype)
    if mesh is not None:
        mesh = placement.line(mesh, _ROWS)
        placement.require_rows(x.shape[0], "x", mesh)
        placement.require_rows(v.shape[0], "v", mesh)
        x, x2 = placement.whole((x, x2), mesh)
        product = _shared(wrapped, x, placement.split(columns, mesh), block, x2, mesh)
    else:
        product = _symmetric(wrapped, x, columns, block) if x2 is None else _rectangular(wrapped, x, columns, block, x2)
    return product.reshape(x.shape[0], *v.shape[1:])


@boundary
def diagonal(kernel: Kernel | Shaped[Array, "p p"], x: Shaped[Array, "n ..."]) -> Shaped[Array, " n"]:
    """K_ii = kernel(x_i, x_i), 256 points at a time: memory O(n).

    Raises ValueError for what is no kernel or no points. Cost: n kernel evaluations.

    >>> from jaxtheory.kernels.functions import laplace
    >>> f"{diagonal(laplace(), jnp.zeros((2, 1)))}"
    '[1. 1.]'
    """
    wrapped, x = as_kernel(kernel, x)
    return _diagonal(wrapped, x)


def _others(kernel: Kernel, x2: Any, x1: Array, first: str) -> Array:
    """The second set of points, with the shape of those of the first."""
    x2 = as_points(kernel, x2, "x2", x1)
    alike = x2.shape[1:] == x1.shape[1:]
    require(alike, "x2", x2.shape, f"hold points like those of {first}, {x1.shape}", "use the same columns")
    return x2


@jax.jit
def _diagonal(kernel: Kernel, x: Array) -> Array:
    return jax.lax.map(lambda point: kernel(point[None], point[None])[0, 0], x, batch_size=256)


def _require_block(block: int | None) -> None:
    if block is not None:
        require(block >= 1, "block", block, "be at least 1", "use 2048, or None for one block")


@partial(jax.jit, static_argnames="block")
def _gram(kernel: Kernel, x1: Array, x2: Array | None, block: int | None) -> Array:
    columns = x1 if x2 is None else x2
    sizes = x1.shape[0], columns.shape[0]
    if block is None or max(sizes) <= block or min(sizes) == 0:
        return kernel(x1, columns)
    height, width = min(block, x1.shape[0]), min(block, columns.shape[0])
    pairs = _pairs(-(-x1.shape[0] // height), -(-columns.shape[0] // width), x2 is None)

    @_recomputed
    def evaluate(row: Array, column: Array) -> Array:
        return kernel(_rows(x1, row, height), _rows(columns, column, width))

    def write(matrix: Array, pair: Array) -> tuple[Array, None]:
        # the last blocks start early enough to be whole: entries in the overlap are computed twice, alike
        row = jnp.minimum(pair[0] * height, x1.shape[0] - height)
        column = jnp.minimum(pair[1] * width, columns.shape[0] - width)
        tile = evaluate(row, column).astype(matrix.dtype)
        rest = (0,) * (tile.ndim - 2)
        if x2 is None:
            matrix = jax.lax.dynamic_update_slice(matrix, tile.swapaxes(0, 1), (column, row, *rest))
        return jax.lax.dynamic_update_slice(matrix, tile, (row, column, *rest)), None

    one = jax.eval_shape(kernel, x1[:1], columns[:1])
    matrix = jnp.zeros((x1.shape[0], columns.shape[0], *one.shape[2:]), one.dtype)
    return jax.lax.scan(write, matrix, pairs)[0]


@partial(jax.jit, static_argnames="block")
def _symmetric(kernel: Kernel, x: Array, v: Array, block: int) -> Array:
    return _triangle(kernel, x, v, -(-x.shape[0] // block), 0, 1)


def _triangle(kernel: Kernel, x: Array, v: Array, blocks: int, part: Any, parts: int) -> Array:
    """Every `parts`-th pair of blocks, from number `part` on; all parts sum to K v."""
    if x.shape[0] == 0:
        return v
    size = -(-x.shape[0] // blocks)
    blocks = -(-x.shape[0] // size)
    pairs = _pairs(blocks, blocks, True)
    # the pairs that make the parts even lie behind the last point, where v is 0
    idle = jnp.full((-len(pairs) % parts, 2), blocks, pairs.dtype)
    pairs = jnp.concatenate([pairs, idle]).reshape(-1, parts, 2)[:, part]
    length = (blocks + (len(idle) > 0)) * size
    points, padded = _pad(x, length), jnp.pad(v, ((0, length - x.shape[0]), (0, 0)))

    @_recomputed
    def products(row: Array, column: Array) -> tuple[Array, Array]:
        tile = kernel(_rows(points, row, size), _rows(points, column, size))
        lower = jnp.where(row == column, jnp.tril(tile), tile)
        upper = jnp.where(row == column, jnp.tril(tile, -1), tile)
        return dot(lower, _rows(padded, column, size)), dot(upper.T, _rows(padded, row, size))

    def add(total: Array, pair: Array) -> tuple[Array, None]:
        row, column = pair[0] * size, pair[1] * size
        down, across = products(row, column)
        total = jax.lax.dynamic_update_slice(total, _rows(total, row, size) + down, (row, 0))
        across = _rows(total, column, size) + across
        return jax.lax.dynamic_update_slice(total, across, (column, 0)), None

    return jax.lax.scan(add, jnp.zeros_like(padded), pairs)[0][: x.shape[0]]


@partial(jax.jit, static_argnames="block")
def _rectangular(kernel: Kernel, x: Array, v: Array, block: int, x2: Array) -> Array:
    if min(x.shape[0], x2.shape[0]) == 0:
        return jnp.zeros((x.shape[0], v.shape[1]), v.dtype)
    height, width = min(block, x.shape[0]), min(block, x2.shape[0])
    rows, columns = -(-x.shape[0] // height), -(-x2.shape[0] // width)
    points = _pad(x, rows * height).reshape(rows, height, *x.shape[1:])
    others = _pad(x2, columns * width).reshape(columns, width, *x2.shape[1:])
    weights = jnp.pad(v, ((0, columns * width - v.shape[0]), (0, 0))).reshape(columns, width, -1)

    def row(some: Array) -> Array:
        @_recomputed
        def product(others: Array, weights: Array) -> Array:
            return dot(kernel(some, others), weights)

        def add(total: Array, other: tuple[Array, Array]) -> tuple[Array, None]:
            return total + product(*other), None

        return jax.lax.scan(add, jnp.zeros((height, v.shape[1]), v.dtype), (others, weights))[0]

    return jax.lax.map(row, points).reshape(rows * height, -1)[: x.shape[0]]


@partial(jax.jit, static_argnames=("block", "mesh"))
def _shared(kernel: Kernel, x: Array, v: Array, block: int, x2: Array | None, mesh: Mesh) -> Array:
    # at least 4 p pairs, so that the idle ones that make the parts even are less than a quarter
    blocks = max(-(-x.shape[0] // block), min(math.ceil(math.sqrt(8 * mesh.size)), x.shape[0]))

    def local(kernel: Kernel, x: Array, x2: Array | None, v: Array) -> Array:
        everything, me = jax.lax.all_gather(v, _ROWS, tiled=True), jax.lax.axis_index(_ROWS)
        if x2 is None:
            part = _triangle(kernel, x, everything, blocks, me, mesh.size)
            return jax.lax.psum_scatter(part, _ROWS, tiled=True)
        size = x.shape[0] // mesh.size
        return _rectangular(kernel, _rows(x, me * size, size), everything, block, x2)

    every, rows = PartitionSpec(), PartitionSpec(_ROWS)
    share = jax.shard_map(local, mesh=mesh, in_specs=(every, every, every, rows), out_specs=rows, check_vma=False)
    return share(kernel, x, x2, v)


@partial(jax.jit, static_argnames=("block", "mesh"))
def _sharded(kernel: Kernel, x1: Array, x2: Array | None, block: int | None, mesh: Mesh) -> Array:
    points = (x1,) if x2 is None else (x1, x2)
    body = partial(_own_rows if x2 is None else _rows_against, block, mesh.size)
    specs = (PartitionSpec(),) * (1 + len(points))
    rows = PartitionSpec(_ROWS, None)
    return jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)(kernel, *points)


def _rows_against(block: int | None, devices: int, kernel: Kernel, x1: Array, x2: Array) -> Array:
    size = x1.shape[0] // devices
    return _gram(kernel, _rows(x1, jax.lax.axis_index(_ROWS) * size, size), x2, block)


def _own_rows(block: int | None, devices: int, kernel: Kernel, x: Array) -> Array:
    """Device i computes the blocks (i, i+k) for k ≤ p/2 and is sent the transposes of the others: half the work."""
    size, me = x.shape[0] // devices, jax.lax.axis_index(_ROWS)
    mine = _rows(x, me * size, size)
    first = _gram(kernel, mine, None, block)

    def ahead(matrix: Array, k: Array) -> tuple[Array, None]:
        other = (me + k) % devices * size
        tile = _gram(kernel, mine, _rows(x, other, size), block)
        return jax.lax.dynamic_update_slice(matrix, tile, (0 * me, other)), None

    start = jax.lax.dynamic_update_slice(jnp.zeros((size, x.shape[0]), first.dtype), first, (0 * me, me * size))
    matrix = jax.lax.scan(ahead, start, jnp.arange(1, devices // 2 + 1, dtype=me.dtype))[0]
    # unrolled: a permutation is static; the opposite device of an even number has computed the block between them too
    for k in range(1, (devices + 1) // 2):
        tile = jax.lax.dynamic_slice(matrix, (0 * me, (me + k) % devices * size), (size, size))
        mirrored = jax.lax.ppermute(tile.T, _ROWS, [(i, (i + k) % devices) for i in range(devices)])
        matrix = jax.lax.dynamic_update_slice(matrix, mirrored, (0 * me, (me - k) % devices * size))
    return matrix


# inside a loop: its blocks are computed again in reverse mode, not kept
_recomputed = partial(jax.checkpoint, prevent_cse=False)


def _pairs(rows: int, columns: int, symmetric: bool) -> Array:
    i, j = jnp.indices((rows, columns)).reshape(2, -1) if not symmetric else jnp.tril_indices(rows)
    return jnp.stack([i, j], axis=1)


def _rows(x: Array, start: Any, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, start, size)


def _pad(x: Array, length: int) -> Array:
    # copies of the last point, not zeros, at which some kernels are not defined
    return jnp.pad(x, ((0, length - x.shape[0]), *((0, 0) for _ in x.shape[1:])), mode="edge")
