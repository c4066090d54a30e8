"""Deep linear networks: singular values are learned one after another."""

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
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study, panel
from jaxtheory.networks import train
from jaxtheory.optimization import implicit_bias as bias
from jaxtheory.optimization.landscapes import deep_linear, matrix_factorization

_MODES, _TINY = (3.0, 2.0, 1.0), 1e-3  # of the deep linear network, and its start
_HORIZON, _MIDWAY = {2: 4.0, 3: 20.0}, 1.6  # times of the runs; when the first value is learned, not the second


def predict(config: Any) -> Claims:
    """Singular values over time, of products and of a symmetric factorization."""
    modes, symmetric = [_modes_claim(depth, config) for depth in config.depths], _modes_claim(2, config)
    factored = [
        symmetric._replace(name="modes_symmetric", statement="factorization XXᵀ: largest error of a singular value"),
        symmetric._replace(name="rank", statement="factorization XXᵀ: effective rank once one value is learned, error"),
    ]
    return Claims((*modes, *factored), {})


def _modes_claim(depth: int, config: Any) -> Claim:
    """Euler's method lags by Δt = η/2 ∫ (rate of growth of a factor) = η/2 (1 − 1/N) ln(s/σ₀), plus O(η) at the end."""
    s, p = max(_MODES), np.linspace(0, 1, 1001)
    steepest = (depth * s ** (3 - 2 / depth) * p ** (2 - 2 / depth) * (1 - p)).max()
    lag = config.step_size / 2 * ((1 - 1 / depth) * np.log(s / _TINY) + 1)
    return Claim(
        f"modes_{depth}", f"deep linear, depth {depth}: largest error of a singular value over time",
        "Saxe et al. (2014); Arora et al. (2019)", 0.0, "theory: twice the first-order lag of the step",
        tolerance=float(2 * steepest * lag),
    )  # fmt: skip


def measure(config: Any) -> xr.Dataset:
    """Singular values of the product while gradient descent moves all matrices, and of a symmetric factorization."""
    target = jnp.diag(jnp.array(_MODES))
    deep = [_modes(partial(deep_linear, target=target), _product, depth, config) for depth in config.depths]
    factored = _modes(lambda w: matrix_factorization(w[0], target), lambda w: _product([w[0].T, w[0]]), 2, config)
    error = float(abs(factored.run2 - factored.law2).max())
    # One singular value is learned, the next is not: the law's rank midway, and the run's.
    middle = factored.sel(t2=_MIDWAY, method="nearest")
    ranks = [float(bias.effective_rank(jnp.asarray(middle[name].values))) for name in ("law2", "run2")]
    return xr.merge(deep).assign(modes_symmetric=error, rank=ranks[1] - ranks[0])


def _product(weights: list[Array]) -> Array:
    return jnp.diag(jnp.linalg.multi_dot(weights[::-1], precision="highest"))


def _modes(loss: Any, values: Any, depth: int, config: Any) -> xr.Dataset:
    """One run from the balanced start, with 100 records, beside its law."""
    start = [_TINY ** (1 / depth) * jnp.eye(len(_MODES)) for _ in range(depth)]
    every = int(_HORIZON[min(depth, 3)] / config.step_size) // 100
    fit = partial(train, loss, optimizer=optax.sgd(config.step_size), steps=100 * every, record=values)
    run = np.asarray(jax.jit(partial(fit, record_every=every))(start).records)
    times = config.step_size * every * jnp.arange(1.0, 101.0)
    law = np.asarray(bias.deep_linear_modes(jnp.array(_MODES), depth, _TINY, times))
    names = (f"t{depth}", "mode")
    found = {f"run{depth}": (names, run), f"law{depth}": (names, law), f"modes_{depth}": abs(run - law).max()}
    return xr.Dataset(found, {f"t{depth}": np.asarray(times)})


def _draw(depth: int, ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Singular values of the product over time."""
    if f"law{depth}" not in dataset:
        ax.set_axis_off()
        return
    time = dataset[f"t{depth}"].values
    for mode, color in zip(range(len(_MODES)), figures.PALETTE, strict=False):
        figures.theory_line(ax, time, dataset[f"law{depth}"][:, mode], color=color)
        figures.points(ax, time[::5], dataset[f"run{depth}"][::5, mode], color=color, label=f"$s = {_MODES[mode]:g}$")
    figures.label_axes(ax, "time $t$", "singular value of the product", f"depth {depth}: one after another")


STUDY = Study("deep", predict, measure, partial(_draw, 2))
THREE_LAYERS = panel("three layers", partial(_draw, 3))
