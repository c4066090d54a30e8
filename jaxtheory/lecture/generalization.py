"""Generalization: every bound with its constants against the gap it bounds, and which measures order networks rightly.

Networks are trained on the digits over width, depth, batch size and label noise up to random labels; each measure is
ranked against the true gap along one knob at a time, with intervals over seeds.
"""

import itertools
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import data, figures, kernels
from jaxtheory import generalization as gen
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.topic import Topic
from jaxtheory.networks import minibatch, train

_AXES = ("width", "depth", "batch", "noise")
_RANKED = ("spectral", "frobenius", "path (l2)", "path (l1)", "PAC-Bayes spectral", "inverse margin", "parameters",
           "sharpness (worst)", "sharpness (random)")  # fmt: skip
_DELTA = 0.05


@dataclass(frozen=True)
class Config:
    """The grid of networks and the data."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: about a minute on two cores; paper: more networks, data and steps"""
    out: Path = Path("runs/generalization")
    """folder for predictions, data, table and figure"""
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


class _Digits(NamedTuple):
    """Inputs, and the labels of training and test set at each noise and seed."""

    x: Array
    x_test: Array
    y: Array
    y_test: Array


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
    x = np.asarray(_inputs(config)[0], float)
    lengths, n = (x**2).sum(1) + 1, len(x)
    width, depth = 65, min(config.depths) + 1  # 64 pixels and the constant unit are the narrowest widest layer
    rate = 72 * np.sqrt(lengths.sum() * np.log(2 * width**2)) * np.log(n) / n
    return float(rate * depth**1.5 / (2 * np.sqrt(lengths.max())))


def _inputs(config: Config) -> tuple[Array, Array, Array, Array]:
    dtype = "float64" if config.x64 else "float32"
    split = data.digits(train=config.samples, key=jax.random.key(config.seed), dtype=dtype)
    return split.x, split.x_test, split.y, split.y_test


def _digits(config: Config) -> _Digits:
    x, x_test, y, y_test = _inputs(config)
    keys = jax.random.split(jax.random.key(config.seed + 1), config.seeds)
    flip = partial(data.flip_labels, classes=10)
    pairs = [[(flip(y, s, k), flip(y_test, s, jax.random.fold_in(k, 1))) for k in keys] for s in config.noises]
    labels = [jnp.stack([jnp.stack([pair[i] for pair in row]) for row in pairs]) for i in (0, 1)]
    return _Digits(x, x_test, *labels)


def measure(config: Config) -> xr.Dataset:
    """Train the grid of networks, and hold every measure and bound against the true generalization gap."""
    digits = _digits(config)
    shapes = list(itertools.product(config.widths, config.depths, config.batches))
    parts = [_train_shape(*shape, config, digits) for shape in tqdm.tqdm(shapes, desc="networks")]
    networks: Any = xr.combine_by_coords(parts)
    return networks.merge(_ranking(networks)).merge(_labels(config, digits)).merge(_claims(networks))


def _train_shape(width: int, depth: int, batch: int, config: Config, digits: _Digits) -> xr.Dataset:
    """All noises and seeds of one shape in one program, then their measures, one network after another."""
    sizes = (digits.x.shape[1], *[width] * depth, 10)
    keys = jax.random.split(jax.random.key(config.seed + 2), config.seeds)
    fit = partial(_fit, x=digits.x, sizes=sizes, batch=min(batch, config.samples), steps=config.steps)
    weights = jax.jit(jax.vmap(jax.vmap(fit), (0, None)))(digits.y, keys)
    rows = [
        [_row([w[i, j] for w in weights], digits, i, j, keys[j]) for j in range(config.seeds)]
        for i in range(len(config.noises))
    ]
    names = rows[0][0]
    values = {name: (("noise", "seed"), [[cell[name] for cell in row] for row in rows]) for name in names}
    return xr.Dataset(values, {"noise": list(config.noises)}).expand_dims(width=[width], depth=[depth], batch=[batch])


