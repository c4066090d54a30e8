r"""Nearest neighbours on tori in R^12: the dimension of the manifold decides the exponent, not that of the space.

Random functions on all of R^12 have covariance exp(−‖x − x'‖), smoothness 1/2. Inputs lie on a torus of dimension
D = 1, 2, 3, its angles embedded by several harmonics, or fill a cube. The number of neighbours is chosen by leaving
one out, with no word about D; what the best number would give is known exactly from the covariance and the inputs.
"""

from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.adaptivity.config import Config
from jaxtheory.lecture.claims import Claims, statistical
from jaxtheory.lecture.exponents import exponents, named, slope
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study
from jaxtheory.smoothness.classes import Manifold, rates

_AMBIENT = 12
_SETS = {"circle": 1, "torus": 2, "torus_3": 3, "cube": _AMBIENT}  # and their dimensions
_SMOOTHNESS, _SIGMA = 0.5, 1.0
_TESTS, _WAVES = 256, 64
_NEIGHBORS = 96  # at most


def points(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Uniform angles through 12/(2D) harmonics of each, with amplitudes 1/h; or the cube [0, 2]^12 for D = 12."""
    if dim == _AMBIENT:
        return rng.uniform(0, 2, (count, dim))
    h = np.arange(1, _AMBIENT // (2 * dim) + 1)
    turns = 2 * np.pi * rng.uniform(size=(count, dim, 1)) * h[None, None, :]
    waves = np.concatenate([np.cos(turns), np.sin(turns)], axis=2) / np.tile(h, 2)[None, None, :]
    return waves.reshape(count, _AMBIENT) / dim**0.5


def functions(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """One random function at x: cosine waves with frequencies of the Cauchy law, whose transform is exp(−‖x‖)."""
    frequencies = rng.standard_normal((_AMBIENT, _WAVES)) / np.abs(rng.standard_normal(_WAVES))[None, :]
    phases = 2 * np.pi * rng.uniform(size=_WAVES)
    return np.cos(x @ frequencies + phases[None, :]).sum(axis=1) * (2 / _WAVES) ** 0.5


def _design(dim: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Test points and a design, of which smaller ones are the beginning."""
    rng = np.random.default_rng([17, dim])
    return points(rng, _TESTS, dim), points(rng, samples, dim)


@cache
def _neighbors(dim: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest design points of each test point, and of each design point without itself."""
    from scipy.spatial import KDTree

    z, x = _design(dim, samples)
    tree, most = KDTree(x), min(_NEIGHBORS, samples - 1)
    return tree.query(z, most)[1], tree.query(x, most + 1)[1][:, 1:]


@cache
def _law(dim: int, samples: int) -> float:
    """The least mean risk over numbers of neighbours m, K(0) − (2/m) Σ K(z, x_i) + m^{−2} ΣΣ K(x_i, x_j) + σ²/m."""
    z, x = _design(dim, samples)
    total = 0.0
    for point, near in zip(z, _neighbors(dim, samples)[0], strict=True):
        cross = np.exp(-np.linalg.norm(x[near] - point[None, :], axis=1))
        gram = np.exp(-np.linalg.norm(x[near][:, None, :] - x[near][None, :, :], axis=2))
        m = np.arange(1, len(near) + 1)
        pairs = gram.cumsum(axis=0).cumsum(axis=1).diagonal()
        total = total + 1 - 2 * cross.cumsum() / m + pairs / m**2 + _SIGMA**2 / m
    return float(np.min(total)) / _TESTS


def predict(config: Config) -> Claims:
    """The exponent of each torus by `rates`; that of the cube is near 0. Choosing m costs a share n^{−1/2}."""
    sizes, found = config.manifold_samples, []
    curves: dict[str, list[float]] = {}
    for name, dim in _SETS.items():
        rate, law = rates(Manifold(_SMOOTHNESS, dim)), [_law(dim, n) for n in sizes]
        curves[f"manifold_{name}_law"] = law
        exact, cube = slope(sizes, law), dim == _AMBIENT
        other = dim // 2 if cube else 2 * dim
        chosen = abs(slope(sizes, np.array(law) * (1 + np.array(sizes) ** -0.5)) - exact)
        basis = "exact" if cube else "theory: the best m"
        found.append(statistical(
            f"manifold_{name}", f"manifolds in R^12: exponent of nearest neighbours on a {_kind(dim)}",
            "Kpotufe (2011); " + rate.source, exact if cube else -rate.exponent, f"{basis} at these n, and choosing it",
            tolerance=chosen + (0.0 if cube else abs(exact + rate.exponent)),
            rival=(-rates(Manifold(_SMOOTHNESS, other)).exponent, f"dimension {other}"),
        ))  # fmt: skip
    return Claims(tuple(found), curves)


def _kind(dim: int) -> str:
    return f"cube (−1/{dim + 1} as n → ∞)" if dim == _AMBIENT else f"torus of dimension {dim}"


def measure(config: Config) -> xr.Dataset:
    """Risks with the number of neighbours that leaving one out prefers, over independent functions and noises."""
    sizes = config.manifold_samples
    table: dict[str, Any] = {}
    for name, dim in _SETS.items():
        z, x = _design(dim, max(sizes))
        risks = np.empty((config.manifold_functions, len(sizes)))
        for i in range(config.manifold_functions):
            rng = np.random.default_rng([config.seed, i])  # one function for all sets
            values = functions(rng, np.concatenate([z, x]))
            truth, y = values[:_TESTS], values[_TESTS:] + _SIGMA * rng.standard_normal(len(x))
            risks[i] = [_risk(truth, y[:n], *_neighbors(dim, n)) for n in sizes]
        table[f"manifold_{name}_risks"] = ("manifold_function", "manifold_n"), risks
        table |= named(f"manifold_{name}", exponents(sizes, risks))
    return xr.Dataset(table, {"manifold_n": list(sizes)})


def _risk(truth: np.ndarray, y: np.ndarray, near: np.ndarray, others: np.ndarray) -> float:
    """Of the mean of m neighbours at the test points, m by leaving one out."""
    m = np.arange(1, near.shape[1] + 1)[None, :]
    scores = ((y[others].cumsum(axis=1) / m - y[:, None]) ** 2).mean(axis=0)
    best = int(scores.argmin()) + 1
    return float(((y[near[:, :best]].mean(axis=1) - truth) ** 2).mean())


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risks over n on each set, and those of the best number of neighbours."""
    n = dataset.manifold_n.values
    colors = (*figures.PALETTE[:3], "#999999")
    for color, (name, dim) in zip(colors, _SETS.items(), strict=True):
        label = "cube, $D = 12$" if dim == _AMBIENT else f"torus, $D = {dim}$"
        figures.theory_line(ax, n, claims.curves[f"manifold_{name}_law"], color=color)
        draw_means(ax, n, dataset[f"manifold_{name}_risks"].values, color=color, label=label)
    figures.label_axes(ax, "samples $n$", "risk", "nearest neighbours on tori in $R^{12}$", xscale="log",
                       yscale="log")  # fmt: skip
    figures.ticks_at(ax.xaxis, np.array(n, float))
    ax.legend(loc="lower left", fontsize=10)


STUDY = Study("manifolds", predict, measure, draw)
