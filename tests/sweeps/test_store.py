"""The store: continued where it stopped, mended where it is damaged, refused where it is another sweep's."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
import zarr

from jaxtheory import sweeps
from jaxtheory.results import Status
from jaxtheory.sweeps import blocks

run = functools.partial(sweeps.run, progress=False)
GRID = sweeps.grid(ridge=[0.1, 1.0, 10.0, 100.0], seed=range(5))
CHUNKS = 4  # of 5 points each
HERE = Path(__file__).parent


def draws(ridge, seed, key):
    path = jnp.asarray(ridge, float) * jax.random.uniform(key, (3,))
    return {"bits": jax.random.bits(key), "path": sweeps.named(path, "time")}


def content(path):
    """Every file of the store, by name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished store, not to be changed."""
    path = tmp_path_factory.mktemp("whole") / "a.zarr"
    run(draws, GRID, out=path)
    return path


@pytest.fixture
def path(whole, tmp_path):
    """A finished store of the test's own."""
    return Path(shutil.copytree(whole, tmp_path / "a.zarr"))


@pytest.fixture
def computed(monkeypatch):
    """The points that are computed from now on, by their draw's index, padding left out."""
    indices = []
    evaluate = blocks.evaluate

    def counted(block, work, values, index, limit):
        indices.extend(index.tolist())
        return evaluate(block, work, values, index, limit)

    monkeypatch.setattr(blocks, "evaluate", counted)
    return indices


def test_plain_xarray_reads_the_store(whole):
    for ds in (xarray.open_zarr(whole, chunks=None), xarray.open_dataset(whole, engine="zarr")):
        assert dict(ds.sizes) == {"ridge": 4, "seed": 5, "time": 3}
        xarray.testing.assert_identical(ds.load(), run(draws, GRID))
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
    ds = run(draws, GRID, out=path)
    assert computed == []
    assert content(path) == before
    xarray.testing.assert_identical(ds.load(), run(draws, GRID))


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
    run(draws, GRID, out=path)
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
    run(draws, GRID, out=path)
    assert computed == []
    assert content(path) == before


def test_metadata_that_cannot_be_read_is_refused(path):
    truncate(path / "zarr.json")
    with pytest.raises(ValueError, match=r"out must be a sweep's store with sound metadata.*a\.zarr; use another path"):
        run(draws, GRID, out=path)


def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="out must be a sweep's store"):
            run(draws, GRID, out=out)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert run(draws, GRID, out=tmp_path / "empty").sizes["seed"] == 5


def versioned(ridge, seed, key):
    return draws(ridge, seed, key)


versioned.version = 2


def renamed(ridge, seed, key):
    return {"bytes": jax.random.bits(key), "path": draws(ridge, seed, key)["path"]}


def longer(ridge, seed, key):
    return draws(ridge, seed, key) | {"path": sweeps.named(jnp.zeros(4), "time")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"grid": sweeps.grid(ridge=[0.1, 1.0, 10.0, 99.0], seed=range(5))},
            r"axis ridge: float32 .*100.0\].*99.0\] here",
        ),
        ({"grid": sweeps.grid(ridge=[0.1, 1.0, 10.0, 100.0], seed=range(6))}, r"axis seed: .*4\] in .* 4, 5\] here"),
        (
            {"grid": sweeps.grid(seed=range(5), ridge=[0.1, 1.0, 10.0, 100.0])},
            "order of axes: ridge, seed in .*seed, rid",
        ),
        ({"grid": sweeps.grid(ridge=[0, 1, 2, 3], seed=range(5))}, "axis ridge: float32 .*int32"),
        ({"key": 1}, "key: threefry2x32: 0, 0 in the store, threefry2x32: 0, 1 here"),
        ({"point": versioned}, "point_version: 0 in the store, 2 here"),
        ({"point": functools.partial(jax.jit(versioned))}, "point_version: 0 in the store, 2 here"),
        ({"paired": "ridge"}, r"paired: \[\] in the store, \['ridge'\] here"),
        ({"static": "ridge"}, r"static: \[\] in the store, \['ridge'\] here"),
        ({"point": renamed}, r"output bits: uint32\[\] in the store, none here; output bytes: none in the store"),
        ({"point": longer}, r"output path: float32\[time=3\] in the store, float32\[time=4\] here"),
        ({"point": versioned, "key": 1}, "key: .*; point_version: "),
    ],
)
def test_another_sweep_is_refused_and_told_where_it_differs(whole, change, message):
    before = content(whole)
    arguments = {"point": draws, "grid": GRID} | change
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
        run(draws, GRID, out=whole)


def test_long_axes_are_quoted_where_they_part(tmp_path):
    values = np.arange(500.0)
    run(lambda x, key: {"x_": x}, sweeps.grid(x=values), out=tmp_path / "a.zarr")
    values[250] += 0.25
    with pytest.raises(ValueError, match=r"…[^…]* 250.0, [^…]*… in the store, …[^…]* 250.25, [^…]*… here") as caught:
        run(lambda x, key: {"x_": x}, sweeps.grid(x=values), out=tmp_path / "a.zarr")
    assert len(str(caught.value)) < 600


