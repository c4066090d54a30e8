"""Finite width: the mean loss of networks comes to the limit as 1/N, and networks scatter about it as N^(−1/2)."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.feature_learning import courses
from jaxtheory.lecture.study import Study
from jaxtheory.results import Slope, fit_slope, standard_error

_SOURCE = "Bordelon and Pehlevan (2023), section 3"
_NEXT = 5.0  # of the next order, 1 + 5/N
_LABELS = {"mean": "mean training loss − limit", "scatter": "scatter of predictions"}


def predict(config: Any) -> Claims:
    """Exponents −1 and −1/2, up to the next order, 1 + 5/N."""
    basis = "theory: the next order, slope of log(1 + 5/N)"
    claims = [
        statistical(f"width_{name}", f"width: exponent of {what}", _SOURCE, exponent, basis,
                    tolerance=_next_order(widths[0], widths[-1]), rival=(rival, law))
        for name, widths, what, exponent, rival, law in (
            ("mean", config.widths[:2], "E L(N) − L(∞) after training", -1.0, -0.5, "that of a single network"),
            ("scatter", config.widths, "the standard deviation of predictions", -0.5, -1.0, "that of the mean"),
        )
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def measure(config: Any) -> xr.Dataset:
    """Excess loss and scatter of predictions at each width, and their exponents; that of the mean from two widths."""
    limits = np.array([_limit(config, i).loss[-1] for i in range(config.repeats)])
    ensembles = [_networks(config, width, count) for width, count in zip(config.widths, config.counts, strict=True)]
    losses = [ensemble.loss[:, -1] for ensemble in ensembles]
    mean = np.array([loss.mean() - limits.mean() for loss in losses])
    mean_error = np.array([float(standard_error(jnp.asarray(loss))) for loss in losses])
    shared = float(standard_error(jnp.asarray(limits)))
    squares = [e.predictions.var(0, ddof=1).mean() for e in ensembles]
    scatter = np.sqrt(squares)
    spread = [((e.predictions - e.predictions.mean(0)) ** 2).mean(1) for e in ensembles]
    scatter_error = np.array([float(standard_error(jnp.asarray(s))) for s in spread]) / (2 * scatter)
    slopes = {
        "mean": _slope(config.widths[:2], mean, mean_error),
        "scatter": _slope(config.widths, scatter, scatter_error),
    }
    # the limit's own error moves the two excesses together
    moved = shared * abs(1 / mean[0] - 1 / mean[1]) / math.log(config.widths[1] / config.widths[0])
    drawn = float(slopes["mean"].standard_error)
    total, least = drawn**2 + moved**2, min(config.counts)
    freedom = total**2 / (drawn**4 / (min(config.counts[:2]) - 1) + moved**4 / (config.repeats - 1))  # Welch (1947)
    draws = 1 + freedom if math.isfinite(freedom) else least  # a slope that is NaN fails whatever its draws
    scalars = estimated("width_mean", slopes["mean"].slope, math.sqrt(total), draws)
    scalars |= estimated("width_scatter", slopes["scatter"].slope, slopes["scatter"].standard_error, least)
    sizes = {"mean": (mean, np.hypot(mean_error, shared)), "scatter": (scatter, scatter_error)}
    arrays = {f"size_{name}": ("size_width", pair[0]) for name, pair in sizes.items()}
    arrays |= {f"size_{name}_se": ("size_width", pair[1]) for name, pair in sizes.items()}
    return xr.Dataset({**arrays, **scalars}, {"size_width": list(config.widths)})


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Both against width, with lines of the exponents through the narrowest."""
    widths = dataset.size_width.values
    exponents = {claim.name: claim.predicted for claim in claims.claims}
    for color, marker, (name, label) in zip(figures.PALETTE[:2], ("o", "s"), _LABELS.items(), strict=True):
        sizes, errors = dataset[f"size_{name}"].values, dataset[f"size_{name}_se"].values
        shown = np.where(sizes > errors, sizes, np.nan)
        if not np.isfinite(shown[0]):
            continue  # no line to draw: the claim has failed
        exponent = exponents[f"width_{name}"]
        power = f"$N^{{{'-1' if exponent == -1 else '-1/2'}}}$"
        line = sizes[0] * (widths / widths[0]) ** exponent
        figures.theory_line(ax, widths, line, color=color, label=f"{label}: {power}")
        figures.points(ax, widths, shown, errors, color=color, marker=marker)
    figures.label_axes(ax, "width N", "distance to the limit", "finite width, teacher", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, widths)
    ax.set_ylim(bottom=ax.get_ylim()[0] / 5)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower left")


def _slope(widths: tuple[int, ...], sizes: np.ndarray, errors: np.ndarray) -> Slope:
    kept = [jnp.asarray(part[: len(widths)], float) for part in (sizes, errors)]
    if not bool((kept[0] > 0).all()):
        return Slope(*(jnp.asarray(math.nan) for _ in range(3)))
    return fit_slope(jnp.asarray(widths, float), *kept)


def _next_order(narrow: int, wide: int) -> float:
    return math.log((1 + _NEXT / narrow) / (1 + _NEXT / wide)) / math.log(wide / narrow)


def _limit(config: Any, repeat: int) -> courses.Course:
    return courses.limit(config, "teacher", _richness(config), repeat)


def _networks(config: Any, width: int, count: int) -> courses.Ensemble:
    return courses.networks(config, "teacher", _richness(config), width, count)


def _richness(config: Any) -> float:
    return config.richness[len(config.richness) // 2]


STUDY = Study("width", predict, measure, draw)
