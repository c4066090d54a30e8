"""Mixed smoothness: hyperbolic crosses and sparse grids take the dimension out of the exponent and into logarithms.

With N terms a function of mixed smoothness s is approximated to N^(−s) (log N)^((d−1)(s+u)), where isotropic methods
have N^(−s/d); and its regression has the same two exponents, 2s/(2s+1) and 2s/(2s+d). Explicit ReLU networks of
sparse grids have the first of them in their nonzero parameters, up to one more logarithm.
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import figures, sweeps
from jaxtheory.lecture import mixed_networks
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, estimated
from jaxtheory.lecture.study import SweptConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import fit_slope
from jaxtheory.smoothness import hyperbolic_cross, mixed, sparse_grid

_ENERGIES = 4.0 ** -np.arange(300)  # of each axis: s = 1, every block of MB^1_{2,∞} full
_DIMENSIONS = (1, 2, 3, 5, 10)
_FITTED = slice(200, 240)  # levels whose errors are fitted, in closed form: there the powers of log N are told apart
_SHOWN = 45  # levels that are drawn
_SIZES = {(100, 2): 482, (1000, 2): 7069, (100, 3): 1471, (1000, 3): 29425}
_RISK_DIMENSION, _RISK_LEVELS = 3, 24
_RULES = ("cross", "full")


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of what is computed at points; the closed forms need none."""

    out: Path = field(default=Path("runs/mixed_smoothness"), compare=False)
    """folder for predictions, sweeps, data, table and figure; an interrupted run continues there"""
    levels: tuple[int, ...] = (9, 8, 7, 6, 5)
    """finest sparse grid in dimension 1, 2, 3, 5, 10"""
    points: int = 1000
    """random points where interpolants are compared with their function"""
    octaves: tuple[int, int] = (8, 22)
    """first and last log2 n of the risk curves"""
    replicates: int = 100
    """independent noises of each"""
    networks: tuple[int, ...] = (12, 10, 9, 8)
    """finest level of the explicit networks in dimension 2, 3, 4, 5"""
    network_points: int = 2048
    """independent points where their errors are measured, a multiple of 64"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        published = replace(quick, preset="paper", levels=(14, 12, 10, 8, 6), points=20000, replicates=2000)
        published = replace(published, networks=(16, 13, 11, 9), network_points=2**15)
        return published if preset == "paper" else quick


def predict(config: Config) -> Claims:
    """Exact sizes, exponents with and without the logarithms, and the remainder of interpolation."""
    sizes = [_size_claim(budget, dim, count) for (budget, dim), count in _SIZES.items()]
    slopes = [claim for dim in _DIMENSIONS for claim in _slope_claims(dim)]
    grids = zip(_DIMENSIONS, config.levels, strict=True)
    # sup f = 1: a bound of 1 and more says nothing
    series = [_interpolation_claim(dim, level) for dim, level in grids if _left_out(dim, level) < 1]
    lines = {f"{rule} {dim}": _law(rule, dim).errors.tolist() for rule in ("cross", "full") for dim in _DIMENSIONS}
    lines |= {rule: _exact_risks(rule, config).tolist() for rule in _RULES}
    explicit = mixed_networks.predict(config.networks)
    return Claims((*sizes, *slopes, *series, *_risk_claims(config), *explicit.claims), lines | explicit.curves)


def _size_claim(budget: int, dim: int, count: int) -> Claim:
    name, statement = f"cross_{budget}_{dim}", f"indices with product ≤ {budget} in dimension {dim}"
    return Claim(name, statement, "Dung, Temlyakov, Ullrich (2018), 2.3", float(count), "an exact count",
                 kind="formula")  # fmt: skip


def _law(rule: str, dim: int, levels: int = _SHOWN) -> mixed.Errors:
    """Errors of the product function of `_ENERGIES`, in closed form, at levels 1, 2, …"""
    return (mixed.cross_errors if rule == "cross" else mixed.isotropic_errors)(_ENERGIES, levels, dim)


def _exponent(terms: np.ndarray, errors: np.ndarray) -> float:
    return float(np.polyfit(np.log(terms), np.log(errors), 1)[0])


def _without_block_logs(dim: int) -> float:
    """The exponent that would be found if the error were (log N)^{(d−1)s}/N: u = 0, a class of p = q."""
    terms = _law("cross", dim, _FITTED.stop).terms[_FITTED]
    return _exponent(mixed.effective_terms(terms, dim, u=0.5), np.log(terms) ** (dim - 1) / terms)


def _slope_claims(dim: int) -> list[Claim]:
    """With N ~ 2^n n^{d−1}/(d−1)!, log N is not n log 2: what that moves the slope by, at the first level fitted."""
    n = _FITTED.start
    log_terms = n * math.log(2) + (dim - 1) * math.log(n) - math.lgamma(dim)
    moved = (dim - 1) * 1.5 * abs(1 / (n * math.log(2) + dim - 1) - 1 / log_terms)
    # C(n + d − 1, d − 1) = n^{d−1}/(d−1)! (1 + d(d−1)/2n + …), a factor in N and, under the root, in the error
    moved += 1.5 * dim * (dim - 1) / 2 / n**2 / math.log(2)
    source = "Dung, Temlyakov, Ullrich (2018), Thm 4.3.1"
    return [
        Claim(f"mixed_{dim}", f"d = {dim}: exponent in N/(log N)^((d−1)(s+u)/s), s = 1, u = 1/2", source, -1.0,
              f"theory: next order of log N at n = {n}", tolerance=moved + 1e-3, kind="formula",
              rival=_without_block_logs(dim) if dim > 1 else -0.5,
              rival_law="u = 0" if dim > 1 else "Monte Carlo"),
        Claim(f"isotropic_{dim}", f"d = {dim}: exponent of the full grid", "DeVore (1998), section 3", -1.0 / dim,
              "theory: (2^n − 1)^d for 2^(nd) at n = 5", tolerance=2.0**-5 / dim, kind="formula",
              rival=-1.0 / (dim + 1), rival_law="one dimension more"),
    ]  # fmt: skip


def _interpolation_claim(dim: int, level: int) -> Claim:
    bound = _left_out(dim, level)
    told = f"d = {dim}: sup error of the sparse interpolant of Π 4x(1 − x), level {level}"
    basis = "theory: the levels left out, Σ C(k+d−1,d−1) 4^(−k)"
    source = "Bungartz, Griebel (2004), Thm 3.8"
    rival = 4 * bound if dim == 1 else _full_grid_error(dim, sparse_grid.size(level, dim))
    return Claim(f"interpolation_{dim}", told, source, bound, basis, relation="<=", rival=rival,
                 rival_law="one level less" if dim == 1 else "a full grid of as many points")  # fmt: skip


def _full_grid_error(dim: int, points: int) -> float:
    """Of multilinear interpolation at the centre of a cell by the maximum, sides h = points^(−1/dim)."""
    square = points ** (-2 / dim)
    return (1 - square) ** dim - (1 - 2 * square) ** dim


def _left_out(dim: int, level: int) -> float:
    return math.fsum(math.comb(k + dim - 1, dim - 1) * 4.0**-k for k in range(level, 400))


def _risk_claims(config: Config) -> list[Claim]:
    sizes = jnp.asarray(2.0 ** _octaves(config))
    source, dim = "Suzuki (2019), Thm 4", _RISK_DIMENSION
    rules = (("cross", "cross projections", -2 / 3), ("full", "full-grid ones", -2 / (2 + dim)))
    exact = {rule: float(fit_slope(sizes, jnp.asarray(_exact_risks(rule, config))).slope) for rule in _RULES}
    return [
        Claim(f"risk_{rule}", f"d = {dim}: exponent of the risk of {told}, {limit:.3f} without logs", source,
              exact[rule], "exact at these n; 4.5 standard errors", standard_errors=SIGNIFICANT, rival=limit,
              rival_law="without logarithms")
        for rule, told, limit in rules
    ]  # fmt: skip


def _octaves(config: Config) -> np.ndarray:
    return np.arange(config.octaves[0], config.octaves[1] + 1)


def _blocks(rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and energies of what each step of a rule adds: |j|_1 = k for the cross, max j = k for the full grid."""
    dim, k = _RISK_DIMENSION, np.arange(_RISK_LEVELS)
    if rule == "cross":
        count = np.array([math.comb(i + dim - 1, dim - 1) for i in k], float)
        return count * 2.0**k, count * 4.0**-k
    terms, energy = (np.cumsum(part[:_RISK_LEVELS]) for part in (2.0**k, _ENERGIES))
    return np.diff(terms**dim, prepend=0.0), np.diff(energy**dim, prepend=0.0)


