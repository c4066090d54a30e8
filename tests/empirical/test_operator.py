"""The operator against the dense kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import empirical, networks
from jaxtheory.kernels.solvers import conjugate_gradients

SHAPE = (12, 2)


def problem(key, dtype=jnp.float64):
    net = networks.multilayer(5, 16, 2, hidden_layers=2, activation=jnp.tanh, dtype=dtype)
    params, x = net.init(key), jax.random.normal(jax.random.fold_in(key, 1), (12, 5), dtype)
    dense = empirical.ntk(net.apply, params, x, method="jacobian").transpose(0, 2, 1, 3).reshape(24, 24)
    return net.apply, params, x, dense


def test_product_is_that_of_the_dense_kernel(float64, key):
    f, params, x, dense = problem(key)
    v = jax.random.normal(key, SHAPE)
    product = jax.jit(lambda params, v: empirical.ntk_operator(f, params, x)(v))
    assert_close(product(params, v).ravel(), dense @ v.ravel(), condition=30)


@pytest.mark.slow
def test_operator_solves_by_conjugate_gradients_and_is_differentiable(float64, key):
    """CG on Theta + I, against a dense solve; the gradient of v.Theta v in params against that of the dense kernel."""
    f, params, x, dense = problem(key)
    v = jax.random.normal(key, SHAPE)
    theta = empirical.ntk_operator(f, params, x)
    shifted = lambda u: theta(u.reshape(SHAPE)).reshape(-1, 1) + u  # noqa: E731
    done = conjugate_gradients(shifted, v.reshape(-1, 1), lambda r: r, tolerance=1e-12, max_iterations=200)
    assert not done.indefinite
    assert_close(done.solution.ravel(), np.linalg.solve(dense + np.eye(24), v.ravel()), condition=1e4)
    quadratic = lambda p: jnp.vdot(v, empirical.ntk_operator(f, p, x)(v))  # noqa: E731
    direct = lambda p: jnp.einsum("ik,ijkl,jl->", v, empirical.ntk(f, p, x, method="jacobian"), v)  # noqa: E731
    for a, b in zip(
        jax.tree.leaves(jax.grad(quadratic)(params)), jax.tree.leaves(jax.grad(direct)(params)), strict=True
    ):
        assert_close(a, b, condition=100)


def test_operator_refuses_a_vector_of_another_shape(unchecked):
    theta = empirical.ntk_operator(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="have the shape of the outputs"):
        theta(jnp.ones(3))
