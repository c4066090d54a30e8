"""Figures: what is drawn, what is refused, and the files they become."""

import gc
import subprocess
import sys
import threading
import weakref

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from jaxtheory import figures

pytestmark = pytest.mark.smoke

X, HOLES = np.arange(1.0, 6.0), np.array([1.0, np.nan, 3.0, np.inf, 5.0])


@pytest.fixture
def ax():
    return figures.canvas()[1][0]


def demo():
    with figures.style():
        figure, (ax,) = figures.canvas()
        figures.theory_line(ax, X, X**-1, label="theory", color=figures.PALETTE[1])
        figures.points(ax, X, X**-1, 0.1 / X, label="measured", color=figures.PALETTE[1])
        figures.band(ax, X, 0.8 / X, 1.2 / X, color=figures.PALETTE[1])
        figures.threshold(ax, 3.0, "$p = n$")
        figures.label_axes(ax, "width", "risk", "Risk falls", xscale="log", yscale="log")
    return figure


def test_drawing_and_saving_choose_no_backend_and_leave_pyplot_alone(tmp_path):
    code = (
        "import sys, matplotlib\n"
        "chosen = lambda: dict.__getitem__(matplotlib.rcParams, 'backend')\n"
        "before = chosen()\n"
        "from jaxtheory import figures\n"
        "figure, _ = figures.canvas()\n"
        "figures.save(figure, sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert chosen() is before\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "empty")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty.png").exists()


def test_style_ends_with_its_block_and_nests():
    before = dict(mpl.rcParams)
    with figures.style():
        assert mpl.rcParams["pdf.fonttype"] == 42
        with figures.style():
            assert not mpl.rcParams["axes.spines.top"]
        assert not mpl.rcParams["axes.spines.top"]
    assert dict(mpl.rcParams) == before


def test_style_is_undone_by_an_error_too():
    before = dict(mpl.rcParams)

    def fails():
        with figures.style():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert dict(mpl.rcParams) == before


def test_letters_are_large_enough_at_half_size():
    """Half of 12 pt is the 6 pt that journals name as the least."""
    figure = demo()
    ax = figure.axes[0]
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts, *ax.get_legend().texts, *ax.get_xticklabels()]
    assert min(text.get_fontsize() for text in texts) >= 12


def luminance(color):
    """WCAG 2 relative luminance."""
    channels = np.array(mpl.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_palette_is_that_of_okabe_and_ito_and_its_first_colours_stand_out_on_white():
    """Contrast of at least 3:1, the WCAG's least for graphics, for the first three."""
    okabe_ito = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert set(figures.PALETTE) == okabe_ito
    assert all(1.05 / (luminance(color) + 0.05) > 3 for color in figures.PALETTE[:3])


def test_a_line_has_gaps_where_it_is_not_finite(ax):
    assert figures.theory_line(ax, X, jnp.asarray(HOLES), label="theory") is ax
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, np.nan, 3, np.nan, 5])
    assert np.isfinite(ax.get_ylim()).all()
    assert ax.lines[0].get_label() == "theory"


def test_colours_are_taken_in_turn_unless_named(ax):
    for color in (None, None, "#123456"):
        figures.theory_line(ax, X, X, color=color)
    assert [line.get_color() for line in ax.lines] == [*figures.PALETTE[:2], "#123456"]


def test_error_bars_reach_one_standard_error(ax):
    error = np.array([0.1, 0.2, np.nan, 0.3, 0.5])
    figures.points(ax, X, HOLES, error, label="measured")
    bars = ax.containers[0].lines[2][0].get_segments()
    ends = [tuple(np.asarray(bar)[:, 1]) for bar in bars if np.size(bar) and np.isfinite(bar).all()]
    np.testing.assert_allclose(ends, [(0.9, 1.1), (4.5, 5.5)])
    np.testing.assert_array_equal(ax.containers[0].lines[0].get_ydata(), [1, np.nan, 3, np.nan, 5])


