"""Descent on separable data: the largest margin at the speed of a logarithm, and what is kept across it."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study
from jaxtheory.optimization import implicit_bias as bias

_SUPPORT = ((1.0, 2.0), (1.0, -1.0), (3.0, 2.0), (4.0, -1.0))  # two support vectors, weights 1/3 and 2/3


def predict(config: Any) -> Claims:
    """What is kept across the largest margin, of which a finite run misses ln²t/t."""
    steps, limit = 2.0**config.doublings, float(jnp.linalg.norm(_limit_across()))
    claim = Claim(
        "across", "separable: what w keeps across the largest margin", "Soudry et al. (2018), Thm 4", limit,
        "theory: ln²t/t", tolerance=float(np.log(steps)) ** 2 / steps, rival=0.0,
        rival_law="w along the largest margin alone",
    )  # fmt: skip
    return Claims((claim,), {})


def _limit_across() -> Array:
    x, y = jnp.array(_SUPPORT), jnp.ones(len(_SUPPORT))
    return bias.limit_across(bias.max_margin(x, y), x, y)


def measure(config: Any) -> xr.Dataset:
    """Distance from the largest margin at doubling times, by constant and by normalized steps."""
    x, y = jnp.array(_SUPPORT), jnp.ones(len(_SUPPORT))
    run = partial(bias.margin_path, x, y, step_size=0.1, doublings=config.doublings)
    plain, normalized = run(method="constant"), run(method="normalized")
    distances = {
        "constant": ("time", np.asarray(plain.distance)),
        "normalized": ("time", np.asarray(normalized.distance)),
    }
    return xr.Dataset(
        {**distances, "across": float(jnp.linalg.norm(plain.across[-1]))}, {"time": np.asarray(plain.steps)}
    )


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Distance from the direction of the largest margin over iterations."""
    time = dataset.time.values
    limit = float(jnp.linalg.norm(_limit_across()))
    late = time >= 8
    figures.theory_line(ax, time[late], limit / np.log(time[late]), label="$\\|\\tilde w_\\perp\\| / \\ln t$")
    for method, marker in (("constant", "o"), ("normalized", "s")):
        figures.points(ax, time, dataset[method], label=f"{method} step", marker=marker)
    figures.label_axes(ax, "iteration $t$", "distance from the largest margin", "the speed of a logarithm",
                       xscale="log", yscale="log")  # fmt: skip


STUDY = Study("margins", predict, measure, draw)
