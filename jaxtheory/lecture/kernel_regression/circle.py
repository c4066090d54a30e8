"""Sobolev balls on the circle: the best ridge makes the risk fall as n^(−2s/(2s+1))."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, kernels, sweeps
from jaxtheory.lecture.claims import Claim, Claims, averaged, statistical
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study, swept
from jaxtheory.results import Status, fit_slope

_MODES, _GRID = 400, 2048  # frequencies of the target, and points at which its error is integrated
_NOISE = 0.25
_FAR, _FAR_MODES = (1e6, 1e8), 50_000  # samples between which the deterministic slope is taken: 460 modes are learned
_ZETA = {2: math.pi**2 / 6, 4: math.pi**4 / 90}


def predict(config: Any) -> Claims:
    """The deterministic risk at the largest size, and its slope far out."""
    at = jnp.geomspace(config.circle_sizes[0], config.circle_sizes[-1], 40)
    curves = {f"circle {s}": _curve(s, at).tolist() for s in config.smoothness}
    claims = [claim for s in config.smoothness for claim in _claims(s, at)]
    return Claims(tuple(claims), {"circle n": at.tolist(), **curves})


def _claims(s: int, at: Array) -> list[Claim]:
    """At the last n of `at`."""
    excess, clean = (float(_curve(s, at, noise=noise)[-1]) for noise in (_NOISE, 0.0))
    n = round(float(at[-1]))
    rate = kernels.optimal_rate(2.0 * s, 0.5)[0]
    return [
        Claim(
            f"rate {s}", f"circle, s = {s}: slope of the deterministic risk", "Caponnetto, De Vito (2007), Thm 1", rate,
            "theory: next order n^(−1/(2s+1))", tolerance=_FAR[0] ** (-1 / (2 * s + 1)),
            kind="formula", rival=kernels.optimal_rate(2.0 * (3 - s), 0.5)[0], rival_law=f"that of s = {3 - s}",
        ),
        statistical(f"circle {s}", f"circle, s = {s}: excess risk at n = {n}", "Simon et al. (2023), eq. 4-8", excess,
                    "theory: relative remainder n^(−1/2)", tolerance=excess * n**-0.5,
                    rival=(clean, "labels without noise")),
    ]  # fmt: skip


def _curve(s: int, n: Array, modes: int = _MODES, noise: float = _NOISE) -> Array:
    """The deterministic excess risk at λ = n^(−2s/(2s+1)), of a target of so many frequencies."""
    k = jnp.arange(1, modes + 1, dtype=n.dtype)
    eigs = jnp.concatenate([jnp.ones(1, n.dtype), k ** (-2.0 * s)])
    coefficients = jnp.concatenate([jnp.zeros(1, n.dtype), k ** (-s - 0.5)])
    counts = jnp.concatenate([jnp.ones(1, n.dtype), jnp.full_like(k, 2)])
    tail = 2 * (_ZETA[2 * s] - float(jnp.sum(k ** (-2.0 * s))))
    return _excess_curve(_Spectrum(eigs, coefficients, counts, tail), n, _ridge(s, n), noise)


class _Spectrum(NamedTuple):
    """Distinct eigenvalues, the target's coefficients, how often each occurs, and the trace of the rest."""

    eigs: Array
    coefficients: Array
    counts: Array
    tail: Array | float


@jax.jit
def _excess_curve(spectrum: _Spectrum, n: Array, ridges: Array, noise: Array | float) -> Array:
    """The deterministic excess risk at each n and its ridge: a program for all s."""
    eigs, coefficients, counts, tail = spectrum

    def excess(case: tuple[Array, Array]) -> Array:
        at, ridge = case
        curve = kernels.learning_curve(eigs, coefficients, at[None], ridge, noise, multiplicity=counts, tail=tail)
        return curve.test[0] - noise

    return jax.lax.map(excess, (n, ridges))


