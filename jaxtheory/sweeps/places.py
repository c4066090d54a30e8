"""Where a store is, a folder or anything fsspec has a URL for, and the right to write there."""

import contextlib
import glob
import os
from collections.abc import Iterator
from typing import NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jaxtheory.checks import require

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no advisory locks of this kind
    fcntl = None  # type: ignore[assignment]


_PATH = "write out='runs/a.zarr', or install the filesystem's package"


class Place(NamedTuple):
    """A path `root` on a filesystem, and how the user wrote it."""

    files: fsspec.AbstractFileSystem
    root: str
    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def local(self) -> bool:
        """Whether this is a folder of the operating system."""
        return isinstance(self.files, LocalFileSystem)


def located(out: str | os.PathLike[str]) -> Place:
    """A path, links resolved, or a URL such as `s3://bucket/a.zarr`, whose filesystem fsspec must know.

    Raises:
        ValueError: neither a path nor a URL that fsspec can read.

    >>> located("memory://runs/a.zarr").root
    '/runs/a.zarr'
    """
    name = os.fspath(out) if isinstance(out, (str, os.PathLike)) else ""
    named = isinstance(name, str) and name != "" and "\0" not in name
    require(named, "out", repr(out), "be a path or a URL", _PATH)
    if isinstance(out, os.PathLike) or "://" not in name:  # also a::b, which fsspec would take for a chain of URLs
        return Place(LocalFileSystem(), os.path.realpath(os.path.expanduser(name)), name)
    try:
        files, root = fsspec.core.url_to_fs(name)
    except (ValueError, ImportError, OSError) as error:
        raise ValueError(
            f"out must be a path or a URL that fsspec knows, got out={name} ({error}); {_PATH}."
        ) from error
    return Place(files, os.path.realpath(root) if isinstance(files, LocalFileSystem) else root, name)


def occupied(place: Place) -> bool:
    """Whether anything but an empty folder is there."""
    place.files.invalidate_cache()
    if not place.files.exists(place.root):
        return False
    return not place.files.isdir(place.root) or bool(place.files.ls(place.root))


def matching(place: Place, folder: str, pattern: str) -> list[str]:
    """The files in a folder whose names match; the folder's own brackets and asterisks are letters."""
    return place.files.glob(f"{glob.escape(folder)}/{pattern}")


def remove(place: Place, path: str) -> None:
    """Remove a file if it is there; another process may have been first."""
    with contextlib.suppress(FileNotFoundError):
        place.files.rm_file(path)


@contextlib.contextmanager
def held(place: Place, shared: bool) -> Iterator[None]:
    """The right to write: alone, or beside others that are `shared` too.

    The lock is on the folder itself: it leaves no file and dies with its process, however that ends. Where there are no
    such locks (URLs, some network filesystems), nothing is refused; chunks are written whole there too.

    Raises:
        ValueError: another process writes there.
    """
    with _opened(place, place.root) as handle:
        free = handle is None or _lock(handle, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
        hint = "wait for it, or give every run its own shard"
        require(free, "out", str(place), "not be written by another run at this moment", hint)
        yield


@contextlib.contextmanager
def turn(place: Place, folder: str) -> Iterator[None]:
    """Wait for one's turn at what is shared in `folder`."""
    with _opened(place, folder) as handle:
        if handle is not None:
            _lock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _opened(place: Place, folder: str) -> Iterator[int | None]:
    """A folder's handle, whose closing gives its lock back; None where there are no locks."""
    if fcntl is None or not place.local:
        yield None
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, how: int) -> bool:
    """Whether the lock was had; True where the filesystem knows no locks."""
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        return False
    except OSError:  # NFS without a lock daemon
        return True
    return True
