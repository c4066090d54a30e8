"""What goes on axes: the line of a theory, the points of a measurement, a band, a threshold, the labels."""

import math
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedFormatter, FixedLocator, Formatter, NullLocator
from numpy.typing import ArrayLike

from jaxtheory.checks import require

Scale = Literal["linear", "log", "symlog", "logit"]


def theory_line(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    label: str | None = None,
    color: str | None = None,
    linestyle: str = "-",
) -> Axes:
    """A predicted curve. NaN and infinite values leave a gap.

    Args:
        ax: drawn on, and returned.
        x, y: [n], in the order in which they are joined.
        label: for the legend.
        color: the next of the palette when None.
        linestyle: as matplotlib's; "--" tells a second theory from the first in print.

    Raises:
        ValueError: lengths that differ, or no finite point at all.

    >>> from jaxtheory import figures
    >>> _, (ax,) = figures.canvas()
    >>> theory_line(ax, [1, 2, 3], [1.0, float("nan"), 9.0], label="theory").get_lines()[0].get_label()
    'theory'
    """
    _require_axes(ax)
    horizontal, vertical = _finite_pairs(x, y)
    ax.plot(horizontal, vertical, label=label, color=color, linestyle=linestyle, zorder=3)
    return ax


def points(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    error: ArrayLike | None = None,
    *,
    label: str | None = None,
    color: str | None = None,
    marker: str = "o",
) -> Axes:
    """Measured values, with one standard error up and down. Values that are not finite are left out.

    Args:
        ax: drawn on, and returned.
        x, y: [n].
        error: [n] standard errors; a point whose error is NaN or infinite is drawn without a bar.
        label: for the legend.
        color: the next of the palette when None.
        marker: as matplotlib's.

    Raises:
        ValueError: lengths that differ, a negative error, or no finite point at all.

    >>> from jaxtheory import figures
    >>> _, (ax,) = figures.canvas()
    >>> len(points(ax, [1, 2, 3], [1.1, 3.9, 9.2], [0.1, 0.1, 0.2], label="measured").containers)
    1
    """
    _require_axes(ax)
    horizontal, vertical = _finite_pairs(x, y)
    bars = None if error is None else _errors(error, vertical)
    drawn = ax.errorbar(
        horizontal,
        vertical,
        yerr=bars,
        label=label,
        color=color,
        fmt=marker,
        markeredgecolor="white",
        markeredgewidth=0.7,
        elinewidth=1.4,
        capsize=2.5,
        zorder=4,
    )
    # Drawn as points, so that what lies on a predicted line is seen to lie on it.
    drawn.lines[0].set_linestyle("none")
    return ax


def band(ax: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, color: str, label: str | None = None) -> Axes:
    """The range between two curves, quantiles or y ± standard error, for points too dense for error bars.

    Args:
        ax: drawn on, and returned.
        x, low, high: [n]; where one of them is not finite there is a gap.
        color: that of the curve it belongs to.
        label: for the legend.

    Raises:
        ValueError: lengths that differ, low > high somewhere, or no finite point at all.

    >>> from jaxtheory import figures
    >>> _, (ax,) = figures.canvas()
    >>> len(band(ax, [1, 2], [0.9, 3.8], [1.1, 4.2], color=figures.PALETTE[0]).collections)
    1
    """
    _require_axes(ax)
    horizontal, below = _finite_pairs(x, low, "low")
    above = _finite_pairs(x, high, "high")[1]
    crossed = int((below > above).sum())
    require(crossed == 0, "low", f"{crossed} points above high", "be <= high", "pass the lower curve first")
    ax.fill_between(horizontal, below, above, color=color, alpha=0.22, linewidth=0, label=label, zorder=2)
    return ax


