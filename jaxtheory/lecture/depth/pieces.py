"""Pieces that depth adds: the tent composed, a folded plane, and cells of a trained network."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from jaxtheory import data, figures, networks
from jaxtheory.expressivity import linear_regions, regions, relu_network
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study


def predict(config: Any) -> Claims:
    """Counts of pieces that are exact, and the most that a network of a shape can have."""
    most = regions.serra_upper(2, config.widths)
    claims = (
        Claim("pieces", f"pieces of the tent composed {config.teeth} times", "Telgarsky (2016), Lemma 3.10",
              2.0**config.teeth, "theory: exact"),
        Claim("montufar", "cells of a network with layers of 4 and 4 in the plane, by folding",
              "Montúfar et al. (2014), Thm 4", float(regions.montufar_lower(2, [4, 4])), "theory: exact",
              relation=">="),
        Claim("slice", f"cells in a plane through the digits of a trained network of widths {config.widths}",
              "Serra et al. (2018), Thm 1", float(most), "theory: exact", relation="<="),
    )  # fmt: skip
    return Claims(claims, {})


def measure(config: Any) -> xr.Dataset:
    """Pieces counted exactly, and the cells of a network trained on digits."""
    cells, labels = _digits_slice(config, jax.random.fold_in(jax.random.key(config.seed), 1))
    counts = {
        "pieces": len(regions.breakpoints(relu_network.sawtooth(config.teeth), 0.0, 1.0)) + 1,
        "montufar": len(linear_regions(_folding(), 0.0, 1.0).cells),
        "slice": len(cells),
    }
    return xr.Dataset({"corners": (("cell", "corner", "axis"), _padded(cells)), "label": ("cell", labels), **counts})


def _folding() -> relu_network.Network:
    """Two tents fold the square four times onto itself; four lines then cut each of its copies into eleven."""
    fold = relu_network.affine(np.kron(np.eye(2), [[2.0, 2.0]]), [0.0, -1.0, 0.0, -1.0])
    tents = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    lines = np.array([[1.0, 1.0, 1.0, -1.0], [0.45, 2.0, -0.9, 0.3]])
    second = (tents @ lines, np.array([-0.71, -1.48, -0.06, 0.34]))
    return relu_network.network([*fold, second, (np.ones((4, 1)), np.zeros(1))])


def _digits_slice(config: Any, key: Array) -> tuple[list[np.ndarray], np.ndarray]:
    """Cells of a trained network in the plane through three digits, and the class each cell's centre is given."""
    split = data.digits(train=1500)
    net = _trained(config, key, split)
    corners = np.asarray([split.x[int(np.flatnonzero(np.asarray(split.y) == label)[0])] for label in (0, 3, 7)], float)
    slice_ = relu_network.restrict(net, corners.mean(0), corners[1:] - corners[:1])
    found = linear_regions(slice_, -1.0, 1.0, arithmetic="float64")
    centres = jnp.asarray([cell.mean(axis=0) for cell in found.cells], jnp.float32)
    return found.cells, np.asarray(relu_network.evaluate(slice_, centres).argmax(axis=1))


def _trained(config: Any, key: Array, split: data.Split) -> relu_network.Network:
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


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Cells of the trained network in the plane through three digits, by the class of their centres."""
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


STUDY = Study("pieces", predict, measure, draw)
