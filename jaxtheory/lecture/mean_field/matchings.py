"""Distances between two samples of n points: the curse of dimension, and the logarithm in the plane."""

from functools import partial
from math import gamma
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import data, figures
from jaxtheory.lecture.claims import Claim, Claims, estimated, positive, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.meanfield import wasserstein

_MATCHING = {1: -1 / 2, 2: -1 / 2, 3: -1 / 3, 5: -1 / 5}  # exponents by dimension, without the logarithm of d = 2
_SIZES = (16, 32, 64, 128)


def predict(config: Any) -> Claims:
    """Exponents of W₁ between two samples, the constant of the logarithm in the plane, the exact moment on the line."""
    slopes = tuple(_exponent_claim(d) for d in (1, 3, 5))
    constant = statistical(
        "log_constant", "two samples on a sphere of area 1: slope of n E W₂² in log n", "Ambrosio, Glaudo (2019)",
        1 / (2 * np.pi), "theory: chords for arcs", tolerance=_chords_for_arcs(),
        rival=(1 / (4 * np.pi), "one sample and the uniform law"),
    )  # fmt: skip
    logarithm = positive(
        "log_growth", "two samples on a sphere: slope of n (E W₁)² in log n, 0 if E W₁ were of order n^(−1/2)",
        "Ajtai, Komlós, Tusnády (1984)",
    )  # fmt: skip
    exact = statistical("uniform_w2", "3(n + 1) E W₂² between two samples of n = 16 uniforms",
                        "Bobkov, Ledoux (2019), Thm 4.7", 1.0,
                        rival=(1 + 1 / _SIZES[0], "3n for 3(n + 1)"))  # fmt: skip
    return Claims((*slopes, constant, logarithm, exact), {})


def _exponent_claim(d: int) -> Claim:
    """On the line the next order is 1/n. On a d-sphere chords are shorter than arcs, and the next order of the matching
    is n^(−(d−2)/d) (Caracciolo et al., 2014), with a constant that is taken to be 1/4."""
    n, run = np.array([_SIZES[0], _SIZES[-1]], float), np.log(_SIZES[-1] / _SIZES[0])
    arcs = n ** (-2 / d) / (24 * _radius(d) ** 2)  # of a chord, at distances n^(−1/d)
    order = n ** (-(d - 2) / d) / 4
    remainder = float((arcs + order) @ [1, -1] / run) if d > 1 else 0.01
    basis = "chords for arcs, the next order n^(−(d−2)/d)/4" if d > 1 else "order 1/n"
    neighbour = 3 if d == 1 else 4
    return statistical(f"rate_{d}", f"exponent of E W₁ between two samples of n points, d = {d}",
                       "Fournier, Guillin (2015), Thm 1", _MATCHING[d], f"theory: {basis}", tolerance=remainder,
                       rival=(-1 / neighbour, f"that of d = {neighbour}"))  # fmt: skip


def _chords_for_arcs() -> float:
    """In the slope of n E W₂²: with E Δ⁴ ≤ 3 (E Δ²)², chords of curvature 4π take π g²/n from g = n E Δ²."""
    n = np.array([_SIZES[0], _SIZES[-1]], float)
    square = ((1 + np.log(n)) / (2 * np.pi)) ** 2
    return float(np.pi * (square / n) @ [1, -1] / np.log(n[1] / n[0]))


def _radius(d: int) -> float:
    """Of the d-dimensional sphere of volume 1."""
    return float((gamma((d + 1) / 2) / (2 * np.pi ** ((d + 1) / 2))) ** (1 / d))


def _on_sphere(key: PRNGKeyArray, shape: tuple[int, int]) -> Array:
    """Uniform points of the d-sphere of volume 1 in one coordinate more: a space without a boundary."""
    n, d = shape
    return data.sphere(n, d + 1, key, radius=_radius(d), dtype=jnp.zeros(0).dtype).x


def measure(config: Any) -> xr.Dataset:
    """Mean matching distances at each size and dimension, and their slopes."""
    root, count = jax.random.fold_in(jax.random.key(config.seed), 4), config.matchings
    rate = partial(wasserstein.empirical_rate, sizes=_SIZES, sample=_on_sphere)
    repeats = {1: 5 * count, 2: count // 2, 3: count // 3, 5: count // 3}
    rates = {1: wasserstein.empirical_rate(1, _SIZES, root, repeats=repeats[1])}
    rates |= {d: rate(d, key=root, repeats=repeats[d]) for d in (2, 3, 5)}
    plane = rate(2, key=jax.random.fold_in(root, 2), p=2.0, repeats=count)
    few, line = (_SIZES[0], _SIZES[0] + 1, _SIZES[0] + 2), jax.random.fold_in(root, 1)
    squares = wasserstein.empirical_rate(1, few, line, p=2.0, repeats=30 * count)
    scale = 3 * (_SIZES[0] + 1)
    distance, error = float(squares.distance[0]), float(squares.standard_error[0])
    fields: dict[str, Any] = {
        "matching": (("dimension", "size"), np.stack([np.asarray(rate.distance) for rate in rates.values()])),
        "matching_error": (("dimension", "size"), np.stack([np.asarray(r.standard_error) for r in rates.values()])),
        **estimated("uniform_w2", scale * distance**2, scale * 2 * distance * error, 30 * count),
    }
    for d in (1, 3, 5):
        fields |= estimated(f"rate_{d}", rates[d].slope.slope, rates[d].slope.standard_error, repeats[d])
    fields |= _log_slope("log_constant", plane, count) | _log_slope("log_growth", rates[2], repeats[2])
    return xr.Dataset(fields, {"dimension": list(_MATCHING), "size": list(_SIZES)})


def _log_slope(name: str, rate: wasserstein.Rate, repeats: int) -> dict[str, float]:
    """Slope of n W² in log n and its standard error, with weights by the delta method's errors."""
    n, distance, spread = np.asarray(_SIZES, float), np.asarray(rate.distance), np.asarray(rate.standard_error)
    values, errors = n * distance**2, 2 * n * distance * spread
    fit, covariance = np.polyfit(np.log(n), values, 1, w=1 / errors, cov="unscaled")
    return estimated(name, fit[0], covariance[0, 0] ** 0.5, repeats)


def _law(dimension: int, sizes: np.ndarray) -> np.ndarray:
    """The theoretical decay of E W₁, up to a constant."""
    power = sizes ** _MATCHING[dimension]
    return power * np.sqrt(np.log(sizes)) if dimension == 2 else power


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Measured distances on the interval and on spheres, and the theoretical exponents through their middle."""
    sizes = dataset["size"].values
    for color, (d, slope) in zip(figures.PALETTE, _MATCHING.items(), strict=False):
        values = dataset.matching.sel(dimension=d).values
        law = _law(d, sizes)
        through = law * np.exp((np.log(values) - np.log(law)).mean())
        label = "$(\\log n / n)^{1/2}$" if d == 2 else f"$n^{{{slope:.2g}}}$"
        figures.theory_line(ax, sizes, through, color=color, label=f"$d = {d}$: {label}")
        figures.points(ax, sizes, values, dataset.matching_error.sel(dimension=d).values, color=color)
    title = "(e) two samples: the curse of dimension"
    figures.label_axes(ax, "points $n$", "$E\\,W_1$", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, sizes)
    ax.set_ylim(top=2 * ax.get_ylim()[1])  # room above the lines
    ax.legend(loc="upper center", ncols=2)


STUDY = Study("matching", predict, measure, draw)
