"""The user's own data: an npz file of arrays, or a folder of IDX files as MNIST and Fashion-MNIST are published."""

import gzip
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from jaxtheory.checks import require
from jaxtheory.data.splits import Split, floating

_IDX_PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
# The IDX format's type codes; its numbers are big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_arrays(path: str | os.PathLike[str], *, dtype: DTypeLike = "float32") -> Split:
    """A data set of the user's own, from an npz file or from a folder of IDX files.

    An npz file holds `x` [n, ...] and `y` [n] or [n, outputs], and may hold `x_test`, `y_test` (Keras's names
    `x_train`, `y_train` do as well). Without a test set `x_test` and `y_test` have no rows: see `split`.
    A folder holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, compressed (.gz) or not, itself or in its subfolder `raw`.

    Points are flattened, row by row. Arrays of bytes (uint8) are taken for images and divided by 255;
    all others keep their values. Integer `y` are class labels 0..K−1, as int32; floating `y` are targets.

    Args:
        path: the npz file or the folder.
        dtype: of the points and of floating targets.

    Returns:
        `Split`: points [·, features], labels or targets [·, ...].

    Raises:
        FileNotFoundError: nothing there, listing the paths that were tried.
        ValueError: a file that is damaged or of another format (it says what was found), arrays missing, lengths
            or features that differ, values that are no numbers, NaN or infinite, negative labels.

    Cost: reads everything; peak memory is the file plus twice the result (Fashion-MNIST in float32: 0.5 GB).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/mine.npz", x=np.zeros((6, 2, 2), np.uint8), y=np.arange(6))
    ...     parts = load_arrays(f"{folder}/mine.npz")
    >>> parts.x.shape, str(parts.y.dtype), parts.x_test.shape
    ((6, 4), 'int32', (0, 4))
    """
    source, wanted = Path(path), floating(dtype)
    if not source.exists():
        raise FileNotFoundError(f"no data found; tried {source.absolute()}; pass an npz file or a folder of IDX files.")
    arrays = _read_idx_folder(source) if source.is_dir() else _read_npz(source)
    x, y = _points("x", arrays["x"], wanted, source), _targets("y", arrays["y"], wanted, source)
    x_test, y_test = x[:0], y[:0]
    if "x_test" in arrays:
        x_test = _points("x_test", arrays["x_test"], wanted, source)
        y_test = _targets("y_test", arrays["y_test"], wanted, source)
    _require_pairs(x, y, x_test, y_test)
    return Split(x, y, x_test, y_test)


def _require_pairs(x: Array, y: Array, x_test: Array, y_test: Array) -> None:
    """Every point has its target, and training and test rows have the same shapes."""
    for name, points, targets in (("y", x, y), ("y_test", x_test, y_test)):
        wish = f"have one row for each of the {len(points)} points"
        require(len(targets) == len(points), name, f"{len(targets)} rows", wish, "store pairs")
    for name, test, like in (("x_test", x_test, x), ("y_test", y_test, y)):
        wish = f"have rows of shape {like.shape[1:]} as in training"
        require(
            test.shape[1:] == like.shape[1:], name, f"rows of shape {test.shape[1:]}", wish, "store the same features"
        )


def _points(name: str, values: np.ndarray, dtype: np.dtype, source: Path) -> Float[Array, "n features"]:
    """Flattened and, where they are bytes, scaled to [0, 1]."""
    where = f"{name} in {source}"
    found = f"{values.dtype} of shape {values.shape}"
    real = jnp.issubdtype(values.dtype, jnp.floating) or values.dtype.kind in "biu"
    require(real and values.ndim >= 2 and len(values) > 0, where, found, "be real of shape [n, features]", "store rows")
    rows = _cast(values.reshape(len(values), -1), dtype)
    return jnp.asarray(_finite(where, rows / dtype.type(255) if values.dtype == np.uint8 else rows))


