"""Dyadic cells of the unit cube by blocks: for level vectors j ∈ N_0^d, the 2^{|j|_1} boxes with sides 2^{−j_i}.

Blocks follow one another and each is in C order, as the surpluses of `sparse_grid` are.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory.checks import require


def require_cells(level: int, dim: int, least: str = "0 is the empty grid") -> None:
    """Refuse a level below 0 and a dimension below 1; `least` says what level 0 is.

    >>> require_cells(0, 1)
    """
    require(level >= 0, "level", level, "be >= 0", least)
    require_dim(dim)


def require_dim(dim: int) -> None:
    """Refuse a dimension below 1.

    >>> require_dim(1)
    """
    require(dim >= 1, "dim", dim, "be >= 1", "name the number of variables")


def numbers(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """j and k of every cell, Π_i [k_i 2^{−j_i}, (k_i + 1) 2^{−j_i}], [cells, d] each.

    >>> numbers(np.array([[0, 1]]))[1].tolist()
    [[0, 0], [0, 1]]
    """
    counts = 2 ** levels.sum(axis=1)
    j = np.repeat(levels, counts, axis=0)
    local = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return j, (local[:, None] >> bit_shifts(j)) & (2**j - 1)


def bit_shifts(j: Any) -> Any:
    """Bits that lie to the right of an axis' own in a block's C order; NumPy or JAX.

    >>> bit_shifts(np.array([[2, 1]])).tolist()
    [[1, 0]]
    """
    return j[:, ::-1].cumsum(axis=1)[:, ::-1] - j


def locate(levels: Any, offsets: Any, point: Array) -> tuple[Array, Array]:
    """The cell of each block that holds a point, or is nearest: its index, and 2 (2^j x − k), in [0, 2] inside.

    >>> index, local = locate(np.array([[1]]), np.array([5]), jnp.array([0.75]))
    >>> index.tolist(), local.tolist()
    ([6], [[1.0]])
    """
    j = jnp.asarray(levels, jnp.int32)
    cells = (2.0 ** j.astype(point.dtype)).astype(point.dtype)
    scaled = point[None, :] * cells
    k = jnp.clip(jnp.floor(scaled), 0, cells - 1)
    shifts = jnp.asarray(bit_shifts(j), jnp.int32)
    index = jnp.asarray(offsets, jnp.int32) + jnp.sum(k.astype(jnp.int32) << shifts, axis=1, dtype=jnp.int32)
    return index, 2 * (scaled - k)
