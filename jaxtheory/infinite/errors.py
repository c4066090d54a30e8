"""What has no limit, or none that is known here, says so: the operation, the user's line, the reason and the hint."""

import os
from typing import Any, NamedTuple, NoReturn

import jax

UNKNOWN = "an unknown line"


class NoLimitError(ValueError):
    """A network, or an operation in it, whose infinite-width limit does not exist or is not known here."""


class Site(NamedTuple):
    """Where an operation stands in the user's model."""

    operation: str
    line: str


_FOREIGN = tuple(os.path.dirname(os.path.abspath(path)) for path in (jax.__file__, __file__))


def _of_library(path: str) -> bool:
    return any(f"/site-packages/{name}/" in path for name in ("flax", "equinox", "haiku"))


def site(equation: Any) -> Site:
    """The operation of an equation and the innermost line of source that is neither JAX's, a library's nor ours."""
    trace = equation.source_info.traceback
    frames = [] if trace is None else trace.frames
    own = (f for f in frames if not f.file_name.startswith((*_FOREIGN, "<")) and not _of_library(f.file_name))
    frame = next(own, None)
    line = UNKNOWN if frame is None else f"{frame.file_name}:{frame.line_num}"
    return Site(str(equation.primitive.name), line)


def refuse(where: Site, reason: str, hint: str) -> NoReturn:
    """Raise a `NoLimitError` for an operation.

    >>> refuse(Site("sort", "model.py:3"), "it sorts channels", "leave it out")
    Traceback (most recent call last):
    jaxtheory.infinite.errors.NoLimitError: sort at model.py:3 has no infinite-width limit here: it sorts channels; ...
    """
    raise NoLimitError(f"{where.operation} at {where.line} has no infinite-width limit here: {reason}; {hint}.")
