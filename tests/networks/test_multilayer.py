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
@pytest.mark.first_case
@pytest.mark.slow
def test_a_padded_network_begins_as_its_corner(parameterization, float64, key):
    bare, padded = pair(parameterization, float64)
    small, large = bare.init(key), padded.init(key)
    for inner, outer, live in zip(*map(jax.tree.leaves, (small, large, padded.mask)), strict=True):
        np.testing.assert_array_equal(outer[live].reshape(inner.shape), inner)
        assert not outer[~live].any()
    x = np.random.default_rng(0).standard_normal((5, 4))
    assert_close(jax.jit(padded.apply)(large, x), jax.jit(bare.apply)(small, x))


def test_gradients_of_padding_are_exactly_zero(float64, key):
    _, padded = pair(networks.ntk, float64)
    x = np.random.default_rng(0).standard_normal((5, 4))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(padded.apply(p, x) ** 2)))(padded.init(key))
    for leaf, live in zip(jax.tree.leaves(gradient), jax.tree.leaves(padded.mask), strict=True):
        assert not leaf[~live].any()
        assert leaf[live].all()


def test_a_width_may_be_traced(float64, key):
    x = np.random.default_rng(0).standard_normal((5, 4))

    def outputs(width):
        net = networks.multilayer(4, width, 2, abc=networks.mup(2), padded=8, dtype=float64)
        return net.apply(net.init(key), x), net.rate

    together, rates = jax.jit(jax.vmap(outputs))(jnp.array([3, 8]))
    for width, out in zip((3, 8), together, strict=True):
        net = networks.multilayer(4, width, 2, abc=networks.mup(2), dtype=float64)
        assert_close(out, net.apply(net.init(key), x))
    assert (rates == 1).all()


def test_nested_draws_do_not_depend_on_the_shape(key):
    large = networks.nested_normal(key, (40, 50))
    for shape in ((1, 1), (3, 20), (40, 33)):
        np.testing.assert_array_equal(networks.nested_normal(key, shape), large[: shape[0], : shape[1]])


def test_nested_draws_are_independent_gaussians(float64, key):
    """10⁶ of them: mean, variance, kurtosis and neighbours' products within 5 standard errors."""
    z = np.asarray(networks.nested_normal(key, (1000, 1000), float64))
    assert abs(z.mean()) < 5e-3
    assert abs((z**2).mean() - 1) < 5e-3 * 2**0.5
    assert abs((z**4).mean() - 3) < 5e-3 * 96**0.5
    assert max(abs((z[1:] * z[:-1]).mean()), abs((z[:, 1:] * z[:, :-1]).mean())) < 5.1e-3


@pytest.mark.slow
def test_mup_for_adam_moves_features_at_every_width_alike(float64, key):
    """The first step of Adam moves the second layer's features by a size independent of width (factor 2 over 32×).

    In the standard parameterization at one rate it grows like the width.
    """
    x = np.random.default_rng(0).standard_normal((8, 4))

    def moved(width, abc):
        net = networks.multilayer(4, width, 1, hidden_layers=2, abc=abc, activation=jnp.tanh, dtype=float64)
        start = net.init(key)
        loss = lambda p: jnp.mean((net.apply(p, x) - 1) ** 2)  # noqa: E731
        run = networks.train(loss, start, optimizer=optax.adam(0.01, eps=0.0), steps=1)
        change = np.asarray(run.params[1].weight) - np.asarray(start[1].weight)
        hidden = np.tanh(x @ np.asarray(start[0].weight) * float(width) ** -abc.a[0])
        return np.sqrt(np.mean((float(width) ** -abc.a[1] * hidden @ change) ** 2))

    narrow, wide = (moved(width, networks.mup_adam(3)) for width in (16, 512))
    assert 0.5 < wide / narrow < 2
    narrow, wide = (moved(width, networks.standard(3)) for width in (16, 512))
    assert wide / narrow > 8


@pytest.mark.parametrize("name", ["weight_variance", "bias_variance"])
def test_a_variance_is_not_negative(name):
    with pytest.raises(ValueError, match=f"{name} must be >= 0 and finite, got {name}=-1.0"):
        networks.multilayer(4, 9, 2, **{name: -1.0})


def test_several_widths_are_told_how_to_be_written(unchecked):
    with pytest.raises(
        ValueError, match=r"width must be one number .*got width=\[16, 16\]; pass width=16, hidden_layers=2"
    ):
        networks.multilayer(5, [16, 16], 1)
    for wrong, message in (
        (2.5, "be an integer"),
        (None, "be an integer"),
        ("16", "be an integer"),
        (True, "an integer"),
    ):
        with pytest.raises(ValueError, match=f"width must {message}|width must be {message}"):
            networks.multilayer(5, wrong, 1)


def test_points_of_another_dimension_are_named(unchecked, key):
    net = networks.multilayer(5, 8, 1)
    with pytest.raises(ValueError, match=r"x must be points \[n, 5\], got x=shape \(2, 4\)"):
        net.apply(net.init(key), jnp.ones((2, 4)))


def test_seeds_and_several_keys_are_refused_by_name(unchecked, key):
    net = networks.multilayer(5, 8, 1)
    with pytest.raises(ValueError, match=r"key must be a random key, got key=0; pass jax.random.key\(0\)"):
        net.init(0)
    with pytest.raises(ValueError, match=r"key must be one random key, got keys of shape \(3,\)"):
        net.init(jax.random.split(key, 3))
    assert jax.vmap(net.init)(jax.random.split(key, 3))[0].weight.shape == (3, 5, 8)


def test_one_point_and_numbers_on_a_line_are_points(unchecked, key):
    net, line = networks.multilayer(5, 8, 2, bias_variance=0.1), networks.multilayer(1, 8, 2, bias_variance=0.1)
    params, x = net.init(key), jnp.arange(5.0)
    np.testing.assert_allclose(net.apply(params, x), net.apply(params, x[None])[0], rtol=1e-6)
    params = line.init(key)
    np.testing.assert_allclose(line.apply(params, [0, 1, 2]), line.apply(params, jnp.arange(3.0)[:, None]), rtol=1e-6)


def test_activations_have_names(unchecked, key):
    named, given = (networks.multilayer(2, 8, 1, activation=phi) for phi in ("tanh", jnp.tanh))
    params = named.init(key)
    np.testing.assert_array_equal(named.apply(params, jnp.ones((3, 2))), given.apply(params, jnp.ones((3, 2))))


def test_variances_may_be_traced_and_are_nan_where_negative(key):
    def outputs(weight, bias):
        net = networks.multilayer(2, 8, 1, weight_variance=weight, bias_variance=bias)
        return net.apply(net.init(key), jnp.ones((3, 2)))

    good, *bad = (jax.jit(outputs)(*v) for v in ((2.0, 0.5), (-2.0, 0.5), (2.0, -0.5), (jnp.nan, 0.5)))
    net = networks.multilayer(2, 8, 1, weight_variance=2.0, bias_variance=0.5)
    np.testing.assert_allclose(good, net.apply(net.init(key), jnp.ones((3, 2))), rtol=1e-5)
    for found in bad:
        assert jnp.isnan(found).all()


def test_padding_must_hold_the_network(unchecked):
    with pytest.raises(ValueError, match="padded must be a number >= width, 9"):
        networks.multilayer(4, 9, 2, padded=8)
    with pytest.raises(ValueError, match="padded must be a number"):
        networks.multilayer(4, jnp.array(9), 2)
