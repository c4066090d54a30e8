"""Grokking of linear regression: how far test accuracy is behind training accuracy, by the law of eigenvalues."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.optimization import Grokking, linear_grokking, marchenko_pastur
from jaxtheory.results import standard_error

_ASPECT, _STEP, _MARGIN, _LEVEL = 0.7, 0.2, 0.05, 0.95
_OUTPUTS = 20  # of a teacher
_SOURCE = "Levi, Beck, Bar-Sinai (2023)"


def _law(aspect: float, times: Any) -> Grokking:
    """Of gradient descent, whose factor 1 − ηh a step is that of the flow at the rate −log(1 − ηh)/η."""
    h, w = marchenko_pastur(aspect)
    return linear_grokking(-jnp.log1p(-_STEP * h) / _STEP, w, jnp.asarray(times), margin=_MARGIN, level=_LEVEL)


def _steps() -> int:
    """Half as many again as the test accuracy of the law takes."""
    return int(1.5 * float(_law(_ASPECT, [0.0]).test_time) / _STEP)


def claims(config: Any) -> Claims:
    """Accuracies when the training accuracy of the law is 95 %, and the delay until that of the test is."""
    first = _law(_ASPECT, [0.0])
    when = float(first.train_time) / _STEP
    at = _law(_ASPECT, [_STEP * round(when)])
    test, train = float(at.test_accuracy[0]), float(at.train_accuracy[0])
    over = "over runs; the terms in 1/d² that are left are below them"
    found = (
        ("grokking_train", f"training accuracy after {when:.0f} steps", train, test, "accuracy on fresh points"),
        ("grokking_test", f"test accuracy after {when:.0f} steps", test, train, "training accuracy"),
        ("grokking_delay", "time from training to test accuracy of 95%", float(first.delay),
         _slowest() - float(first.train_time), "decay of the smallest eigenvalue alone"),
    )  # fmt: skip
    claims = tuple(
        statistical(name, f"grokking: {text}, extrapolated to d = ∞", _SOURCE, value, over=over, rival=(rival, law))
        for name, text, value, rival, law in found
    )  # fmt: skip
    times = _STEP * np.arange(_steps() + 1)
    law = _law(_ASPECT, times)
    curves = {"grokking_train_law": law.train_accuracy, "grokking_test_law": law.test_accuracy}
    return Claims(claims, {name: np.asarray(values).tolist() for name, values in curves.items()})


def _slowest() -> float:
    """Time of the test, were the whole error on the smallest eigenvalue."""
    edge = -np.log1p(-_STEP * (1 - _ASPECT**0.5) ** 2) / _STEP
    return float(
        linear_grokking(jnp.asarray([edge]), jnp.ones(1), jnp.zeros(1), margin=_MARGIN, level=_LEVEL).test_time
    )


def measure(config: Any) -> xr.Dataset:
    """Gradient descent in d and 2d inputs; twice the second less the first has no term in 1/d."""
    key = jax.random.fold_in(jax.random.key(config.seed), 7)
    near, far = (_runs(dim, config.walkers, key) for dim in (config.students, 2 * config.students))
    when = round(float(_law(_ASPECT, [0.0]).train_time) / _STEP)
    values = {
        "grokking_train": [run["train"][:, when] for run in (near, far)],
        "grokking_test": [run["test"][:, when] for run in (near, far)],
        "grokking_delay": [run["delay"] for run in (near, far)],
    }
    fields: dict[str, Any] = {}
    for name, (one, two) in values.items():
        spread = np.hypot(2 * standard_error(two), standard_error(one))
        fields |= estimated(name, 2 * two.mean() - one.mean(), spread, config.walkers)
    for name in ("train", "test"):
        fields[f"grokking_{name}_path"] = ("grokking_step", np.asarray(far[name].mean(0)))
    return xr.Dataset(fields, {"grokking_step": np.arange(_steps() + 1)})


def _runs(dim: int, runs: int, key: Array) -> dict[str, Array]:
    """Accuracies of each run [runs, steps + 1] on its n = d/γ points and on as many fresh ones, and its delay."""
    points, steps = round(dim / _ASPECT), _steps()
    least = jnp.log((_MARGIN / jax.scipy.special.erfinv(_LEVEL)) ** 2 / 2)
    times = jnp.asarray(_STEP * np.arange(steps + 1))

    def one(key: Array) -> dict[str, Array]:
        keys = jax.random.split(key, 3)
        x, fresh = (jax.random.normal(k, (points, dim)) for k in keys[:2])
        start = jax.random.normal(keys[2], (dim, _OUTPUTS)) / np.sqrt(dim)

        def step(error: Array, _: None) -> tuple[Array, tuple[Array, ...]]:
            seen, unseen = (jnp.matmul(rows, error, precision="highest") for rows in (x, fresh))
            right = [jnp.mean(jnp.abs(miss) < _MARGIN) for miss in (seen, unseen)]
            losses = jnp.mean(seen**2), jnp.sum(error**2) / _OUTPUTS
            return error - _STEP / points * jnp.matmul(x.T, seen, precision="highest"), (*right, *losses)

        train, test, *losses = jax.lax.scan(step, start, None, length=steps + 1)[1]
        # both losses fall at every step
        first, last = (jnp.interp(-least, -jnp.log(loss), times) for loss in losses)
        return {"train": train, "test": test, "delay": last - first}

    return jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.fold_in(key, dim), runs))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Training and test accuracy over time, on the lines of the law."""
    time = _STEP * dataset.grokking_step.values
    shown = np.unique(np.geomspace(1, len(time) - 1, 25).astype(int))
    for name, color in zip(("train", "test"), figures.PALETTE, strict=False):
        figures.theory_line(ax, time[1:], claims.curves[f"grokking_{name}_law"][1:], color=color)
        seen = dataset[f"grokking_{name}_path"].values[shown]
        label = {"train": "training points", "test": "fresh points"}[name]
        figures.points(ax, time[shown], seen, color=color, label=label)
    ax.axhline(_LEVEL, color="#777777", linestyle="--", linewidth=1.3)
    title = f"grokking of linear regression, $d/n = {_ASPECT:g}$"
    figures.label_axes(ax, "time (step size $\\times$ steps)", "accuracy", title, xscale="log")


GROKKING = Study("grokking", claims, measure, draw)
