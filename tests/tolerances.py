"""The one table of tolerances: how far two right answers may differ in each precision."""

from typing import Any

import jax.numpy as jnp
import numpy as np

# A few hundred roundings that do not conspire: sqrt(n) growth from eps for n ~ 1e5 operations.
_ROUND_OFF = {"float32": 4e-5, "float64": 1e-13}


def tolerance(dtype: Any, condition: float = 1.0) -> float:
    """Relative tolerance for a computation of this dtype whose condition number is `condition`."""
    return _ROUND_OFF[jnp.dtype(dtype).name] * condition


def assert_close(actual: Any, expected: Any, *, condition: float = 1.0, dtype: Any = None) -> None:
    """`actual` equals `expected` in norm, relative, to the tolerance of its dtype times `condition`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape}"
    error = np.linalg.norm((actual - expected).ravel()) / max(np.linalg.norm(expected.ravel()), 1e-300)
    allowed = tolerance(dtype or actual.dtype, condition)
    assert error <= allowed, f"relative error {error:.3e} > {allowed:.3e}"
