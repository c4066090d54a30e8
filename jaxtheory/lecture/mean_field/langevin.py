"""Mean-field Langevin against its free energy's rate, its fixed point and the fluctuations of N particles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, meanfield
from jaxtheory.lecture.claims import Claims, averaged, statistical
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study
from jaxtheory.meanfield import oracles

_RIDGE, _TEMPERATURE, _STEP = 0.5, 0.3, 0.05
_DATA = ((1.2, 0.3), (-0.4, 1.0), (0.2, -1.1)), (0.8, -0.5, 0.3)
_DESCENT = 20  # records of the free energy


def _problem(unit: meanfield.functionals.Unit, columns: int) -> tuple[meanfield.Functional, Array, Array]:
    x, y = jnp.asarray(_DATA[0])[:, :columns], jnp.asarray(_DATA[1])
    F = meanfield.risk(unit, meanfield.squared_loss, x, y) + meanfield.quadratic(_RIDGE)
    return F, x, y


def predict(config: Any) -> Claims:
    """The rate 2αλ of a Gaussian problem, and oracle B's fluctuations at every N and time."""
    with jax.enable_x64(True):
        axis = jnp.linspace(-8.0, 8.0, 401)
        _, x, y = _problem(meanfield.neuron("tanh"), 1)
        x, y = x.astype(float), y.astype(float)
        fixed = oracles.gibbs_fixed_point(
            meanfield.neuron("tanh"), x, y, ridge=_RIDGE, temperature=_TEMPERATURE, grid=axis
        )
        level, alone = (float(jnp.trace(spread)) / len(y) for spread in (fixed.fluctuation, fixed.covariance))
        curves = {"outputs": fixed.outputs.tolist(), "nodes": axis.tolist(), "density": fixed.density.tolist()}
    step = "theory: the step's bias, of order ηλ'/2 + η, and the next order in 1/N"
    chaos = tuple(
        statistical(f"chaos_{n}", f"Langevin: N · E|f_N − f*|² at N = {n}, all late times",
                    "Suzuki, Wu, Nitanda (2023), Thm 1", level, step, tolerance=0.06 * level,
                    rival=(alone, "particles without interaction"))
        for n in config.clouds
    )  # fmt: skip
    rate = statistical("gap_over_bound", "Langevin: largest free-energy gap over its bound e^(−2αλt) gap₀",
                       "Nitanda, Wu, Suzuki (2022), Thm 1", 1.0, over="over seeds", relation="<=",
                       rival=(float(np.exp(2 * _RIDGE * _STEP * _DESCENT)),
                              "half of the rate, at the end"))  # fmt: skip
    return Claims((rate, *chaos), curves | {"level": [level]})


def measure(config: Any) -> xr.Dataset:
    """The gap of the linear unit's free energy, and outputs of the tanh unit over seeds, for every N."""
    root = jax.random.fold_in(jax.random.key(config.seed), 3)
    gaps, times = _descent(root, config.gap_particles, config.gap_seeds)
    bound = gaps[:, :1] * np.exp(-2 * _RIDGE * times)[None]
    ratio = gaps / bound
    worst = int(ratio.mean(0)[1:].argmax()) + 1
    parts = [_chaos(config, jax.random.fold_in(root, n), n) for n in config.clouds]
    scaled = np.stack([part[0] for part in parts])
    fields: dict[str, Any] = {
        "gap": (("gap_seed", "gap_time"), gaps),
        "bound": ("gap_time", bound.mean(0)),
        **averaged("gap_over_bound", ratio[:, worst], None),
        "scaled_error": (("cloud", "chaos_seed", "late"), scaled),
        "stationary": ("sample", parts[-1][1]),
    }
    for n, values in zip(config.clouds, scaled, strict=True):
        fields |= averaged(f"chaos_{n}", values.mean(1), None)  # times of one run are not independent
    return xr.Dataset(fields, {"gap_time": times, "cloud": list(config.clouds)})


