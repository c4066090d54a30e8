"""The loop over pairs of blocks: rows held, columns streamed, half the pairs for one input, rows over a mesh.

A method gives `prepare(x) -> factors`, with examples leading, and `pair(factors, factors) -> [n1, k, n2, l]`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

Prepare = Callable[[PyTree], PyTree]
Pair = Callable[[PyTree, PyTree], Array]


class Tiles(NamedTuple):
    """`rows` examples of x1 are held at a time and met by `columns` of x2; `cached`: all factors are held."""

    rows: int
    columns: int
    cached: bool


def length(x: PyTree) -> int:
    """How many examples."""
    return jax.tree.leaves(x)[0].shape[0]


def rectangle(
    prepare: Prepare, pair: Pair, x1: PyTree, x2: PyTree, tiles: Tiles, other: Prepare | None = None
) -> Array:
    """All pairs of x1 and x2, whose factors `other` prepares where they are not made like those of x1.

    Peak memory: the result, and factors of `rows` + `columns` examples (of all of them if cached).
    """
    n1, n2, second = length(x1), length(x2), prepare if other is None else other
    if tiles.cached:
        return _strips(pair, _chunked(prepare, x1, tiles.columns), _chunked(second, x2, tiles.columns), tiles.rows)

    def strip(rows: PyTree) -> Array:
        first = _chunked(prepare, rows, tiles.columns)
        blocks = jax.lax.map(lambda columns: pair(first, second(columns)), _split(x2, tiles.columns))
        return _join_columns(blocks)

    strips = jax.lax.map(strip, _split(x1, tiles.rows))
    return strips.reshape(-1, *strips.shape[2:])[:n1, :, :n2]


def symmetric(prepare: Prepare, pair: Pair, x: PyTree, tiles: Tiles) -> Array:
    """All pairs of x with itself, of which only one of (i, j) and (j, i) is computed but within a strip.

    Cached, blocks (r, c) with c ≥ r: (s + 1)/2s of the pairs for s strips. Streamed, strip r meets the ⌊s/2⌋ + 1
    strips that follow it cyclically, so that every strip is the same program: the same share for odd s.
    """
    n = length(x)
    count = -(-n // tiles.rows)
    padded = _pad(x, count * tiles.rows)
    if tiles.cached:
        whole = _triangle(pair, _chunked(prepare, padded, tiles.columns), count, tiles.rows)
        return _mirror(whole, tiles.rows)[:n, :, :n]
    strips = jax.lax.map(lambda r: window(prepare, pair, padded, r, count, tiles), jnp.arange(count))
    whole = strips.reshape(-1, *strips.shape[2:])
    return _mirror(whole, tiles.rows, cyclic=True)[:n, :, :n]


def window(prepare: Prepare, pair: Pair, x: PyTree, strip: Array, count: int, tiles: Tiles) -> Array:
    """Strip number `strip` of `count` against itself and the ⌊count/2⌋ strips after it; zero elsewhere."""
    n, start = length(x), strip * tiles.rows
    wide = (count // 2 + 1) * tiles.rows
    columns = jax.tree.map(lambda a: jnp.take(a, (start + jnp.arange(wide)) % n, axis=0), x)
    rows = jax.tree.map(lambda a: a[: tiles.rows], columns)
    block = rectangle(prepare, pair, rows, columns, tiles)
    filled = jnp.pad(block, ((0, 0), (0, 0), (0, n - wide), *[(0, 0)] * (block.ndim - 3)))
    return jnp.roll(filled, start, axis=2)


def sharded(
    method: Callable[[PyTree, PyTree], tuple[Prepare, Prepare, Pair]],
    params: PyTree,
    x1: PyTree,
    x2: PyTree | None,
    tiles: Tiles,
    mesh: Mesh,
) -> Array:
    """Rows of the kernel over all devices of a mesh; each holds its rows and streams the columns it needs.

    `method(params, x)` gives `prepare` for x1 and for x2, and `pair`.
    With x2=None each device computes ⌊devices/2⌋ + 1 strips of columns.
    """
    axes, devices = mesh.axis_names, mesh.size
    n1 = length(x1)
    local = -(-n1 // devices)
    padded = _pad(x1, local * devices)
    own = tiles._replace(rows=min(tiles.rows, local), columns=min(tiles.columns, local), cached=False)

    def rows_of(number: Array, params: PyTree, ours: PyTree, everything: PyTree) -> Array:
        prepare, other, pair = method(params, ours)
        if x2 is None:
            strip = own._replace(rows=local)
            return window(prepare, pair, everything, number[0], devices, strip)
        return rectangle(prepare, pair, ours, everything, own, other)

    spec = PartitionSpec(axes)
    run = jax.shard_map(
        rows_of,
        mesh=mesh,
        in_specs=(spec, PartitionSpec(), spec, PartitionSpec()),
        out_specs=spec,
        check_vma=False,
    )
    whole = run(jnp.arange(devices), params, padded, padded if x2 is None else x2)
    if x2 is None:
        whole = _mirror(whole, local, cyclic=True)[:, :, :n1]
    return whole[:n1]


def _strips(pair: Pair, first: PyTree, second: PyTree, rows: int) -> Array:
    n = length(first)
    return jnp.concatenate([pair(_part(first, i, i + rows), second) for i in range(0, n, rows)])


def _part(tree: PyTree, start: int, stop: int) -> PyTree:
    return jax.tree.map(lambda a: a[start:stop], tree)


def _triangle(pair: Pair, held: PyTree, count: int, rows: int) -> Array:
    """Blocks on and above the diagonal, one after the other, zeros below."""
    if count == 1:
        return pair(held, held)
    # numbers, not a program that computes them: it would take longer to compile than the loop
    first, second = (jnp.asarray(index, jnp.int32) for index in np.triu_indices(count))

    def block_at(i: Array) -> PyTree:
        return jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, i * rows, rows, allow_negative_indices=False), held
        )

    def step(whole: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        i, j = block
        corner = (i * rows, jnp.zeros_like(i), j * rows, *[jnp.zeros_like(i)] * (whole.ndim - 3))
        found = pair(block_at(i), block_at(j))
        return jax.lax.dynamic_update_slice(whole, found, corner, allow_negative_indices=False), None

    one = jax.eval_shape(lambda: pair(block_at(first[0]), block_at(second[0])))
    shape = (count * rows, one.shape[1], count * rows, *one.shape[3:])
    return jax.lax.scan(step, jnp.zeros(shape, one.dtype), (first, second))[0]


def symmetrized(whole: Array) -> Array:
    """A kernel of one input, [n, k, n, l] or [n, k, n], with what is below the diagonal from above it."""
    return _mirror(whole, whole.shape[0])


def _mirror(whole: Array, rows: int, cyclic: bool = False) -> Array:
    """Every pair of entries of which both, or one, were computed, from one of them: symmetric to the bit.

    Strips of `rows` examples meet those after them, cyclically or not, and themselves.
    """
    n = whole.shape[0]
    # numbers, which lie on every device: what a device computes it would send to the others
    place, strip = jnp.asarray(np.arange(n)), jnp.asarray(np.arange(n) // rows)
    after = jnp.sign(place[None, :] - place[:, None])
    if cyclic:
        count = n // rows
        ahead = (strip[None, :] - strip[:, None]) % count
        # strips half the way round have met twice
        met_later = jnp.where(2 * ahead < count, jnp.ones_like(ahead), -jnp.ones_like(ahead))
        after = jnp.where((ahead == 0) | (2 * ahead == count), after, met_later)
    if whole.ndim == 3:
        return jnp.where((after >= 0)[:, None, :], whole, whole.transpose(2, 1, 0))
    direction = jnp.asarray(np.arange(whole.shape[1]))
    upper = (direction[:, None] <= direction[None, :])[None, :, None, :]
    after = after[:, None, :, None]
    return jnp.where((after > 0) | ((after == 0) & upper), whole, whole.transpose(2, 3, 0, 1))


def _pad(x: PyTree, n: int) -> PyTree:
    """Repeat the last example: a padded row is finite and is cut off at the end."""
    return jax.tree.map(lambda a: jnp.pad(a, ((0, n - a.shape[0]), *[(0, 0)] * (a.ndim - 1)), mode="edge"), x)


def _split(x: PyTree, size: int) -> PyTree:
    count = -(-length(x) // size)
    return jax.tree.map(lambda a: a.reshape(count, size, *a.shape[1:]), _pad(x, count * size))


def _chunked(prepare: Prepare, x: PyTree, size: int) -> PyTree:
    """Factors of all examples, of `size` at a time; a last block that is not full begins earlier, so nothing is cut."""
    n = length(x)
    if size >= n:
        return prepare(x)
    starts = jnp.minimum(jnp.arange(0, n, size), n - size)

    def step(held: PyTree, start: Array) -> tuple[PyTree, None]:
        found = prepare(jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), x))
        put = jax.lax.dynamic_update_slice_in_dim
        return jax.tree.map(lambda whole, part: put(whole, part, start, axis=0), held, found), None

    one = jax.eval_shape(prepare, jax.tree.map(lambda a: a[:size], x))
    empty = jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), one)
    return jax.lax.scan(step, empty, starts)[0]


def _join_columns(blocks: Array) -> Array:
    """[blocks, n1, k, size, ...] to [n1, k, blocks·size, ...]."""
    moved = jnp.moveaxis(blocks, 0, 2)
    return moved.reshape(*moved.shape[:2], -1, *moved.shape[4:])
