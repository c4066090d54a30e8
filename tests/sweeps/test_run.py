"""A sweep equals the plain loop over its points, whatever the devices, the blocks, the axes."""

import functools
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from sweeps.common import devices, keyed, plain, run
from tolerances import assert_close

from jaxtheory import sweeps
from jaxtheory.results import Status

GRID = sweeps.grid(ridge=[0.1, 1.0, 10.0], noise=[0.0, 0.5], seed=range(5))


def draws(ridge, noise, seed, key):
    bits = jax.random.bits(key)
    path = jnp.cumsum(ridge * jax.random.uniform(key, (3,)) + noise)
    return {"bits": bits, "path": sweeps.named(path, "time"), "sum": path.sum() + seed.astype(path.dtype)}


def loop(point, grid, key=0, paired=(), static=()):
    """The definition: one point after another, each with a key of its own values, as they are stored."""
    names = list(grid.axes)
    for place in np.ndindex(grid.shape):
        index = {name: i for names, i in zip(grid.dims.values(), place, strict=True) for name in names}
        raw = {name: grid.axes[name][index[name]] for name in names}
        values = {name: value.item() if name in static else jnp.asarray(value) for name, value in raw.items()}
        stored = {name: raw[name] if name in static else np.asarray(values[name]) for name in names}
        yield place, point(**values, key=keyed(jax.random.key(key), paired, **stored))


def test_a_sweep_is_the_loop_over_its_points():
    ds = run(draws, GRID, key=3)
    assert dict(ds.sizes) == {"ridge": 3, "noise": 2, "seed": 5, "time": 3}
    assert ds["path"].dims == ("ridge", "noise", "seed", "time")
    assert ds["sum"].dims == ("ridge", "noise", "seed")
    assert {name: ds[name].dtype.name for name in ds} == {
        "bits": "uint32",
        "path": "float32",
        "sum": "float32",
        "status": "int32",
    }
    np.testing.assert_array_equal(ds.seed, range(5))
    for place, expected in loop(draws, GRID, 3):
        assert ds.bits.values[place] == expected["bits"]
        assert_close(ds["path"].values[place], expected["path"].array)
    assert (ds.status == Status.OK).all()


@functools.cache
def on_one_device():
    return run(draws, GRID, mesh=devices(1))


@pytest.mark.parametrize(("count", "block"), [(1, 7), (2, 5), (8, None), (8, 1), (8, 30)])
@pytest.mark.first_case
def test_draws_do_not_depend_on_devices_or_blocks(count, block):
    reference, ds = on_one_device(), run(draws, GRID, mesh=devices(count), block=block)
    np.testing.assert_array_equal(ds.bits, reference.bits)
    assert_close(ds["path"].values, reference["path"].values)
    assert len(np.unique(ds.bits)) == GRID.size


def test_the_same_devices_and_block_give_the_same_bits():
    first, again = (run(draws, GRID, mesh=devices(8), block=7) for _ in range(2))
    xarray.testing.assert_identical(first, again)


def coded(*, key, **values):
    """Its draw, and its values as digits."""
    total = sum(10**i * jnp.asarray(values[name], jnp.int32) for i, name in enumerate(sorted(values)))
    return {"bits": jax.random.bits(key), "code": total}


@st.composite
def any_sweep(draw):
    """Up to three axes, some zipped, static or paired; a block, devices and the order of the axes."""
    names = "abc"[: draw(st.integers(1, 3))]
    sizes = {name: draw(st.integers(1, 4)) for name in names}
    values = {name: draw(st.permutations(range(9)))[: sizes[name]] for name in names}
    together = draw(st.booleans()) and len(names) > 1
    zips = ()
    if together:
        length = min(sizes[name] for name in names[:2])
        zips = (sweeps.zipped(**{name: np.array(values[name][:length], np.int32) for name in names[:2]}),)
    rest = {name: np.array(values[name], np.int32) for name in draw(st.permutations(names[2 * together :]))}
    static, paired = (tuple(draw(st.sets(st.sampled_from(names), max_size=2))) for _ in range(2))
    options = {"static": static, "paired": paired, "block": draw(st.none() | st.integers(1, 30))}
    return zips, rest, options, draw(st.sampled_from([1, 8]))


def made(drawn):
    zips, rest, options, count = drawn
    return sweeps.grid(*zips, **rest), options | {"mesh": devices(count)}


