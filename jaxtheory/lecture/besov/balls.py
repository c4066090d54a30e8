"""Risks in a ball of B^1_{p,∞}: where functions have spikes, SureShrink leaves every linear rule behind."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, sweeps
from jaxtheory.lecture.claims import Claim, Claims, averages, estimated, negative, statistical
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study, panel, swept
from jaxtheory.results import fit_slope
from jaxtheory.smoothness import approximation, besov, estimation
from jaxtheory.smoothness.wavelets import Coefficients

BLUE, RED, GREEN, PINK = figures.PALETTE[:4]


class Ball(NamedTuple):
    """A ball of B^1_{p,∞} and how its points are drawn."""

    kind: besov.Kind
    p: float


BALLS = {"spiky": Ball("spike+dense", 1.0), "homogeneous": Ball("gaussian", 2.0)}


def predict(config: Any) -> Claims:
    """The exponent of the exact linear risk in both balls, and the signs of what adaptivity gains."""
    curves = [claim for name, ball in BALLS.items() for claim in _risk_claims(name, ball, config)]
    lines = {f"linear {name}": _exact_risks(ball, config).tolist() for name, ball in BALLS.items()}
    return Claims((*curves, *_gain_claims()), lines)


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Losses of the three rules over octaves and replicates, in each ball."""
    grid, found = sweeps.grid(octave=_octaves(config.octaves), seed=range(config.replicates)), {}
    for name, ball in BALLS.items():
        point = partial(ball_risks, ball=ball, levels=config.octaves[1])
        found[f"risk-{name}"] = swept(config, f"risk-{name}", point, grid).load()
    return found


def measure(config: Any) -> xr.Dataset:
    """All losses, the exponents of the linear risk, and the gains of SureShrink over it."""
    found = sweep(config)
    dataset = xr.merge([found[f"risk-{name}"].rename(_prefixed(found[f"risk-{name}"], name)) for name in BALLS])
    slopes = {key: value for name in BALLS for key, value in _risk_slopes(name, dataset).items()}
    return dataset.assign(_gains(slopes))


def _prefixed(dataset: xr.Dataset, name: str) -> dict[str, str]:
    return {str(rule): f"{name}_{rule}" for rule in dataset}


def _octaves(limits: tuple[int, int]) -> np.ndarray:
    return np.arange(limits[0], limits[1] + 1)


def _exact_risks(ball: Ball, config: Any) -> np.ndarray:
    return np.array([exact_linear_risk(octave, ball) for octave in _octaves(config.octaves).tolist()])


def _risk_claims(name: str, ball: Ball, config: Any) -> list[Claim]:
    """The slope of the linear risk over the simulated n, where it is known exactly."""
    rates = approximation.rates(1.0, ball.p)
    other = {"spiky": (-rates.adaptive_risk, "the adaptive rate"), "homogeneous": (-0.5, "the rate at p = 1")}[name]
    sizes, risks = (jnp.asarray(values) for values in (2.0 ** _octaves(config.octaves), _exact_risks(ball, config)))
    statement = f"exponent of the best level-wise linear risk ({-rates.linear_risk:.3f} as n → ∞)"
    return [
        statistical(f"linear_{name}", f"{name} (p = {ball.p:g}): {statement}", "Donoho, Liu, MacGibbon (1990)",
                    float(fit_slope(sizes, risks).slope), "exact at these n", rival=(other[0], other[1]))
    ]  # fmt: skip


def _gain_claims() -> list[Claim]:
    """What adaptivity gains: its exponent is known only up to logarithms, its sign is not."""
    signs = {
        "gap_spiky": "spiky (p = 1): SureShrink's exponent minus the linear one",
        "gap_between": "spiky minus homogeneous: that gain of SureShrink at p = 1 minus the one at p = 2",
    }
    return [negative(name, statement, "Suzuki (2019), section 4") for name, statement in signs.items()]


