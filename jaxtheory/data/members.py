"""Arrays in files, known by their headers before their values are read: members of an npz archive, IDX files."""

import contextlib
import gzip
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtheory.checks import require

_IDX_PARTS = {"x": "train-images", "y": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
# The IDX format's type codes; its numbers are big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGE = (ValueError, EOFError, OSError, RuntimeError, TypeError, SyntaxError, zipfile.BadZipFile, zlib.error)
_PIECE, _LONGEST_HEADER = 2**20, 2**16


class Member(NamedTuple):
    """An array that is not read yet; `read()` takes as many bytes as shape and dtype need, whatever follows."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def npz_members(path: Path, opened: contextlib.ExitStack) -> dict[str, Member]:
    """The arrays of an npz file under the names x, y and, where it has them, x_test, y_test.

    Args:
        path: of the archive.
        opened: keeps it open until the values are read.

    Raises:
        ValueError: a damaged file, one of another format, arrays of objects, or arrays that are not there.
    """
    with _plain_arrays(path):
        archive = zipfile.ZipFile(opened.enter_context(path.open("rb")))
    held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    names = {name: _one_of(path, held, name) for name in ("x", "y", "x_test", "y_test")}
    wish = "hold the arrays x and y (and may hold both x_test and y_test)"
    found = {name: info for name, info in names.items() if info is not None}
    complete = {"x", "y"} <= found.keys() and ("x_test" in found) == ("y_test" in found)
    require(complete, str(path), sorted(held), wish, "store it with numpy.savez(path, x=..., y=...)")
    return {name: _npz_member(path, archive, info) for name, info in found.items()}


def _one_of(path: Path, held: dict[str, zipfile.ZipInfo], name: str) -> zipfile.ZipInfo | None:
    """The member of that name, or of Keras's name for training data."""
    names = [name] if name.endswith("_test") else [name, f"{name}_train"]
    there = [held[candidate] for candidate in names if candidate in held]
    require(len(there) <= 1, str(path), names, f"hold {name} once", "store one of them")
    return there[0] if there else None


def _npz_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """One array: its header, and how to read the rest of it."""
    with _plain_arrays(path), archive.open(info) as packed:
        file = io.BytesIO(packed.read(_LONGEST_HEADER))  # a header may claim gigabytes
        header = _NPY_HEADERS.get(np.lib.format.read_magic(file))
        if header is None:
            raise ValueError("a version of the npy format for arrays of records")
        shape, by_columns, dtype = header(file)
        start, size = file.tell(), dtype.itemsize * math.prod(shape)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects")
        if start + size != info.file_size:
            raise ValueError(f"{info.filename} announces {size} bytes and has {info.file_size - start}")

    def read() -> np.ndarray:
        with _plain_arrays(path), archive.open(info) as file:
            raw = _bytes(file.read, start + size)
            if len(raw) != start + size or file.read(1):  # reading past the end also checks the archive's checksum
                raise ValueError(f"{info.filename} has {len(raw)} bytes, not {start + size}")
        return np.frombuffer(raw, dtype, offset=start).reshape(shape, order="F" if by_columns else "C")

    return Member(shape, dtype, read)


@contextlib.contextmanager
def _plain_arrays(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as damage:
        raise ValueError(f"{path} must be an npz file of plain arrays; reading it failed: {damage}.") from damage


def idx_members(folder: Path, opened: contextlib.ExitStack) -> dict[str, Member]:
    """The four IDX files of an MNIST-like set.

    Raises:
        FileNotFoundError: one is not there, with the names that were tried.
        ValueError: a file that is damaged or of another format.
    """
    paths = {name: _find_idx(folder, part) for name, part in _IDX_PARTS.items()}
    return {name: _idx_member(path, opened) for name, path in paths.items()}


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


def _idx_member(path: Path, opened: contextlib.ExitStack) -> Member:
    """One array: two zero bytes, a type code, the number of dimensions, the big-endian sizes, the values."""
    file, hint = opened.enter_context(_unpacked(path)), "fetch the file again"
    start = _read(path, file.read, 4)
    # Fewer than four bytes are padded to a header that no type code matches.
    zero, code, rank = struct.unpack(">HBB", (start + b"\xff" * 4)[:4])
    sizes = _read(path, file.read, 4 * rank) if zero == 0 and code in _IDX_TYPES and 1 <= rank <= 8 else b""
    wish = "start with two zero bytes, an IDX type code and the number of dimensions"
    require(bool(sizes) and len(sizes) == 4 * rank, f"header of {path}", f"bytes {start.hex(' ')}", wish, hint)
    shape, kind = struct.unpack(f">{rank}I", sizes), np.dtype(_IDX_TYPES[code])
    size = kind.itemsize * math.prod(shape)

    def read() -> np.ndarray:
        raw = _read(path, file.read, size + 1)
        found = f"{len(raw)} or more" if len(raw) > size else len(raw)
        wish = f"be the {size} that its header announces for shape {shape}"
        require(len(raw) == size, f"number of bytes in {path}", found, wish, hint)
        return np.frombuffer(raw, kind).reshape(shape).astype(kind.newbyteorder("="))

    return Member(shape, kind, read)


def _unpacked(path: Path) -> io.BufferedIOBase:
    """The file, unpacked as it is read if it starts as gzip does, whatever it is called."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _read(path: Path, read: Callable[[int], bytes], size: int) -> bytearray:
    try:
        return _bytes(read, size)
    except (OSError, EOFError, zlib.error) as damage:
        raise ValueError(
            f"{path} must be a whole gzip file, unpacking it failed: {damage}; fetch it again."
        ) from damage


def _bytes(read: Callable[[int], bytes], size: int) -> bytearray:
    """At most `size` bytes, in pieces: memory follows what is there, not what a header claims."""
    raw = bytearray()
    while len(raw) < size:
        piece = read(min(_PIECE, size - len(raw)))
        if not piece:
            break
        raw += piece
    return raw