def test_points_are_not_joined(ax):
    figures.points(ax, X, X)
    assert ax.containers[0].lines[0].get_linestyle() == "None"


def test_band_lies_between_its_curves(ax):
    figures.band(ax, X, X - 1, X + np.array([1, 1, np.nan, 1, 1]), color=figures.PALETTE[0])
    vertices = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    assert (vertices[:, 1].min(), vertices[:, 1].max()) == (0.0, 6.0)
    assert not ((vertices[:, 0] > 2) & (vertices[:, 0] < 4)).any()


def test_threshold_stands_where_it_is_told_with_its_label(ax):
    assert figures.threshold(ax, 2.5, "$p = n$") is ax
    assert list(ax.lines[0].get_xdata()) == [2.5, 2.5]
    assert [text.get_text() for text in ax.texts] == ["$p = n$"]


def test_the_label_of_a_threshold_does_not_touch_the_title():
    figure = demo()
    ax = figure.axes[0]
    with figures.style():
        ax.set_title("a title so long that it passes above the threshold and further")
    figure.canvas.draw()
    label = next(text for text in ax.texts if text.get_text() == "$p = n$").get_window_extent()
    titles = [text for text in ax.findobj(mpl.text.Text) if text.get_text().startswith("a title")]
    assert [label.overlaps(title.get_window_extent()) for title in titles] == [False]
    assert titles[0].get_window_extent().x1 > label.x1


def test_axes_are_labelled_with_a_legend_only_for_what_has_a_name(ax):
    figures.theory_line(ax, X, X)
    figures.label_axes(ax, "width", "risk", "Risk", xscale="log")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale(), ax.get_yscale()) == ("width", "risk", "log", "linear")
    assert ax.get_legend() is None
    figures.theory_line(ax, X, X, label="named")
    assert figures.label_axes(ax, "width", "risk").get_legend() is not None


@pytest.mark.parametrize(
    ("values", "labels"),
    [([128, 64, 10000], ["64", "128", "10000"]), (range(10, 110, 10), ["10", "20", "30", "60", "100"])],
)
def test_ticks_stand_at_the_values_and_nowhere_else(ax, values, labels):
    """All of few, and of many the nearest to even steps of the logarithm."""
    figures.label_axes(ax, "width", "risk", xscale="log")
    figures.ticks_at(ax.xaxis, list(values))
    assert [text.get_text() for text in ax.get_xticklabels()] == labels
    assert ax.get_xticks().tolist() == [float(label) for label in labels]
    assert ax.get_xticks(minor=True).size == 0


@pytest.mark.parametrize("draw", [figures.theory_line, figures.points])
def test_nothing_finite_or_unpaired_is_refused(ax, draw):
    with pytest.raises(ValueError, match="y must hold a finite point, got y=5 values, none finite"):
        draw(ax, X, np.full(5, np.nan))
    with pytest.raises(
        ValueError, match=r"y must be one-dimensional, as long as x of shape \(5,\), got y=shape \(4,\)"
    ):
        draw(ax, X, X[:4])
    assert not ax.lines


def test_bad_marks_are_named(ax):
    with pytest.raises(ValueError, match=r"error must be >= 0, got error=-0\.1"):
        figures.points(ax, X, X, [0.1, 0.1, -0.1, 0.1, np.nan])
    with pytest.raises(ValueError, match="error must have the shape of y"):
        figures.points(ax, X, X, [0.1])
    with pytest.raises(ValueError, match="low must be <= high, got low=5 points above high"):
        figures.band(ax, X, X + 1, X, color="k")
    with pytest.raises(ValueError, match="x must be finite"):
        figures.threshold(ax, float("nan"))
    with pytest.raises(ValueError, match="rows must be >= 1"):
        figures.canvas(0, 1)