def ball_risks(octave: Array, seed: Array, key: PRNGKeyArray, *, ball: Ball, levels: int) -> dict[str, Array]:
    """Losses of three rules on one function of the ball from n = 2^octave noisy samples, which see levels < octave."""
    draw, noise = jax.random.split(key)
    truth = besov.sample(draw, 1.0, ball.p, math.inf, levels, ball.kind, dtype=jnp.float64)
    sigma = 2.0 ** (-octave.astype(jnp.float64) / 2)
    noises = jax.random.normal(noise, (2**levels - 1,), jnp.float64)
    pieces = jnp.split(noises, [2**j - 1 for j in range(1, levels)])
    details = tuple(b + sigma * z[None, :] for b, z in zip(truth.details, pieces, strict=True))
    noisy = Coefficients(truth.approximation, details)
    seen = [jnp.asarray(j) < octave for j in range(levels)]

    def loss(estimate: Coefficients) -> Array:
        squares = [jnp.sum((a - b) ** 2) for a, b in zip(estimate.details, truth.details, strict=True)]
        return jnp.sum(jnp.where(jnp.stack(seen), jnp.stack(squares), 0.0))

    best = [jnp.sum(jnp.minimum(b**2, sigma**2)) for b in truth.details]
    return {
        "linear": loss(estimation.linear_oracle(noisy, truth, sigma)),
        "sure": loss(estimation.denoise(noisy, sigma, "sure", coarse=0)),
        "ideal": jnp.sum(jnp.where(jnp.stack(seen), jnp.stack(best), 0.0)),
    }


def exact_linear_risk(octave: int, ball: Ball) -> float:
    """E of "linear" above: a level of m = 2^j has energy 2^{−2j} (Gaussian), or its dense part's and its spike's."""
    m = 2.0 ** np.arange(octave)
    dense = (1 / np.sqrt(m) / (2 * m)) ** 2 * (m - 1 + (1 + m) ** 2)
    energy, noise = (m**-2.0 if ball.kind == "gaussian" else dense), m / 2.0**octave
    return float((energy * noise / (energy + noise)).sum())


def _risk_slopes(name: str, dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """Exponents of the linear risk, and of SureShrink's over it, one for each independent group of replicates."""
    sizes = jnp.asarray(2.0**dataset.octave.values)
    rules = {rule: dataset[f"{name}_{rule}"].transpose("seed", "octave").values for rule in ("linear", "sure")}
    groups = {rule: np.stack([g.mean(axis=0) for g in np.array_split(v, 10)]) for rule, v in rules.items()}
    fit = jax.vmap(lambda risk: fit_slope(sizes, risk).slope)
    slopes = {rule: np.asarray(fit(jnp.asarray(risk))) for rule, risk in groups.items()}
    return {f"linear_{name}": slopes["linear"], f"gap_{name}": slopes["sure"] - slopes["linear"]}


def _gains(groups: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over groups and their errors; the two balls are drawn independently."""
    found = averages(groups, None)
    gaps, draws = ("gap_spiky", "gap_homogeneous"), min(found["gap_spiky_draws"], found["gap_homogeneous_draws"])
    error = math.hypot(*(found[f"{name}_error"] for name in gaps))
    return found | estimated("gap_between", found[gaps[0]] - found[gaps[1]], error, draws)


def _draw(name: str, title: str, ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risks over samples in one ball."""
    n = 2.0**dataset.octave.values
    figures.theory_line(ax, n, claims.curves[f"linear {name}"], label="best linear, exact", color=BLUE)
    for rule, label in (("linear", "best linear"), ("sure", "SureShrink"), ("ideal", "benchmark $Σ\\min(β^2, σ^2)$")):
        risk = dataset[f"{name}_{rule}"].transpose("seed", "octave").values
        color, marker = {"linear": (BLUE, "o"), "sure": (RED, "o"), "ideal": (GREEN, "^")}[rule]
        draw_means(ax, n, risk, label=label, color=color, marker=marker)
    start = dataset[f"{name}_sure"].mean("seed").values[0]
    figures.theory_line(ax, n, start * (n / n[0]) ** (-2 / 3), label="$n^{-2/3}$", color=RED, linestyle="--")
    figures.label_axes(ax, "samples $n$", "risk", title, xscale="log", yscale="log")
    ax.set_ylim(top=4 * start)  # room for the legend
    ax.legend(loc="upper right")


STUDY = Study("balls", predict, measure, partial(_draw, "spiky", "$B^1_{1,∞}$: adaptive wins"), sweep)
HOMOGENEOUS = panel("homogeneous", partial(_draw, "homogeneous", "$B^1_{2,∞}$: nothing to win"))
