"""Two students of two teachers: generalization error under one-pass SGD, exactly and in finite dimensions."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import lax
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.optimization.committee import erf_integrals, relu_integrals
from jaxtheory.optimization.teacher_student import Overlaps, online_sgd
from jaxtheory.results import standard_error

Unit = Literal["erf", "relu"]

_Q, _R, _T = 0.25 * np.eye(2), 0.2 * np.eye(2), np.eye(2)
_TIMES = np.array([1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 20.0])
_DRAWN = np.concatenate([_TIMES, np.arange(22.0, 61.0, 2.0)])  # times of the law
_CLAIMED = (5.0, 10.0)
_STEPS: dict[str, float] = {"erf": 1.0, "relu": 0.5}
_SLOW = 0.01  # of the step, where SGD is the gradient flow
_UNITS: dict[str, tuple[Callable[..., Any], Callable[[Array], Array]]] = {
    "erf": (erf_integrals, lambda x: jax.scipy.special.erf(x / np.sqrt(2.0))),
    "relu": (relu_integrals, jax.nn.relu),
}


def _law(unit: Unit, share: float = 1.0) -> Overlaps:
    overlaps = (jnp.asarray(matrix) for matrix in (_Q, _R, _T))
    times = jnp.asarray(_DRAWN / share)
    return online_sgd(*overlaps, step_size=share * _STEPS[unit], times=times, activation=unit)


def _claims(unit: Unit, config: Any) -> Claims:
    """The error at two times; the rival is the gradient flow, which leaves the noise of the samples out."""
    law, flow = (np.asarray(_law(unit, share).error) for share in (1.0, _SLOW))
    found = [
        statistical(f"{unit}_{time:g}", f"{unit} committee: error at steps/d = {time:g}, extrapolated to d = ∞",
                    "Saad, Solla (1995)", float(law[i]), "theory: terms in 1/d², 2%", over="over runs",
                    tolerance=0.02 * float(law[i]),
                    rival=(float(flow[i]), "gradient flow, without the noise of samples"))
        for time in _CLAIMED
        for i in np.flatnonzero(time == _TIMES)
    ]  # fmt: skip
    return Claims(tuple(found), {f"{unit}_law": law.tolist(), f"{unit}_flow": flow.tolist()})


def _measure(unit: Unit, config: Any) -> xr.Dataset:
    """Errors of SGD itself in d and 2d dimensions; twice the second less the first has no term in 1/d."""
    key = jax.random.fold_in(jax.random.key(config.seed), list(_STEPS).index(unit))
    near, far = (_descents(unit, dim, config.committees, key) for dim in (config.dim, 2 * config.dim))
    fields: dict[str, Any] = {
        f"{unit}_error": ((f"{unit}_size", f"{unit}_time"), np.asarray(jnp.stack([near.mean(0), far.mean(0)]))),
        f"{unit}_spread": (
            (f"{unit}_size", f"{unit}_time"),
            np.asarray(jnp.stack([standard_error(near), standard_error(far)])),
        ),
    }
    for time in _CLAIMED:
        i = int(np.flatnonzero(time == _TIMES)[0])
        error = np.hypot(2 * standard_error(far[:, i]), standard_error(near[:, i]))
        value = 2 * far[:, i].mean() - near[:, i].mean()
        fields |= estimated(f"{unit}_{time:g}", value, error, config.committees)
    return xr.Dataset(fields, {f"{unit}_size": [config.dim, 2 * config.dim], f"{unit}_time": _TIMES})


def _descents(unit: Unit, dim: int, runs: int, key: Array) -> Array:
    """Generalization errors at the times, of independent runs from the overlaps Q and R."""
    integrals, g = _UNITS[unit]
    teacher = jnp.eye(2, dim)
    own = np.linalg.cholesky(_Q - _R @ _R.T)
    start = jnp.zeros((2, dim)).at[:, :4].set(np.concatenate([_R, own], axis=1))
    sign = jnp.asarray([-1.0, -1.0, 1.0, 1.0])

    def step(w: Array, key: Array) -> tuple[Array, None]:
        x = jax.random.normal(key, (dim,), jnp.float32).astype(w.dtype)  # half the time of float64
        fields = jnp.matmul(w, x, precision="highest")
        value, slope = jax.jvp(g, (fields,), (jnp.ones_like(fields),))
        miss = jnp.sum(g(x[:2])) - jnp.sum(value)
        return w + _STEPS[unit] / dim * miss * slope[:, None] * x[None], None

    def error(w: Array) -> Array:
        both = jnp.concatenate([w, teacher])
        pair = integrals(jnp.matmul(both, both.T, precision="highest"), 2).pair
        return jnp.einsum("cd,c,d->", pair, sign, sign, precision="highest") / 2

    def one(key: Array) -> Array:
        w, errors = start, []
        counts = np.diff(np.round(_TIMES * dim).astype(int), prepend=0)
        for i, count in enumerate(counts):
            w = lax.scan(step, w, jax.random.split(jax.random.fold_in(key, i), int(count)))[0]
            errors.append(error(w))
        return jnp.stack(errors)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.fold_in(key, dim), runs))


def _draw(unit: Unit, ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The law, the flow, and SGD in two dimensions."""
    figures.theory_line(ax, _DRAWN, claims.curves[f"{unit}_law"], label="exact, $d = \\infty$")
    figures.theory_line(ax, _DRAWN, claims.curves[f"{unit}_flow"], color="#777777", linestyle=":",
                        label="gradient flow")  # fmt: skip
    for i, marker in enumerate("os"):
        size = int(dataset[f"{unit}_size"].values[i])
        figures.points(ax, _TIMES, dataset[f"{unit}_error"].values[i], dataset[f"{unit}_spread"].values[i],
                       color=figures.PALETTE[i + 1], marker=marker, label=f"SGD, $d = {size}$")  # fmt: skip
    title = {"erf": "erf: a plateau, then specialization", "relu": "ReLU: a shorter plateau"}[unit]
    ax.set_ylim(1e-4, 1)
    figures.label_axes(ax, "steps$\\,/\\,d$", "generalization error", title, yscale="log")


def _study(unit: Unit) -> Study:
    return Study(f"{unit} committee", partial(_claims, unit), partial(_measure, unit), partial(_draw, unit))


ERF, RELU = _study("erf"), _study("relu")
