"""Rates as one function against measured exponents: projections whose size the data choose, in many classes.

A class is a nested sequence of blocks of coefficients with sizes and energies. What decides the exponent is how sizes
grow against energies: for anisotropic smoothness s̃ = (Σ 1/s_i)^(−1) alone, in any dimension.
"""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.adaptivity.config import Config
from jaxtheory.lecture.claims import Claims, statistical
from jaxtheory.lecture.exponents import exponents, named, slope
from jaxtheory.lecture.study import Study
from jaxtheory.smoothness.classes import Anisotropic, Composite, Isotropic, Variable, rates

_SIZES = 2.0 ** np.arange(14, 41, 2)
_FINE = 4  # blocks an octave of the smallest kept weight
_BLOCKS = 40 * _FINE
_LEVELS = 40


class Row(NamedTuple):
    """A class, the smoothness of each axis of its blocks, and the isotropic class that knows the least of them."""

    label: str
    function_class: Any
    smoothness: tuple[float, ...]
    rival: Isotropic
    additive: bool = False
    varying: float = 0.0
    """s(x) = s + varying · (2x − 1)², on a line"""


_ROWS = {
    "line": Row("$s = 1$", Isotropic(1.0), (1.0,), Isotropic(1.0, dim=2)),
    "cube": Row("$s = 2$, $d = 3$", Isotropic(2.0, dim=3), (2.0,) * 3, Isotropic(2.0, dim=4)),
    "plane": Row("$(1.25, 5)$", Anisotropic((1.25, 5.0)), (1.25, 5.0), Isotropic(1.25, dim=2)),
    "space": Row("$(2, 3, 6)$", Anisotropic((2.0, 3.0, 6.0)), (2.0, 3.0, 6.0), Isotropic(2.0, dim=3)),
    "seven": Row("$(2, 12, ..., 12)$, $d = 7$", Anisotropic((2.0, *(12.0,) * 6)), (2.0, *(12.0,) * 6),
                 Isotropic(2.0, dim=7)),
    "sum": Row("sum of 5, $s = 1$", Composite((1.0, 1e6), (1, 5)), (1.0,) * 5, Isotropic(1.0, dim=5), True),
    "varying": Row("$s(x) = 1 + 2(2x - 1)^2$", Variable(1.0), (1.0,), Isotropic(5 / 3), varying=2.0),
}  # fmt: skip


