"""Sparse grids: their points, and errors of interpolation at random points below the bound of the levels left out."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.mixed_smoothness.crosses import DIMENSIONS
from jaxtheory.lecture.study import Study
from jaxtheory.smoothness import sparse_grid


def predict(config: Any) -> Claims:
    """The remainder of interpolation where it says something: sup f = 1."""
    grids = zip(DIMENSIONS, config.levels, strict=True)
    return Claims(tuple(_claim(dim, level) for dim, level in grids if _left_out(dim, level) < 1), {})


def _claim(dim: int, level: int) -> Claim:
    bound = _left_out(dim, level)
    told = f"d = {dim}: sup error of the sparse interpolant of Π 4x(1 − x), level {level}"
    basis = "theory: the levels left out, Σ C(k+d−1,d−1) 4^(−k)"
    source = "Bungartz, Griebel (2004), Thm 3.8"
    rival = 4 * bound if dim == 1 else full_grid_error(dim, sparse_grid.size(level, dim))
    return Claim(f"interpolation_{dim}", told, source, bound, basis, relation="<=", rival=rival,
                 rival_law="one level less" if dim == 1 else "a full grid of as many points")  # fmt: skip


def full_grid_error(dim: int, points: int) -> float:
    """Of multilinear interpolation at the centre of a cell by the maximum, sides h = points^(−1/dim)."""
    square = points ** (-2 / dim)
    return (1 - square) ** dim - (1 - 2 * square) ** dim


def _left_out(dim: int, level: int) -> float:
    return math.fsum(math.comb(k + dim - 1, dim - 1) * 4.0**-k for k in range(level, 400))


def measure(config: Any) -> xr.Dataset:
    """Sup errors at random points of the sparse interpolants of the last levels, up to four."""
    levels = dict(zip(DIMENSIONS, config.levels, strict=True))
    grids = {dim: _errors(dim, level, config) for dim, level in levels.items()}
    curves = {f"grid_{dim}": (f"level_{dim}", errors) for dim, errors in grids.items()}
    finest = {f"interpolation_{dim}": float(errors[-1]) for dim, errors in grids.items()}
    return xr.Dataset(curves).assign(finest).assign_attrs({f"level_{dim}": level for dim, level in levels.items()})


def _errors(dim: int, level: int, config: Any) -> np.ndarray:
    x = jax.random.uniform(jax.random.fold_in(jax.random.key(config.seed), dim), (config.points, dim))
    f = lambda x: jnp.prod(4 * x * (1 - x), axis=1)  # noqa: E731
    grids = [sparse_grid.interpolate(f, n, dim, dtype=x.dtype) for n in _levels(level)]
    return np.array([float(jnp.abs(sparse_grid.evaluate(grid, x) - f(x)).max()) for grid in grids])


def _levels(level: int) -> range:
    return range(max(2, level - 3), level + 1)


def draw_points(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The points of a sparse grid in the plane."""
    x = sparse_grid.points(7, 2)
    ax.plot(x[:, 0], x[:, 1], ".", color=figures.PALETTE[0], markersize=5, markeredgewidth=0)
    ax.set_aspect("equal")
    figures.label_axes(ax, "$x_1$", "$x_2$", f"sparse grid, level 7: {len(x)} of {127**2:,} points")


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Sup errors over the number of points, and their bounds, a colour a dimension."""
    for color, dim in zip(figures.PALETTE, DIMENSIONS, strict=False):
        levels = _levels(dataset.attrs[f"level_{dim}"])
        size = np.array([sparse_grid.size(n, dim) for n in levels], float)
        series = np.array([_left_out(dim, n) for n in levels])
        if (series < 1).any():  # in ten dimensions no bound says anything
            figures.theory_line(ax, size[series < 1], series[series < 1], color=color)
        figures.points(ax, size, dataset[f"grid_{dim}"].values, color=color, label=f"$d = {dim}$")
    title = "sparse interpolation: bounds below 1, measured"
    figures.label_axes(ax, "points $N$", "sup error", title, xscale="log", yscale="log")


STUDY = Study("interpolation", predict, measure, draw)