def _fit(y: Array, key: Array, *, x: Array, sizes: tuple[int, ...], batch: int, steps: int) -> list[Array]:
    """Weights without biases, trained from He's initialization by Adam on the cross-entropy."""
    start, draws = jax.random.split(key)
    init = [
        jax.random.normal(k, (a, b), x.dtype) * np.sqrt(2 / a)
        for k, (a, b) in zip(jax.random.split(start, len(sizes) - 1), itertools.pairwise(sizes), strict=True)
    ]

    def loss(weights: list[Array], key: Array) -> Array:
        picked = minibatch(key, len(x), batch)
        return _cross_entropy(weights, x[picked], y[picked])

    return train(loss, init, optimizer=optax.adam(3e-3), steps=steps, record_every=steps, key=draws).params


def _outputs(weights: list[Array], x: Array) -> Array:
    h = x
    for weight in weights[:-1]:
        h = jax.nn.relu(h @ weight)
    return h @ weights[-1]


def _cross_entropy(weights: list[Array], x: Array, y: Array) -> Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(_outputs(weights, x)), y[:, None], axis=1).mean()


def _row(weights: list[Array], digits: _Digits, noise: int, seed: int, key: Array) -> dict[str, float]:
    """Errors, bare measures, and bounds (named "bound of …") of one network."""
    y, y_test = digits.y[noise, seed], digits.y_test[noise, seed]
    table = gen.measures(weights, (digits.x, y), delta=_DELTA)
    test = float((gen.margins(_outputs(weights, digits.x_test), y_test) <= 0).mean())
    worst, random = _sharpness(weights, digits.x, y, key)
    row = {"train_error": table.empirical, "test_error": test, "gap": test - table.empirical}
    row |= {m.name: m.measure for m in table.measures}
    row |= {f"bound of {m.name}": m.bound for m in table.measures if np.isfinite(m.bound)}
    return row | {"sharpness (worst)": float(worst), "sharpness (random)": float(random)}


@jax.jit
def _sharpness(weights: list[Array], x: Array, y: Array, key: Array) -> tuple[Array, Array]:
    loss = lambda w: _cross_entropy(w, x, y)  # noqa: E731
    return gen.worst_direction(loss, weights, 0.05), gen.random_direction(loss, weights, 0.02, key, draws=16).mean


def _ranking(networks: xr.Dataset) -> xr.Dataset:
    """Granulated Kendall's tau of each measure, with its interval over seeds."""
    gap = networks.gap.transpose("seed", *_AXES).values
    found = [gen.rank(networks[name].transpose("seed", *_AXES).values, gap, _AXES) for name in _RANKED]
    psi = [ranking.granulated for ranking in found]
    return xr.Dataset({
        "psi": ("measure", psi),
        "psi_low": ("measure", [ranking.interval[0] for ranking in found]),
        "psi_high": ("measure", [ranking.interval[1] for ranking in found]),
    })  # fmt: skip


def _labels(config: Config, digits: _Digits) -> xr.Dataset:
    """NTK label complexity at each noise, and the linear Rademacher complexity of the same inputs."""
    x = digits.x / jnp.linalg.norm(digits.x, axis=1, keepdims=True)
    inner = jnp.matmul(x, x.T, precision="highest")
    gram = kernels.arc_cosine(order=0)(x, x) * inner + 1e-4 * jnp.eye(len(x), dtype=x.dtype)
    one = lambda y: float(gen.ntk_complexity(gram, data.one_hot(y, 10, dtype=x.dtype)))  # noqa: E731
    values = np.array([[one(y) for y in row] for row in digits.y])
    linear = gen.rademacher(jnp.matmul(digits.x, digits.x.T, precision="highest"), 1.0, jax.random.key(config.seed))
    share, error = float(linear.value / linear.upper), float(linear.standard_error / linear.upper)
    both = {"upper": share, "lower": share, "upper_error": error, "lower_error": error}
    labels = xr.DataArray(values, dims=("noise", "seed"))
    cost = _over_seeds("labels", labels.isel(noise=-1) - labels.isel(noise=0))
    return xr.Dataset({"ntk_labels": labels, **both, **cost})


