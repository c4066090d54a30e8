"""The grid: what is accepted, what identifies a value, how a store is cut, and which randomness a point has."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps.common import keyed, run

from jaxtheory import sweeps
from jaxtheory.sweeps import axes, tasks
from jaxtheory.sweeps import layout as layouts

pytestmark = pytest.mark.usefixtures("unchecked")

SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def draw_layout(data):
    shape = data.draw(SHAPES)
    names = tuple("abcd"[: len(shape)])
    static = tuple(data.draw(st.sets(st.sampled_from(names))))
    block = data.draw(st.none() | st.integers(1, 50))
    return layouts.layout(names, shape, static, block), block


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chunks_tile_the_grid_once(data):
    layout, _ = draw_layout(data)
    places = np.concatenate([layouts.positions(layout, chunk) for chunk in layouts.chunks(layout)])
    assert sorted(map(tuple, places.tolist())) == list(itertools.product(*map(range, layout.shape)))
    for chunk in layouts.chunks(layout):
        assert len(layouts.positions(layout, chunk)) == math.prod(layouts.extent(layout, chunk))


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
    chunks = layouts.chunks(layout)
    runs = [key for key, _ in itertools.groupby(layouts.combination(layout, chunk) for chunk in chunks)]
    sizes = [size for name, size in zip(layout.names, layout.shape, strict=True) if name in layout.static]
    assert sorted(runs) == list(itertools.product(*map(range, sizes)))


@settings(max_examples=30, deadline=None)
@given(st.data())
@pytest.mark.slow
def test_tasks_hold_every_point_to_do_once_and_whole_chunks_where_they_always_are(data):
    layout, _ = draw_layout(data)
    chunks = layouts.chunks(layout)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    masks = {chunk: rng.random(layouts.extent(layout, chunk)) < rng.choice([0.0, 0.3, 1.0]) for chunk in chunks}
    todo = {chunk: mask for chunk, mask in masks.items() if mask.any()}
    points = max(data.draw(st.integers(1, 200)), math.prod(layout.chunk))
    made = tasks.tasks(layout, layout.shape, todo, points)
    everything = tasks.tasks(layout, layout.shape, {c: np.ones_like(m) for c, m in masks.items()}, points)
    usual = {piece.chunk: piece.begin for task in everything for piece in task.pieces}
    found = []
    for task in made:
        assert len(task.slots) <= max(points, math.prod(layout.chunk))
        for piece in task.pieces:
            assert layouts.combination(layout, piece.chunk) == task.combination
            real = task.slots[piece.begin : piece.begin + int(piece.mask.sum())]
            expected = layouts.positions(layout, piece.chunk)[piece.mask.ravel()]
            np.testing.assert_array_equal(task.positions[real], expected)
            found += map(tuple, expected.tolist())
            if piece.mask.all():
                assert piece.begin == usual[piece.chunk]
    wanted = [tuple(p) for c, m in todo.items() for p in layouts.positions(layout, c)[m.ravel()].tolist()]
    assert sorted(found) == sorted(wanted)


def test_python_numbers_take_the_default_dtypes(dtype):
    made = sweeps.grid(ridge=[0.1, 1.0], seed=range(3), small=np.arange(2, dtype=np.int8), on=[False, True])
    columns = axes.columns(made, ())
    wide = dtype == jnp.float64
    kinds = {name: column.labels.dtype.name for name, column in columns.items()}
    assert kinds == {"ridge": dtype.name, "seed": "int64" if wide else "int32", "small": "int8", "on": "bool"}


def test_static_axes_keep_python_values_and_are_labelled_by_name():
    made = sweeps.grid(activation=[jnp.tanh, "relu", None], width=[0.1, 0.2, 0.3])
    columns = axes.columns(made, ("activation", "width"))
    assert columns["activation"].labels.tolist() == ["tanh", "relu", "None"]
    assert columns["width"].labels.tolist() == [0.1, 0.2, 0.3]  # not rounded to 32 bits


def scaled(factor):
    def act(x):
        return factor * x

    return act


def test_values_of_one_name_are_told_apart_by_content_and_a_dict_names_them():
    columns = axes.columns(sweeps.grid(act=[scaled(1.0), scaled(2.0), lambda x: x]), ("act",))["act"]
    first, second, third = columns.labels.tolist()
    assert first == "act"
    assert second == f"act {axes.digest(scaled(2.0)).hex()[:8]}"
    assert third.startswith("<lambda> ")
    again = axes.columns(sweeps.grid(act=[scaled(1.0)]), ("act",))["act"]
    assert again.identities == columns.identities[:1]
    named = axes.columns(sweeps.grid(act={"one": scaled(1.0), "two": scaled(2.0)}), ("act",))["act"]
    assert named.labels.tolist() == ["one", "two"]
    assert named.identities == columns.identities[:2]


def test_methods_of_builtin_types_have_a_content():
    """`dict.__new__` names no module; it is not `list.__new__`."""
    assert axes.digest(dict.__new__) == axes.digest(dict.__new__)
    assert axes.digest(dict.__new__) != axes.digest(list.__new__)


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
    with pytest.raises(ValueError, match=r"axes must be named, or made by sweeps\.zipped"):
        sweeps.grid([1, 2])
    with pytest.raises(ValueError, match="axes must have one name each"):
        sweeps.grid(sweeps.zipped(a=[1], b=[2]), a=[3])
    with pytest.raises(ValueError, match=r"axes must have one length, got axes=\{'a': 1, 'b': 2\}"):
        sweeps.zipped(a=[1], b=[2, 3])
    with pytest.raises(ValueError, match="axes must name at least one"):
        sweeps.zipped()


@pytest.mark.parametrize(
    ("values", "static", "message"),
    [
        (["relu", "erf"], (), r'real numbers.*static=\("a",\)'),
        ([1.0, 1.0 + 1e-12], (), "distinct values"),
        ([1, 1], (), "distinct values"),
        ([0.0, -0.0], (), "distinct values"),
        ([jnp.tanh, jnp.tanh], ("a",), "distinct values"),
        ([2**40, 1], (), "fit in int32"),
        ([-(2**31) - 1, 1], (), "fit in int32"),
        ([1e300, 1.0], (), r"fit in float32, got a=\[1.e\+300\]; use other values, or enable 64-bit types"),
        ([1.0, -1e39], (), "fit in float32"),
        ([1e-300, 1.0], (), "fit in float32"),
        ([1e-40], (), "fit in float32"),
        ([1j], (), "real numbers"),
        (np.zeros(2, np.float16), (), "of 32 or 64 bits"),
        (np.zeros(1, np.longdouble), (), "of 32 or 64 bits"),
        (jnp.zeros(2, jnp.bfloat16), (), "real numbers"),
        (np.array(["2020-01-01"], "datetime64[D]"), (), "real numbers"),
        ([object()], ("a",), "that can be compared between runs"),
        ([(i for i in [1])], ("a",), "that can be compared between runs"),
    ],
)
def test_values_that_cannot_be_labels_are_refused(values, static, message):
    with pytest.raises(ValueError, match=f"a must .*{message}"):
        axes.columns(sweeps.grid(a=values), static)


@pytest.mark.parametrize("values", [[10**30], [2**70, 1], [-(2**64)]])
def test_integers_of_more_than_64_bits_are_refused(values):
    with pytest.raises(ValueError, match="a must hold integers of at most 64 bits"):
        sweeps.grid(a=values)


@pytest.mark.parametrize("values", [[2**63], np.array([1, 2], np.longlong), np.array([3], np.ulonglong)])
def test_static_integers_of_both_types_of_64_bits_are_stored(values):
    """NumPy has two of them, and Zarr's tables hold one."""
    ds = run(lambda a, key: {"b": jnp.float32(1)}, sweeps.grid(a=values), static="a")
    assert ds.a.values.tolist() == list(values)


