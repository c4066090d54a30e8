"""Tangent kernels of drawn networks converge on the limit of their program as width^(−1/2)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key, PyTree
from matplotlib.axes import Axes

from jaxtheory import empirical, figures, infinite
from jaxtheory.infinite.corrections import relu_moments
from jaxtheory.lecture.claims import Claims, statistical
from jaxtheory.lecture.infinite_width.architectures import NETWORKS, Network
from jaxtheory.lecture.powers import root_exponent, root_mean_square
from jaxtheory.lecture.study import Study

_INPUTS = 6
_SIGMA_W, _SIGMA_B = 1.4, 0.2


def _slug(name: str) -> str:
    return name.lower().replace(" ", "_")


def predict(config: Any) -> Claims:
    """The exponent of fluctuations, for every architecture."""
    tolerance = _next_order(config.widths)
    claims = tuple(
        statistical(f"slope_{_slug(name)}", f"{name}: exponent in width of the distance of a drawn NTK from the limit",
                    "Huang, Yau (2020), Thm 2.1", -0.5, "theory: next order in 1/width at these widths",
                    tolerance=tolerance, rival=(-1.0, "no fluctuation, bias 1/n"))
        for name in config.architectures
    )  # fmt: skip
    return Claims(claims, {})


def _next_order(widths: tuple[int, ...]) -> float:
    """What two ReLU layers add to the exponent: fourth moments, so squared distances, grow by 1 + 5/width in each."""
    growth = [relu_moments((width, width)).features ** 0.5 for width in widths]
    return -float(np.polyfit(np.log(widths), np.log(growth), 1)[0])


def measure(config: Any) -> xr.Dataset:
    """Distances of drawn kernels from the limit at every width, and their exponents."""
    key, dtype = jax.random.split(jax.random.key(config.seed), 3)[0], jnp.float64 if config.x64 else jnp.float32
    errors = np.stack([_distances(NETWORKS[name], config, key, dtype) for name in config.architectures])
    numbers = [list(NETWORKS).index(name) for name in config.architectures]  # zarr has no stable format for words
    names = {"network": numbers, "width": list(config.widths), "draw": np.arange(config.draws)}
    dataset = xr.Dataset({"distance": (("network", "width", "draw"), errors)}, names)
    named = zip(config.architectures, dataset.distance, strict=True)
    slopes = (root_exponent(f"slope_{_slug(name)}", distance) for name, distance in named)
    return dataset.assign({key: value for slope in slopes for key, value in slope.items()})


def _standardized(network: Network, width: int) -> tuple[Callable[[Any, Array], Array], PyTree]:
    """The network as a function of standard Gaussian parameters, and their shapes."""
    law, shapes = infinite.prior.ntk(_SIGMA_W, _SIGMA_B), network.shapes(width)
    scales = {name: float(law(name, shape).variance) ** 0.5 for name, shape in shapes.items()}
    return lambda raw, x: network.f({name: scales[name] * leaf for name, leaf in raw.items()}, x), shapes


def _distances(network: Network, config: Any, key: Key[Array, ""], dtype: Any) -> np.ndarray:
    """Relative distance of every drawn tangent kernel from the limit, widths × draws."""
    x = jax.random.normal(jax.random.fold_in(key, 1), (_INPUTS, *network.example), dtype)
    shapes = {name: jax.ShapeDtypeStruct(s, dtype) for name, s in network.shapes(config.widths[0]).items()}
    exact = infinite.limit(network.f, shapes, x, prior=infinite.prior.ntk(_SIGMA_W, _SIGMA_B)).ntk(x)
    rows = []
    for width in config.widths:
        f, shape = _standardized(network, width)

        def distance(key: Key[Array, ""], f: Any = f, shape: Any = shape) -> Array:
            raw = {n: jax.random.normal(jax.random.fold_in(key, i), s, dtype) for i, (n, s) in enumerate(shape.items())}
            drawn = empirical.ntk(f, raw, x).reshape(exact.shape)
            return jnp.linalg.norm((drawn - exact).ravel()) / jnp.linalg.norm(exact.ravel())

        draw_keys = jax.random.split(jax.random.fold_in(key, width), config.draws)
        rows.append(np.asarray(jax.lax.map(jax.jit(distance), draw_keys)))
    return np.stack(rows)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Distance over width, and the law width^(−1/2) through the middle of each architecture's points."""
    width = dataset.width.values.astype(float)
    for color, number, distance in zip(figures.PALETTE, dataset.network.values, dataset.distance, strict=False):
        root, error = root_mean_square(distance.values)
        figures.points(ax, width, root, error, color=color, label=list(NETWORKS)[number])
        level = np.exp(np.log(root * np.sqrt(width)).mean())
        figures.theory_line(ax, width, level / np.sqrt(width), color=color)
    what = r"$\|\hat\Theta_n-\Theta_\infty\| / \|\Theta_\infty\|$"
    title = "drawn NTK → limit; lines: width$^{-1/2}$"
    figures.label_axes(ax, "width $n$", what, title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, width)


STUDY = Study("convergence", predict, measure, draw)
