"""Fits of E + A/N^α + B/D^β: how often intervals cover the truth, and what the form says of curves that are solved."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims, estimated, statistical
from jaxtheory.lecture.scaling_laws.config import Config
from jaxtheory.lecture.scaling_laws.frontier import Grid, curves
from jaxtheory.lecture.study import Study
from jaxtheory.scaling import ScalingLaw, fit_scaling_law

_TRUTH = {"floor": 1.8, "params_scale": 480.0, "params_exponent": 0.35, "tokens_scale": 2000.0, "tokens_exponent": 0.37}
_JUDGED = ("params_exponent", "tokens_exponent")
_LEVEL, _NOISE = 0.95, 0.01  # of the intervals; of log loss
_SIDE = 6  # sizes and durations of a table of runs
_ALPHA, _BETA = 1.0, 0.3  # of the solved curves: phase 1
_EARLIEST = 60  # step of the solved table
_SHORT = 40  # intervals in the panel


def predict_coverage(config: Config) -> Claims:
    """The nominal level; its rival is intervals of one standard error."""
    runs, coefficients = _SIDE**2, len(_TRUTH)
    two_sided = 1.959964 * math.sqrt(1 - coefficients / runs)
    claim = statistical("coverage", f"intervals: coverage of both exponents, {_NOISE:.0%} noise",
                        "Hoffmann et al. (2022)", _LEVEL,
                        "theory: twice what 5 coefficients take from the residuals of 36 runs",
                        tolerance=2 * (_LEVEL - math.erf(two_sided / math.sqrt(2))),
                        rival=(0.6827, "one standard error to each side"))  # fmt: skip
    return Claims((claim,), {})


def measure_coverage(config: Config) -> xr.Dataset:
    """Fits of independent noisy tables of one law."""
    sizes, tokens = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, _SIDE), np.geomspace(1e9, 1e12, _SIDE))
    )
    loss = 1.8 + 480 / sizes**0.35 + 2000 / tokens**0.37
    noise = np.random.default_rng(config.seed).standard_normal((config.repetitions, len(loss)))
    fits = [_fit(sizes, tokens, loss * np.exp(_NOISE * each), config, seed) for seed, each in enumerate(noise)]
    values: dict[str, Any] = {}
    covered = []
    for name in _JUDGED:
        low, high = (
            np.array([getattr(end, name) for end in ends])
            for ends in zip(*((f.low, f.high) for f in fits), strict=True)
        )
        values |= {f"coverage_low_{name}": ("coverage_table", low), f"coverage_high_{name}": ("coverage_table", high)}
        covered.append((low <= _TRUTH[name]) & (_TRUTH[name] <= high))
    error = math.sqrt(_LEVEL * (1 - _LEVEL) / config.repetitions)
    return xr.Dataset(values | estimated("coverage", np.mean(covered), error, math.inf))


def _fit(sizes: np.ndarray, tokens: np.ndarray, loss: np.ndarray, config: Config, seed: int) -> ScalingLaw:
    table = (jnp.asarray(column, float) for column in (sizes, tokens, loss))
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    return fit_scaling_law(*table, key=key, resamples=config.resamples, level=_LEVEL)


def draw_coverage(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Intervals of the exponent of N of the first tables, those that miss it in red."""
    name = _JUDGED[0]
    low, high = (dataset[f"coverage_{end}_{name}"].values[:_SHORT] for end in ("low", "high"))
    missed = (low > _TRUTH[name]) | (high < _TRUTH[name])
    for at, (below, above, out) in enumerate(zip(low, high, missed, strict=True)):
        ax.plot([at, at], [below, above], color=figures.PALETTE[1 if out else 0], linewidth=2.2, zorder=3)
    ax.axhline(_TRUTH[name], color="#555555", linewidth=1.4, label=f"truth, {_TRUTH[name]:g}")
    ax.plot([], [], color=figures.PALETTE[0], label="interval")
    if missed.any():
        ax.plot([], [], color=figures.PALETTE[1], label="one that misses")
    title = f"95% intervals cover {float(dataset.coverage):.1%}"
    figures.label_axes(ax, "table of 36 noisy runs", "exponent of $N$", title)
    ax.set_ylim(top=float(high.max() + 0.35 * (high.max() - low.min())))
    ax.legend(loc="upper right", ncols=2)


def predict_solved(config: Config) -> Claims:
    """The exponents of phase 1 in d and in t, separately; their rival is the variance-limited exponent 1."""
    sizes, steps = _table(config)
    power = 2 * _ALPHA + 2 * _BETA - 1
    claims = tuple(
        Claim(
            f"solved_{name}",
            f"solved: exponent of {what}, fitted to exact risks at α = {_ALPHA:g}, β = {_BETA:g}",
            "Paquette, Paquette, Xiao, Pennington (2024)", value, f"theory: finite size, 1/ln {letter}",
            tolerance=1 / float(np.log(sampled).mean()), kind="formula", rival=1.0,
            rival_law="limited by variance",
        )
        for name, what, letter, value, sampled in (
            ("width", "the width d", "d", power, sizes),
            ("steps", "the steps t", "t", power / (2 * _ALPHA), steps),
        )
    )  # fmt: skip
    return Claims(claims, {})


def _table(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The widths and steps of the table of exact risks."""
    grid = Grid.of(config)
    widths = np.asarray(grid.widths)
    picked = widths[np.linspace(0, len(widths) - 1, _SIDE).round().astype(int)]
    return picked, np.geomspace(_EARLIEST, grid.steps, _SIDE).round().astype(int)


def measure_solved(config: Config) -> xr.Dataset:
    """The parametric form fitted to exact risks of one-pass SGD, with no noise at all."""
    grid, (sizes, steps) = Grid.of(config), _table(config)
    every = np.asarray(curves(grid, _ALPHA, _BETA))
    risk = every[np.searchsorted(np.asarray(grid.widths), sizes)][:, steps]
    width, step = np.meshgrid(sizes, steps, indexing="ij")
    law = _fit(width.ravel(), step.ravel(), risk.ravel(), config, 0).estimate
    values = {
        "solved_risk": (("solved_size", "solved_time"), risk), "solved_width": float(law.params_exponent),
        "solved_steps": float(law.tokens_exponent), "solved_law": ("solved_coefficient", np.array(law)),
    }  # fmt: skip
    return xr.Dataset(values, {"solved_size": sizes, "solved_time": steps})


def draw_solved(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Exact risks as points, the fitted form as lines."""
    floor, a, alpha, b, beta = dataset.solved_law.values
    t = np.geomspace(dataset.solved_time[0], dataset.solved_time[-1], 60)
    for color, width in zip(figures.PALETTE, dataset.solved_size.values, strict=False):
        figures.theory_line(ax, t, floor + a / width**alpha + b / t**beta, color=color)
        risk = dataset.solved_risk.sel(solved_size=width)
        figures.points(ax, dataset.solved_time, risk, color=color, label=f"$d = {width:.0f}$")
    title = f"fitted: $d^{{-{alpha:.2f}}} + t^{{-{beta:.2f}}}$; theory: 1.6 and 0.8"
    figures.label_axes(ax, "steps $t$", "risk", title, xscale="log", yscale="log")
    ax.set_ylim(top=1.5)
    ax.legend(loc="upper right", ncols=3)


COVERAGE = Study("intervals", predict_coverage, measure_coverage, draw_coverage)
SOLVED = Study("solved", predict_solved, measure_solved, draw_solved)
