"""Wavelets on half-planes: they adapt to a jump along a line, but not as far as networks, which know lines.

The functions are those of `half_planes`, at the pixels of a square. 2^j Haar functions of a level meet the line, each
with a coefficient of the order of 2^(−j), so that a threshold leaves a risk of the order n^(−1/2), between the n^(−1/3)
of the best linear estimator and the n^(−1) of networks.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, negative, statistical
from jaxtheory.lecture.exponents import exponents, minus, named, slope
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study
from jaxtheory.smoothness import estimation, wavelets
from jaxtheory.smoothness.jumps import half_spaces

_SIGMA = 0.3  # as in `half_planes`
_SIDE = 2**-0.5  # half of the square's, which lies in the unit disc
_OCTAVES = (4, 5, 6, 7, 8)  # log2 of the pixels of a side
_RULES = ("hard", "linear", "ideal")


def _sizes() -> np.ndarray:
    return 4.0 ** np.array(_OCTAVES)


def predict(config: Any) -> Claims:
    """What a choice of coefficients can reach, and what a threshold gains over every weight of whole levels."""
    source = "Donoho (1999), section 2"
    claims = (
        statistical("plane_ideal",
                    "half-planes: exponent of Σ min(β², σ²/n), what a choice of Haar coefficients can reach", source,
                    -0.5, "theory: cells at the ends of a line", tolerance=_ends(),
                    rival=(-1 / 3, "the best linear estimator")),
        negative("plane_wavelet", "half-planes: exponent of Haar wavelets' hard threshold minus the best linear one's",
                 source),
    )  # fmt: skip
    return Claims(claims, {})


def _ends() -> float:
    """What the ends of a line change: it meets c·2^j + O(1) cells of level j, a share O(log₂ side/side) more in all."""
    octaves = np.array(_OCTAVES, float)
    return abs(slope(_sizes(), 1 + octaves / 2**octaves))


def measure(config: Any) -> xr.Dataset:
    """Risks of both rules over functions and noises, which are the same for every number of pixels."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 23), config.functions)
    dtype = jnp.dtype("float64" if config.x64 else "float32")
    every = [jax.lax.map(partial(_risks, octave=octave, dtype=dtype), keys) for octave in _OCTAVES]
    risks = np.stack([np.asarray(found) for found in every], axis=-1)  # [function, rule, n]
    table: dict[str, Any] = {"wavelet_risks": (("wavelet_function", "wavelet_rule", "wavelet_n"), risks)}
    hard, linear, ideal = (exponents(_sizes(), risks[:, rule]) for rule in range(len(_RULES)))
    table |= named("plane_ideal", ideal) | named("plane_wavelet", minus(hard, linear))
    return xr.Dataset(table, {"wavelet_n": _sizes()})


@partial(jax.jit, static_argnames=("octave", "dtype"))
def _risks(key: PRNGKeyArray, *, octave: int, dtype: Any) -> Float[Array, " rules"]:
    """Mean squared errors at the pixels: hard thresholding, the best linear rule by level, and Σ min(β², σ²/n)."""
    function, noise = jax.random.split(key)
    side = 2**octave
    axis = _SIDE * ((2 * jnp.arange(side, dtype=dtype) + 1) / side - 1)
    pixels = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    truth = half_spaces(function, pixels).reshape(side, side)
    seen = truth + _SIGMA * jax.random.normal(noise, truth.shape, dtype)
    level = _SIGMA / side
    exact, noisy = (wavelets.dwt(image / side, "haar") for image in (truth, seen))
    rules = (estimation.denoise(noisy, level, "hard", coarse=0), estimation.linear_oracle(noisy, exact, level))
    images = (wavelets.idwt(rule, "haar") * side for rule in rules)
    ideal = sum(jnp.minimum(detail**2, level**2).sum() for detail in exact.details)
    return jnp.stack([*(jnp.mean((image - truth) ** 2) for image in images), ideal])


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risks over pixels, and the powers of thresholds and of linear estimators."""
    n, (mean, errors) = dataset.wavelet_n.values, mean_and_error(dataset.wavelet_risks, "wavelet_function")
    labels = ("Haar wavelets, hard threshold", "best linear, by level", "best choice of coefficients")
    for rule, (label, color) in enumerate(zip(labels, figures.PALETTE[1::-1] + figures.PALETTE[2:3], strict=True)):
        figures.points(ax, n, mean[rule], errors[rule], color=color, label=label)
        power = -1 / 3 if _RULES[rule] == "linear" else -1 / 2
        figures.theory_line(ax, n, mean[rule, -1] * (n / n[-1]) ** power, color=color)
    title = "half-planes by wavelets (lines: $n^{-1/2}$, $n^{-1/3}$)"
    figures.label_axes(ax, "pixels $n$", "risk", title, xscale="log", yscale="log")
    ax.set_ylim(bottom=mean.min() / 20)
    ax.legend(loc="lower left")


STUDY = Study("wavelets", predict, measure, draw)
