"""Maximal update of products of activations that a program sums over its width."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtheory.networks.parameterization import maximal_update

X = jnp.ones((4, 3))


def bilinear(n):
    return {"in": jnp.ones((3, n)), "w": jnp.ones((n, n))}


def towers(n):
    return {"a": jnp.ones((3, n)), "b": jnp.ones((3, n))}


def hidden(params, x):
    return jnp.tanh(x @ params["in"])


def product(params, x):
    h = hidden(params, x)
    return h @ params["w"] * h


SLOW = {
    "einsum": (lambda p, x: jnp.einsum("bi,ij,bj->b", hidden(p, x), p["w"], hidden(p, x)), bilinear),
    "sum": (lambda p, x: product(p, x).sum(-1), bilinear),
    "vmap": (lambda p, x: jax.vmap(lambda h: h @ p["w"] @ h)(hidden(p, x)), bilinear),
    "over √d": (lambda p, x: product(p, x).sum(-1) / p["w"].shape[0] ** 0.5, bilinear),
    "two towers": (lambda p, x: jnp.einsum("bi,bi->b", jnp.tanh(x @ p["a"]), jnp.tanh(x @ p["b"])), towers),
    "squares": (lambda p, x: (x @ p["a"] + x @ p["b"] ** 2).mean(-1) + ((x @ p["a"]) ** 2).sum(-1), towers),
}
RIGHT = {
    "mean": (lambda p, x: product(p, x).mean(-1), bilinear),
    "over d before": (lambda p, x: (hidden(p, x) @ p["w"] / p["w"].shape[0] * hidden(p, x)).sum(-1), bilinear),
    "over d after": (lambda p, x: product(p, x).sum(-1) / p["w"].shape[0], bilinear),
    "gates": (lambda p, x: jnp.tanh(x @ p["a"]) * jax.nn.sigmoid(x @ p["b"]), towers),
    "a norm": (lambda p, x: product(p, x) / jnp.sqrt(1 + (hidden(p, x) ** 2).sum(-1, keepdims=True)), bilinear),
    "over positions": (lambda p, x: jnp.tanh(x @ p["a"]).T @ jnp.tanh(x @ p["b"]), towers),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_sum_of_products_that_grows_with_the_width_is_told_of(name):
    f, make = SLOW[name]
    with pytest.warns(UserWarning, match="a product of activations"):
        found = maximal_update(f, make(8), make(32), X)
    assert len(found.advice) == 1


@pytest.mark.parametrize("name", RIGHT)
def test_products_that_do_not_grow_pass(name):
    f, make = RIGHT[name]
    assert maximal_update(f, make(8), make(32), X).advice == ()


def test_scores_by_a_sum_of_products_are_scores():
    def attention(params, x):
        query, keys = x @ params["a"], x @ params["b"]
        return jax.nn.softmax((query[:, None] * keys[None]).sum(-1) / query.shape[-1] ** 0.5) @ x

    with pytest.warns(UserWarning, match="attention scores over d = 8"):
        assert len(maximal_update(attention, towers(8), towers(32), X).advice) == 1


@pytest.mark.slow
def test_the_mean_of_a_bilinear_readout_learns_alike_at_every_width():
    """The change of the output in one step of Adam, at 16 times the width; of the sum it is 16 times as large."""
    x, moved = jax.random.normal(jax.random.key(0), (4, 3)), {}
    for name, f in (("mean", RIGHT["mean"][0]), ("sum", SLOW["sum"][0])):
        for n in (64, 1024):
            with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):
                warnings.simplefilter("ignore", UserWarning)
                mu = maximal_update(f, bilinear(64), bilinear(128), x).at(bilinear(n))
                params = mu.start(jax.random.key(1), bilinear(n))
                optimizer = mu.optimizer(optax.adam, 1e-2, eps=1e-20)
                slopes = jax.grad(lambda p, f=f: f(p, x).sum())(params)
                updates, _ = optimizer.update(slopes, optimizer.init(params), params)
                after = f(optax.apply_updates(params, updates), x)
            moved[name, n] = np.abs(np.asarray(after - f(params, x))).mean()
    assert 0.5 < moved["mean", 1024] / moved["mean", 64] < 2.0
    assert 8.0 < moved["sum", 1024] / moved["sum", 64] < 32.0
