"""What adapts: signals, the coefficients that survive a threshold, and knots that go where a function is rough."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.besov.balls import BLUE, RED
from jaxtheory.lecture.claims import Claims
from jaxtheory.smoothness import approximation, estimation, signals, wavelets


def draw_signals(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Four classic test functions."""
    t = jnp.linspace(0, 1, 1025)[1:]
    for i, signal in enumerate((signals.blocks, signals.bumps, signals.heavisine, signals.doppler)):
        values = np.asarray(signal(t))
        height = (values - values.min()) / np.ptp(values)
        ax.plot(t, 3.6 - 1.2 * i + height, color=figures.PALETTE[i], linewidth=1.4)
        ax.text(1.01, 4.0 - 1.2 * i, signal.__name__, fontsize=11, color=figures.PALETTE[i])
    ax.set(xlim=(0, 1.25), xticks=np.linspace(0, 1, 6))
    figures.label_axes(ax, "$t$", "", "four classic signals")
    ax.set_yticks([])


def draw_survivors(ax: Axes, dataset: xr.Dataset, claims: Claims, octave: int = 11) -> None:
    """HeaviSine with noise: every coefficient of db2 by place and level, those above their threshold in colour."""
    n = 2**octave
    t = (jnp.arange(n, dtype=float) + 0.5) / n
    y = signals.heavisine(t) + jax.random.normal(jax.random.key(0), (n,), t.dtype)
    kept = estimation.denoise(wavelets.dwt(y / n**0.5, "db2"), n**-0.5, "hard", coarse=0)
    for detail in kept.details[2:]:
        j = wavelets.level(detail)
        place, size = (np.arange(2**j) + 0.5) / 2**j, np.abs(np.asarray(detail[0]))
        ax.plot(place, np.full(2**j, j), "|", color="#CCCCCC", markersize=3, zorder=1)
        ax.scatter(place[size > 0], np.full((size > 0).sum(), j), 20 + 60 * size[size > 0], color=RED, zorder=3)
    ax.plot(t, 0.5 + 0.12 * (np.asarray(signals.heavisine(t)) - 4), color=BLUE, linewidth=1.6)
    total = sum(int((d != 0).sum()) for d in kept.details)
    figures.label_axes(ax, "$t$", "level $j$", f"noisy HeaviSine: {total} of {n} survive")


def draw_knots(ax: Axes, dataset: xr.Dataset, claims: Claims, terms: int = 60) -> None:
    """Knots of the best B-splines of a function with one rough point."""
    n = 2**11
    t = jnp.arange(n, dtype=float) / n
    f = jnp.abs(t - 3**-0.5) ** 0.6 * jnp.sin(jnp.pi * t) ** 4
    best = approximation.spline_terms(f, 3)
    scale, shift = np.asarray(best.scales[:terms]), np.asarray(best.shifts[:terms])
    for one, first in zip(scale, shift, strict=True):
        knots = np.mod((first + np.arange(5)) / one, 1.0)
        ax.plot(knots, np.full(5, np.log2(one)), "|", color=RED, markersize=7, markeredgewidth=1.2)
    ax.plot(t, -4.5 + 4 * np.asarray(f) / float(f.max()), color=BLUE, linewidth=1.8)
    figures.label_axes(ax, "$t$", "level $j$ of the spline", f"knots of the best {terms} B-splines")
    ax.set_yticks(range(0, 12, 2))