def _ridge(s: int, n: Any) -> Any:
    return n ** (1 + kernels.optimal_rate(2.0 * s, 0.5)[1])


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Regressions in both balls on independent training sets."""
    grid = sweeps.grid(s=list(config.smoothness), seed=range(config.circle_seeds))
    point = partial(_circle, sizes=config.circle_sizes, x64=config.x64)
    return {"circle": swept(config, "circle", point, grid, key=config.seed + 1)}


def _circle(s: Array, seed: Array, key: PRNGKeyArray, *, sizes: tuple[int, ...], x64: bool) -> dict[str, object]:
    """Regressions with the periodic spline kernel of a target at the edge of the Sobolev ball, in noise."""
    dtype = jnp.dtype("float64" if x64 else "float32")
    draws = jax.random.split(key, 3)
    x = jax.random.uniform(draws[0], (sizes[-1], 1), dtype)
    noise = _NOISE**0.5 * jax.random.normal(draws[1], (sizes[-1],), dtype)
    k, phase = jnp.arange(1, _MODES + 1, dtype=dtype), 2 * math.pi * jax.random.uniform(draws[2], (_MODES,), dtype)

    def target(x: Array) -> Array:
        return math.sqrt(2) * jnp.cos(2 * math.pi * x * k[None] + phase[None]) @ k ** (-s.astype(dtype) - 0.5)

    at = (jnp.arange(_GRID, dtype=dtype) / _GRID)[:, None]
    truth, y = target(at), target(x) + noise
    return {"excess": sweeps.named(_excesses(sizes)(s, x, y, at, truth), "circle_size")}


def _excesses(sizes: tuple[int, ...]) -> Callable[..., Array]:
    """Of the first n samples, in the ball of s: a program for the last n, and one for all others.

    Samples beyond n have zeros in the Gram matrix, so that their targets 0 have coefficients 0.
    """

    @jax.custom_batching.sequential_vmap
    def excesses(s: Array, x: Array, y: Array, at: Array, truth: Array) -> Array:
        def kernel(a: Array, b: Array) -> Array:
            return jax.lax.switch(s - 1, [kernels.periodic_spline(1), kernels.periodic_spline(2)], a, b)

        def excess(n: Array, most: int) -> Array:
            seen = jnp.arange(most) < n
            gram = jnp.where(seen[:, None] & seen[None], kernel(x[:most], x[:most]), 0)
            ridge = jnp.stack([_ridge(each, n.astype(y.dtype)) for each in (1, 2)])[s - 1]
            model = kernels.fit(gram, None, jnp.where(seen, y[:most], 0), ridge, solver="cholesky")
            good = jnp.where(model.status == Status.OK, 1.0, jnp.nan).astype(y.dtype)
            predicted = jnp.matmul(kernel(at, x[:most]), model.alpha, precision="highest")
            return jnp.mean((predicted - truth) ** 2) * good

        groups = [group for group in (sizes[:-1], sizes[-1:]) if group]
        found = [jax.lax.map(partial(excess, most=group[-1]), jnp.asarray(group)) for group in groups]
        return jnp.concatenate(found)

    return excesses


def measure(config: Any) -> xr.Dataset:
    """The risk at the largest size, and the slope of the deterministic one far out."""
    found = sweep(config)["circle"].assign_coords(circle_size=list(config.circle_sizes))
    scalars: dict[str, float] = {}
    far = jnp.geomspace(*_FAR, 8)
    for s in config.smoothness:
        scalars |= averaged(f"circle {s}", found.excess.sel(s=s).isel(circle_size=-1))
        scalars[f"rate {s}"] = float(fit_slope(far, _curve(s, far, _FAR_MODES)).slope)
    return found.rename({name: f"circle_{name}" for name in ("seed", "status")}).assign(scalars)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Excess risk over the training size, and the power it tends to."""
    n = np.array(claims.curves["circle n"])
    for color, s in zip(figures.PALETTE, dataset.s.values.tolist(), strict=False):
        curve, values = np.array(claims.curves[f"circle {s}"]), dataset.excess.sel(s=s)
        figures.theory_line(ax, n, curve, color=color, label=f"$s = {s}$")
        power = curve[-1] * (n / n[-1]) ** (-2 * s / (2 * s + 1))
        figures.theory_line(ax, n, power, color=color, linestyle=":", label=rf"$n^{{-{2 * s}/{2 * s + 1}}}$")
        draw_means(ax, dataset.circle_size, values, "circle_seed", color=color)
    title = "Sobolev balls on the circle"
    figures.label_axes(ax, "samples $n$", "excess risk", title, xscale="log", yscale="log")


STUDY = Study("circle", predict, measure, draw, sweep)
