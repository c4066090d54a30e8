"""The ridgelet transform of a digit, by directions and offsets, and its integral back."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import data
from jaxtheory.expressivity import ridgelet
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.expressivity.images import draw_image
from jaxtheory.lecture.study import Study

_IMAGE, _IMAGE_SCALE, _ANGLES = 6, 18.0, 64  # derivative, |a| ≤ A and directions of the digit's transform
_OFFSET = 0.125  # between offsets


def predict(config: Any) -> Claims:
    """The blur of the truncated integral."""
    error, kinks = _digit_blur(_digit())
    claim = Claim(
        "digit", "relative error of a digit's ridgelet integral over |a| ≤ 18, K not fitted",
        "Sonoda, Murata (2017), Thm 5.6", error, "theory: kinks between nodes, r.m.s. step² max|T|/√720 a row, doubled",
        tolerance=float(np.hypot(error, 2 * kinks)) - error, rival=0.0, rival_law="no blur at any A",
    )  # fmt: skip
    return Claims((claim,), {})


def measure(config: Any) -> xr.Dataset:
    """The digit, its spectrum on one circle |a|, and the integral back."""
    smooth, sinogram, got = _digit_sum()
    images = {"digit_image": (("y", "x"), smooth), "digit_sum": (("y", "x"), got)}
    error = float(np.linalg.norm(got - smooth) / np.linalg.norm(smooth))
    return xr.Dataset({"sinogram": (("angle", "offset"), sinogram), "digit": error, **images})


def _digit() -> np.ndarray:
    """The spectrum of a digit on [−1, 1]², smoothed until 28 × 28 samples determine it, on a padded grid."""
    image = np.asarray(data.mnist5k(train=1).x_test[7], float).reshape(28, 28)
    return np.fft.fft2(image, (56, 56)) * np.exp(-((_radius() / 12) ** 2) / 2)


def _radius() -> np.ndarray:
    k = 2 * np.pi * np.fft.fftfreq(56, 2 / 28)
    return np.hypot(k[:, None], k[None, :])


def _digit_blur(spectrum: np.ndarray) -> tuple[float, float]:
    """Relative error by the law, and the r.m.s. of errors at kinks, as in `_blur`."""
    lost = spectrum * (1 - ridgelet.retained("relu", _IMAGE, 2, _radius() / _IMAGE_SCALE))
    smooth, gap = (np.fft.ifft2(part).real[:28, :28] for part in (spectrum, lost))
    largest = 15 / np.sqrt(2 * np.pi) * np.abs(smooth).mean() * 4  # sup |G^(6)| ‖f‖₁
    rows = np.sqrt(_ANGLES * (_scales() ** 2).sum()) * (_IMAGE_SCALE / len(_scales())) * (2 * np.pi / _ANGLES)
    kinks = rows * largest * _OFFSET**2 / np.sqrt(720) / abs(ridgelet.admissibility("relu", _IMAGE, 2))
    return float(np.linalg.norm(gap) / np.linalg.norm(smooth)), float(kinks / np.sqrt((smooth**2).mean()))


def _scales() -> np.ndarray:
    return (np.arange(45) + 0.5) * _IMAGE_SCALE / 45


def _digit_sum() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smoothed digit, |T| by direction and offset at |a| = 9, and S R f / K."""
    step = 2 / 28
    smooth = np.fft.ifft2(_digit()).real[:28, :28]
    axis = (np.arange(28) - 13.5) * step
    x = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2))
    polar = ridgelet.polar_grid(_IMAGE_SCALE, 1.42, radii=45, angles=_ANGLES, offset_step=_OFFSET, shift=0.2113)
    values, cell = jnp.asarray(smooth.ravel(), x.dtype), jnp.full(len(x), step**2, x.dtype)
    spectrum = ridgelet.transform_slices(
        values, x, cell, directions=polar.directions, scales=polar.scales, offsets=polar.offsets,
        frequencies=jnp.linspace(0, 44, 800), derivative=_IMAGE,
    )  # fmt: skip
    constant = ridgelet.admissibility("relu", _IMAGE, 2)
    got = ridgelet.reconstruct(spectrum.reshape(-1), polar.nodes, x, constant, activation="relu")
    return smooth, np.abs(np.asarray(spectrum[:, 22])), np.asarray(got).reshape(28, 28)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The spectrum by direction and offset."""
    reach = _IMAGE_SCALE * 1.42 + 9
    title, extent = "spectrum of a digit, $|a| = 9$", (-reach, reach, 0, 360)
    draw_image(ax, dataset.sinogram.values.T, title, "$b$", "angle of $a$, degrees", extent)
    ax.set_xlim(-15, 15)
    ax.set_yticks(range(0, 361, 90))


def draw_target(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The digit itself."""
    _draw_digit(ax, dataset.digit_image.values, "the digit $f$")


def draw_sum(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """What the integral gives back."""
    _draw_digit(ax, dataset.digit_sum.values, r"$S[R f]/K$ over $|a| \leq 18$")


def _draw_digit(ax: Axes, image: np.ndarray, title: str) -> None:
    draw_image(ax, image[::-1].T, title, "$x_1$", "$x_2$", (-1, 1, -1, 1))
    ax.set_aspect("equal")


STUDY = Study("digit", predict, measure, draw)
