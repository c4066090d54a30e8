"""Samples until SGD on the sphere finds the direction of a single-index model, by the information exponent."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, estimated
from jaxtheory.lecture.study import Study
from jaxtheory.optimization.teacher_student import escape_samples, overlap_flow
from jaxtheory.results import fit_slope, standard_error

_LINKS: dict[int, Callable[[Array], Array]] = {
    1: lambda x: x,
    2: lambda x: (x**2 - 1) / math.sqrt(2),
}
_SHARES = {1: 0.2, 2: 0.02}  # of the step size 1/d: the flow is its limit
_TARGET = 0.5


def _step_size(k: int, dim: int) -> float:
    return _SHARES[k] / dim


def _flow_samples(k: int, dims: Any) -> np.ndarray:
    """Time of the population flow from d^{−1/2} to the target, over the step size."""
    one = jnp.zeros(k + 1).at[k].set(1.0)
    times = jnp.linspace(0.0, 12.0, 2000)
    paths = [overlap_flow(one, one, float(dim) ** -0.5, times).overlap for dim in dims]
    until = [np.interp(_TARGET, np.asarray(path), np.asarray(times)) for path in paths]
    return np.array([time / _step_size(k, dim) for time, dim in zip(until, dims, strict=True)])


def claims(config: Any) -> Claims:
    """Slopes of the flow's samples over d; the rival is the other exponent."""
    slopes = {k: float(_slope(config.dims, _flow_samples(k, config.dims))) for k in _LINKS}
    other = {1: 2, 2: 1}
    found = [
        Claim(
            f"exponent_{k}", f"information exponent {k}: slope of log samples over log d",
            "Ben Arous, Gheissari, Jagannath (2021)", slopes[k],
            "theory: noise of the steps, which the flow leaves out; 4.5 standard errors over runs",
            tolerance=0.02, standard_errors=SIGNIFICANT, rival=slopes[other[k]],
            rival_law=f"information exponent {other[k]}",
        )
        for k in _LINKS
    ]  # fmt: skip
    curves = {f"samples_law_{k}": _flow_samples(k, config.dims).tolist() for k in _LINKS}
    return Claims(tuple(found), curves)


def _slope(dims: Any, samples: Any) -> Any:
    return fit_slope(jnp.asarray(dims, float), jnp.asarray(samples)).slope


def measure(config: Any) -> xr.Dataset:
    """Mean samples of each exponent and dimension, and their slopes with errors by the delta method."""
    fields: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for k in _LINKS:
        dims, log = np.asarray(config.dims), np.log(config.dims)
        samples = [np.asarray(_samples(k, int(dim), config), float) for dim in dims]
        mean, error = (
            np.array([s.mean() for s in samples]),
            np.array([float(standard_error(jnp.asarray(s))) for s in samples]),
        )
        weights = (log - log.mean()) / ((log - log.mean()) ** 2).sum()
        fields |= {f"samples_{k}": (f"inputs_{k}", mean), f"samples_{k}_spread": (f"inputs_{k}", error)}
        spread = np.sqrt(((weights * error / mean) ** 2).sum())
        fields |= estimated(f"exponent_{k}", _slope(dims, mean), spread, config.walkers)
        coordinates[f"inputs_{k}"] = dims
    return xr.Dataset(fields, coordinates)


def _samples(k: int, dim: int, config: Any) -> Array:
    """Of `config.walkers` runs, each until its overlap is the target."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 10_000 * k + dim), config.walkers)
    run = lambda key: escape_samples(key, _LINKS[k], dim=dim, step_size=_step_size(k, dim), target=_TARGET)  # noqa: E731
    return jax.vmap(run)(keys).samples  # one program for all dimensions of a link


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Samples over d, and lines of the flow."""
    for k, color in zip(_LINKS, figures.PALETTE, strict=False):
        dims = dataset[f"inputs_{k}"].values
        law = {1: "d", 2: "d\\,\\log d"}[k]
        figures.theory_line(ax, dims, claims.curves[f"samples_law_{k}"], color=color)
        figures.points(ax, dims, dataset[f"samples_{k}"].values, dataset[f"samples_{k}_spread"].values, color=color,
                       label=f"exponent {k}: ${law}$")  # fmt: skip
    title = "samples until the direction is found"
    figures.label_axes(ax, "inputs $d$", "samples", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset.inputs_1.values)


EXPONENTS = Study("exponents", claims, measure, draw)
