"""The figure of the topic of Besov spaces: adaptivity seen, risks that part or coincide, and the table of rates."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import figures
from jaxtheory.lecture import function_classes
from jaxtheory.lecture.claims import Claims
from jaxtheory.smoothness import approximation, estimation, signals, wavelets

_BLUE, _RED, _GREEN, _PINK, _ORANGE = figures.PALETTE[:5]
_RULES = {
    "linear": ("best linear, by level", _BLUE, "o"),
    "ridge": ("kernel ridge, best ridge", figures.PALETTE[5], "s"),
    "sure": ("wavelets, SureShrink", _RED, "o"),
    "lasso": ("lasso on B-splines", _GREEN, "^"),
    "network": ("trained ReLU network", _PINK, "D"),
}


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Top: signals, surviving coefficients, knots, networks; bottom: the risks, and exponents of every class."""
    figure, axes = figures.canvas(2, 4, panel=(5.6, 4.7))
    _signals(axes[0])
    _survivors(axes[1])
    _knots(axes[2])
    _networks(axes[3], dataset)
    titles = {"spiky": "$B^1_{1,∞}$: adaptive wins", "homogeneous": "$B^1_{2,∞}$: nothing to win"}
    for ax, (name, title) in zip(axes[4:6], titles.items(), strict=True):
        _risks(ax, dataset, claims, name, title)
    _one_signal(axes[6], dataset)
    _table(axes[7], dataset)
    return figure


def _signals(ax: Axes) -> None:
    t = jnp.linspace(0, 1, 1025)[1:]
    for i, signal in enumerate((signals.blocks, signals.bumps, signals.heavisine, signals.doppler)):
        values = np.asarray(signal(t))
        height = (values - values.min()) / np.ptp(values)
        ax.plot(t, 3.6 - 1.2 * i + height, color=figures.PALETTE[i], linewidth=1.4)
        ax.text(1.01, 4.0 - 1.2 * i, signal.__name__, fontsize=11, color=figures.PALETTE[i])
    ax.set(xlim=(0, 1.25), xticks=np.linspace(0, 1, 6))
    figures.label_axes(ax, "$t$", "", "four classic signals")
    ax.set_yticks([])


def _survivors(ax: Axes, octave: int = 11) -> None:
    """HeaviSine with noise: every coefficient of db2 by place and level, those above their threshold in colour."""
    n = 2**octave
    t = (jnp.arange(n, dtype=float) + 0.5) / n
    y = signals.heavisine(t) + jax.random.normal(jax.random.key(0), (n,), t.dtype)
    kept = estimation.denoise(wavelets.dwt(y / n**0.5, "db2"), n**-0.5, "hard", coarse=0)
    for detail in kept.details[2:]:
        j = wavelets.level(detail)
        place, size = (np.arange(2**j) + 0.5) / 2**j, np.abs(np.asarray(detail[0]))
        ax.plot(place, np.full(2**j, j), "|", color="#CCCCCC", markersize=3, zorder=1)
        ax.scatter(place[size > 0], np.full((size > 0).sum(), j), 20 + 60 * size[size > 0], color=_RED, zorder=3)
    ax.plot(t, 0.5 + 0.12 * (np.asarray(signals.heavisine(t)) - 4), color=_BLUE, linewidth=1.6)
    total = sum(int((d != 0).sum()) for d in kept.details)
    figures.label_axes(ax, "$t$", "level $j$", f"noisy HeaviSine: {total} of {n} survive")


def _knots(ax: Axes, terms: int = 60) -> None:
    n = 2**11
    t = jnp.arange(n, dtype=float) / n
    f = jnp.abs(t - 3**-0.5) ** 0.6 * jnp.sin(jnp.pi * t) ** 4
    best = approximation.spline_terms(f, 3)
    scale, shift = np.asarray(best.scales[:terms]), np.asarray(best.shifts[:terms])
    for one, first in zip(scale, shift, strict=True):
        knots = np.mod((first + np.arange(5)) / one, 1.0)
        ax.plot(knots, np.full(5, np.log2(one)), "|", color=_RED, markersize=7, markeredgewidth=1.2)
    ax.plot(t, -4.5 + 4 * np.asarray(f) / float(f.max()), color=_BLUE, linewidth=1.8)
    figures.label_axes(ax, "$t$", "level $j$ of the spline", f"knots of the best {terms} B-splines")
    ax.set_yticks(range(0, 12, 2))


