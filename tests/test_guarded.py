"""Roots and quotients at zero, next to it, and of what is not a number."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.guarded import over, root


def test_values_and_derivatives_at_zero(dtype):
    x = jnp.asarray([0.0, -1.0, 4.0, np.nan], dtype)
    np.testing.assert_array_equal(root(x), np.array([0, 0, 2, np.nan], dtype))
    np.testing.assert_array_equal(jax.vmap(jax.grad(root))(x), np.array([0, 0, 0.25, np.nan], dtype))
    one = jnp.ones(4, dtype)
    np.testing.assert_array_equal(over(one, x), np.array([0, 0, 0.25, np.nan], dtype))
    for order, expected in ((0, [0, 0, 0.25, np.nan]), (1, [0, 0, -1 / 16, np.nan])):
        np.testing.assert_array_equal(jax.vmap(jax.grad(over, order))(one, x), np.array(expected, dtype))


def test_second_derivatives_are_finite(dtype):
    x = jnp.asarray([0.0, 1.0], dtype)
    np.testing.assert_array_equal(jax.vmap(jax.grad(jax.grad(root)))(x), np.array([0, -0.25], dtype))
