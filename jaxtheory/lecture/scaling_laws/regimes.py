"""The four regimes of Bahri et al.: resolution and variance, of data and of width, each law beside min-norm fits."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, statistical
from jaxtheory.lecture.exponents import exponents, named, slope
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.scaling_laws.config import Config
from jaxtheory.lecture.study import Study
from jaxtheory.scaling import four_regimes

_ALPHA, _BETA, _MODES = 1.0, 0.3, 400
_FIXED, _SIZES = 8, (32, 48, 64, 96, 128)
_KINDS = {
    "data": ("data, at infinite width", "data"), "width": ("width, at infinite data", "width"),
    "data_variance": ("data beyond a fixed width", "variance"),
    "width_variance": ("width beyond fixed data", "variance"),
}  # fmt: skip


def _spectrum() -> tuple[np.ndarray, np.ndarray]:
    i = np.arange(1.0, _MODES + 1)
    return i ** (-2 * _ALPHA), i**-_BETA


def predict(config: Config) -> Claims:
    """The local exponents of the laws, over the measured sizes; resolution and variance are each other's rivals."""
    sizes, dense = np.array(_SIZES, float), np.geomspace(_SIZES[0], _SIZES[-1], 40)
    both = jnp.asarray(np.concatenate([sizes, dense]))
    eigs, target = _spectrum()
    exact = four_regimes(jnp.asarray(eigs), jnp.asarray(target), both, float(_FIXED))
    laws = {law: np.asarray(getattr(exact, law)) for law in ("data", "width", "variance")}
    at = {law: risk[: len(sizes)] for law, risk in laws.items()}
    slopes = {kind: slope(_SIZES, at[law]) for kind, (_, law) in _KINDS.items()}
    claims = []
    for kind, (words, law) in _KINDS.items():
        free = sizes - (_FIXED if law == "variance" else 0)
        remainder = abs(slope(_SIZES, at[law] * (1 + 1 / free)) - slopes[kind])
        other = "data" if law == "variance" else "data_variance"
        claims.append(statistical(
            f"regimes_{kind}", f"four regimes: exponent in {words}", "Bahri et al. (2024); Simon et al. (2023)",
            slopes[kind], "theory: finite size, 1/(free dimensions)", tolerance=float(remainder),
            rival=(slopes[other], "limited by resolution" if law == "variance" else "limited by variance"),
        ))  # fmt: skip
    curves = {f"regimes_{law}": risk[len(sizes) :].tolist() for law, risk in laws.items()}
    return Claims(tuple(claims), curves | {"regimes_size": dense.tolist()})


def measure(config: Config) -> xr.Dataset:
    """Min-norm fits of independent data and features; all sizes of one draw are nested."""
    rng = np.random.default_rng(config.seed)
    found = np.array([_one_draw(rng) for _ in range(config.draws)])
    mean, error = mean_and_error(found)
    values: dict[str, Any] = {f"regimes_{kind}_mean": ("regimes_m", mean[at]) for at, kind in enumerate(_KINDS)}
    values |= {f"regimes_{kind}_mean_error": ("regimes_m", error[at]) for at, kind in enumerate(_KINDS)}
    for at, kind in enumerate(_KINDS):
        values |= named(f"regimes_{kind}", exponents(_SIZES, found[:, at]))
    return xr.Dataset(values, {"regimes_m": list(_SIZES)})


def _one_draw(rng: np.random.Generator) -> np.ndarray:
    """Risks [kind, size] of one set of samples and one set of features."""
    eigs, target = _spectrum()
    root, largest = np.sqrt(eigs), max(_SIZES)
    x, features = rng.standard_normal((largest, _MODES)) * root, rng.standard_normal((_MODES, largest))
    seen = root[:, None] * features
    by_sample, by_feature, both = x @ x.T, seen.T @ seen, x @ features
    y, right = x @ target, seen.T @ (root * target)

    def missed(beta: np.ndarray) -> float:
        return float((eigs * (beta - target) ** 2).sum())

    def infinite_width(n: int) -> float:
        return missed(np.linalg.solve(by_sample[:n, :n], y[:n]) @ x[:n])

    def infinite_data(width: int) -> float:
        return missed(features[:, :width] @ np.linalg.solve(by_feature[:width, :width], right[:width]))

    def finite(n: int, width: int) -> float:
        z = both[:n, :width]
        if n > width:
            return missed(features[:, :width] @ np.linalg.solve(z.T @ z, z.T @ y[:n]))
        return missed(features[:, :width] @ (z.T @ np.linalg.solve(z @ z.T, y[:n])))

    limits = infinite_data(_FIXED), infinite_width(_FIXED)
    rows = [
        (infinite_width(m), infinite_data(m), finite(m, _FIXED) - limits[0], finite(_FIXED, m) - limits[1])
        for m in _SIZES
    ]
    return np.array(rows).T


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Two risks and two excess risks, each on its law."""
    markers = ("o", "s", "o", "^")
    for at, (kind, (words, law)) in enumerate(_KINDS.items()):
        color = figures.PALETTE[at]
        if kind != "width_variance":
            line_color = "#777777" if law == "variance" else color
            figures.theory_line(ax, claims.curves["regimes_size"], claims.curves[f"regimes_{law}"], color=line_color)
        risk, error = dataset[f"regimes_{kind}_mean"], dataset[f"regimes_{kind}_mean_error"]
        slope = float(dataset[f"regimes_{kind}"])
        figures.points(ax, dataset.regimes_m, risk, error, color=color, marker=markers[at],
                       label=f"{words}: {slope:.2f}")  # fmt: skip
    figures.label_axes(ax, "size $m$", "risk, or excess over the limit", "four regimes and their exponents",
                       xscale="log", yscale="log")  # fmt: skip
    figures.ticks_at(ax.xaxis, np.array(_SIZES, float))
    ax.set_ylim(top=20 * float(dataset.regimes_data_variance_mean[0]))
    ax.legend(loc="upper right", fontsize=10)


STUDY = Study("regimes", predict, measure, draw)
