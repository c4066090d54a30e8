"""Wavelet shrinkage on random jumps of the circle: exponents beyond every linear one, and none on Gaussian loops.

Jumps of heights i^(−1/p) lie in the weak ball of B^s_{p,∞}, s = 1/p. Whatever p, the best linear estimator is a Wiener
filter with one exact risk, the Bayes risk of the Gaussian loop.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, sweeps
from jaxtheory.lecture.adaptivity.config import Config
from jaxtheory.lecture.claims import Claims, negative, positive, statistical
from jaxtheory.lecture.exponents import exponents, log_ratio, minus, named, named_apart, slope
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study, swept
from jaxtheory.smoothness import wavelets
from jaxtheory.smoothness.classes import Isotropic, rates
from jaxtheory.smoothness.jumps import gaussian_loop, jump_loop, loop_linear_risk
from jaxtheory.smoothness.thresholds import denoise_bands

_P = {"gaussian": 2.0, "weak": 1.0, "sparse": 0.5}  # s = 1/p
_ENERGY, _JUMPS = 12.0, 2000  # variance 1
_WAVELET, _COARSE = "db4", 3
_RULES = ("linear", "sure")


def _sizes(config: Config) -> np.ndarray:
    """1/ε², the signal's energy over the noise variance of a coefficient: of n samples, n/σ²."""
    return 2.0 ** np.array(config.octaves)


def _sigma(octave: Any, grid: int) -> Any:
    """The noise in each of the samples of the grid."""
    return (grid / 2.0**octave) ** 0.5


def _law(config: Config) -> list[float]:
    return [float(loop_linear_risk(config.grid, _ENERGY, _sigma(octave, config.grid))) for octave in config.octaves]


def predict(config: Config) -> Claims:
    """One linear exponent for all three classes; the gain of wavelets where p < 2, and none at p = 2."""
    law = _law(config)
    exact, found = slope(_sizes(config), law), []
    for name, p in _P.items():
        other = -rates(Isotropic(1.0, p=1.0)).exponent
        found.append(statistical(
            f"loop_{name}_linear", f"loops, p = {p:g}: exponent in 1/ε² of the best linear risk (−1/2 as ε → 0)",
            "Pinsker (1980)", exact, "exact at these ε", rival=(other, "the adaptive rate at p = 1"),
        ))  # fmt: skip
        if p < 2:
            limit = rates(Isotropic(1 / p, p=p)).exponent
            found.append(negative(
                f"loop_{name}_gain", f"loops, p = {p:g}: SureShrink's exponent (−{limit:.2f} as ε → 0) minus that",
                "Donoho, Johnstone (1998)",
            ))  # fmt: skip
    found.append(positive(
        "loop_bound", f"loops, p = 2: log risk of SureShrink over the Bayes risk, 1/ε² = 2^{config.octaves[-1]}",
        "Pinsker (1980)",
    ))  # fmt: skip
    found.append(negative(
        "loop_order", "loops: SureShrink's exponent at p = 1/2 minus the one at p = 1", "Suzuki (2019), Theorem 2",
    ))  # fmt: skip
    return Claims(tuple(found), {"loop_law": law})


def measure(config: Config) -> xr.Dataset:
    """Losses of the Wiener filter and of two shrinkage rules on functions that are the same for every n."""
    both = sweep(config)["loops"]
    losses = {rule: both[rule].load().transpose("p", "seed", "octave").values for rule in _RULES}
    found = {(name, rule): exponents(_sizes(config), losses[rule][i]) for i, name in enumerate(_P) for rule in _RULES}
    table: dict[str, Any] = {
        f"loop_{rule}_risks": (("loop_p", "loop_function", "loop_octave"), values) for rule, values in losses.items()
    }
    for name, p in _P.items():
        table |= named(f"loop_{name}_linear", found[name, "linear"])
        if p < 2:
            table |= named(f"loop_{name}_gain", minus(found[name, "sure"], found[name, "linear"]))
    table |= named_apart("loop_order", found["sparse", "sure"], found["weak", "sure"])
    table |= named("loop_bound", log_ratio(losses["sure"][0, :, -1], _law(config)[-1]))
    return xr.Dataset(table, {"loop_p": list(_P.values()), "loop_octave": list(config.octaves)})


