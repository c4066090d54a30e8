"""Files of the user's own, whole and damaged; the IDX writer here follows the published format by hand."""

import contextlib
import gzip
import os
import struct
import tracemalloc
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 4, 3), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def idx(values, code=0x08):
    return struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape) + values.tobytes()


def write_folder(folder, *, dotted=False, packed=False):
    folder.mkdir(exist_ok=True)
    for part, values in (("train", slice(None)), ("t10k", slice(2))):
        for kind, array in (("images-idx3", IMAGES[values]), ("labels-idx1", LABELS[values])):
            name = f"{part}-{kind.replace('-', '.') if dotted else kind}-ubyte"
            raw = idx(array)
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(raw) if packed else raw)
    return folder


@contextlib.contextmanager
def peak_memory():
    """The most bytes that Python and NumPy hold at once within the block."""
    tracemalloc.start()
    peaks = []
    try:
        yield lambda: peaks[0]
    finally:
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


@pytest.mark.parametrize(("dotted", "packed"), [(False, False), (False, True), (True, False)])
def test_idx_folder_is_read_as_images_in_the_unit_interval(tmp_path, dotted, packed):
    parts = data.load_arrays(write_folder(tmp_path, dotted=dotted, packed=packed))
    assert_close(parts.x, (IMAGES.reshape(7, 12) / 255).astype(np.float32))
    np.testing.assert_array_equal(parts.y, LABELS)
    assert (parts.x_test.shape, parts.y_test.tolist()) == ((2, 12), [0, 1])
    assert (parts.x.dtype, parts.y.dtype) == (jnp.float32, jnp.int32)


def test_idx_files_may_lie_in_the_subfolder_raw(tmp_path):
    write_folder(tmp_path / "raw")
    assert data.load_arrays(str(tmp_path)).x.shape == (7, 12)


def test_gzip_is_known_by_its_bytes_not_its_name(tmp_path):
    path = write_folder(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert data.load_arrays(tmp_path).x.shape == (7, 12)


def test_idx_numbers_wider_than_a_byte_are_big_endian(tmp_path):
    values = RNG.standard_normal((7, 4)).astype(">f4")
    (write_folder(tmp_path) / "train-images-idx3-ubyte").write_bytes(idx(values, 0x0D))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(values[:2], 0x0D))
    np.testing.assert_array_equal(data.load_arrays(tmp_path).x, values.astype(np.float32))


def test_a_missing_idx_file_lists_where_it_was_looked_for(tmp_path):
    (write_folder(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no IDX file of t10k-labels") as error:
        data.load_arrays(tmp_path)
    for name in ("t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz", "raw/t10k-labels.idx1-ubyte"):
        assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"\x89PNG\r\n", r"got header of .*=bytes 89 50 4e 47"),
        (b"\x00\x00\x07\x03" + bytes(12), "bytes 00 00 07 03"),
        (b"\x00\x00", r"got header of .*=bytes 00 00;"),
        (b"", "header of .* must start with two zero bytes"),
        (idx(IMAGES)[:-1], r"must be the 84 that its header announces for shape \(7, 4, 3\).*=83"),
        (idx(IMAGES)[:9], "bytes 00 00 08 03"),
        (gzip.compress(idx(IMAGES))[:-12], "must be a whole gzip file"),
    ],
)
def test_a_damaged_idx_file_says_what_was_found(tmp_path, raw, found):
    (write_folder(tmp_path) / "train-images-idx3-ubyte").write_bytes(raw)
    with pytest.raises(ValueError, match=found):
        data.load_arrays(tmp_path)


def test_unpaired_idx_files_are_refused(tmp_path):
    (write_folder(tmp_path) / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:5]))
    with pytest.raises(ValueError, match=r"y in .* must have one row for each of the 7 points, got .*=5 rows"):
        data.load_arrays(tmp_path)


