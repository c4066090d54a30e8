"""Langevin noise leaves one saddle in a time that is logarithmic in the temperature."""

from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, averaged, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.optimization import exit_time, mean_exit_time

_GAMMA = 1.0  # curvature along the way out


def predict(config: Any) -> Claims:
    """The exact mean exit time at every temperature."""
    claims = tuple(
        statistical(f"exit_{noise:g}", f"Langevin exit from a saddle, noise {noise:g}", "Gardiner (2009), 5.2.7",
                    mean_exit_time(_GAMMA, noise), "theory: step of 0.01 in time, 2%",
                    tolerance=0.02 * mean_exit_time(_GAMMA, noise),
                    rival=(-0.5 * float(np.log(noise)) / _GAMMA, "its leading logarithm alone"))
        for noise in config.noises
    )  # fmt: skip
    return Claims(claims, {})


def measure(config: Any) -> xr.Dataset:
    """Mean times of independent exits."""
    keys = jax.random.split(jax.random.key(config.seed), config.exits)
    times = [jax.vmap(lambda k: exit_time(k, gamma=_GAMMA, noise=e))(keys).time for e in config.noises]  # noqa: B023
    found = [averaged(f"exit_{e:g}", t, None) for e, t in zip(config.noises, times, strict=True)]
    mean, error, _ = np.array([list(one.values()) for one in found]).T
    scalars = {name: value for one in found for name, value in one.items()}
    arrays = {"exit": ("noise", mean), "exit_error": ("noise", error)}
    return xr.Dataset({**arrays, **scalars}, {"noise": list(config.noises)})


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Mean exit time over the temperature."""
    noises = np.geomspace(dataset.noise.min(), dataset.noise.max(), 60)
    law = [mean_exit_time(_GAMMA, float(e)) for e in noises]
    figures.theory_line(ax, noises, law, label="exact, Dawson's integral")
    figures.points(ax, dataset.noise, dataset.exit, dataset.exit_error, label="simulated")
    what = "mean exit time $E\\,T$"
    figures.label_axes(ax, "temperature $\\varepsilon$", what, "Langevin leaves one saddle", xscale="log")


STUDY = Study("exit", predict, measure, draw)
