"""Numbers of a program that are powers of its width."""

import numpy as np
from jax.typing import ArrayLike

_ROUNDED = 1e-6
# factors and powers of numbers c m^p, the likeliest first
_ROOTS = tuple((c, p) for c in (1.0, 2**0.5, 0.5**0.5) for p in (0.5, -0.5))
_FORMS = (*_ROOTS, (1.0, 1.0), (1.0, -1.0), (1.0, 1.5), (1.0, -1.5))


def twice(value: ArrayLike, widths: frozenset[int]) -> ArrayLike:
    """A number c m^p of a width m, as that of 2m; any other number as it is.

    p is ±1/2 with c = 1, √2 or 1/√2, or ±1 or ±3/2 with c = 1.

    >>> float(twice(4.0, frozenset({16}))), twice(3.0, frozenset({16}))
    (5.656854249492381, 3.0)
    """
    number = float(np.asarray(value))
    for factor, power in _FORMS:
        if any(abs(number / (factor * m**power) - 1) < _ROUNDED for m in widths):
            return (np.asarray(value) * 2.0**power).astype(np.asarray(value).dtype)
    return value
