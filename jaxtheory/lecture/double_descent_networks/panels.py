"""Further panels of the networks on digits: over training time, over samples, and over both with the width."""

import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims
from jaxtheory.lecture.double_descent_networks.digits import CLASSES
from jaxtheory.lecture.panels import draw_joined
from jaxtheory.lecture.study import panel


def draw_widths_and_time(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test loss over steps and parameters."""
    ratio = dataset.parameters.values / (dataset.attrs["samples"] * CLASSES)
    figures.heat_map(ax, dataset.step, ratio, dataset.test_loss.mean("seed"), "test squared error")
    figures.label_axes(ax, "step of Adam", "parameters / (n K)", "over widths and time", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset.step.values)
    figures.ticks_at(ax.yaxis, ratio)


def draw_time(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test loss over steps at the least, the middle and the largest width, with the range of the seeds."""
    widths = dataset.sizes["width"]
    for color, index in zip(figures.PALETTE, (0, widths // 2, widths - 1), strict=False):
        values = dataset.test_loss.isel(width=index)
        ax.plot(dataset.step, values.mean("seed"), color=color, label=f"{int(dataset.width[index])} hidden units")
        figures.band(ax, dataset.step.values, values.min("seed"), values.max("seed"), color=color)
    figures.label_axes(ax, "step of Adam", "test squared error", "over time, label noise", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset.step.values)


def draw_widths_and_samples(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test loss over numbers of training images and hidden units."""
    loss = dataset.samples_loss.mean("seed").transpose("width", "samples")
    figures.heat_map(ax, dataset.samples, dataset.width, loss, "test squared error")
    figures.label_axes(ax, "training images, n", "hidden units", "over widths and samples", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset.samples.values)
    figures.ticks_at(ax.yaxis, dataset.width.values)


def draw_samples(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test loss over numbers of training images at some widths."""
    middle = range(1, dataset.sizes["width"], max(1, dataset.sizes["width"] // 4))
    for color, index in zip(figures.PALETTE, middle, strict=False):
        values, label = dataset.samples_loss.isel(width=index), f"{int(dataset.width[index])} hidden units"
        draw_joined(ax, dataset.samples.values, values, "seed", label=label, color=color)
    figures.label_axes(ax, "training images, n", "test squared error", "more data can hurt", xscale="log", yscale="log")
    ax.set_ylim(top=5 * float(dataset.samples_loss.mean("seed").max()))
    figures.ticks_at(ax.xaxis, dataset.samples.values)


WIDTHS_AND_TIME = panel("widths-and-time", draw_widths_and_time)
TIME = panel("training-time", draw_time)
WIDTHS_AND_SAMPLES = panel("widths-and-samples", draw_widths_and_samples)
SAMPLES = panel("samples", draw_samples)
