"""What has no limit, or none that is known here, says so: the operation, the user's line, the reason and the hint."""

import os
import re
from typing import Any, NamedTuple, NoReturn

import jax

UNKNOWN = "an unknown line"


class NoLimitError(ValueError):
    """A network, or an operation in it, whose infinite-width limit does not exist or is not known here."""


class Site(NamedTuple):
    """Where an operation stands: the line of the user's model, and the function of a library that it calls."""

    operation: str
    line: str
    inside: str = ""

    @property
    def place(self) -> str:
        """Both, as far as they are known."""
        if not self.inside:
            return self.line
        return f"{self.line} (in {self.inside})" if self.line != UNKNOWN else self.inside


_FOREIGN = tuple(os.path.dirname(os.path.abspath(path)) for path in (jax.__file__, __file__))
_PACKAGES = re.compile(r".*/(?:site|dist)-packages/")
_BASIC = re.compile(r".*/(?:site|dist)-packages/(?:flax|equinox|haiku)/")  # what models in packages are made of


def site(equation: Any) -> Site:
    """The operation of an equation, the innermost line that is not of a library, and the library's where it has none.

    A model that is a package itself has lines of its own: those of neither JAX nor Flax, Equinox or Haiku.
    """
    trace = equation.source_info.traceback
    frames = [] if trace is None else trace.frames
    own = [f for f in frames if not f.file_name.startswith((*_FOREIGN, "<"))]
    user = next((f for f in own if not _PACKAGES.match(f.file_name)), None)
    user = user or next((f for f in own if not _BASIC.match(f.file_name)), None)
    line = UNKNOWN if user is None else f"{user.file_name}:{user.line_num}"
    inside = "" if not own or own[0] is user else _in_library(own[0])
    return Site(str(equation.primitive.name), line, inside)


def _in_library(frame: Any) -> str:
    return f"{frame.function_name}, {_PACKAGES.sub('', frame.file_name)}:{frame.line_num}"


def refuse(where: Site, reason: str, hint: str) -> NoReturn:
    """Raise a `NoLimitError` for an operation.

    >>> refuse(Site("sort", "model.py:3"), "it sorts channels", "leave it out")
    Traceback (most recent call last):
    jaxtheory.infinite.errors.NoLimitError: sort at model.py:3 has no infinite-width limit here: it sorts channels; ...
    """
    raise NoLimitError(f"{where.operation} at {where.place} has no infinite-width limit here: {reason}; {hint}.")
