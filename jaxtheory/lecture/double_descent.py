"""Double descent: random features on real digits at every width, beside the exact law on the sphere.

The test error of least squares on p random features of n images falls, rises without bound at p = n, and falls
again below its first minimum; the right ridge removes the peak. On the sphere the same curve is a theorem, and so are
the three descents of tanh features, and what more samples and more features do to a fit of few Gaussian features.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import data, figures, sweeps
from jaxtheory.double_descent import Asymptotics, WidthPath, mei_montanari, width_path
from jaxtheory.kernels import random_features
from jaxtheory.lecture import double_descent_laws
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged
from jaxtheory.lecture.double_descent_laws import Laws
from jaxtheory.lecture.study import SweptConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import Status

_IMAGES = 5000
_PER_DIMENSION, _NOISE, _TEACHERS, _TESTS = 2, 0.2, 10, 500  # of the sphere panel
_RATIOS = (0.5, 2.0, 3.0)  # of features to samples, where the ridgeless law is judged


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of the digits panel and of the sphere panel."""

    out: Path = field(default=Path("runs/double_descent"), compare=False)
    """folder for predictions, sweeps, data, table and figure; an interrupted run continues there"""
    x64: bool = False
    """compute in float64"""
    samples: int = 600
    """training images n, of MNIST's 5,000; the rest is for testing"""
    width: int = 1800
    """largest number of random features of an image"""
    activation: str = "relu"
    """of the random features"""
    ridges: tuple[float, ...] = (1.0, 10.0, 100.0)
    """positive ridges, added to the unnormalized Gram; ridge 0, the min-norm solution, is always there"""
    seeds: int = 6
    """independent draws of images and features"""
    dimension: int = 100
    """d of the sphere panel, with n = 2d samples and up to 6d features"""
    sphere_ridges: tuple[float, ...] = (1.0, 20.0)
    """positive ridges of the sphere panel"""
    sphere_seeds: int = 24
    """independent draws of the sphere panel"""
    law_dimension: int = 48
    """d of the panels of exact laws: 10d tanh features of d dimensions; 2d Gaussian features"""
    law_seeds: int = 10
    """independent draws of the tanh features, a sixteenth of those of the Gaussian features"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        published = replace(quick, preset="paper", x64=True, samples=4000, width=16000, seeds=20)
        published = replace(published, dimension=300, sphere_seeds=50, law_dimension=200, law_seeds=50)
        return published if preset == "paper" else quick

    @property
    def laws(self) -> Laws:
        """Sizes of the panels of exact laws."""
        return Laws(self.law_dimension, self.law_seeds, self.seed, "float64" if self.x64 else "float32")


class _Sphere(NamedTuple):
    """The design of Mei and Montanari: d, n, the largest N."""

    dimension: int
    samples: int
    width: int

    @classmethod
    def of(cls, config: Config) -> "_Sphere":
        samples = _PER_DIMENSION * config.dimension
        return cls(config.dimension, samples, 3 * samples)

    def law(self, width: Array, ridge: float, activation: str) -> Asymptotics:
        """The limit at N = `width`; a ridge added to ZᵀZ is their λ times nN/d."""
        lam = ridge * self.dimension / (self.samples * width)
        ratios = width / self.dimension, self.samples / self.dimension
        return mei_montanari(*ratios, lam, activation=activation, signal=1.0, noise=_NOISE)


def predict(config: Config) -> Claims:
    """What Mei and Montanari, and the algebra of least squares, say of every panel."""
    sphere = _Sphere.of(config)
    widths = jnp.arange(1, sphere.width + 1, dtype=float)
    curves = {
        f"ridge {r:g}": sphere.law(widths, r, config.activation).excess.tolist() for r in (0.0, *config.sphere_ridges)
    }
    ridgeless = [_at_ratio(config, sphere, ratio) for ratio in _RATIOS]
    ridged = [_at_threshold(config, sphere, ridge) for ridge in config.sphere_ridges]
    exact = double_descent_laws.predict(config.laws)
    return Claims((*_about_digits(), *ridgeless, *ridged, *exact.claims), curves | exact.curves)


def _about_digits() -> tuple[Claim, ...]:
    return (
        Claim(
            "peak", "digits: the median test error peaks at p/n", "Belkin, Hsu, Xu (2020), Thm 1", 1.0,
            "theory: 1 + p/|n−p| is under 50 beyond, and of order n at the peak", tolerance=0.02,
        ),
        Claim(
            "round_off", "digits: largest training error at p ≥ n, in units of (eps · condition)² ‖y‖²",
            "Higham (2002), Thm 21.1", 1.0, "theory: backward stability", relation="<=",
        ),
        Claim(
            "second_descent", "digits: test error at the largest p, minus the lowest at p < n", "Belkin et al. (2019)",
            0.0, "significance: 4.5 standard errors below", standard_errors=-SIGNIFICANT, relation="<=",
        ),
        Claim(
            "rise", "digits: largest rise with p of the test error, best ridge over none",
            "Nakkiran, Venkat, Kakade, Ma (2021), Thm 1", 0.0, "4.5 standard errors over seeds",
            standard_errors=SIGNIFICANT, relation="<=", rival=1.0, rival_law="a ridge changes nothing",
        ),
        Claim(
            "leave_one_out", "digits: leave-one-out minus training error over test minus training error, best ridge",
            "Patil, Wei, Rinaldo, Tibshirani (2021), Thm 4.1", 1.0, "4.5 standard errors over seeds",
            standard_errors=SIGNIFICANT, rival=0.0, rival_law="that of the training error",
        ),
    )  # fmt: skip


def _at_ratio(config: Config, sphere: _Sphere, ratio: float) -> Claim:
    width = round(ratio * sphere.samples)
    law = sphere.law(jnp.asarray(float(width)), 0.0, config.activation)
    statement = f"sphere: excess risk without ridge at N/n = {ratio:g}"
    return _sphere_claim(f"sphere_{ratio:g}", statement, law, float(abs(sphere.samples - width)), sphere)


def _at_threshold(config: Config, sphere: _Sphere, ridge: float) -> Claim:
    law = sphere.law(jnp.asarray(float(sphere.samples)), ridge, config.activation)
    free = sphere.samples * float(jnp.sqrt(law.train / (law.excess + _NOISE)))  # samples that the fit does not use up
    statement = f"sphere: excess risk at N = n with ridge {ridge:g}"
    return _sphere_claim(f"ridge_{ridge:g}", statement, law, free, sphere)


def _sphere_claim(name: str, statement: str, law: Asymptotics, free: float, sphere: _Sphere) -> Claim:
    """A point of the law, with its distance from finite size: d and the free dimensions are known to ±1."""
    excess, bias = float(law.excess), float(law.bias)
    remainder = excess * (1 / free + 1 / sphere.dimension)
    source, basis = "Mei, Montanari (2022), Thm 2", "theory: finite size, 1/d + 1/free dimensions; 4.5 standard errors"
    return Claim(name, statement, source, excess, basis, tolerance=remainder, standard_errors=SIGNIFICANT, rival=bias,
                 rival_law="bias alone: labels without noise")  # fmt: skip


def measure(config: Config) -> xr.Dataset:
    """Double descent on MNIST digits and on the sphere, the whole curve over widths; and the exact laws."""
    swept = sweep(config)
    on_digits, on_sphere = (_joined(swept[f"{name}-min-norm"], swept[f"{name}-ridge"]) for name in ("digits", "sphere"))
    panels = on_digits.merge(on_sphere.rename({name: f"sphere_{name}" for name in (*on_sphere, *on_sphere.dims)}))
    panels = panels.assign(_digits_claims(on_digits, config) | _sphere_claims(on_sphere, config))
    laws = double_descent_laws.measure(config.laws)
    panels = panels.assign_attrs(samples=config.samples, sphere_samples=_Sphere.of(config).samples, **laws.attrs)
    return panels.merge(laws)


def sweep(config: Config) -> dict[str, xr.Dataset]:
    """Every path, on digits and on the sphere, min-norm and ridged."""
    images, labels = _pool(config)
    digits = partial(_digits, config=config, images=images, labels=labels)
    on_digits = _paths(digits, config.ridges, config.seeds, config, "digits")
    return on_digits | _paths(
        partial(_sphere, config=config), config.sphere_ridges, config.sphere_seeds, config, "sphere"
    )


def _paths(point: partial, ridges: tuple[float, ...], seeds: int, config: Config, name: str) -> dict[str, xr.Dataset]:
    """The min-norm solution and every ridge on the same draws."""
    run = partial(sweeps.run, key=config.seed, shard=config.shard)
    bare = run(partial(point, ridge=0.0), sweeps.grid(seed=range(seeds)), out=config.out / f"{name}-min-norm.zarr")
    grid = sweeps.grid(ridge=jnp.asarray(ridges), seed=range(seeds))
    ridged = run(point, grid, out=config.out / f"{name}-ridge.zarr", paired=("ridge",))
    return {f"{name}-min-norm": bare, f"{name}-ridge": ridged}


def _joined(bare: xr.Dataset, ridged: xr.Dataset) -> xr.Dataset:
    """Ridge × seed × width, the min-norm solution at ridge 0."""
    both = xr.concat([bare.expand_dims(ridge=np.zeros(1, ridged.ridge.dtype)), ridged], "ridge", data_vars="all")
    return both.assign_coords(width=np.arange(1, both.sizes["width"] + 1))


def _pool(config: Config) -> tuple[Array, Array]:
    """All images, centered and scaled to a mean squared norm of d, and their labels."""
    split = data.mnist5k(train=_IMAGES - 1, dtype="float64" if config.x64 else "float32")
    images = jnp.concatenate([split.x, split.x_test])
    images = images - images.mean(axis=0, keepdims=True)
    return images / jnp.sqrt((images**2).mean()), jnp.concatenate([split.y, split.y_test])


def _digits(
    ridge: float | Float[Array, ""], seed: Array, key: PRNGKeyArray, *, config: Config, images: Array, labels: Array
) -> dict[str, object]:
    """One path on the digits: which images train, and the random features, are drawn from `key`."""
    cut, draw = jax.random.split(key)
    order = jax.random.permutation(cut, len(images))
    features = random_features(images[order], config.width, draw, activation=config.activation)
    targets = data.one_hot(labels[order], 10, dtype=images.dtype)
    n = config.samples
    return _named(width_path(features[:n], targets[:n], features[n:], targets[n:], ridge=ridge))


def _sphere(ridge: float | Float[Array, ""], seed: Array, key: PRNGKeyArray, *, config: Config) -> dict[str, object]:
    """One path on the sphere: linear teachers of norm 1, clean test targets, one feature draw for all teachers."""
    dimension, samples, width = _Sphere.of(config)
    keys = jax.random.split(key, 4)
    dtype = "float64" if config.x64 else "float32"
    x = data.sphere(samples + _TESTS, dimension, keys[0], dtype=dtype).x
    beta = data.sphere(_TEACHERS, dimension, keys[1], dtype=dtype).x.T / np.sqrt(dimension)
    signal = jnp.matmul(x, beta, precision="highest")
    noise = np.sqrt(_NOISE) * jax.random.normal(keys[2], (samples, _TEACHERS), x.dtype)
    features = random_features(x, width, keys[3], activation=config.activation, weights="sphere")
    path = width_path(features[:samples], signal[:samples] + noise, features[samples:], signal[samples:], ridge=ridge)
    return _named(path._replace(test_mse=path.test_mse / _TEACHERS, train_mse=path.train_mse / _TEACHERS))


def _named(path: WidthPath) -> dict[str, object]:
    """The path as outputs of a sweep; its worst status is kept beside, for one width must not fail the curve."""
    curves = ("train_mse", "test_mse", "test_error", "norm", "loo_mse", "condition")
    fields = {name: sweeps.named(getattr(path, name), "width") for name in curves}
    return fields | {"width_status": sweeps.named(path.status, "width"), "status": jnp.int32(Status.OK)}


def _digits_claims(paths: xr.Dataset, config: Config) -> dict[str, float]:
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


def _sphere_claims(paths: xr.Dataset, config: Config) -> dict[str, float]:
    """The measured side of the claims about the sphere."""
    samples = _Sphere.of(config).samples
    measured = {f"sphere_{q:g}": paths.test_mse.sel(ridge=0.0, width=round(q * samples)) for q in _RATIOS}
    measured |= {
        f"ridge_{r:g}": paths.test_mse.sel(ridge=r, width=samples, method="nearest") for r in config.sphere_ridges
    }
    return {key: value for name, values in measured.items() for key, value in averaged(name, values).items()}


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Digits: squared error and misclassification; sphere and exact laws: theory as lines, measurement as points."""
    figure, (squared, wrong, sphere, *exact) = figures.canvas(rows=2, columns=3, panel=(5.6, 4.8))
    samples = dataset.attrs["samples"]
    for ax, name in ((squared, "test_mse"), (wrong, "test_error")):
        for color, ridge in zip(figures.PALETTE, dataset.ridge.values.tolist(), strict=False):
            _curve(ax, dataset[name].sel(ridge=ridge), samples, _ridge_label(ridge), color)
        figures.threshold(ax, 1.0, "$p = n$")
        first = dataset[name].sel(ridge=0.0, width=slice(None, samples)).median("seed").min()
        ax.axhline(float(first), color="#555555", linestyle=":", linewidth=1.3, label="first minimum")
    title = f"MNIST, n = {samples:,}: random features"
    figures.label_axes(squared, "features per sample, $p/n$", "test squared error", title, yscale="log")
    figures.label_axes(
        wrong, "features per sample, $p/n$", "test misclassification rate", "the same fits, as classifiers"
    )
    _draw_sphere(sphere, dataset, claims)
    double_descent_laws.draw(exact, dataset, claims)
    peak = float(dataset.test_mse.sel(ridge=0.0).median("seed").max())
    squared.set_ylim(0.7 * float(dataset.test_mse.median("seed").min()), 100)
    squared.annotate(f"to {float(f'{peak:.1g}'):,.0f}", (1.04, 70), fontsize=12, color=figures.PALETTE[0])
    for ax in (squared, sphere):
        ax.legend()
    return figure


