"""Relative flatness against closed forms, an average over perturbations, and what it must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jaxtheory import generalization as gen

RNG = np.random.default_rng(0)
X, W, V = RNG.normal(size=(7, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2))
LABELS = RNG.integers(0, 4, 7)


def cross_entropy(outputs):
    return -jnp.mean(jax.nn.log_softmax(outputs)[np.arange(7), LABELS])


def deep(w, v):
    """A loss with a positive Hessian block at a kink-free point: a ReLU layer and the next one."""
    return jnp.mean((jax.nn.relu(X @ w) @ v - 1) ** 2)


def test_of_cross_entropy_it_is_that_of_the_softmax(float64):
    """mean ‖x‖² tr[WᵀW (diag p − p pᵀ)], in NumPy; blocks that do not divide the entries."""
    flatness = jax.jit(lambda w: gen.relative_flatness(lambda u: cross_entropy(X @ u), w, batch=5))
    for scale in (1e-3, 1.0):
        p = softmax(scale * X @ W, axis=1)
        gram = scale**2 * W.T @ W
        expected = ((X**2).sum(axis=1) * (p @ np.diag(gram) - ((p @ gram) * p).sum(axis=1))).mean()
        np.testing.assert_allclose(flatness(scale * W), expected, rtol=1e-10)


@pytest.mark.slow
def test_it_is_the_mean_second_derivative_along_multiples_of_the_weights(float64):
    """E d²L(W + t A W)/dt² over normal A, within 4 standard errors; and the same at (cW, V/c), not the trace."""
    loss = lambda w: deep(w, V)  # noqa: E731
    found = gen.relative_flatness(loss, W)
    along = jax.vmap(lambda a: jax.hessian(lambda t: loss(W + t * a @ W))(0.0))(
        jnp.asarray(RNG.normal(size=(4000, 3, 3)))
    )
    assert abs(along.mean() - found) < 4 * along.std() / 4000**0.5
    other = gen.relative_flatness(lambda w: deep(w, V / 8), 8 * W)
    np.testing.assert_allclose(other, found, rtol=1e-12)
    trace = lambda w, v: jnp.einsum("tsts->", jax.hessian(lambda w: deep(w, v))(w))  # noqa: E731
    assert trace(8 * W, V / 8) < 0.1 * trace(W, V)


def test_it_can_be_jitted_and_differentiated_and_shows_what_is_not_finite(float64):
    penalty = lambda w: gen.relative_flatness(lambda u: jnp.mean((X @ u) ** 2), w)  # noqa: E731
    moment = 2 * (X**2).sum() / X.shape[0] / 4
    np.testing.assert_allclose(jax.jit(penalty)(W), moment * (W**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(penalty)(jnp.asarray(W)), 2 * moment * W, rtol=1e-10)
    assert jnp.isnan(penalty(jnp.asarray(W).at[0, 0].set(jnp.nan)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gen.relative_flatness(lambda w: w, W), "loss must return one real number"),
        (lambda: gen.relative_flatness(jnp.sum, W[:0]), "weight must hold at least one number"),
        (lambda: gen.relative_flatness(jnp.sum, W, batch=0), "batch must be >= 1"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
