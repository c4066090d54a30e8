"""The figure of kernel regression: learning curves, spectra, degrees of freedom and the rate."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Learning curves, spectra, degrees of freedom and the rate: theory as lines, measurements as points."""
    figure, (learning, spectrum, freedom, rate) = figures.canvas(2, 2, panel=(6.6, 4.7))
    for color, name in zip(figures.PALETTE, dataset.kernel.values.tolist(), strict=False):
        figures.theory_line(learning, claims.curves["n"], claims.curves[f"{name} test"], color=color, label=name)
        values = dataset.test.sel(kernel=name)
        figures.points(learning, dataset["size"], values.mean("seed"), _spread(values, "seed"), color=color)
        _draw_spectrum(spectrum, freedom, dataset, claims, name, color)
    title = "digits: predicted (lines), measured"
    figures.label_axes(learning, "training images $n$", "test error / variance", title, xscale="log", yscale="log")
    figures.ticks_at(learning.xaxis, dataset["size"])
    figures.label_axes(
        spectrum, "index $i$", r"eigenvalue $\lambda_i$", "spectra of $K/M$, all $M$ images", xscale="log", yscale="log"
    )
    figures.label_axes(
        freedom, r"ridge $\delta$", r"$\mathrm{tr}\,K(K+\delta)^{-1}$", "degrees of freedom", xscale="log", yscale="log"
    )
    _draw_rate(rate, dataset, claims)
    return figure


def _draw_spectrum(spectrum: Axes, freedom: Axes, dataset: xr.Dataset, claims: Claims, name: str, color: str) -> None:
    eigs = np.array(claims.curves[f"{name} eigenvalues"])
    kept = eigs > eigs[0] * 1e-12
    figures.theory_line(spectrum, np.arange(1, len(eigs) + 1)[kept], eigs[kept], color=color, label=name)
    ridges = np.geomspace(dataset.trace_ridge[0] / 2, dataset.trace_ridge[-1] * 2, 60)
    all_eigs = dataset.attrs["images"] * eigs[None]
    line = (all_eigs / (all_eigs + ridges[:, None])).sum(axis=1)
    figures.theory_line(freedom, ridges, line, color=color, label=name)
    found = dataset.sel(kernel=name)
    figures.points(freedom, dataset.trace_ridge, found.trace, found.trace_error, color=color)


def _draw_rate(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    for color, s in zip(figures.PALETTE, dataset.s.values.tolist(), strict=False):
        n, curve = np.array(claims.curves["circle n"]), np.array(claims.curves[f"circle {s}"])
        figures.theory_line(ax, n, curve, color=color, label=f"$s = {s}$")
        power = curve[-1] * (n / n[-1]) ** (-2 * s / (2 * s + 1))
        label = rf"$n^{{-{2 * s}/{2 * s + 1}}}$"
        figures.theory_line(ax, n, power, color=color, linestyle=":", label=label)
        values = dataset.excess.sel(s=s)
        figures.points(ax, dataset.circle_size, values.mean("circle_seed"), _spread(values, "circle_seed"), color=color)
    title = "Sobolev balls on the circle"
    figures.label_axes(ax, "samples $n$", "excess risk", title, xscale="log", yscale="log")


def _spread(values: xr.DataArray, over: str) -> xr.DataArray:
    return values.std(over, ddof=1) / np.sqrt(values.sizes[over])
