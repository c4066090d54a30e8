"""A chain of saddles, each longer than the one before (Du et al. 2017): descent, kicks, and where float32 stops."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims, estimated, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.networks import train
from jaxtheory.optimization import octopus, saddles
from jaxtheory.results import fit_slope

_TAU, _GAMMA = float(np.e), 1.0
_HALVINGS = 126  # from 1 to the smallest float32 that is not flushed to zero
_GRADUAL = 149  # from 1 to the smallest subnormal float32


def predict(config: Any) -> Claims:
    """The ratio of times, linearity with kicks, and where float32 stops."""
    logarithm = 0.5 / float(np.log(2 * _TAU / (_TAU / 100)))
    kicks = statistical("perturbed", "kicks: exponent of the total time in d", "Jin et al. (2017), Thm 3", 1.0,
                        "theory: kicks of r/√d a coordinate add 1/(2 ln(2τ/r)) at most", tolerance=logarithm,
                        rival=(2.0, "saddles that grow longer one by one"))  # fmt: skip
    return Claims((*(_ratio_claim(L, config) for L in config.curvatures), kicks, _naive_claim(config)), {})


def _ratio_claim(L: float, config: Any) -> Claim:
    limit = saddles.growth(L, _GAMMA, 1 / (4 * L))
    return Claim(
        f"ratio_{L:g}", f"descent: T_j+1/T_j, j = {config.dim - 1}, L = {L:g}", "Du et al. (2017), Thm 4.1", limit,
        "theory: the limit is approached as 1/T; 2%", tolerance=0.02 * limit, rival=1 + L / _GAMMA,
        rival_law="steps so small that descent is a flow",
    )  # fmt: skip


def _naive_claim(config: Any) -> Claim:
    """Where plain float32 stops is known from the exact times: a coordinate halved more than 126 times is zero."""
    times = _descend(config.curvatures[0], config, stream=1).times  # not the starts that are measured
    # The start adds log₂|x₀| > −10 halvings but for one in a thousand; a turn takes ten steps, in which some grow.
    doubt = float((abs(times - _HALVINGS) <= 10).any(1).mean()) + 1e-3 * config.dim
    gradual = float(((times < _HALVINGS).sum(1) == (times < _GRADUAL).sum(1)).mean())
    return statistical(
        "naive", "float32 descent leaves the saddles reached within 126 halvings, no other: share of starts",
        "IEEE 754, subnormals flushed", 1.0, "theory: starts with a time within 10 steps of 126", tolerance=doubt,
        rival=(gradual, "gradual underflow, to 149 halvings"),
    )  # fmt: skip


def _keys(config: Any, count: int, stream: int = 0) -> Array:
    """Keys of the starts: stream 0 is measured, another one predicts."""
    key = jax.random.key(config.seed)
    return jax.random.split(jax.random.fold_in(key, stream) if stream else key, count)


def _descend(L: float, config: Any, stream: int = 0) -> saddles.Escape:
    run = partial(saddles.escape_times, L=L, gamma=_GAMMA, tau=_TAU, method="gradient_descent")
    return jax.vmap(lambda key: run(key, dim=config.dim))(_keys(config, config.seeds, stream))


def measure(config: Any) -> xr.Dataset:
    """Escape times of descent and of kicks, plain runs in two precisions, and one path."""
    counted = {L: np.asarray(_descend(L, config).times) for L in config.curvatures}
    ratios = {f"ratio_{L:g}": float((t[:, -1] / t[:, -2]).mean()) for L, t in counted.items()}
    times = xr.Dataset(
        {"times": (("L", "seed", "saddle"), np.stack(list(counted.values()))), **ratios},
        {"L": list(counted), "saddle": np.arange(1, config.dim + 1)},
    )
    return xr.merge([times, _perturbed(config), _naive(config, times), _path()])


def _perturbed(config: Any) -> xr.Dataset:
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


def _naive(config: Any, counted: xr.Dataset) -> xr.Dataset:
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


def _path() -> xr.Dataset:
    """Two coordinates of plain descent, for the picture of the tube."""
    f = lambda x: octopus(x, L=1.0, gamma=_GAMMA, tau=_TAU)  # noqa: E731
    run = train(f, jnp.array([0.02, 0.9]), optimizer=optax.sgd(0.1), steps=120, record=lambda x: x)
    return xr.Dataset({"path": (("step", "xy"), np.asarray(run.records))})


def draw_tube(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The landscape of two saddles, and the path of descent round them."""
    grid = np.linspace(0, 6 * _TAU, 160)
    points = jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
    value = jax.vmap(lambda x: octopus(x, L=1.0, gamma=_GAMMA, tau=_TAU))(points)
    ax.contourf(grid, grid, np.asarray(value).reshape(160, 160), levels=30, cmap="cividis")
    ax.plot(dataset.path[:, 0], dataset.path[:, 1], "o-", color="white", markersize=3.5, linewidth=1.4, label="descent")
    ax.set(xlim=(-0.6, 6 * _TAU), ylim=(-0.6, 6 * _TAU), facecolor="#bbbbbb")
    ax.plot([0, 4 * _TAU], [0, 0], "X", color=figures.PALETTE[1], markersize=10, label="saddles")
    ax.plot([4 * _TAU], [4 * _TAU], "*", color=figures.PALETTE[2], markersize=15, label="minimum")
    figures.label_axes(ax, "$|x_1|$", "$|x_2|$", "two saddles and the way round")


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Iterations until each saddle is left: the law's exponential, the kicks' line, and plain runs that are stuck."""
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


STUDY = Study("chain", predict, measure, draw)
