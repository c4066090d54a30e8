"""Networks drawn from a prior and trained by its weights, against moments, explicit kernels and the limit."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import relaxed_promotion

from jaxtheory import infinite, kernels
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


def squared(f, y):
    return jnp.sum((f - y) ** 2) / 2


def cross_entropy(f, y):
    return optax.softmax_cross_entropy(f, y).sum()


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "momentum"), [(squared, 0.0), (squared, 0.8), (cross_entropy, 0.8)])
def test_an_unmodified_flax_network_follows_the_dynamics_of_its_limit(loss, momentum):
    """Outputs on training and test points at every step, as Flax initializes it and as `scale_by_weight` trains it.

    Entries of the kernel fluctuate by ε = √(13 depth / 4 width) of the diagonal. A residual that decays as exp(−λt) is
    off by ελt exp(−λt) ≤ ε/e of what it moves by if λ is off by ελ: four of these standard deviations, 0.17. Networks
    of width 128 are off by twice as much as these, of 2048 by half as much.
    """
    model = nn.Sequential([nn.Dense(WIDTH), nn.relu, nn.Dense(WIDTH), nn.relu, nn.Dense(2)])
    x = np.random.default_rng(0).standard_normal((12, 4))
    x = jnp.asarray(2 * x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32)
    y = jax.nn.one_hot(jnp.array([1, 0, 1, 1, 0, 0, 1, 0]), 2)
    with relaxed_promotion():
        limit = infinite.limit(model, None, x, prior=prior.lecun(weight="variance"))
        theta = limit.ntk(x)[:, :8]
        rate = 0.2 * kernels.max_learning_rate(theta[:8], loss=loss.__name__, momentum=momentum)
        optimizer = optax.chain(prior.scale_by_weight(limit.prior), optax.sgd(rate, momentum))

        def step(state, _):
            params, held = state
            updates, held = optimizer.update(jax.grad(lambda p: loss(model.apply(p, x[:8]), y))(params), held, params)
            return (optax.apply_updates(params, updates), held), model.apply(params, x)

        params = model.init(jax.random.key(0), x)
        trained = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=40)[1])(params)
    path = kernels.gradient_descent(
        theta[:8], y, learning_rate=rate, steps=jnp.arange(40), momentum=momentum, initial=trained[0, :8],
        ntk_test=theta[8:], initial_test=trained[0, 8:], loss=loss.__name__,
    )  # fmt: skip
    predicted = jnp.concatenate([path.train, path.test], axis=1)
    rms = lambda gap: np.sqrt(np.mean(np.asarray(gap) ** 2, axis=(1, 2))).max()  # noqa: E731
    assert rms(trained - predicted) < 4 / np.e * np.sqrt(13 * 2 / 4 / WIDTH) * rms(predicted - predicted[:1])


@pytest.mark.parametrize("call", [lambda: prior.draw(jax.random.key(0), {}, None), lambda: prior.scale_by_weight(3)])
def test_what_is_no_prior_is_named(call, unchecked):
    with pytest.raises(ValueError, match=r"prior must be a function \(path, shape\) -> Moments"):
        call()
