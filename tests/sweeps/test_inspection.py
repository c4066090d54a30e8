"""Metadata of a store that were changed: refused with what contradicts what; and chunks of another sweep's values."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import zarr
from sweeps.common import content, plain, run

from jaxtheory import sweeps
from jaxtheory.sweeps import building

GRID = sweeps.grid(ridge=[0.1, 1.0, 10.0], seed=range(4))


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


def rewritten(path, change):
    """The root's metadata, those of the arrays among them, changed in place."""
    root = json.loads((path / "zarr.json").read_text())
    change(root, root["attributes"], root["consolidated_metadata"]["metadata"])
    (path / "zarr.json").write_text(json.dumps(root))


def of_grid(change):
    def changed(root, attributes, arrays):
        grid = json.loads(attributes["grid"])
        grid = change(grid) or grid
        attributes["grid"] = json.dumps(grid)

    return changed


def cut(name, chunk):
    """Another cut into chunks, of files of the same length."""
    return lambda root, attributes, arrays: arrays[name]["chunk_grid"]["configuration"].update(chunk_shape=chunk)


def dropped(name):
    return lambda root, attributes, arrays: attributes.pop(name)


CHANGES = [
    # numbers of as many bytes, which would be read as others
    (lambda root, attributes, arrays: arrays["bits"].update(data_type="float32", fill_value=0.0), "bits: .*float32"),
    (lambda root, attributes, arrays: arrays["status"].update(data_type="uint32", fill_value=0), "status: .*uint32"),
    (lambda root, attributes, arrays: arrays["ridge"].update(data_type="int32", fill_value=0), "ridge: .*"),
    (lambda root, attributes, arrays: arrays["path"].update(shape=[3, 4, 2]), r"path: .*time=2"),
    (lambda root, attributes, arrays: arrays["bits"].update(dimension_names=["seed", "ridge"]), "bits: .*'seed', 'rid"),
    (lambda root, attributes, arrays: arrays["bits"].update(dimension_names=None), "bits: "),
    (lambda root, attributes, arrays: arrays["path"].update(attributes={"_FillValue": 1.0}), "_FillValue of path"),
    (lambda root, attributes, arrays: arrays.pop("bits"), "array bits"),
    (lambda root, attributes, arrays: arrays.pop("provenance/checksum"), "provenance/checksum"),
    (lambda root, attributes, arrays: root.update(zarr_format=2), "zarr_format"),
    (lambda root, attributes, arrays: attributes.update(outputs=7), "TypeError"),
    (lambda root, attributes, arrays: attributes.update(environments="[7]"), "environments"),
    (lambda root, attributes, arrays: attributes.update(draws=7), "type of the attribute draws"),
    (lambda root, attributes, arrays: attributes.update(shape=[3, "four"]), "shape"),
    (cut("bits", [4, 1]), "chunks of bits"),
    (cut("provenance/checksum", [3, 1]), "checksums"),
    (dropped("key"), "key"),
    (dropped("point_version"), "point_version"),
    (dropped("outputs"), "outputs"),
    (of_grid(lambda grid: dict(reversed(grid.items()))), "bits: "),
    (of_grid(lambda grid: grid["ridge"]["values"].__setitem__(1, 10.0)), "distinct values of ridge"),
    (of_grid(lambda grid: grid["seed"].update(values=list("abcd"))), "invalid literal"),
    (of_grid(lambda grid: grid["seed"].update(dtype="float32")), "seed: "),
]


def test_metadata_that_contradict_each_other_are_refused(whole, tmp_path):
    before = content(whole)
    for number, (change, message) in enumerate(CHANGES):
        copy = Path(shutil.copytree(whole, tmp_path / f"{number}.zarr"))
        rewritten(copy, change)
        with pytest.raises(ValueError, match=rf"(?s)out must be a sweep's store with sound metadata .*{message}"):
            sweeps.status(copy)
    assert content(whole) == before


def test_numbers_are_those_of_the_files_whatever_says_how_to_decode_them(path):
    before = run(plain, GRID, out=path).load()
    scale = {"attributes": {"scale_factor": 2.0, "missing_value": 1.0}}
    rewritten(path, lambda root, attributes, arrays: arrays["path"].update(scale))
    np.testing.assert_array_equal(run(plain, GRID, out=path)["path"], before["path"])


def test_an_array_beside_the_outputs_is_left_alone(path):
    """It is none of a chunk's parts, though it lies along the sweep's axes."""
    root = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
    root.create_array("notes", shape=(3, 4), dtype="int8", dimension_names=("ridge", "seed"))
    building.consolidate(path)
    before = content(path)
    run(plain, GRID, out=path)
    assert content(path) == before


def test_chunks_of_other_values_are_noticed(path, whole, tmp_path):
    """A sweep of the same point, key and shape over other values: its chunks are sound in its own store alone."""
    other, grid = tmp_path / "other.zarr", sweeps.grid(ridge=[0.5, 5.0, 50.0], seed=range(4))
    run(plain, grid, out=other)
    foreign, before = content(other), content(whole)
    for file in [name for name in foreign if "/c/1/" in name]:
        (path / file).write_bytes(foreign[file])
    run(plain, GRID, out=path)
    assert content(path) == before


def test_values_that_changed_places_are_noticed(path):
    """Chunks are those of the values where they were computed; every point is computed again."""
    rewritten(path, of_grid(lambda grid: grid["ridge"]["values"].reverse()))
    again = run(plain, GRID, out=path).load()
    np.testing.assert_array_equal(again.bits, run(plain, GRID).bits)


def test_a_chunk_that_an_axis_grows_into_stays_sound(tmp_path):
    """Positions that a longer axis adds to a chunk belong to no point that was done: 7 points, then 1."""
    counts = []
    for count in (7, 8):
        seen = []
        grid = sweeps.grid(ridge=[0.1], seed=range(count))
        ds = run(plain, grid, out=tmp_path / "a.zarr", callback=lambda now, seen=seen: seen.append(now.points))
        counts.append(seen[-1])
    assert counts == [7, 1]
    np.testing.assert_array_equal(ds.bits[0], range(100, 108))


def test_damaged_labels_of_outputs_are_repaired_or_named(tmp_path):
    """Where points are vmapped, what they return is known; where they are called, only the store knows it."""

    def point(x, key):
        return {"risk": sweeps.named(x * jnp.arange(2.0), "width", width=[8, 16], kind=("width", ["a", "b"]))}

    out, grid = tmp_path / "a.zarr", sweeps.grid(x=[1.0, 2.0])
    run(point, grid, out=out)
    before = content(out)
    for name in ("width", "kind", "x"):
        (out / name / "c" / "0").write_bytes(b"damaged")
        assert run(point, grid, out=out).load().width.values.tolist() == [8, 16]
        assert content(out) == before
    out = tmp_path / "b.zarr"
    run(point, grid, out=out, vmap=False)
    (out / "x" / "c" / "0").write_bytes(b"damaged")
    assert run(point, grid, out=out, vmap=False).x.values.tolist() == [1, 2]
    (out / "width" / "c" / "0").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"out must have sound labels \['width'\].*b\.zarr"):
        run(point, grid, out=out, vmap=False)
