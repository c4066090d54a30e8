"""Random features of real digits: the peak at p = n, the second descent, and the ridge that removes the peak."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import data, figures
from jaxtheory.double_descent import width_path
from jaxtheory.kernels import random_features
from jaxtheory.lecture.claims import Claim, Claims, averaged, negative, statistical
from jaxtheory.lecture.double_descent.paths import named_path, numbered, ridge_label, swept_paths
from jaxtheory.lecture.study import Study


def predict(config: Any) -> Claims:
    """The place of the peak, what lies beyond it, and what a ridge changes."""
    claims = (
        Claim(
            "peak", "digits: the median test error peaks at p/n", "Belkin, Hsu, Xu (2020), Thm 1", 1.0,
            "theory: 1 + p/|n−p| is under 50 beyond, and of order n at the peak", tolerance=0.02,
        ),
        Claim(
            "round_off", "digits: largest training error at p ≥ n, in units of (eps · condition)² ‖y‖²",
            "Higham (2002), Thm 21.1", 1.0, "theory: backward stability", relation="<=",
        ),
        negative("second_descent", "digits: test error at the largest p, minus the lowest at p < n",
                 "Belkin et al. (2019)"),
        statistical("rise", "digits: largest rise with p of the test error, best ridge over none",
                    "Nakkiran, Venkat, Kakade, Ma (2021), Thm 1", 0.0, over="over seeds", relation="<=",
                    rival=(1.0, "a ridge changes nothing")),
        statistical("leave_one_out",
                    "digits: leave-one-out minus training error over test minus training error, best ridge",
                    "Patil, Wei, Rinaldo, Tibshirani (2021), Thm 4.1", 1.0, over="over seeds",
                    rival=(0.0, "that of the training error")),
    )  # fmt: skip
    return Claims(claims, {})


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Every path on the digits, min-norm and ridged."""
    images, labels = _pool(config)
    point = partial(_digits, config=config, images=images, labels=labels)
    return swept_paths(point, config.ridges, config.seeds, config, "digits")


def measure(config: Any) -> xr.Dataset:
    """Errors at every width, ridge and seed, and the claimed numbers."""
    found = numbered(sweep(config)["digits"])
    return found.assign(_digits_claims(found, config)).assign_attrs(samples=config.samples)


def _pool(config: Any) -> tuple[Array, Array]:
    """The images, centered and scaled to a mean squared norm of d, and their labels."""
    split = data.mnist5k(train=4999, dtype="float64" if config.x64 else "float32")
    images = jnp.concatenate([split.x, split.x_test])
    images = images - images.mean(axis=0, keepdims=True)
    return images / jnp.sqrt((images**2).mean()), jnp.concatenate([split.y, split.y_test])


def _digits(
    ridge: Float[Array, ""], seed: Array, key: PRNGKeyArray, *, config: Any, images: Array, labels: Array
) -> dict[str, object]:
    """One path on the digits: which images train, and the random features, are drawn from `key`."""
    cut, draw = jax.random.split(key)
    order = jax.random.permutation(cut, len(images))[: config.images]
    features = random_features(images[order], config.width, draw, activation=config.activation)
    targets = data.one_hot(labels[order], 10, dtype=images.dtype)
    n = config.samples
    return named_path(width_path(features[:n], targets[:n], features[n:], targets[n:], ridge=ridge))


def _digits_claims(paths: xr.Dataset, config: Any) -> dict[str, float]:
    """The measured side of the claims about digits."""
    n, bare = config.samples, paths.sel(ridge=0.0)
    over = bare.sel(width=slice(n, None))
    eps = (np.finfo(over.train_mse.dtype).eps * over.condition) ** 2  # ‖y‖² = 1: targets are one-hot
    under = bare.sel(width=slice(None, n - 1)).test_mse
    lowest = under.isel(
        width=int(under.mean("seed").values.argmin())
    )  # chosen by these draws: in the claim's disfavour
    best = paths.test_mse.isel(ridge=paths.test_mse.mean("seed").argmin("ridge"))
    unit = float(_rise(bare.test_mse).mean("seed"))
    last = paths.isel(width=-1, ridge=int(paths.test_mse.isel(width=-1).mean("seed").values.argmin()))
    return {
        "peak": float(bare.test_mse.median("seed").idxmax("width")) / n,
        "round_off": float((over.train_mse / eps).max()),
        **averaged("second_descent", bare.test_mse.isel(width=-1) - lowest),
        **averaged("rise", _rise(best) / unit),
        **averaged(
            "leave_one_out", (last.loo_mse - last.train_mse) / float((last.test_mse - last.train_mse).mean("seed"))
        ),
    }


def _rise(error: xr.DataArray) -> xr.DataArray:
    """The largest rise with the width of the mean over seeds above its running minimum, seed by seed."""
    rises = error - error.isel(width=_running_argmin(error.mean("seed").values)).assign_coords(width=error.width)
    return rises.isel(width=int(rises.mean("seed").values.argmax()))


def _running_argmin(values: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(np.where(values <= np.minimum.accumulate(values), np.arange(len(values)), 0))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test squared error over features per sample."""
    _draw_curves(ax, dataset, "test_mse")
    title = f"MNIST, n = {dataset.attrs['samples']:,}: random features"
    figures.label_axes(ax, "features per sample, $p/n$", "test squared error", title, yscale="log")
    peak = float(dataset.test_mse.sel(ridge=0.0).median("seed").max())
    ax.set_ylim(0.7 * float(dataset.test_mse.median("seed").min()), 100)
    ax.annotate(f"to {float(f'{peak:.1g}'):,.0f}", (1.04, 70), fontsize=12, color=figures.PALETTE[0])
    ax.legend()


def draw_errors(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Misclassification of the same fits."""
    _draw_curves(ax, dataset, "test_error")
    what = "test misclassification rate"
    figures.label_axes(ax, "features per sample, $p/n$", what, "the same fits, as classifiers")


def _draw_curves(ax: Axes, dataset: xr.Dataset, name: str) -> None:
    """A curve a ridge, the threshold, and the first minimum."""
    samples = dataset.attrs["samples"]
    for color, ridge in zip(figures.PALETTE, dataset.ridge.values.tolist(), strict=False):
        _curve(ax, dataset[name].sel(ridge=ridge), samples, ridge_label(ridge), color)
    figures.threshold(ax, 1.0, "$p = n$")
    first = dataset[name].sel(ridge=0.0, width=slice(None, samples)).median("seed").min()
    ax.axhline(float(first), color="#555555", linestyle=":", linewidth=1.3, label="first minimum")


def _curve(ax: Axes, values: xr.DataArray, samples: int, label: str, color: str) -> None:
    """Median over seeds, and their range; every width is a point, so the points are a line."""
    ratio = values.width.values / samples
    figures.band(ax, ratio, values.min("seed").values, values.max("seed").values, color=color)
    ax.plot(ratio, values.median("seed").values, color=color, label=label, linewidth=1.6)


STUDY = Study("digits", predict, measure, draw, sweep)
