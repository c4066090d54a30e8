"""Besov spaces: where smoothness is inhomogeneous, adaptive estimators leave every linear one behind by an exponent.

Wavelet thresholds, B-splines whose knots go where the function is rough, and ReLU networks that are such splines reach
n^(−2s/(2s+1)); no linear method does better than n^(−2s'/(2s'+1)), s' = s − (1/p − 1/2)_+. At p ≥ 2 they coincide.
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxtheory import sweeps
from jaxtheory.lecture import besov_studies as studies
from jaxtheory.lecture import function_classes
from jaxtheory.lecture.besov_figure import draw
from jaxtheory.lecture.besov_studies import BALLS, Ball
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged, estimated
from jaxtheory.lecture.study import SweptConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import fit_slope
from jaxtheory.smoothness import approximation, bspline, estimation

_EXACT = {"s=1, p=1": (1.0, 1.0), "s=1.5, p=1": (1.5, 1.0), "s=2, p=1": (2.0, 1.0), "s=1, p=2": (1.0, 2.0)}
_SIZES = 2.0 ** np.arange(10, 31)  # of the minimax risks, where no simulation limits n
_NOISE = 1.0  # of the signal, whose standard deviation is 3


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of the simulations; what is exact needs none."""

    out: Path = field(default=Path("runs/besov"), compare=False)
    """folder for predictions, sweeps, data, table and figure; an interrupted run continues there"""
    levels: int = 16
    """wavelet levels of the functions in the table of classes: 2^levels samples"""
    octaves: tuple[int, int] = (7, 14)
    """first and last log2 n of the risk curves"""
    replicates: int = 60
    """independent functions and noises of each point of the risk curves"""
    signal_octaves: tuple[int, int] = (6, 9)
    """first and last log2 n of the estimators on one signal, trained networks among them"""
    signal_replicates: int = 6
    """independent noises of each"""
    steps: int = 1200
    """of Adam, for the trained network"""
    width: int = 48
    """of its two hidden layers"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        published = replace(quick, preset="paper", levels=20, octaves=(7, 18), replicates=400)
        published = replace(published, signal_octaves=(6, 11), signal_replicates=20, steps=20000, width=256)
        return published if preset == "paper" else quick


def predict(config: Config) -> Claims:
    """Exponents of minimax risks, of risk curves, of the table's classes and of explicit networks."""
    exact = [claim for name, (s, p) in _EXACT.items() for claim in _minimax_claims(name, s, p)]
    curves = [claim for name, ball in BALLS.items() for claim in _risk_claims(name, ball, config)]
    classes = [claim for row in function_classes.rows(config.levels) for claim in _class_claims(row)]
    lines = {f"linear {name}": _exact_risks(ball, config).tolist() for name, ball in BALLS.items()}
    return Claims((*exact, *curves, *_gain_claims(), *classes, *_network_claims()), lines)


def _octaves(limits: tuple[int, int]) -> np.ndarray:
    return np.arange(limits[0], limits[1] + 1)


def _exact_risks(ball: Ball, config: Config) -> np.ndarray:
    return np.array([studies.exact_linear_risk(octave, ball) for octave in _octaves(config.octaves).tolist()])


def _minimax_claims(name: str, s: float, p: float) -> list[Claim]:
    rates = approximation.rates(s, p)
    basis = "theory: exponents at n = 2^10…2^30, where sums over levels have become geometric, to a hundredth"
    arms = {"linear": (rates.linear_risk, "Thm 7"), "adaptive": (rates.adaptive_risk, "Thm 1")}
    rivals = {"linear": rates.adaptive_risk, "adaptive": rates.linear_risk}
    if p >= 2:  # both arms have one rate, and at p = 1 the linear one another
        rivals = dict.fromkeys(arms, approximation.rates(s, 1.0).linear_risk)
    law = "the rate of the other arm" if p < 2 else "the linear rate at p = 1"
    return [
        Claim(f"{arm}, {name}", f"minimax risk: exponent of the {arm} one, {name}",
              f"Donoho, Johnstone (1998), {place}", -value, basis, tolerance=0.01, kind="formula",
              rival=-rivals[arm], rival_law=law)
        for arm, (value, place) in arms.items()
    ]  # fmt: skip


def _risk_claims(name: str, ball: Ball, config: Config) -> list[Claim]:
    """The slope of the linear risk over the simulated n, where it is known exactly."""
    rates = approximation.rates(1.0, ball.p)
    other = {"spiky": (-rates.adaptive_risk, "the adaptive rate"), "homogeneous": (-0.5, "the rate at p = 1")}[name]
    sizes, risks = (jnp.asarray(values) for values in (2.0 ** _octaves(config.octaves), _exact_risks(ball, config)))
    statement = f"exponent of the best level-wise linear risk ({-rates.linear_risk:.3f} as n → ∞)"
    return [
        Claim(f"linear_{name}", f"{name} (p = {ball.p:g}): {statement}", "Donoho, Liu, MacGibbon (1990)",
              float(fit_slope(sizes, risks).slope), "exact at these n; 4.5 standard errors",
              standard_errors=SIGNIFICANT,
              rival=other[0], rival_law=other[1])
    ]  # fmt: skip


def _gain_claims() -> list[Claim]:
    """What adaptivity gains: its exponent is known only up to logarithms, its sign is not."""
    signs = {
        "gap_spiky": "spiky (p = 1): SureShrink's exponent minus the linear one",
        "gap_between": "spiky minus homogeneous: that gain of SureShrink at p = 1 minus the one at p = 2",
    }
    basis = "significance: 4.5 standard errors below"
    return [
        Claim(name, statement, "Suzuki (2019), section 4", 0.0, basis, standard_errors=-SIGNIFICANT, relation="<=")
        for name, statement in signs.items()
    ]


