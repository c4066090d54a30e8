"""What panels share: means of independent draws as points with their standard errors."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures


def mean_and_error(values: Any, over: Any = 0) -> tuple[np.ndarray, np.ndarray]:
    """The mean of independent draws and its standard error.

    Args:
        values: numbers or a DataArray.
        over: the axis of the draws, or its name in a DataArray.

    >>> [part.tolist() for part in mean_and_error(np.array([[1.0, 5.0], [3.0, 5.0]]))]
    [[2.0, 5.0], [1.0, 0.0]]
    """
    if isinstance(values, xr.DataArray):
        return values.mean(over).values, values.std(over, ddof=1).values / np.sqrt(values.sizes[over])
    return values.mean(axis=over), values.std(axis=over, ddof=1) / np.sqrt(values.shape[over])


def draw_means(ax: Axes, x: Any, values: Any, over: Any = 0, **look: Any) -> None:
    """Means of independent draws as points with one standard error; `look` as in `figures.points`."""
    figures.points(ax, x, *mean_and_error(values, over), **look)


def draw_joined(ax: Axes, x: Any, values: Any, over: Any = 0, *, color: str, **look: Any) -> None:
    """The same joined by a thin line, where no law is known."""
    mean, error = mean_and_error(values, over)
    figures.points(ax, x, mean, error, color=color, **look)
    ax.plot(x, mean, color=color, linewidth=1.0)