def _descent(key: PRNGKeyArray, count: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Free-energy gaps, exact for Gaussian laws, from the moments of clouds that start as Gaussians."""
    F, x, y = _problem(meanfield.neuron("identity"), 2)
    law = oracles.linear_gaussian(x, y, ridge=_RIDGE, temperature=_TEMPERATURE, particles=count, step_size=_STEP / 10)

    def free_energy(cloud: meanfield.Cloud) -> Array:
        spread = jnp.linalg.slogdet(meanfield.observables.moments(cloud).covariance)[1]
        return F(cloud) - _TEMPERATURE * spread / 2

    best = ((x @ law.mean - y) ** 2).mean() / 2 + _RIDGE / 2 * law.mean @ law.mean
    # Of N(m*, λ/λ' I) in the plane: energy λ, and the log-determinant 2 log(λ/λ').
    lowest = best + _TEMPERATURE - _TEMPERATURE * float(np.log(_TEMPERATURE / _RIDGE))
    flow = meanfield.langevin(F, _TEMPERATURE, _STEP / 10)

    def one(k: PRNGKeyArray) -> Array:
        start = 2.0 + 0.3 * jax.random.normal(k, (count, 2))
        run = meanfield.simulate(flow, start, steps=20 * _DESCENT, key=k, observe=free_energy, record_every=20)
        return jnp.concatenate([free_energy(meanfield.as_cloud(start))[None], run.records]) - lowest

    gaps = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, seeds))
    return np.asarray(gaps), _STEP / 10 * 20 * np.arange(_DESCENT + 1)


def _chaos(config: Any, key: PRNGKeyArray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """N |f_N − f*|²/n by seed and late time, and particles of the last clouds."""
    unit = meanfield.neuron("tanh")
    F, x, _ = _problem(unit, 1)
    limit = jnp.asarray(predict(config).curves["outputs"], x.dtype)
    flow = meanfield.langevin(F, _TEMPERATURE, _STEP)
    every = round(4 / _STEP)

    def one(k: PRNGKeyArray) -> tuple[Array, Array]:
        observe = lambda cloud: ((meanfield.predict(unit, cloud, x) - limit) ** 2).mean() * count  # noqa: E731
        run = meanfield.simulate(
            flow, jnp.zeros((count, 1)), steps=8 * every, key=k, observe=observe, record_every=every
        )
        return run.records[2:], run.state.cloud.particles[:50, 0]  # eight time units in: e^(−8) of the start

    late, particles = jax.jit(jax.vmap(one))(jax.random.split(key, config.chaos_seeds))
    return np.asarray(late), np.asarray(particles).ravel()


def draw(descent: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The gap of the free energy under its bound."""
    time = dataset.gap_time.values
    figures.theory_line(descent, time, dataset.bound.values, label="bound $e^{-2\\alpha\\lambda t}$")
    draw_means(descent, time, dataset.gap, "gap_seed", label="Langevin particles")
    figures.label_axes(descent, "time $t$", "free-energy gap", "(c) the gap stays below its bound", yscale="log")


def draw_chaos(chaos: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The scaled error that does not depend on N."""
    clouds = dataset.cloud.values
    figures.theory_line(chaos, clouds, np.full(len(clouds), claims.curves["level"][0]), label="linear response")
    for color, late, label in zip(figures.PALETTE[1:], (0, -1), ("early time", "late time"), strict=False):
        draw_means(chaos, clouds, dataset.scaled_error.isel(late=late), "chaos_seed", color=color, label=label)
    chaos.set_ylim(0, 2 * claims.curves["level"][0])
    title = "(c) chaos propagates uniformly in time"
    figures.label_axes(chaos, "particles $N$", "$N \\cdot E|f_N - f^*|^2$", title, xscale="log")
    figures.ticks_at(chaos.xaxis, clouds)


def draw_law(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The stationary law of one particle against the fixed point's density."""
    ax.hist(dataset.stationary.values, bins=80, density=True, color=figures.PALETTE[5], alpha=0.6, label="particles")
    figures.theory_line(ax, claims.curves["nodes"], claims.curves["density"], label="Gibbs fixed point")
    ax.set_xlim(-4, 4)
    figures.label_axes(ax, "particle θ", "density", "(c) stationary law of one neuron")


STUDY = Study("langevin", predict, measure, draw)
