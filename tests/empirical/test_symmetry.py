"""The kernel of one input is symmetric to the bit, however its pairs are divided."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import empirical
from jaxtheory.empirical import blocks

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.standard_normal((4, 3)), "v": RNG.standard_normal((3, 2))}
X = RNG.standard_normal((7, 4))
SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in ("jacobian", "directions", "products")]


def net(p, x):
    return jnp.tanh(x @ p["w"]) @ p["v"]


@pytest.mark.parametrize("method", ["structured", *SLOW])
def test_kernels_of_one_input_are_symmetric_to_the_bit(method, float64):
    """Products of matrices round differently above and below the diagonal."""
    for options in ({}, {"block": 2}, {"output": "diagonal"}, {"output": "trace", "block": (3, 2)}):
        theta = np.asarray(empirical.ntk(net, PARAMS, X, method=method, **options))
        mirrored = theta.transpose(1, 0, 3, 2) if theta.ndim == 4 else theta.swapaxes(0, 1)
        np.testing.assert_array_equal(theta, mirrored, err_msg=str(options))


@pytest.mark.slow
def test_the_whole_batch_and_rows_of_devices_too(float64):
    for options in ({"batch": "whole"}, {"mesh": jax.make_mesh((8,), ("rows",))}):
        theta = np.asarray(empirical.ntk(net, PARAMS, X, **options))
        np.testing.assert_array_equal(theta, theta.transpose(1, 0, 3, 2), err_msg=str(options))


@pytest.mark.parametrize(("n", "rows"), [(6, 2), (8, 2), (5, 5), (4, 1)])
def test_cyclic_strips_give_each_pair_once(n, rows):
    """Entry (i, j) comes from the strip that computed it: what was never computed is NaN here."""
    count, strip = n // rows, np.arange(n) // rows
    met = (strip[None] - strip[:, None]) % count <= count // 2
    exact = RNG.standard_normal((n, n)).astype(np.float32)
    exact = exact + exact.T
    found = blocks._mirror(jnp.where(met, exact, jnp.nan)[:, None], rows, cyclic=True)[:, 0]
    np.testing.assert_array_equal(found, exact)
