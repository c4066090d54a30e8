"""Training time: two descents in one run of gradient flow on random data, and where it is best to stop."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.double_descent import covariance_flow
from jaxtheory.lecture.claims import Claims, averaged, statistical
from jaxtheory.lecture.double_descent_sources.config import Config
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study

_SAMPLES, _NOISE = 200, 0.5
_GROUPS = ((100, 1.0, 0.5), (20, 0.01, 1.0))  # modes, eigenvalue and power: fast and weak, slow and strong
_TIMES = np.geomspace(0.05, 1e5, 64)
_SHOWN = np.arange(0, 64, 3)


def _spectrum() -> tuple[np.ndarray, np.ndarray]:
    eigs = np.concatenate([np.full(count, level) for count, level, _ in _GROUPS])
    return eigs, np.concatenate([np.full(count, np.sqrt(power / count / level)) for count, level, power in _GROUPS])


def predict(config: Config) -> Claims:
    """The first valley, the hill behind it, and the best time to stop, each told from the others."""
    eigs, beta = (jnp.asarray(part) for part in _spectrum())
    law = covariance_flow(eigs, beta, float(_SAMPLES), _NOISE, jnp.asarray(_TIMES))
    excess = np.asarray(law.excess)
    valley, hill, best = _turns(excess)
    free = _SAMPLES - len(eigs)
    claims = tuple(
        statistical(f"time_{name}", f"training time: excess {words}, t = {_TIMES[at]:.3g}",
                    "Ali, Kolter, Tibshirani (2019)", float(excess[at]), "theory: finite size, 1/(n − p)",
                    tolerance=float(excess[at]) / free, rival=(float(excess[other]), law_of))
        for name, words, at, other, law_of in (
            ("valley", "in the first valley", valley, 0, "nothing learned"),
            ("hill", "on the hill behind", hill, valley, "one descent: the valley lasts"),
            ("best", "at the best time to stop", best, valley, "the first valley is the best"),
        )
    )  # fmt: skip
    curves = {"time_t": _TIMES.tolist(), "time_excess": excess.tolist(), "time_train": np.asarray(law.train).tolist()}
    return Claims(claims, curves)


def _turns(excess: np.ndarray) -> tuple[int, int, int]:
    """Places of the first local minimum, of the local maximum behind it, and of the minimum behind that."""
    rising = np.diff(excess) > 0
    valley = int(rising.argmax())
    hill = valley + int((~rising[valley:]).argmax())
    return valley, hill, hill + int(excess[hill:].argmin())


def measure(config: Config) -> xr.Dataset:
    """Independent draws of the data and of the noise, each flow solved in its eigenbasis at every time."""
    rng = np.random.default_rng(config.seed)
    runs = np.array([_flow(rng) for _ in range(config.flows)])
    mean, error = mean_and_error(runs)
    curves = predict(config).curves
    values: dict[str, Any] = {
        "time_measured": ("time_at", mean[_SHOWN]),
        "time_measured_error": ("time_at", error[_SHOWN]),
    }
    for name, at in zip(("valley", "hill", "best"), _turns(np.array(curves["time_excess"])), strict=True):
        values |= averaged(f"time_{name}", runs[:, at], None)
    return xr.Dataset(values, {"time_at": _TIMES[_SHOWN]})


def _flow(rng: np.random.Generator) -> np.ndarray:
    """Excess risk at every time."""
    eigs, beta = _spectrum()
    x = rng.standard_normal((_SAMPLES, len(eigs))) * np.sqrt(eigs)
    y = x @ beta + np.sqrt(_NOISE) * rng.standard_normal(_SAMPLES)
    rate, basis = np.linalg.eigh(x.T @ x / _SAMPLES)
    reached = -np.expm1(-np.outer(_TIMES, rate)) / rate * (basis.T @ (x.T @ y / _SAMPLES))
    return (eigs * (reached @ basis.T - beta) ** 2).sum(axis=1)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test and training error over time."""
    time, curves = claims.curves["time_t"], claims.curves
    blue, red = figures.PALETTE[:2]
    figures.theory_line(ax, time, curves["time_excess"], color=blue)
    figures.theory_line(ax, time, curves["time_train"], color=red, linestyle="--", label="training error, theory")
    measured, error = dataset.time_measured, dataset.time_measured_error
    figures.points(ax, dataset.time_at, measured, error, color=blue, label="excess risk")
    best = _turns(np.array(curves["time_excess"]))[2]
    figures.threshold(ax, time[best], "best time to stop")
    figures.label_axes(ax, "training time $t$", "error", xscale="log")
    ax.set_title("two descents in one run", pad=24)
    ax.legend(loc="upper right")


STUDY = Study("training-time", predict, measure, draw)
