"""A prior decides by shape and by use where a leaf's name says something else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import infinite
from jaxtheory.infinite import prior

WIDTH = 6
X = jnp.array([[1.0, 0.5], [-0.25, 2.0]])


def limit_of(middle):
    """The limit of a network whose middle layer is a leaf of this name."""
    shapes = {"first": (2, WIDTH), middle: (WIDTH, WIDTH), "last": (WIDTH, 1)}
    f = lambda p, x: jax.nn.relu(x @ p["first"] @ p[middle]) @ p["last"]  # noqa: E731
    params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    return infinite.limit(f, params, X[:1], prior=prior.ntk(1.5, 0.1))


@pytest.fixture(scope="module")
def neutral():
    """The limit with a leaf `w`, and its NTK."""
    found = limit_of("w")
    return found, found.ntk(X)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("var", "embedding")]  # as their neighbours


@pytest.mark.parametrize("name", ["g", "mean", "bias", "scale", *SLOW])
def test_a_contracted_leaf_is_a_weight_whatever_its_name(name, neutral):
    found = limit_of(name)
    assert found.prior(name, (WIDTH, WIDTH)) == neutral[0].prior("w", (WIDTH, WIDTH))
    np.testing.assert_array_equal(found.ntk(X), neutral[1])


@pytest.mark.slow
def test_a_contracted_scale_stands_beside_one_that_multiplies():
    """The row multiplies channels and stays a scale; the matrix is a weight as under any other name."""

    def kernel(middle):
        shapes = {"first": (2, WIDTH), "gamma": (1, WIDTH), middle: (WIDTH, WIDTH), "last": (WIDTH, 1)}
        f = lambda p, x: jax.nn.relu(x @ p["first"] * p["gamma"]) @ p[middle] @ p["last"]  # noqa: E731
        params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
        found = infinite.limit(f, params, X[:1], prior=prior.ntk(1.5, 0.1))
        assert found.prior("gamma", (1, WIDTH)) == prior.Moments(1.0, 0.0, 0.0)
        return found.ntk(X)

    np.testing.assert_array_equal(kernel("scale"), kernel("w"))


def test_by_shape_alone_g_of_two_axes_is_a_weight_and_a_column_a_scale():
    rule = prior.ntk(1.5, 0.1)
    assert rule("layer/g", (9, 4)) == rule("layer/w", (9, 4))
    assert rule("layer/g", (4,)) == rule("layer/g", (4, 1)) == prior.Moments(1.0, 0.0, 0.0)


def test_stacked_scales_of_a_program_stay_scales():
    """Two layers in one scan, each with its own `g`, which nothing contracts."""

    def f(p, x):
        layer = lambda h, q: (jax.nn.relu(h @ q["w"]) * q["g"][None], None)  # noqa: E731
        return jax.lax.scan(layer, x @ p["first"], {"w": p["w"], "g": p["g"]})[0] @ p["last"]

    shapes = {"first": (2, WIDTH), "w": (2, WIDTH, WIDTH), "g": (2, WIDTH), "last": (WIDTH, 1)}
    params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    found = infinite.limit(f, params, X[:1], prior=prior.lecun())
    assert found.prior("g", (2, WIDTH)) == prior.Moments(1.0, 0.0, 1.0)
