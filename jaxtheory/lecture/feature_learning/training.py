"""Loss against time, from lazy to rich: on digits, and a single-index teacher's test error."""

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import SIGNIFICANT, Claims, statistical
from jaxtheory.lecture.feature_learning import courses
from jaxtheory.lecture.study import Study

MARKERS = ("v", "s", "o")  # of the three widths
_SOURCE = "Bordelon and Pehlevan (2022), eqs 7-9"
_LABELS = {"digits": ("training", "digits: training loss"), "teacher": ("test", "single-index teacher: test loss")}


def predict(config: Any, *, problem: str) -> Claims:
    """The loss of the limit at each richness; its mean over time is claimed for the lazy and the rich end."""
    found = {richness: _theory(config, problem, richness) for richness in config.richness}
    means = {richness: [float(part.mean()) for part in loss] for richness, loss in found.items()}
    part, _ = _LABELS[problem]
    ends = (config.richness[0], config.richness[-1])
    basis = f"theory: {SIGNIFICANT:g} standard errors of the limit's samples, n²/(N₁N₂) of the extrapolation"
    claims = [
        statistical(f"{problem}_{name}", f"{problem}: {part} loss, mean over time, γ0 = {here:g}, 1/N → 0", _SOURCE,
                    means[here][0], basis,
                    tolerance=SIGNIFICANT * means[here][1] + courses.remainder(config) * means[here][0],
                    rival=(means[other][0], f"γ0 = {other:g}"))
        for name, here, other in (("lazy", *ends), ("rich", *ends[::-1]))
    ]  # fmt: skip
    return Claims(tuple(claims), {_curve(problem, richness): found[richness][0].tolist() for richness in found})


def measure(config: Any, *, problem: str) -> xr.Dataset:
    """The loss of networks at each width and richness, and its mean over time as 1/N → 0."""
    losses = [[_losses(config, problem, richness, width).T for width in config.widths] for richness in config.richness]
    means = np.array([[loss.mean(1) for loss in row] for row in losses])
    errors = np.array([[loss.std(1, ddof=1) / loss.shape[1] ** 0.5 for loss in row] for row in losses])
    dims = tuple(f"{problem}_{name}" for name in ("richness", "width", "time"))
    scalars: dict[str, Any] = {}
    for name, row in (("lazy", losses[0]), ("rich", losses[-1])):
        scalars |= courses.extrapolated(config, f"{problem}_{name}", [loss.mean(0) for loss in row[-2:]])
    values = (list(config.richness), list(config.widths), np.arange(config.steps + 1))
    arrays = {f"{problem}_loss": (dims, means), f"{problem}_loss_se": (dims, errors)}
    return xr.Dataset({**arrays, **scalars}, dict(zip(dims, values, strict=True)))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims, *, problem: str) -> None:
    """A colour a richness, a marker a width; lines are the limit."""
    loss, error = dataset[f"{problem}_loss"], dataset[f"{problem}_loss_se"]
    richnesses, widths, times = (loss[dim].values for dim in loss.dims)
    for i, (color, richness) in enumerate(zip(figures.PALETTE, richnesses, strict=False)):
        line = claims.curves[_curve(problem, richness)]
        figures.theory_line(ax, times, line, color=color, label=rf"$\gamma_0$ = {richness:g}")
        for j, marker in enumerate(MARKERS):  # each width at its own third of the times, so that none hides another
            taken = slice(j, None, len(MARKERS))
            figures.points(
                ax, times[taken], loss.values[i, j, taken], error.values[i, j, taken], color=color, marker=marker
            )
    for marker, width in zip(MARKERS, widths, strict=True):
        ax.plot([], [], marker, color="#777777", label=f"N = {width}")
    figures.label_axes(ax, "steps", _LABELS[problem][0] + " loss", _LABELS[problem][1], yscale="log")


def _theory(config: Any, problem: str, richness: float) -> tuple[np.ndarray, np.ndarray]:
    found = courses.limit(config, problem, richness)
    return (found.loss, found.loss_error) if problem == "digits" else (found.test_loss, found.test_loss_error)


def _losses(config: Any, problem: str, richness: float, width: int) -> np.ndarray:
    found = courses.networks(config, problem, richness, width, config.count)
    return found.loss if problem == "digits" else found.test_loss


def _curve(problem: str, richness: float) -> str:
    return f"{problem} loss, richness {richness:g}"


def _study(problem: str) -> Study:
    parts = (partial(predict, problem=problem), partial(measure, problem=problem), partial(draw, problem=problem))
    return Study(f"training on {problem}", *parts)


DIGITS, TEACHER = _study("digits"), _study("teacher")
