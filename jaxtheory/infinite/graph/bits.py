"""Arrays of random bits that a program draws with a key, and what follows from them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """A draw of a program: the bytes of its key, the shape that is drawn, and the width of its bits."""

    key: bytes
    shape: tuple[int, ...]
    width: int


class Source(NamedTuple):
    """Entries `make(bits)` of one draw, independent along the axes `own` and equal along the others."""

    draw: Draw
    own: tuple[bool, ...]
    make: Callable[[np.ndarray], np.ndarray]
