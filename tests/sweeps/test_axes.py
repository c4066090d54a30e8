"""The grid and its layout: what is accepted, how it is cut, and which randomness a point has."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtheory import sweeps
from jaxtheory.sweeps import axes

pytestmark = pytest.mark.usefixtures("unchecked")

SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def draw_layout(data):
    shape = data.draw(SHAPES)
    names = tuple("abcd"[: len(shape)])
    static = tuple(data.draw(st.sets(st.sampled_from(names))))
    paired = tuple(data.draw(st.sets(st.sampled_from(names))))
    made = sweeps.grid(**{name: range(size) for name, size in zip(names, shape, strict=True)})
    block = data.draw(st.none() | st.integers(1, 50))
    return axes.layout(made, static, paired, block), block


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chunks_tile_the_grid_once(data):
    layout, _ = draw_layout(data)
    places = np.concatenate([axes.positions(layout, chunk) for chunk in axes.chunks(layout)])
    assert sorted(map(tuple, places.tolist())) == list(itertools.product(*map(range, layout.shape)))
    for chunk in axes.chunks(layout):
        assert len(axes.positions(layout, chunk)) == math.prod(axes.extent(layout, chunk))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chunks_hold_the_root_of_the_points_or_a_block(data):
    """At least what was wanted, where the axes that are not static have it, and less than 4 times as much."""
    layout, block = draw_layout(data)
    sizes = [1 if name in layout.static else size for name, size in zip(layout.names, layout.shape, strict=True)]
    wanted, held = max(math.ceil(math.sqrt(math.prod(layout.shape))), block or 1), math.prod(layout.chunk)
    assert min(wanted, math.prod(sizes)) <= held < max(4 * wanted, 2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chunks_of_one_static_combination_come_together(data):
    layout, _ = draw_layout(data)
    runs = [key for key, _ in itertools.groupby(axes.combination(layout, chunk) for chunk in axes.chunks(layout))]
    sizes = [size for name, size in zip(layout.names, layout.shape, strict=True) if name in layout.static]
    assert sorted(runs) == list(itertools.product(*map(range, sizes)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_points_share_their_index_exactly_where_only_paired_axes_differ(data):
    layout, _ = draw_layout(data)
    places = np.array(list(itertools.product(*map(range, layout.shape))))
    kept = [column for column, name in enumerate(layout.names) if name not in layout.paired]
    index, first_seen = axes.stream(layout, places), {}
    for place, drawn in zip(places[:, kept].tolist(), index.tolist(), strict=True):
        assert first_seen.setdefault(tuple(place), drawn) == drawn
    assert sorted(first_seen.values()) == list(range(len(first_seen)))


def test_python_numbers_take_the_default_dtypes(dtype):
    made = sweeps.grid(ridge=[0.1, 1.0], seed=range(3), small=np.arange(2, dtype=np.int8), on=[False, True])
    coordinates = axes.coordinates(made, ())
    wide = dtype == jnp.float64
    kinds = {name: label.dtype.name for name, label in coordinates.items()}
    assert kinds == {"ridge": dtype.name, "seed": "int64" if wide else "int32", "small": "int8", "on": "bool"}


def test_static_axes_keep_python_values_and_are_labelled_by_name():
    made = sweeps.grid(activation=[jnp.tanh, "relu"], width=[0.1, 0.2])
    coordinates = axes.coordinates(made, ("activation", "width"))
    assert coordinates["activation"].tolist() == ["tanh", "relu"]
    assert coordinates["width"].tolist() == [0.1, 0.2]  # not rounded to 32 bits


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "at least one value"),
        (3.0, r"be a sequence, got a=3.0; write a=\[3.0\]"),
        ("relu", "be a sequence"),
        (jnp.zeros((2, 2)), "one-dimensional"),
        (np.array(2.0), "one-dimensional"),
        ([1.0, math.nan], "no NaN"),
    ],
)
def test_bad_axes_are_refused(values, message):
    with pytest.raises(ValueError, match=f"a must .*{message}"):
        sweeps.grid(a=values)


def test_bad_grids_are_refused():
    with pytest.raises(ValueError, match="at least one axis"):
        sweeps.grid()
    with pytest.raises(ValueError, match="key"):
        sweeps.grid(key=[1])
    with pytest.raises(ValueError, match=r"at most 2\*\*32"):
        sweeps.grid(a=np.arange(2**17), b=np.arange(2**16))


@pytest.mark.parametrize(
    ("values", "static", "message"),
    [
        (["relu", "erf"], (), r'real numbers.*static=\("a",\)'),
        ([1.0, 1.0 + 1e-12], (), "distinct values"),
        ([1, 1], (), "distinct values"),
        ([jnp.tanh, "tanh"], ("a",), "distinct values"),
        ([2**40, 1], (), "fit in int32"),
        ([1j], (), "real numbers"),
        (np.zeros(2, np.float16), (), "float16"),
        ([object()], ("a",), "lasting name"),
    ],
)
def test_values_that_cannot_be_labels_are_refused(values, static, message):
    with pytest.raises(ValueError, match=f"a must .*{message}"):
        axes.coordinates(sweeps.grid(a=values), static)


def test_making_a_grid_touches_no_device(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda *_: pytest.fail("a device was asked for"))
    assert sweeps.grid(a=[1.0], b=range(3), c=np.arange(2)).size == 6
