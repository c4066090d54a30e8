"""Regression by projections on crosses and on full grids: the exponents of their risks."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, sweeps
from jaxtheory.lecture.claims import Claims, statistical
from jaxtheory.lecture.mixed_smoothness.crosses import ENERGIES
from jaxtheory.lecture.panels import draw_means, mean_and_error
from jaxtheory.lecture.powers import plain_exponent
from jaxtheory.lecture.study import Study, swept
from jaxtheory.results import fit_slope

_DIMENSION, _LEVELS = 3, 24
_RULES = ("cross", "full")


def predict(config: Any) -> Claims:
    """The exponent of the best projection's risk over these n, and the one that it tends to but for logarithms."""
    sizes = jnp.asarray(2.0 ** _octaves(config))
    source, dim = "Suzuki (2019), Thm 4", _DIMENSION
    rules = (("cross", "cross projections", -2 / 3), ("full", "full-grid ones", -2 / (2 + dim)))
    risks = {rule: _exact_risks(rule, config) for rule in _RULES}
    claims = tuple(
        statistical(f"risk_{rule}", f"d = {dim}: exponent of the risk of {told}, {limit:.3f} without logs", source,
                    float(fit_slope(sizes, jnp.asarray(risks[rule])).slope), "exact at these n",
                    rival=(limit, "without logarithms"))
        for rule, told, limit in rules
    )  # fmt: skip
    return Claims(claims, {rule: values.tolist() for rule, values in risks.items()})


def _octaves(config: Any) -> np.ndarray:
    return np.arange(config.octaves[0], config.octaves[1] + 1)


def blocks(rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and energies of what each step of a rule adds: |j|_1 = k for the cross, max j = k for the full grid."""
    dim, k = _DIMENSION, np.arange(_LEVELS)
    if rule == "cross":
        count = np.array([math.comb(i + dim - 1, dim - 1) for i in k], float)
        return count * 2.0**k, count * 4.0**-k
    terms, energy = (np.cumsum(part[:_LEVELS]) for part in (2.0**k, ENERGIES))
    return np.diff(terms**dim, prepend=0.0), np.diff(energy**dim, prepend=0.0)


def _exact_risks(rule: str, config: Any) -> np.ndarray:
    """The best projection of the rule: min over k of (energy beyond k) + (terms up to k)/n."""
    sizes, energies = blocks(rule)
    beyond = np.cumsum(energies[::-1])[::-1]
    bias = np.append(beyond, 0.0)
    variance = np.append(0.0, np.cumsum(sizes))
    return (bias[None, :] + variance[None, :] / 2.0 ** _octaves(config)[:, None]).min(axis=1)


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Losses of the best projections of each rule, over octaves and replicates."""
    grid, found = sweeps.grid(octave=_octaves(config), seed=range(config.replicates)), {}
    for rule in _RULES:
        sizes, energies = map(jnp.asarray, blocks(rule))
        point = partial(_risk, sizes=sizes, energies=energies)
        found[f"risk-{rule}"] = swept(config, f"risk-{rule}", point, grid).load()
    return found


def _risk(octave: Array, seed: Array, key: PRNGKeyArray, *, sizes: Array, energies: Array) -> dict[str, Array]:
    """Loss of the best projection from n noisy coefficients: a block's noise energy is χ² of its size, over n."""
    n = 2.0 ** octave.astype(sizes.dtype)
    noise = 2 * jax.random.gamma(key, sizes / 2) / n
    beyond = jnp.append(jnp.cumsum(energies[::-1])[::-1], 0.0)
    expected = beyond + jnp.append(0.0, jnp.cumsum(sizes)) / n
    kept = jnp.arange(len(sizes)) < jnp.argmin(expected)
    return {"risk": jnp.sum(jnp.where(kept, noise, energies))}


def measure(config: Any) -> xr.Dataset:
    """Losses of both rules, and the exponents of their means."""
    found = sweep(config)
    cross, full = (found[f"risk-{rule}"] for rule in _RULES)
    both = xr.merge([cross.rename(risk="cross_risk"), full.rename(risk="full_risk")], compat="override")
    return both.assign(_slope("cross", cross) | _slope("full", full))


def _slope(rule: str, risks: xr.Dataset) -> dict[str, float]:
    values = risks.risk.transpose("seed", "octave").values
    return plain_exponent(f"risk_{rule}", 2.0**risks.octave.values, *mean_and_error(values), len(values))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risks over the number of samples, and their exact means."""
    n = 2.0**dataset.octave.values
    for color, rule, label in (
        (figures.PALETTE[1], "cross", "hyperbolic cross"),
        (figures.PALETTE[0], "full", "full grid"),
    ):
        values = dataset[f"{rule}_risk"].transpose("seed", "octave").values
        figures.theory_line(ax, n, claims.curves[rule], color=color, label=f"{label}, exact")
        draw_means(ax, n, values, color=color)
    title = f"regression in mixed smoothness, $d = {_DIMENSION}$"
    figures.label_axes(ax, "samples $n$", "risk", title, xscale="log", yscale="log")


STUDY = Study("risks", predict, measure, draw, sweep)
