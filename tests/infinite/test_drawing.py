"""Networks drawn from a prior and trained by its weights, against moments, explicit kernels and the limit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtheory import infinite
from jaxtheory.infinite import prior

WIDTH = 512


@pytest.fixture(scope="module")
def network():
    """An Equinox network, whose weights are [out, in], and its limit: only the program tells the fan-in."""
    model = eqx.nn.MLP(3, 1, WIDTH, 2, key=jax.random.key(0))
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    f = lambda p, x: jax.vmap(eqx.combine(p, rest))(x)  # noqa: E731
    x = jax.random.normal(jax.random.key(1), (4, 3))
    return f, params, x, infinite.limit(f, params, x, prior=prior.ntk(sigma_w=1.4, sigma_b=0.3))


@pytest.mark.slow
def test_draws_have_the_moments_of_the_prior_in_their_roles(network):
    _, params, _, limit = network
    drawn = prior.draw(jax.random.key(2), params, limit.prior)
    prior.validate(limit.prior, drawn)
    with pytest.raises(ValueError, match="prior must describe parameter"):
        prior.validate(prior.ntk(sigma_w=1.4, sigma_b=0.3), drawn)  # by shape alone the axes are read the other way
    assert jax.tree.structure(drawn) == jax.tree.structure(params)


def test_a_parameter_is_the_same_whatever_else_is_drawn():
    shapes = {name: jax.ShapeDtypeStruct((4, 5), "float32") for name in "ab"}
    both = prior.draw(jax.random.key(0), shapes, prior.he())
    np.testing.assert_array_equal(both["a"], prior.draw(jax.random.key(0), {"a": shapes["a"]}, prior.he())["a"])
    assert (both["a"] != both["b"]).all()


@pytest.mark.slow
def test_a_step_moves_outputs_by_the_weighted_kernel(network):
    """To first order in the step, with the kernel from explicit Jacobians; and that kernel is the limit's at width."""
    f, params, x, limit = network
    drawn, y = prior.draw(jax.random.key(3), params, limit.prior), jnp.arange(4.0)[:, None] / 4
    jacobian = jax.jacrev(lambda p: f(p, x)[:, 0])(drawn)
    theta = sum(
        limit.prior(path, leaf.shape[1:]).weight * leaf.reshape(4, -1) @ leaf.reshape(4, -1).T
        for path, leaf in prior.named_leaves(jacobian)
    )
    rate = 1e-3
    optimizer = optax.chain(prior.scale_by_weight(limit.prior), optax.sgd(rate))
    gradient = jax.grad(lambda p: ((f(p, x) - y) ** 2).sum() / 2)(drawn)
    moved = optax.apply_updates(drawn, optimizer.update(gradient, optimizer.init(drawn))[0])
    change, expected = f(moved, x)[:, 0] - f(drawn, x)[:, 0], -rate * theta @ (f(drawn, x) - y)[:, 0]
    assert np.linalg.norm(change - expected) < 0.02 * np.linalg.norm(expected)
    # entries fluctuate by √(13 depth / 4 width) of the diagonal, Hanin and Nica (2020); four times that
    fluctuation = np.sqrt(13 * 2 / 4 / WIDTH)
    exact = np.asarray(limit.ntk(x))
    assert (abs(theta - exact) < 4 * fluctuation * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))).all()


@pytest.mark.parametrize("call", [lambda: prior.draw(jax.random.key(0), {}, None), lambda: prior.scale_by_weight(3)])
def test_what_is_no_prior_is_named(call, unchecked):
    with pytest.raises(ValueError, match=r"prior must be a function \(path, shape\) -> Moments"):
        call()
