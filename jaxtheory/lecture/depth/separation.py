"""Neurons that a function of ⟨x, x'⟩ needs: certificates for two layers, explicit networks of three."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import data, figures
from jaxtheory.expressivity import depth, relu_network, three_layers
from jaxtheory.lecture.claims import Claim, Claims, estimated, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.results import fit_slope

_ERROR = 0.01  # the relative squared error at which neurons are counted
_BLOCK = 5000


def predict(config: Any) -> Claims:
    """Certificates for depth two, errors of the constructions at depth three, and the growth of their neurons."""
    separations = [claim for dim in config.dims for claim in _separation(config, dim)]
    curves = {
        "two": [float(_two(config, dim)) for dim in config.dims],
        "tubes": [float(_tubes(dim)) for dim in config.dims],
        "three": [float(_neurons(dim, _size(config, dim))) for dim in config.dims],
    }
    return Claims((*separations, _growth_claim()), curves)


def _separation(config: Any, dim: int) -> list[Claim]:
    size, bound = _size(config, dim), _bound(config, dim)
    error = _three_error(config, dim, size)
    built = statistical(f"three_{dim}", f"d = {dim}: error of the three-layer network of {_neurons(dim, size)} neurons",
                        "de Boor (1978), ch. XII", error,
                        "theory: to leading order, dependence of coordinates lowers it", relation="<=")  # fmt: skip
    gap = statistical(f"gap_{dim}", f"d = {dim}: that error, over the least of any two-layer network as large",
                      "Eckart, Young (1936)", error / bound if bound else 0.0, "theory: rank certificate",
                      relation="<=", rival=(1.0, "two layers do as well"))  # fmt: skip
    return [built, gap] if bound else [built]


def _bound(config: Any, dim: int) -> float:
    """Least error of any two-layer network with as many neurons as the three-layer one; 0 where nothing is known."""
    return depth.inner_product_certificate(dim, config.degree, _neurons(dim, _size(config, dim)))


def _growth_claim() -> Claim:
    return Claim(
        "growth", "exponent of d in the neurons that three layers need for 1%", "construction: d squares, one spline",
        1.0, "theory: knots per square do not depend on d but for their integer part, 1 in 18 over the dimensions",
        tolerance=0.06, relation="<=",
    )  # fmt: skip


def _two(config: Any, dim: int) -> int:
    return depth.neurons_needed(lambda n: depth.inner_product_certificate(dim, config.degree, n), _ERROR)


def _tubes(dim: int) -> int:
    """Neurons that a radial function with its Fourier mass at twice the ball's radius needs for 1%."""
    one = jnp.ones(1)
    return depth.neurons_needed(lambda n: float(depth.tube_certificate(dim * one, float(n) * one, 2 * one)[0]), _ERROR)


def _size(config: Any, dim: int) -> int:
    """Knots of one square, half of the outer knots, for which the predicted error is 1%."""
    return _least_size(dim, config.degree)


@functools.cache
def _least_size(dim: int, degree: int) -> int:
    error = three_layers.inner_product_error
    return next(k for k in range(4, 200) if error(dim, degree, inner=k, outer=2 * k) <= _ERROR)


def _three_error(config: Any, dim: int, size: int) -> float:
    return three_layers.inner_product_error(dim, config.degree, inner=size, outer=2 * size)


def _neurons(dim: int, size: int) -> int:
    return size * dim + 2 * size


def measure(config: Any) -> xr.Dataset:
    """Errors of the explicit three-layer networks on fresh points, and their neurons."""
    key = jax.random.key(config.seed)
    measured: dict[str, Any] = {}
    three = [_three(config, dim, jax.random.fold_in(key, dim)) for dim in config.dims]
    for dim, (_, mean, error) in zip(config.dims, three, strict=True):
        measured |= estimated(f"three_{dim}", mean, error, config.samples)
        bound = _bound(config, dim)
        measured |= estimated(f"gap_{dim}", mean / bound, error / bound, config.samples) if bound else {}
    counted = jnp.asarray([float(count) for count, _, _ in three])
    growth = float(fit_slope(jnp.asarray([float(d) for d in config.dims]), counted).slope)
    return xr.Dataset(
        {"neurons": ("dim", np.asarray(counted)), "growth": growth, **measured}, {"dim": list(config.dims)}
    )


def _three(config: Any, dim: int, key: Array) -> tuple[int, float, float]:
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


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Neurons for 1%, by dimension: not enough at depth two, enough at depth three."""
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


STUDY = Study("separation", predict, measure, draw)
