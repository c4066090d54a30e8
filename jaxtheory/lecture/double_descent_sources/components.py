"""Shares of data, features and noise in the error of random features, from crossed draws, on their exact laws."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.double_descent import Components, variance_components
from jaxtheory.lecture.claims import Claim, Claims, averaged, statistical
from jaxtheory.lecture.double_descent_sources.config import Config
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study

_DECAY, _TARGET, _LAM, _NOISE = 1.2, 0.3, 1e-4, 0.25
_RATIOS = (0.2, 0.5, 1.0, 2.0, 5.0)  # of features to samples
_SHARES = ("bias", "data", "features", "data_features", "data_noise", "data_features_noise")
_DRAWN = {"bias": "bias", "data": "data", "features": "features", "interaction": "all interactions"}


def _law(config: Config, ratios: np.ndarray) -> Components:
    i = jnp.arange(1.0, 3 * config.samples + 1)
    n = float(config.samples)
    return variance_components(i**-_DECAY, i**-_TARGET, n, n * jnp.asarray(ratios), _LAM, _NOISE)


def predict(config: Config) -> Claims:
    """The excess at every width, and the interactions at width n; their rival is an error without interactions."""
    dense = np.geomspace(_RATIOS[0] / 1.3, _RATIOS[-1] * 1.3, 60)
    law = _law(config, np.concatenate([_RATIOS, dense]))
    at = {name: np.asarray(getattr(law, name)) for name in (*_SHARES, "excess")}
    at["interaction"] = at["data_features"] + at["data_features_noise"]
    basis = "theory: finite size, 10/n"
    few, peak = len(_RATIOS), _RATIOS.index(1.0)

    def claim(name: str, words: str, index: int, key: str, rival: float, law: str) -> Claim:
        value = float(at[key][index])
        return statistical(
            f"sources_{name}", f"sources: {words}", "Adlam, Pennington (2020); d'Ascoli et al. (2020)", value, basis,
            tolerance=10 * value / config.samples, rival=(rival, law),
        )  # fmt: skip

    excess = [
        claim(f"{ratio:g}", f"excess at {ratio:g} n features", k, "excess",
              float(at["excess"][k] - at["interaction"][k]), "no interactions")
        for k, ratio in enumerate(_RATIOS[:-1])
    ]  # fmt: skip
    words = "interactions of data with features at width n"
    peaked = claim(
        "interaction", words, peak, "interaction", float(at["interaction"][few - 1]), "those at 5 n features"
    )
    curves = {f"sources_{name}": at[name][few:].tolist() for name in (*_DRAWN, "data_noise", "excess")}
    return Claims((*excess, peaked), curves | {"sources_ratio": dense.tolist()})


def measure(config: Config) -> xr.Dataset:
    """Two data sets crossed with two draws of features: every share unbiased, averaged over noise and signs of β."""
    rng = np.random.default_rng(config.seed)
    shares = np.array([[_crossed(rng, config, ratio) for ratio in _RATIOS] for _ in range(config.crossings)])
    found = dict(zip(_SHARES, np.moveaxis(shares, 2, 0), strict=True))
    found["interaction"] = found["data_features"] + found["data_features_noise"]
    found["excess"] = shares.sum(axis=2)
    values: dict[str, Any] = {}
    for name, drawn in found.items():
        mean, error = mean_and_error(drawn)
        values |= {f"sources_{name}_mean": ("sources_at", mean), f"sources_{name}_mean_error": ("sources_at", error)}
    for k, ratio in enumerate(_RATIOS[:-1]):
        values |= averaged(f"sources_{ratio:g}", found["excess"][:, k], None)
    values |= averaged("sources_interaction", found["interaction"][:, _RATIOS.index(1.0)], None)
    return xr.Dataset(values, {"sources_at": list(_RATIOS)})


def _crossed(rng: np.random.Generator, config: Config, ratio: float) -> np.ndarray:
    """The six shares, from mean products of errors that share data, features, both or neither."""
    n, modes = config.samples, 3 * config.samples
    i = np.arange(1.0, modes + 1)
    eigs, power = i**-_DECAY, i ** (-2 * _TARGET)
    width = round(ratio * n)
    data = [rng.standard_normal((n, modes)) * np.sqrt(eigs) for _ in range(2)]
    features = [rng.standard_normal((width, modes)) / np.sqrt(width) for _ in range(2)]
    solve = [[_solution(x, f, n * _LAM) for f in features] for x in data]
    error = [[solve[a][b] @ data[a] - np.eye(modes) for b in (0, 1)] for a in (0, 1)]

    def signal(a: int, b: int, c: int, d: int) -> float:
        return float(eigs @ (error[a][b] * error[c][d]) @ power)

    def noise(a: int, b: int, d: int) -> float:
        return float(_NOISE * (eigs @ (solve[a][b] * solve[a][d])).sum())

    both = np.mean([signal(a, b, a, b) for a in (0, 1) for b in (0, 1)])
    by_data = np.mean([signal(a, 0, a, 1) for a in (0, 1)])
    by_features = np.mean([signal(0, b, 1, b) for b in (0, 1)])
    bias = np.mean([signal(0, 0, 1, 1), signal(0, 1, 1, 0)])
    all_noise = np.mean([noise(a, b, b) for a in (0, 1) for b in (0, 1)])
    data_noise = np.mean([noise(a, 0, 1) for a in (0, 1)])
    together = both - by_data - by_features + bias
    return np.array([bias, by_data - bias, by_features - bias, together, data_noise, all_noise - data_noise])


def _solution(x: np.ndarray, features: np.ndarray, ridge: float) -> np.ndarray:
    """The map from labels to coefficients of x: Fᵀ (ZᵀZ + ridge)⁻¹ Zᵀ, Z = XFᵀ."""
    z = x @ features.T
    if len(features) <= len(x):
        return features.T @ np.linalg.solve(z.T @ z + ridge * np.eye(len(features)), z.T)
    return features.T @ np.linalg.solve(z @ z.T + ridge * np.eye(len(x)), z).T


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The excess and its shares over the width."""
    ratio, curves = claims.curves["sources_ratio"], claims.curves
    names = {"excess": "excess", **_DRAWN, "data_noise": "data with noise"}
    colors = ("#333333", *figures.PALETTE)
    for color, (name, label) in zip(colors, names.items(), strict=False):
        figures.theory_line(ax, ratio, curves[f"sources_{name}"], color=color)
        mean, error = dataset[f"sources_{name}_mean"], dataset[f"sources_{name}_mean_error"]
        figures.points(ax, dataset.sources_at, mean, error, color=color, label=label)
    figures.threshold(ax, 1.0, "features = samples")
    figures.label_axes(ax, "features per sample", "share of the error", xscale="log")
    ax.set_title("the interactions carry the peak", pad=24)
    figures.ticks_at(ax.xaxis, np.array(_RATIOS))
    ax.legend(loc="upper left", fontsize=10)


STUDY = Study("sources", predict, measure, draw)
