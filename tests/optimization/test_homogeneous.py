"""KKT residuals of margins against closed forms, and optimizers that find the margin of their norm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtheory.optimization import implicit_bias as bias
from jaxtheory.results import Status

SPACE = np.array([[1.0, 0.5, 0.5, 0.4], [1.2, 0.4, 0.6, 0.5], [-1.0, -0.6, -0.4, -0.5]])
LABELS = np.array([1.0, 1.0, -1.0])
SUPPORT = np.array([[1.0, 2.0], [1.0, -1.0], [3.0, 2.0], [4.0, -1.0]])  # weights 1/3 and 2/3 of the separator (1, 0)


def test_residuals_of_a_linear_model_are_those_by_hand(float64):
    """At w = (t, c) the weights, the direction and the slack, in numpy; KKT at c = log(2)/3 as t → ∞."""
    linear = lambda w, x: x @ w  # noqa: E731
    for w in (np.array([1.0, 0.2]), np.array([30.0, np.log(2) / 3])):
        q = SUPPORT @ w
        share = 1 / (1 + np.exp(q))
        share = share / share.sum()
        g = share @ SUPPORT
        found = bias.margin_kkt(linear, w, SUPPORT, np.ones(4))
        direction = np.linalg.norm(w / np.linalg.norm(w) - g / np.linalg.norm(g))
        np.testing.assert_allclose(found.stationarity, direction, rtol=1e-8)
        np.testing.assert_allclose(found.complementarity, share @ (q - q.min()) / q.min(), rtol=1e-8)
        np.testing.assert_allclose(found.margin, q.min() / np.linalg.norm(w), rtol=1e-10)
        np.testing.assert_allclose(found.degree, 1, rtol=1e-10)
    assert found.stationarity < 0.02
    wrong = bias.margin_kkt(linear, -w, SUPPORT, np.ones(4))
    assert wrong.status == Status.NOT_CONVERGED
    assert wrong.stationarity > 1.9


@pytest.mark.slow
def test_residuals_of_a_relu_network_fall_and_its_margin_rises(float64):
    """Descent on the log of the exponential loss of two layers without biases, of degree 2: Lyu and Li."""
    draws = np.random.default_rng(0)
    x = jnp.asarray(draws.normal(size=(6, 3)))
    y = jnp.sign(x[:, 0] * x[:, 1])
    network = lambda p, x: jnp.maximum(x @ p["w"], 0) @ p["a"]  # noqa: E731
    start = {"w": jnp.asarray(draws.normal(size=(3, 10))), "a": jnp.asarray(draws.normal(size=10))}

    log_loss = lambda p: jax.nn.logsumexp(-y * network(p, x))  # noqa: E731

    def steps(p, count):
        def move(_, p):
            size = jnp.sum(p["w"] ** 2) + jnp.sum(p["a"] ** 2)
            return jax.tree.map(lambda v, g: v - 0.2 * g / size, p, jax.grad(log_loss)(p))

        return jax.lax.fori_loop(0, count, move, p)

    run, seen = jax.jit(steps), []
    for count in (500, 2000, 8000):
        start = run(start, count)
        seen.append(bias.margin_kkt(network, start, x, y))
    assert all(found.status == Status.OK for found in seen)
    np.testing.assert_allclose([found.degree for found in seen], 2, rtol=1e-9)
    for name, sign in (("stationarity", -1), ("complementarity", -1), ("margin", 1)):
        assert (sign * np.diff([getattr(found, name) for found in seen]) > 0).all(), name
    assert seen[-1].stationarity < 0.2


@pytest.mark.slow
def test_momentum_finds_the_euclidean_margin_and_adam_the_largest(float64):
    """Each within log t/√t of its own margin at t = 2^12, which the other's separator misses by more."""
    euclidean, largest = bias.max_margin(SPACE, LABELS), bias.sign_margin(SPACE, LABELS)
    momentum = bias.optimizer_margins(SPACE, LABELS, optax.sgd(1.0, momentum=0.9), doublings=12)
    adam = optax.adam(lambda t: 0.2 / (t + 1.0) ** 0.5, b2=0.99, eps=1e-30)
    signs = bias.optimizer_margins(SPACE, LABELS, adam, doublings=12)
    assert (momentum.euclidean <= euclidean.margin * (1 + 1e-12)).all()
    assert (signs.largest <= largest.margin * (1 + 1e-12)).all()
    assert largest.margin - signs.largest[-1] < np.log(4096) / 64 * largest.margin
    plain = bias.optimizer_margins(SPACE, LABELS, optax.sgd(1.0), doublings=12)
    # momentum is descent of ten times the step: its margin at t is that of descent at 10 t
    np.testing.assert_allclose(momentum.euclidean[-4], plain.euclidean[-1], rtol=2e-3)
    assert euclidean.margin - momentum.euclidean[-1] < euclidean.margin - signs.euclidean[-1]
    assert largest.margin - signs.largest[-1] < largest.margin - momentum.largest[-1]
