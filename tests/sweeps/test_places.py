"""Where a store is and who may write there: URLs, shards of a job array, and one writer at a time."""

import json

import fsspec
import numpy as np
import pytest
import xarray
from sweeps.common import GRID, content, counting, plain, run

from jaxtheory.sweeps import places, store


@pytest.fixture
def url():
    """A folder of fsspec's memory, empty again afterwards."""
    yield "memory://runs/a.zarr"
    fsspec.filesystem("memory").rm("/runs", recursive=True)


@pytest.fixture
def computed(monkeypatch):
    """The points that are computed from now on, by their place in the store, padding left out."""
    return counting(monkeypatch)


def test_a_url_holds_what_a_folder_holds(url, tmp_path, computed):
    at_url = run(plain, GRID, out=url)
    run(plain, GRID, out=tmp_path / "a.zarr")
    xarray.testing.assert_identical(at_url.load(), run(plain, GRID).load())
    files = fsspec.filesystem("memory")
    stored = {path.removeprefix("/runs/a.zarr/"): files.cat(path) for path in files.find("/runs/a.zarr")}
    assert stored == content(tmp_path / "a.zarr")
    computed.clear()
    run(plain, GRID, out=url)
    assert computed == []


@pytest.mark.parametrize("damage", ["gone", "torn", "flipped"])
def test_a_damaged_chunk_at_a_url_is_recomputed(url, computed, damage):
    before = run(plain, GRID, out=url).load()
    files, path = fsspec.filesystem("memory"), "/runs/a.zarr/bits/c/2/0"
    whole = files.cat(path)
    files.rm(path)
    if damage != "gone":
        files.pipe(path, whole[:9] if damage == "torn" else bytes([whole[0] ^ 1]) + whole[1:])
    computed.clear()
    xarray.testing.assert_identical(run(plain, GRID, out=url).load(), before)
    assert computed == [10, 11, 12, 13, 14]


def test_an_upload_that_was_cut_short_is_done_again(url):
    """The root's metadata comes last; without it there is no store yet."""
    before = run(plain, GRID, out=url).load()
    fsspec.filesystem("memory").rm("/runs/a.zarr/zarr.json")
    xarray.testing.assert_identical(run(plain, GRID, out=url).load(), before)


def test_shards_fill_one_store(tmp_path, computed):
    """Each computes its own chunks, whole, in any order; the last finds nothing left and the bytes of one run."""
    out = tmp_path / "a.zarr"
    first = run(plain, GRID, out=out, shard="1/3").load()
    assert (first.status.values.max(axis=1) == np.array([-1, 0, -1, -1])).all()
    for shard in ("2/3", "0/3", "1/3"):
        run(plain, GRID, out=out, shard=shard)
    assert sorted(computed) == list(range(20))
    run(plain, GRID, out=out)
    assert sorted(computed) == list(range(20))
    run(plain, GRID, out=tmp_path / "b.zarr")
    assert content(out) == content(tmp_path / "b.zarr")


@pytest.mark.parametrize("shard", ["3/3", "1", "1/2/3", "-1/2", "a/b", ""])
def test_a_shard_is_i_of_n(shard, tmp_path):
    with pytest.raises(ValueError, match="shard must be 'i/n' with 0 <= i < n"):
        run(plain, GRID, out=tmp_path / "a.zarr", shard=shard)


def test_a_second_writer_is_refused_and_shards_are_not(tmp_path):
    out = tmp_path / "a.zarr"
    run(plain, GRID, out=out, shard="0/2")
    place = places.located(out)
    with places.held(place, shared=True):
        run(plain, GRID, out=out, shard="1/2")
        with pytest.raises(ValueError, match="out must not be written by another run"):
            run(plain, GRID, out=out)
    with places.held(place, shared=False), pytest.raises(ValueError, match="give every run its own shard"):
        run(plain, GRID, out=out, shard="1/2")
    before = content(out)
    run(plain, GRID, out=out)
    assert content(out) == before


def test_runs_that_met_only_in_the_store_keep_each_others_environments(tmp_path):
    """Both opened the store before either added its own."""
    place = places.located(tmp_path / "a.zarr")
    run(plain, GRID, out=place.name)
    one, other = store.existing(place), store.existing(place)
    made = store.environments(one)[0]
    codes = [store.environment_code(s, made | {"block": b}) for s, b in ((one, 3), (other, 4), (one, 4), (other, 3))]
    assert codes == [1, 2, 2, 1]
    known = json.loads(str(store.existing(place).group.attrs["environments"]))
    assert [environment["block"] for environment in known] == [made["block"], 3, 4]
