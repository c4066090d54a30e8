"""The user's own data: an npz file of arrays, or a folder of IDX files as MNIST and Fashion-MNIST are published.

Headers are read first: names, shapes and types are checked before any values are, only what is wanted is read, and no
more of it than its header announces.
"""

import contextlib
import math
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from jaxtheory._host import floating_dtype
from jaxtheory.checks import require
from jaxtheory.data.members import Member, idx_members, npz_members
from jaxtheory.data.splits import Split


def load_arrays(path: str | os.PathLike[str], *, dtype: DTypeLike = "float32") -> Split:
    """A data set of the user's own, from an npz file or from a folder of IDX files.

    An npz file holds `x` [n, ...] and `y` [n] or [n, outputs], and may hold `x_test`, `y_test` (Keras's names
    `x_train`, `y_train` do as well); its other arrays are not read. Without a test set `x_test` and `y_test` have no
    rows: see `split`. A folder holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
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
            or features that differ, values that are no numbers, NaN or infinite, negative labels; with the path.

    Cost: reads the wanted arrays once; peak memory is three times the result (Fashion-MNIST in float32: 0.6 GB).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/mine.npz", x=np.zeros((6, 2, 2), np.uint8), y=np.arange(6))
    ...     parts = load_arrays(f"{folder}/mine.npz")
    >>> parts.x.shape, str(parts.y.dtype), parts.x_test.shape
    ((6, 4), 'int32', (0, 4))
    """
    given = isinstance(path, (str, os.PathLike))
    require(given, "path", repr(path), "be a path", "pass an npz file or a folder of IDX files")
    source, wanted = Path(path), floating_dtype("dtype", dtype)
    if not source.exists():
        raise FileNotFoundError(f"no data found; tried {source.absolute()}; pass an npz file or a folder of IDX files.")
    usual = source.is_file() or source.is_dir()
    require(usual, "path", str(source), "be a file or a folder", "pass an npz file or a folder of IDX files")
    with contextlib.ExitStack() as opened:
        members = (idx_members if source.is_dir() else npz_members)(source, opened)
        _require_numbers(members, source)
        _require_pairs(members, source)
        arrays = {name: _converted(name, member, wanted, source) for name, member in members.items()}
    x, y = arrays["x"], arrays["y"]
    return Split(x, y, arrays.get("x_test", x[:0]), arrays.get("y_test", y[:0]))


def _require_numbers(members: dict[str, Member], source: Path) -> None:
    """Real numbers, points with at least one axis behind the rows, and rows to train on."""
    for name, member in members.items():
        axes, hint = (2, "store rows") if name.startswith("x") else (1, "store one row a point")
        shape = "[n, features]" if axes == 2 else "[n] or [n, outputs]"
        real = jnp.issubdtype(member.dtype, jnp.floating) or member.dtype.kind in "biu"
        sound = real and len(member.shape) >= axes and (member.shape[0] > 0 or name != "x")
        found = f"{member.dtype} of shape {member.shape}"
        require(sound, f"{name} in {source}", found, f"be real of shape {shape}", hint)


def _require_pairs(members: dict[str, Member], source: Path) -> None:
    """Every point has its target, and training and test rows have the same sizes."""
    shapes = {name: member.shape for name, member in members.items()}
    for x, y in (("x", "y"), ("x_test", "y_test")):
        if x in shapes:
            wish = f"have one row for each of the {shapes[x][0]} points"
            require(shapes[y][0] == shapes[x][0], f"{y} in {source}", f"{shapes[y][0]} rows", wish, "store pairs")
    for name in (name for name in ("x", "y") if f"{name}_test" in shapes):
        test, like = shapes[f"{name}_test"][1:], shapes[name][1:]
        same = math.prod(test) == math.prod(like) if name == "x" else test == like
        wish = f"have rows of shape {like} as in training"
        require(same, f"{name}_test in {source}", f"rows of shape {test}", wish, "store the same features")


def _converted(name: str, member: Member, dtype: np.dtype, source: Path) -> Array:
    values = member.read()
    return (_points if name.startswith("x") else _targets)(f"{name} in {source}", values, dtype)


def _points(where: str, values: np.ndarray, dtype: np.dtype) -> Float[Array, "n features"]:
    """Flattened and, where they are bytes, scaled to [0, 1]."""
    rows = _cast(values.reshape(len(values), math.prod(values.shape[1:])), dtype)
    return jnp.asarray(_finite(where, rows / dtype.type(255) if values.dtype == np.uint8 else rows))


def _targets(where: str, values: np.ndarray, dtype: np.dtype) -> Shaped[Array, "n ..."]:
    """Class labels as int32, or floating targets."""
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
