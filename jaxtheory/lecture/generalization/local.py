"""Fast rates: the excess risk of least squares over a ball falls as the fixed point of its local complexity.

The ball is that of a kernel on the circle with eigenvalues λ_i = i^(−2), the truth its mode at the edge of what n
samples resolve. The fixed point r* of the local Rademacher complexity is of the order n^(−2/3); the global complexity,
which does not look at the risk, allows n^(−1/2) alone.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.generalization import local_complexity
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study
from jaxtheory.results import fit_slope, standard_error

_SIZES = (256, 1024, 4096, 16384)
_MODES, _NOISE = 200, 0.5
_DRAWS = 64


def _fixed_points() -> tuple[np.ndarray, np.ndarray]:
    """r* at every n, and the modes that lie above it."""
    with jax.enable_x64(True):
        found = [local_complexity(jnp.arange(1.0, _MODES + 1) ** -2, float(n)) for n in _SIZES]
    return np.array([float(one.fixed_point) for one in found]), np.array([int(one.modes) for one in found])


def predict(config: Any) -> Claims:
    """The exponent of r* over these n."""
    radius, modes = _fixed_points()
    n = np.log(_SIZES)
    law, edge = (float(np.polyfit(n, np.log(values), 1)[0]) for values in (radius, modes**-2.0))
    claim = statistical("fast_rate", "least squares over a kernel ball: exponent of the excess risk (−2/3 as n → ∞)",
                        "Bartlett, Bousquet, Mendelson (2005), section 6.3", law,
                        "theory: modes are whole numbers, so λ at the edge is not r*", tolerance=abs(edge - law),
                        rival=(-0.5, "the global complexity"))  # fmt: skip
    return Claims((claim,), {"fixed points": radius.tolist()})


def measure(config: Any) -> xr.Dataset:
    """Excess risks at every n, and their exponent."""
    key, modes = jax.random.fold_in(jax.random.key(config.seed), 31), _fixed_points()[1].tolist()
    risks = []
    for n, mode in zip(_SIZES, modes, strict=True):
        run = jax.jit(partial(_excess, samples=n, mode=mode - 1))
        risks.append(jax.lax.map(run, jax.random.split(jax.random.fold_in(key, n), _DRAWS)))
    found = jnp.stack(risks, axis=1)  # [draw, n]
    law = fit_slope(jnp.asarray(_SIZES, found.dtype), found.mean(0), standard_error(found))
    dataset = xr.Dataset({"excess": (("local_draw", "local_n"), np.asarray(found))}, {"local_n": list(_SIZES)})
    return dataset.assign(estimated("fast_rate", law.slope, law.standard_error, _DRAWS))


def _excess(key: PRNGKeyArray, *, samples: int, mode: int) -> Float[Array, ""]:
    """‖f̂ − f*‖² of the least squares over the unit ball, f* the mode of length one, by a search for the multiplier."""
    points, noise = jax.random.split(key)
    eigs = jnp.arange(1.0, _MODES + 1) ** -2
    x = 2 * jnp.pi * jax.random.uniform(points, (samples, 1), eigs.dtype)
    phi = math.sqrt(2) * jnp.cos(x * jnp.arange(1.0, _MODES + 1, dtype=eigs.dtype)[None])
    y = phi[:, mode] * jnp.sqrt(eigs[mode]) + _NOISE * jax.random.normal(noise, (samples,), eigs.dtype)
    features = phi * jnp.sqrt(eigs)[None]
    values, basis = jnp.linalg.eigh(jnp.matmul(features.T, features, precision="highest") / samples)
    c = jnp.matmul(basis.T, jnp.matmul(features.T, y, precision="highest"), precision="highest") / samples

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        outside = jnp.sum((c / (values + jnp.exp(middle))) ** 2) > 1
        return jnp.where(outside, middle, ends[0]), jnp.where(outside, ends[1], middle)

    least = jnp.log(jnp.finfo(eigs.dtype).eps).astype(eigs.dtype)
    low, high = jax.lax.fori_loop(0, 40, halve, (least, jnp.asarray(3.0, eigs.dtype)))
    found = jnp.sqrt(eigs) * jnp.matmul(basis, c / (values + jnp.exp((low + high) / 2)), precision="highest")
    return jnp.sum((found - jnp.zeros_like(found).at[mode].set(jnp.sqrt(eigs[mode]))) ** 2)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Excess risk over samples, the fixed point's law through its middle, and the slower one."""
    n, radius = dataset.local_n.values.astype(float), np.array(claims.curves["fixed points"])
    mean, error = mean_and_error(dataset.excess, "local_draw")
    scale = np.exp(np.log(mean / radius).mean())
    figures.theory_line(ax, n, scale * radius, color=figures.PALETTE[0], label="fixed point $r^*$, scaled")
    slow = mean[0] * (n / n[0]) ** -0.5
    figures.theory_line(ax, n, slow, color="#777777", linestyle="--", label="$n^{-1/2}$: global complexity")
    figures.points(ax, n, mean, error, color=figures.PALETTE[1], label="least squares over the ball")
    figures.label_axes(ax, "samples $n$", "excess risk", "fast rates", xscale="log", yscale="log")
    ax.legend(loc="upper right")


STUDY = Study("local", predict, measure, draw)