def test_infinity_and_the_extremes_of_a_dtype_are_values(dtype):
    limits = np.finfo(dtype)
    values = np.array([-np.inf, limits.min, -limits.tiny, 0.0, limits.tiny, limits.max, np.inf], dtype)
    np.testing.assert_array_equal(axes.columns(sweeps.grid(a=values), ())["a"].labels, values)


def test_making_a_grid_touches_no_device(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda *_: pytest.fail("a device was asked for"))
    assert sweeps.grid(a=[1.0], b=range(3), c=np.arange(2)).size == 6


def test_a_million_points_have_distinct_keys():
    """Their words, 64 bits for each axis; and the keys themselves of 10,000 of them."""
    columns = axes.columns(sweeps.grid(seed=np.arange(1000), ridge=np.linspace(0.0, 1.0, 1000)), ())
    words = {name: axes.words(column.identities) for name, column in columns.items()}
    for name in words:
        assert len(np.unique(words[name], axis=0)) == 1000
    seeds, ridges = words["seed"][:100], words["ridge"][:100]
    folded = jax.vmap(lambda w: sweeps.outputs.folded(jax.random.key(0), w))
    pairs = np.concatenate([np.repeat(ridges, 100, 0), np.tile(seeds, (100, 1))], axis=1)
    assert len(np.unique(np.asarray(jax.random.key_data(jax.jit(folded)(pairs))), axis=0)) == 10_000


