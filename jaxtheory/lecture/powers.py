"""Powers of a size: the exponent of a root mean square over independent draws, and its panel."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import estimated
from jaxtheory.results import fit_slope


def exponent(name: str, sizes: Any, values: Any, errors: Any, draws: int) -> dict[str, float]:
    """The exponent of `sizes` in `values`, as the claim `name` wants it: each value from that many draws of its own.

    >>> {key: round(value, 3) for key, value in exponent("x", [1, 2, 4], [8, 4, 2], [0.1, 0.1, 0.1], 9).items()}
    {'x': -1.0, 'x_error': 0.029, 'x_draws': 9.0}
    """
    fit = fit_slope(*(jnp.asarray(part, float) for part in (sizes, values, errors)))
    return estimated(name, fit.slope, fit.standard_error, draws)


def plain_exponent(name: str, sizes: Any, values: Any, errors: Any, draws: int) -> dict[str, float]:
    """The same without weights: linear in the logarithms of the values, whose errors are independent.

    >>> {key: round(value, 3) for key, value in plain_exponent("x", [1, 2, 4], [8, 4, 2], [0.1, 0.1, 0.1], 9).items()}
    {'x': -1.0, 'x_error': 0.037, 'x_draws': 9.0}
    """
    sizes, values, errors = (np.asarray(part, float) for part in (sizes, values, errors))
    u = np.log(sizes) - np.log(sizes).mean()
    spread = np.sqrt(((u * errors / values) ** 2).sum()) / (u**2).sum()
    return estimated(name, fit_slope(jnp.asarray(sizes), jnp.asarray(values)).slope, spread, draws)


def root_exponent(name: str, values: xr.DataArray) -> dict[str, float]:
    """The same of root mean squares over draws, from `values` [size, draw]."""
    return exponent(name, values[values.dims[0]].values, *root_mean_square(values.values), values.shape[1])


def root_mean_square(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the last axis, and its standard error by the delta method.

    >>> [part.round(3).tolist() for part in root_mean_square(np.array([[3.0, 3.0], [1.0, 7.0]]))]
    [[3.0, 5.0], [0.0, 2.4]]
    """
    squares = values**2
    root = np.sqrt(squares.mean(-1))
    return root, squares.std(-1, ddof=1) / squares.shape[-1] ** 0.5 / (2 * root)


def draw_power(ax: Axes, values: xr.DataArray, power: float, *, color: str, label: str) -> None:
    """Root mean squares over draws as points, and the theory's power of the size through the first as a line."""
    sizes = values[values.dims[0]].values.astype(float)
    root, error = root_mean_square(values.values)
    figures.theory_line(ax, sizes, root[0] * (sizes / sizes[0]) ** power, label=label, color=color)
    figures.points(ax, sizes, root, error, color=color)
