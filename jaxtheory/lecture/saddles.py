"""Saddle escape: exponential time for gradient descent, linear with kicks, logarithmic with Langevin noise.

On the landscape of Du et al. every iteration is counted exactly, so the law T_{j+1}/T_j is seen without the
underflow that stops a plain run; landscapes without bad minima show when no escape is needed.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import figures
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged, estimated
from jaxtheory.lecture.study import BaseConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.networks import train
from jaxtheory.optimization import exit_time, landscapes, mean_exit_time, octopus, saddles
from jaxtheory.results import fit_slope

_TAU, _GAMMA = float(np.e), 1.0
_HALVINGS = 126  # from 1 to the smallest float32 that is not flushed to zero
_GRADUAL = 149  # from 1 to the smallest subnormal float32


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the four panels."""

    out: Path = field(default=Path("runs/saddles"), compare=False)
    """folder for predictions, data, table and figure"""
    seeds: int = 500
    """starts of each escape"""
    dim: int = 14
    """saddles that gradient descent is counted through"""
    curvatures: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """L, the curvature of the walls"""
    perturbed_dims: tuple[int, ...] = (5, 10, 20)
    """d for perturbed gradient descent"""
    noises: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    """temperatures of the Langevin exit"""
    exits: int = 4000
    """independent exits"""
    teacher: int = 15
    """neurons, and inputs, of the planted ReLU teacher"""
    surplus: tuple[int, ...] = (0, 1, 2, 4)
    """how many neurons more the student has"""
    starts: int = 64
    """of each student"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        more: dict[str, Any] = {
            "seeds": 5000,
            "dim": 20,
            "perturbed_dims": (5, 10, 20, 40),
            "exits": 20_000,
            "teacher": 20,
        }
        return replace(cls(), preset="paper", starts=512, **more) if preset == "paper" else cls()


def predict(config: Config) -> Claims:
    """The ratio of times, linearity with kicks, where float32 stops, exit times, and starts that must succeed."""
    claims = [_ratio_claim(L, config) for L in config.curvatures]
    logarithm = 0.5 / float(np.log(2 * _TAU / (_TAU / 100)))
    claims.append(
        Claim(
            "perturbed", "kicks: exponent of the total time in d", "Jin et al. (2017), Thm 3", 1.0,
            "theory: kicks of r/√d a coordinate add 1/(2 ln(2τ/r)) at most; 4.5 standard errors",
            tolerance=logarithm,
            standard_errors=SIGNIFICANT, rival=2.0, rival_law="saddles that grow longer one by one",
        )
    )  # fmt: skip
    claims += [_naive_claim(config)]
    claims += [
        Claim(
            f"exit_{noise:g}", f"Langevin exit from a saddle, noise {noise:g}", "Gardiner (2009), 5.2.7",
            mean_exit_time(_GAMMA, noise), "theory: step of 0.01 in time, 2%; 4.5 standard errors",
            tolerance=0.02 * mean_exit_time(_GAMMA, noise), standard_errors=SIGNIFICANT,
            rival=-0.5 * float(np.log(noise)) / _GAMMA, rival_law="its leading logarithm alone",
        )
        for noise in config.noises
    ]  # fmt: skip
    rule = 3 / config.starts
    claims += [
        Claim("strict", "matrix factorization: starts that reach the global minimum", "Lee et al. (2016), Thm 4", 1.0,
              "95% confidence with no failure seen: 3/starts", tolerance=rule,
              rival=0.5, rival_law="half of the starts end elsewhere"),
        Claim(f"student_{config.surplus[-1]}", f"student of {config.surplus[-1]} neurons more: starts that succeed",
              "Safran, Shamir (2018), sec. 4", 1.0, "95% confidence with no failure seen: 3/starts", tolerance=rule,
              rival=0.5, rival_law="half of the starts end elsewhere"),
        Claim("gain", "success of the widest student minus that of the teacher's width",
              "Safran, Shamir (2018), sec. 4", 0.0, "significance: 4.5 standard errors above",
              standard_errors=-SIGNIFICANT,
              relation=">="),
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def _ratio_claim(L: float, config: Config) -> Claim:
    limit = saddles.growth(L, _GAMMA, 1 / (4 * L))
    return Claim(
        f"ratio_{L:g}", f"descent: T_j+1/T_j, j = {config.dim - 1}, L = {L:g}", "Du et al. (2017), Thm 4.1", limit,
        "theory: the limit is approached as 1/T; 2%", tolerance=0.02 * limit, rival=1 + L / _GAMMA,
        rival_law="steps so small that descent is a flow",
    )  # fmt: skip


def _naive_claim(config: Config) -> Claim:
    """Where plain float32 stops is known from the exact times: a coordinate halved more than 126 times is zero."""
    times = _descend(config.curvatures[0], config, stream=1).times  # not the starts that are measured
    # The start adds log₂|x₀| > −10 halvings but for one in a thousand; a turn takes ten steps, in which some grow.
    doubt = float((abs(times - _HALVINGS) <= 10).any(1).mean()) + 1e-3 * config.dim
    return Claim(
        "naive", "float32 descent leaves the saddles reached within 126 halvings, no other: share of starts",
        "IEEE 754, subnormals flushed", 1.0, "theory: starts with a time within 10 steps of 126; 4.5 standard errors",
        tolerance=doubt, standard_errors=SIGNIFICANT,
        rival=float(((times < _HALVINGS).sum(1) == (times < _GRADUAL).sum(1)).mean()),
        rival_law="gradual underflow, to 149 halvings",
    )  # fmt: skip


def _keys(config: Config, count: int, stream: int = 0) -> Array:
    """Keys of the starts: stream 0 is measured, another one predicts."""
    key = jax.random.key(config.seed)
    return jax.random.split(jax.random.fold_in(key, stream) if stream else key, count)


def _descend(L: float, config: Config, stream: int = 0) -> saddles.Escape:
    run = partial(saddles.escape_times, L=L, gamma=_GAMMA, tau=_TAU, method="gradient_descent")
    return jax.vmap(lambda key: run(key, dim=config.dim))(_keys(config, config.seeds, stream))


def measure(config: Config) -> xr.Dataset:
    """Escape times of descent, kicks and Langevin noise, beside the law; and starts that reach a global minimum."""
    counted = {L: np.asarray(_descend(L, config).times) for L in config.curvatures}
    found: dict[str, object] = {f"ratio_{L:g}": float((t[:, -1] / t[:, -2]).mean()) for L, t in counted.items()}
    dataset = xr.Dataset(
        {"times": (("L", "seed", "saddle"), np.stack(list(counted.values())))},
        {"L": list(counted), "saddle": np.arange(1, config.dim + 1)},
    )
    for part in (_perturbed, _naive, _exits, _successes):
        dataset = dataset.merge(part(config, dataset))
    return dataset.merge(_path(config)).assign(found)


def _perturbed(config: Config, _: xr.Dataset) -> xr.Dataset:
    """Total iterations with kicks: every dimension and start in one program."""
    largest = max(config.perturbed_dims)
    run = partial(saddles.escape_times, L=1.0, gamma=_GAMMA, tau=_TAU, method="perturbed", max_dim=largest)
    every = jax.vmap(jax.vmap(lambda d, key: run(key, dim=d), (None, 0)), (0, None))
    keys = _keys(config, min(config.seeds, 200))
    total = every(jnp.array(config.perturbed_dims), keys).total
    error = total.std(1) / np.sqrt(len(keys))
    law = fit_slope(jnp.array(config.perturbed_dims, total.dtype), total.mean(1), error)
    return xr.Dataset(
        {"kicked": (("d", "start"), np.asarray(total)),
         **estimated("perturbed", law.slope, law.standard_error, len(keys))},
        {"d": list(config.perturbed_dims)},
    )  # fmt: skip


def _naive(config: Config, counted: xr.Dataset) -> xr.Dataset:
    """Plain descent from the same starts in both precisions, and whether float32 stopped where it must."""
    L = config.curvatures[0]
    run = partial(saddles.escape_times, L=L, gamma=_GAMMA, tau=_TAU, method="naive", max_steps=3000, dim=config.dim)
    left = {}
    for wide, name in ((False, "float32"), (True, "float64")):
        with jax.enable_x64(wide):
            left[name] = np.asarray(jax.vmap(run)(_keys(config, config.seeds)).times)
    must = 1 + (counted.times.sel(L=L).values < _HALVINGS).sum(1)
    reached = np.isfinite(left["float32"]).sum(1)
    runs = {name: (("seed", "saddle"), times) for name, times in left.items()}
    share = float((must == reached).mean())
    error = (share * (1 - share) / len(must)) ** 0.5
    return xr.Dataset({**estimated("naive", share, error, len(must)), **runs})


def _exits(config: Config, _: xr.Dataset) -> xr.Dataset:
    keys = _keys(config, config.exits)
    times = [jax.vmap(lambda k: exit_time(k, gamma=_GAMMA, noise=e))(keys).time for e in config.noises]  # noqa: B023
    found = [averaged(f"exit_{e:g}", t, None) for e, t in zip(config.noises, times, strict=True)]
    mean, error, _ = np.array([list(one.values()) for one in found]).T
    scalars = {name: value for one in found for name, value in one.items()}
    arrays = {"exit": ("noise", mean), "exit_error": ("noise", error)}
    return xr.Dataset({**arrays, **scalars}, {"noise": list(config.noises)})


def _successes(config: Config, _: xr.Dataset) -> xr.Dataset:
    """Random starts of a rank-one factorization and of ReLU students, to the end of gradient descent."""
    key = jax.random.key(config.seed)
    target = jnp.diag(jnp.array([3.0, 2.0, 0.5, -1.0]))
    strict = landscapes.global_success(
        lambda x: landscapes.matrix_factorization(x[:, None], target), lambda k: 0.1 * jax.random.normal(k, (4,)),
        key, starts=config.starts, step_size=0.1, steps=600, minimum=(2.0**2 + 0.5**2 + 1) / 4, tolerance=1e-4,
    )  # fmt: skip
    runs = [_student(config.teacher + more, config, key) for more in config.surplus]
    fraction = np.array([run.fraction for run in runs])
    spread = np.array([run.standard_error for run in runs])
    return xr.Dataset(
        {"success": ("surplus", fraction), "success_error": ("surplus", spread), "strict": float(strict.fraction),
         f"student_{config.surplus[-1]}": fraction[-1],
         **estimated("gain", fraction[-1] - fraction[0], np.hypot(spread[-1], spread[0]), config.starts)},
        {"surplus": list(config.surplus)},
    )  # fmt: skip


def _student(width: int, config: Config, key: Array) -> landscapes.Success:
    k = config.teacher
    teacher, scale = jnp.eye(k), 1 / np.sqrt(k)
    return landscapes.global_success(
        lambda w: landscapes.relu_student(w, teacher), lambda draw: scale * jax.random.normal(draw, (width, k)), key,
        starts=config.starts, step_size=0.15, steps=3000, tolerance=1e-2,
    )  # fmt: skip


def _path(config: Config) -> xr.Dataset:
    """Two coordinates of plain descent, for the picture of the tube."""
    f = lambda x: octopus(x, L=1.0, gamma=_GAMMA, tau=_TAU)  # noqa: E731
    run = train(f, jnp.array([0.02, 0.9]), optimizer=optax.sgd(0.1), steps=120, record=lambda x: x)
    return xr.Dataset({"path": (("step", "xy"), np.asarray(run.records))})


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """The tube, escape times on a log axis with the law, exit times, and success against width."""
    figure, (tube, times, exits, success) = figures.canvas(rows=2, columns=2, panel=(6.6, 4.7))
    _draw_tube(tube, dataset)
    _draw_times(times, dataset)
    noises = np.geomspace(dataset.noise.min(), dataset.noise.max(), 60)
    law = [mean_exit_time(_GAMMA, float(e)) for e in noises]
    figures.theory_line(exits, noises, law, label="exact, Dawson's integral")
    figures.points(exits, dataset.noise, dataset.exit, dataset.exit_error, label="simulated")
    figures.label_axes(exits, "temperature $\\varepsilon$", "mean exit time $E\\,T$", "Langevin leaves one saddle",
                       xscale="log")  # fmt: skip
    widths = dataset.surplus
    figures.points(success, widths, dataset.success, dataset.success_error)
    figures.label_axes(success, "student's neurons minus teacher's", "share of starts that succeed",
                       "width removes bad minima")  # fmt: skip
    success.set(ylim=(0, 1.05), xticks=widths)
    return figure


def _draw_tube(ax: Axes, dataset: xr.Dataset) -> None:
    grid = np.linspace(0, 6 * _TAU, 160)
    points = jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
    value = jax.vmap(lambda x: octopus(x, L=1.0, gamma=_GAMMA, tau=_TAU))(points)
    ax.contourf(grid, grid, np.asarray(value).reshape(160, 160), levels=30, cmap="cividis")
    ax.plot(dataset.path[:, 0], dataset.path[:, 1], "o-", color="white", markersize=3.5, linewidth=1.4, label="descent")
    ax.set(xlim=(-0.6, 6 * _TAU), ylim=(-0.6, 6 * _TAU), facecolor="#bbbbbb")
    ax.plot([0, 4 * _TAU], [0, 0], "X", color=figures.PALETTE[1], markersize=10, label="saddles")
    ax.plot([4 * _TAU], [4 * _TAU], "*", color=figures.PALETTE[2], markersize=15, label="minimum")
    figures.label_axes(ax, "$|x_1|$", "$|x_2|$", "two saddles and the way round")


def _draw_times(ax: Axes, dataset: xr.Dataset) -> None:
    saddle = dataset.saddle.values
    for color, L in zip(figures.PALETTE, dataset.L.values.tolist(), strict=False):
        median = dataset.times.sel(L=L).median("seed").values
        ratio = saddles.growth(L, _GAMMA, 1 / (4 * L))
        figures.theory_line(ax, saddle, median[-1] * ratio ** (saddle - saddle[-1]), color=color)
        figures.points(ax, saddle, median, color=color, label=f"descent, $L={L:g}$: ×{ratio:.2f}")
    for name, marker in (("float64", "P"), ("float32", "X")):
        stuck = dataset[name].median("seed", skipna=False)
        figures.points(ax, saddle, stuck, color="#222222", marker=marker, label=f"plain {name}, $L=1$: stuck")
    kicked = dataset.kicked.median("start")
    line = np.arange(1.0, float(kicked.d.max()) + 1)
    figures.theory_line(ax, line, float(kicked[-1]) * line / line[-1], color="#777777", linestyle="--")
    figures.points(ax, kicked.d, kicked, color="#777777", marker="s", label="with kicks, $d = j$: linear")
    figures.label_axes(ax, "saddle $j$", "iterations until it is left", "exponential, but for kicks", yscale="log")
    last = max(int(saddle[-1]), int(kicked.d.max()))
    ax.set(xlim=(0, last + 1), xticks=range(0, last + 1, 2 if last <= 20 else 5))
    ax.legend(loc="upper left", fontsize=10)
    ax.set_ylim(3, float(dataset.times.median("seed").max()) * 100)


TOPIC = Topic("saddles", Config, predict, measure, draw)