def _exact_risks(rule: str, config: Config) -> np.ndarray:
    """The best projection of the rule: min over k of (energy beyond k) + (terms up to k)/n."""
    sizes, energies = _blocks(rule)
    beyond = np.cumsum(energies[::-1])[::-1]
    bias = np.append(beyond, 0.0)
    variance = np.append(0.0, np.cumsum(sizes))
    return (bias[None, :] + variance[None, :] / 2.0 ** _octaves(config)[:, None]).min(axis=1)


def measure(config: Config) -> xr.Dataset:
    """Sizes counted, errors fitted, sparse grids evaluated at random points, risks simulated."""
    found: dict[str, float] = {
        f"cross_{budget}_{dim}": float(len(hyperbolic_cross.indices(budget, dim))) for budget, dim in _SIZES
    }
    for dim in _DIMENSIONS:
        cross, full = _law("cross", dim, _FITTED.stop), _law("full", dim)
        terms = mixed.effective_terms(cross.terms[_FITTED], dim, u=0.5)
        found[f"mixed_{dim}"] = _exponent(terms, cross.errors[_FITTED])
        found[f"isotropic_{dim}"] = _exponent(full.terms[5:15], full.errors[5:15])
    grids = {dim: _interpolation(dim, level, config) for dim, level in zip(_DIMENSIONS, config.levels, strict=True)}
    found |= {f"interpolation_{dim}": float(errors[-1]) for dim, errors in grids.items()}
    swept = sweep(config)
    risks = {rule: swept[f"risk-{rule}"] for rule in _RULES}
    for rule, values in risks.items():
        found |= _risk_slope(rule, values)
    data = xr.merge([values.rename(risk=f"{rule}_risk") for rule, values in risks.items()], compat="override")
    data = data.merge(mixed_networks.measure(config.networks, config.network_points, config.seed))
    curves = {f"grid_{dim}": (f"level_{dim}", errors) for dim, errors in grids.items()}
    finest = {f"level_{dim}": level for dim, level in zip(_DIMENSIONS, config.levels, strict=True)}
    return data.assign(curves).assign(found).assign_attrs(finest)


