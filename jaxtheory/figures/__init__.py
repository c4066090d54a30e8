"""Plots: every function takes an `Axes`, draws one thing on it, and returns it.

No window is opened, no backend is chosen and no global figure is kept: `canvas` makes a plain figure that is
freed when you let go of it, and `save` writes it as PNG and PDF. Inside `style` everything has one look: a
palette that colour-blind readers tell apart, letters that survive a slide, a light grid.

>>> import tempfile
>>> from jaxtheory import figures
>>> with figures.style(), tempfile.TemporaryDirectory() as folder:
...     figure, (ax,) = figures.canvas()
...     _ = figures.theory_line(ax, [1, 2, 3], [1, 4, 9], label="theory")
...     _ = figures.points(ax, [1, 2, 3], [1.1, 3.9, 9.2], [0.1, 0.1, 0.2], label="measured")
...     [path.name for path in figures.save(figure, f"{folder}/squares")]
['squares.png', 'squares.pdf']
"""

from typing import TYPE_CHECKING

from jaxtheory._lazy import lazy

if TYPE_CHECKING:
    from jaxtheory.figures.canvas import canvas, save
    from jaxtheory.figures.marks import band, heat_map, label_axes, points, theory_line, threshold, ticks_at
    from jaxtheory.figures.style import PALETTE, style

__all__ = [
    "PALETTE",
    "band",
    "canvas",
    "heat_map",
    "label_axes",
    "points",
    "save",
    "style",
    "theory_line",
    "threshold",
    "ticks_at",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "canvas": (
            "canvas",
            "save",
        ),
        "marks": (
            "band",
            "heat_map",
            "label_axes",
            "points",
            "theory_line",
            "threshold",
            "ticks_at",
        ),
        "style": (
            "PALETTE",
            "style",
        ),
    },
)
