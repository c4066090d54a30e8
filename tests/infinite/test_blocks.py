"""Concatenated parameters, as recurrent cells use them for speed: the limit is that of the parameters one by one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.simulation import structs
from infinite.zoo import as_written

from jaxtheory import infinite
from jaxtheory.infinite import prior

WIDTH = 32
SHAPES = {"in": (3, WIDTH), "a": (WIDTH, WIDTH), "b": (WIDTH, WIDTH), "s": (WIDTH,), "t": (WIDTH,), "o": (WIDTH, 1)}


def gates(p, x):
    """Two gates by one product."""
    weights, shifts = jnp.concatenate([p["a"], p["b"]], -1), jnp.concatenate([p["s"], p["t"]])
    one, two = jnp.split(jnp.tanh(x @ p["in"]) @ weights + shifts.reshape(1, -1), 2, -1)
    return (jnp.tanh(one) * jnp.sin(two)) @ p["o"]


def gates_one_by_one(p, x):
    h = jnp.tanh(x @ p["in"])
    return (jnp.tanh(h @ p["a"] + p["s"]) * jnp.sin(h @ p["b"] + p["t"])) @ p["o"]


def joined(p, x):
    """Weights of a cell for its input and its state, by one product with both."""
    h = x @ p["in"]
    both = jnp.concatenate([h, jax.nn.relu(h)], -1)
    return jnp.tanh(both @ jnp.concatenate([p["a"], p["b"]]) + p["s"]) @ p["o"]


def joined_one_by_one(p, x):
    h = x @ p["in"]
    return jnp.tanh(h @ p["a"] + jax.nn.relu(h) @ p["b"] + p["s"]) @ p["o"]


def positions(p, x):
    """A class token's own position before that of all others."""
    h = jnp.stack([x, 2 * x], 1) @ p["in"]
    return jnp.tanh(h + jnp.concatenate([p["s"][None], jnp.tile(p["t"], (1, 1))])).sum(1) @ p["o"]


def positions_one_by_one(p, x):
    return (jnp.tanh(x @ p["in"] + p["s"]) + jnp.tanh(2 * x @ p["in"] + p["t"])) @ p["o"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("f", "plain"), [(gates, gates_one_by_one), (joined, joined_one_by_one), (positions, positions_one_by_one)]
)
@pytest.mark.first_case
@pytest.mark.first_case
def test_concatenated_parameters_have_the_limit_of_single_ones(f, plain):
    """The same parameters, moments and kernels."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3)), jnp.float32)
    one, two = (
        infinite.limit(as_written(g), structs(SHAPES, jnp.float32), x, prior=moments, check_width=False).both(x)
        for g in (f, plain)
    )
    np.testing.assert_allclose(one.nngp, two.nngp, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.ntk, two.ntk, rtol=1e-5, atol=1e-6)


def moments(path, shape):
    """By the shape alone, so that both ways to write a network have the same."""
    return infinite.Moments(0.0, 1.3 / shape[0], 1 / shape[0]) if len(shape) == 2 else infinite.Moments(0.0, 0.5, 0.7)


class Cell(nn.Module):
    """The last state of an LSTM, and its readout."""

    cell: type

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.RNN(self.cell(WIDTH))(x)[:, -1])


@pytest.mark.slow
def test_the_optimized_cell_of_flax_has_the_limit_of_the_plain_one():
    """At one step, within five standard errors of the draws."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 1, 2)), jnp.float32)
    draws = infinite.MonteCarlo(jax.random.key(1), 64, 8)
    with relaxed_promotion():
        one, two = (
            infinite.limit(Cell(c), None, x, prior=prior.ntk(1.3, 0.4), monte_carlo=draws, check_width=False).estimate(
                x
            )
            for c in (nn.OptimizedLSTMCell, nn.LSTMCell)
        )
    for mine, other, error, another in (
        (one.nngp, two.nngp, one.nngp_error, two.nngp_error),
        (one.ntk, two.ntk, one.ntk_error, two.ntk_error),
    ):
        assert (np.abs(np.asarray(mine - other)) <= 5 * np.hypot(np.asarray(error), np.asarray(another)) + 1e-6).all()
