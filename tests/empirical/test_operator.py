"""The operator and what is estimated from its products, against the dense kernel and NumPy's eigensolver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import empirical, networks
from jaxtheory.kernels.solvers import conjugate_gradients
from jaxtheory.results import Status

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


def test_trace_and_diagonal_are_within_their_standard_errors(float64, key):
    f, params, x, dense = problem(key)
    theta = empirical.ntk_operator(f, params, x)
    trace = empirical.trace(theta, SHAPE, key, probes=200)
    assert abs(trace.value - jnp.trace(dense)) < 4 * trace.standard_error
    # Hutchinson's variance is 2 sum_{i != j} Theta_ij^2; the sample one has relative error sqrt(2 / 199)
    variance = 2 * (jnp.sum(dense**2) - jnp.sum(jnp.diag(dense) ** 2)) / 200
    assert abs(trace.standard_error**2 / variance - 1) < 4 * np.sqrt(2 / 199) * 2
    diagonal = empirical.diagonal(theta, SHAPE, key, probes=200)
    z = (diagonal.value.ravel() - jnp.diag(dense)) / diagonal.standard_error.ravel()
    assert abs(z).max() < 5


def test_top_eigenpairs_and_density(float64, key):
    f, params, x, dense = problem(key)
    theta = empirical.ntk_operator(f, params, x)
    values, vectors = np.linalg.eigh(np.asarray(dense))
    top = empirical.top_eigenpairs(theta, SHAPE, 4, key, steps=24)
    assert int(top.status) == Status.OK
    assert_close(top.values, values[::-1][:4], condition=100)
    overlap = abs(np.einsum("ki,ik->k", np.asarray(top.vectors).reshape(4, 24), vectors[:, ::-1][:, :4]))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    density = empirical.spectral_density(theta, SHAPE, key, probes=4, steps=24)
    assert_close(density.weights.sum(1), np.ones(4))
    # with as many steps as dimensions Gauss quadrature is exact: z' Theta^2 z / z' z, for any z
    moment = (density.weights * density.nodes**2).sum(1)
    assert moment.min() > values[0] ** 2
    assert moment.max() < values[-1] ** 2
    few = empirical.top_eigenpairs(theta, SHAPE, 4, key, steps=5)
    assert int(few.status) == Status.NOT_CONVERGED


def test_effective_rank_and_alignments(float64, key):
    dense = problem(key)[3]
    assert_close(empirical.effective_rank(jnp.ones(7)), np.asarray(7.0))
    y = jax.random.normal(key, (24,))
    flat = np.outer(y, y)
    expected = np.sum(np.asarray(dense) * flat) / np.linalg.norm(dense) / np.linalg.norm(flat)
    assert_close(empirical.target_alignment(dense, y), np.asarray(expected))
    center = np.eye(24) - 1 / 24
    first, second = center @ np.asarray(dense) @ center, center @ flat @ center
    expected = np.sum(first * second) / np.linalg.norm(first) / np.linalg.norm(second)
    assert_close(empirical.centered_alignment(dense, jnp.asarray(flat)), np.asarray(expected), condition=10)


def test_operator_refuses_a_vector_of_another_shape(unchecked):
    theta = empirical.ntk_operator(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="have the shape of the outputs"):
        theta(jnp.ones(3))
