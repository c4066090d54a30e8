"""Animations of what the particles did."""

from collections.abc import Callable
from pathlib import Path

from matplotlib import animation
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def movie(figure: Figure, draw: Callable[[int], list[Artist]], frames: int, path: Path) -> None:
    """A GIF of `draw(0)`, `draw(1)`, ... on the axes of one figure, five seconds long."""
    FigureCanvasAgg(figure)
    draw(0)
    figure.draw_without_rendering()  # lay out once, then keep the axes still: frames are quick and do not jump
    figure.set_layout_engine("none")
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = max(2, frames // 5)
    animation.FuncAnimation(figure, draw, frames=range(frames)).save(path, animation.PillowWriter(fps=rate), dpi=70)