def _ridge_label(ridge: float) -> str:
    return f"ridge {ridge:g}" if ridge else "min-norm (ridge 0)"


def _curve(ax: Axes, values: xr.DataArray, samples: int, label: str, color: str) -> None:
    """Median over seeds, and their range; every width is a point, so the points are a line."""
    ratio = values.width.values / samples
    figures.band(ax, ratio, values.min("seed").values, values.max("seed").values, color=color)
    ax.plot(ratio, values.median("seed").values, color=color, label=label, linewidth=1.6)


def _draw_sphere(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    ratio = dataset.sphere_width.values / dataset.attrs["sphere_samples"]
    picked = np.linspace(0.02 * len(ratio), len(ratio), 28).astype(int) - 1
    for color, ridge in zip(figures.PALETTE, dataset.sphere_ridge.values.tolist(), strict=False):
        figures.theory_line(ax, ratio, claims.curves[f"ridge {ridge:g}"], color=color, label=_ridge_label(ridge))
        values = dataset.sphere_test_mse.sel(sphere_ridge=ridge).isel(sphere_width=picked)
        mean, spread = values.mean("sphere_seed").values, values.std("sphere_seed", ddof=1).values
        figures.points(ax, ratio[picked], mean, spread / np.sqrt(values.sizes["sphere_seed"]), color=color)
    figures.threshold(ax, 1.0, "$N = n$")
    figures.label_axes(
        ax, "features per sample, $N/n$", "excess risk", "sphere: Mei–Montanari (lines), measured", yscale="log"
    )
    ax.set_ylim(0.1, 20)


TOPIC = Topic("double-descent", Config, predict, measure, draw, sweep)
