"""Numbers in the program that depend on width, which maximal update asks to remove."""

import warnings

import jax.numpy as jnp
import pytest

from jaxtheory.networks.parameterization import maximal_update


def tangent(p, x):
    """A network in the tangent parameterization: every product over the root of its fan-in."""
    return jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"] / p["b"].shape[0] ** 0.5) @ p["c"] / p["c"].shape[0] ** 0.5


def average(p, x):
    """A readout that is the mean over units."""
    return (jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) * p["c"][None, :, 0]).mean(-1)


def normalized(p, x):
    """Layer normalization divides sums over units by their number, and weights are as they are."""
    h = x @ p["a"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return 0.5 * (jnp.tanh(h @ p["b"]) @ p["c"])


@pytest.mark.parametrize(("network", "named"), [(tangent, ["b", "c"]), (average, ["c"]), (normalized, [])])
def test_multipliers_in_the_program_that_depend_on_width_are_told(network, named):
    """1/√n or 1/n beside a weight would make its initial size and its rate wrong by that factor."""
    base, wide = ({"a": jnp.ones((3, n)), "b": jnp.ones((n, n)), "c": jnp.ones((n, 1))} for n in (8, 32))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        found = maximal_update(network, base, wide, jnp.ones((2, 3)))
    assert [line.split(",")[0] for line in found.advice] == named
    assert all("multiplied by" in line for line in found.advice)
