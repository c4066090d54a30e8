"""Mean-field Langevin against its free energy, its fixed point and its fluctuations; rates of empirical measures."""

from functools import partial
from math import gamma
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import data, figures, meanfield
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged, estimated
from jaxtheory.meanfield import oracles, wasserstein

_RIDGE, _TEMPERATURE, _STEP = 0.5, 0.3, 0.05
_DATA = ((1.2, 0.3), (-0.4, 1.0), (0.2, -1.1)), (0.8, -0.5, 0.3)
_DESCENT = 20  # records of the free energy
_MATCHING = {1: -1 / 2, 2: -1 / 2, 3: -1 / 3, 5: -1 / 5}  # exponents by dimension, without the logarithm of d = 2
_SIZES = (16, 32, 64, 128)


def _problem(unit: meanfield.functionals.Unit, columns: int) -> tuple[meanfield.Functional, Array, Array]:
    x, y = jnp.asarray(_DATA[0])[:, :columns], jnp.asarray(_DATA[1])
    F = meanfield.risk(unit, meanfield.squared_loss, x, y) + meanfield.quadratic(_RIDGE)
    return F, x, y


def langevin_claims(config: Any) -> Claims:
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
        Claim(
            f"chaos_{n}", f"Langevin: N · E|f_N − f*|² at N = {n}, all late times", "Suzuki, Wu, Nitanda (2023), Thm 1",
            level, step, tolerance=0.06 * level, standard_errors=SIGNIFICANT, rival=alone,
            rival_law="particles without interaction",
        )
        for n in config.clouds
    )  # fmt: skip
    rate = Claim(
        "gap_over_bound", "Langevin: largest free-energy gap over its bound e^(−2αλt) gap₀",
        "Nitanda, Wu, Suzuki (2022), Thm 1", 1.0, "4.5 standard errors over seeds",
        standard_errors=SIGNIFICANT, relation="<=", rival=float(np.exp(_RIDGE * 2 * _STEP * _DESCENT)),
        rival_law="half of the rate, at the end",
    )  # fmt: skip
    return Claims((rate, *chaos), curves | {"level": [level]})


def langevin_measure(config: Any) -> xr.Dataset:
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
    limit = jnp.asarray(langevin_claims(config).curves["outputs"], x.dtype)
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


