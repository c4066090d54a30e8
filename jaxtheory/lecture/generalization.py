"""Generalization: every bound with its constants against the gap it bounds, and which measures order networks rightly.

Networks are trained on the digits over width, depth, batch size and label noise up to random labels; each measure is
ranked against the true gap along one knob at a time, with intervals over seeds.
"""

import itertools
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import data, figures, kernels, sweeps
from jaxtheory import generalization as gen
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.topic import Topic
from jaxtheory.networks import minibatch, train

_AXES = ("width", "depth", "batch", "noise")
_NAMES = tuple(gen.SOURCES)
# What the theorem bounds is the error of the network itself, or that of one made from it or for the same labels.
_OWN = ("spectral", "frobenius", "path (l2)", "path (l1)", "PAC-Bayes spectral", "VC dimension")
_BOUNDS = (*_OWN, "NTK labels", "compression", "PAC-Bayes-kl")
_DELTA = 0.05


@dataclass(frozen=True)
class Config:
    """The grid of networks and the data."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: about a minute on two cores; paper: more networks, data and steps"""
    out: Path = field(default=Path("runs/generalization"), compare=False)
    """folder for predictions, networks, data, table and figure; an interrupted run continues there"""
    seed: int = 0
    """of every random draw"""
    x64: bool = False
    """compute in float64"""
    samples: int = 300
    """training digits, of 1,797"""
    widths: tuple[int, ...] = (16, 64)
    """of the hidden layers"""
    depths: tuple[int, ...] = (1, 2)
    """hidden layers"""
    batches: tuple[int, ...] = (32, 300)
    """batch sizes"""
    noises: tuple[float, ...] = (0.0, 0.3, 0.9)
    """share of labels replaced by another class; 0.9 makes them random"""
    seeds: int = 3
    """of labels, initialization and batches, at least two"""
    steps: int = 800
    """of Adam"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        more: dict[str, Any] = {
            "samples": 1000,
            "widths": (16, 64, 256, 1024),
            "depths": (1, 2, 4),
            "batches": (32, 128, 1000),
        }
        return replace(cls(), preset="paper", seeds=10, steps=5000, **more) if preset == "paper" else cls()


def predict(config: Config) -> Claims:
    """Bounds hold; the spectral one is vacuous for every network there is; random labels cost more."""
    above: dict[str, Any] = {
        "standard_errors": -3,
        "relation": ">=",
        "basis": "significance: more than 3 standard errors above",
    }
    rows = [
        Claim("covers", "share of bounds that cover the true test error", "each bound's theorem", 1 - _DELTA,
              "theory: each fails with probability at most 0.05", relation=">="),
        Claim("floor", "smallest spectral bound of any network trained", "Bartlett et al. (2017), Lemma A.8",
              _spectral_floor(config), "theory: its value at the best norms possible", relation=">="),
        Claim("labels", "NTK label complexity, random labels minus true ones", "Arora et al. (2019), Thm 5.1", 0.0,
              **above),
        Claim("dearer", "log of mean spectral complexity over margin, random minus true labels",
              "Bartlett, Foster, Telgarsky (2017), sec. 2", 0.0, **above),
        Claim("upper", "Rademacher complexity of linear functions over B‖X‖_F/n", "Jensen", 1.0,
              "3 standard errors over signs", standard_errors=3, relation="<="),
        Claim("lower", "Rademacher complexity of linear functions over B‖X‖_F/n ", "Khintchine, Latała-Oleszkiewicz",
              2**-0.5, "3 standard errors over signs", standard_errors=3, relation=">="),
    ]  # fmt: skip
    return Claims(tuple(rows), {})


def _spectral_floor(config: Config) -> float:
    r"""72 ‖X‖_F √ln(2W²) ln(n)/n · L^{3/2}/(2 max‖x‖): margins are at most 2Π‖A_l‖ max‖x‖, and ‖Aᵀ‖_{2,1} ≥ ‖A‖_σ."""
    x = np.asarray(_digits(config).x, float)
    lengths, n = (x**2).sum(1) + 1, len(x)
    width, depth = 65, min(config.depths) + 1  # 64 pixels and the constant unit are the narrowest widest layer
    rate = 72 * np.sqrt(lengths.sum() * np.log(2 * width**2)) * np.log(n) / n
    return float(rate * depth**1.5 / (2 * np.sqrt(lengths.max())))


def _digits(config: Config) -> data.Split:
    dtype = "float64" if config.x64 else "float32"
    return data.digits(train=config.samples, key=jax.random.key(config.seed), dtype=dtype)


def measure(config: Config) -> xr.Dataset:
    """Train the grid of networks, and hold every measure and bound against the true generalization gap."""
    digits = _digits(config)
    axes = {"width": config.widths, "depth": config.depths, "noise": config.noises, "seed": range(config.seeds)}
    networks: Any = sweeps.run(
        partial(_networks, config=config, digits=digits, gram=_tangent_gram(digits.x)), sweeps.grid(**axes),
        out=config.out / "networks.zarr", key=config.seed, static=("width", "depth"),
        paired=("width", "depth", "noise"),
    ).load()  # fmt: skip
    names = {"name": _words(_NAMES), "bounded": _words(_BOUNDS)}
    networks = networks.assign_coords(batch=list(config.batches), **names)
    return networks.assign(_ranking(networks) | _rademacher(digits.x, config.seed) | _claims(networks))


def _words(names: tuple[str, ...]) -> np.ndarray:
    return np.array(names, np.dtypes.StringDType())


def _networks(
    width: int, depth: int, noise: Array, seed: Array, key: PRNGKeyArray, *,
    config: Config, digits: data.Split, gram: Array,
) -> dict[str, Any]:  # fmt: skip
    """One network for each batch size, trained; errors, bare measures and bounds. Labels are the seed's at any size."""
    flips, test_flips, init, batches, draws = jax.random.split(key, 5)
    y = data.flip_labels(digits.y, noise, flips, classes=10)
    y_test = data.flip_labels(digits.y_test, noise, test_flips, classes=10)
    start = _he((digits.x.shape[1], *[width] * depth, 10), init, digits.x.dtype)
    fits = [_trained(start, digits.x, y, size, config.steps, batches) for size in config.batches]
    # One after another under vmap: singular values that are batched may wait for each other on CPU.
    row = jax.custom_batching.sequential_vmap(partial(_row, digits=digits, gram=gram))
    every = jax.vmap(row, (0, None, None, None, None))
    found = every(jax.tree.map(lambda *w: jnp.stack(w), *fits), start, y, y_test, draws)
    dims = {"measure": ("batch", "name"), "bound": ("batch", "bounded")}
    return {name: sweeps.named(values, *dims.get(name, ("batch",))) for name, values in found.items()}


