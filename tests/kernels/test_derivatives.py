"""Derivatives of every order: at coincident points, through solvers, and of roots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.results import Status


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize(("smoothness", "curvature"), [(1.5, 3.0), (2.5, 5 / 3)])
@pytest.mark.first_case
def test_matern_has_its_second_derivatives_at_coincident_points(smoothness, curvature, dim, float64):
    """−3/ℓ² I and −5/(3ℓ²) I in x, the opposite sign for one derivative in each argument."""
    x, length = jnp.linspace(0.3, 1.0, dim), 0.7

    def value(a, b):
        return kernels.matern(smoothness, length)(a[None], b[None])[0, 0]

    expected = curvature / length**2 * np.eye(dim)
    assert_close(jax.hessian(value)(x, x), -expected)
    assert_close(jax.jacfwd(jax.grad(value, 1))(x, x), expected)


SOLVERS = {
    "cholesky": {"solver": "cholesky"},
    "cg": {"solver": "cg", "rank": 8},
    "centres": {"centres": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_predictions_have_the_derivatives_of_the_equation(solver, float64, key):
    """First and second, forward over reverse, in bandwidth, ridge and targets along one line: a dense oracle."""
    x = jax.random.normal(key, (16, 2), float)
    y, line = jnp.sin(x[:, 0]), jnp.cos(x[:, 1])
    options = {"tolerance": 1e-12, **SOLVERS[solver]}
    centred = options.pop("centres", False)

    def by(t, dense):
        kernel, ridge, targets = kernels.gaussian(1.0 + t), 0.1 * jnp.exp(t), y + t * line
        if not dense:
            model = kernels.fit(kernel, x, targets, ridge, **options, **({"centres": x[:5]} if centred else {}))
            return kernels.predict(model, x[:3] + 0.1).sum()
        if not centred:
            alpha = jnp.linalg.solve(kernel(x, x) + ridge * jnp.eye(16), targets)
            return (kernel(x[:3] + 0.1, x) @ alpha).sum()
        cross, corner = kernel(x, x[:5]), kernel(x[:5], x[:5])
        return (
            kernel(x[:3] + 0.1, x[:5]) @ jnp.linalg.solve(cross.T @ cross + ridge * corner, cross.T @ targets)
        ).sum()

    for order in (jax.grad, lambda f: jax.jacfwd(jax.grad(f))):
        found, expected = (jax.jit(order(lambda t, dense=dense: by(t, dense)))(0.2) for dense in (False, True))
        assert abs(found - expected) <= 1e-8 * abs(expected)


@pytest.mark.parametrize("n", [4096, 16_384])
def test_products_in_reverse_keep_no_blocks(n):
    """Bytes that the compiled gradient holds, against vectors and a few blocks."""
    block = 1024
    x, v = jnp.zeros((n, 4)), jnp.zeros(n)
    gradient = jax.jit(jax.grad(lambda v, x: kernels.matvec(kernels.laplace(), x, v, block).sum(), (0, 1)))
    held = gradient.lower(v, x).compile().memory_analysis().temp_size_in_bytes
    assert held <= 4 * (16 * block**2 + 8 * n * 4 + 8 * n)


def test_marginal_likelihood_says_where_float32_does_not_suffice():
    """300 points on [0, 1], bandwidth 0.3, noise 1e-6: a fifth of the value is rounding. Noise 0.1 is well posed."""
    x = np.linspace(0.0, 1.0, 300)
    y = np.sin(6 * x)
    gram = np.exp(-(((x[:, None] - x) / 0.3) ** 2) / 2)
    for noise, status in ((1e-6, Status.ILL_CONDITIONED), (0.1, Status.OK)):
        found = kernels.log_marginal_likelihood(kernels.gaussian(0.3), jnp.asarray(x), jnp.asarray(y), noise)
        matrix = gram + noise * np.eye(300)
        exact = -0.5 * (y @ np.linalg.solve(matrix, y) + np.linalg.slogdet(matrix)[1] + 300 * np.log(2 * np.pi))
        assert int(found.status) == status
        if status == Status.OK:
            assert abs(found.value - exact) <= 10 * found.error
            assert found.jitter == 0


@pytest.mark.slow
def test_effective_regularization_has_the_derivatives_of_its_equation(float64):
    """F(κ, δ) = Σ λ/(λ + κ) + δ/κ = n: κ' = −F_δ/F_κ and κ'' by the total derivative of κ'; also at δ = 0."""
    eigs = jnp.arange(1.0, 21.0) ** -2

    def root(ridge):
        return kernels.effective_regularization(eigs, jnp.ones(20), 5.0, ridge)

    def slope(kappa, ridge):
        return (1 / kappa) / (jnp.sum(eigs / (eigs + kappa) ** 2) + ridge / kappa**2)

    for ridge in (0.3, 0.0):
        kappa = root(ridge)
        first = slope(kappa, ridge)
        by_kappa, by_ridge = jax.grad(slope, (0, 1))(kappa, ridge)
        assert_close(jax.grad(root)(ridge), np.asarray(first), condition=1e2)
        assert_close(jax.grad(jax.grad(root))(ridge), np.asarray(by_ridge + by_kappa * first), condition=1e4)


def test_learning_curve_over_a_hundred_decades():
    """λ = e^(−i), n = 100 < 300 modes without a ridge, pure noise: Σ L = n, Σ L(1 − L) = 1, so that the error is n.

    In float32 two thirds of the spectrum are 0, with which 87 modes are left and the error would be 7.7: refused.
    """
    lost = kernels.learning_curve(jnp.exp(-jnp.arange(1.0, 301.0)), jnp.zeros(300), 100, 0.0, 1.0)
    assert int(lost.status[0]) == Status.ILL_CONDITIONED
    with jax.enable_x64(True):
        exact = kernels.learning_curve(jnp.exp(-jnp.arange(1.0, 301.0)), jnp.zeros(300), 100, 0.0, 1.0)
        assert int(exact.status[0]) == Status.OK
        assert abs(exact.test[0] - 100) < 1e-2
    # within its range: 300 modes down to 1e-26, five an e-fold, so that Σ L(1 − L) = 5
    found = kernels.learning_curve(jnp.exp(-jnp.arange(1.0, 301.0) / 5), jnp.zeros(300), 100, 0.0, 1.0)
    assert int(found.status[0]) == Status.OK
    assert abs(found.test[0] - 20) < 0.02


def test_negative_spectra_are_refused_inside_jit():
    curve = jax.jit(kernels.learning_curve)(jnp.array([1.0, -0.5]), jnp.ones(2), 1.0, 0.1, 0.1)
    assert int(curve.status[0]) != Status.OK
    assert jnp.isnan(curve.test).all()
