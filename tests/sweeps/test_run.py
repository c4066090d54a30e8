"""A sweep equals the plain loop over its points, whatever the devices, the blocks, the axes."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from tolerances import assert_close

from jaxtheory import sweeps
from jaxtheory.results import Status

run = functools.partial(sweeps.run, progress=False)
GRID = sweeps.grid(ridge=[0.1, 1.0, 10.0], noise=[0.0, 0.5], seed=range(5))


def draws(ridge, noise, seed, key):
    bits = jax.random.bits(key)
    path = jnp.cumsum(ridge * jax.random.uniform(key, (3,)) + noise)
    return {"bits": bits, "path": sweeps.named(path, "time"), "sum": path.sum() + seed.astype(path.dtype)}


def devices(count):
    return jax.make_mesh((count,), ("anything",), devices=jax.devices()[:count])


def loop(point, grid, key=0, paired=(), static=()):
    """The definition: one point after another, each with fold_in(key, its flat index over the axes not paired)."""
    kept = [size for name, size in zip(grid.axes, grid.shape, strict=True) if name not in paired]
    for place in np.ndindex(grid.shape):
        rest = [i for name, i in zip(grid.axes, place, strict=True) if name not in paired]
        index = int(np.ravel_multi_index(rest, kept)) if rest else 0
        values = {name: grid.axes[name][i] for name, i in zip(grid.axes, place, strict=True)}
        values = {name: value.item() if name in static else jnp.asarray(value) for name, value in values.items()}
        yield place, point(**values, key=jax.random.fold_in(jax.random.key(key), index))


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


@pytest.mark.parametrize(("count", "block"), [(1, 1), (1, 7), (1, 64), (2, None), (2, 5), (8, None), (8, 1), (8, 30)])
def test_draws_do_not_depend_on_devices_or_blocks(count, block):
    reference, ds = on_one_device(), run(draws, GRID, mesh=devices(count), block=block)
    np.testing.assert_array_equal(ds.bits, reference.bits)
    assert_close(ds["path"].values, reference["path"].values)
    assert len(np.unique(ds.bits)) == GRID.size


@pytest.mark.parametrize(("count", "block"), [(1, None), (8, 7)])
def test_the_same_devices_and_block_give_the_same_bits(count, block):
    first, again = (run(draws, GRID, mesh=devices(count), block=block) for _ in range(2))
    xarray.testing.assert_identical(first, again)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.data())
def test_random_sweeps_are_loops(data):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    names = "abc"[: len(shape)]
    static = data.draw(st.sets(st.sampled_from(names), max_size=1))
    paired = data.draw(st.sets(st.sampled_from(names)))
    block, count = data.draw(st.none() | st.integers(1, 30)), data.draw(st.sampled_from([1, 2, 8]))

    def point(*, key, **values):
        return {"bits": jax.random.bits(key), "code": sum(10**i * values[name] for i, name in enumerate(names))}

    grid = sweeps.grid(**{name: np.arange(size, dtype=np.int32) for name, size in zip(names, shape, strict=True)})
    ds = run(point, grid, static=tuple(static), paired=tuple(paired), block=block, mesh=devices(count), key=9)
    for place, expected in loop(point, grid, 9, paired, static):
        assert ds.bits.values[place] == expected["bits"]
        assert ds.code.values[place] == expected["code"]


def test_paired_points_share_their_draws_and_no_others():
    bits = run(draws, GRID, paired="ridge").bits.values
    assert (bits == bits[:1]).all()
    assert len(np.unique(bits[0])) == bits[0].size


def test_each_static_combination_is_compiled_once_however_many_blocks():
    traced, compiled = [], []

    def point(width, activation, seed, key):
        traced.append((width, activation))
        assert isinstance(width, int)
        return {"mean": activation(jax.random.normal(key, (width,))).mean()}

    def listen(event, _, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    grid = sweeps.grid(width=[2, 5], activation=[jnp.tanh, jnp.sin, jnp.cos], seed=range(5))
    run(point, grid, static=("width", "activation"), block=2)  # fills the caches of operations around the blocks
    traced.clear()
    jax.monitoring.register_event_duration_secs_listener(listen)
    ds = run(point, grid, static=("width", "activation"), block=2)
    jax.monitoring.clear_event_listeners()
    assert len(compiled) == 6
    assert sorted(traced, key=str) == sorted(2 * list(itertools.product([2, 5], grid.axes["activation"])), key=str)
    assert ds.activation.values.tolist() == ["tanh", "sin", "cos"]
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
        np.testing.assert_array_equal(run(draws, GRID, mesh=devices(2)).bits, ds.bits)


def test_keys_of_every_kind_mean_the_same():
    seeds = [4, np.int64(4), jnp.int32(4), jax.random.key(4), jax.random.PRNGKey(4)]
    first, *others = [run(draws, GRID, key=key).bits.values for key in seeds]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_the_bar_counts_real_points_and_starts_at_what_is_done(tmp_path, capsys):
    sweeps.run(draws, GRID, out=tmp_path / "a.zarr", block=4)
    shown = capsys.readouterr().err
    assert "30/30" in shown
    assert "points/s" in shown
    next(file for file in (tmp_path / "a.zarr" / "status" / "c").rglob("*") if file.is_file()).unlink()
    sweeps.run(draws, GRID, out=tmp_path / "a.zarr", block=4)
    assert " 20/30 " in capsys.readouterr().err.split("\r")[1]  # a chunk holds 10 points
    run(draws, GRID)
    assert capsys.readouterr().err == ""


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
        ({"point": bad({"a": 1.0, "status": 0.0})}, "status must be an integer scalar"),
        ({"grid": {"ridge": [1.0]}}, "grid must be made by sweeps.grid"),
        ({"static": "rigde"}, r"static must name axes .*got static=\('rigde',\)"),
        ({"paired": ("seed", "sead")}, r"paired must name axes .*drop \['sead'\]"),
        ({"block": 0}, "block must be at least one point, got block=0"),
        ({"block": 2.5}, "block must be at least one point"),
        ({"key": -1}, "key must be a seed of 32 bits"),
    ],
)
def test_bad_calls_say_what_and_how_to_mend(change, message):
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


@pytest.mark.usefixtures("unchecked")
def test_named_wants_a_name_for_each_dimension():
    with pytest.raises(ValueError, match="dims must be one distinct name for each dimension of shape"):
        sweeps.named(jnp.zeros((2, 3)), "a")
    with pytest.raises(ValueError, match="dims"):
        sweeps.named(jnp.zeros((2, 3)), "a", "a")
