r"""Sparse grids with boundary values: `sparse_grid` on the cube and on each of its faces, for any f on [0, 1]^d.

Along each axis the basis is the hierarchical hats of `sparse_grid` and the two functions 1 − x and x, so that the cube
has 3^d faces (corners, edges, …, the inside), each with the sparse grid of its own dimension and the same level.
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
from jaxtheory.smoothness import sparse_grid
from jaxtheory.smoothness.dyadic_cells import locate, numbers, require_cells

_LEFT, _RIGHT = -2, -1  # in the place of a level: the functions 1 − x and x


class BoundaryInterpolant(NamedTuple):
    """Hierarchical surpluses, block by block; `levels` is −2 along an axis for the factor 1 − x and −1 for x."""

    levels: Int[Any, "blocks d"]
    offsets: Int[Any, " blocks"]
    surpluses: Float[Array, " points"]


@boundary(static=("level", "dim"))
def size(level: int, dim: int) -> int:
    r"""Number of points, Σ_s C(d, s) 2^{d−s} N(n, s), N(n, s) = `sparse_grid.size(n, s)`, N(n, 0) = 1: exact.

    Args:
        level: n ≥ 0; 0 has the 2^d corners alone. dim: d ≥ 1.

    Raises:
        ValueError: level or dim out of range. Source: Bungartz and Griebel (2004), section 4.1.

    >>> [size(level, 2) for level in range(4)]
    [4, 9, 21, 49]
    """
    _check(level, dim)
    faces = [math.comb(dim, s) * 2 ** (dim - s) for s in range(dim + 1)]
    return faces[0] + sum(faces[s] * sparse_grid.size(level, s) for s in range(1, dim + 1))


def _check(level: int, dim: int) -> None:
    require_cells(level, dim, "0 is the grid of the corners")
    fits = dim * (level + 1) <= 62
    require(fits, "level", level, f"be <= {62 // dim - 1} in dimension {dim}", "use a coarser grid")


@lru_cache(maxsize=8)
def _layout(level: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels [blocks, d] with the sides in their place, and offsets [blocks + 1]."""
    rows = []
    for face in itertools.product((_LEFT, _RIGHT, 0), repeat=dim):
        inside = [axis for axis, side in enumerate(face) if side == 0]
        found = sparse_grid.blocks(level, len(inside))[0] if inside else np.zeros((1, 0), int)
        block = np.tile(np.array(face), (len(found), 1))
        block[:, inside] = found
        rows.append(block)
    levels = np.concatenate(rows)
    return levels, np.concatenate([[0], np.cumsum(2 ** np.maximum(levels, 0).sum(axis=1))])


