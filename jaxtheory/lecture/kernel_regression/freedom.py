"""Spectra of the kernels, and the degrees of freedom N(δ) = tr K (K + δ)⁻¹ by stochastic Lanczos quadrature."""

import math
from functools import partial
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures, kernels
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.kernel_regression.population import NAMES, Population, kernel_functions, modes
from jaxtheory.lecture.study import Study

_ORDER, _PROBES = 60, 8
_FACTORS = np.array([1.0, 10.0, 100.0, 1000.0])  # of the ridge, at the scale of all images; the second is claimed


def _ridges(config: Any) -> np.ndarray:
    return config.ridge * config.images / config.sizes[-1] * _FACTORS


def predict(config: Any) -> Claims:
    """N(δ) of every kernel from its eigenvalues."""
    ridge, images, claims = float(_ridges(config)[1]), config.images, []
    for name, (eigs, _) in modes(config).items():
        level = float(eigs.sum())  # the mean eigenvalue of the Gram matrix
        remainder = images * math.exp(-4 * _ORDER / math.sqrt(1 + images * float(eigs[0]) / ridge))
        claims.append(statistical(
            f"{name} trace", f"digits, {name}: N({ridge:.2g}) of all images, by Lanczos quadrature",
            "Ubaru, Chen, Saad (2017), Thm 4.1", float(kernels.degrees_of_freedom(images * eigs, ridge)),
            "theory: n exp(−4 order/√condition)", tolerance=remainder,
            rival=(images * level / (level + ridge), "all eigenvalues equal"),
        ))  # fmt: skip
    return Claims(tuple(claims), {f"{name} eigenvalues": eigs.tolist() for name, (eigs, _) in modes(config).items()})


def measure(config: Any) -> xr.Dataset:
    """N of the Gram matrix of all images at several ridges."""
    x, at, found = Population.of(config).x, _ridges(config), []
    for i, kernel in enumerate(kernel_functions(config).values()):
        key, gram = jax.random.fold_in(jax.random.key(config.seed), i), kernels.gram(kernel, x)
        density = kernels.lanczos_density(gram, None, key, order=min(_ORDER, config.images - 1), probes=_PROBES)
        found.append([kernels.spectral_sum(density, partial(_share, ridge=ridge)) for ridge in at])
    mean, error = (np.array([[float(one[j]) for one in row] for row in found]) for j in range(2))
    dims = ("trace_kernel", "trace_ridge")
    dataset = xr.Dataset({"trace": (dims, mean), "trace_error": (dims, error)}, {"trace_ridge": at})
    claimed = zip(NAMES, mean[:, 1], error[:, 1], strict=True)
    scalars = (estimated(f"{name} trace", value, spread, _PROBES) for name, value, spread in claimed)
    return dataset.assign({key: number for one in scalars for key, number in one.items()})


def _share(values: Array, *, ridge: float) -> Array:
    return values / (values + ridge)


def draw_spectra(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Eigenvalues by index, a colour a kernel."""
    for color, name in zip(figures.PALETTE, NAMES, strict=False):
        eigs = np.array(claims.curves[f"{name} eigenvalues"])
        kept = eigs > eigs[0] * 1e-12
        figures.theory_line(ax, np.arange(1, len(eigs) + 1)[kept], eigs[kept], color=color, label=name)
    title = "spectra of $K/M$, all $M$ images"
    figures.label_axes(ax, "index $i$", r"eigenvalue $\lambda_i$", title, xscale="log", yscale="log")


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """N over the ridge, a colour a kernel."""
    ridges = np.geomspace(dataset.trace_ridge[0] / 2, dataset.trace_ridge[-1] * 2, 60)
    for i, (color, name) in enumerate(zip(figures.PALETTE, NAMES, strict=False)):
        eigs = np.array(claims.curves[f"{name} eigenvalues"])
        eigs = len(eigs) * eigs[None]
        figures.theory_line(ax, ridges, (eigs / (eigs + ridges[:, None])).sum(axis=1), color=color, label=name)
        found = dataset.isel(trace_kernel=i)
        figures.points(ax, dataset.trace_ridge, found.trace, found.trace_error, color=color)
    what = r"$\mathrm{tr}\,K(K+\delta)^{-1}$"
    figures.label_axes(ax, r"ridge $\delta$", what, "degrees of freedom", xscale="log", yscale="log")


STUDY = Study("freedom", predict, measure, draw)
