"""The store: continued where it stopped, repaired where it is damaged, refused where it is another sweep's."""

import functools
import json
import os
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
import zarr
from sweeps.common import CHUNKS, GRID, content, counting, devices, plain, run

from jaxtheory import sweeps
from jaxtheory.sweeps import blocks


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished store, not to be changed."""
    path = tmp_path_factory.mktemp("whole") / "a.zarr"
    run(plain, GRID, out=path)
    return path


@pytest.fixture
def path(whole, tmp_path):
    """A finished store of the test's own."""
    return Path(shutil.copytree(whole, tmp_path / "a.zarr"))


@pytest.fixture
def computed(monkeypatch):
    """The points that are computed from now on, by their place in the store, padding left out."""
    return counting(monkeypatch)


def test_plain_xarray_reads_the_store(whole):
    for ds in (xarray.open_zarr(whole, chunks=None), xarray.open_dataset(whole, engine="zarr")):
        assert dict(ds.sizes) == {"ridge": 4, "seed": 5, "time": 3}
        xarray.testing.assert_identical(ds.load(), run(plain, GRID))
    assert ds.status.attrs["flag_meanings"].split()[:2] == ["not_computed", "ok"]


def test_attributes_record_what_made_it(whole):
    attributes = xarray.open_zarr(whole, chunks=None).attrs
    assert attributes["jax"] == jax.__version__
    assert (attributes["device_kind"], attributes["device_count"]) == ("cpu", 8)
    assert (attributes["dtype"], attributes["key"], attributes["point_version"]) == ("float32", "threefry2x32: 0, 0", 0)
    assert (attributes["chunk"], attributes["block"]) == ([1, 5], 5)
    assert json.loads(attributes["grid"])["seed"] == {"dtype": "int32", "values": [0, 1, 2, 3, 4]}


def test_every_chunk_of_every_array_is_checksummed(whole):
    group = zarr.open_group(whole, mode="r")
    for name, array in group.arrays():
        files = [file for file in (whole / name / "c").rglob("*") if file.is_file()]
        assert len(files) == {"ridge": 1, "seed": 1}.get(name, CHUNKS)
        assert [codec.to_dict()["name"] for codec in array.compressors] == ["crc32c"]
    assert group["status"].fill_value == -1


def test_chunks_that_equal_the_fill_value_are_written_too(tmp_path, computed):
    """Zarr leaves them out by default, and the point would be computed again and again."""

    def point(x, key):
        return {"zero": 0 * x, "no": x < 0, "nan": jnp.nan * x.astype(jnp.float32), "status": -1}

    first = run(point, sweeps.grid(x=range(9)), out=tmp_path / "a.zarr").load()
    assert sorted(computed) == list(range(9))
    for name in ("zero", "no", "nan", "status"):
        assert len([file for file in (tmp_path / "a.zarr" / name / "c").rglob("*") if file.is_file()]) == 3
    xarray.testing.assert_identical(run(point, sweeps.grid(x=range(9)), out=tmp_path / "a.zarr").load(), first)
    assert len(computed) == 9


def test_a_second_call_computes_nothing_and_changes_nothing(path, computed):
    before = content(path)
    ds = run(plain, GRID, out=path)
    assert computed == []
    assert content(path) == before
    xarray.testing.assert_identical(ds.load(), run(plain, GRID))


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def empty(file):
    os.truncate(file, 0)


def extend(file):
    file.write_bytes(file.read_bytes() + b"\0")


@pytest.mark.parametrize("damage", [flip, truncate, empty, extend, Path.unlink])
@pytest.mark.parametrize("part", ["bits/c/2/0", "path/c/2/0/0", "status/c/2/0"])
def test_a_damaged_chunk_is_detected_and_alone_recomputed(path, computed, damage, part):
    before = content(path)
    damage(path / part)
    (path / "bits" / "c" / "2" / "0.0123.partial").write_bytes(b"left by a kill")
    run(plain, GRID, out=path)
    assert computed == [10, 11, 12, 13, 14]
    assert content(path) == before


def test_a_damaged_coordinate_of_zero_is_mended(tmp_path):
    out, grid = tmp_path / "a.zarr", sweeps.grid(origin=[0], x=range(3))
    run(lambda origin, x, key: {"sum": origin + x}, grid, out=out)
    before = content(out)
    flip(out / "origin" / "c" / "0")
    run(lambda origin, x, key: {"sum": origin + x}, grid, out=out)
    assert content(out) == before


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_damaged_coordinates_are_mended(path, computed, damage):
    before = content(path)
    damage(path / "ridge" / "c" / "0")
    run(plain, GRID, out=path)
    assert computed == []
    assert content(path) == before


def test_metadata_that_cannot_be_read_is_refused(path):
    truncate(path / "zarr.json")
    with pytest.raises(ValueError, match=r"out must be a sweep's store with sound metadata.*a\.zarr; use another path"):
        run(plain, GRID, out=path)


def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="out must be a sweep's store"):
            run(plain, GRID, out=out)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert run(plain, GRID, out=tmp_path / "empty").sizes["seed"] == 5


def versioned(ridge, seed, key):
    return plain(ridge, seed, key)


versioned.version = 2


def renamed(ridge, seed, key):
    return {"bytes": jnp.uint8(ridge), "path": plain(ridge, seed, key)["path"]}


