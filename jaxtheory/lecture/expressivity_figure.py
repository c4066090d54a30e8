"""The figures of the topic on expressivity: ten panels, each drawn from the saved dataset and claims alone."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims


def draw(dataset: xr.Dataset, claims: Claims) -> tuple[Figure, Figure]:
    """Networks by size and a superposition; then the ridgelet transform of a wave and of a digit."""
    networks, (random, greedy, inner, cubes, step, off) = figures.canvas(2, 3, panel=(6.0, 4.6))
    _draw_random(random, dataset, claims)
    _draw_greedy(greedy, dataset)
    inner.plot(np.linspace(0, 1, dataset.sizes["place"]), dataset.psi.values, color=figures.PALETTE[0], linewidth=1.2)
    figures.label_axes(inner, "$x$", r"$\psi(x)$", "Köppen's inner function")
    _draw_cubes(cubes, dataset, claims)
    _draw_step(step, dataset)
    off.remove()
    ridgelets, (blur, weights, turned, digit, rebuilt, none) = figures.canvas(2, 3, panel=(6.0, 4.6))
    _draw_blur(blur, dataset, claims)
    _draw_weights(weights, dataset)
    reach = dataset.attrs["image_scale"] * 1.42 + 9
    turn = (-reach, reach, 0, 360)
    _image(turned, dataset.sinogram.values.T, "spectrum of a digit, $|a| = 9$", "$b$", "angle of $a$, degrees", turn)
    turned.set_xlim(-15, 15)
    turned.set_yticks(range(0, 361, 90))
    _draw_digit(digit, dataset.digit_image.values, "the digit $f$")
    _draw_digit(rebuilt, dataset.digit_sum.values, r"$S[R f]/K$ over $|a| \leq 18$")
    none.remove()
    return networks, ridgelets


def _draw_digit(ax: Axes, image: np.ndarray, title: str) -> None:
    _image(ax, image[::-1].T, title, "$x_1$", "$x_2$", (-1, 1, -1, 1))
    ax.set_aspect("equal")


def _draw_cubes(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The cubes of the first shifts q over the error: it is large where two of their gaps cross."""
    zoom = tuple(dataset.attrs["zoom"])
    _image(ax, dataset.gaps.values, "cubes of $q = 0, 1, 2$ over $|f - f_1|$", "$x_1$", "$x_2$", (*zoom, *zoom))
    cell, base = dataset.attrs["cell"], dataset.attrs["base"]
    side = cell * (base - 2) / (base - 1)
    for q, color in enumerate(("white", figures.PALETTE[1], figures.PALETTE[5])):
        corners = np.arange(57, 63) * cell - q * cell / (base - 1)
        for x in corners:
            for y in corners:
                ax.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=color, linewidth=1.2))
    ax.set(xlim=zoom, ylim=zoom, aspect="equal")


def _draw_step(ax: Axes, dataset: xr.Dataset) -> None:
    _image(ax, dataset.step.values, "$f$ (lines) and one step $f_1$", "$x_1$", "$x_2$", (0, 1, 0, 1))
    axis = np.linspace(0, 1, dataset.sizes["row"])
    ax.contour(axis, axis, dataset.target.values.T, levels=6, colors="white", linewidths=1.2)


def _draw_random(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    for color, dim in zip(figures.PALETTE, dataset.dim.values, strict=False):
        figures.theory_line(
            ax, dataset["size"].values, claims.curves[f"law {dim}"], color=color, label=f"law, $d = {dim}$"
        )
        row = dataset.sel(dim=dim)
        figures.points(ax, dataset["size"].values, row.random.values, row.random_spread.values, color=color)
    figures.label_axes(ax, "neurons $n$", "mean squared error", "random cosines", xscale="log", yscale="log")


def _draw_greedy(ax: Axes, dataset: xr.Dataset) -> None:
    size = np.arange(1, dataset.sizes["neurons"] + 1)
    named = {
        "greedy_2_1": ("$d=2$, ReLU", -1.25),
        "greedy_1_1": ("$d=1$, ReLU", -2),
        "greedy_1_2": ("$d=1$, ReLU²", -3),
    }
    for color, (name, (label, rate)) in zip(figures.PALETTE, named.items(), strict=False):
        errors = dataset[f"{name}_errors"].values
        picked = np.unique(np.geomspace(4, len(size), 12).astype(int)) - 1
        middle = len(size) // 4
        line = errors[middle] * (size[picked] / size[middle]) ** rate
        figures.theory_line(ax, size[picked], line, color=color, label=f"{label}: $n^{{{rate:g}}}$")
        figures.points(ax, size[picked], errors[picked], color=color)
    figures.label_axes(ax, "neurons $n$", "$L^2$ error", "greedy networks", xscale="log", yscale="log")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _draw_blur(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    figures.theory_line(
        ax, np.geomspace(8, 50, 30), claims.curves["blur"], label="law, $K = -2$", color=figures.PALETTE[1]
    )
    scales = list(dataset.attrs["scales"])
    measured = [float(dataset[f"blur_{scale:g}"]) for scale in scales]
    figures.points(ax, scales, measured, label="measured, nothing fitted", color=figures.PALETTE[0])
    title = "ridgelet integral over $|a| \\leq A$"
    figures.label_axes(ax, "$A$", "relative $L^2$ error", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, scales)


def _draw_weights(ax: Axes, dataset: xr.Dataset) -> None:
    reach = dataset.attrs["reach"]
    _image(ax, dataset.spectrum.values, "trained neurons on $|T(a, b)|$", "$a$", "$b$", (-reach, reach, -reach, reach))
    a, b, c = np.moveaxis(dataset.weights.isel(seed=0).values, -1, 0)
    sizes = 60 * np.abs(c) / np.abs(c).max() + 2
    ax.scatter(a, b, s=sizes, color=figures.PALETTE[1], edgecolors="white", linewidths=0.4)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))


def _image(ax: Axes, values: np.ndarray, title: str, xlabel: str, ylabel: str, extent: Any) -> None:
    """values[i, j] at the i-th x and the j-th y."""
    image = ax.imshow(values.T, origin="lower", extent=extent, aspect="auto", cmap="cividis")
    ax.figure.colorbar(image, ax=ax)
    ax.grid(visible=False)
    figures.label_axes(ax, xlabel, ylabel, title)