def _claims(networks: xr.Dataset) -> xr.Dataset:
    bounds = [name for name in networks if str(name).startswith("bound of")]
    covers = np.mean([float((networks[name] >= networks.test_error).mean()) for name in bounds])
    spectral = networks["spectral"].mean(["width", "depth", "batch"])
    dearer = xr.apply_ufunc(np.log, spectral.isel(noise=-1) / spectral.isel(noise=0))
    return xr.Dataset({
        "covers": covers, "floor": float(networks["bound of spectral"].min()), **_over_seeds("dearer", dearer),
    })  # fmt: skip


def _over_seeds(name: str, values: xr.DataArray) -> dict[str, float]:
    """A mean over seeds with its standard error, as a claim wants them."""
    error = float(values.std("seed", ddof=1)) / np.sqrt(values.sizes["seed"])
    return {name: float(values.mean("seed")), f"{name}_error": error}


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Bounds against true errors, granulated rank correlations, and what random labels cost."""
    figure, (scatter, ranks, labels) = figures.canvas(columns=3, panel=(6.0, 4.8))
    _draw_bounds(scatter, dataset)
    _draw_ranks(ranks, dataset)
    for ax, name, color in ((labels, "ntk_labels", 0), (labels.twinx(), "spectral", 1)):
        values = dataset[name] if name == "ntk_labels" else dataset[name].median(["width", "depth", "batch"])
        mean, error = values.mean("seed"), values.std("seed", ddof=1) / np.sqrt(values.sizes["seed"])
        tone = figures.PALETTE[color]
        figures.points(ax, dataset.noise, mean, error, color=tone, marker="os"[color])
        ax.tick_params(axis="y", colors=tone)
        side = ("NTK label complexity (circles)", "spectral complexity / margin (squares)")[color]
        title = "random labels cost more" if color == 0 else None
        figures.label_axes(ax, "share of labels replaced", side, title, yscale=("linear", "log")[color])
        ax.yaxis.label.set_color(tone)
    return figure


def _draw_bounds(ax: Axes, dataset: xr.Dataset) -> None:
    ends = np.array([0.05, 1.0])
    figures.theory_line(ax, ends, ends, color="#222222", label="bound = error")
    names = [str(name) for name in dataset if str(name).startswith("bound of")]
    for name, color, marker in zip(names, figures.PALETTE, "os^vD", strict=False):
        label = name.removeprefix("bound of ")
        figures.points(ax, dataset.test_error.values.ravel(), dataset[name].values.ravel(), color=color, marker=marker,
                       label=label)  # fmt: skip
    ax.axhline(1, color="#777777", linestyle=":", linewidth=1.3)
    ax.annotate("vacuous above", (0.06, 1.15), fontsize=11, color="#555555")
    figures.label_axes(ax, "true test error", "bound with all constants", "bounds hold, and say little", yscale="log")
    ax.set_ylim(1e-2, 1e11)
    ax.legend(loc="upper left", ncols=2, fontsize=10)


def _draw_ranks(ax: Axes, dataset: xr.Dataset) -> None:
    order = np.argsort(dataset.psi.values)
    psi, low, high = (dataset[name].values[order] for name in ("psi", "psi_low", "psi_high"))
    places = np.arange(len(order))
    ax.errorbar(psi, places, xerr=[psi - low, high - psi], fmt="o", capsize=3, color=figures.PALETTE[0])
    ax.axvline(0, color="#777777", linestyle=":", linewidth=1.3)
    figures.label_axes(ax, "granulated Kendall $\\Psi$, 95% over seeds", "", "which measures follow the gap")
    ax.set_yticks(places, [_RANKED[i] for i in order])


TOPIC = Topic("generalization", Config, predict, measure, draw)
