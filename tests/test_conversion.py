"""The conversion of arguments at the public boundary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Key

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


def test_one_key_is_one_key():
    """A batch of keys where one is needed failed inside a random function; jax.vmap over keys is as before."""

    @boundary
    def draw(key: Key[Array, ""]) -> Float[Array, ""]:
        return jax.random.normal(key)

    keys = jax.random.split(jax.random.key(0), 3)
    for several in (keys, jax.random.key_data(keys)):
        with pytest.raises(ValueError, match=r"key must be one random key, got keys of shape \(3,\); pass one, or map"):
            draw(several)
    single = [draw(key) for key in keys]
    np.testing.assert_array_equal(jax.vmap(draw)(keys), single)
    np.testing.assert_array_equal(jax.vmap(draw)(jax.random.key_data(keys)), single)
