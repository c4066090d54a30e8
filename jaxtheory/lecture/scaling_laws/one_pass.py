"""One-pass SGD on random features: many runs, each on its own data, on the line of their exact mean."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, averaged, statistical
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.scaling_laws.config import Config
from jaxtheory.lecture.study import Study
from jaxtheory.scaling import one_pass_risk

_ALPHA, _BETA, _STEP_SIZE, _STEPS = 1.0, 0.3, 0.3, 500
_JUDGED = (10, 100, 500)  # steps
_DRAWN = 8  # runs in the panel
_SHOWN = tuple(sorted({round(t) for t in np.geomspace(1, _STEPS, 25)} | set(_JUDGED)))


class Problem(NamedTuple):
    """Random features W, eigenvalues of the data and target."""

    features: Float[Array, "modes width"]
    eigs: Float[Array, " modes"]
    target: Float[Array, " modes"]

    @classmethod
    def of(cls, width: int) -> "Problem":
        """One draw of W, which is part of the problem and not of the measurement."""
        i = jnp.arange(1.0, 4 * width + 1)
        features = jax.random.normal(jax.random.key(0), (len(i), width)) / width**0.5
        return cls(features, i ** (-2 * _ALPHA), i**-_BETA)


def predict(config: Config) -> Claims:
    """The mean risk at batch size 1; its rival is descent on the mean gradient."""
    problem = Problem.of(config.features)
    exact = partial(one_pass_risk, *problem, step_size=_STEP_SIZE, steps=_STEPS)
    noisy, smooth = exact(batch=1.0), exact(batch=jnp.inf)
    claims = tuple(
        statistical(f"one_pass_{t}", f"one-pass SGD: mean risk after {t} steps",
                    "exact second moments of Gaussian data", float(noisy.risk[t]), over="over runs",
                    rival=(float(smooth.risk[t]), "gradients without noise"))
        for t in _JUDGED
    )  # fmt: skip
    return Claims(claims, {"one_pass": noisy.risk.tolist(), "one_pass_smooth": smooth.risk.tolist()})


def measure(config: Config) -> xr.Dataset:
    """Independent runs of SGD, each with fresh data in every step."""
    key = jax.random.key(config.seed)
    risk = np.asarray(_descend(key, Problem.of(config.features), config.streams))[:, np.array(_SHOWN) - 1]
    mean, error = mean_and_error(risk)
    values: dict[str, Any] = {
        "one_pass_risk": ("one_pass_step", mean), "one_pass_risk_error": ("one_pass_step", error),
        "one_pass_runs": (("one_pass_run", "one_pass_step"), risk[:_DRAWN]),
    }  # fmt: skip
    for t in _JUDGED:
        values |= averaged(f"one_pass_{t}", risk[:, _SHOWN.index(t)], None)
    return xr.Dataset(values, {"one_pass_step": list(_SHOWN)})


@partial(jax.jit, static_argnames="streams")
def _descend(key: Key[Array, ""], problem: Problem, streams: int) -> Float[Array, "streams steps"]:
    """The risk of each run after each step, P(θ) = ‖H^{1/2}(Wθ − b)‖²."""
    root = jnp.sqrt(problem.eigs)
    seen, goal = root[:, None] * problem.features, root * problem.target

    def step(theta: Array, key: Array) -> tuple[Array, Array]:
        x = jax.random.normal(key, (streams, len(root)), root.dtype)
        z, y = jnp.matmul(x, seen, precision="highest"), jnp.matmul(x, goal, precision="highest")
        theta = theta - _STEP_SIZE * ((z * theta).sum(axis=1) - y)[:, None] * z
        missed = jnp.matmul(theta, seen.T, precision="highest") - goal[None]
        return theta, (missed**2).sum(axis=1)

    start = jnp.zeros((streams, problem.features.shape[1]), root.dtype)
    return jax.lax.scan(step, start, jax.random.split(key, _STEPS))[1].T


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The mean of the runs on the exact law, above descent without noise."""
    blue, red = figures.PALETTE[0], figures.PALETTE[1]
    t = np.arange(1, _STEPS + 1)
    for at, run in enumerate(dataset.one_pass_runs.values):
        ax.plot(_SHOWN, run, color="#BBBBBB", linewidth=0.9, zorder=1, label=None if at else "single runs")
    figures.theory_line(ax, t, claims.curves["one_pass"][1:], label="exact mean", color=blue)
    figures.theory_line(ax, t, claims.curves["one_pass_smooth"][1:], label="no gradient noise", color=red)
    risk, error = dataset.one_pass_risk, dataset.one_pass_risk_error
    figures.points(ax, dataset.one_pass_step, risk, error, label="mean of runs", color=blue)
    figures.label_axes(ax, "steps $t$", "risk", "one-pass SGD, solved", xscale="log", yscale="log")
    ax.set_ylim(top=8)
    ax.legend(loc="upper right", ncols=2)


STUDY = Study("one-pass", predict, measure, draw)
