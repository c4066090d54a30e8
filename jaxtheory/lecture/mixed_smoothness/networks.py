r"""Explicit ReLU networks in mixed smoothness: their errors against the parameters that are not zero, d = 2 … 5.

The target is g(x_1) ⋯ g(x_d), g = Σ_j 2^{−j} w_j, of triangle waves w_j = Σ_k (−1)^k hat_{jk}. These are orthogonal and
‖w_j‖² = 1/3, so that every block of hats has 2^{|j|_1} ‖f_j‖ = 3^{−d/2}: the norm of MB^1_{2,∞} is full at each scale,
and what a sparse grid leaves out is known exactly. The product gadgets of its network make N of T terms T log T.
"""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims, statistical
from jaxtheory.lecture.exponents import Estimated, exponents, log_ratio, named, slope
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study
from jaxtheory.smoothness import mixed, sparse_grid, sparse_network
from jaxtheory.smoothness.dyadic_cells import numbers

DIMENSIONS = (2, 3, 4, 5)
_SHARE = 0.02  # of the interpolant's error, that all product gadgets together may add
_SCALES = 40  # of the target; what is beyond is below 2^−40
_BELOW = (4, 2, 0)  # the finest level of each network, below that of the last
_FAR = (1024, 2048, 4096, 8192)  # levels of networks that are counted, and never built


class Law(NamedTuple):
    """Of each level: accuracy of one term, nonzero parameters, L² error of the interpolant, N without logarithms.

    `coarser` is the error one level below the finest.
    """

    levels: tuple[int, ...]
    accuracy: tuple[float, ...]
    nonzeros: np.ndarray
    errors: np.ndarray
    effective: np.ndarray
    coarser: float


def target(x: Array) -> Array:
    """The product of g at points [n, d] of the unit cube."""

    def add(j: Array, total: Array) -> Array:
        scaled = x * 2.0 ** j.astype(x.dtype)
        k = jnp.floor(scaled)
        return total + (1 - 2 * (k % 2)) * (1 - jnp.abs(2 * (scaled - k) - 1)) * 2.0 ** -j.astype(x.dtype)

    return jnp.prod(jax.lax.fori_loop(0, _SCALES, add, jnp.zeros_like(x)), axis=1)


@cache
def law(dim: int, finest: int) -> Law:
    """Counted, not measured: N is the audit of the network that is written down, N/log N its terms up to a factor."""
    levels = tuple(finest - below for below in _BELOW)
    energies = 4.0 ** -np.arange(_SCALES) / 3
    projected = mixed.cross_errors(energies, finest, dim).errors  # at levels 1, 2, …
    errors, coarser = projected[[n - 1 for n in levels]], float(projected[-2])
    blocks = [sparse_grid.blocks(n, dim)[0].sum(axis=1) for n in levels]
    accuracy = tuple(_SHARE * error / float((2.0**-j).sum()) for j, error in zip(blocks, errors, strict=True))
    nonzeros = np.array([sparse_network.count(n, dim, e) for n, e in zip(levels, accuracy, strict=True)], float)
    effective = mixed.effective_terms(nonzeros, dim, u=0.5) / np.log(nonzeros)
    return Law(levels, accuracy, nonzeros, errors, effective, coarser)


@cache
def far(dim: int) -> tuple[float, float]:
    """The powers of N and of log N in the error of networks of many levels, from exact sizes and errors.

    A term of accuracy 4^(−m) has as many parameters more for each m; biases that are 0 count too.
    """
    per_term = [sparse_network.count(1, dim, 4.0**-m) for m in (1, 2)]
    rows, errors = [], []
    for n in _FAR:
        k = np.arange(n, n + 200)  # the energy beyond, over that of the first level left out, 4^(−n)
        beyond = sum(math.comb(int(i) + dim - 1, dim - 1) * 4.0 ** float(n - i) for i in k)
        error = (math.log(beyond) - n * math.log(4) - dim * math.log(3)) / 2
        accuracy = math.log(_SHARE) + error - dim * math.log(2)  # Σ_j 2^{−|j|_1} < 2^d
        gadgets = math.ceil(-accuracy / math.log(4))
        size = sparse_grid.size(n, dim) * (per_term[0] + (gadgets - 1) * (per_term[1] - per_term[0]))
        rows.append([math.log(size), math.log(math.log(size)), 1.0])
        errors.append(error)
    found = np.linalg.lstsq(np.array(rows), np.array(errors), rcond=None)[0]
    return float(found[0]), float(found[1])


@cache
def _interpolant(dim: int, level: int) -> sparse_grid.SparseInterpolant:
    """Of the target, whose surpluses are Π (−1)^{k_i} 2^{−j_i}."""
    levels, offsets = sparse_grid.blocks(level, dim)
    j, k = numbers(levels)
    surpluses = np.prod((1 - 2.0 * (k % 2)) * 2.0**-j, axis=1)
    return sparse_grid.SparseInterpolant(levels.astype(np.int32), offsets[:-1].astype(np.int32), surpluses)


def _network(grid: sparse_grid.SparseInterpolant, level: int, accuracy: float) -> sparse_network.SparseNetwork:
    """Of the levels below `level` of a grid: the first blocks."""
    dim = grid.levels.shape[1]
    blocks = len(sparse_grid.blocks(level, dim)[0])
    below = sparse_grid.SparseInterpolant(
        grid.levels[:blocks], grid.offsets[:blocks], grid.surpluses[: sparse_grid.size(level, dim)]
    )
    return sparse_network.from_grid(below, accuracy)