@pytest.mark.parametrize("junk", ["abc", ["1", "2"], [1j, 2, 3], [[1, 2], [3]], [10**400], {"a": 1}, [object()]])
def test_what_is_no_number_is_named(ax, junk, unchecked):
    calls = {
        "x": [lambda: figures.theory_line(ax, junk, X), lambda: figures.threshold(ax, junk)],
        "y": [lambda: figures.points(ax, X, junk), lambda: figures.heat_map(ax, X, junk, np.eye(5), "risk")],
        "error": [lambda: figures.points(ax, X, X, junk)],
        "low": [lambda: figures.band(ax, X, junk, X, color="k")],
        "high": [lambda: figures.band(ax, X, X, junk, color="k")],
        "values": [lambda: figures.heat_map(ax, X, X, junk, "risk"), lambda: figures.ticks_at(ax.xaxis, junk)],
    }
    for name, draws in calls.items():
        for draw in draws:
            with pytest.raises(ValueError, match=f"{name} must be real numbers"):
                draw()


def test_what_is_no_figure_axes_or_label_is_named(ax, tmp_path, unchecked):
    for call, message in (
        (lambda: figures.theory_line(None, X, X), "ax must be axes"),
        (lambda: figures.ticks_at(None, X), "axis must be an axis"),
        (lambda: figures.ticks_at(ax.xaxis, []), "values must be one or more positive"),
        (lambda: figures.ticks_at(ax.xaxis, [0.0, 1.0]), "values must be one or more positive"),
        (lambda: figures.heat_map(ax, [2, 1], [1, 2], np.eye(2), "risk"), "x must be one or more positive"),
        (lambda: figures.threshold(ax, X), "x must be finite"),
        (lambda: figures.label_axes(ax, None, "y"), "xlabel must be text"),
        (lambda: figures.label_axes(ax, "x", "y", xscale="cubic"), "xscale must be one of"),
        (lambda: figures.canvas("a"), "rows must be >= 1"),
        (lambda: figures.canvas(1, True), "columns must be >= 1"),
        (lambda: figures.canvas(panel=(0, 1)), "panel must be a width and a height"),
        (lambda: figures.save(None, tmp_path / "risk"), "figure must be a figure"),
        (lambda: figures.save(ax.figure, ""), "path must name a file"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_masked_values_leave_a_gap(ax):
    figures.theory_line(ax, X, np.ma.array(X, mask=[False, True, False, False, False]))
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), [1, np.nan, 3, 4, 5])


def test_saved_files_are_a_png_of_200_dots_an_inch_and_a_pdf_with_its_fonts(tmp_path):
    png, pdf = figures.save(demo(), tmp_path / "new" / "folder" / "risk")
    assert imread(png).shape[:2] == (900, 1400)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"/FontFile2" in pdf.read_bytes()
    assert sorted(path.name for path in png.parent.iterdir()) == ["risk.pdf", "risk.png"]


def test_equal_figures_are_equal_files(tmp_path):
    for first, second in zip(figures.save(demo(), tmp_path / "a"), figures.save(demo(), tmp_path / "b"), strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert b"Date" not in first.read_bytes()


@pytest.mark.parametrize("name", ["risk", "risk.png", "risk.pdf", "risk_0.5"])
def test_either_suffix_or_none_gives_both_files(tmp_path, name):
    stem = name.removesuffix(".png").removesuffix(".pdf")
    assert [path.name for path in figures.save(demo(), str(tmp_path / name))] == [f"{stem}.png", f"{stem}.pdf"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=f"could not save the figure as {tmp_path}/file/risk.png"):
        figures.save(demo(), tmp_path / "file" / "risk")


def test_a_failed_save_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch):
    """The disk is full when the second of the two files is written."""
    old = [path.read_bytes() for path in figures.save(demo(), tmp_path / "risk")]
    figure = figures.canvas()[0]
    write = figure.savefig

    def full(path, **options):
        if path.suffix == ".pdf":
            path.write_bytes(b"%PDF half")
            raise OSError(28, "No space left on device")
        write(path, **options)

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(OSError, match=r"risk\.png and \.pdf: No space left on device"):
        figures.save(figure, tmp_path / "risk")
    assert [(tmp_path / name).read_bytes() for name in ("risk.png", "risk.pdf")] == old
    assert len(list(tmp_path.iterdir())) == 2


