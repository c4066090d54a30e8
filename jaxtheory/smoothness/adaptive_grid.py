r"""Dimension-adaptive sparse grids: the level vectors that a function needs, found while it is interpolated.

Along each axis level 0 is the constant 1 at the point 1/2, level 1 the half hats at the points 0 and 1, and level
l ≥ 2 the 2^{l−1} hats at the odd multiples of 2^{−l}. A set of level vectors is admissible if it holds, with a vector,
all smaller ones. It grows where the surpluses, which are what a vector adds to the interpolant, are largest: a function
that depends on few variables, or is a sum of functions of few, gets a grid of these variables alone.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, quantity, require
from jaxtheory.results import Status

_FINEST = 20  # of an axis: 2^{−20} is near the rounding of float32


class AdaptiveInterpolant(NamedTuple):
    """Hierarchical surpluses, block by block, each in C order; the estimated sup error; a status.

    `error` is the sum, over the vectors whose larger neighbours were not looked at, of the sup norm of what they add.
    """

    levels: Int[Any, "blocks d"]
    offsets: Int[Any, " blocks"]
    surpluses: Float[Array, " points"]
    error: Float[Array, ""]
    status: Int[Array, ""]


class _Grid:
    """An admissible set while it grows, on the host."""

    def __init__(self, f: Callable[[Array], Array], dim: int, dtype: Any) -> None:
        self.f, self.dim, self.dtype = f, dim, np.dtype(dtype)
        self.blocks: dict[tuple[int, ...], np.ndarray] = {}
        self.active: dict[tuple[int, ...], float] = {}
        self.points = 0

    def add(self, new: list[tuple[int, ...]]) -> None:
        """Surpluses of these vectors, none of them larger than another, from one call of f."""
        places = [_places(np.array(vector)) for vector in new]
        values = self._values(np.concatenate(places))
        for vector, place in zip(new, places, strict=True):
            part, values = values[: len(place)], values[len(place) :]
            below = [old for old in self.blocks if all(map(int.__le__, old, vector))]
            with np.errstate(invalid="ignore"):  # where f is infinite
                surplus = part - self._interpolant(below, place)
            largest = float(np.abs(surplus).max())
            self.blocks[vector], self.active[vector] = surplus, largest if largest < np.inf else np.nan
            self.points += len(place)

    def _values(self, places: np.ndarray) -> np.ndarray:
        """f at the points, whose number is filled up to a power of two so that a compiled f serves many calls."""
        count = len(places)
        padded = np.full((1 << (count - 1).bit_length(), self.dim), 0.5)
        padded[:count] = places
        found = jnp.asarray(quantity("f", self.f(jnp.asarray(padded, self.dtype))))
        right = found.shape == (len(padded),)
        require(right, "f", found.shape, f"return one value for each of {len(padded)} points", "vectorize it")
        return np.asarray(found)[:count]

    def _interpolant(self, vectors: list[tuple[int, ...]], x: np.ndarray) -> np.ndarray:
        total = np.zeros(len(x), self.dtype)
        for vector in vectors:
            index, factor = _basis(np.array(vector)[None], x, np)
            total += self.blocks[vector][index] * factor
        return total

    def neighbours(self, vector: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Vectors one level finer along an axis, all of whose smaller neighbours have been looked at."""
        found = []
        for axis in range(self.dim):
            finer = _moved(vector, axis, 1)
            coarser = [_moved(finer, other, -1) for other in range(self.dim) if finer[other]]
            if finer[axis] <= _FINEST and all(old in self.blocks and old not in self.active for old in coarser):
                found.append(finer)
        return found


def _moved(vector: tuple[int, ...], axis: int, step: int) -> tuple[int, ...]:
    return (*vector[:axis], vector[axis] + step, *vector[axis + 1 :])


def _bits(levels: Any, library: Any = np) -> Any:
    """log2 of the points along each axis: 0, 1, 1, 2, 3, …"""
    return library.minimum(levels, 1) + library.maximum(levels - 2, 0)


def _places(levels: np.ndarray) -> np.ndarray:
    """The points of a block [points, d] in C order."""
    axes = [[0.5] if j == 0 else [0.0, 1.0] if j == 1 else (np.arange(1, 2**j, 2) / 2**j) for j in levels.tolist()]
    return np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1)


