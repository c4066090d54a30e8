"""Classification of real digits by random features: the error peaks where wrong labels begin to be fitted."""

from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import data, figures
from jaxtheory.lecture.claims import Claims, averages, negative
from jaxtheory.lecture.double_descent_sources.classifiers import newton
from jaxtheory.lecture.double_descent_sources.config import Config
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study

_RATIOS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 2.0, 5.0)  # of features to images
_RIDGES = (1e-7, 0.01)  # almost none, and a good one
_WRONG = 0.2  # share of training labels that are flipped


def predict(config: Config) -> Claims:
    """Signs: a valley below the threshold, a second descent beyond it, and no peak under a ridge."""
    source = "Belkin et al. (2019); Deng, Kammoun, Thrampoulidis (2022)"
    claims = [
        negative(f"digits_{name}", f"digits: {words}", source)
        for name, words in (
            ("first", "test error at 0.2 n features minus that where labels become separable"),
            ("second", "test error at 5 n features minus that where labels become separable"),
            ("ridge", "peak of the test error with the ridge minus without"),
        )
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def measure(config: Config) -> xr.Dataset:
    """Logistic regression on ReLU features of the parity of 8×8 digits, a share of the labels flipped."""
    runs = np.array([_one(config, seed) for seed in range(config.seeds)])  # seed, ridge, ratio, kind
    test, train = runs[..., 0], runs[..., 1]
    place = (train[:, 0] == 0).argmax(axis=1)  # the first width that separates
    rows = np.arange(config.seeds)
    peak = test[rows, 0, place]
    signs = {
        "digits_first": test[:, 0, _RATIOS.index(0.2)] - peak,
        "digits_second": test[:, 0, -1] - peak,
        "digits_ridge": test[rows, 1, place] - peak,
    }
    values: dict[str, Any] = averages(signs, None)
    for k, kind in enumerate(("test", "train")):
        mean, error = mean_and_error(runs[..., k])
        values |= {f"digits_{kind}_{r}": ("digits_at", mean[r]) for r in (0, 1)}
        values |= {f"digits_{kind}_{r}_error": ("digits_at", error[r]) for r in (0, 1)}
    return xr.Dataset(values, {"digits_at": list(_RATIOS)})


def _one(config: Config, seed: int) -> np.ndarray:
    """Test and training error [ridge, ratio, 2] of one draw; narrower models see the first of the same features."""
    rng = np.random.default_rng((config.seed, seed))
    split = data.digits(config.images, key=jax.random.fold_in(jax.random.key(config.seed), seed))
    mean = np.asarray(split.x, float).mean(axis=0)
    width = round(max(_RATIOS) * config.images)
    weights = rng.standard_normal((split.x.shape[1], width))
    images = [np.asarray(part, float) - mean for part in (split.x, split.x_test)]
    scale = np.sqrt((images[0] ** 2).sum(axis=1).mean())
    seen, fresh = (np.maximum(part @ weights / scale, 0) for part in images)
    labels, truth = (np.where(np.asarray(part) % 2 == 0, 1.0, -1.0) for part in (split.y, split.y_test))
    labels = np.where(rng.random(len(labels)) < _WRONG, -labels, labels)

    def errors(ridge: float, ratio: float) -> tuple[float, float]:
        p = round(ratio * config.images)
        b = newton(seen[:, :p] * labels[:, None] / np.sqrt(p), ridge) / np.sqrt(p)
        return float((fresh[:, :p] @ b * truth <= 0).mean()), float((seen[:, :p] @ b * labels <= 0).mean())

    return np.array([[errors(ridge, ratio) for ratio in _RATIOS] for ridge in _RIDGES])


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test errors with and without a ridge, and the training error that falls to 0."""
    blue, red, green = figures.PALETTE[:3]
    series = (("test_0", "test, no ridge", blue, "o"), ("test_1", "test, ridge", red, "s"),
              ("train_0", "training, no ridge", green, "^"))  # fmt: skip
    for name, label, color, marker in series:
        mean, error = dataset[f"digits_{name}"], dataset[f"digits_{name}_error"]
        ax.plot(dataset.digits_at, mean, color=color, linewidth=1.0, alpha=0.6)
        figures.points(ax, dataset.digits_at, mean, error, label=label, color=color, marker=marker)
    figures.label_axes(ax, "random features per image", "misclassification", xscale="log")
    ax.set_title(f"digits, even or odd, {_WRONG:.0%} wrong labels", pad=24)
    figures.ticks_at(ax.xaxis, np.array([0.05, 0.2, 0.5, 1.0, 2.0, 5.0]), most=6)
    ax.set_ylim(-0.02, 0.47)
    ax.legend(loc="upper right", ncols=2)


STUDY = Study("digits", predict, measure, draw)
