"""The angle against the C library's arctangent in a wider format, and its derivatives."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxtheory.activations.angle import angle


def points(dtype):
    """Angles over the whole half circle, and dense towards 0 and towards ±π/2, at lengths from 1e-6 to 1e6."""
    rng = np.random.default_rng(0)
    near = 10.0 ** rng.uniform(-12, 0, 4000)
    theta = np.concatenate([rng.uniform(-np.pi / 2, np.pi / 2, 8000), near, np.pi / 2 - near, near - np.pi / 2])
    length = 10.0 ** rng.uniform(-6, 6, theta.size)
    return (length * np.sin(theta)).astype(dtype), np.abs(length * np.cos(theta)).astype(dtype)


def test_the_relative_error_is_five_epsilon(dtype):
    opposite, adjacent = points(dtype)
    exact = np.array([float(mpmath.atan2(float(y), float(x))) for y, x in zip(opposite, adjacent, strict=True)])
    got = np.asarray(jax.jit(angle)(jnp.asarray(opposite), jnp.asarray(adjacent)))
    assert got.dtype == dtype
    slack = np.finfo(np.float64).eps / 2  # of the reference's own rounding
    assert np.max(np.abs(got - exact) / np.abs(exact)) < 5 * np.finfo(dtype).eps + slack


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_right_angles_and_none(float64, kind):
    one, zero = jnp.ones((), kind), jnp.zeros((), kind)
    cases = ((one, zero), (-one, zero), (zero, one), (zero, zero))
    got = np.asarray(jax.jit(angle)(*map(jnp.stack, zip(*cases, strict=True))), np.float64)
    np.testing.assert_allclose(got, [np.pi / 2, -np.pi / 2, 0, 0], rtol=5 * float(jnp.finfo(kind).eps))


def test_derivatives_are_those_of_the_arctangent(float64):
    opposite, adjacent = (jnp.asarray(p[:200]) for p in points(np.float64))
    for order in (0, 1):
        ours, theirs = jax.grad(angle, order), jax.grad(jnp.arctan2, order)
        got, expected = (jax.jit(jax.vmap(f))(opposite, adjacent) for f in (ours, theirs))
        np.testing.assert_allclose(got, expected, rtol=8 * np.finfo(np.float64).eps)
        got, expected = (jax.jit(jax.vmap(jax.grad(f, 0)))(opposite, adjacent) for f in (ours, theirs))
        # differences of terms of the size of 1/(x² + y²)
        assert float(jnp.max(jnp.abs(got - expected) * (opposite**2 + adjacent**2))) < 1e-14
    assert jax.grad(angle)(jnp.zeros(()), jnp.zeros(())) == 0