def _basis(levels: Any, x: Any, library: Any) -> tuple[Any, Any]:
    """At each x, which function of the block is not 0, and its value: [blocks, d] or [1, d] with [1, d] or [n, d]."""
    bits = _bits(levels, library)
    cells = library.asarray(2.0 ** bits.astype(x.dtype), x.dtype)
    k = library.clip(library.floor(x * cells), 0, cells - 1)
    hat = library.maximum(1 - library.abs(2 * (x * cells - k) - 1), 0)
    half = library.abs(2 * x - 1) + library.zeros_like(hat)
    factors = library.where(levels == 0, library.ones_like(hat), library.where(levels == 1, half, hat))
    shifts = library.cumsum(bits[:, ::-1], axis=1)[:, ::-1] - bits
    index = library.sum(k.astype(np.int32) << shifts.astype(np.int32), axis=1, dtype=np.int32)
    return index, library.prod(factors, axis=1)


@boundary(static=("dim", "tolerance", "budget", "start"))
def interpolate(
    f: Callable[[Array], Array],
    dim: int,
    tolerance: float,
    *,
    budget: int = 10_000,
    start: int = 1,
    dtype: Any = jnp.float32,
) -> AdaptiveInterpolant:
    r"""The interpolant of f on the admissible set that grows, vector by vector, where the largest surplus is.

    A vector is active until its finer neighbours have been added. In each step the active vector whose largest surplus
    g = max |s|, the sup norm of what it adds, is greatest is retired, and those of its finer neighbours whose coarser
    neighbours are all retired become active. It ends when Σ g over the active vectors is at most the tolerance.

    Args:
        f: [N, d] points → [N] values, called once a step; N is a power of two.
        dim: d ≥ 1.
        tolerance: ≥ 0, of the estimated sup error.
        budget: points at most, ≥ 1.
        start: begin with all vectors |l|_1 ≤ start. The estimate sees only the points of the active vectors: where f
            is the interpolant there by accident, as sin 2πx is at 0, 1/2 and 1, a larger start finds what is beyond.
        dtype: of the points f gets, and of the surpluses.

    Returns:
        `AdaptiveInterpolant`, for `evaluate`; its status is NOT_CONVERGED where the next step has no room in the
        budget, and NOT_FINITE where f is not finite at a point.

    Raises:
        ValueError: arguments out of range, a start that does not fit into the budget, values that are not one a point.

    Cost: on the host; f, and d · points · (vectors below each point's own).
    Source: Gerstner and Griebel (2003), by the largest surplus; Klimke and Wohlmuth (2005), for the basis.

    >>> g = interpolate(lambda x: jnp.exp(x[:, 1]), 5, 1e-3)
    >>> bool((g.levels[:, [0, 2, 3, 4]].max() <= 1) and g.levels[:, 1].max() > 4), len(g.surpluses)
    (True, 73)
    """
    for name, value, least in (("dim", dim, 1), ("budget", budget, 1), ("start", start, 0)):
        require(value >= least, name, value, f"be >= {least}", "use the default, and the number of variables")
    require(0 <= tolerance < math.inf, "tolerance", tolerance, "be >= 0 and finite", "pass e.g. 1e-3")
    first = [level for total in range(start + 1) for level in _compositions(total, dim)]
    size = sum(_count(level) for level in first)
    require(size <= budget, "start", start, f"need at most {budget} points, not {size}", "start coarser")
    grid, full = _Grid(f, dim, dtype), False
    for total in range(start + 1):
        grid.active.clear()  # those below the last total are retired
        grid.add([level for level in first if sum(level) == total])
    while sum(grid.active.values()) > tolerance and not full:
        best = max(grid.active, key=grid.active.__getitem__)
        indicator = grid.active.pop(best)
        new = grid.neighbours(best)
        full = grid.points + sum(map(_count, new)) > budget or best[int(np.argmax(best))] >= _FINEST
        if full:
            grid.active[best] = indicator
        elif new:
            grid.add(new)
    return _result(grid, tolerance)