def predict(config: Any) -> Claims:
    """For each dimension the exponent without logarithms, and the error itself at the finest level."""
    found: list[Claim] = []
    curves: dict[str, list[float]] = {}
    for dim, level in zip(DIMENSIONS, config.networks, strict=True):
        known = law(dim, level)
        exact, source = slope(known.effective, known.errors), "Suzuki (2019), section 3.2, mixed smoothness"
        moved = sum(abs(slope(known.effective, np.exp(row))) for row in np.eye(len(_BELOW))) * _SHARE / (1 - _SHARE)
        found += [
            statistical(f"network_{dim}",
                        f"d = {dim}: exponent of an explicit ReLU network's error in N/(log N)^{1.5 * dim - 0.5:g}, "
                        "N its nonzero parameters (−1 as N → ∞)",
                        source, exact, "exact at these N; theory: product gadgets", tolerance=moved,
                        rival=(slope(known.effective, known.nonzeros ** (-1 / dim)), f"isotropic, N^(−1/{dim})")),
            statistical(f"network_error_{dim}",
                        f"d = {dim}: log of the network's squared error over that of the mixed class", source, 0.0,
                        "theory: product gadgets", tolerance=-2 * float(np.log(1 - _SHARE)),
                        rival=(2 * float(np.log(known.coarser / known.errors[-1])), "one level less")),
            *_far_claims(dim, source),
        ]  # fmt: skip
        curves |= {f"network {dim}": known.errors.tolist(), f"nonzeros {dim}": known.nonzeros.tolist()}
    return Claims(tuple(found), curves)


def _far_claims(dim: int, source: str) -> list[Claim]:
    """N^(−1) (log N)^((d−1)(s+u)+1), s = 1, u = 1/2, the last 1 for product gadgets; log N is n log 2 + d log n + …"""
    power, n = 1.5 * dim - 0.5, _FAR[0]
    moved = dim * math.log(n) / (n * math.log(2))
    told, basis = f"networks of up to {_FAR[-1]} levels, counted", f"theory: next order of log N at level {n}"
    return [
        Claim(f"network_power_{dim}", f"d = {dim}: power of N in the error of {told}", source, -1.0, basis,
              tolerance=moved, kind="formula", rival=-1.0 / dim, rival_law=f"isotropic, N^(−1/{dim})"),
        Claim(f"network_logs_{dim}", f"d = {dim}: power of log N in it", source, power, basis,
              tolerance=power * moved, kind="formula", rival=float(dim), rival_law="u = 0"),
    ]  # fmt: skip


def measure(config: Any) -> xr.Dataset:
    """Squared errors of the networks, through their ReLU layers, at independent uniform points of the cube."""
    table: dict[str, Any] = {}
    for dim, level in zip(DIMENSIONS, config.networks, strict=True):
        known = law(dim, level)
        table |= dict(zip((f"network_power_{dim}", f"network_logs_{dim}"), far(dim), strict=True))
        x = jax.random.uniform(jax.random.fold_in(jax.random.key(config.seed), 100 + dim), (config.network_points, dim))
        truth, grid = target(x), _interpolant(dim, level)
        nets = (_network(grid, n, epsilon) for n, epsilon in zip(known.levels, known.accuracy, strict=True))
        losses = np.stack([np.asarray((sparse_network.evaluate(net, x) - truth) ** 2) for net in nets], axis=1)
        table[f"network_{dim}_losses"] = (f"point_{dim}", f"network_level_{dim}"), losses
        both = exponents(known.effective, losses)
        table |= named(f"network_{dim}", Estimated(both.value / 2, both.contributions / 2))
        table |= named(f"network_error_{dim}", log_ratio(losses[:, -1], known.errors[-1] ** 2))
    return xr.Dataset(table)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Errors over nonzero parameters beside isotropic lines."""
    for color, dim in zip(figures.PALETTE, DIMENSIONS, strict=False):
        nonzeros, exact = (np.array(claims.curves[f"{name} {dim}"]) for name in ("nonzeros", "network"))
        square, error = mean_and_error(dataset[f"network_{dim}_losses"].values)
        measured = np.sqrt(square)
        figures.theory_line(ax, nonzeros, exact, color=color)
        isotropic = exact[0] * (nonzeros / nonzeros[0]) ** (-1 / dim)
        figures.theory_line(ax, nonzeros, isotropic, color=color, linestyle=":")
        figures.points(ax, nonzeros, measured, error / (2 * measured), color=color, label=f"$d = {dim}$")
    title = "explicit ReLU networks (dots: $N^{-1/d}$)"
    figures.label_axes(ax, "nonzero parameters $N$", "$L^2$ error", title, xscale="log", yscale="log")


def draw_exponents(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Measured exponents beside those of both laws."""
    predicted = {claim.name: claim for claim in claims.claims}
    marks = partial(ax.plot, marker="_", linestyle="", markersize=26, markeredgewidth=2.4)
    for dim in DIMENSIONS:
        claim, first = predicted[f"network_{dim}"], dim == DIMENSIONS[0]
        marks(dim, claim.predicted, color=figures.PALETTE[0], label="mixed, at these $N$" if first else None)
        rival = float(np.nan if claim.rival is None else claim.rival)
        marks(dim, rival, color="#999999", label="isotropic, $N^{-1/d}$" if first else None)
        value, error = float(dataset[f"network_{dim}"]), float(dataset[f"network_{dim}_error"])
        shown = "network, measured" if first else None
        ax.errorbar(dim, value, yerr=error, fmt="o", color=figures.PALETTE[1], markeredgecolor="white", label=shown)
    title = "exponents in $N/(\\log N)^{(3d-1)/2}$"
    figures.label_axes(ax, "dimension $d$", "exponent", title)
    ax.set_xticks(DIMENSIONS)
    ax.set_ylim(-1.5, 0)  # room for the legend
    ax.legend(loc="lower left")


STUDY = Study("networks", predict, measure, draw)
