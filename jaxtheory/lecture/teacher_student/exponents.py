"""Samples until SGD on the sphere finds the direction of a single-index model, by the information exponent."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims, statistical
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.powers import plain_exponent
from jaxtheory.lecture.study import Study
from jaxtheory.optimization.teacher_student import escape_samples, mean_escape_samples
from jaxtheory.results import fit_slope

LINKS: dict[int, Callable[[Array], Array]] = {
    1: lambda x: x,
    2: lambda x: (x**2 - 1) / math.sqrt(2),
    3: lambda x: (x**3 - 3 * x) / math.sqrt(6),
}
PUSH = {1: 2.0, 2: 12.0, 3: 96.0}  # E e²σ'² at a random start
_SHARES = {1: 0.2, 2: 0.02, 3: 0.02}  # of the step size, in units of d^{−1} for k = 1, 2 and d^{−3/2} for k = 3
_START, _TARGET = 2.0, 0.7  # the overlap at first, in units of d^{−1/2}, and at the end
_FAR = (256, 512, 1024, 2048)  # dimensions of the law alone
_SOURCE = "Ben Arous, Gheissari, Jagannath (2021)"


def _dims(k: int, config: Any) -> tuple[int, ...]:
    return config.steep_dims if k == 3 else config.dims


def _options(k: int, dim: int) -> dict[str, Any]:
    size = _SHARES[k] * dim ** -max(1.0, k / 2)
    return {"dim": dim, "step_size": size, "start": _START * dim**-0.5, "target": _TARGET}


@cache
def _law(k: int, dims: tuple[int, ...]) -> np.ndarray:
    """Mean samples of the diffusion in each dimension."""
    return np.array([float(mean_escape_samples(LINKS[k], **_options(k, dim))) for dim in dims])


def claims(config: Any) -> Claims:
    """Slopes of the law's samples over d; the rival is the nearest other exponent on the same dimensions."""
    found = []
    for k in LINKS:
        dims = _dims(k, config)
        slopes = {j: float(_slope(dims, _law(j, dims))) for j in LINKS}
        rival = min((j for j in LINKS if j != k), key=lambda j: abs(slopes[j] - slopes[k]))
        first = _options(k, dims[0])
        step = first["step_size"] * PUSH[k] ** 0.5 / first["start"]
        found.append(statistical(
            f"exponent_{k}", f"information exponent {k}: slope of log samples over log d", _SOURCE, slopes[k],
            "theory: the law's error of one step over the start, in the smallest d", over="over runs",
            tolerance=step / math.log(dims[-1] / dims[0]), rival=(slopes[rival], f"information exponent {rival}"),
        ))  # fmt: skip
    found.append(Claim(
        "complexity", "information exponent 3: slope of the law in d, extrapolated to d = ∞", _SOURCE, 2.0,
        "theory: the last term of the extrapolation", tolerance=abs(float(np.diff(_limits(3))[0])), kind="formula",
        rival=float(_limits(2)[1]), rival_law="d log d, information exponent 2",
    ))  # fmt: skip
    curves = {f"samples_law_{k}": _law(k, _dims(k, config)).tolist() for k in LINKS}
    return Claims(tuple(found), curves)


def _limits(k: int) -> np.ndarray:
    """Slopes of the law between the dimensions of `_FAR`, without their terms in d^{−1/2}, and without those in 1/d."""
    slopes = np.diff(np.log(_law(k, _FAR))) / math.log(2)
    first = (math.sqrt(2) * slopes[1:] - slopes[:-1]) / (math.sqrt(2) - 1)
    return np.array([first[1], 2 * first[1] - first[0]])


def _slope(dims: Any, samples: Any) -> Any:
    return fit_slope(jnp.asarray(dims, float), jnp.asarray(samples)).slope


def measure(config: Any) -> xr.Dataset:
    """Mean samples of each exponent and dimension, and their slopes with errors by the delta method."""
    fields: dict[str, Any] = {"complexity": _limits(3)[1]}
    coordinates: dict[str, Any] = {}
    for k in LINKS:
        dims = np.asarray(_dims(k, config))
        samples = [np.asarray(_samples(k, int(dim), config), float) for dim in dims]
        mean, error = np.array([mean_and_error(runs) for runs in samples]).T
        fields |= {f"samples_{k}": (f"inputs_{k}", mean), f"samples_{k}_spread": (f"inputs_{k}", error)}
        fields |= plain_exponent(f"exponent_{k}", dims, mean, error, config.walkers)
        coordinates[f"inputs_{k}"] = dims
    return xr.Dataset(fields, coordinates)


def _samples(k: int, dim: int, config: Any) -> Array:
    """Of `config.walkers` runs, each until its overlap is the target."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 10_000 * k + dim), config.walkers)
    run = lambda key: escape_samples(key, LINKS[k], **_options(k, dim))  # noqa: E731
    return jax.vmap(run)(keys).samples  # one program for all dimensions of a link


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Samples over d, and lines of the law."""
    for k, color in zip(LINKS, figures.PALETTE, strict=False):
        dims = dataset[f"inputs_{k}"].values
        law = {1: "d", 2: "d\\,\\log d", 3: "d^2"}[k]
        figures.theory_line(ax, dims, claims.curves[f"samples_law_{k}"], color=color)
        figures.points(ax, dims, dataset[f"samples_{k}"].values, dataset[f"samples_{k}_spread"].values, color=color,
                       label=f"exponent {k}: ${law}$")  # fmt: skip
    title = "samples until the direction is found"
    figures.label_axes(ax, "inputs $d$", "samples", title, xscale="log", yscale="log")
    ax.set_ylim(top=30 * float(dataset.samples_3.max()))  # room for the legend
    figures.ticks_at(ax.xaxis, np.union1d(dataset.inputs_1.values, dataset.inputs_3.values))


EXPONENTS = Study("exponents", claims, measure, draw)
