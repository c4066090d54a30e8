"""Exact transport between weighted clouds of different sizes, against scipy's program and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxtheory import transport
from jaxtheory.results import Status

A = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
B = np.array([0.4, 0.1, 0.5])


@pytest.fixture(scope="module")
def pair():
    """Five and three points of the plane, float64; one is common."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((5, 2)), rng.standard_normal((3, 2)) + 0.5
    y[2] = x[1]
    return x, y


def program(x, y, a, b, p):
    """The least cost over all couplings, by interior points; exact() uses the simplex method and rebuilds the plan."""
    costs = np.linalg.norm(x[:, None] - y[None], axis=-1) ** p
    rows = np.kron(np.eye(len(a)), np.ones(len(b))), np.kron(np.ones(len(a)), np.eye(len(b)))
    limits = np.concatenate([a, b])
    return scipy.optimize.linprog(costs.ravel(), A_eq=np.vstack(rows), b_eq=limits, method="highs-ipm").fun


@pytest.mark.parametrize("p", [1.0, 2.5])
def test_exact_with_weights_is_the_transport_program(pair, p, float64):
    found = transport.exact(*map(jnp.asarray, pair), p, x_weights=3 * A, y_weights=B)
    np.testing.assert_allclose(found.cost, program(*pair, A, B, p), rtol=1e-9)
    assert int(found.status) == Status.OK
    assert float(found.residual) < 1e-12


def test_exact_of_equal_and_unequal_weights_agree(pair):
    """A point of weight 2/6 is two points of weight 1/6; a point of weight 0 is none; also inside jit."""
    x, y = (jnp.asarray(points, jnp.float32) for points in pair)
    six = jnp.concatenate([x, x[:1]])
    doubled = transport.exact(six, jnp.concatenate([y, y])).cost
    found = jax.jit(transport.exact)(x, y, x_weights=jnp.array([2.0, 1, 1, 1, 1]))
    np.testing.assert_allclose(found.cost, doubled, rtol=1e-5)
    weightless = transport.exact(six, y, x_weights=jnp.array([2.0, 1, 1, 1, 1, 0]))
    np.testing.assert_allclose(weightless.cost, doubled, rtol=1e-5)
    assert int(found.status) == int(weightless.status) == Status.OK


def test_gradients_of_exact_with_weights(pair, float64):
    """Differences of the program in points and weights, with a coincident pair."""
    x, y = pair
    rng = np.random.default_rng(1)
    step, change = rng.standard_normal(x.shape), rng.standard_normal(5)
    change -= change.sum() * A  # keeps the mass
    found = jax.grad(lambda x, a: transport.exact(x, jnp.asarray(y), x_weights=a, y_weights=B).cost, (0, 1))
    in_points, in_weights = found(jnp.asarray(x), jnp.asarray(A))
    h = 1e-5
    moved = [program(x + s * h * step, y, A, B, 2.0) for s in (1, -1)]
    weighed = [program(x, y, A + s * h * change, B, 2.0) for s in (1, -1)]
    np.testing.assert_allclose((in_points * step).sum(), (moved[0] - moved[1]) / (2 * h), rtol=1e-5)
    np.testing.assert_allclose(in_weights @ change, (weighed[0] - weighed[1]) / (2 * h), rtol=1e-5)


def test_exact_on_the_line_is_w1d(key):
    """Forty and thirty weighted numbers: sorting gives the same."""
    keys = jax.random.split(key, 4)
    x, y = jax.random.normal(keys[0], (40, 1)), jax.random.normal(keys[1], (30, 1))
    a, b = jax.random.uniform(keys[2], (40,)), jax.random.uniform(keys[3], (30,))
    found = transport.exact(x, y, x_weights=a, y_weights=b)
    np.testing.assert_allclose(found.cost, transport.w1d(x, y, x_weights=a, y_weights=b), rtol=1e-4)
    assert int(found.status) == Status.OK


def test_exact_of_what_is_no_measure(pair):
    """Weights that are negative, all 0 or NaN."""
    x, y = (jnp.asarray(points, jnp.float32) for points in pair)
    for bad in (jnp.zeros(5), jnp.full(5, jnp.nan), -jnp.ones(5)):
        assert int(jax.jit(transport.exact)(x, y, x_weights=bad).status) == Status.NOT_FINITE
    with pytest.raises(ValueError, match="x_weights must be >= 0"):
        transport.exact(x, y, x_weights=-jnp.ones(5))
