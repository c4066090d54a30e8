"""Where an operation stands: the user's line that made it, also where the operation itself is a library's."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from jaxtheory.programs.calls import Equation

UNKNOWN = "an unknown line"

_LIBRARIES = ("/jax/", "/flax/", "/equinox/", "/haiku/", "/optax/", "/jaxtyping/", "/beartype/", "/chex/", "/einops/")
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Site(NamedTuple):
    """An operation of a program and the user's line that made it."""

    operation: str
    line: str


def site(equation: Equation, outer: Sequence[Equation] = ()) -> Site:
    """The operation of an equation and the user's line that made it, or made the innermost of the calls it is in."""
    lines = (_line(each) for each in (equation, *outer[::-1]))
    return Site(str(equation.primitive.name), next((line for line in lines if line is not None), UNKNOWN))


def _line(equation: Equation) -> str | None:
    """The innermost line of source that is in no library."""
    trace = equation.source_info.traceback
    frames = [] if trace is None else trace.frames
    own = (f for f in frames if not any(part in f.file_name for part in (*_LIBRARIES, _OURS, "<", "/contextlib.py")))
    frame = next(own, None)
    return None if frame is None else f"{frame.file_name}:{frame.line_num}"