def _blocks(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and energies: frequencies k by max_i k_i^{s_i}, cut where this crosses 2^{b/4}; r^{−2} lies at r and on.

    Where s varies, whole levels of coefficients of the size 2^{−j(s(x) + 1/2)} at the place x.
    """
    if row.varying:
        j, x = np.arange(_LEVELS), (np.arange(1000) + 0.5) / 1000
        smoothness = row.smoothness[0] + row.varying * (2 * x - 1) ** 2
        return 2.0**j, (4.0 ** (-j[:, None] * smoothness[None, :])).mean(axis=1)
    radius = 2.0 ** (np.arange(_BLOCKS) / _FINE)
    sides = [np.floor(radius ** (1 / s) * (1 + 1e-12)) for s in row.smoothness]
    sizes = np.diff(sum(sides) if row.additive else np.prod(sides, axis=0), prepend=0.0)
    held = sizes > 0
    return sizes[held], -np.diff(radius[held] ** -2.0, append=0.0)


def _oracle(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """The least mean risk of a projection on the first blocks, and the coefficients that it keeps."""
    sizes, energies = _blocks(row)
    beyond, terms = np.append(np.cumsum(energies[::-1])[::-1], 0.0), np.append(0.0, np.cumsum(sizes))
    risks = beyond[None, :] + terms[None, :] / _SIZES[:, None]
    return risks.min(axis=1), terms[risks.argmin(axis=1)]


def _remainder(row: Row, rate: float) -> float:
    """How far these n, and a relative N^{−1/2} of the risk that the choice among N costs, move the exponent."""
    risk, terms = _oracle(row)
    exact = slope(_SIZES, risk)
    return abs(exact + rate) + abs(slope(_SIZES, risk * (1 + np.maximum(terms, 1) ** -0.5)) - exact)


def predict(config: Config) -> Claims:
    """The exponent of every class by `rates`; the rival is the isotropic class of its roughest axis."""
    found = []
    for name, row in _ROWS.items():
        rate = rates(row.function_class)
        other = "the mean smoothness" if row.varying else f"isotropic in dimension {row.rival.dim}"
        found.append(statistical(
            f"rate_{name}", f"rates: exponent of a projection that the data choose, {row.label.replace('$', '')}",
            rate.source, -rate.exponent, "theory: the best projection at these n, and choosing it",
            tolerance=_remainder(row, rate.exponent),
            rival=(-rates(row.rival).exponent, other),
        ))  # fmt: skip
    return Claims(tuple(found), {f"rate_law_{name}": _oracle(row)[0].tolist() for name, row in _ROWS.items()})


def measure(config: Config) -> xr.Dataset:
    """Losses of the projection with the least unbiased estimate of the risk, over independent noises."""
    rng = np.random.default_rng(config.seed)
    table: dict[str, Any] = {}
    for name, row in _ROWS.items():
        losses = np.stack([_losses(rng, row, n, config.noises) for n in _SIZES], axis=1)
        table[f"rate_{name}_risks"] = ("rate_noise", "rate_n"), losses
        table |= named(f"rate_{name}", exponents(_SIZES, losses))
    return xr.Dataset(table, {"rate_n": _SIZES})


def _losses(rng: np.random.Generator, row: Row, n: float, noises: int) -> np.ndarray:
    """A block of m coefficients of energy E: its noise is N(0, 1/n) along the signal and χ²(m − 1)/n across it."""
    sizes, energies = _blocks(row)
    along = rng.standard_normal((noises, len(sizes)))
    across = 2 * rng.gamma(np.maximum(sizes - 1, 1e-12) / 2, size=(noises, len(sizes))) * (sizes > 1)
    noise = (along**2 + across) / n
    seen = noise + (energies + 2 * np.sqrt(energies / n) * along)
    gain = np.cumsum(seen - 2 * sizes / n, axis=1)  # −(unbiased estimate of the risk), up to a constant
    kept = np.arange(len(sizes)) <= gain.argmax(axis=1)[:, None]
    return np.where(kept, noise, energies).sum(axis=1)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """For each class the exponent of the theory, that of the isotropic rival, and the measured one."""
    predicted = {claim.name: claim for claim in claims.claims if claim.name.startswith("rate_")}
    for at, name in enumerate(reversed(_ROWS)):
        claim = predicted[f"rate_{name}"]
        rival = float(np.nan if claim.rival is None else claim.rival)
        for value, color, label in ((claim.predicted, figures.PALETTE[0], "theory"),
                                    (rival, "#999999", "isotropic rival")):  # fmt: skip
            shown = label if at == 0 else None
            ax.plot([-value] * 2, [at - 0.3, at + 0.3], color=color, linewidth=2.4, label=shown, zorder=3)
        measured, error = float(dataset[f"rate_{name}"]), float(dataset[f"rate_{name}_error"])
        ax.errorbar(-measured, at, xerr=error, fmt="o", color=figures.PALETTE[1], markeredgecolor="white", zorder=4,
                    label="measured" if at == 0 else None)  # fmt: skip
    figures.label_axes(ax, "exponent $r$ of the risk $n^{-r}$", "", "what decides is $\\tilde s$, not $d$")
    ax.set_yticks(range(len(_ROWS)), [row.label for row in reversed(_ROWS.values())], fontsize=11)
    ax.set(xlim=(0.2, 0.75), ylim=(-1.4, len(_ROWS) - 0.5))
    ax.legend(loc="lower left", fontsize=10, ncols=3)


STUDY = Study("rates", predict, measure, draw)
