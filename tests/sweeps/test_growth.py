"""Stores that grow: more values on either side, other code, values at which the point raises, second tries."""

import json
import os
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from sweeps.common import content, counting, draws, plain, run

from jaxtheory import sweeps
from jaxtheory.results import Status


@pytest.fixture
def computed(monkeypatch):
    """The points that are computed from now on, by their place in the store, padding left out."""
    return counting(monkeypatch)


def test_any_axis_grows_on_either_side_and_only_new_points_are_computed(tmp_path, computed):
    out = tmp_path / "a.zarr"
    run(draws, sweeps.grid(ridge=[1.0, 10.0], seed=[2, 3, 4]), out=out)
    assert len(computed) == 6
    wide = sweeps.grid(ridge=[0.1, 1.0, 10.0, 100.0], seed=range(6))
    grown = run(draws, wide, out=out).load()
    assert len(computed) == 24
    whole = run(draws, wide)
    for name in whole:
        np.testing.assert_array_equal(grown[name], whole[name], err_msg=name)
    assert grown.ridge.values.tolist() == whole.ridge.values.tolist()
    computed.clear()
    again = run(draws, sweeps.grid(seed=[5, 2], ridge=[0.1]), out=out).load()
    assert computed == []
    np.testing.assert_array_equal(again.bits, whole.bits.sel(ridge=[0.1], seed=[5, 2]).T)


def test_a_finished_store_that_grew_is_left_as_it_is(tmp_path):
    out = tmp_path / "a.zarr"
    for count in (3, 7):
        run(plain, sweeps.grid(ridge=[0.1, 1.0], seed=range(count)), out=out)
    before = content(out)
    run(plain, sweeps.grid(ridge=[0.1, 1.0], seed=range(7)), out=out)
    assert content(out) == before


@pytest.mark.usefixtures("unchecked")  # inspect of Python 3.11 refuses axes named as a positional-only argument
def test_a_longer_random_search_keeps_its_first_places(tmp_path, computed):
    out = tmp_path / "a.zarr"
    for count in (4, 9):
        places = sweeps.random(count, ridge=sweeps.log_uniform(1e-3, 1.0), seed=lambda u: int(1000 * u))
        ds = run(plain, sweeps.grid(places), out=out)
    assert len(computed) == 9
    assert ds.sizes["ridge"] == 9


def test_failed_points_are_tried_again_on_request(tmp_path, computed):
    broken = [True]

    def point(x, key):
        return {"root": jnp.sqrt(jnp.abs(x)) if not broken else jnp.sqrt(x)}

    grid, out = sweeps.grid(x=[-4.0, -1.0, 0.0, 1.0, 4.0]), tmp_path / "a.zarr"
    point.version = 1
    assert run(point, grid, out=out).status.values.tolist() == [Status.NOT_FINITE] * 2 + [Status.OK] * 3
    computed.clear()
    broken.clear()
    assert int(run(point, grid, out=out).status.max()) == Status.NOT_FINITE
    assert computed == []
    ds = run(point, grid, out=out, retry="failed")
    assert sorted(computed) == [0, 1]
    assert ds.root.values.tolist() == [2.0, 1.0, 0.0, 1.0, 2.0]


def scaled(factor):
    def point(x, key):
        return {"product": factor * x}

    return point