def longer(ridge, seed, key):
    return plain(ridge, seed, key) | {"path": sweeps.named(jnp.zeros(4), "time")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": sweeps.grid(ridge=[0, 1, 2, 3], seed=range(5))}, "axis ridge: float32 in the store, int32 here"),
        (
            {"grid": sweeps.grid(ridge=[0.1]), "point": functools.partial(plain, seed=0)},
            "axis seed: int32 in the store, none here",
        ),
        (
            {"grid": sweeps.grid(sweeps.zipped(ridge=[0.1, 1.0], seed=[0, 1]))},
            "axis ridge zipped with: none in the store, ridge, seed here",
        ),
        ({"key": 1}, "key: threefry2x32: 0, 0 in the store, threefry2x32: 0, 1 here"),
        ({"point": versioned}, "point_version: 0 in the store, 2 here"),
        ({"point": functools.partial(jax.jit(versioned))}, "point_version: 0 in the store, 2 here"),
        ({"paired": "ridge"}, r'paired: \[\] in the store, \["ridge"\] here'),
        ({"static": "ridge"}, r'static: \[\] in the store, \["ridge"\] here'),
        ({"point": renamed}, r"output bits: int32\[\] in the store, none here; output bytes: none in the store"),
        ({"point": longer}, r"output path: float32\[time=3\] in the store, float32\[time=4\] here"),
        ({"point": versioned, "key": 1}, "key: .*; point_version: "),
    ],
)
def test_another_sweep_is_refused_and_told_where_it_differs(whole, change, message):
    before = content(whole)
    arguments = {"point": plain, "grid": GRID} | change
    with pytest.raises(
        ValueError, match=r"out must hold the sweep that is asked for \(differing in .*use another path"
    ) as caught:
        run(**arguments, out=whole)
    assert re.search(message, str(caught.value)), caught.value
    assert content(whole) == before


def test_another_precision_is_refused(whole):
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match=r"axis ridge.*dtype: float32 in the store, float64 here"),
    ):
        run(plain, GRID, out=whole)


def test_long_labels_are_quoted_where_they_part(tmp_path):
    values = np.arange(500.0)

    def point(x, key):
        return {"path": sweeps.named(x * jnp.ones(500), "time", time=values)}

    run(point, sweeps.grid(x=[1.0]), out=tmp_path / "a.zarr")
    values[250] += 0.25
    with pytest.raises(ValueError, match=r"…[^…]* 250.0, [^…]*… in the store, …[^…]* 250.25, [^…]*… here") as caught:
        run(point, sweeps.grid(x=[1.0]), out=tmp_path / "a.zarr")
    assert len(str(caught.value)) < 700


def test_work_on_other_devices_is_marked_chunk_by_chunk(path, computed):
    before = xarray.open_zarr(path, chunks=None).load()
    (path / "status" / "c" / "1" / "0").unlink()
    with pytest.warns(UserWarning, match=r"continued elsewhere \(device_count 8 -> 2, block 5 -> 3\)"):
        ds = run(plain, GRID, out=path, mesh=devices(2), block=3)
    assert computed == [5, 6, 7, 8, 9]
    np.testing.assert_array_equal(ds.bits, before.bits)
    assert zarr.open_group(path, mode="r")["provenance/environment"][:, 0].tolist() == [0, 1, 0, 0]
    first, second = json.loads(ds.attrs["environments"])
    assert (first["device_count"], second["device_count"], second["block"]) == (8, 2, 3)


def test_work_done_again_where_it_began_leaves_no_mark(path):
    (path / "status" / "c" / "1" / "0").unlink()
    with pytest.warns(UserWarning, match="block 5 -> 2"):
        run(plain, GRID, out=path, block=2)
    (path / "bits" / "c" / "1" / "0").unlink()
    run(plain, GRID, out=path)
    assert not zarr.open_group(path, mode="r")["provenance/environment"][...].any()


def test_the_layout_is_the_stores_whatever_the_block(path, whole):
    for part in ("0/0", "3/0"):
        (path / "status" / "c" / part).unlink()
    with pytest.warns(UserWarning, match="continued elsewhere"):
        run(plain, GRID, out=path, block=1)
    ours, theirs = content(path), content(whole)
    assert {name for name in ours if not name.startswith("provenance")} == {
        name for name in theirs if not name.startswith("provenance")
    }


def test_static_axes_are_chunked_one_by_one(tmp_path, computed):
    def point(activation, seed, key):
        return {"value": activation(jax.random.normal(key))}

    grid = sweeps.grid(seed=range(6), activation=[jnp.tanh, jnp.sin])
    out = tmp_path / "a.zarr"
    whole = run(point, grid, out=out, static="activation").load()
    assert whole.attrs["chunk"] == [6, 1]
    (out / "value" / "c" / "0" / "1").unlink()
    computed.clear()
    xarray.testing.assert_identical(run(point, grid, out=out, static="activation").load(), whole)
    assert computed == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize("where", ["under a file", "/proc/sweep.zarr", "/sys/sweep.zarr"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, where):
    (tmp_path / "file").write_text("")
    out = Path(where) if where.startswith("/") else tmp_path / "file" / "a.zarr"
    with pytest.raises(OSError, match=f"while writing the sweep's store .*{out}"):
        run(plain, GRID, out=out)


def test_automatic_blocks_fit_the_memory(monkeypatch):
    def point(seed, key):
        wave = jnp.cos(seed * jnp.arange(4096.0))
        return {"power": wave @ wave[::-1]}

    grid = sweeps.grid(seed=np.arange(16.0))
    free = run(point, grid, mesh=devices(1))
    assert free.attrs["block"] == 4
    monkeypatch.setattr(blocks, "_memory", lambda mesh: 2 * 2.5 * 4096 * 4)  # half of which holds 2.5 waves
    tight = run(point, grid, mesh=devices(1))
    assert tight.attrs["block"] in (1, 2)
    xarray.testing.assert_allclose(free, tight)


def test_a_time_limit_harms_nobody_who_keeps_it(tmp_path):
    with jax.enable_x64(True):
        xarray.testing.assert_identical(run(plain, GRID, time_limit=100.0), run(plain, GRID))
