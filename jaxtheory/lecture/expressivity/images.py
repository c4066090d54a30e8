"""Images with a colour bar."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxtheory import figures


def draw_image(ax: Axes, values: np.ndarray, title: str, xlabel: str, ylabel: str, extent: Any) -> None:
    """An image of values[i, j] at the i-th x and the j-th y."""
    shown = ax.imshow(values.T, origin="lower", extent=extent, aspect="auto", cmap="cividis")
    ax.figure.colorbar(shown, ax=ax)
    ax.grid(visible=False)
    figures.label_axes(ax, xlabel, ylabel, title)