def _interpolation(dim: int, level: int, config: Config) -> np.ndarray:
    """Sup errors at random points of the sparse interpolants of the last levels, up to four."""
    x = jax.random.uniform(jax.random.fold_in(jax.random.key(config.seed), dim), (config.points, dim))
    f = lambda x: jnp.prod(4 * x * (1 - x), axis=1)  # noqa: E731
    grids = [sparse_grid.interpolate(f, n, dim, dtype=x.dtype) for n in _levels(level)]
    return np.array([float(jnp.abs(sparse_grid.evaluate(grid, x) - f(x)).max()) for grid in grids])


def _levels(level: int) -> range:
    return range(max(2, level - 3), level + 1)


def sweep(config: Config) -> dict[str, xr.Dataset]:
    """Losses of the best projections of each rule, over octaves and replicates."""
    grid = sweeps.grid(octave=_octaves(config), seed=range(config.replicates))
    run, swept = partial(sweeps.run, grid=grid, key=config.seed, shard=config.shard), {}
    for rule in _RULES:
        sizes, energies = _blocks(rule)
        point = partial(_risk, sizes=jnp.asarray(sizes), energies=jnp.asarray(energies))
        swept[f"risk-{rule}"] = run(point, out=config.out / f"risk-{rule}.zarr").load()
    return swept


def _risk(octave: Array, seed: Array, key: PRNGKeyArray, *, sizes: Array, energies: Array) -> dict[str, Array]:
    """Loss of the best projection from n noisy coefficients: a block's noise energy is χ² of its size, over n."""
    n = 2.0 ** octave.astype(sizes.dtype)
    noise = 2 * jax.random.gamma(key, sizes / 2) / n
    beyond = jnp.append(jnp.cumsum(energies[::-1])[::-1], 0.0)
    expected = beyond + jnp.append(0.0, jnp.cumsum(sizes)) / n
    kept = jnp.arange(len(sizes)) < jnp.argmin(expected)
    return {"risk": jnp.sum(jnp.where(kept, noise, energies))}


def _risk_slope(rule: str, risks: xr.Dataset) -> dict[str, float]:
    values = risks.risk.transpose("seed", "octave").values
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))
    sizes = 2.0**risks.octave.values
    slope = float(fit_slope(jnp.asarray(sizes), jnp.asarray(mean)).slope)
    # the unweighted slope is linear in log risk, whose errors are independent
    u = np.log(sizes) - np.log(sizes).mean()
    spread = math.sqrt(((u * error / mean) ** 2).sum()) / (u**2).sum()
    return estimated(f"risk_{rule}", slope, spread, len(values))


