r"""Sparse grids: hierarchical hats whose levels sum to little, for mixed derivatives, up to dimension 10.

Level vectors j ∈ N_0^d with |j|_1 < n, and for each the 2^{|j|_1} points (2k_i + 1)/2^{j_i + 1}: that is
2^n n^{d−1} points where the full grid has 2^{nd}, at nearly the full grid's accuracy.
"""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, quantity, require
from jaxtheory.smoothness.dyadic_cells import bit_shifts, locate, numbers, require_cells


class SparseInterpolant(NamedTuple):
    """Hierarchical surpluses, block by block of `blocks(level, dim)`, each block in C order."""

    levels: Int[Any, "blocks d"]
    offsets: Int[Any, " blocks"]
    surpluses: Float[Array, " points"]


@boundary(static=("level", "dim"))
def size(level: int, dim: int) -> int:
    r"""Number of points, Σ_{i<n} 2^i C(d − 1 + i, d − 1): an exact integer.

    Args:
        level: n ≥ 0. dim: d ≥ 1.

    Raises:
        ValueError: level or dim out of range.

    Source: Bungartz and Griebel (2004), Lemma 3.6.

    >>> [size(level, 2) for level in range(1, 6)], [size(level, 3) for level in range(1, 6)]
    ([1, 5, 17, 49, 129], [1, 7, 31, 111, 351])
    """
    require_cells(level, dim)
    return sum(2**i * math.comb(dim - 1 + i, dim - 1) for i in range(level))


