"""A figure that belongs to its caller alone, and the two files it becomes."""

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory.checks import require
from jaxtheory.figures.style import style

_PANEL = (7.0, 4.5)
# Dates and versions would make equal figures unequal files.
_METADATA: dict[str, dict[str, str | None]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def canvas(rows: int = 1, columns: int = 1, *, panel: tuple[float, float] = _PANEL) -> tuple[Figure, tuple[Axes, ...]]:
    """A new figure of rows x columns panels in the project's style, outside pyplot's global state.

    Args:
        rows, columns: ≥ 1.
        panel: width and height of one panel, inches.

    Returns:
        The figure, and its axes row by row: `figure, (left, right) = canvas(1, 2)`.

    Raises:
        ValueError: no panels, or a panel without a size.

    >>> figure, axes = canvas(2, 2)
    >>> len(axes), figure.get_size_inches().tolist()
    (4, [14.0, 9.0])
    """
    for name, count in (("rows", rows), ("columns", columns)):
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool) and count >= 1
        require(whole, name, count, "be >= 1, whole", "a figure needs a panel")
    sizes = panel if isinstance(panel, tuple | list) else ()
    sound = len(sizes) == 2 and all(isinstance(v, int | float | np.number) and 0 < v < np.inf for v in sizes)
    require(sound, "panel", panel, "be a width and a height > 0, in inches", "write panel=(7.0, 4.5)")
    with style():
        figure = Figure(figsize=(columns * panel[0], rows * panel[1]))
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, tuple(axes.ravel())


def save(figure: Figure, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a figure as `path`.png (200 dots an inch) and `path`.pdf, making the folder where it is missing.

    Each file appears whole or not at all: it is written under another name first, then renamed. Equal figures give
    equal bytes with the same matplotlib.

    Args:
        figure: as from `canvas`.
        path: without a suffix, or ending in .png or .pdf; either way both files are written.

    Returns:
        The paths of the PNG and of the PDF.

    Raises:
        ValueError: what is no figure, or no name of a file.
        OSError: of the kind that occurred (no permission, disk full, ...), naming the path.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in save(canvas()[0], f"{folder}/width=0.5")]
    ['width=0.5.png', 'width=0.5.pdf']
    """
    require(isinstance(figure, Figure), "figure", type(figure).__name__, "be a figure of matplotlib", "use canvas()")
    named = isinstance(path, str | os.PathLike) and bool(Path(path).name)
    require(named, "path", repr(path), "name a file", 'write "figures/risk"')
    stem = Path(path)
    if stem.suffix in _METADATA:
        stem = stem.with_suffix("")
    mark = uuid.uuid4().hex
    targets = [stem.with_name(stem.name + suffix) for suffix in _METADATA]
    drafts = [stem.with_name(f".{stem.name}.{mark}{suffix}") for suffix in _METADATA]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        _write(figure, drafts)
        for draft, target in zip(drafts, targets, strict=True):
            draft.replace(target)
    except OSError as error:
        reason = f"could not save the figure as {targets[0].absolute()} and .pdf: {error.strerror or error}"
        raise OSError(error.errno, reason) from error
    finally:
        _discard(drafts)
    return targets[0], targets[1]


def _write(figure: Figure, drafts: list[Path]) -> None:
    """The figure under each of the names, whose suffixes are the formats."""
    with style(), _quiet_fonts():
        for draft in drafts:
            figure.savefig(draft, dpi=200, metadata=_METADATA[draft.suffix])


@contextlib.contextmanager
def _quiet_fonts() -> Iterator[None]:
    """fontTools warns of the dates in the fonts that a PDF embeds, which nobody can change."""
    logger = logging.getLogger("fontTools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _discard(drafts: list[Path]) -> None:
    """Drafts left by a failure, which may have happened before there was a folder."""
    for draft in drafts:
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)