def draw(dataset: xr.Dataset, claims: Claims) -> list[Figure]:
    """Index set and points; errors against N; the same after the logarithms; sparse interpolation; risks; networks."""
    figure, axes = figures.canvas(2, 3, panel=(5.8, 4.6))
    _index_sets(axes[0], axes[1])
    _errors(axes[2], claims)
    _scaled_errors(axes[3])
    _interpolants(axes[4], dataset)
    _draw_risks(axes[5], dataset, claims)
    return [figure, mixed_networks.draw(dataset, claims)]


def _index_sets(cross: Axes, grid: Axes) -> None:
    k = hyperbolic_cross.indices(64, 2)
    cross.plot(k[:, 0], k[:, 1], "s", color=figures.PALETTE[0], markersize=3, markeredgewidth=0)
    edge = np.linspace(1, 64, 400)
    figures.theory_line(cross, edge, 64 / edge, color=figures.PALETTE[1], label="$k_1 k_2 = 64$")
    figures.label_axes(cross, "$k_1$", "$k_2$", f"hyperbolic cross: {len(k)} of {64**2:,} frequencies")
    x = sparse_grid.points(7, 2)
    grid.plot(x[:, 0], x[:, 1], ".", color=figures.PALETTE[0], markersize=5, markeredgewidth=0)
    grid.set_aspect("equal")
    figures.label_axes(grid, "$x_1$", "$x_2$", f"sparse grid, level 7: {len(x)} of {127**2:,} points")


def _errors(ax: Axes, claims: Claims) -> None:
    shown = slice(3, 40)
    for color, dim in zip(figures.PALETTE, _DIMENSIONS, strict=False):
        cross, full = (_law(rule, dim).terms for rule in ("cross", "full"))
        errors, inside = np.array(claims.curves[f"cross {dim}"]), full < 1e14
        figures.theory_line(ax, cross[shown], errors[shown], color=color, label=f"$d = {dim}$")
        figures.theory_line(
            ax, full[inside], np.array(claims.curves[f"full {dim}"])[inside], color=color, linestyle=":"
        )
    ax.set_xlim(1, 1e14)
    figures.label_axes(ax, "terms $N$", "$L^2$ error", "cross (lines) and full grid (dots)", xscale="log", yscale="log")


def _scaled_errors(ax: Axes) -> None:
    """Error times N/(log N)^{3(d−1)/2}, over its last value: flat where the exponent is −1."""
    for color, dim in zip(figures.PALETTE, _DIMENSIONS, strict=False):
        cross = _law("cross", dim, 110)
        terms, errors = mixed.effective_terms(cross.terms[20:], dim, u=0.5), cross.errors[20:]
        scaled = errors * terms / (errors[-1] * terms[-1])
        figures.theory_line(ax, cross.terms[20:], scaled, color=color, label=f"$d = {dim}$")
    ax.set_ylim(0, 1.5)
    title = "the logarithms: slow to a constant"
    label = "error $\\times N/(\\log N)^{3(d-1)/2}$, scaled"
    figures.label_axes(ax, "terms $N$", label, title, xscale="log")
    ax.legend(loc="upper left", ncols=3)


def _interpolants(ax: Axes, dataset: xr.Dataset) -> None:
    for color, dim in zip(figures.PALETTE, _DIMENSIONS, strict=False):
        measured = dataset[f"grid_{dim}"].values
        levels = _levels(dataset.attrs[f"level_{dim}"])
        size = np.array([sparse_grid.size(n, dim) for n in levels], float)
        series = np.array([_left_out(dim, n) for n in levels])
        if (series < 1).any():  # in ten dimensions no bound says anything
            figures.theory_line(ax, size[series < 1], series[series < 1], color=color)
        figures.points(ax, size, measured, color=color, label=f"$d = {dim}$")
    title = "sparse interpolation: bounds below 1, measured"
    figures.label_axes(ax, "points $N$", "sup error", title, xscale="log", yscale="log")


def _draw_risks(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    n = 2.0**dataset.octave.values
    for color, rule, label in (
        (figures.PALETTE[1], "cross", "hyperbolic cross"),
        (figures.PALETTE[0], "full", "full grid"),
    ):
        values = dataset[f"{rule}_risk"].transpose("seed", "octave").values
        figures.theory_line(ax, n, claims.curves[rule], color=color, label=f"{label}, exact")
        figures.points(ax, n, values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values)), color=color)
    title = f"regression in mixed smoothness, $d = {_RISK_DIMENSION}$"
    figures.label_axes(ax, "samples $n$", "risk", title, xscale="log", yscale="log")


TOPIC = Topic("mixed-smoothness", Config, predict, measure, draw, sweep)
