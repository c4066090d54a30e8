"""Gauss-Newton, Fisher, weighted kernels and influence, against explicit matrices and against training anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from tolerances import assert_close

from jaxtheory import empirical, losses
from jaxtheory.results import Status

SHAPES = {"b": (3,), "v": (4, 3), "w": (2, 4)}


def net(p, x):
    return jnp.tanh(x @ p["w"]) @ p["v"] + p["b"][None]


@pytest.fixture
def drawn(float64, key):
    keys = jax.random.split(key, 5)
    params = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys[:3], SHAPES.items(), strict=True)}
    return params, jax.random.normal(keys[3], (6, 2)), jax.random.randint(keys[4], (6,), 0, 3)


def matrix_of(operator, size):
    return np.asarray(jax.vmap(operator)(jnp.eye(size))).T


def jacobian(params, x):
    """[n, o, P] in the order of ravel_pytree."""
    flat, unravel = ravel_pytree(params)
    return np.asarray(jax.jacrev(lambda v: net(unravel(v), x))(flat))


def softmax_hessians(params, x):
    p = np.asarray(jax.nn.softmax(net(params, x)))
    return np.einsum("nk,kl->nkl", p, np.eye(3)) - p[:, :, None] * p[:, None, :]


@pytest.mark.slow
def test_gauss_newton_is_written_out(drawn):
    params, x, labels = drawn
    j, size = jacobian(params, x), sum(np.prod(s) for s in SHAPES.values())
    g = matrix_of(empirical.ggn_operator(net, params, x, labels, loss="cross_entropy"), size)
    assert_close(g, np.einsum("nkp,nkl,nlq->pq", j, softmax_hessians(params, x), j) / 6, condition=100)
    y = jnp.ones((6, 3))
    g = matrix_of(empirical.ggn_operator(net, params, x, y), size)
    assert_close(g, np.einsum("nkp,nkq->pq", j, j) / 6, condition=100)


def test_gauss_newton_is_the_hessian_of_a_linear_model(float64, key):
    x, y = jax.random.normal(key, (7, 3)), jnp.array([1, 0, 0, 1, 1, 0, 1])
    w = jnp.array([0.3, -1.0, 2.0])
    f = lambda w, x: x @ w  # noqa: E731
    g = matrix_of(empirical.ggn_operator(f, w, x, y, loss="logistic"), 3)
    mean = lambda w: losses.values("logistic", f(w, x), y).mean()  # noqa: E731
    assert_close(g, jax.hessian(mean)(w), condition=100)


def test_gauss_newton_takes_functions_of_the_whole_batch(drawn):
    params, x, _ = drawn
    mixed = lambda p, x: net(p, x - x.mean(0, keepdims=True)) - net(p, x).mean(0, keepdims=True)  # noqa: E731
    flat, unravel = ravel_pytree(params)
    j = np.asarray(jax.jacrev(lambda v: mixed(unravel(v), x))(flat)).reshape(18, -1)
    g = matrix_of(empirical.ggn_operator(mixed, params, x, jnp.zeros((6, 3))), flat.size)
    assert_close(g, j.T @ j / 6, condition=100)


def test_empirical_fisher_is_written_out(drawn):
    params, x, labels = drawn
    flat, unravel = ravel_pytree(params)
    one = lambda v, x, y: losses.cross_entropy(net(unravel(v), x[None])[0], y)  # noqa: E731
    gradients = np.asarray(jax.vmap(jax.grad(one), (None, 0, 0))(flat, x, labels))
    found = matrix_of(empirical.empirical_fisher_operator(net, params, x, labels), flat.size)
    assert_close(found, gradients.T @ gradients / 6, condition=100)


@pytest.mark.slow
def test_weighted_kernel_and_gauss_newton_share_their_spectrum(drawn, key):
    params, x, labels = drawn
    weighted = empirical.weighted_ntk_operator(net, params, x, labels)
    j, h = jacobian(params, x), softmax_hessians(params, x)
    values, vectors = np.linalg.eigh(h)
    root = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(np.maximum(values, 0)), vectors)
    s = np.einsum("nab,nbp->nap", root, j).reshape(18, -1)
    # the smallest eigenvalue of a softmax's Hessian is 0: its root is known to √ε
    found = matrix_of(lambda v: weighted(v.reshape(6, 3)).ravel(), 18)
    np.testing.assert_allclose(found, s @ s.T, atol=1e-7 * np.linalg.norm(s @ s.T, 2))
    g = empirical.ggn_operator(net, params, x, labels, loss="cross_entropy")
    size = s.shape[1]
    top = empirical.top_eigenpairs(g, (size,), 3, key)
    np.testing.assert_allclose(6 * top.values, np.linalg.eigvalsh(s @ s.T)[::-1][:3], rtol=1e-7)


def test_influence_is_the_solve_written_out(drawn):
    params, x, labels = drawn
    flat, unravel = ravel_pytree(params)
    one = lambda v, x, y: losses.cross_entropy(net(unravel(v), x[None])[0], y)  # noqa: E731
    gradients = np.asarray(jax.vmap(jax.grad(one), (None, 0, 0))(flat, x, labels))
    j = jacobian(params, x)
    g = np.einsum("nkp,nkl,nlq->pq", j, softmax_hessians(params, x), j) / 6 + 0.1 * np.eye(flat.size)
    found = empirical.influence(net, params, x, labels, x[:2], labels[:2], loss="cross_entropy", damping=0.1)
    assert found.status == Status.OK
    np.testing.assert_allclose(found.values, gradients[:2] @ np.linalg.solve(g, gradients.T), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_influence_is_what_leaving_out_does(float64, key):
    """Ridge regression without example i: first order in 1/n, so the error falls fourfold as n doubles."""
    f, decay = (lambda w, x: x @ w), 0.1

    def fitted(x, y, weight):
        a = (x * weight[:, None]).T @ x / len(x) + decay * np.eye(x.shape[1])
        return np.linalg.solve(a, (x * weight[:, None]).T @ y / len(x))

    def error(n):
        rng = np.random.default_rng(n)
        x, y, x_test, y_test = rng.normal(size=(n, 3)), rng.normal(size=n), rng.normal(size=(4, 3)), rng.normal(size=4)
        w = fitted(x, y, np.ones(n))
        found = empirical.influence(f, jnp.asarray(w), x, y, x_test, y_test, damping=decay)
        moved = np.stack([fitted(x, y, 1.0 - (np.arange(n) == i)) for i in range(n)])
        change = ((x_test @ moved.T - y_test[:, None]) ** 2 - ((x_test @ w - y_test) ** 2)[:, None]) / 2
        return abs(found.values / n - change).mean(), abs(change).mean()

    (coarse, size), (fine, _) = error(200), error(400)
    assert coarse < 0.1 * size
    assert 2.5 < coarse / fine < 6.5  # 4, and the sampling of 200 removals


def test_unfinished_solves_say_so(drawn):
    params, x, labels = drawn
    found = empirical.influence(
        net, params, x, labels, x[:1], labels[:1], loss="cross_entropy", damping=1e-6, max_steps=1
    )
    assert found.status == Status.NOT_CONVERGED


def test_scales_of_single_precision(key):
    """Influence is linear in the test gradient, whose square would not be representable: equal to rounding of the
    loss's own residual."""
    f, x = (lambda w, x: x @ w), jax.random.normal(key, (5, 3))
    y, w, c = jnp.ones(5), jnp.ones(3), 2.0**-70
    base, tiny = (
        empirical.influence(f, w, x, y, x[:1] * scale, x[:1] @ w * scale - 1.0, damping=0.1) for scale in (1.0, c)
    )
    assert base.status == tiny.status == Status.OK
    np.testing.assert_allclose(tiny.values / c, base.values, rtol=1e-5)