@lru_cache(maxsize=8)
def _numerators(level: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The levels of every point, and its coordinates times 2^level, [size, d] each."""
    levels, offsets = _layout(level, dim)
    j = np.repeat(levels, np.diff(offsets), axis=0)
    depth, k = numbers(np.maximum(levels, 0))
    inner = (2 * k + 1) << np.maximum(level - depth - 1, 0)
    return j, np.where(j == _LEFT, 0, np.where(j == _RIGHT, 2**level, inner))


@boundary(static=("level", "dim"))
def points(level: int, dim: int) -> np.ndarray:
    """The grid [size, d] in [0, 1]^d, in the order of the surpluses, float64 on the host.

    Args:
        level: n ≥ 0. dim: d ≥ 1.

    Raises:
        ValueError: level or dim out of range. Cost: d · size.

    >>> points(1, 1).ravel().tolist()
    [0.0, 1.0, 0.5]
    """
    _check(level, dim)
    return _numerators(level, dim)[1] / 2.0**level


@boundary(static=("level", "dim"))
def interpolate(f: Callable[[Array], Array], level: int, dim: int, *, dtype: Any = jnp.float32) -> BoundaryInterpolant:
    r"""The sparse-grid interpolant of f with its boundary values: exact at the points, for multilinear f everywhere.

    Args:
        f: [N, d] points → [N] values, called once. level: n ≥ 0. dim: d ≥ 1. dtype: of the points f gets.

    Returns:
        `BoundaryInterpolant`, for `evaluate`. For bounded mixed second derivatives, on the faces too, the error in the
        sup norm is O(2^{−2n} n^{d−1}).

    Raises:
        ValueError: level or dim out of range, values that are not one a point.

    Cost: f, and 2 d N gathers; there are 3^d faces, so d up to about 6.
    Source: Bungartz and Griebel (2004), section 4.1; Zenger (1991).

    >>> g = interpolate(lambda x: 1 + x[:, 0] * x[:, 1], 2, 2)
    >>> [f"{value:.3f}" for value in evaluate(g, jnp.array([[0.01, 0.5], [1.0, 0.25]]))]
    ['1.005', '1.250']
    """
    _check(level, dim)
    values = jnp.asarray(quantity("f", f(jnp.asarray(points(level, dim), dtype))))
    total = size(level, dim)
    require(values.shape == (total,), "f", values.shape, f"return one value for each of {total} points", "vectorize it")
    levels, offsets = _layout(level, dim)
    surpluses = _surpluses(values, *_parents(level, dim))
    return BoundaryInterpolant(levels.astype(np.int32), offsets[:-1].astype(np.int32), surpluses)


@jax.jit
def _surpluses(values: Array, parents: Array, inside: Array) -> Array:
    """Along each axis in turn, what a value inside exceeds the mean of its two neighbours in coarser levels by."""

    def along(v: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
        sides, inner = given
        return jnp.where(inner, v - (v[sides[0]] / 2 + v[sides[1]] / 2), v), None

    return jax.lax.scan(along, values, (parents, inside))[0]


@lru_cache(maxsize=4)
def _parents(level: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """[d, 2, size]: the neighbours of each point along each axis, itself on a side; [d, size]: whether it is inside."""
    j, at = _numerators(level, dim)
    radix = (2**level + 1) ** np.arange(dim)
    keys = at @ radix
    order = np.argsort(keys)
    found = np.empty((dim, 2, len(j)), np.int32)
    for axis, side in itertools.product(range(dim), (0, 1)):
        inner = j[:, axis] >= 0
        step = np.where(inner, 2 ** np.maximum(level - j[:, axis] - 1, 0), 0) * (1 if side else -1)
        found[axis, side] = order[np.searchsorted(keys[order], keys + step * radix[axis])]
    return found, (j >= 0).T


@boundary(static=("batch",))
@partial(jax.jit, static_argnames="batch")
def evaluate(interpolant: BoundaryInterpolant, x: Float[Array, "n d"], *, batch: int = 64) -> Float[Array, " n"]:
    """The interpolant at n points; those outside [0, 1]^d are moved to the nearest point of the cube.

    Args:
        interpolant: from `interpolate`. x: points. batch: points at once, ≥ 1.

    Raises:
        ValueError: points of another dimension. Cost: n · blocks · d; memory batch · blocks · d.

    >>> evaluate(interpolate(lambda x: 0 * x[:, 0] + 1, 1, 1), jnp.array([[0.01], [0.0]])).tolist()
    [1.0, 1.0]
    """
    dim = interpolant.levels.shape[1]
    require(x.shape[1] == dim, "x", x.shape, f"have {dim} columns", "pass points as rows")
    require(batch >= 1, "batch", batch, "be >= 1", "use the default")
    j = jnp.asarray(interpolant.levels, jnp.int32)
    depth, surpluses = jnp.maximum(j, 0), jnp.asarray(interpolant.surpluses, x.dtype)

    @jax.checkpoint
    def at(point: Array) -> Array:
        inside = jnp.clip(point, 0, 1)
        index, local = locate(depth, interpolant.offsets, inside)
        hats = jnp.maximum(1 - jnp.abs(local - 1), 0)
        factors = jnp.where(j == _LEFT, 1 - inside[None, :], jnp.where(j == _RIGHT, inside[None, :], hats))
        return jnp.sum(surpluses[index] * jnp.prod(factors, axis=1))

    return jax.lax.map(at, x, batch_size=batch)
