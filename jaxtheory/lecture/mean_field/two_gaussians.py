"""Two Gaussians (Mei, Montanari, Nguyen 2018): online SGD against the radial limit of its particles."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from jaxtheory import figures, meanfield
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.mean_field.movies import movie
from jaxtheory.lecture.study import Study
from jaxtheory.meanfield import radial

_TIMES = 10  # at which SGD is held against its limit
_QUANTILES = 400  # radii of the limit
_SCALE = 0.8  # of the first weights
_TEST_POINTS = 10_000


def predict(config: Any) -> Claims:
    """The risk over time of the radial flow, and the least Δ with zero risk."""
    times = np.linspace(0, config.horizon, _TIMES + 1)
    radii, risks = _limit(config)
    claims = (
        Claim(
            "sgd_gap", f"SGD, N = {config.particles}: largest |risk − limit|", "Mei, Montanari, Nguyen (2018), Fig. 2",
            0.0, "published agreement at N = 800", tolerance=0.02, relation="<=",
            rival=float(abs(risks - risks[0]).max()), rival_law="weights that do not move",
        ),
        Claim(
            "threshold", "least Δ at which zero risk is reachable, d → ∞", "Mei, Montanari, Nguyen (2018)", 0.4742,
            "rounding of the published value and of the hull's 4,000 directions", tolerance=5e-4,
            kind="formula",
        ),
    )  # fmt: skip
    curves = {"time": times.tolist(), "limit": risks.tolist()}
    return Claims(claims, curves | {f"radii {k}": np.sort(radii[k]).tolist() for k in range(_TIMES + 1)})


def _limit(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Radii and risk of the limit at the recorded times, the start among them."""
    psi = radial.tabulate(radial.ramp, config.dimension, reach=6 * np.sqrt(config.dimension))
    F = radial.risk(psi, config.dimension, config.delta)
    start = radial.initial_radii(_QUANTILES, config.dimension, _SCALE)
    every = round(config.horizon / _TIMES / 0.01)
    flow = meanfield.gradient_flow(F, config.horizon / _TIMES / every, method="heun")
    observe = lambda cloud: (cloud.particles, F(cloud))  # noqa: E731
    run = meanfield.simulate(
        flow, start, steps=_TIMES * every, key=jax.random.key(0), observe=observe, record_every=every
    )
    radii = jnp.concatenate([start[None], run.records[0]])
    return np.asarray(radii), np.asarray(jnp.concatenate([F(start)[None], run.records[1]]))


def measure(config: Any) -> xr.Dataset:
    """Online SGD of N neurons: risk on fresh points and every neuron's norm, at the recorded times."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), 3)
    start = _SCALE / np.sqrt(config.dimension) * jax.random.normal(keys[0], (config.particles, config.dimension))
    fresh = radial.mixture(keys[1], _TEST_POINTS, config.dimension, config.delta, dtype=start.dtype)
    unit = meanfield.neuron(radial.ramp)

    def observe(cloud: meanfield.Cloud) -> tuple[Array, Array]:
        errors = (meanfield.predict(unit, cloud, fresh.x) - fresh.y) ** 2
        return jnp.linalg.norm(cloud.particles, axis=1), errors.mean()

    flow = radial.sgd(radial.ramp, config.delta, step_size=config.sgd_step, batch=config.sgd_batch)
    every = round(config.horizon / _TIMES / config.sgd_step)
    run = meanfield.simulate(flow, start, steps=_TIMES * every, key=keys[2], observe=observe, record_every=every)
    norms, risks = (
        np.concatenate([np.asarray(first)[None], np.asarray(rest)])
        for first, rest in zip(observe(meanfield.as_cloud(start)), run.records, strict=True)
    )
    limit = _limit(config)[1]
    dataset = xr.Dataset(
        {
            "norms": (("time", "neuron"), norms),
            "sgd_risk": ("time", risks),
            "sgd_gap": float(np.abs(risks - limit).max()),
            "threshold": radial.threshold(radial.ramp),
        },
        {"time": np.linspace(0, config.horizon, _TIMES + 1)},
    )
    _animate(dataset, config.out)
    return dataset


def draw(risk: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risk over time."""
    figures.theory_line(risk, claims.curves["time"], claims.curves["limit"], label="radial flow, $N = \\infty$")
    count = dataset.sizes["neuron"]
    figures.points(risk, dataset.time.values, dataset.sgd_risk.values, label=f"SGD, $N = {count}$")
    figures.label_axes(risk, "time $t$ = steps × step size", "risk", "(a) two Gaussians: SGD and its limit")


def draw_norms(norms: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Histograms of norms against the radial law at three times."""
    for color, k in zip(figures.PALETTE, (0, _TIMES // 2, _TIMES), strict=False):
        _law_and_histogram(norms, dataset.norms.values[k], claims.curves[f"radii {k}"], dataset.time.values[k], color)
    norms.set_ylim(0, 5.5)  # the limit's spike at zero goes beyond
    figures.label_axes(norms, "norm of a neuron's weights, $|w|$", "density", "(a) the law of norms over time")


def _law_and_histogram(ax: Axes, measured: np.ndarray, radii: list[float], time: float, color: str) -> None:
    """The limit's law by its quantiles' spacing, smoothed over 2 × 10 of them, and the histogram of the neurons."""
    ax.hist(measured, bins=40, density=True, color=color, alpha=0.3)
    r, width = np.asarray(radii), 10
    density = 2 * width / len(r) / np.maximum(r[2 * width :] - r[: -2 * width], 1e-3)
    figures.theory_line(ax, r[width:-width], density, color=color, label=f"$t = {time:g}$")


def _animate(dataset: xr.Dataset, folder: Path) -> None:
    """The law of norms under SGD, as norms.gif."""
    top = float(dataset.norms.max())

    def frame(number: int) -> list[Artist]:
        ax.clear()
        ax.hist(dataset.norms.values[number], bins=60, range=(0.0, top), density=True, color=figures.PALETTE[0])
        ax.set_ylim(0, 6)
        time = f"t = {float(dataset.time[number]):.0f}"
        figures.label_axes(ax, "norm of a neuron's weights, $|w|$", "density", time)
        return []

    with figures.style():
        figure, (ax,) = figures.canvas()
        movie(figure, frame, dataset.sizes["time"], folder / "norms.gif")


STUDY = Study("gaussians", predict, measure, draw)