@pytest.mark.parametrize("name", ["float32", "int32", "bool", "uint8"])
def test_words_are_those_of_the_definition(name):
    values = np.array([0, 1] if name == "bool" else [0, 1, 7], name)
    columns = axes.columns(sweeps.grid(axis=values), ())
    for value, words in zip(values, axes.words(columns["axis"].identities), strict=True):
        found = sweeps.outputs.folded(jax.random.key(3), jnp.asarray(words))
        np.testing.assert_array_equal(
            jax.random.key_data(found), jax.random.key_data(keyed(jax.random.key(3), axis=value))
        )


def test_random_axes_begin_alike_whatever_their_length_and_follow_their_laws():
    """10,000 draws: within 4 standard errors of the mean of a uniform law, and of the logarithm of the other."""
    short, long = (sweeps.random(n, a=sweeps.uniform(2.0, 4.0), b=sweeps.log_uniform(1e-4, 1.0)) for n in (5, 10_000))
    for name in ("a", "b"):
        assert short.axes[name] == long.axes[name][:5]
    other = sweeps.random(10_000, 1, a=sweeps.uniform(2.0, 4.0))
    a, b = np.array(long.axes["a"]), np.log10(np.array(long.axes["b"]))
    for values, low, high in ((a, 2, 4), (np.array(other.axes["a"]), 2, 4), (b, -4, 0)):
        assert low < values.min() < values.max() < high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 10_000)
    for one, two in ((a, np.array(other.axes["a"])), (a, b)):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.04
    grid = sweeps.grid(
        sweeps.random(20, rate=sweeps.log_uniform(1e-4, 1.0), width=lambda u: 2 ** int(10 * u)), seed=[0]
    )
    assert grid.dims == {"rate": ("rate", "width"), "seed": ("seed",)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sweeps.random(0, a=sweeps.uniform(0.0, 1.0)), "count must be an integer >= 1"),
        (lambda: sweeps.random(2.5, a=sweeps.uniform(0.0, 1.0)), "count must be an integer"),
        (lambda: sweeps.random(2, -1, a=sweeps.uniform(0.0, 1.0)), "seed must be an integer >= 0"),
        (lambda: sweeps.random(3), "laws must name at least one axis"),
        (lambda: sweeps.random(3, a=[1, 2]), "a must be a law"),
        (lambda: sweeps.uniform(1.0, 1.0), "low must be below high"),
        (lambda: sweeps.uniform(0.0, math.inf), "low must be below high"),
        (lambda: sweeps.log_uniform(0.0, 1.0), "low must be positive and below high"),
    ],
)
def test_bad_laws_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
