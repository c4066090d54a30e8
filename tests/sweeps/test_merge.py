"""Merging stores: what they have together, once; what differs is refused; the result can be continued."""

import jax.numpy as jnp
import numpy as np
import pytest
import zarr
from sweeps.common import content, counting, devices, draws, plain, run

from jaxtheory import sweeps


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two stores that overlap in one column, the second with its axes in another order."""
    where = tmp_path_factory.mktemp("parts")
    run(draws, sweeps.grid(ridge=[0.1, 1.0], seed=[0, 1, 2]), out=where / "a.zarr")
    run(draws, sweeps.grid(seed=[2, 3], ridge=[1.0, 0.1, 10.0]), out=where / "b.zarr", mesh=devices(8), block=8)
    return where / "a.zarr", where / "b.zarr"


def test_the_union_is_kept_and_can_be_continued(parts, tmp_path, monkeypatch):
    before = [content(part) for part in parts]
    merged = sweeps.merge([parts[0], str(parts[1])], tmp_path / "all.zarr").load()
    assert [content(part) for part in parts] == before
    assert [path.name for path in tmp_path.iterdir()] == ["all.zarr"]
    whole = run(draws, sweeps.grid(ridge=[0.1, 1.0, 10.0], seed=range(4)))
    done = merged.status >= 0
    assert done.sum() == 10
    assert done.sel(ridge=10.0).values.tolist() == [False, False, True, True]
    for name in ("bits", "path"):
        np.testing.assert_array_equal(merged[name].where(done), whole[name].where(done))
    computed = counting(monkeypatch)
    filled = run(draws, sweeps.grid(ridge=[0.1, 1.0, 10.0], seed=range(4)), out=tmp_path / "all.zarr")
    assert len(computed) == 2
    np.testing.assert_array_equal(filled.bits, whole.bits)


def test_what_computed_which_point_is_kept(parts, tmp_path):
    merged = sweeps.merge(parts, tmp_path / "all.zarr")
    codes = zarr.open_group(tmp_path / "all.zarr", mode="r")["provenance/environment"][...]
    assert (codes >= 0).tolist() == (merged.status.values >= 0).tolist()


def test_points_that_differ_are_named(tmp_path):
    def point(x, key, shift):
        return {"value": x + jnp.where(x == 2.0, shift, 0.0)}

    for name, shift in (("a", 0.0), ("b", 1.0)):
        bound = lambda x, key, shift=shift: point(x, key, shift)  # noqa: E731
        run(bound, sweeps.grid(x=[1.0, 2.0, 3.0]), out=tmp_path / f"{name}.zarr")
    wish = r"stores must agree with .*a\.zarr at x=2\.0, where value differs, got stores=.*b\.zarr"
    with pytest.raises(ValueError, match=wish):
        sweeps.merge([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "all.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_other_sweeps_and_missing_stores_are_named(parts, tmp_path):
    run(draws, sweeps.grid(ridge=[0.1], seed=[0]), out=tmp_path / "key.zarr", key=1)
    with pytest.raises(ValueError, match=r"stores must hold one sweep \(differing from .*key: threefry2x32: 0, 0"):
        sweeps.merge([parts[0], tmp_path / "key.zarr"], tmp_path / "all.zarr")
    with pytest.raises(ValueError, match="stores must be stores of sweeps"):
        sweeps.merge([parts[0], tmp_path / "nowhere.zarr"], tmp_path / "all.zarr")
    with pytest.raises(ValueError, match="out must not exist yet"):
        sweeps.merge(parts, parts[0])
    with pytest.raises(ValueError, match="stores must be a list of paths"):
        sweeps.merge(str(parts[0]), tmp_path / "all.zarr")


def test_shards_that_share_no_disk_become_the_store_of_one_run(tmp_path):
    grid = sweeps.grid(ridge=[0.1, 1.0, 10.0], seed=range(5))
    for i in range(3):
        run(plain, grid, out=tmp_path / f"{i}.zarr", shard=f"{i}/3")
    merged = sweeps.merge([tmp_path / f"{i}.zarr" for i in range(3)], tmp_path / "all.zarr")
    run(plain, grid, out=tmp_path / "one.zarr")
    assert (merged.status == 0).all()
    assert content(tmp_path / "all.zarr") == content(tmp_path / "one.zarr")