def sweep(config: Config) -> dict[str, xr.Dataset]:
    """Losses of both rules, a chunk for each number of samples."""
    grid = sweeps.grid(octave=config.octaves, p=list(_P.values()), seed=range(config.replicates))
    point, whole = partial(_losses, grid=config.grid), len(_P) * config.replicates
    return {"loops": swept(config, "loops", point, grid, paired="octave", block=whole)}


def _losses(octave: Array, p: Array, seed: Array, key: PRNGKeyArray, *, grid: int) -> dict[str, Array]:
    """Mean squared errors on the grid: of the Wiener filter, and of SureShrink by Parseval's equation."""
    function, noise = jax.random.split(key)
    t = jnp.arange(grid, dtype=jnp.float32) / grid
    heights = jnp.arange(1, _JUMPS + 1, dtype=jnp.float32) ** (-1 / p.astype(jnp.float32))
    heights = heights * jnp.sqrt(_ENERGY / jnp.sum(heights**2)).astype(jnp.float32)
    f = jnp.where(p < 2, jump_loop(function, t, heights), gaussian_loop(function, grid, _ENERGY))
    sigma = _sigma(octave.astype(jnp.float32), grid)
    y = f + sigma * jax.random.normal(noise, (grid,), t.dtype)
    both = jax.vmap(lambda v: wavelets.dwt(v, _WAVELET))(jnp.stack([y, f]))  # compiled once
    noisy, truth = (jax.tree.map(lambda part, i=i: part[i], both) for i in (0, 1))
    shrunk = denoise_bands(noisy, sigma, "sure", coarse=_COARSE)
    missed = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), shrunk, truth)
    return {"linear": jnp.mean((_wiener(y, sigma) - f) ** 2), "sure": jnp.stack(jax.tree.leaves(missed)).sum() / grid}


def _wiener(y: Array, sigma: Array) -> Array:
    """The Wiener filter e_k/(e_k + σ²/n) of the loops' covariance."""
    n = len(y)
    k = np.arange(1, n // 2 + 1)
    energy = _ENERGY * n * np.append(1 / (12 * n**2), 1 / (2 * n * np.sin(np.pi * k / n)) ** 2)
    kept = jnp.asarray(energy, y.dtype) / (jnp.asarray(energy, y.dtype) + sigma**2)
    spectrum = jnp.fft.rfft(y)
    return jnp.fft.irfft(spectrum * kept.astype(spectrum.dtype), n=n)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risks over n: one line for all linear estimators, and SureShrink on each class."""
    n = 2.0**dataset.loop_octave.values
    law = np.array(claims.curves["loop_law"])
    figures.theory_line(ax, n, law, color=figures.PALETTE[0], label="best linear, exact, every $p$")
    for at, (p, color) in enumerate(zip(_P.values(), (figures.PALETTE[4], *figures.PALETTE[1:3]), strict=True)):
        for rule, marker in (("linear", "s"), ("sure", "o")):
            risks = dataset[f"loop_{rule}_risks"].values[at]
            shown = figures.PALETTE[0] if rule == "linear" else color
            label = f"SureShrink, $p = {p:g}$" if rule == "sure" else "best linear" if at == 0 else None
            draw_means(ax, n, risks, color=shown, marker=marker, label=label)
    figures.label_axes(ax, "$1/\\varepsilon^2$", "risk", "sparser jumps, faster wavelets", xscale="log", yscale="log")
    ax.legend(loc="lower left", fontsize=10)


STUDY = Study("loops", predict, measure, draw, sweep)