def _networks(ax: Axes, dataset: xr.Dataset) -> None:
    size, error = dataset.terms.values, dataset.spline_error.values
    middle = np.exp(np.log(error * size).mean())
    figures.theory_line(ax, size, middle / size, label="$N^{-s}$, $s = 1$", color=_BLUE)
    figures.points(ax, size, error, label="ReLU network of $N$ splines", color=_RED)
    lines = [
        f"$d={d}$: {atoms:,}" for d, atoms in zip(dataset.dimension.values[:4], dataset.dictionary.values, strict=False)
    ]
    ax.text(0.04, 0.05, "atoms of a fixed dictionary\n" + "\n".join(lines), transform=ax.transAxes, fontsize=11)
    figures.label_axes(ax, "splines $N$", "$L^2$ error", "explicit networks in $B^1_{1,∞}$", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, size)


def _risks(ax: Axes, dataset: xr.Dataset, claims: Claims, name: str, title: str) -> None:
    n = 2.0**dataset.octave.values
    figures.theory_line(ax, n, claims.curves[f"linear {name}"], label="best linear, exact", color=_BLUE)
    for rule, label in (("linear", "best linear"), ("sure", "SureShrink"), ("ideal", "benchmark $Σ\\min(β^2, σ^2)$")):
        risk = dataset[f"{name}_{rule}"].transpose("seed", "octave").values
        color, marker = {"linear": (_BLUE, "o"), "sure": (_RED, "o"), "ideal": (_GREEN, "^")}[rule]
        figures.points(ax, n, risk.mean(0), _error(risk), label=label, color=color, marker=marker)
    start = dataset[f"{name}_sure"].mean("seed").values[0]
    figures.theory_line(ax, n, start * (n / n[0]) ** (-2 / 3), label="$n^{-2/3}$", color=_RED, linestyle="--")
    figures.label_axes(ax, "samples $n$", "risk", title, xscale="log", yscale="log")
    ax.set_ylim(top=4 * start)  # room for the legend
    ax.legend(loc="upper right")


def _error(risk: np.ndarray) -> np.ndarray:
    return risk.std(axis=0, ddof=1) / np.sqrt(len(risk))


def _one_signal(ax: Axes, dataset: xr.Dataset) -> None:
    n = 2.0**dataset.signal_octave.values
    for rule, (label, color, marker) in _RULES.items():
        risk = dataset[f"signal_{rule}"].transpose("signal_seed", "signal_octave").values
        ax.plot(n, risk.mean(0), color=color, linewidth=1, alpha=0.6)
        figures.points(ax, n, risk.mean(0), _error(risk), label=label, color=color, marker=marker)
    title = "HeaviSine, noise 1: five estimators"
    figures.label_axes(ax, "samples $n$", "mean squared error", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, n)
    ax.set_ylim(bottom=0.015)
    ax.legend(loc="lower left")


def _table(ax: Axes, dataset: xr.Dataset) -> None:
    """Every class: the two exponents of the theory as bars, the measured ones as points."""
    rows = function_classes.rows(16)[::-1]
    for y, row in enumerate(rows):
        for arm, color, shift in (("linear", _BLUE, 0.13), ("adaptive", _RED, -0.13)):
            rate, label = getattr(row, arm), arm if y == 0 else None
            ax.plot(
                [-rate] * 2,
                [y + shift - 0.2, y + shift + 0.2],
                color=color,
                linewidth=2.2,
                label=label and f"{arm}, theory",
            )
            value, error = (float(dataset.get(f"{row.name}_{arm}{suffix}", 0.0)) for suffix in ("", "_error"))
            if np.isfinite(value):
                ax.errorbar(-value, y + shift, xerr=error, fmt="o", color=color, markeredgecolor="white", capsize=2.5,
                            label=label and "measured")  # fmt: skip
    ax.set_xlim(0, 2.4)
    figures.label_axes(ax, "exponent $r$ of the error $N^{-r}$", "", "rates by function class")
    ax.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=11)
    ax.legend(loc="lower right")