def test_other_code_or_constants_are_warned_of_and_a_version_vouches(tmp_path):
    grid, out = sweeps.grid(x=[1.0, 2.0]), tmp_path / "a.zarr"
    run(scaled(jnp.float32(2.0)), grid, out=out)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(scaled(jnp.float32(2.0)), grid, out=out)
    with pytest.warns(UserWarning, match="the code of the point, or what it closes over, is not what filled"):
        assert run(scaled(jnp.float32(3.0)), grid, out=out)["product"].values.tolist() == [2.0, 4.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(scaled(jnp.float32(3.0)), grid, out=out, version=0)


def activation(slope):
    def act(x):
        return slope * x

    return act


def test_static_values_are_compared_by_content_not_by_name(tmp_path):
    """Two closures of one name, and arrays whose `repr` is elided alike, are other values."""
    out = tmp_path / "a.zarr"

    def point(act, x, key):
        return {"value": act(x)}

    for slope in (2.0, 3.0):
        ds = run(point, sweeps.grid(act=[activation(slope)], x=[1.0, 2.0]), out=out, static="act")
        assert ds.value.values.tolist() == [[slope, 2 * slope]]
    assert xarray.open_zarr(out, chunks=None).sizes["act"] == 2

    def inner(weights, x, key):
        return {"value": x * weights[1000]}

    one, other = np.zeros(2000, np.float32), np.zeros(2000, np.float32)
    other[1000] = 1
    assert repr(one) == repr(other)
    for weights in (one, other):
        grid = sweeps.grid(weights=[weights], x=[1.0, 2.0])
        ds = run(inner, grid, out=tmp_path / "b.zarr", static="weights")
        assert ds.value.values.tolist() == [[weights[1000], 2 * weights[1000]]]


def test_a_static_value_that_raises_marks_its_points_and_the_sweep_goes_on(tmp_path, capsys):
    grid, out = sweeps.grid(width=[2, 3, 4], x=[1.0, 2.0]), tmp_path / "a.zarr"

    def point(width, x, key):
        if width == 3:
            raise ArithmeticError("three is odd")
        return {"value": width * x}

    ds = run(point, grid, out=out, static="width")
    assert ds.status.values.tolist() == [[0, 0], [Status.INVALID_INPUT] * 2, [0, 0]]
    assert ds.value.values[[0, 2]].tolist() == [[2.0, 4.0], [4.0, 8.0]]
    assert np.isnan(ds.value.values[1]).all()
    assert "width=3 are marked INVALID_INPUT: ArithmeticError: three is odd" in capsys.readouterr().err
    kept = json.loads(str(xarray.open_zarr(out, chunks=None).attrs["errors"]))
    assert kept == {"width=3": "ArithmeticError: three is odd"}
    again = run(point, grid, out=out, static="width", retry="failed")
    xarray.testing.assert_identical(again.drop_attrs(), ds.drop_attrs())
    assert "width=3 are marked INVALID_INPUT" in capsys.readouterr().err
    with pytest.raises(ArithmeticError, match="three is odd"):
        run(point, sweeps.grid(width=[3], x=[1.0]), static="width")


def test_a_static_value_that_raises_is_marked_in_a_store_that_grows_too(tmp_path):
    """Whether it comes with the others or after them."""

    def point(width, x, key):
        if width == 3:
            raise ArithmeticError("three is odd")
        return {"value": width * x}

    for widths in ([2], [2, 3]):
        ds = run(point, sweeps.grid(width=widths, x=[1.0]), out=tmp_path / "a.zarr", static="width")
    assert ds.status.values.tolist() == [[0], [Status.INVALID_INPUT]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_ends_a_run_is_not_swallowed(error):
    def point(width, x, key):
        if width == 3:
            raise error
        return {"value": width * x}

    with pytest.raises(error):
        run(point, sweeps.grid(width=[2, 3], x=[1.0]), static="width")


def test_exchanged_chunks_are_noticed(tmp_path, computed):
    """Each is sound by itself, but not in its place."""
    out, grid = tmp_path / "a.zarr", sweeps.grid(ridge=[0.1, 1.0, 10.0], seed=range(4))
    run(plain, grid, out=out)
    before = content(out)
    computed.clear()
    for file in [name for name in before if "/c/0/" in name]:
        twin = file.replace("/c/0/", "/c/1/")
        (out / file).write_bytes(before[twin])
        (out / twin).write_bytes(before[file])
    run(plain, grid, out=out)
    assert sorted(computed) == list(range(8))
    assert content(out) == before


@pytest.mark.parametrize("text", ["[1]", "{", "", '{"zarr_format": 3, "node_type": "group"}'])
def test_a_root_that_is_no_sweeps_is_named(tmp_path, text):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(text)
    with pytest.raises(ValueError, match=r"out must be a sweep's store with sound metadata .*use another path"):
        run(plain, sweeps.grid(ridge=[0.1], seed=[0]), out=tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["a::b.zarr", "a b.zarr", "ünï.zarr"])
def test_any_name_of_a_folder_is_a_path(tmp_path, name):
    grid = sweeps.grid(ridge=[0.1], seed=[0, 1])
    run(plain, grid, out=str(tmp_path / name))
    assert run(plain, grid, out=str(tmp_path / name)).sizes["seed"] == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_link_is_where_it_leads(tmp_path):
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    grid = sweeps.grid(ridge=[0.1], seed=[0, 1])
    run(plain, grid, out=tmp_path / "link.zarr")
    assert (tmp_path / "real.zarr" / "zarr.json").exists()
    assert os.path.islink(tmp_path / "link.zarr")
    assert run(plain, grid, out=tmp_path / "link.zarr").sizes["seed"] == 2


def test_a_store_whose_draws_were_by_place_is_read_and_not_continued(tmp_path):
    out, grid = tmp_path / "a.zarr", sweeps.grid(ridge=[0.1], seed=[0, 1])
    run(plain, grid, out=out)
    metadata = json.loads((out / "zarr.json").read_text())
    del metadata["attributes"]["draws"]
    (out / "zarr.json").write_text(json.dumps(metadata))
    shutil.rmtree(out / "provenance" / "checksum")
    with pytest.raises(ValueError, match=r"draws: by the points' places in the store.*open it with xarray\.open_zarr"):
        run(plain, grid, out=out)
    assert xarray.open_zarr(out, chunks=None).sizes["seed"] == 2
    assert sweeps.status(out).done == 2


def test_a_result_is_written_as_netcdf_with_its_coordinates(tmp_path):
    def point(x, key):
        sizes = {"width": [8, 16], "parameters": ("width", [80, 320])}
        return {"risk": sweeps.named(x * jnp.ones(2), "width", **sizes)}

    ds = run(point, sweeps.grid(x=[1.0, 2.0]), out=tmp_path / "a.zarr")
    assert ds.risk.sel(width=16).sizes == {"x": 2}
    assert ds.parameters.values.tolist() == [80, 320]
    ds.to_netcdf(tmp_path / "a.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "a.nc", engine="scipy") as read:
        np.testing.assert_array_equal(read.risk, ds.risk)
        np.testing.assert_array_equal(read.parameters, ds.parameters)


def test_the_worst_status_of_an_array_is_the_points():
    def point(x, key):
        code = jnp.where(x > 1, jnp.int32(Status.ILL_CONDITIONED), jnp.int32(Status.OK))
        return {"risk": x, "width_status": sweeps.named(jnp.stack([jnp.int32(0), code]), "width")}

    ds = run(point, sweeps.grid(x=[1.0, 2.0]))
    assert ds.status.values.tolist() == [Status.OK, Status.ILL_CONDITIONED]
    named = run(lambda x, key: {"a": x, "status": point(x, key)["width_status"]}, sweeps.grid(x=[1.0, 2.0]))
    assert named.status.values.tolist() == [Status.OK, Status.ILL_CONDITIONED]
    assert named.status_by_width.values[1].tolist() == [Status.OK, Status.ILL_CONDITIONED]
    said = run(lambda x, key: point(x, key) | {"status": 0}, sweeps.grid(x=[1.0, 2.0]))
    assert said.status.values.tolist() == [0, 0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "body",
    [
        lambda width: 1.0 if width > 2 else 0.0,
        lambda width: np.sqrt(width),
        lambda width: jnp.zeros(width).sum(),
        lambda width: float(width),
        lambda width: sum(jnp.float32(i) for i in range(width)),
    ],
)
def test_python_at_a_traced_axis_names_static(body):
    with pytest.raises(ValueError, match=r'got .* from width; name static=\("width",\) to pass that axis as Python'):
        run(lambda width, seed, key: {"value": body(width)}, sweeps.grid(seed=[0], width=[2, 3]))


def test_axis_values_that_the_dtype_cannot_hold_are_named():
    with pytest.raises(ValueError, match=r"x must fit in float32, got x=\[1.e\+300\]; use other values, or enable 64"):
        run(lambda x, key: {"a": x}, sweeps.grid(x=[1.0, 1e300]))
    with jax.enable_x64(True):
        assert run(lambda x, key: {"a": x}, sweeps.grid(x=[1.0, 1e300])).a.values[1] == 1e300
