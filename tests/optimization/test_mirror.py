"""Mirror descent's limit against a constrained minimization, and the run itself."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxtheory.optimization import implicit_bias as bias
from jaxtheory.results import Status

DRAWS = np.random.default_rng(1)
X, START = DRAWS.normal(size=(2, 4)), DRAWS.normal(size=4)
Y = X @ np.array([0.5, 1.5, 0.2, 2.0])


def nearest(divergence, first):
    """argmin over Xβ = y, by sequential quadratic programming."""
    constraint = {"type": "eq", "fun": lambda b: X @ b - Y, "jac": lambda b: X}
    bounds = [(1e-9, None)] * 4
    return minimize(divergence, first, constraints=constraint, bounds=bounds, options={"ftol": 1e-15, "maxiter": 500}).x


def test_the_entropy_picks_the_least_relative_entropy(float64):
    """Σ β log(β/β₀) − β + β₀ among interpolants; and mirror descent goes there."""
    first = np.exp(START)
    law = bias.mirror_interpolant(X, Y, jnp.exp, start=START)
    divergence = lambda b: (b * np.log(b / first) - b + first).sum()  # noqa: E731
    assert law.status == Status.OK
    np.testing.assert_allclose(law.beta, nearest(divergence, first), rtol=1e-5)
    run = bias.mirror_descent(X, Y, jnp.exp, step_size=0.1, steps=4000, start=START)
    np.testing.assert_allclose(run.beta, law.beta, rtol=1e-8)
    assert abs(law.beta - bias.minimum_norm(X, Y, first)).max() > 0.02


@pytest.mark.slow
def test_known_potentials_are_those_of_known_laws(float64):
    """½‖β‖² is the min-norm solution, 2α² sinh that of diagonal networks, from 0; also at extreme scales."""
    flat = bias.mirror_interpolant(X, Y, lambda t: t)
    np.testing.assert_allclose(flat.beta, np.linalg.pinv(X) @ Y, rtol=1e-10)
    for scale in (1.0, 1e-4):
        law = bias.mirror_interpolant(X, Y, lambda t, a=scale: 2 * a**2 * jnp.sinh(t))
        assert law.status == Status.OK
        np.testing.assert_allclose(law.beta, bias.hyperbolic_interpolant(X, Y, scale=scale).beta, rtol=1e-6, atol=1e-8)


def test_what_no_positive_vector_solves_says_so():
    found = bias.mirror_interpolant(np.ones((1, 2)), [-1.0], jnp.exp)
    assert found.status == Status.NOT_CONVERGED
    with pytest.raises(ValueError, match="x must have at least as many columns"):
        bias.mirror_interpolant(X.T, START, jnp.exp)
