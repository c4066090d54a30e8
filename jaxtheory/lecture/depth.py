"""Number of layers: what two layers cannot do with any weights, what three do explicitly, the pieces that depth adds.

Every bound at depth two is a certificate for all networks of a size; every error at depth three is that of a network
written down, with its neurons counted; an adversary tries to beat the certificates and must not.
"""

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from jaxtheory import data, figures, networks
from jaxtheory.expressivity import depth, linear_regions, regions, relu_network, three_layers, two_layers
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, estimated
from jaxtheory.lecture.study import BaseConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import fit_slope

_ERROR = 0.01  # the relative squared error at which neurons are counted
_BLOCK = 5000


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Targets, sizes of the adversary, and of the network trained on digits."""

    out: Path = field(default=Path("runs/depth"), compare=False)
    """folder for predictions, data, table and figure"""
    x64: bool = False
    """compute in float64"""
    dims: tuple[int, ...] = (5, 10, 20, 30)
    """dimensions d of the target √D P_n(⟨x, x'⟩)"""
    degree: int = 5
    """n of the target"""
    samples: int = 20_000
    """points on which a three-layer network is judged"""
    starts: int = 5
    """two-layer networks that the adversary trains for each size"""
    steps: int = 150
    """of the adversary's optimizer"""
    adversary_dim: int = 3
    """dimension of the radial wave that the adversary attacks"""
    frequency: float = 3.0
    """ω of that wave, cos(ω(|x| − √(d−½)) + 0.7)"""
    neurons: tuple[int, ...] = (1, 2, 4, 6, 8, 12)
    """sizes of the adversary's networks"""
    teeth: int = 8
    """compositions k of the tent"""
    widths: tuple[int, ...] = (16, 16)
    """hidden layers of the network trained on digits, whose slice is drawn"""
    training: int = 600
    """its optimizer's steps"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        paper = replace(
            cls(), preset="paper", samples=400_000, starts=64, steps=2000, widths=(32, 32, 32), training=4000
        )
        return paper if preset == "paper" else cls()

    def wave(self, r: Any) -> Any:
        """The profile that the adversary attacks, on numpy radii."""
        return np.cos(self.frequency * (r - (self.adversary_dim - 0.5) ** 0.5) + 0.7)


def predict(config: Config) -> Claims:
    """Certificates for depth two, errors of the constructions at depth three, and counts of pieces."""
    separations = [claim for dim in config.dims for claim in _separation(config, dim)]
    adversary = [_adversary_claim(config, neurons) for neurons in config.neurons if _tells(config, neurons)]
    curves = {
        "two": [float(_two(config, dim)) for dim in config.dims],
        "tubes": [float(_tubes(dim)) for dim in config.dims],
        "three": [float(_neurons(dim, _size(config, dim))) for dim in config.dims],
        "certificate": [_certificate(config, neurons) for neurons in range(config.neurons[-1] + 1)],
    }
    return Claims((*separations, _growth_claim(), *adversary, *_pieces(config)), curves)


def _separation(config: Config, dim: int) -> list[Claim]:
    size, bound = _size(config, dim), _bound(config, dim)
    error = _three_error(config, dim, size)
    built = Claim(
        f"three_{dim}", f"d = {dim}: error of the three-layer network of {_neurons(dim, size)} neurons",
        "de Boor (1978), ch. XII", error, "theory: to leading order, dependence of coordinates lowers it; 4.5 s.e.",
        standard_errors=SIGNIFICANT, relation="<=",
    )  # fmt: skip
    gap = Claim(
        f"gap_{dim}", f"d = {dim}: that error, over the least of any two-layer network as large",
        "Eckart, Young (1936)", error / bound if bound else 0.0, "theory: rank certificate; 4.5 s.e.",
        standard_errors=SIGNIFICANT, relation="<=", rival=1.0, rival_law="two layers do as well",
    )  # fmt: skip
    return [built, gap] if bound else [built]


def _bound(config: Config, dim: int) -> float:
    """Least error of any two-layer network with as many neurons as the three-layer one; 0 where nothing is known."""
    return depth.inner_product_certificate(dim, config.degree, _neurons(dim, _size(config, dim)))


def _growth_claim() -> Claim:
    return Claim(
        "growth", "exponent of d in the neurons that three layers need for 1%", "construction: d squares, one spline",
        1.0, "theory: knots per square do not depend on d but for their integer part, 1 in 18 over the dimensions",
        tolerance=0.06, relation="<=",
    )  # fmt: skip


def _adversary_claim(config: Config, neurons: int) -> Claim:
    statement = f"best of {config.starts} trained two-layer networks of {neurons} cosines, radial wave, d = 3"
    return Claim(
        f"adversary_{neurons}", statement.replace("d = 3", f"d = {config.adversary_dim}"),
        "Safran, Eldan, Shamir (2019)", _certificate(config, neurons),
        "theory: catalecticant certificate; 4.5 standard errors of the fresh sample, the best of several",
        standard_errors=SIGNIFICANT, relation=">=", rival=_certificate(config, neurons + 1),
        rival_law="the bound for one neuron more",
    )  # fmt: skip


def _tells(config: Config, neurons: int) -> bool:
    """Whether one neuron more lowers the bound by what can be seen: beyond it, points are drawn and nothing claimed."""
    return _certificate(config, neurons) - _certificate(config, neurons + 1) > 0.06


def _pieces(config: Config) -> tuple[Claim, ...]:
    most = regions.serra_upper(2, config.widths)
    return (
        Claim("pieces", f"pieces of the tent composed {config.teeth} times", "Telgarsky (2016), Lemma 3.10",
              2.0**config.teeth, "theory: exact"),
        Claim("montufar", "cells of a network with layers of 4 and 4 in the plane, by folding",
              "Montúfar et al. (2014), Thm 4", float(regions.montufar_lower(2, [4, 4])), "theory: exact",
              relation=">="),
        Claim("slice", f"cells in a plane through the digits of a trained network of widths {config.widths}",
              "Serra et al. (2018), Thm 1", float(most), "theory: exact", relation="<="),
    )  # fmt: skip


def _certificate(config: Config, neurons: int) -> float:
    return depth.radial_certificate(config.wave, config.adversary_dim, neurons)


def _two(config: Config, dim: int) -> int:
    return depth.neurons_needed(lambda n: depth.inner_product_certificate(dim, config.degree, n), _ERROR)


def _tubes(dim: int) -> int:
    """Neurons that a radial function with its Fourier mass at twice the ball's radius needs for 1%."""
    one = jnp.ones(1)
    return depth.neurons_needed(lambda n: float(depth.tube_certificate(dim * one, float(n) * one, 2 * one)[0]), _ERROR)


def _size(config: Config, dim: int) -> int:
    """Knots of one square, half of the outer knots, for which the predicted error is 1%."""
    return _least_size(dim, config.degree)


@functools.cache
def _least_size(dim: int, degree: int) -> int:
    error = three_layers.inner_product_error
    return next(k for k in range(4, 200) if error(dim, degree, inner=k, outer=2 * k) <= _ERROR)


def _three_error(config: Config, dim: int, size: int) -> float:
    return three_layers.inner_product_error(dim, config.degree, inner=size, outer=2 * size)


def _neurons(dim: int, size: int) -> int:
    return size * dim + 2 * size


def measure(config: Config) -> xr.Dataset:
    """Depth: errors of explicit three-layer networks, an adversary at depth two, and pieces counted exactly."""
    key = jax.random.key(config.seed)
    measured: dict[str, Any] = {}
    three = [_three(config, dim, jax.random.fold_in(key, dim)) for dim in config.dims]
    for dim, (_, mean, error) in zip(config.dims, three, strict=True):
        measured |= estimated(f"three_{dim}", mean, error, config.samples)
        bound = _bound(config, dim)
        measured |= estimated(f"gap_{dim}", mean / bound, error / bound, config.samples) if bound else {}
    counted = jnp.asarray([float(count) for count, _, _ in three])
    measured["growth"] = float(fit_slope(jnp.asarray([float(d) for d in config.dims]), counted).slope)
    errors, spreads = _attack(config, jax.random.fold_in(key, 0))
    for neurons, row, spread in zip(config.neurons, errors, spreads, strict=True):
        measured |= estimated(f"adversary_{neurons}", row.min(), spread[row.argmin()], config.samples)
    cells, labels = _digits_slice(config, jax.random.fold_in(key, 1))
    measured["pieces"] = len(regions.breakpoints(relu_network.sawtooth(config.teeth), 0.0, 1.0)) + 1
    measured["montufar"] = len(linear_regions(_folding(), 0.0, 1.0).cells)
    measured["slice"] = len(cells)
    panels = {
        "neurons": ("dim", np.asarray(counted)),
        "adversary": (("size", "start"), errors),
        "corners": (("cell", "corner", "axis"), _padded(cells)),
        "label": ("cell", labels),
    }
    return xr.Dataset(panels | measured, {"dim": list(config.dims), "size": list(config.neurons)})


def _three(config: Config, dim: int, key: Array) -> tuple[int, float, float]:
    """Neurons of the explicit network, by its audit, and its relative squared error with its standard error."""
    size = _size(config, dim)
    net = three_layers.inner_product(dim, config.degree, inner=size, outer=2 * size)
    squares = []
    for i in range(-(-config.samples // _BLOCK)):
        x, y = _pairs(dim, config.degree, _BLOCK, jax.random.fold_in(key, i))
        squares.append((relu_network.evaluate(net, x)[:, 0] - y) ** 2)
    error = np.concatenate(squares)  # E f² = 1
    return relu_network.audit(net).neurons, float(error.mean()), float(error.std() / len(error) ** 0.5)


def _pairs(dim: int, degree: int, count: int, key: Array) -> tuple[Array, Array]:
    one, two = (data.sphere(count, dim, k).x / dim**0.5 for k in jax.random.split(key))
    target = depth.harmonics(dim, degree) ** 0.5 * depth.legendre((one * two).sum(1), degree, dim)
    return jnp.concatenate([one, two], axis=1), target


def _attack(config: Config, key: Array) -> tuple[np.ndarray, np.ndarray]:
    """Errors of all starts, and their standard errors: size × start."""

    def draw(key: Array, count: int) -> tuple[Array, Array]:
        x = jax.random.normal(key, (count, config.adversary_dim))
        return x, jnp.asarray(config.wave(np.linalg.norm(x, axis=1)), x.dtype)

    train, fresh = draw(jax.random.fold_in(key, 0), 3000), draw(jax.random.fold_in(key, 1), config.samples)
    found = [
        two_layers.adversary(
            jax.random.fold_in(key, n), train, fresh, n, starts=config.starts, steps=config.steps,
            activation=jnp.cos, spread=config.frequency * config.adversary_dim**0.5,
        )
        for n in config.neurons
    ]  # fmt: skip
    return np.array([f.errors for f in found], float), np.array([f.standard_error for f in found], float)


def _folding() -> relu_network.Network:
    """Two tents fold the square four times onto itself; four lines then cut each of its copies into eleven."""
    fold = relu_network.affine(np.kron(np.eye(2), [[2.0, 2.0]]), [0.0, -1.0, 0.0, -1.0])
    tents = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    lines = np.array([[1.0, 1.0, 1.0, -1.0], [0.45, 2.0, -0.9, 0.3]])
    second = (tents @ lines, np.array([-0.71, -1.48, -0.06, 0.34]))
    return relu_network.network([*fold, second, (np.ones((4, 1)), np.zeros(1))])


def _digits_slice(config: Config, key: Array) -> tuple[list[np.ndarray], np.ndarray]:
    """Cells of a trained network in the plane through three digits, and the class each cell's centre is given."""
    split = data.digits(train=1500)
    net = _trained(config, key, split)
    corners = np.asarray([split.x[int(np.flatnonzero(np.asarray(split.y) == label)[0])] for label in (0, 3, 7)], float)
    slice_ = relu_network.restrict(net, corners.mean(0), corners[1:] - corners[:1])
    found = linear_regions(slice_, -1.0, 1.0, arithmetic="float64")
    centres = jnp.asarray([cell.mean(axis=0) for cell in found.cells], jnp.float32)
    return found.cells, np.asarray(relu_network.evaluate(slice_, centres).argmax(axis=1))


def _trained(config: Config, key: Array, split: data.Split) -> relu_network.Network:
    sizes = (split.x.shape[1], *config.widths, 10)
    keys = jax.random.split(key, len(sizes))
    start = [
        relu_network.Layer(jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b))
        for k, a, b in zip(keys, sizes, sizes[1:], strict=False)
    ]

    def loss(params: Any) -> Array:
        scores = jax.nn.log_softmax(relu_network.evaluate(params, split.x))
        return -jnp.take_along_axis(scores, split.y[:, None], axis=1).mean()

    fitted = jax.jit(lambda p: networks.train(loss, p, optimizer=optax.adam(3e-3), steps=config.training))(start)
    return relu_network.network(fitted.params)


def _padded(cells: list[np.ndarray]) -> np.ndarray:
    """Polygons of one array, their last corner repeated."""
    most = max(map(len, cells))
    return np.array([np.concatenate([cell, np.repeat(cell[-1:], most - len(cell), axis=0)]) for cell in cells])


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Neurons by dimension at depth two and three; the adversary above its certificate; cells of a trained network."""
    figure, (count, attack, plane) = figures.canvas(columns=3, panel=(5.6, 4.8))
    _draw_neurons(count, dataset, claims)
    _draw_attack(attack, dataset, claims)
    _draw_plane(plane, dataset)
    return figure


def _draw_neurons(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    dims, two = dataset.dim.values, claims.curves["two"]
    figures.theory_line(ax, dims, two, label="two layers: not below", color=figures.PALETTE[1])
    ax.fill_between(dims, 1, two, color=figures.PALETTE[1], alpha=0.12)
    label = "two layers, radial, tubes"
    figures.theory_line(ax, dims, claims.curves["tubes"], label=label, color=figures.PALETTE[3], linestyle="--")
    figures.points(ax, dims, dataset.neurons.values, label="three layers: built", color=figures.PALETTE[0])
    ax.set_ylim(20, 1e3 * max(two))
    title = r"neurons for 1% of $P_5(\langle x, x'\rangle)$"
    figures.label_axes(ax, "dimension $d$", "neurons", title, yscale="log")
    ax.legend(loc="upper left")


def _draw_attack(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    certificate = claims.curves["certificate"]
    figures.theory_line(
        ax, range(len(certificate)), certificate, label="no network lies below", color=figures.PALETTE[1]
    )
    ax.fill_between(range(len(certificate)), 0, certificate, color=figures.PALETTE[1], alpha=0.12)
    for start in range(dataset.sizes["start"]):
        label = "trained, outer weights solved" if start == 0 else None
        values = dataset.adversary.isel(start=start).values
        figures.points(ax, dataset["size"].values, values, label=label, color=figures.PALETTE[0])
    ax.set_ylim(0, 1.15)
    figures.label_axes(ax, "neurons $N$ of two layers", "relative squared error", "radial wave, $d = 3$: an adversary")


def _draw_plane(ax: Axes, dataset: xr.Dataset) -> None:
    shades = [figures.PALETTE[int(label) % len(figures.PALETTE)] for label in dataset.label.values]
    cells = PolyCollection(dataset.corners.values, facecolors=shades, edgecolors="white", linewidths=0.5, alpha=0.65)
    ax.add_collection(cells)
    for label, place in (("0", (-1 / 3, -1 / 3)), ("3", (2 / 3, -1 / 3)), ("7", (-1 / 3, 2 / 3))):
        ax.plot(*place, "ko", markersize=5)
        ax.annotate(label, place, textcoords="offset points", xytext=(6, 4), fontsize=14, color="black")
    ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    ax.grid(visible=False)
    title = f"{dataset.sizes['cell']} cells in a plane through digits"
    figures.label_axes(ax, "direction 3 − 0", "direction 7 − 0", title)


TOPIC = Topic("depth", Config, predict, measure, draw)