@boundary(static=("level", "dim"))
@lru_cache
def blocks(level: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The level vectors j with |j|_1 < n, by total level, and where each block of 2^{|j|_1} entries begins.

    Args:
        level: n ≥ 0. dim: d ≥ 1.

    Returns:
        [blocks, d] and [blocks + 1], read-only: C(n − 1 + d, d) blocks, the last offset being `size(level, dim)`.

    Raises:
        ValueError: level or dim out of range. Cost: that of the result, which is kept.

    >>> levels, offsets = blocks(2, 2)
    >>> levels.tolist(), offsets.tolist()
    ([[0, 0], [0, 1], [1, 0]], [0, 1, 3, 5])
    """
    require_cells(level, dim)
    rows = [_compositions(total, dim) for total in range(level)]
    levels = np.concatenate([np.zeros((0, dim), int), *rows])
    offsets = np.concatenate([[0], np.cumsum(2 ** levels.sum(axis=1))])
    levels.flags.writeable = offsets.flags.writeable = False  # they are kept
    return levels, offsets


def _compositions(total: int, dim: int) -> np.ndarray:
    """All j ∈ N_0^d with |j|_1 = total: places of d − 1 bars among total + d − 1, as gaps."""
    chosen = list(itertools.combinations(range(total + dim - 1), dim - 1))
    bars = np.array(chosen, int).reshape(len(chosen), dim - 1)
    ends = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, total + dim - 1)))
    return np.diff(ends, axis=1) - 1


@boundary(static=("level", "dim"))
def points(level: int, dim: int) -> np.ndarray:
    """The grid [size, d] in (0, 1)^d, in the order of the surpluses, float64 on the host.

    Args:
        level: n ≥ 0. dim: d ≥ 1.

    Raises:
        ValueError: level or dim out of range. Cost: d · size.

    >>> points(2, 1).ravel().tolist()
    [0.5, 0.25, 0.75]
    """
    j, k = numbers(blocks(level, dim)[0])
    return (2 * k + 1) / 2.0 ** (j + 1)


@boundary(static=("level", "dim"))
def interpolate(f: Callable[[Array], Array], level: int, dim: int, *, dtype: Any = jnp.float32) -> SparseInterpolant:
    r"""The sparse-grid interpolant of f, which is 0 on the boundary of the cube: Σ_{|j| < n} Σ_k s_{jk} hat_{jk}.

    Args:
        f: [N, d] points → [N] values, called once. level: n. dim: d. dtype: of the points f gets.

    Returns:
        `SparseInterpolant`, for `evaluate`. For bounded mixed second derivatives the error in L² and in the sup norm
        is O(2^{−2n} n^{d−1}) = O(N^{−2} (log N)^{3(d−1)}).

    Raises:
        ValueError: level or dim out of range, values that are not one a point. Cost: f, and 2 d N gathers.

    Source: Bungartz and Griebel (2004), section 3, Theorem 3.8; Smolyak (1963).

    >>> g = interpolate(lambda x: jnp.prod(4 * x * (1 - x), axis=1), 3, 2)
    >>> g.surpluses[:3].tolist()
    [1.0, 0.25, 0.25]
    """
    values = jnp.asarray(quantity("f", f(jnp.asarray(points(level, dim), dtype))))
    total = size(level, dim)
    require(values.shape == (total,), "f", values.shape, f"return one value for each of {total} points", "vectorize it")
    levels, offsets = blocks(level, dim)
    # one integer type, whether 64-bit types are enabled when it is made or when it is evaluated
    levels, offsets = levels.astype(np.int32), offsets[:-1].astype(np.int32)
    return SparseInterpolant(levels, offsets, _surpluses(values, _parents(level, dim)))


@jax.jit
def _surpluses(values: Array, parents: Array) -> Array:
    """Along each axis in turn, what a value exceeds the mean of its two neighbours in coarser levels by."""

    def along(v: Array, sides: Array) -> tuple[Array, None]:
        with_boundary = jnp.append(v, jnp.zeros_like(v[:1]))
        return v - (with_boundary[sides[0]] + with_boundary[sides[1]]) / 2, None

    return jax.lax.scan(along, values, parents)[0]


@lru_cache(maxsize=4)
def _parents(level: int, dim: int) -> np.ndarray:
    """[d, 2, size]: indices of the left and right neighbours along each axis; size stands for the boundary."""
    levels, offsets = blocks(level, dim)
    j, k = numbers(levels)
    radix = (level + 1) ** np.arange(dim)
    keys = levels @ radix
    order = np.argsort(keys)
    found = np.empty((dim, 2, len(j)), np.int32)
    for axis, side in itertools.product(range(dim), (0, 1)):
        numerator = 2 * (k[:, axis] + side)
        depth = j[:, axis] + 1
        boundary = (numerator == 0) | (numerator == 2**depth)
        zeros = np.log2(np.where(boundary, 1, numerator & -numerator)).astype(int)
        parent_j, parent_k = j.copy(), k.copy()
        parent_j[:, axis] = np.where(boundary, 0, depth - zeros - 1)
        parent_k[:, axis] = np.where(boundary, 0, numerator >> (zeros + 1))
        block = order[np.searchsorted(keys[order], parent_j @ radix)]
        local = (parent_k << bit_shifts(parent_j)).sum(axis=1)
        found[axis, side] = np.where(boundary, len(j), offsets[block] + local)
    return found


@boundary(static=("batch",))
@partial(jax.jit, static_argnames="batch")
def evaluate(interpolant: SparseInterpolant, x: Float[Array, "n d"], *, batch: int = 64) -> Float[Array, " n"]:
    """The interpolant at n points of [0, 1]^d: one basis function a block is not 0 there. It is 0 outside.

    Args:
        interpolant: from `interpolate`. x: points. batch: points at once, ≥ 1.

    Raises:
        ValueError: points of another dimension. Cost: n · blocks · d; memory batch · blocks · d.

    >>> g = interpolate(lambda x: jnp.prod(4 * x * (1 - x), axis=1), 4, 2)
    >>> evaluate(g, jnp.array([[0.5, 0.25], [1.0, 0.5]])).tolist()
    [0.75, 0.0]
    """
    dim = interpolant.levels.shape[1]
    require(x.shape[1] == dim, "x", x.shape, f"have {dim} columns", "pass points as rows")
    require(batch >= 1, "batch", batch, "be >= 1", "use the default")
    surpluses = jnp.asarray(interpolant.surpluses, x.dtype)

    @jax.checkpoint
    def at(point: Array) -> Array:
        index, local = locate(interpolant.levels, interpolant.offsets, point)
        hats = jnp.maximum(1 - jnp.abs(local - 1), 0)
        return jnp.sum(surpluses[index] * jnp.prod(hats, axis=1))

    return jax.lax.map(at, x, batch_size=batch)
