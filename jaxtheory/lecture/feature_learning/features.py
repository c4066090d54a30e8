"""What is learned: the last hidden kernel before and after training, and the law of its pre-activations."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import SIGNIFICANT, Claims, statistical
from jaxtheory.lecture.feature_learning import courses
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study

_SOURCE = "Bordelon and Pehlevan (2022), eqs 7-9"
_THEORY = f"theory: {SIGNIFICANT:g} standard errors of the limit's samples, n²/(N₁N₂)"
_GAUSSIAN = 3.0  # E h⁴/(E h²)² of a Gaussian
_BINS = np.linspace(-3.5, 3.5, 29)  # of h over its standard deviation
_GRID = np.linspace(-3.5, 3.5, 141)


def predict_kernel(config: Any) -> Claims:
    """Rows of the kernel, and how far the classes are apart in it, yᵀΦy/n²."""
    rich, y = _rich(config), np.asarray(courses.problem(config, "digits").y)
    apart = _apart(rich.kernel[[0, -1]], y)
    error = float(rich.kernel_error[-1].mean())
    claim = statistical("classes_apart", f"kernel: yᵀΦy/n² after training, γ0 = {config.richness[-1]:g}, 1/N → 0",
                        _SOURCE, float(apart[1]), _THEORY,
                        tolerance=SIGNIFICANT * error + courses.remainder(config) * float(apart[1]),
                        rival=(float(apart[0]), "the kernel of the start: features that do not move"))  # fmt: skip
    rows = {f"kernel, {when}": rich.kernel[i, 0].tolist() for when, i in (("before", 0), ("after", -1))}
    return Claims((claim,), rows)


def measure_kernel(config: Any) -> xr.Dataset:
    """The same of networks: rows of the widest, the classes' distance as 1/N → 0."""
    y = np.asarray(courses.problem(config, "digits").y)
    found = [_networks(config, width).kernel for width in courses.widest(config)]
    apart = courses.extrapolated(config, "classes_apart", [_apart(kernel[:, 1], y) for kernel in found])
    row, row_error = mean_and_error(found[-1][:, :, 0])
    return xr.Dataset(
        {
            "kernel_row": (("moment", "point"), row),
            "kernel_row_se": (("moment", "point"), row_error),
            **apart,
        },
        {"moment": np.array(["before", "after"], np.dtypes.StringDType()), "point": np.arange(1, config.samples + 1)},
    )


def draw_kernel(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """One row of the kernel, before and after."""
    point = dataset.point.values
    ax.axhline(0.0, color="#BBBBBB", linewidth=1)
    for color, when, marker in zip(figures.PALETTE[4:6], ("before", "after"), ("s", "o"), strict=True):
        taken = dataset.sel(moment=when)
        figures.theory_line(ax, point, claims.curves[f"kernel, {when}"], color=color, label=f"{when} training")
        figures.points(ax, point, taken.kernel_row.values, taken.kernel_row_se.values, color=color, marker=marker)
    half = len(point) // 2
    figures.threshold(ax, half + 0.5, "3s | 8s")
    figures.label_axes(ax, "image j", r"$\Phi^2(x_1, x_j)$", "features of one digit")
    ax.set_xticks([1, half, half + 1, len(point)])


def predict_fields(config: Any) -> Claims:
    """The density of a pre-activation in the limit, smoothed, and its kurtosis."""
    fields = _rich(config).fields
    value, error = _kurtosis(fields, 8)
    claim = statistical("kurtosis",
                        f"pre-activations: E h⁴/(E h²)² after training, γ0 = {config.richness[-1]:g}, 1/N → 0", _SOURCE,
                        value, _THEORY,
                        tolerance=SIGNIFICANT * error + courses.remainder(config) * value,
                        rival=(_GAUSSIAN, "Gaussian, as at the start"))  # fmt: skip
    return Claims((claim,), {"field": _GRID.tolist(), "density": _density(fields).tolist()})


def measure_fields(config: Any) -> xr.Dataset:
    """The histogram of the widest networks, and the kurtosis as 1/N → 0, a number a network."""
    found = [_networks(config, width).fields for width in courses.widest(config)]
    kurtosis = courses.extrapolated(config, "kurtosis", [(h**4).mean(1) / (h**2).mean(1) ** 2 for h in found])
    scaled = found[-1] / np.sqrt((found[-1] ** 2).mean())
    counts = np.array([np.histogram(np.abs(h), _BINS[len(_BINS) // 2 :])[0] for h in scaled])
    mean, error = mean_and_error(counts / (2 * scaled.shape[1] * np.diff(_BINS)[0]))  # of h and −h, of one law
    centres = (_BINS[1:] + _BINS[:-1])[len(_BINS) // 2 :] / 2
    return xr.Dataset(
        {
            "field_density": ("field", mean),
            "field_density_se": ("field", error),
            **kurtosis,
        },
        {"field": centres},
    )


def draw_fields(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Density at the end, beside the Gaussian of the start."""
    grid = np.array(claims.curves["field"])
    gaussian = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    figures.theory_line(ax, grid, gaussian, color=figures.PALETTE[4], label="before: Gaussian", linestyle="--")
    figures.theory_line(ax, grid, claims.curves["density"], color=figures.PALETTE[5], label="after training")
    for sign in (-1, 1):
        density, error = dataset.field_density.values, dataset.field_density_se.values
        figures.points(ax, sign * dataset.field.values, density, error, color=figures.PALETTE[5])
    figures.label_axes(ax, r"$h\,/\,$standard deviation", "density", "pre-activations of one digit")
    ax.set_ylim(0, 1.35 * float(dataset.field_density.max()))
    ax.legend(loc="upper center", ncols=2)


def _rich(config: Any) -> courses.Course:
    return courses.limit(config, "digits", config.richness[-1])


def _networks(config: Any, width: int) -> courses.Ensemble:
    return courses.networks(config, "digits", config.richness[-1], width, config.count)


def _apart(kernels: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.einsum("knm,n,m->k", kernels, y, y) / len(y) ** 2


def _kurtosis(fields: np.ndarray, parts: int) -> tuple[float, float]:
    """E h⁴/(E h²)² of samples, and its standard error by the jackknife over parts."""
    pieces = np.array_split(fields, parts)
    kept = [np.concatenate([*pieces[:i], *pieces[i + 1 :]]) for i in range(parts)]
    ratio = [float((h**4).mean() / (h**2).mean() ** 2) for h in (fields, *kept)]
    return ratio[0], float(np.std(ratio[1:]) * (parts - 1) ** 0.5)


def _density(fields: np.ndarray) -> np.ndarray:
    """On `_GRID`, smoothed by narrow Gaussians, of h and −h, whose laws are equal."""
    h = np.concatenate([fields, -fields]) / np.sqrt((fields**2).mean())
    width = 0.5 * len(h) ** -0.2
    return np.exp(-(((_GRID[:, None] - h) / width) ** 2) / 2).mean(1) / (width * np.sqrt(2 * np.pi))


KERNEL = Study("kernel", predict_kernel, measure_kernel, draw_kernel)
FIELDS = Study("pre-activations", predict_fields, measure_fields, draw_fields)