def threshold(ax: Axes, x: float, label: str | None = None) -> Axes:
    """A dashed vertical line where something changes, its label above the axes, clear of the curves.

    Args:
        ax: drawn on, and returned.
        x: where, in the units of the axis; finite.
        label: a word or a formula, as "$p = n$".

    Raises:
        ValueError: a place that is not finite.

    >>> from jaxtheory import figures
    >>> _, (ax,) = figures.canvas()
    >>> [text.get_text() for text in threshold(ax, 100.0, "p = n").texts]
    ['p = n']
    """
    _require_axes(ax)
    place = _numbers("x", x)
    require(place.size == 1 and bool(np.isfinite(place).all()), "x", x, "be finite", "a threshold has one place")
    x = float(place.item())
    ax.axvline(x, color="#777777", linestyle=(0, (4, 3)), linewidth=1.3, zorder=1)
    if label is not None:
        ax.annotate(
            label,
            (x, 1.0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(0, 4),
            textcoords="offset points",
            horizontalalignment="center",
            verticalalignment="bottom",
            fontsize=12,
            color="#555555",
        )
    return ax


def heat_map(
    ax: Axes, x: ArrayLike, y: ArrayLike, values: ArrayLike, label: str, *, limits: tuple[float, float] | None = None
) -> Axes:
    """A table of positive values as colours on a logarithmic scale, with its colour bar; one cell a pair (x, y).

    Args:
        ax: drawn on, and returned.
        x, y: [columns], [rows], increasing and positive: the centres of the cells, in logarithm.
        values: [rows, columns]; what is not finite stays blank.
        label: of the colour bar, with units.
        limits: the ends of the colours, beyond which they do not change; those of the values when None.

    Raises:
        ValueError: a table of another shape, or without a finite positive value; centres that do not increase.

    >>> from jaxtheory import figures
    >>> _, (ax,) = figures.canvas()
    >>> heat_map(ax, [1, 10, 100], [1, 2], [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]], "risk").get_xscale()
    'log'
    """
    _require_axes(ax)
    table, columns, rows = _numbers("values", values), _increasing("x", x), _increasing("y", y)
    shape = (len(rows), len(columns))
    require(table.shape == shape, "values", f"shape {table.shape}", f"be [rows, columns] = {shape}", "transpose it")
    shown = np.where(np.isfinite(table) & (table > 0), table, np.nan)
    require(bool(np.isfinite(shown).any()), "values", "no positive finite value", "hold one", "look at the status")
    low, high = limits or (np.nanmin(shown), np.nanmax(shown))
    mesh = ax.pcolormesh(_edges(columns), _edges(rows), shown, norm=LogNorm(low, high), cmap="cividis", rasterized=True)
    ax.figure.colorbar(mesh, ax=ax, label=label)
    ax.set(xscale="log", yscale="log")
    ax.grid(visible=False)
    return ax


def _edges(centres: np.ndarray) -> np.ndarray:
    """Edges of cells around their centres, halfway in logarithm."""
    logs = np.log(centres)
    middles = (logs[1:] + logs[:-1]) / 2 if len(logs) > 1 else np.array([])
    first = logs[0] - (middles[0] - logs[0] if len(middles) else 0.5)
    last = logs[-1] + (logs[-1] - middles[-1] if len(middles) else 0.5)
    return np.exp(np.concatenate([[first], middles, [last]]))


def label_axes(
    ax: Axes,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    *,
    xscale: Scale = "linear",
    yscale: Scale = "linear",
) -> Axes:
    """Names, scales and, where anything is labelled, a legend: the last call for each panel.

    Args:
        ax: finished, and returned.
        xlabel, ylabel: with units.
        title: what is to be seen, in a line.
        xscale, yscale: matplotlib's names.

    Raises:
        ValueError: a name that is not text, another scale.

    >>> from jaxtheory import figures
    >>> _, (ax,) = figures.canvas()
    >>> label_axes(ax, "width p", "test error", yscale="log").get_yscale()
    'log'
    """
    _require_axes(ax)
    for name, text in (("xlabel", xlabel), ("ylabel", ylabel), ("title", "" if title is None else title)):
        require(isinstance(text, str), name, text, "be text", "write it as it is to be read")
    for name, scale in (("xscale", xscale), ("yscale", yscale)):
        known = isinstance(scale, str) and scale in get_args(Scale)
        require(known, name, scale, f"be one of {get_args(Scale)}", f'write {name}="log"')
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    for axis, scale in ((ax.xaxis, xscale), (ax.yaxis, yscale)):
        if scale == "log":
            axis.set_minor_formatter(_FewMinor())
    if title is not None:
        ax.set_title(title)
    if ax.get_legend_handles_labels()[0]:
        ax.legend()
    return ax


def ticks_at(axis: Axis, values: ArrayLike, most: int = 5) -> Axis:
    """Ticks at the values themselves, evenly picked where they are many, on a logarithmic axis of few decades.

    After `label_axes`, whose scale brings ticks of its own.

    Args:
        axis: `ax.xaxis` or `ax.yaxis`, returned.
        values: positive, in any order.
        most: how many ticks at most.

    Raises:
        ValueError: values that are not positive or not finite, or none; most < 1.

    >>> from jaxtheory import figures
    >>> _, (ax,) = figures.canvas()
    >>> _ = figures.label_axes(ax, "n", "risk", xscale="log")
    >>> [text.get_text() for text in ticks_at(ax.xaxis, [64, 128]).get_ticklabels()]
    ['64', '128']
    """
    require(isinstance(axis, Axis), "axis", type(axis).__name__, "be an axis of matplotlib", "pass ax.xaxis")
    places = np.unique(_positive("values", values))
    whole = isinstance(most, int | np.integer) and not isinstance(most, bool) and most >= 1
    require(whole, "most", most, "be a whole number >= 1", "use 5")
    wanted = np.geomspace(places[0], places[-1], most)
    picked = places if len(places) <= most else places[sorted({int(abs(np.log(places / w)).argmin()) for w in wanted})]
    axis.set_major_locator(FixedLocator(picked.tolist()))
    axis.set_major_formatter(FixedFormatter([_exactly(place) for place in picked.tolist()]))
    axis.set_minor_locator(NullLocator())
    return axis


def _exactly(place: float) -> str:
    """A whole number with all its digits, another one with three: 1024 is not 1020."""
    return f"{place:.10g}" if place.is_integer() else f"{float(f'{place:.3g}'):.10g}"


class _FewMinor(Formatter):
    """Labels of minor ticks on a logarithmic axis: at 2 and 5 where the axis has less than 1.7 decades, and at all of
    them where fewer than two of 1, 2 and 5 times a power of ten lie on it."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        assert self.axis is not None
        low, high = sorted(self.axis.get_view_interval())
        if math.log10(high / low) >= 1.7:
            return ""
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        if sum(low <= lead * 10.0**power <= high for power in powers for lead in (1, 2, 5)) < 2:
            return _exactly(x)
        power = math.floor(math.log10(x) + 1e-9)
        lead = x / 10.0**power
        return f"${lead:.0f} \\times 10^{{{power}}}$" if min(abs(lead - 2), abs(lead - 5)) < 1e-6 else ""


def _numbers(name: str, values: Any) -> np.ndarray:
    """Real numbers as floats, NaN where they are masked."""
    try:
        given = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
        kind = given.dtype.name
        # text of digits, dates and complex numbers would be read as other numbers than they are
        found = None if given.dtype.kind in "USMmc" else np.ma.filled(given.astype(float), np.nan)
    except (TypeError, ValueError, OverflowError):
        found, kind = None, type(values).__name__
    require(
        found is not None, name, kind, "be real numbers", "pass an array or a list of numbers, rows of equal length"
    )
    assert found is not None
    return found


def _require_axes(ax: object) -> None:
    require(isinstance(ax, Axes), "ax", type(ax).__name__, "be axes of matplotlib", "take one from figures.canvas()")


def _positive(name: str, values: Any, wish: str = "be one or more positive numbers") -> np.ndarray:
    """Places on a logarithmic axis."""
    found = _numbers(name, values)
    sound = found.ndim == 1 and found.size > 0 and bool(((found > 0) & (found < np.inf)).all())
    require(sound, name, found, wish, "leave out what has no logarithm")
    return found


def _increasing(name: str, values: Any) -> np.ndarray:
    """Places on a logarithmic axis, in the order of the axis."""
    wish = "be one or more positive numbers in increasing order"
    found = _positive(name, values, wish)
    require(bool((np.diff(found) > 0).all()), name, found, wish, "sort them, and the values with them")
    return found


def _finite_pairs(x: ArrayLike, y: ArrayLike, name: str = "y") -> tuple[np.ndarray, np.ndarray]:
    """x and y as floats, NaN in both where one is not finite."""
    horizontal, vertical = _numbers("x", x), _numbers(name, y)
    same = horizontal.ndim == vertical.ndim == 1 and horizontal.shape == vertical.shape
    wish = f"be one-dimensional, as long as x of shape {horizontal.shape}"
    require(same, name, f"shape {vertical.shape}", wish, "pass one curve a call")
    finite = np.isfinite(horizontal) & np.isfinite(vertical)
    hint = "look at the status of the computation that made it"
    require(bool(finite.any()), name, f"{vertical.size} values, none finite", "hold a finite point", hint)
    return np.where(finite, horizontal, np.nan), np.where(finite, vertical, np.nan)


def _errors(error: ArrayLike, y: np.ndarray) -> np.ndarray:
    """Standard errors as floats, NaN where there is none."""
    bars = _numbers("error", error)
    require(bars.shape == y.shape, "error", f"shape {bars.shape}", f"have the shape of y, {y.shape}", "pair them")
    worst = "NaN" if np.isnan(bars).all() else np.nanmin(bars)
    require(not (bars < 0).any(), "error", worst, "be >= 0", "pass standard errors, not signed residuals")
    return np.where(np.isfinite(bars), bars, np.nan)