def _targets(name: str, values: np.ndarray, dtype: np.dtype, source: Path) -> Shaped[Array, "n ..."]:
    """Class labels as int32, or floating targets."""
    where = f"{name} in {source}"
    found = f"{values.dtype} of shape {values.shape}"
    real = jnp.issubdtype(values.dtype, jnp.floating) or values.dtype.kind in "biu"
    require(real and values.ndim >= 1, where, found, "be real of shape [n] or [n, outputs]", "store one row a point")
    if values.dtype.kind not in "biu":
        return jnp.asarray(_finite(where, _cast(values, dtype)))
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    hint = "number the classes from 0, or store regression targets as floats"
    require(low >= 0 and high < 2**31, where, f"{low}..{high}", "be class labels 0..K−1", hint)
    return jnp.asarray(values.astype(np.int32))


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`values` in `dtype`; what overflows is infinite, and found by `_finite`."""
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _finite(where: str, values: np.ndarray) -> np.ndarray:
    """`values`, once it is known that each of them is a finite number."""
    bad = ~np.isfinite(values)
    found = f"{bad.sum()} of {bad.size} values NaN or infinite"
    hint = "clean the file, or choose a wider dtype if they overflow"
    require(not bad.any(), where, found, "be finite", hint)
    return values


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file under the names x, y and, where it has them, x_test, y_test."""
    try:
        # Opened here, for numpy leaves a damaged archive open.
        with path.open("rb") as file, np.load(file) as archive:
            stored = {name: archive[name] for name in getattr(archive, "files", ())}
    except (ValueError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as damage:
        raise ValueError(f"{path} must be an npz file of plain arrays; reading it failed: {damage}.") from damage
    arrays = {name.replace("_train", ""): value for name, value in stored.items()}
    wish = "hold the arrays x and y (and may hold both x_test and y_test)"
    complete = {"x", "y"} <= arrays.keys() and ("x_test" in arrays) == ("y_test" in arrays)
    require(complete, str(path), sorted(stored), wish, "store it with numpy.savez(path, x=..., y=...)")
    return arrays


def _read_idx_folder(folder: Path) -> dict[str, np.ndarray]:
    """The four IDX files of an MNIST-like set."""
    paths = [_find_idx(folder, part) for part in _IDX_PARTS]
    return dict(zip(("x", "y", "x_test", "y_test"), map(_read_idx, paths), strict=True))


def _find_idx(folder: Path, part: str) -> Path:
    """The first of the file names in use for one part of the set."""
    tried = list(_idx_names(folder, part))
    for path in tried:
        if path.is_file():
            return path
    names = ", ".join(str(path.absolute()) for path in tried)
    raise FileNotFoundError(f"no IDX file of {part} found; tried {names}; pass the folder that holds them.")


def _idx_names(folder: Path, part: str) -> Iterator[Path]:
    """Names as published, as unpacked by some archivers, and in torchvision's subfolder."""
    kind = "idx3-ubyte" if part.endswith("images") else "idx1-ubyte"
    for place in (folder, folder / "raw"):
        for name in (f"{part}-{kind}", f"{part}.{kind}"):
            yield place / name
            yield place / f"{name}.gz"


def _read_idx(path: Path) -> np.ndarray:
    """One array: two zero bytes, a type code, the number of dimensions, the big-endian sizes, the values."""
    raw = _decompressed(path)
    hint = "fetch the file again"
    # Fewer than four bytes are padded to a header that no type code matches.
    zero, code, rank = struct.unpack(">HBB", (raw[:4] + b"\xff" * 4)[:4])
    start = "start with two zero bytes, an IDX type code and the number of dimensions"
    known = zero == 0 and code in _IDX_TYPES and 1 <= rank <= 8 and len(raw) >= 4 + 4 * rank
    require(known, f"header of {path}", f"bytes {raw[:4].hex(' ')}", start, hint)
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    kind, values = np.dtype(_IDX_TYPES[code]), len(raw) - 4 - 4 * rank
    wish = f"be the {kind.itemsize * math.prod(shape)} that its header announces for shape {shape}"
    require(values == kind.itemsize * math.prod(shape), f"number of bytes in {path}", values, wish, hint)
    return np.frombuffer(raw, kind, offset=4 + 4 * rank).reshape(shape).astype(kind.newbyteorder("="))


def _decompressed(path: Path) -> bytes:
    """The bytes of a file, unpacked if they start as gzip does, whatever the file is called."""
    raw = path.read_bytes()
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as damage:
        raise ValueError(
            f"{path} must be a whole gzip file, unpacking it failed: {damage}; fetch it again."
        ) from damage
