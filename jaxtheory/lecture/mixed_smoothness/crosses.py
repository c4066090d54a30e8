"""Hyperbolic crosses: how many terms they have, and the powers of N and of log N in their errors."""

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study
from jaxtheory.smoothness import hyperbolic_cross, mixed

DIMENSIONS = (1, 2, 3, 5, 10)
ENERGIES = 4.0 ** -np.arange(300)  # of each axis: s = 1, every block of MB^1_{2,∞} full
_FITTED = slice(200, 240)  # levels whose errors are fitted, in closed form: there the powers of log N are told apart
_SHOWN = 45  # levels that are drawn
_SIZES = {(100, 2): 482, (1000, 2): 7069, (100, 3): 1471, (1000, 3): 29425}


def predict(config: Any) -> Claims:
    """Exact sizes, and exponents with and without the logarithms."""
    sizes = [_size_claim(budget, dim, count) for (budget, dim), count in _SIZES.items()]
    slopes = [claim for dim in DIMENSIONS for claim in slope_claims(dim)]
    lines = {f"{rule} {dim}": law(rule, dim).errors.tolist() for rule in ("cross", "full") for dim in DIMENSIONS}
    return Claims((*sizes, *slopes), lines)


def _size_claim(budget: int, dim: int, count: int) -> Claim:
    name, statement = f"cross_{budget}_{dim}", f"indices with product ≤ {budget} in dimension {dim}"
    return Claim(name, statement, "Dung, Temlyakov, Ullrich (2018), 2.3", float(count), "an exact count",
                 kind="formula")  # fmt: skip


def law(rule: str, dim: int, levels: int = _SHOWN) -> mixed.Errors:
    """Errors of the product function of `ENERGIES`, in closed form, at levels 1, 2, …"""
    return (mixed.cross_errors if rule == "cross" else mixed.isotropic_errors)(ENERGIES, levels, dim)


def exponent(terms: np.ndarray, errors: np.ndarray) -> float:
    """The least-squares slope of log error in log N."""
    return float(np.polyfit(np.log(terms), np.log(errors), 1)[0])


def _without_block_logs(dim: int) -> float:
    """The exponent that would be found if the error were (log N)^{(d−1)s}/N: u = 0, a class of p = q."""
    terms = law("cross", dim, _FITTED.stop).terms[_FITTED]
    return exponent(mixed.effective_terms(terms, dim, u=0.5), np.log(terms) ** (dim - 1) / terms)


def slope_claims(dim: int) -> list[Claim]:
    """With N ~ 2^n n^{d−1}/(d−1)!, log N is not n log 2: what that moves the slope by, at the first level fitted."""
    n = _FITTED.start
    log_terms = n * math.log(2) + (dim - 1) * math.log(n) - math.lgamma(dim)
    moved = (dim - 1) * 1.5 * abs(1 / (n * math.log(2) + dim - 1) - 1 / log_terms)
    # C(n + d − 1, d − 1) = n^{d−1}/(d−1)! (1 + d(d−1)/2n + …), a factor in N and, under the root, in the error
    moved += 1.5 * dim * (dim - 1) / 2 / n**2 / math.log(2)
    source = "Dung, Temlyakov, Ullrich (2018), Thm 4.3.1"
    return [
        Claim(f"mixed_{dim}", f"d = {dim}: exponent in N/(log N)^((d−1)(s+u)/s), s = 1, u = 1/2", source, -1.0,
              f"theory: next order of log N at n = {n}", tolerance=moved + 1e-3, kind="formula",
              rival=_without_block_logs(dim) if dim > 1 else -0.5,
              rival_law="u = 0" if dim > 1 else "Monte Carlo"),
        Claim(f"isotropic_{dim}", f"d = {dim}: exponent of the full grid", "DeVore (1998), section 3", -1.0 / dim,
              "theory: (2^n − 1)^d for 2^(nd) at n = 5", tolerance=2.0**-5 / dim, kind="formula",
              rival=-1.0 / (dim + 1), rival_law="one dimension more"),
    ]  # fmt: skip


def measure(config: Any) -> xr.Dataset:
    """Indices counted, and exponents fitted to errors in closed form."""
    found = {f"cross_{budget}_{dim}": float(len(hyperbolic_cross.indices(budget, dim))) for budget, dim in _SIZES}
    for dim in DIMENSIONS:
        cross, full = law("cross", dim, _FITTED.stop), law("full", dim)
        terms = mixed.effective_terms(cross.terms[_FITTED], dim, u=0.5)
        found[f"mixed_{dim}"] = exponent(terms, cross.errors[_FITTED])
        found[f"isotropic_{dim}"] = exponent(full.terms[5:15], full.errors[5:15])
    return xr.Dataset(found)


def draw_cross(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The frequencies of a cross in the plane."""
    k = hyperbolic_cross.indices(64, 2)
    ax.plot(k[:, 0], k[:, 1], "s", color=figures.PALETTE[0], markersize=3, markeredgewidth=0)
    edge = np.linspace(1, 64, 400)
    figures.theory_line(ax, edge, 64 / edge, color=figures.PALETTE[1], label="$k_1 k_2 = 64$")
    figures.label_axes(ax, "$k_1$", "$k_2$", f"hyperbolic cross: {len(k)} of {64**2:,} frequencies")


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Errors over the number of terms, of crosses and of full grids, a colour a dimension."""
    shown = slice(3, 40)
    for color, dim in zip(figures.PALETTE, DIMENSIONS, strict=False):
        cross, full = (law(rule, dim).terms for rule in ("cross", "full"))
        errors, isotropic = (np.array(claims.curves[f"{rule} {dim}"]) for rule in ("cross", "full"))
        inside = full < 1e14
        figures.theory_line(ax, cross[shown], errors[shown], color=color, label=f"$d = {dim}$")
        figures.theory_line(ax, full[inside], isotropic[inside], color=color, linestyle=":")
    ax.set_xlim(1, 1e14)
    figures.label_axes(ax, "terms $N$", "$L^2$ error", "cross (lines) and full grid (dots)", xscale="log", yscale="log")


def draw_scaled(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Error times N/(log N)^{3(d−1)/2}, over its last value: flat where the exponent is −1."""
    for color, dim in zip(figures.PALETTE, DIMENSIONS, strict=False):
        cross = law("cross", dim, 110)
        terms, errors = mixed.effective_terms(cross.terms[20:], dim, u=0.5), cross.errors[20:]
        scaled = errors * terms / (errors[-1] * terms[-1])
        figures.theory_line(ax, cross.terms[20:], scaled, color=color, label=f"$d = {dim}$")
    ax.set_ylim(0, 1.5)
    title = "the logarithms: slow to a constant"
    label = "error $\\times N/(\\log N)^{3(d-1)/2}$, scaled"
    figures.label_axes(ax, "terms $N$", label, title, xscale="log")
    ax.legend(loc="upper left", ncols=3)


STUDY = Study("crosses", predict, measure, draw)
