"""The conversion of arguments at the public boundary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from jaxtheory.checks import boundary


@boundary
def added(x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, " n"]:
    return x + y


@pytest.mark.parametrize("x", [[1, 2], [True, False], np.arange(2)])
def test_numbers_beside_float64_of_numpy_take_the_enabled_precision(x):
    """Warnings are errors here: JAX would warn of a float64 that it truncates."""
    expected = np.asarray(x, np.float64) + 0.5
    for enabled, dtype in ((False, jnp.float32), (True, jnp.float64)):
        with jax.enable_x64(enabled):
            found = added(x, np.full(2, 0.5))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)
