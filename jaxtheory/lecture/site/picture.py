"""A figure as SVG for a page, on white and on black."""

import colorsys
import io
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

_COLOR = re.compile(r"#[0-9a-fA-F]{6}\b")
_PAPER, _INK = 0.09, 0.93  # lightness of the dark page, and of what was black


def save_svg(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write `path`.svg and `path`-dark.svg, without dates: equal figures give equal files.

    >>> import tempfile
    >>> from jaxtheory import figures
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [p.name for p in save_svg(figures.canvas()[0], Path(folder) / "figure")]
    ['figure.svg', 'figure-dark.svg']
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "jaxtheory", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    light, shade = (path.with_name(f"{path.name}{end}.svg") for end in ("", "-dark"))
    light.write_text(buffer.getvalue(), encoding="utf-8")
    shade.write_text(dark(buffer.getvalue()), encoding="utf-8")
    return light, shade


def dark(svg: str) -> str:
    """The same drawing for a dark page: greys are turned round, dark colours are made lighter, images stay.

    Black is also the default of what names no colour, as letters; so the drawing gets one.

    >>> dark('<svg fill="#000000" stroke="#ffffff"/>')
    '<svg style="fill: #ededed" fill="#ededed" stroke="#171717"/>'
    """
    turned = _COLOR.sub(lambda found: _turned(found.group()), svg)
    return turned.replace("<svg ", f'<svg style="fill: {_turned("#000000")}" ', 1)


def _turned(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    lightness = _INK + (_PAPER - _INK) * lightness if saturation < 0.15 else max(lightness, 0.55)
    mixed = colorsys.hls_to_rgb(hue, lightness, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)