def _trained(weights: list[Array], x: Array, y: Array, batch: int, steps: int, key: Array) -> list[Array]:
    """By Adam on the cross-entropy."""

    def loss(weights: list[Array], key: Array) -> Array:
        picked = minibatch(key, len(y), min(batch, len(y)))
        return _cross_entropy(weights, x[picked], y[picked])

    return train(loss, weights, optimizer=optax.adam(3e-3), steps=steps, record_every=steps, key=key).params


def _he(sizes: tuple[int, ...], key: Array, dtype: Any) -> list[Array]:
    """Weights without biases, of variance 2 over the fan-in."""
    shapes = list(itertools.pairwise(sizes))
    keys = jax.random.split(key, len(shapes))
    return [jax.random.normal(k, s, dtype) * np.sqrt(2 / s[0]) for k, s in zip(keys, shapes, strict=True)]


def _outputs(weights: list[Array], x: Array) -> Array:
    h = x
    for weight in weights[:-1]:
        h = jax.nn.relu(h @ weight)
    return h @ weights[-1]


def _cross_entropy(weights: list[Array], x: Array, y: Array) -> Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(_outputs(weights, x)), y[:, None], axis=1).mean()


def _row(
    weights: list[Array], start: list[Array], y: Array, y_test: Array, key: Array, *, digits: data.Split, gram: Array
) -> dict[str, Any]:
    """Measures without a positive margin to divide by are NaN, and the status of their network says so."""
    table = gen.measures(weights, (digits.x, y), prior=start, gram=gram, key=key, delta=_DELTA)
    found = {m.name: m for m in table.measures}
    wrong = (gen.margins(_outputs(weights, digits.x_test), y_test) <= 0).astype(table.empirical.dtype).mean()
    return {
        "train_error": table.empirical,
        "test_error": wrong,
        "measure": jnp.stack([found[name].measure for name in _NAMES]),
        "bound": jnp.stack([found[name].bound for name in _BOUNDS]),
    }


def _tangent_gram(x: Array) -> Array:
    """The first layer's NTK of an infinitely wide ReLU network of two layers, on inputs of length one."""
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    inner = jnp.matmul(x, x.T, precision="highest")
    return kernels.arc_cosine(order=0)(x, x) * inner + 1e-4 * jnp.eye(len(x), dtype=x.dtype)


def _ranking(networks: xr.Dataset) -> dict[str, Any]:
    """Granulated Kendall's tau of each measure, with its interval over seeds."""
    order = ("seed", *_AXES)
    gap = (networks.test_error - networks.train_error).transpose(*order).values
    found = [gen.rank(networks.measure.sel(name=name).transpose(*order).values, gap, _AXES) for name in _NAMES]
    values = {
        "psi": [ranking.granulated for ranking in found],
        "psi_low": [ranking.interval[0] for ranking in found],
        "psi_high": [ranking.interval[1] for ranking in found],
    }
    return {name: ("name", np.array(value)) for name, value in values.items()}