@boundary(static=("levels",))
def interpolate_on(
    f: Callable[[Array], Array], levels: Int[Any, "blocks d"], *, dtype: Any = jnp.float32
) -> AdaptiveInterpolant:
    r"""The interpolant of f on a given admissible set, such as `anisotropic.hyperbolic_set`.

    Args:
        f: [N, d] points → [N] values. levels: distinct vectors of entries 0 … 20, with each all smaller ones.
        dtype: as in `interpolate`.

    Returns:
        `AdaptiveInterpolant`, for `evaluate`; its error is the sum of max |s| over the vectors that lack a finer
        neighbour, and its status NOT_FINITE where f is not finite at a point.

    Raises:
        ValueError: a set that is empty or not admissible, values that are not one a point.

    Cost: as `interpolate`, one call of f for each |l|_1. Source: Gerstner and Griebel (2003), section 2.

    >>> g = interpolate_on(lambda x: x[:, 0] * x[:, 1], [(0, 0), (1, 0), (0, 1), (1, 1)])
    >>> len(g.surpluses), f"{evaluate(g, jnp.array([[0.3, 0.5]]))[0]:.3f}"
    (9, '0.150')
    """
    vectors = [tuple(level) for level in np.asarray(levels).tolist()]
    held = set(vectors)
    require(len(held) == len(vectors) > 0, "levels", len(vectors), "be distinct vectors", "pass each once")
    dim = len(vectors[0])
    below = {_moved(v, axis, -1) for v in held for axis in range(dim) if v[axis]}
    admissible = below <= held and all(0 <= j <= _FINEST for v in held for j in v)
    hint = "pass e.g. anisotropic.hyperbolic_set(s, 4.0)"
    require(admissible, "levels", f"{len(held)} vectors", f"hold all smaller ones, entries 0..{_FINEST}", hint)
    grid = _Grid(f, dim, dtype)
    for total in range(max(map(sum, held)) + 1):
        grid.add(sorted(v for v in held if sum(v) == total))
    finer = {v: {_moved(v, axis, 1) for axis in range(dim)} for v in held}
    grid.active = {v: largest for v, largest in grid.active.items() if not finer[v] <= held}
    return _result(grid, math.inf)


def _count(level: tuple[int, ...]) -> int:
    return 2 ** int(_bits(np.array(level)).sum())


def _compositions(total: int, dim: int) -> list[tuple[int, ...]]:
    """All level vectors with this sum."""
    if dim == 1:
        return [(total,)]
    return [(head, *tail) for head in range(total + 1) for tail in _compositions(total - head, dim - 1)]


def _result(grid: _Grid, tolerance: float) -> AdaptiveInterpolant:
    surpluses = np.concatenate(list(grid.blocks.values())).astype(grid.dtype)
    sizes = [len(part) for part in grid.blocks.values()]
    offsets = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
    error = math.fsum(grid.active.values()) if np.isfinite(surpluses).all() else math.nan
    status = Status.NOT_FINITE if math.isnan(error) else Status.NOT_CONVERGED if error > tolerance else Status.OK
    levels = np.array(list(grid.blocks), np.int32)
    return AdaptiveInterpolant(
        levels, offsets, jnp.asarray(surpluses), jnp.asarray(error, grid.dtype), jnp.asarray(status, jnp.int32)
    )


@boundary
def points(interpolant: AdaptiveInterpolant) -> np.ndarray:
    """The grid [points, d] in [0, 1]^d, in the order of the surpluses, float64 on the host.

    >>> points(interpolate(lambda x: x[:, 0], 1, 0.1)).ravel().tolist()
    [0.5, 0.0, 1.0, 0.25, 0.75]
    """
    return np.concatenate([_places(level) for level in np.asarray(interpolant.levels)])


@boundary(static=("batch",))
def evaluate(interpolant: AdaptiveInterpolant, x: Float[Array, "n d"], *, batch: int = 64) -> Float[Array, " n"]:
    """The interpolant at n points; those outside [0, 1]^d are moved to the nearest point of the cube.

    Args:
        interpolant: from `interpolate`. x: points. batch: points at once, ≥ 1.

    Raises:
        ValueError: points of another dimension. Cost: n · blocks · d; memory batch · blocks · d.

    >>> g = interpolate(lambda x: 1 + x[:, 0] * x[:, 1], 2, 1e-6, start=2)
    >>> [f"{value:.3f}" for value in evaluate(g, jnp.array([[0.3, 0.5], [1.0, 0.25]]))]
    ['1.150', '1.250']
    """
    dim = interpolant.levels.shape[1]
    require(x.shape[1] == dim, "x", x.shape, f"have {dim} columns", "pass points as rows")
    require(batch >= 1, "batch", batch, "be >= 1", "use the default")
    levels, offsets = (jnp.asarray(part, jnp.int32) for part in (interpolant.levels, interpolant.offsets))
    surpluses = jnp.asarray(quantity("surpluses", interpolant.surpluses)).astype(x.dtype)
    return _evaluate(levels, offsets, surpluses, x, batch)


@partial(jax.jit, static_argnames="batch")
def _evaluate(levels: Array, offsets: Array, surpluses: Array, x: Array, batch: int) -> Array:
    @jax.checkpoint
    def at(point: Array) -> Array:
        index, factor = _basis(levels, jnp.clip(point, 0, 1)[None, :], jnp)
        found = jnp.sum(surpluses[offsets + index] * factor)
        return jnp.where(jnp.isnan(point).any(), jnp.nan, found)

    return jax.lax.map(at, x, batch_size=batch)