@settings(max_examples=6, deadline=None, derandomize=True)
@given(any_sweep())
@pytest.mark.slow
def test_random_sweeps_are_loops(drawn):
    grid, options = made(drawn)
    ds = run(coded, grid, key=9, **options)
    assert ds.bits.dims == tuple(grid.dims)
    for place, expected in loop(coded, grid, 9, options["paired"], options["static"]):
        assert ds.bits.values[place] == expected["bits"]
        assert ds.code.values[place] == expected["code"]
    for name in grid.axes:
        np.testing.assert_array_equal(ds[name], grid.axes[name])


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(any_sweep(), st.data())
def test_random_sweeps_in_shards_and_parts_are_the_whole(drawn, data):
    """A store filled by shards, then asked for again; and one that grows from a part of the grid."""
    import tempfile

    grid, options = made(drawn)
    whole = run(coded, grid, key=9, **options)
    with tempfile.TemporaryDirectory() as folder:
        count = data.draw(st.integers(1, 4))
        for i in data.draw(st.permutations(range(count))):
            run(coded, grid, key=9, **options, out=f"{folder}/a.zarr", shard=f"{i}/{count}")
        xarray.testing.assert_identical(run(coded, grid, key=9, **options, out=f"{folder}/a.zarr").load(), whole)
        part = {}
        for dim, names in grid.dims.items():
            chosen = sorted(data.draw(st.sets(st.integers(0, len(grid.axes[dim]) - 1), min_size=1)))
            part |= {name: grid.axes[name][chosen] for name in names}
        few = sweeps.Grid(part, grid.zips, grid.names)
        run(coded, few, key=9, **options, out=f"{folder}/b.zarr")
        with warnings.catch_warnings():
            # a grid of more points may be computed in larger blocks, and says so
            warnings.filterwarnings("ignore", message=r".*is continued elsewhere \(block \d+ -> \d+\)")
            grown = run(coded, grid, key=9, **options, out=f"{folder}/b.zarr").load()
        for name in whole:
            np.testing.assert_array_equal(grown[name], whole[name])


def test_paired_points_share_their_draws_and_no_others():
    bits = run(draws, GRID, paired="ridge").bits.values
    assert (bits == bits[:1]).all()
    assert len(np.unique(bits[0])) == bits[0].size


def test_the_order_of_axes_and_a_negative_zero_do_not_matter():
    flipped = sweeps.grid(seed=range(5), noise=[-0.0, 0.5], ridge=[0.1, 1.0, 10.0])
    found, expected = run(draws, flipped), on_one_device()
    np.testing.assert_array_equal(found.bits.transpose("ridge", "noise", "seed"), expected.bits)
    assert not np.signbit(found.noise.values).any()


def test_zipped_axes_are_one_dimension_with_several_coordinates():
    grid = sweeps.grid(sweeps.zipped(width=[8, 16, 16], rate=[0.1, 0.1, 0.2]), seed=range(2))
    ds = run(lambda width, rate, seed, key: {"product": width * rate}, grid, static="width")
    assert ds["product"].dims == ("width", "seed")
    np.testing.assert_allclose(ds["product"].sel(seed=1), [0.8, 1.6, 3.2], rtol=1e-6)
    np.testing.assert_allclose(ds.rate, [0.1, 0.1, 0.2], rtol=1e-6)
    assert ds.rate.dims == ("width",)


