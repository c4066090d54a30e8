"""Random features on the sphere, where the curve over widths is a theorem (Mei and Montanari 2022)."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import data, figures
from jaxtheory.double_descent import Asymptotics, mei_montanari, width_path
from jaxtheory.kernels import random_features
from jaxtheory.lecture.claims import Claim, Claims, averages, statistical
from jaxtheory.lecture.double_descent.paths import named_path, numbered, ridge_label, swept_paths
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study

_PER_DIMENSION, _NOISE, _TEACHERS, _TESTS = 2, 0.2, 10, 500  # of the sphere panel
_RATIOS = (0.5, 2.0, 3.0)  # of features to samples, where the ridgeless law is judged


class _Sphere(NamedTuple):
    """The design of Mei and Montanari: d, n, the largest N."""

    dimension: int
    samples: int
    width: int

    @classmethod
    def of(cls, config: Any) -> "_Sphere":
        samples = _PER_DIMENSION * config.dimension
        return cls(config.dimension, samples, 3 * samples)

    def law(self, width: Array, ridge: float, activation: str) -> Asymptotics:
        """The limit at N = `width`; a ridge added to ZᵀZ is their λ times nN/d."""
        lam = ridge * self.dimension / (self.samples * width)
        ratios = width / self.dimension, self.samples / self.dimension
        return mei_montanari(*ratios, lam, activation=activation, signal=1.0, noise=_NOISE)


def predict(config: Any) -> Claims:
    """The curves of the law, and points of it with and without a ridge."""
    sphere = _Sphere.of(config)
    widths = jnp.arange(1, sphere.width + 1, dtype=float)
    curves = {
        f"ridge {r:g}": sphere.law(widths, r, config.activation).excess.tolist() for r in (0.0, *config.sphere_ridges)
    }
    ridgeless = [_at_ratio(config, sphere, ratio) for ratio in _RATIOS]
    ridged = [_at_threshold(config, sphere, ridge) for ridge in config.sphere_ridges]
    return Claims((*ridgeless, *ridged), curves)


def _at_ratio(config: Any, sphere: _Sphere, ratio: float) -> Claim:
    width = round(ratio * sphere.samples)
    law = sphere.law(jnp.asarray(float(width)), 0.0, config.activation)
    statement = f"sphere: excess risk without ridge at N/n = {ratio:g}"
    return _sphere_claim(f"sphere_{ratio:g}", statement, law, float(abs(sphere.samples - width)), sphere)


def _at_threshold(config: Any, sphere: _Sphere, ridge: float) -> Claim:
    law = sphere.law(jnp.asarray(float(sphere.samples)), ridge, config.activation)
    free = sphere.samples * float(jnp.sqrt(law.train / (law.excess + _NOISE)))  # samples that the fit does not use up
    statement = f"sphere: excess risk at N = n with ridge {ridge:g}"
    return _sphere_claim(f"ridge_{ridge:g}", statement, law, free, sphere)


def _sphere_claim(name: str, statement: str, law: Asymptotics, free: float, sphere: _Sphere) -> Claim:
    """A point of the law, with its distance from finite size: d and the free dimensions are known to ±1."""
    excess, bias = float(law.excess), float(law.bias)
    remainder = excess * (1 / free + 1 / sphere.dimension)
    source, basis = "Mei, Montanari (2022), Thm 2", "theory: finite size, 1/d + 1/free dimensions"
    return statistical(name, statement, source, excess, basis, tolerance=remainder,
                       rival=(bias, "bias alone: labels without noise"))  # fmt: skip


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Every path on the sphere, min-norm and ridged."""
    return swept_paths(partial(_sphere, config=config), config.sphere_ridges, config.sphere_seeds, config, "sphere")


def measure(config: Any) -> xr.Dataset:
    """Excess risk at every width, ridge and seed, and the claimed points."""
    found = numbered(sweep(config)["sphere"])
    panel = found.rename({name: f"sphere_{name}" for name in (*found, *found.dims)})
    return panel.assign(_sphere_claims(found, config)).assign_attrs(sphere_samples=_Sphere.of(config).samples)


def _sphere(ridge: Float[Array, ""], seed: Array, key: PRNGKeyArray, *, config: Any) -> dict[str, object]:
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
    return named_path(path._replace(test_mse=path.test_mse / _TEACHERS, train_mse=path.train_mse / _TEACHERS))


def _sphere_claims(paths: xr.Dataset, config: Any) -> dict[str, float]:
    """The measured side of the claims about the sphere."""
    samples = _Sphere.of(config).samples
    measured = {f"sphere_{q:g}": paths.test_mse.sel(ridge=0.0, width=round(q * samples)) for q in _RATIOS}
    measured |= {
        f"ridge_{r:g}": paths.test_mse.sel(ridge=r, width=samples, method="nearest") for r in config.sphere_ridges
    }
    return averages(measured)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Excess risk over features per sample."""
    ratio = dataset.sphere_width.values / dataset.attrs["sphere_samples"]
    picked = np.linspace(0.02 * len(ratio), len(ratio), 28).astype(int) - 1
    for color, ridge in zip(figures.PALETTE, dataset.sphere_ridge.values.tolist(), strict=False):
        figures.theory_line(ax, ratio, claims.curves[f"ridge {ridge:g}"], color=color, label=ridge_label(ridge))
        values = dataset.sphere_test_mse.sel(sphere_ridge=ridge).isel(sphere_width=picked)
        draw_means(ax, ratio[picked], values, "sphere_seed", color=color)
    figures.threshold(ax, 1.0, "$N = n$")
    figures.label_axes(
        ax, "features per sample, $N/n$", "excess risk", "sphere: Mei–Montanari (lines), measured", yscale="log"
    )
    ax.set_ylim(0.1, 20)
    ax.legend()


STUDY = Study("sphere", predict, measure, draw, sweep)
