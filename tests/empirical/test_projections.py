"""Projected gradients: linear in the gradient, unbiased for the tangent kernel, the same in any blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import empirical
from jaxtheory.empirical import projections


def net(p, x):
    return jnp.tanh(x @ p["w"]) @ p["v"]


@pytest.fixture
def drawn(float64, key):
    keys = jax.random.split(key, 3)
    shapes = {"v": (4, 2), "w": (3, 4)}
    params = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys[:2], shapes.items(), strict=True)}
    return params, jax.random.normal(keys[2], (5, 3))


def test_inner_products_are_the_kernel_within_their_error(drawn):
    """200 keys of 50 features; mean and variance of every entry, at 5 standard errors."""
    params, x = drawn
    theta = np.asarray(empirical.ntk(net, params, x))
    draw = lambda key: empirical.projected_gradients(net, params, x, size=50, key=key)  # noqa: E731
    features = jax.vmap(draw)(jax.random.split(jax.random.key(1), 200))
    found = np.einsum("rikd,rjld->rijkl", features, features)
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    assert (abs(found.mean(0) - theta) < 5 * error).all()
    diagonal = np.einsum("iikk->ik", theta)
    bound = (diagonal[:, None, :, None] * diagonal[None, :, None, :] + theta**2) / 50
    # a variance from 200 draws of a nearly normal number is off by √(2/199) of itself
    assert (found.var(0, ddof=1) < bound * (1 + 5 * np.sqrt(2 / 199))).all()


@pytest.mark.parametrize("memory", [1.0, 700.0])
def test_blocks_of_examples_change_nothing(drawn, key, memory):
    params, x = drawn
    whole = empirical.projected_gradients(net, params, x, size=6, key=key)
    assert whole.shape == (5, 2, 6)
    assert_close(empirical.projected_gradients(net, params, x, size=6, key=key, memory=memory), whole, condition=30)
    alone = [empirical.projected_gradients(net, params, x[i : i + 1], size=6, key=key) for i in range(5)]
    assert_close(jnp.concatenate(alone), whole, condition=30)


def test_signs_are_drawn_in_parts(drawn, key, monkeypatch):
    """The features are linear in the gradient: those of the signs themselves, read off one parameter at a time."""
    monkeypatch.setattr(projections, "_DRAWN", 40)
    linear = lambda w, x: x @ w  # noqa: E731, whose gradient is the example
    signs = empirical.projected_gradients(linear, jnp.ones(17), jnp.eye(17), size=8, key=key) * np.sqrt(8)
    assert_close(abs(signs), jnp.ones((17, 8)))
    assert np.linalg.matrix_rank(signs) == 8  # no part repeats another
    x = jax.random.normal(key, (3, 17))
    features = empirical.projected_gradients(linear, jnp.ones(17), x, size=8, key=key)
    assert_close(features, x @ signs / np.sqrt(8), condition=30)


def test_leaves_have_signs_of_their_own(key):
    f = lambda p, x: x @ p["a"] + x @ p["b"]  # noqa: E731, the same gradient twice
    params = {"a": jnp.ones(6), "b": jnp.ones(6)}
    features = empirical.projected_gradients(f, params, jnp.eye(6), size=64, key=key) * 8
    assert set(np.unique(features)) == {-2.0, 0.0, 2.0}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "size must be >= 1"),
        ({"memory": 0}, "memory must be positive"),
        ({"batch": "whole"}, "batch must"),
    ],
)
def test_wrong_options_are_named(key, options, match):
    with pytest.raises(ValueError, match=match):
        empirical.projected_gradients(lambda w, x: x @ w, jnp.ones(2), jnp.eye(2), **{"size": 3, "key": key} | options)
