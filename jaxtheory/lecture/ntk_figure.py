"""The figure of the tangent kernel's topic: six panels, predictions as lines and measurements as points."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims

FIXED = ("Gaussian", "Laplace", "arc-cosine")


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Above: start, drift, linearization over the width; below: eigencomponents, errors, alignment over training."""
    figure, axes = figures.canvas(rows=2, columns=3, panel=(5.9, 4.7))
    panels = (_start, _drift, _gap, _components, _errors, _alignment)
    for panel, ax in zip(panels, axes, strict=True):
        panel(ax, dataset, claims)
    return figure


def _start(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    widths, seen = dataset.start_width.values, dataset.start_deviation.values
    constant = claims.curves["sd"][0] * float(widths[0]) ** 0.5
    figures.theory_line(ax, widths, claims.curves["sd"], label=f"predicted: ${constant:.3f}\\,/\\sqrt{{m}}$")
    figures.points(ax, widths, seen, seen / (2 * dataset.attrs["draws"]) ** 0.5, label="measured", color=_color(1))
    title = "at the start: $\\Theta$ fluctuates"
    figures.label_axes(ax, "width $m$", "standard deviation of $\\Theta(x, x')$", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, widths)


def _drift(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    for i, (name, slope) in enumerate((("relu", "-1/2"), ("tanh", "-1"))):
        values = dataset.drift_kernel.sel(drift_activation=name)
        _powers(ax, values, f"drift_{name}", f"$m^{{{slope}}}$ ({name})", claims, i)
    motion = "$\\|\\Theta_t - \\Theta_0\\|\\, / \\,\\|\\Theta_0\\|$"
    figures.label_axes(ax, "width $m$", motion, "in training: $\\Theta$ moves", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset.drift_width.values)


def _gap(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    _powers(ax, dataset.lazy_gap, "gap_slope", "$m^{-1/2}$ (bound)", claims, 0)
    figures.label_axes(
        ax, "width $m$", "relative gap on test digits", "digits: network and its linearization", xscale="log",
        yscale="log",
    )  # fmt: skip
    figures.ticks_at(ax.xaxis, dataset.lazy_width.values)


def _powers(ax: Axes, values: xr.DataArray, name: str, label: str, claims: Claims, number: int) -> None:
    """Root mean squares over seeds, and the predicted power of width through the first."""
    widths, squares = values[values.dims[0]].values.astype(float), values.values**2
    mean = np.sqrt(squares.mean(-1))
    error = squares.std(-1, ddof=1) / squares.shape[-1] ** 0.5 / (2 * mean)
    exponent = next(claim.predicted for claim in claims.claims if claim.name == name)
    figures.theory_line(ax, widths, mean[0] * (widths / widths[0]) ** exponent, label=label, color=_color(number))
    figures.points(ax, widths, mean, error, color=_color(number))


def _components(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    one = dataset.isel(lazy_width=-1, lazy_seed=0)
    steps, ranks = one.lazy_steps.values[1:], ("2–3", "4–7", "8–15", "16–31")
    shown = np.unique(np.geomspace(1, len(steps), 14).astype(int)) - 1
    for block, rank in enumerate(ranks):
        color = _color(block)
        label = f"eigenvectors {rank}"
        figures.theory_line(ax, steps, one.lazy_kernel.isel(lazy_block=block).values[1:], color=color, label=label)
        figures.points(ax, steps[shown], one.lazy_network.isel(lazy_block=block).values[1:][shown], color=color)
    title = "digits: large eigenvalues first"
    figures.label_axes(
        ax, "steps of gradient descent (points: network)", "share of the error left", title, xscale="log"
    )


def _errors(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    times = np.arange(dataset.sizes["rich_time"]) / (dataset.sizes["rich_time"] - 1)
    _over_time(ax, times, dataset.rich_ntk, "regression with $\\Theta_t$", 0, "o")
    # an untrained network is a coin, far above the rest
    _over_time(ax, times[1:], dataset.rich_network.isel(rich_time=slice(1, None)), "the network", 1, "s")
    for i, name in enumerate(FIXED):
        fixed = float(dataset.rich_fixed.isel(rich_kernel=i).mean())
        ax.axhline(fixed, color="#555555", linestyle=("-.", ":", "--")[i], linewidth=1.4, label=f"{name} kernel")
    figures.label_axes(ax, "share of training done", "test misclassification rate", "noisy digits: learning a kernel")


def _alignment(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    times = np.arange(dataset.sizes["rich_time"]) / (dataset.sizes["rich_time"] - 1)
    _over_time(ax, times, dataset.rich_alignment, "$\\Theta_t$ with the labels", 0, "o")
    figures.label_axes(ax, "share of training done", "centered alignment", "noisy digits: it rises, then falls")


def _over_time(ax: Axes, times: np.ndarray, values: xr.DataArray, label: str, number: int, marker: str) -> None:
    error = values.std("rich_seed", ddof=1) / np.sqrt(values.sizes["rich_seed"])
    ax.plot(times, values.mean("rich_seed").values, color=_color(number), linewidth=1.2)
    figures.points(
        ax, times, values.mean("rich_seed").values, error.values, color=_color(number), label=label, marker=marker
    )


def _color(number: int) -> str:
    return figures.PALETTE[number]
