r"""A hierarchy of rough functions, g(h_1(x_1) + … + h_4(x_4)), by least squares over compositions of splines.

Each h_i has smoothness 1 in one variable and g is smooth, so that the exponent is −2/3 whatever the number of
variables, where a function of four variables without structure has −1/3, and no sum of functions of one variable comes
near. The h_i are piecewise linear with N knots each; Gauss-Newton steps start where the true functions are, so that
what is measured is the estimator, and not whether it is found.
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.adaptivity.config import Config
from jaxtheory.lecture.claims import Claims, negative, statistical
from jaxtheory.lecture.exponents import exponents, log_ratio, minus, named, slope
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study
from jaxtheory.smoothness.classes import Composite, Isotropic, rates

_DIM, _SIGMA, _TESTS = 4, 0.25, 2048
_CLASS = Composite((1.0, 1e6, 1e6), (1, _DIM, 1))
_REACH, _OUTER = 2.5, 20  # of the sum of the inner functions, and the knots of g there
_WAVES, _STEPS = 200, 8


def knots(samples: int) -> int:
    """Of each inner function: N ~ n^{1/3}, which the rate needs."""
    return round(1.5 * samples ** (1 / 3))


def _points(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Test points and a design, of which smaller ones are the beginning."""
    rng = np.random.default_rng(23)
    return rng.uniform(size=(_TESTS, _DIM)), rng.uniform(size=(samples, _DIM))