def test_each_static_combination_is_compiled_once_however_many_blocks():
    traced, compiled = [], []

    def point(width, activation, seed, key):
        traced.append((width, activation))
        assert isinstance(width, int)
        return {"mean": activation(jnp.arange(width) + seed).mean()}

    def listen(event, _, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration" and "evaluate" in kwargs.get("fun_name", ""):
            compiled.append(event)

    grid = sweeps.grid(width=[2, 5], activation=[jnp.tanh, jnp.sin], seed=range(5))
    jax.monitoring.register_event_duration_secs_listener(listen)
    ds = run(point, grid, static=("width", "activation"), block=2)
    jax.monitoring.clear_event_listeners()
    assert len(compiled) == 4
    combinations = list(itertools.product([2, 5], grid.axes["activation"]))
    assert set(traced) == set(combinations)
    assert all(traced.count(one) <= 2 for one in combinations)
    assert ds.activation.values.tolist() == ["tanh", "sin"]
    assert float(ds.sel(width=5, activation="sin", seed=3)["mean"]) == ds["mean"].values[1, 1, 3]


def test_a_point_that_fails_has_a_status_and_sound_neighbours():
    def point(x, key):
        status = jnp.where(x == 7, jnp.int32(Status.NOT_CONVERGED), jnp.int32(Status.OK))
        return {"root": jnp.sqrt(x), "inverse": sweeps.named(1 / jnp.stack([x, x + 1]), "k"), "status": status}

    ds = run(point, sweeps.grid(x=np.arange(-3.0, 9.0)), block=4)
    bad = [Status.NOT_FINITE] * 4  # roots of -3, -2, -1 and the inverse of 0
    assert ds.status.values.tolist() == bad + [Status.OK] * 6 + [Status.NOT_CONVERGED, Status.OK]
    np.testing.assert_allclose(ds.root.values[3:], np.sqrt(np.arange(9)), rtol=1e-6)


def test_results_are_the_same_in_memory_and_on_disk(tmp_path):
    memory, disk = run(draws, GRID, key=5), run(draws, GRID, key=5, out=tmp_path / "made" / "here" / "a.zarr")
    xarray.testing.assert_identical(memory, disk.load())
    assert disk.attrs["key"] == "threefry2x32: 0, 5"


def test_dtypes_follow_the_axes_and_the_mode(dtype):
    def point(narrow, wide, seed, key):
        assert (narrow.dtype, wide.dtype) == (jnp.float32, dtype)
        outputs = {"half": narrow.astype(jnp.float16), "square": wide**2, "flag": narrow > 1, "byte": jnp.uint8(3)}
        return outputs | {"wave": jax.lax.complex(wide, wide)}

    ds = run(point, sweeps.grid(narrow=np.array([1.0, 2.0], np.float32), wide=[0.5], seed=range(2)))
    kinds = {name: array.dtype.name for name, array in ds.items()}
    wave = {"float32": "complex64", "float64": "complex128"}[dtype.name]
    expected = {"half": "float16", "square": dtype.name, "flag": "bool", "byte": "uint8", "wave": wave}
    assert kinds == expected | {"status": "int32"}


def test_points_may_scan_from_constants_and_close_over_data():
    data = jax.device_put(jnp.arange(4.0), jax.devices()[3])

    def point(scale, key, shift):
        total, _ = jax.lax.scan(lambda carry, x: (carry + scale * x, None), jnp.float32(0), data)
        return {"total": total + shift}

    ds = run(functools.partial(point, shift=1.0), sweeps.grid(scale=[1.0, 2.0, 3.0]))
    assert ds.total.values.tolist() == [7.0, 13.0, 19.0]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_any_mesh_lends_its_devices(kind):
    mesh = jax.make_mesh((2, 3), ("a", "b"), axis_types=(kind, kind), devices=jax.devices()[:6])
    ds = run(draws, GRID, mesh=mesh)
    assert ds.attrs["device_count"] == 6
    np.testing.assert_array_equal(ds.bits, on_one_device().bits)
    with jax.set_mesh(mesh):
        np.testing.assert_array_equal(run(draws, GRID, mesh=devices(8)).bits, ds.bits)


def test_keys_of_every_kind_mean_the_same():
    seeds = [4, np.int64(4), jnp.int32(4), jax.random.key(4), jax.random.PRNGKey(4)]
    for seed in seeds:
        np.testing.assert_array_equal(sweeps.driver._key_words(seed), [0, 4])


def test_the_bar_counts_real_points_and_starts_at_what_is_done(tmp_path, capsys):
    grid = sweeps.grid(ridge=[0.1, 1.0, 10.0], seed=range(10))
    sweeps.run(plain, grid, out=tmp_path / "a.zarr", block=4)
    shown = capsys.readouterr().err
    assert "30/30" in shown
    assert "points/s" in shown
    next(file for file in (tmp_path / "a.zarr" / "status" / "c").rglob("*") if file.is_file()).unlink()
    sweeps.run(plain, grid, out=tmp_path / "a.zarr", block=4)
    assert " 20/30 " in capsys.readouterr().err.split("\r")[1]  # a chunk holds 10 points
    run(plain, grid)
    assert capsys.readouterr().err == ""


def test_a_callback_is_given_every_committed_chunk(tmp_path):
    told, grid = [], sweeps.grid(ridge=[0.1, 1.0, 10.0], seed=range(10))

    def point(ridge, seed, key):
        return {"root": jnp.sqrt(seed.astype(float) - 1), "pair": sweeps.named(ridge * jnp.ones(2), "k")}

    whole = run(point, grid, out=tmp_path / "a.zarr", callback=told.append)
    assert [(p.done, p.total, p.failed, p.points) for p in told] == [(10, 30, 1, 10), (20, 30, 2, 20), (30, 30, 3, 30)]
    xarray.testing.assert_equal(xarray.concat([p.chunk for p in told], "ridge", data_vars="all"), whole.load())
    assert all(p.seconds > 0 and p.seconds_per_point == p.seconds / p.points for p in told)
    assert told[0].seconds_left == 20 * told[0].seconds_per_point
    assert told[-1].seconds_left == 0


def bad(output):
    return lambda ridge, noise, seed, key: output


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"point": 3}, "point must be a function, got point=3; write def point"),
        ({"point": lambda ridge, key: {"a": ridge}}, "point must take the axes .*unexpected keyword"),
        ({"point": lambda ridge, noise, seed: {"a": ridge}}, "point must take the axes .*'key'"),
        ({"point": lambda ridge, noise, seed, extra, key: {}}, "missing a required.* 'extra'"),
        ({"point": bad(1.0)}, "point must return a dict of arrays, got point=float"),
        ({"point": bad({})}, "at least one output"),
        ({"point": bad({"a": np.zeros(2)})}, r"a must be a scalar or have named dimensions.*sweeps.named\(a"),
        ({"point": bad({"a": None})}, "a must be an array"),
        ({"point": bad({"a": "text"})}, "a must be an array"),
        ({"point": bad({"a b": 1.0})}, "named by an identifier"),
        ({"point": bad({"ridge": 1.0})}, "output must not share its name with an axis"),
        ({"point": bad({"provenance": 1.0})}, "output must not share its name"),
        ({"point": bad({"a": sweeps.named(np.zeros(2), "seed")})}, "dimensions of their own names"),
        ({"point": bad({"a": sweeps.named(np.zeros(2), "a")})}, "dimensions of their own names"),
        ({"point": bad({"a": sweeps.named(np.zeros(0), "k")})}, "at least one value"),
        ({"point": bad({"a": sweeps.named(np.zeros(2), "k"), "b": sweeps.named(np.zeros(3), "k")})}, "b must agree"),
        ({"point": bad({"a": jnp.zeros((), jnp.bfloat16)})}, "a must have a dtype that NumPy knows.*bfloat16"),
        ({"point": lambda ridge, noise, seed, key: {"a": key}}, "a must have a dtype that NumPy knows"),
        ({"point": bad({"a": 1.0, "status": 0.0})}, "status must be integers"),
        ({"point": bad({"a": sweeps.named(np.zeros(2), "k", k=[1, 2], ridge=("k", [1, 2]))})}, "of their own names"),
        (
            {"point": bad({n: sweeps.named(np.zeros(2), "k", k=[1, i]) for i, n in enumerate("ab")})},
            "b must agree with k of another output",
        ),
        ({"grid": {"ridge": [1.0]}}, "grid must be made by sweeps.grid"),
        ({"static": "rigde"}, r"static must name axes .*got static=\('rigde',\)"),
        ({"paired": ("seed", "sead")}, r"paired must name axes .*drop \['sead'\]"),
        ({"block": 0}, "block must be at least one point, got block=0"),
        ({"block": 2.5}, "block must be at least one point"),
        ({"key": -1}, "key must be a seed of 32 bits"),
        ({"key": None}, "key must be a seed of 32 bits"),
        ({"key": 1.5}, "key must be a seed of 32 bits"),
        ({"key": np.zeros(3)}, r"key must be a seed or a key, got key=float64\[3\]"),
        ({"retry": "all"}, "retry must be 'failed' or None"),
        ({"callback": 3}, "callback must be a function of a Progress"),
        ({"version": 1.5}, "version must be an int or a str"),
        ({"vmap": 1}, "vmap must be True or False"),
        ({"time_limit": 0.0}, r"time_limit must be seconds > 0, got time_limit=0\.0"),
        ({"out": 3}, "out must be a path or a URL, got out=3"),
        ({"out": ""}, "out must be a path or a URL"),
        ({"out": "nowhere://a/b"}, "out must be a path or a URL that fsspec knows, got out=nowhere://a/b"),
        ({"out": "a\0b"}, "out must be a path or a URL"),
    ],
)
def test_bad_calls_say_what_and_how_to_correct_it(change, message):
    arguments = {"point": draws, "grid": GRID} | change
    with pytest.raises((ValueError, TypeError), match=message):
        run(**arguments)


def test_keys_that_depend_on_batching_are_refused():
    with pytest.raises(ValueError, match=r"key must be of threefry.*got key=rbg"):
        run(draws, GRID, key=jax.random.key(0, impl="rbg"))
    with pytest.raises(ValueError, match="key must be one key"):
        run(draws, GRID, key=jax.random.split(jax.random.key(0)))


@pytest.mark.usefixtures("unchecked")
def test_outputs_must_agree_between_static_values():
    def point(width, key):
        return {"weights": sweeps.named(jnp.zeros(width), "width_")}

    with pytest.raises(
        ValueError, match=r"point must return what it does at the first static values.*width_=2.*width_=3"
    ):
        run(point, sweeps.grid(width=[2, 3]), static="width")


def test_the_working_folder_is_no_store(tmp_path, monkeypatch):
    """The store takes the place of an empty folder, and the process would be left in one that is no more."""
    monkeypatch.chdir(tmp_path)
    for out in (".", tmp_path, tmp_path.parent / tmp_path.name):
        with pytest.raises(ValueError, match=r"out must be none of the folders that this process is in, .*runs/a.zarr"):
            run(draws, GRID, out=out)
    assert list(tmp_path.iterdir()) == []
