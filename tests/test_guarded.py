"""Roots and quotients at zero, next to it, and of what is not a number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.guarded import divided, over, root


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


@pytest.mark.parametrize(
    ("x", "first", "second", "found"), [(-20, -60, -70, 110), (-126, -66, -66, 6), (100, 80, 80, -60)]
)
def test_a_product_of_divisors_is_not_formed(x, first, second, found):
    """Powers of two, whose products are out of range: compiled too."""
    given = [jnp.float32(2.0) ** power for power in (x, first, second)]
    np.testing.assert_array_equal(jax.jit(divided)(*given), np.float32(2.0) ** found)
    assert jax.jit(divided)(jnp.float32(0), *given[1:]) == 0