def _rademacher(x: Array, seed: int) -> dict[str, float]:
    """Of linear functions on the same inputs, over its upper end."""
    linear = gen.rademacher(jnp.matmul(x, x.T, precision="highest"), 1.0, jax.random.key(seed))
    share, error = float(linear.value / linear.upper), float(linear.standard_error / linear.upper)
    return {"upper": share, "lower": share, "upper_error": error, "lower_error": error}


def _claims(networks: xr.Dataset) -> dict[str, float]:
    bound = networks.bound.sel(bounded=list(_OWN))
    labels, spectral = (
        networks.measure.sel(name=name).mean(["width", "depth", "batch"]) for name in ("NTK labels", "spectral")
    )
    dearer: Any = np.log(spectral.isel(noise=-1) / spectral.isel(noise=0))
    return {
        "covers": float((bound >= networks.test_error).mean()),
        "floor": float(networks.bound.sel(bounded="spectral").min()),
        **_over_seeds("labels", labels.isel(noise=-1) - labels.isel(noise=0)),
        **_over_seeds("dearer", dearer),
    }


def _over_seeds(name: str, values: xr.DataArray) -> dict[str, float]:
    """A mean over seeds with its standard error, as a claim wants them."""
    error = float(values.std("seed", ddof=1)) / np.sqrt(values.sizes["seed"])
    return {name: float(values.mean("seed")), f"{name}_error": error}


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Bounds against true errors, granulated rank correlations, and what random labels cost."""
    figure, (scatter, ranks, labels) = figures.canvas(columns=3, panel=(6.0, 4.8))
    _draw_bounds(scatter, dataset)
    _draw_ranks(ranks, dataset)
    _draw_labels(labels, dataset)
    return figure


def _draw_bounds(ax: Axes, dataset: xr.Dataset) -> None:
    law = np.linspace(1e-2, 1, 100)
    figures.theory_line(ax, law, law, color="#222222", label="bound = gap")
    gap, over = dataset.test_error - dataset.train_error, dataset.bound - dataset.train_error
    for name, tone, marker in zip(_BOUNDS, (*figures.PALETTE, "#777777"), "os^vDP*X<", strict=True):
        values = over.sel(bounded=name).transpose(*gap.dims).values.ravel()
        figures.points(ax, gap.values.ravel(), values, color=tone, marker=marker, label=name)
    ax.axhline(1, color="#777777", linestyle=":", linewidth=1.3)
    ax.annotate("vacuous\nabove", (0.98, 1.4), fontsize=11, color="#555555")
    title = "bounds hold, and most say nothing"
    figures.label_axes(ax, "true gap: test minus training error", "bound on the gap, all constants", title,
                       yscale="log")  # fmt: skip
    ax.set(xlim=(0, 1.22), ylim=(1e-2, 1e12))
    ax.legend(loc="upper left", ncols=2, fontsize=9)


def _draw_ranks(ax: Axes, dataset: xr.Dataset) -> None:
    order = np.argsort(dataset.psi.values)
    psi, low, high = (dataset[name].values[order] for name in ("psi", "psi_low", "psi_high"))
    places = np.arange(len(order))
    ax.errorbar(psi, places, xerr=[psi - low, high - psi], fmt="o", capsize=3, color=figures.PALETTE[0])
    ax.axvline(0, color="#777777", linestyle=":", linewidth=1.3)
    figures.label_axes(ax, "granulated Kendall $\\Psi$, 95% over seeds", "", "which measures follow the gap")
    ax.set_yticks(places, [_NAMES[i] for i in order], fontsize=10)


def _draw_labels(ax: Axes, dataset: xr.Dataset) -> None:
    """Both complexities rise with the share of labels replaced: one on either axis."""
    for side, name, color in ((ax, "NTK labels", 0), (ax.twinx(), "spectral", 1)):
        values = dataset.measure.sel(name=name).median(["width", "depth", "batch"])
        mean, error = values.mean("seed"), values.std("seed", ddof=1) / np.sqrt(values.sizes["seed"])
        tone = figures.PALETTE[color]
        figures.points(side, dataset.noise, mean, error, color=tone, marker="os"[color])
        side.tick_params(axis="y", colors=tone)
        label = ("NTK label complexity (circles)", "spectral complexity / margin (squares)")[color]
        title = "random labels cost more" if color == 0 else None
        figures.label_axes(side, "share of labels replaced", label, title, yscale=("linear", "log")[color])
        side.yaxis.label.set_color(tone)


TOPIC = Topic("generalization", Config, predict, measure, draw)
