"""Networks of one hidden layer by size: random cosines by an exact law, greedy ones by their rate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from jaxtheory import figures
from jaxtheory.expressivity import barron, greedy
from jaxtheory.lecture.claims import Claim, Claims, averaged, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.results import fit_slope

_SIZES = (8, 32, 128, 512)  # of Monte Carlo networks


def predict(config: Any) -> Claims:
    """The exact Monte Carlo law, and the greedy rates."""
    curves = {f"law {d}": [float(barron.monte_carlo_law(_points(config, d), n)) for n in _SIZES] for d in config.dims}
    return Claims((*_random_claims(config), *_greedy_claims()), curves)


def _random_claims(config: Any) -> list[Claim]:
    moments = {d: jnp.exp(-2 * (_points(config, d) ** 2).sum(axis=1)) for d in config.dims}
    second = {d: float((1 + moment).mean() / 2) for d, moment in moments.items()}  # E cos²(ω·x), ω Gaussian
    return [
        statistical(f"random_{d}_{n}", f"mean squared error of {n} random cosines, d = {d}",
                    "Barron (1993), Lemma 1, exact", float(barron.monte_carlo_law(_points(config, d), n)),
                    over="over draws", rival=(second[d] / n, "second moment, not variance"))
        for d in config.dims for n in _SIZES
    ]  # fmt: skip


def _greedy_claims() -> list[Claim]:
    rates = {"greedy_1_1": (-2.0, 1, 1), "greedy_1_2": (-3.0, 1, 2), "greedy_2_1": (-1.25, 2, 1)}
    basis = "theory: −1/2 − (2k+1)/(2d) asymptotically; 0.15 for sizes that are not"
    return [
        Claim(name, f"exponent of orthogonal greedy networks, d = {d}, ReLU^{k}", "Siegel, Xu (2022), Thm 1", rate,
              basis, tolerance=0.15, relation="<=", rival=rate + 1 / d, rival_law="an activation of one order less")
        for name, (rate, d, k) in rates.items()
    ]  # fmt: skip


def _points(config: Any, dim: int) -> Array:
    """Uniform in the unit ball."""
    return jax.random.ball(jax.random.key(config.seed + dim), dim, shape=(200,), dtype=jnp.zeros(0).dtype)


def measure(config: Any) -> xr.Dataset:
    """Errors of every draw of random networks, and of greedy ones as they grow."""
    errors = np.array([[_random(config, d, n) for n in _SIZES] for d in config.dims])
    spread, grown = errors.std(-1, ddof=1) / config.draws**0.5, _greedy(config)
    measured: dict[str, Any] = {name: _exponent(values) for name, values in grown.items()}
    for i, d in enumerate(config.dims):
        for j, n in enumerate(_SIZES):
            measured |= averaged(f"random_{d}_{n}", errors[i, j], None)
    measured |= {"random": (("dim", "size"), errors.mean(-1)), "random_spread": (("dim", "size"), spread)}
    measured |= {f"{name}_errors": ("neurons", values) for name, values in grown.items()}
    return xr.Dataset(measured, {"dim": list(config.dims), "size": list(_SIZES)})


def _random(config: Any, dim: int, neurons: int) -> np.ndarray:
    """Mean squared errors of all draws."""
    x = _points(config, dim)
    truth = jnp.exp(-(x**2).sum(axis=1) / 2)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), neurons), config.draws)
    return np.asarray(jax.lax.map(lambda key: ((barron.monte_carlo(key, x, neurons) - truth) ** 2).mean(), keys))


def _greedy(config: Any) -> dict[str, np.ndarray]:
    """Errors of greedy networks by size: one dimension with ReLU and ReLU², two dimensions with ReLU."""
    x = jnp.linspace(0, 1, 1200)[:, None]
    f = jnp.sin(2 * jnp.pi * x[:, 0]) * jnp.exp(x[:, 0])
    ends, knots = jnp.array([[1.0], [-1.0]]), jnp.linspace(-1.02, 1.0, 1011)
    line = {k: greedy.fit(x, f, ends, knots, neurons=config.greedy, power=k).errors for k in (1, 2)}
    axis = (np.arange(config.grid) + 0.5) / config.grid * 2 - 1
    plane = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), f.dtype)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    directions = jnp.asarray(np.stack([np.cos(turn), np.sin(turn)], 1), f.dtype)
    target = jnp.exp(-2 * (plane**2).sum(1)) * jnp.cos(3 * plane[:, 0] + plane[:, 1])
    flat = greedy.fit(plane, target, directions, jnp.linspace(-1.5, 1.4, 90), neurons=config.greedy)
    errors = {"greedy_1_1": line[1], "greedy_1_2": line[2], "greedy_2_1": flat.errors}
    return {name: np.asarray(part) for name, part in errors.items()}


def _exponent(errors: np.ndarray) -> float:
    size = jnp.arange(1.0, len(errors) + 1)[7:]
    return float(fit_slope(size, jnp.asarray(errors[7:], size.dtype)).slope)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Mean squared error of random cosines over their number, and the law."""
    for color, dim in zip(figures.PALETTE, dataset.dim.values, strict=False):
        figures.theory_line(
            ax, dataset["size"].values, claims.curves[f"law {dim}"], color=color, label=f"law, $d = {dim}$"
        )
        row = dataset.sel(dim=dim)
        figures.points(ax, dataset["size"].values, row.random.values, row.random_spread.values, color=color)
    figures.label_axes(ax, "neurons $n$", "mean squared error", "random cosines", xscale="log", yscale="log")


def draw_greedy(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Error of greedy networks over their size, and the rate."""
    size = np.arange(1, dataset.sizes["neurons"] + 1)
    named = {
        "greedy_2_1": ("$d=2$, ReLU", -1.25),
        "greedy_1_1": ("$d=1$, ReLU", -2),
        "greedy_1_2": ("$d=1$, ReLU²", -3),
    }
    for color, (name, (label, rate)) in zip(figures.PALETTE, named.items(), strict=False):
        errors = dataset[f"{name}_errors"].values
        picked = np.unique(np.geomspace(4, len(size), 12).astype(int)) - 1
        middle = len(size) // 4
        line = errors[middle] * (size[picked] / size[middle]) ** rate
        figures.theory_line(ax, size[picked], line, color=color, label=f"{label}: $n^{{{rate:g}}}$")
        figures.points(ax, size[picked], errors[picked], color=color)
    figures.label_axes(ax, "neurons $n$", "$L^2$ error", "greedy networks", xscale="log", yscale="log")
    ax.xaxis.set_minor_formatter(NullFormatter())


STUDY = Study("networks", predict, measure, draw)