def test_work_on_other_devices_is_marked_chunk_by_chunk(path, computed):
    before = xarray.open_zarr(path, chunks=None).load()
    (path / "status" / "c" / "1" / "0").unlink()
    mesh = jax.make_mesh((2,), ("points",), devices=jax.devices()[:2])
    with pytest.warns(UserWarning, match=r"continued elsewhere \(device_count 8 -> 2, block 5 -> 3\)"):
        ds = run(draws, GRID, out=path, mesh=mesh, block=3)
    assert computed == [5, 6, 7, 8, 9]
    np.testing.assert_array_equal(ds.bits, before.bits)
    assert zarr.open_group(path, mode="r")["provenance/environment"][...].ravel().tolist() == [0, 1, 0, 0]
    first, second = json.loads(ds.attrs["environments"])
    assert (first["device_count"], second["device_count"], second["block"]) == (8, 2, 3)


def test_work_done_again_where_it_began_leaves_no_mark(path):
    (path / "status" / "c" / "1" / "0").unlink()
    with pytest.warns(UserWarning, match="block 5 -> 2"):
        run(draws, GRID, out=path, block=2)
    (path / "bits" / "c" / "1" / "0").unlink()
    run(draws, GRID, out=path)
    assert not (path / "provenance" / "environment" / "c" / "1" / "0").exists()


def test_the_layout_is_the_stores_whatever_the_block(path, whole):
    for part in ("0/0", "3/0"):
        (path / "status" / "c" / part).unlink()
    with pytest.warns(UserWarning, match="continued elsewhere"):
        run(draws, GRID, out=path, block=1)
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
        run(draws, GRID, out=out)


def child(script, *arguments):
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_full_disk_is_named_and_loses_nothing(tmp_path):
    """A file size limit, set after two commits, makes the kernel refuse the next write."""
    report = child("full.py", tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert str(tmp_path / "a.zarr") in report["error"]
    assert "while writing the sweep's store (what is committed is kept" in report["error"]
    assert report["committed"] >= 2
    assert report["recomputed"] == report["chunks"] - report["committed"]
    assert content(tmp_path / "a.zarr") == content(tmp_path / "b.zarr")


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
def test_memory_that_runs_out_halves_the_block(tmp_path):
    """An address space limit makes XLA's allocations fail for real."""
    report = child("memory.py", tmp_path / "a.zarr")
    assert report["warned"][0] == "out of memory with blocks of 32 points: continuing with 16"
    assert report["block"] < 32
    assert report["right"]
    assert report["environments"][0]["block"] == 32
    assert report["environments"][-1]["block"] == report["block"]
    assert "one point a device does not fit in memory" in report["error"]


def test_automatic_blocks_fit_the_memory(monkeypatch):
    def point(seed, key):
        return {"top": jnp.sort(jax.random.normal(key, (4096,)))[-1]}

    grid = sweeps.grid(seed=range(64))
    free = run(point, grid, mesh=jax.make_mesh((1,), ("points",), devices=jax.devices()[:1]))
    assert free.attrs["block"] == 8
    monkeypatch.setattr(blocks, "_memory", lambda mesh: 2 * 3.5 * 4096 * 4)  # half of which holds 3.5 points' draws
    tight = run(point, grid, mesh=jax.make_mesh((1,), ("points",), devices=jax.devices()[:1]))
    assert tight.attrs["block"] in (1, 2)
    xarray.testing.assert_equal(free, tight)


def test_a_point_that_never_ends_is_marked_and_the_next_run_goes_on_behind_it(tmp_path):
    """In a process of its own, which ends although its device is busy for ever."""
    report = child("endless.py", tmp_path / "a.zarr")
    assert report["error"].startswith("1 points of chunk (0,) took longer than 1.0 s a block; run again")
    assert report["status"] == [0, 0, Status.TIMED_OUT] + [-1] * 6
    assert report["square"] == [0.0, 1.0, None] + [None] * 6
    again = child("endless.py", tmp_path / "a.zarr")
    assert again["error"] is None
    assert again["status"] == [0, 0, Status.TIMED_OUT, 0, 0, 0, 0, 0, 0]
    assert again["square"] == [0.0, 1.0, None, *(float(x**2) for x in range(3, 9))]


def test_a_time_limit_is_positive_and_harms_nobody_who_keeps_it():
    with pytest.raises(ValueError, match=r"time_limit must be seconds > 0, got time_limit=0\.0"):
        run(draws, GRID, time_limit=0.0)
    with jax.enable_x64(True):
        xarray.testing.assert_identical(run(draws, GRID, time_limit=100.0), run(draws, GRID))