def _class_claims(row: function_classes.Row) -> list[Claim]:
    label = row.label.replace("$", "")
    drawn = row.name not in ("disc", "mixed")
    basis = "theory: finite N" + ("; 4.5 standard errors" if drawn else "")
    arms = {"linear": (row.linear, row.linear_remainder), "adaptive": (row.adaptive, row.adaptive_remainder)}
    if row.name == "barron":
        del arms["linear"]  # a lower bound for every linear method: not a thing to measure
    return [
        Claim(f"{row.name}_{arm}", f"{label}: exponent of the {arm} error", row.source, rate, basis,
              tolerance=remainder, standard_errors=SIGNIFICANT * drawn, rival=row.rivals[arm == "adaptive"],
              rival_law="a class of another rate", kind="formula" if row.name == "mixed" else "simulation")
        for arm, (rate, remainder) in arms.items()
    ]  # fmt: skip


def _network_claims() -> list[Claim]:
    bound = bspline.suzuki_bound(studies.ORDER, studies.ACCURACY)
    first, last = studies.TERMS[[0, -1]]
    remainder = math.log((1 + studies.LEVELS / first) / (1 + studies.LEVELS / last)) / math.log(last / first)
    lost = -0.5 * math.log1p(-((last / 2**studies.LEVELS) ** 2)) / math.log(last / first)
    return [
        Claim("network", "B^1_{1,∞} as explicit ReLU networks of N splines: exponent of the error",
              "Suzuki (2019), Prop. 1", -1.0, "theory: spikes at every level, the finest missing; 4.5 standard errors",
              tolerance=remainder + lost, standard_errors=SIGNIFICANT, rival=-0.5, rival_law="linear methods"),
        Claim("network_depth", "depth of that network", "Suzuki (2019), Lemma 1", float(bound.depth),
              "theory: an upper bound", relation="<="),
        Claim("network_gap", "the lasso's explicit network minus the lasso, sup, over Σ|b| · accuracy",
              "Suzuki (2019), Lemma 1", 1.0, "theory: an upper bound", relation="<="),
    ]  # fmt: skip


def measure(config: Config) -> xr.Dataset:
    """Risks of linear and adaptive estimators, the table of rates by function class, and networks beside them."""
    key = jax.random.key(config.seed)
    swept = sweep(config)
    curves = [_prefixed(swept[f"risk-{name}"], name) for name in BALLS]
    one = swept["signal"].rename({name: f"signal_{name}" for name in (*swept["signal"], *swept["signal"].dims)})
    dataset = xr.merge([*curves, one])
    errors, slopes, audit = studies.network_errors(key)
    dataset = dataset.assign(spline_error=("terms", errors)).assign_coords(terms=studies.TERMS)
    scalars = _minimax_slopes() | _classes(key, config) | averaged("network", slopes, None)
    scalars |= {"network_depth": float(audit.depth), "network_gap": studies.lasso_as_network(key)}
    scalars |= _gains({key: value for name in BALLS for key, value in _risk_slopes(name, dataset).items()})
    sizes = [bspline.dictionary_size(studies.ORDER, 5, dim) for dim in range(1, 7)]
    return dataset.assign(scalars).assign(dictionary=("dimension", sizes)).assign_coords(dimension=np.arange(1, 7))


def sweep(config: Config) -> dict[str, xr.Dataset]:
    """Losses of the three rules over octaves and replicates, in each ball; and the estimators of one signal."""
    run = partial(sweeps.run, key=config.seed, shard=config.shard)
    grid, swept = sweeps.grid(octave=_octaves(config.octaves), seed=range(config.replicates)), {}
    for name, ball in BALLS.items():
        point = partial(studies.ball_risks, ball=ball, levels=config.octaves[1])
        swept[f"risk-{name}"] = run(point, grid, out=config.out / f"risk-{name}.zarr").load()
    point = partial(studies.signal_risks, sigma=_NOISE, steps=config.steps, width=config.width)
    grid = sweeps.grid(octave=_octaves(config.signal_octaves), seed=range(config.signal_replicates))
    return swept | {"signal": run(point, grid, out=config.out / "signal.zarr", static="octave").load()}


def _prefixed(found: xr.Dataset, name: str) -> xr.Dataset:
    return found.rename({rule: f"{name}_{rule}" for rule in found})


def _minimax_slopes() -> dict[str, float]:
    sizes = jnp.asarray(_SIZES)
    return {
        f"{arm}, {name}": float(fit_slope(sizes, estimation.minimax_risk(s, p, sizes, estimator=arm)).slope)
        for name, (s, p) in _EXACT.items()
        for arm in ("linear", "adaptive")
    }


def _classes(key: jax.Array, config: Config) -> dict[str, float]:
    found = function_classes.measure(key, config.levels)
    arms = [(f"{name}_{arm}", getattr(both, arm)) for name, both in found.items() for arm in both._fields]
    return {
        key: value
        for name, slopes in arms
        for key, value in (averaged(name, slopes, None) if len(slopes) > 1 else {name: float(slopes[0])}).items()
    }


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
    found = {key: number for name, slopes in groups.items() for key, number in averaged(name, slopes, None).items()}
    gaps, draws = ("gap_spiky", "gap_homogeneous"), min(found["gap_spiky_draws"], found["gap_homogeneous_draws"])
    error = math.hypot(*(found[f"{name}_error"] for name in gaps))
    return found | estimated("gap_between", found[gaps[0]] - found[gaps[1]], error, draws)


TOPIC = Topic("besov", Config, predict, measure, draw, sweep)
