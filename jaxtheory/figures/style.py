"""One look for every figure, meant to be read from the last row and by colour-blind eyes."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib import rcsetup

# Okabe and Ito (2008), in an order in which neighbours differ in lightness as well as in hue; yellow comes last,
# because it is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

_INK = "#333333"
_STYLE: Any = {
    "font.size": 13,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "axes.labelsize": 14,
    "axes.titlesize": 15,
    "axes.titlelocation": "left",
    # Leaves room between axes and title for the label of a `threshold`.
    "axes.titlepad": 24,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": rcsetup.cycler("color", PALETTE),
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.15,  # inches: the title of a row stands nearer to its own axes
    # Type 42 keeps text as text: searchable, editable, and accepted by publishers.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}
# Matplotlib's settings belong to the process, so threads that change them take turns.
_TURN = threading.RLock()


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The project's look, inside a `with`; matplotlib's own settings are back as they were afterwards.

    Letters are 12 pt and more on a panel of 7 by 4.5 inches. Blocks nest. One thread at a time is inside,
    since matplotlib's settings are global; the others wait.

    >>> with style():
    ...     mpl.rcParams["axes.spines.top"]
    False
    """
    with _TURN, mpl.rc_context(_STYLE):
        yield
