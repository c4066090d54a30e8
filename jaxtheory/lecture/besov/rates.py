"""Exponents of minimax risks, and the table of rates by function class."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.besov import function_classes
from jaxtheory.lecture.besov.balls import BLUE, RED
from jaxtheory.lecture.claims import Claim, Claims, averaged, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.results import fit_slope
from jaxtheory.smoothness import approximation, estimation

_EXACT = {"s=1, p=1": (1.0, 1.0), "s=1.5, p=1": (1.5, 1.0), "s=2, p=1": (2.0, 1.0), "s=1, p=2": (1.0, 2.0)}
_SIZES = 2.0 ** np.arange(10, 31)  # of the minimax risks, where no simulation limits n


def predict(config: Any) -> Claims:
    """Exponents of minimax risks, and of every class in the table."""
    exact = [claim for name, (s, p) in _EXACT.items() for claim in _minimax_claims(name, s, p)]
    classes = [claim for row in function_classes.rows(config.levels) for claim in _class_claims(row)]
    return Claims((*exact, *classes), {})


def measure(config: Any) -> xr.Dataset:
    """Slopes of exact minimax risks, and of errors in every class."""
    return xr.Dataset(_minimax_slopes() | _classes(jax.random.key(config.seed), config))


def _minimax_claims(name: str, s: float, p: float) -> list[Claim]:
    rates = approximation.rates(s, p)
    basis = "theory: exponents at n = 2^10…2^30, where sums over levels have become geometric, to a hundredth"
    arms = {"linear": (rates.linear_risk, "Thm 7"), "adaptive": (rates.adaptive_risk, "Thm 1")}
    rivals = {"linear": rates.adaptive_risk, "adaptive": rates.linear_risk}
    if p >= 2:  # both arms have one rate, and at p = 1 the linear one another
        rivals = dict.fromkeys(arms, approximation.rates(s, 1.0).linear_risk)
    law = "the rate of the other arm" if p < 2 else "the linear rate at p = 1"
    return [
        Claim(f"{arm}, {name}", f"minimax risk: exponent of the {arm} one, {name}",
              f"Donoho, Johnstone (1998), {place}", -value, basis, tolerance=0.01, kind="formula",
              rival=-rivals[arm], rival_law=law)
        for arm, (value, place) in arms.items()
    ]  # fmt: skip


def _class_claims(row: function_classes.Row) -> list[Claim]:
    label = row.label.replace("$", "")
    arms = {"linear": (row.linear, row.linear_remainder), "adaptive": (row.adaptive, row.adaptive_remainder)}
    if row.name == "barron":
        del arms["linear"]  # a lower bound for every linear method: not a thing to measure
    claims = [
        statistical(f"{row.name}_{arm}", f"{label}: exponent of the {arm} error", row.source, rate, "theory: finite N",
                    tolerance=remainder, rival=(row.rivals[arm == "adaptive"], "a class of another rate"))
        for arm, (rate, remainder) in arms.items()
    ]  # fmt: skip
    if row.name not in ("disc", "mixed"):
        return claims
    exact: dict[str, Any] = {"basis": "theory: finite N", "standard_errors": 0.0}  # nothing is drawn
    return [claim._replace(kind="formula" if row.name == "mixed" else "simulation", **exact) for claim in claims]


def _minimax_slopes() -> dict[str, float]:
    sizes = jnp.asarray(_SIZES)
    return {
        f"{arm}, {name}": float(fit_slope(sizes, estimation.minimax_risk(s, p, sizes, estimator=arm)).slope)
        for name, (s, p) in _EXACT.items()
        for arm in ("linear", "adaptive")
    }


def _classes(key: jax.Array, config: Any) -> dict[str, float]:
    found = function_classes.measure(key, config.levels)
    arms = [(f"{name}_{arm}", getattr(both, arm)) for name, both in found.items() for arm in both._fields]
    return {
        key: value
        for name, slopes in arms
        for key, value in (averaged(name, slopes, None) if len(slopes) > 1 else {name: float(slopes[0])}).items()
    }


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Every class: the two exponents of the theory as bars, the measured ones as points."""
    rows = function_classes.rows(16)[::-1]
    for y, row in enumerate(rows):
        for arm, color, shift in (("linear", BLUE, 0.13), ("adaptive", RED, -0.13)):
            rate, label = getattr(row, arm), arm if y == 0 else None
            ax.plot(
                [-rate] * 2,
                [y + shift - 0.2, y + shift + 0.2],
                color=color,
                linewidth=2.2,
                label=label and f"{arm}, theory",
            )
            value, error = (float(dataset.get(f"{row.name}_{arm}{suffix}", 0.0)) for suffix in ("", "_error"))
            if np.isfinite(value):
                ax.errorbar(-value, y + shift, xerr=error, fmt="o", color=color, markeredgecolor="white", capsize=2.5,
                            label=label and "measured")  # fmt: skip
    ax.set_xlim(0, 2.4)
    figures.label_axes(ax, "exponent $r$ of the error $N^{-r}$", "", "rates by function class")
    ax.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=11)
    ax.legend(loc="lower right")


STUDY = Study("rates", predict, measure, draw)