@pytest.mark.parametrize("damping", [0.0, -1.0, jnp.nan])
def test_a_damping_that_is_not_positive_is_named(damping):
    with pytest.raises(ValueError, match="damping must be positive"):
        empirical.influence(
            lambda w, x: x @ w, jnp.ones(2), jnp.eye(2), jnp.ones(2), jnp.eye(2), jnp.ones(2), damping=damping
        )


def test_vectors_of_another_shape_are_named(drawn):
    params, x, labels = drawn
    with pytest.raises(ValueError, match=r"v must be a flat vector of the 23 parameters, got v=\(22,\)"):
        empirical.ggn_operator(net, params, x, labels, loss="cross_entropy")(jnp.ones(22))
    with pytest.raises(ValueError, match="target must have the shape of prediction"):
        empirical.ggn_operator(net, params, x, jnp.ones(6))


@pytest.mark.slow
def test_weighted_kernel_has_derivatives(float64):
    """Of a softmax, whose Hessians always have the eigenvalue 0: against central differences, error step^2."""
    x, labels, v = jnp.asarray([[1.0, 0.5], [-0.5, 2.0]]), jnp.array([0, 2]), jnp.asarray([[1.0, 0, -2], [0.5, 1, 3]])

    def value(w):
        return (v * empirical.weighted_ntk_operator(lambda w, x: x @ w, w, x, labels)(v)).sum()

    w, step = jnp.asarray([[0.5, -1.0, 0.25], [0.75, 0.5, -0.5]]), 1e-5
    slope = jax.grad(value)(w)
    for place in ((0, 0), (1, 2)):
        moved = [value(w.at[place].add(sign * step)) for sign in (1, -1)]
        np.testing.assert_allclose(slope[place], (moved[0] - moved[1]) / (2 * step), rtol=1e-6)


def test_targets_of_tests_are_paired(drawn):
    params, x, labels = drawn
    with pytest.raises(ValueError, match="y_test must be as many as x_test"):
        empirical.influence(net, params, x, labels, x[:2], labels[:3], loss="cross_entropy", damping=0.1)