def test_a_figure_that_is_let_go_is_freed():
    figure = demo()
    gone = weakref.ref(figure)
    del figure
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def test_threads_draw_the_same_figure(tmp_path):
    """Four threads at once; each file equals that of a lone thread."""
    alone = figures.save(demo(), tmp_path / "alone")[0].read_bytes()
    before = dict(mpl.rcParams)
    threads = [threading.Thread(target=lambda i=i: figures.save(demo(), tmp_path / f"{i}")) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(tmp_path / f"{i}.png").read_bytes() == alone for i in range(4)] == [True] * 4
    assert dict(mpl.rcParams) == before


def test_a_heat_map_has_a_cell_around_each_centre():
    """Logarithmic centres 1, 10, 100 have edges at powers of √10; what is not positive is blank."""
    figure, (ax,) = figures.canvas()
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, -1.0]])
    assert figures.heat_map(ax, [1, 10, 100], [2, 8], values, "loss") is ax
    (mesh,) = ax.collections
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], 10 ** np.array([-0.5, 0.5, 1.5, 2.5]), rtol=1e-12)
    np.testing.assert_allclose(mesh.get_coordinates()[:, 0, 1], [1, 4, 16], rtol=1e-12)
    assert np.ma.getmaskarray(mesh.get_array()).sum() == 2
    assert len(figure.axes) == 2
    with pytest.raises(ValueError, match="values must be"):
        figures.heat_map(ax, [1, 10], [2, 8], values, "loss")
    with pytest.raises(ValueError, match="values must hold one"):
        figures.heat_map(ax, [1, 10], [2, 8], np.zeros((2, 2)), "loss")


def test_ticks_of_whole_numbers_have_all_their_digits():
    _, (ax,) = figures.canvas()
    figures.label_axes(ax, "n", "risk", xscale="log")
    assert [text.get_text() for text in figures.ticks_at(ax.xaxis, [1024, 4096, 16384]).get_ticklabels()] == [
        "1024",
        "4096",
        "16384",
    ]
    assert [text.get_text() for text in figures.ticks_at(ax.xaxis, [0.12345, 2.0]).get_ticklabels()] == ["0.123", "2"]


@pytest.mark.parametrize(("high", "labels"), [(80, {"2", "5"}), (1000, set())])
def test_minor_ticks_of_a_logarithmic_axis_are_few(high, labels):
    """Below 1.7 decades at 2 and 5 alone, above nowhere: labels do not overlap."""
    figure, (ax,) = figures.canvas()
    figures.theory_line(ax, [10, high], [1, 2])
    figures.label_axes(ax, "n", "risk", xscale="log")
    ax.set_xlim(10, high)
    figure.draw_without_rendering()
    told = {text.get_text() for text in ax.get_xticklabels(minor=True)} - {""}
    assert {word[1] for word in told} == labels


def test_a_narrow_logarithmic_axis_labels_its_ticks_by_their_values(ax):
    """From .41 to .53 one round number lies on the axis: the ticks beside .5 are not called .5 too."""
    figures.points(ax, np.array([0.41, 0.45, 0.53]), X[:3])
    figures.label_axes(ax, "n", "risk", xscale="log")
    ax.set_xlim(0.41, 0.53)
    ax.figure.draw_without_rendering()
    ticks = zip(ax.get_xticks(minor=True), ax.get_xticklabels(minor=True), strict=True)
    told = {tick: label.get_text() for tick, label in ticks if 0.41 <= tick <= 0.53}
    assert len(told) >= 2
    assert all(abs(float(label) - tick) < 5e-4 for tick, label in told.items())
