"""Roots and quotients at zero, next to it, and of what is not a number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.guarded import divided, norm, orthogonal, over, polynomial, power_of_two, root


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


def test_a_small_part_is_orthogonal_to_all_bits(dtype):
    """What 1e-3 of a vector leaves is orthogonal to rounding of itself, not of the vector; zero rows too."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 3)))[0].T
    beyond = rng.normal(size=6)
    beyond -= basis.T @ (basis @ beyond)
    vector = basis.T @ np.ones(3) + 1e-3 * beyond
    rows = jnp.asarray(np.concatenate([basis, np.zeros((1, 6))]), dtype)
    part = orthogonal(rows, jnp.asarray(vector, dtype))
    eps = np.finfo(part.dtype).eps
    assert np.abs(rows @ part).max() <= 8 * eps * np.linalg.norm(part)
    np.testing.assert_allclose(part, 1e-3 * beyond, atol=16 * eps)


def test_horners_rule_is_the_polynomial_of_numpy(dtype):
    """Numbers and arrays as coefficients; none are 0."""
    x = np.array([0.0, -1.5, 2.0])
    coefficients = [2.0, np.array([1.0, 0.5, -1.0]), -0.25]
    expected = coefficients[0] + coefficients[1] * x + coefficients[2] * x**2
    given = [jnp.asarray(c, dtype) if np.ndim(c) else c for c in coefficients]
    np.testing.assert_allclose(polynomial(given, jnp.asarray(x, dtype)), expected, rtol=1e-6)
    np.testing.assert_array_equal(polynomial([], jnp.asarray(x, dtype)), np.zeros(3))


def test_units_of_the_largest_numbers_have_inverses():
    """A compiler multiplies by the inverse of what it divides a whole array by: that of 2^127 is 0 in float32."""
    x = jnp.array([[-3e38, 1.0], [3e38, 2.0]])
    unit = power_of_two(x, axis=0, keepdims=True)
    np.testing.assert_array_equal(unit, [[2.0**126, 2.0]])
    np.testing.assert_array_equal(x / unit * unit, x)
    np.testing.assert_allclose(norm(x / 4, axis=0), [3e38 / 8**0.5, 5**0.5 / 4], rtol=1e-6)
