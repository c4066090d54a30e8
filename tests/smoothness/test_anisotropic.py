"""The anisotropic norm against the norm on a line, a loop in NumPy, and functions of one variable."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.smoothness import besov
from jaxtheory.smoothness.anisotropic import modulus_norm


def by_loops(x, s, p, q, periodic):
    """The definition, with np.diff over strided slices for each step."""

    def size(values):
        return np.abs(values).max() if math.isinf(p) else (np.sum(np.abs(values) ** p) / x.size) ** (1 / p)

    total = size(x)
    for axis, each in enumerate(s):
        order, n = math.floor(each) + 1, x.shape[axis]
        lines = np.moveaxis(x, axis, 0)
        norms = []
        for h in range(1, (n - 1) // order + 1):
            moved = lines
            for _ in range(order):
                moved = np.roll(moved, -h, axis=0) - moved if periodic else moved[h:] - moved[:-h]
            norms.append(size(moved))
        best = np.maximum.accumulate(norms)
        steps = [2**j for j in range(int(math.log2(len(best))) + 1)]
        terms = np.array([(n / h) ** each * best[h - 1] for h in steps])
        total += terms.max() if math.isinf(q) else np.sum(terms**q) ** (1 / q)
    return total


@pytest.mark.parametrize(
    ("shape", "s", "p", "q", "periodic"),
    [
        ((8, 16), (0.5, 1.5), 1.0, 2.0, False),
        pytest.param((8, 4, 8), (1.0, 0.3, 2.2), math.inf, math.inf, True, marks=pytest.mark.slow),
    ],
)
def test_the_norm_is_its_definition(shape, s, p, q, periodic, float64):
    x = np.random.default_rng(0).normal(size=shape)
    found = modulus_norm(jnp.asarray(x), s, p, q, periodic=periodic)
    np.testing.assert_allclose(found, by_loops(x, s, p, q, periodic), rtol=1e-12)


@pytest.mark.slow
def test_on_a_line_and_for_functions_of_one_variable_it_is_the_norm_on_the_line():
    """A function of the second variable alone has no moduli along the first, however smooth that is asked to be."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=16), jnp.float32)
    line = besov.modulus_norm(x, 0.7, 1.5, 2.0)
    np.testing.assert_allclose(modulus_norm(x, (0.7,), 1.5, 2.0), line, rtol=1e-6)
    plane = jnp.broadcast_to(x[None, :], (8, 16))
    np.testing.assert_allclose(modulus_norm(plane, (3.5, 0.7), 1.5, 2.0), line, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modulus_norm(jnp.ones((4, 4)), (1.0,), 2.0, 2.0), "s must have one"),
        (lambda: modulus_norm(jnp.ones((4, 4)), (1.0, 0.0), 2.0, 2.0), "s must be > 0"),
        (lambda: modulus_norm(jnp.ones((4, 6)), (0.5, 0.5), 2.0, 2.0), "x must have a power"),
        (lambda: modulus_norm(jnp.ones((4, 2)), (0.5, 1.5), 2.0, 2.0), "x must have more"),
        (lambda: modulus_norm(jnp.ones((4, 4)), (0.5, 0.5), 0.0, 2.0), "p must lie"),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