def store(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def test_npz_keeps_values_and_scales_bytes_only(tmp_path, dtype):
    x, y = RNG.standard_normal((5, 3)), RNG.standard_normal((5, 2))
    parts = data.load_arrays(store(tmp_path, x=x, y=y, x_test=IMAGES[:2, 0], y_test=y[:2]), dtype=dtype)
    np.testing.assert_array_equal(parts.x, x.astype(dtype))
    np.testing.assert_array_equal(parts.y, y.astype(dtype))
    assert_close(parts.x_test, (IMAGES[:2, 0] / 255).astype(dtype))


def test_npz_with_keras_names_and_without_a_test_set(tmp_path):
    parts = data.load_arrays(store(tmp_path, x_train=IMAGES, y_train=LABELS))
    assert (parts.x.shape, parts.x_test.shape, parts.y_test.shape) == ((7, 12), (0, 12), (0,))


NAN = np.array([[1.0, np.nan], [np.inf, 0.0]])
PAIR = {"x": np.ones((2, 2)), "y": np.arange(2)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (PAIR | {"x": NAN}, "x in .*mine.npz must be finite, got .*2 of 4 values NaN or infinite"),
        (PAIR | {"y": NAN}, "y in .* must be finite"),
        (PAIR | {"x": np.full((2, 2), 1e300)}, "or choose a wider dtype"),
        (PAIR | {"y": np.arange(3)}, "y in .*mine.npz must have one row for each of the 2 points"),
        (PAIR | {"y": np.array([-1, 1])}, r"must be class labels 0..K−1, got .*=-1..1; number the classes from 0"),
        (PAIR | {"y": np.array([0, 2**31])}, "must be class labels"),
        (PAIR | {"y": np.array(["cat", "dog"])}, "y in .* must be real"),
        (PAIR | {"x": np.ones(2)}, r"x in .* must be real of shape \[n, features\], got .* of shape \(2,\)"),
        (PAIR | {"x": np.ones((2, 2), complex)}, "x in .* must be real"),
        (PAIR | {"x": np.ones((0, 2)), "y": np.arange(0)}, "x in .* must be real of shape"),
        (
            PAIR | {"x_test": np.ones((2, 3)), "y_test": np.arange(2)},
            "x_test in .*mine.npz must have rows of shape .2,.",
        ),
        (PAIR | {"x_test": np.ones((2, 2)), "y_test": np.ones((2, 2))}, "y_test in .*mine.npz must have rows of shape"),
        (PAIR | {"x_test": np.ones((2, 2))}, r"must hold the arrays x and y .*got .*'x_test'"),
        ({"images": np.ones((2, 2))}, r"must hold the arrays x and y .*=\['images'\]"),
        (PAIR | {"x": np.array([[{}, {}]])}, "must be an npz file of plain arrays"),
    ],
)
def test_bad_npz_contents_are_named(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        data.load_arrays(store(tmp_path, **arrays))


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "npy"])
def test_a_file_that_is_no_npz_says_so(tmp_path, damage):
    path = store(tmp_path, **PAIR)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-40], "text": b"x,y\n1,2\n", "empty": b"", "npy": whole}[damage])
    if damage == "npy":
        np.save(tmp_path / "mine.npy", PAIR["x"])
        path = tmp_path / "mine.npy"
    with pytest.raises(ValueError, match=r"mine.np[yz] must "):
        data.load_arrays(path)


def test_only_what_is_wanted_is_inflated(tmp_path):
    """64 MB of zeros beside x and y are 64 KB on disk and are never unpacked."""
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=np.ones((5, 3)), y=np.arange(5), weights=np.zeros(2**23))
    with peak_memory() as peak:
        assert data.load_arrays(path).x.shape == (5, 3)
    assert peak() < 2**23


def test_a_header_that_claims_gigabytes_is_not_unpacked(tmp_path):
    """The length of a header of version 2 is a number of 32 bits, and NumPy read as much."""
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(2**25))
        archive.writestr("y.npy", b"")
    with peak_memory() as peak, pytest.raises(ValueError, match=r"mine.npz must be an npz file of plain arrays"):
        data.load_arrays(path)
    assert peak() < 2**23


def test_an_archive_whose_headers_do_not_fit_is_refused_before_its_values_are_read(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=np.zeros((2**13, 2**10)), y=np.arange(5))
    with (
        peak_memory() as peak,
        pytest.raises(ValueError, match=r"y in .*mine.npz must have one row for each of the 8192"),
    ):
        data.load_arrays(path)
    assert peak() < 2**23


def test_a_gzip_file_is_unpacked_no_further_than_its_header_announces(tmp_path):
    """An image file in front of 64 MB of zeros."""
    path = write_folder(tmp_path) / "train-images-idx3-ubyte"
    with gzip.open(path, "wb") as file:
        file.write(idx(IMAGES))
        for _ in range(2**6):
            file.write(bytes(2**20))
    with peak_memory() as peak, pytest.raises(ValueError, match=r"84 that its header announces .*=85 or more"):
        data.load_arrays(tmp_path)
    assert peak() < 2**23


def test_a_header_that_announces_more_than_there_is_costs_no_memory(tmp_path):
    write_folder(tmp_path)
    for part, rows in (("train", 7), ("t10k", 2)):
        raw = struct.pack(">HBB3I", 0, 8, 3, rows, 2**31, 2**31) + bytes(100)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(gzip.compress(raw))
    with peak_memory() as peak, pytest.raises(ValueError, match=r"its header announces for shape .*=100"):
        data.load_arrays(tmp_path)
    assert peak() < 2**23


def test_names_that_mean_the_same_are_refused_together(tmp_path):
    with pytest.raises(ValueError, match=r"mine\.npz must hold x once"):
        data.load_arrays(store(tmp_path, x=np.ones((2, 2)), x_train=np.ones((2, 2)), y=np.arange(2)))


def test_arrays_in_columns_and_of_other_byte_orders_keep_their_values(tmp_path):
    x, y = np.asfortranarray(RNG.standard_normal((5, 3))), np.arange(5, dtype=">i8")
    parts = data.load_arrays(store(tmp_path, x=x.astype(">f4"), y=y))
    np.testing.assert_array_equal(parts.x, x.astype(np.float32))
    np.testing.assert_array_equal(parts.y, y)


def test_a_path_is_a_path(unchecked):
    with pytest.raises(ValueError, match="path must be a path, got path=None"):
        data.load_arrays(None)


def test_a_device_or_a_pipe_is_no_file(tmp_path):
    """Reading one never ends."""
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.npz", "/dev/zero"):
        with pytest.raises(ValueError, match="path must be a file or a folder"):
            data.load_arrays(path)


def test_a_flipped_bit_in_an_npz_is_noticed(tmp_path):
    path = store(tmp_path, x=np.ones((50, 50)), y=np.arange(50))
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="must be an npz file of plain arrays"):
        data.load_arrays(path)


def test_nothing_there_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"tried {tmp_path}/nowhere"):
        data.load_arrays(tmp_path / "nowhere")
