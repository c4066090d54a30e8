"""Classifiers of noisy labels on both sides of separability: largest margins and logistic regression on their laws."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.double_descent import logistic, max_margin, separability_threshold
from jaxtheory.lecture.claims import Claims, averaged, statistical
from jaxtheory.lecture.double_descent_sources.config import Config
from jaxtheory.lecture.study import Study

_SIGNAL, _RIDGE, _LITTLE = 2.0, 0.1, 1e-7
_PER_LEVEL = 5  # Newton steps
_SEPARABLE, _NOISY, _RIDGED = (0.6, 1.0, 1.5), (0.08, 0.15), (0.15, 0.6, 1.5)  # features per sample
_KINDS = {
    "margin": ("largest margin", _SEPARABLE), "free": ("logistic, no ridge", _NOISY),
    "ridged": (f"logistic, ridge {_RIDGE:g}", _RIDGED),
}  # fmt: skip


def predict(config: Config) -> Claims:
    """Errors at a fresh point; the rival of the largest margin is logistic regression with a ridge, and in turn."""
    threshold = float(separability_threshold(_SIGNAL))
    beyond = np.geomspace(1.02 * threshold, 1.8, 20)
    margin = np.asarray(max_margin(jnp.asarray(np.concatenate([_SEPARABLE, beyond])), _SIGNAL).error)
    places = {"free": np.array([*_NOISY, 0.05, 0.25]), "ridged": np.array([*_RIDGED, 0.05, 0.35, 1.0])}
    aspect = np.concatenate([places["free"], places["ridged"]])
    ridge = np.concatenate([np.zeros_like(places["free"]), np.full_like(places["ridged"], _RIDGE)])
    fits = np.asarray(logistic(jnp.asarray(1 / aspect), jnp.asarray(ridge), _SIGNAL).error)
    free, ridged = np.split(fits, [len(places["free"])])
    source = {"margin": "Montanari et al. (2019), Deng et al. (2022)", "free": "Sur, Candès (2019)",
              "ridged": "Salehi, Abbasi, Hassibi (2019)"}  # fmt: skip
    laws = {"margin": margin[:3], "free": free[:2], "ridged": ridged[:3]}
    best = _error(1.0, 1e-9)
    claims = [
        statistical(f"classify_{kind}_{at:g}", f"classifiers: error of {words} at {at:g} features a sample",
                    source[kind], float(value), "theory: finite size, 1/n", tolerance=1 / config.points,
                    rival=(best, "labels of the true direction"))
        for kind, (words, places) in _KINDS.items() for at, value in zip(places, laws[kind], strict=True)
    ]  # fmt: skip
    curves = {"margin": (beyond, margin[3:]), "free": (places["free"], free), "ridged": (places["ridged"], ridged)}
    lines: dict[str, list[float]] = {}
    for kind, (x, y) in curves.items():
        order = np.argsort(x)
        lines |= {f"classify_{kind}_at": x[order].tolist(), f"classify_{kind}": y[order].tolist()}
    return Claims(tuple(claims), lines | {"classify_threshold": [threshold]})


def measure(config: Config) -> xr.Dataset:
    """Fits of independent data sets, and the error of each at a fresh point, by quadrature."""
    rng = np.random.default_rng(config.seed)
    values: dict[str, Any] = {}
    for kind, (_, places) in _KINDS.items():
        for at in places:
            errors = [_one(rng, kind, config.points, round(at * config.points)) for _ in range(config.classifiers)]
            values |= averaged(f"classify_{kind}_{at:g}", np.array(errors), None)
    return xr.Dataset(values)


def _one(rng: np.random.Generator, kind: str, n: int, d: int) -> float:
    from scipy.special import expit

    x = rng.standard_normal((n, d))
    y = np.where(rng.random(n) < expit(_SIGNAL * x[:, 0]), 1.0, -1.0)
    signed = x * y[:, None]
    b = _separator(signed) if kind == "margin" else newton(signed, {"ridged": _RIDGE, "free": _LITTLE}[kind])
    return _error(b[0], float(np.linalg.norm(b[1:])))


def _separator(signed: np.ndarray) -> np.ndarray:
    """The shortest vector of the hull of the points, by non-negative least squares."""
    from scipy.optimize import nnls

    n, d = signed.shape
    return nnls(np.vstack([signed.T, np.ones(n)]), np.append(np.zeros(d), 1.0))[0] @ signed


def newton(signed: np.ndarray, ridge: float) -> np.ndarray:
    """argmin mean log(1 + e^(−z·b)) + (ridge/2)‖b‖² by Newton steps, from strong ridges down to weak ones."""
    n, d = signed.shape
    if d > n:
        directions, triangle = np.linalg.qr(signed.T)
        return directions @ newton(triangle.T, ridge)
    b, levels = np.zeros(d), np.geomspace(max(ridge, 1.0), ridge, 1 + max(0, math.ceil(-math.log10(ridge) / 1.5)))
    for level in (*levels, ridge):  # twice as many steps at the end

        def loss(b: np.ndarray, level: float = level) -> float:
            return float(np.logaddexp(0, -signed @ b).mean() + level / 2 * b @ b)

        for _ in range(_PER_LEVEL):
            p = 1 / (1 + np.exp(np.clip(signed @ b, -500, 500)))
            curvature = (signed * (p * (1 - p))[:, None]).T @ signed / n + level * np.eye(d)
            step = np.linalg.solve(curvature, level * b - p @ signed / n)
            while loss(b - step) > loss(b) * (1 + 1e-9):  # too far: half the step
                step = step / 2
            b = b - step
    return b


def _error(along: float, across: float) -> float:
    """P(y⟨x, b⟩ < 0), b of this length along the teacher and across."""
    from scipy.special import expit, ndtr

    s, weight = np.polynomial.hermite_e.hermegauss(101)
    return float((weight * 2 * expit(_SIGNAL * s) * ndtr(-along * s / across)).sum() / np.sqrt(2 * np.pi))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Errors over features per sample, across the threshold of separability."""
    for color, (kind, (words, places)) in zip(figures.PALETTE, _KINDS.items(), strict=False):
        curves = claims.curves
        figures.theory_line(ax, curves[f"classify_{kind}_at"], curves[f"classify_{kind}"], color=color)
        mean, error = ([float(dataset[f"classify_{kind}_{at:g}{end}"]) for at in places] for end in ("", "_error"))
        figures.points(ax, np.array(places), mean, error, color=color, label=words)
    figures.threshold(ax, claims.curves["classify_threshold"][0], "separable beyond")
    figures.label_axes(ax, "features per sample", "misclassification", xscale="log")
    ax.set_title("noisy labels, Gaussian data", pad=24)
    figures.ticks_at(ax.xaxis, np.array([0.05, 0.1, 0.2, 0.5, 1.0, 1.5]), most=6)
    ax.legend(loc="upper left")


STUDY = Study("classifiers", predict, measure, draw)