def inner(coefficients: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A function of smoothness 1 on the circle, ½ Σ_k k^{−3/2}(a_k cos 2πkt + b_k sin 2πkt), from standard a and b."""
    k = np.arange(1, _WAVES + 1)
    angle = 2 * np.pi * t[:, None] * k[None, :]
    a, b = coefficients * k**-1.5 / 2
    return np.cos(angle) @ a + np.sin(angle) @ b


def outer(u: np.ndarray) -> np.ndarray:
    """The function g, constant where |u| > 2.5."""
    inside = np.clip(u, -_REACH, _REACH)
    return inside + np.sin(1.5 * inside) / 2


def _hats(places: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """The left knot of each place in 0 … cells, and how far it is from there."""
    left = np.clip(np.floor(places).astype(int), 0, cells - 1)
    return left, places - left


def _inside(x: np.ndarray, count: int) -> np.ndarray:
    """Every hat of each inner function at points, [points, d · count]."""
    rows, matrix = np.arange(len(x)), np.zeros((len(x), _DIM * count))
    for i in range(_DIM):
        left, share = _hats(x[:, i] * count, count)
        matrix[rows, i * count + left] = 1 - share
        matrix[rows, i * count + (left + 1) % count] = share
    return matrix


def _values(hats: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """g_N(Σ h_N,i), its slope there, and the hats of g, from all hats of the inner functions."""
    rows, scale = np.arange(len(hats)), (_OUTER - 1) / (2 * _REACH)
    sums, top = hats @ theta[:-_OUTER], theta[-_OUTER:]
    left, share = _hats((np.clip(sums, -_REACH, _REACH) + _REACH) * scale, _OUTER - 1)
    matrix = np.zeros((len(hats), _OUTER))
    matrix[rows, left], matrix[rows, left + 1] = 1 - share, share
    return matrix @ top, np.where(np.abs(sums) <= _REACH, (top[left + 1] - top[left]) * scale, 0.0), matrix


def fitted(x: np.ndarray, y: np.ndarray, start: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Least squares over g_N(Σ h_N,i), from inner functions at their knots [d, N] and the true g; values at points."""
    theta = np.concatenate([start.ravel(), outer(np.linspace(-_REACH, _REACH, _OUTER))])
    hats = _inside(x, start.shape[1])
    for _ in range(_STEPS if len(x) else 0):
        found, slopes, top = _values(hats, theta)
        matrix = np.concatenate([slopes[:, None] * hats, top], axis=1)
        gram = matrix.T @ matrix
        ridge = 1e-3 * np.trace(gram) / len(gram)  # constants and scales may move between the functions
        step = np.linalg.solve(gram + ridge * np.eye(len(gram)), matrix.T @ (y - found))
        for length in 0.5 ** np.arange(6):
            if np.sum((_values(hats, theta + length * step)[0] - y) ** 2) < np.sum((found - y) ** 2):
                theta = theta + length * step
                break
    return _values(_inside(at, start.shape[1]), theta)[0]


def predict(config: Config) -> Claims:
    """The exponent of the class; risks are a sum of powers of N and of N/(n − p), which have slopes at both sides."""
    sizes, rate = config.composite_samples, rates(_CLASS)
    squares = slope(sizes, [knots(n) ** -2.0 for n in sizes])
    count = [_DIM * knots(n) + _OUTER for n in sizes]
    noise = slope(sizes, [p / (n - p - 1) for p, n in zip(count, sizes, strict=True)])
    moved = max(abs(squares + rate.exponent), abs(noise + rate.exponent))
    found = (
        statistical("composite", "hierarchy of rough functions of one variable: exponent of least squares over splines",
                    rate.source, -rate.exponent, "theory: slopes of bias and of variance at these n", tolerance=moved,
                    rival=(-rates(Isotropic(1.0, dim=_DIM)).exponent, f"isotropic in dimension {_DIM}")),
        negative("composite_sum", f"hierarchy: log risk over that of the best sum of functions, n = {sizes[-1]}",
                 rate.source),
    )  # fmt: skip
    return Claims(found, {})


def measure(config: Config) -> xr.Dataset:
    """Risks over independent functions, each with its noise, the same at every n."""
    sizes = config.composite_samples
    z, x = _points(max(sizes))
    risks, sums = np.empty((config.composite_functions, len(sizes))), np.empty(config.composite_functions)
    for i in range(config.composite_functions):
        rng = np.random.default_rng([config.seed, 31, i])
        coefficients = rng.standard_normal((_DIM, 2, _WAVES))
        truth, clean = (outer(np.sum([*map(inner, coefficients, points.T)], axis=0)) for points in (z, x))
        y = clean + _SIGMA * rng.standard_normal(len(x))
        for j, n in enumerate(sizes):
            grid = np.arange(knots(n)) / knots(n)
            start = np.stack([inner(part, grid) for part in coefficients])
            risks[i, j] = np.mean((fitted(x[:n], y[:n], start, z) - truth) ** 2)
        sums[i] = _best_sum(z, truth, knots(max(sizes)))
    table: dict[str, Any] = {"composite_risks": (("composite_function", "composite_n"), risks)}
    table |= named("composite", exponents(sizes, risks))
    table |= named("composite_sum", minus(log_ratio(risks[:, -1], 1.0), log_ratio(sums, 1.0)))
    return xr.Dataset(table, {"composite_n": list(sizes)})


def _best_sum(z: np.ndarray, truth: np.ndarray, count: int) -> float:
    """What the best Σ h_N,i leaves of the truth at the test points: less than any estimate of that form does."""
    matrix = _inside(z, count)
    return float(np.mean((matrix @ np.linalg.lstsq(matrix, truth, rcond=None)[0] - truth) ** 2))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risks over n beside the powers of the class and of four variables without structure."""
    n, risks = dataset.composite_n.values, dataset.composite_risks.values
    mean, error = mean_and_error(risks)
    for exponent, color, label in (
        (rates(_CLASS).exponent, figures.PALETTE[0], "$n^{-2/3}$, the hierarchy"),
        (rates(Isotropic(1.0, dim=_DIM)).exponent, "#999999", "$n^{-1/3}$, four variables"),
    ):
        figures.theory_line(ax, n, mean[0] * (n / n[0]) ** -exponent, color=color, label=label)
    figures.points(ax, n, mean, error, color=figures.PALETTE[1], label="composed splines")
    figures.label_axes(ax, "samples $n$", "risk", "$g(h_1(x_1) + \\cdots + h_4(x_4))$", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, np.array(n, float))
    ax.legend(loc="lower left", fontsize=10)


STUDY = Study("compositions", predict, measure, draw)