def langevin_draw(descent: Axes, chaos: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The gap under its bound, and the scaled error that does not depend on N."""
    time = dataset.gap_time.values
    figures.theory_line(descent, time, dataset.bound.values, label="bound $e^{-2\\alpha\\lambda t}$")
    error = dataset.gap.std("gap_seed", ddof=1).values / np.sqrt(dataset.sizes["gap_seed"])
    figures.points(descent, time, dataset.gap.mean("gap_seed").values, error, label="Langevin particles")
    figures.label_axes(descent, "time $t$", "free-energy gap", "(c) the gap stays below its bound", yscale="log")
    clouds = dataset.cloud.values
    figures.theory_line(chaos, clouds, np.full(len(clouds), claims.curves["level"][0]), label="linear response")
    values = dataset.scaled_error.mean("chaos_seed")
    for color, late in zip(figures.PALETTE[1:], (0, -1), strict=False):
        spread = dataset.scaled_error.std("chaos_seed", ddof=1).values / np.sqrt(dataset.sizes["chaos_seed"])
        label = "early" if late == 0 else "late"
        figures.points(chaos, clouds, values.values[:, late], spread[:, late], color=color, label=f"{label} time")
    chaos.set_ylim(0, 2 * claims.curves["level"][0])
    title = "(c) chaos propagates uniformly in time"
    figures.label_axes(chaos, "particles $N$", "$N \\cdot E|f_N - f^*|^2$", title, xscale="log")
    figures.ticks_at(chaos.xaxis, clouds)


def gibbs_draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The stationary law of one particle against the fixed point's density."""
    ax.hist(dataset.stationary.values, bins=80, density=True, color=figures.PALETTE[5], alpha=0.6, label="particles")
    figures.theory_line(ax, claims.curves["nodes"], claims.curves["density"], label="Gibbs fixed point")
    ax.set_xlim(-4, 4)
    figures.label_axes(ax, "particle θ", "density", "(c) stationary law of one neuron")


def rate_claims(config: Any) -> Claims:
    """Exponents of W₁ between two samples, the constant of the logarithm in the plane, the exact moment on the line."""
    slopes = tuple(_exponent_claim(d) for d in (1, 3, 5))
    constant = Claim(
        "log_constant", "two samples on a sphere of area 1: slope of n E W₂² in log n", "Ambrosio, Glaudo (2019)",
        1 / (2 * np.pi), "theory: chords for arcs; 4.5 standard errors", tolerance=_chords_for_arcs(),
        standard_errors=SIGNIFICANT, rival=1 / (4 * np.pi), rival_law="one sample and the uniform law",
    )  # fmt: skip
    logarithm = Claim(
        "log_growth", "two samples on a sphere: slope of n (E W₁)² in log n, 0 if E W₁ were of order n^(−1/2)",
        "Ajtai, Komlós, Tusnády (1984)", 0.0, "significance: 4.5 standard errors above", standard_errors=-SIGNIFICANT,
        relation=">=",
    )  # fmt: skip
    exact = Claim(
        "uniform_w2", "3(n + 1) E W₂² between two samples of n = 16 uniforms", "Bobkov, Ledoux (2019), Thm 4.7", 1.0,
        "4.5 standard errors", standard_errors=SIGNIFICANT, rival=1 + 1 / _SIZES[0], rival_law="3n for 3(n + 1)",
    )  # fmt: skip
    return Claims((*slopes, constant, logarithm, exact), {})


def _exponent_claim(d: int) -> Claim:
    """On the line the next order is 1/n. On a d-sphere chords are shorter than arcs, and the next order of the matching
    is n^(−(d−2)/d) (Caracciolo et al., 2014), with a constant that is taken to be 1/4."""
    n, run = np.array([_SIZES[0], _SIZES[-1]], float), np.log(_SIZES[-1] / _SIZES[0])
    arcs = n ** (-2 / d) / (24 * _radius(d) ** 2)  # of a chord, at distances n^(−1/d)
    order = n ** (-(d - 2) / d) / 4
    remainder = float((arcs + order) @ [1, -1] / run) if d > 1 else 0.01
    basis = "chords for arcs, the next order n^(−(d−2)/d)/4" if d > 1 else "order 1/n"
    neighbour = 3 if d == 1 else 4
    return Claim(
        f"rate_{d}", f"exponent of E W₁ between two samples of n points, d = {d}", "Fournier, Guillin (2015), Thm 1",
        _MATCHING[d], f"theory: {basis}; 4.5 standard errors", tolerance=remainder, standard_errors=SIGNIFICANT,
        rival=-1 / neighbour, rival_law=f"that of d = {neighbour}",
    )  # fmt: skip


def _chords_for_arcs() -> float:
    """In the slope of n E W₂²: with E Δ⁴ ≤ 3 (E Δ²)², chords of curvature 4π take π g²/n from g = n E Δ²."""
    n = np.array([_SIZES[0], _SIZES[-1]], float)
    square = ((1 + np.log(n)) / (2 * np.pi)) ** 2
    return float(np.pi * (square / n) @ [1, -1] / np.log(n[1] / n[0]))


def _radius(d: int) -> float:
    """Of the d-dimensional sphere of volume 1."""
    return float((gamma((d + 1) / 2) / (2 * np.pi ** ((d + 1) / 2))) ** (1 / d))


def _on_sphere(key: PRNGKeyArray, shape: tuple[int, int]) -> Array:
    """Uniform points of the d-sphere of volume 1 in one coordinate more: a space without a boundary."""
    n, d = shape
    return data.sphere(n, d + 1, key, radius=_radius(d), dtype=jnp.zeros(0).dtype).x


def rate_measure(config: Any) -> xr.Dataset:
    """Mean matching distances at each size and dimension, and their slopes."""
    root, count = jax.random.fold_in(jax.random.key(config.seed), 4), config.matchings
    rate = partial(wasserstein.empirical_rate, sizes=_SIZES, sample=_on_sphere)
    repeats = {1: 5 * count, 2: count // 2, 3: count // 3, 5: count // 3}
    rates = {1: wasserstein.empirical_rate(1, _SIZES, root, repeats=repeats[1])}
    rates |= {d: rate(d, key=root, repeats=repeats[d]) for d in (2, 3, 5)}
    plane = rate(2, key=jax.random.fold_in(root, 2), p=2.0, repeats=count)
    few, line = (_SIZES[0], _SIZES[0] + 1, _SIZES[0] + 2), jax.random.fold_in(root, 1)
    squares = wasserstein.empirical_rate(1, few, line, p=2.0, repeats=30 * count)
    scale = 3 * (_SIZES[0] + 1)
    distance, error = float(squares.distance[0]), float(squares.standard_error[0])
    fields: dict[str, Any] = {
        "matching": (("dimension", "size"), np.stack([np.asarray(rate.distance) for rate in rates.values()])),
        "matching_error": (("dimension", "size"), np.stack([np.asarray(r.standard_error) for r in rates.values()])),
        **estimated("uniform_w2", scale * distance**2, scale * 2 * distance * error, 30 * count),
    }
    for d in (1, 3, 5):
        fields |= estimated(f"rate_{d}", rates[d].slope.slope, rates[d].slope.standard_error, repeats[d])
    fields |= _log_slope("log_constant", plane, count) | _log_slope("log_growth", rates[2], repeats[2])
    return xr.Dataset(fields, {"dimension": list(_MATCHING), "size": list(_SIZES)})


def _log_slope(name: str, rate: wasserstein.Rate, repeats: int) -> dict[str, float]:
    """Slope of n W² in log n and its standard error, with weights by the delta method's errors."""
    n, distance, spread = np.asarray(_SIZES, float), np.asarray(rate.distance), np.asarray(rate.standard_error)
    values, errors = n * distance**2, 2 * n * distance * spread
    fit, covariance = np.polyfit(np.log(n), values, 1, w=1 / errors, cov="unscaled")
    return estimated(name, fit[0], covariance[0, 0] ** 0.5, repeats)


def _law(dimension: int, sizes: np.ndarray) -> np.ndarray:
    """The theoretical decay of E W₁, up to a constant."""
    power = sizes ** _MATCHING[dimension]
    return power * np.sqrt(np.log(sizes)) if dimension == 2 else power


def rate_draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Measured distances on the interval and on spheres, and the theoretical exponents through their middle."""
    sizes = dataset["size"].values
    for color, (d, slope) in zip(figures.PALETTE, _MATCHING.items(), strict=False):
        values = dataset.matching.sel(dimension=d).values
        law = _law(d, sizes)
        through = law * np.exp((np.log(values) - np.log(law)).mean())
        label = "$(\\log n / n)^{1/2}$" if d == 2 else f"$n^{{{slope:.2g}}}$"
        figures.theory_line(ax, sizes, through, color=color, label=f"$d = {d}$: {label}")
        figures.points(ax, sizes, values, dataset.matching_error.sel(dimension=d).values, color=color)
    title = "(e) two samples: the curse of dimension"
    figures.label_axes(ax, "points $n$", "$E\\,W_1$", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, sizes)
    ax.set_ylim(top=2 * ax.get_ylim()[1])  # room above the lines
    ax.legend(loc="upper center", ncols=2)
