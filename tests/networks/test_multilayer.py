"""Nested, padded networks: the wide one holds the narrow one, and padding stays nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tolerances import assert_close

from jaxtheory import networks


def gaussian_bump(h):
    return jnp.exp(-(h**2))  # φ(0) = 1, so that padding must be silenced


def pair(parameterization, float64, padded=13):
    options = {"hidden_layers": 2, "abc": parameterization(3), "activation": gaussian_bump, "bias_variance": 0.3}
    make = partial(networks.multilayer, 4, 9, 2, dtype=float64, **options)
    return make(), make(padded=padded)


@pytest.mark.parametrize("parameterization", [networks.standard, networks.ntk, networks.mup, networks.mup_adam])
def test_a_padded_network_begins_as_its_corner(parameterization, float64, key):
    bare, padded = pair(parameterization, float64)
    small, large = bare.init(key), padded.init(key)
    for inner, outer, live in zip(*map(jax.tree.leaves, (small, large, padded.mask)), strict=True):
        np.testing.assert_array_equal(outer[live].reshape(inner.shape), inner)
        assert not outer[~live].any()
    x = jax.random.normal(key, (5, 4), float64)
    assert_close(padded.apply(large, x), bare.apply(small, x))


def test_gradients_of_padding_are_exactly_zero(float64, key):
    _, padded = pair(networks.ntk, float64)
    x = jax.random.normal(key, (5, 4), float64)
    gradient = jax.grad(lambda p: jnp.sum(padded.apply(p, x) ** 2))(padded.init(key))
    for leaf, live in zip(jax.tree.leaves(gradient), jax.tree.leaves(padded.mask), strict=True):
        assert not leaf[~live].any()
        assert leaf[live].all()


def test_a_width_may_be_traced(float64, key):
    x = jax.random.normal(key, (5, 4), float64)

    def outputs(width):
        net = networks.multilayer(4, width, 2, abc=networks.mup(2), padded=8, dtype=float64)
        return net.apply(net.init(key), x), net.rate

    together, rates = jax.vmap(outputs)(jnp.array([3, 5, 8]))
    for width, out in zip((3, 5, 8), together, strict=True):
        net = networks.multilayer(4, width, 2, abc=networks.mup(2), dtype=float64)
        assert_close(out, net.apply(net.init(key), x))
    assert (rates == 1).all()


def test_nested_draws_are_independent_gaussians(float64, key):
    """10⁶ of them: mean, variance, kurtosis and neighbours' products within 5 standard errors."""
    z = np.asarray(networks.nested_normal(key, (1000, 1000), float64))
    assert abs(z.mean()) < 5e-3
    assert abs((z**2).mean() - 1) < 5e-3 * 2**0.5
    assert abs((z**4).mean() - 3) < 5e-3 * 96**0.5
    assert max(abs((z[1:] * z[:-1]).mean()), abs((z[:, 1:] * z[:, :-1]).mean())) < 5.1e-3


def test_mup_for_adam_moves_features_at_every_width_alike(float64, key):
    """The first step of Adam moves the second layer's features by a size independent of width (factor 2 over 64×).

    In the standard parameterization at one rate it grows like the width.
    """
    x = jax.random.normal(key, (8, 4), float64)

    def moved(width, abc):
        net = networks.multilayer(4, width, 1, hidden_layers=2, abc=abc, activation=jnp.tanh, dtype=float64)
        start = net.init(key)
        run = networks.train(
            lambda p: jnp.mean((net.apply(p, x) - 1) ** 2), start, optimizer=optax.adam(0.01, eps=0.0), steps=1
        )
        change = jax.tree.map(lambda a, b: a - b, run.params, start)
        multiplier = float(width) ** -abc.a[1]
        hidden = jnp.tanh(x @ start[0].weight * float(width) ** -abc.a[0])
        return float(jnp.sqrt(jnp.mean((multiplier * hidden @ change[1].weight) ** 2)))

    narrow, wide = (moved(width, networks.mup_adam(3)) for width in (16, 1024))
    assert 0.5 < wide / narrow < 2
    narrow, wide = (moved(width, networks.standard(3)) for width in (16, 1024))
    assert wide / narrow > 8


@pytest.mark.parametrize("name", ["weight_variance", "bias_variance"])
def test_a_variance_is_not_negative(name):
    with pytest.raises(ValueError, match=f"{name} must be >= 0, got {name}=-1.0"):
        networks.multilayer(4, 9, 2, **{name: -1.0})


def test_padding_must_hold_the_network(unchecked):
    with pytest.raises(ValueError, match="padded must be a number >= width, 9"):
        networks.multilayer(4, 9, 2, padded=8)
    with pytest.raises(ValueError, match="padded must be a number"):
        networks.multilayer(4, jnp.array(9), 2)
