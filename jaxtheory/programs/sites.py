"""Where an operation stands: the user's line that made it, also where the operation itself is a library's."""

import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxtheory.programs.calls import Equation

UNKNOWN = "an unknown line"

_FOREIGN = tuple(os.path.dirname(os.path.abspath(path)) + os.sep for path in (jax.__file__, os.path.dirname(__file__)))
_PACKAGES = re.compile(r".*/(?:site|dist)-packages/")
_BASIC = re.compile(r".*/(?:site|dist)-packages/(?:flax|equinox|haiku|optax|jaxtyping|beartype|chex|einops)/")
_PYTHON = ("<", os.path.dirname(os.__file__) + os.sep + "contextlib.py")


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


def site(equation: Equation, outer: Sequence[Equation] = ()) -> Site:
    """The operation of an equation, the innermost line that is not of a library, and the library's where it has none.

    A model that is a package itself has lines of its own: those of neither JAX nor Flax, Equinox or Haiku. An equation
    without a line has that of the innermost of the calls `outer` it is in.
    """
    found = [_place(each) for each in (equation, *outer[::-1])]
    line, inside = next((place for place in found if place[0] != UNKNOWN), found[0])
    return Site(str(equation.primitive.name), line, inside)


def _place(equation: Equation) -> tuple[str, str]:
    trace = equation.source_info.traceback
    frames = [] if trace is None else trace.frames
    own = [f for f in frames if not f.file_name.startswith((*_FOREIGN, *_PYTHON))]
    user = next((f for f in own if not _PACKAGES.match(f.file_name)), None)
    user = user or next((f for f in own if not _BASIC.match(f.file_name)), None)
    line = UNKNOWN if user is None else f"{user.file_name}:{user.line_num}"
    return line, "" if not own or own[0] is user else _in_library(own[0])


def _in_library(frame: Any) -> str:
    return f"{frame.function_name}, {_PACKAGES.sub('', frame.file_name)}:{frame.line_num}"
