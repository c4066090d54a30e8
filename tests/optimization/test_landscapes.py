"""Critical points and Hessian spectra against autodiff, a loss in closed form against sampling, starts that succeed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxtheory.optimization import landscapes
from jaxtheory.results import Status


@pytest.fixture
def rotation():
    return np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]


@pytest.mark.parametrize("index", [None, 0, 1, 2])
def test_matrix_factorization_spectra(index, rotation, float64):
    eigenvalues = jnp.array([3.0, 2.0, 0.5, -1.0])
    target = jnp.asarray(rotation * np.asarray(eigenvalues) @ rotation.T)
    x = jnp.zeros(4) if index is None else jnp.sqrt(eigenvalues[index]) * jnp.asarray(rotation)[:, index]
    f = lambda p: landscapes.matrix_factorization(p[:, None], target)  # noqa: E731
    np.testing.assert_allclose(jax.grad(f)(x), 0, atol=1e-12)
    predicted = landscapes.matrix_factorization_spectrum(eigenvalues, index)
    np.testing.assert_allclose(np.linalg.eigvalsh(jax.hessian(f)(x)), np.sort(predicted), atol=1e-12)


@pytest.mark.parametrize("point", ["signal", "saddle", "origin"])
def test_phase_retrieval_spectra(point, rotation, float64):
    signal, across = jnp.asarray(rotation[:, 0]), jnp.asarray(rotation[:, 1])
    x = {"signal": -signal, "saddle": across / jnp.sqrt(3.0), "origin": 0 * signal}[point]
    f = lambda p: landscapes.phase_retrieval(p, signal)  # noqa: E731
    np.testing.assert_allclose(jax.grad(f)(x), 0, atol=1e-12)
    predicted = landscapes.phase_retrieval_spectrum(4, point)
    np.testing.assert_allclose(np.linalg.eigvalsh(jax.hessian(f)(x)), predicted, atol=1e-12)


def test_phase_retrieval_is_an_expectation(float64):
    """The closed form is the mean over Gaussian measurements, within 4 standard errors."""
    rng = np.random.default_rng(1)
    a, x, z = rng.normal(size=(200_000, 3)), jnp.array([0.5, -0.2, 0.9]), jnp.array([1.0, 0.3, 0.0])
    draws = ((a @ np.asarray(x)) ** 2 - (a @ np.asarray(z)) ** 2) ** 2 / 4
    assert abs(float(landscapes.phase_retrieval(x, z)) - draws.mean()) < 4 * draws.std() / np.sqrt(len(draws))


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("kept", [(1, 1, 1), (1, 0, 1), (0, 1, 0), (0, 0, 0)])
def test_deep_linear_spectra(depth, kept, float64):
    """All N d² eigenvalues, from autodiff at the balanced critical point, in any rotation of the target."""
    sigma, kept = jnp.array([3.0, 2.0, 0.5]), jnp.array(kept, bool)
    weights = [jnp.diag(jnp.where(kept, sigma ** (1 / depth), 0))] * depth
    flat, unravel = ravel_pytree(weights)
    f = lambda p: landscapes.deep_linear(unravel(p), jnp.diag(sigma))  # noqa: E731
    np.testing.assert_allclose(jax.grad(f)(flat), 0, atol=1e-12)
    predicted = landscapes.deep_linear_spectrum(sigma, kept, depth)
    np.testing.assert_allclose(np.linalg.eigvalsh(jax.hessian(f)(flat)), predicted, atol=1e-11)


def test_student_loss_is_an_expectation(float64):
    """Value and gradient against sampled inputs, within 4 standard errors in every entry."""
    rng = np.random.default_rng(2)
    student, teacher, x = rng.normal(size=(4, 5)), np.eye(5)[:3], rng.normal(size=(200_000, 5))
    gap = np.maximum(x @ student.T, 0).sum(1) - np.maximum(x @ teacher.T, 0).sum(1)
    draws = gap**2 / 2
    value, gradient = jax.value_and_grad(landscapes.relu_student)(jnp.asarray(student), jnp.asarray(teacher))
    assert abs(float(value) - draws.mean()) < 4 * draws.std() / np.sqrt(len(x))
    each = gap[:, None, None] * (x @ student.T > 0)[:, :, None] * x[:, None, :]
    errors = each.std(0) / np.sqrt(len(x))
    assert (np.abs(np.asarray(gradient) - each.mean(0)) < 4.5 * errors).all()


def test_student_gradient_is_finite_where_neurons_coincide(float64):
    teacher = jnp.eye(3)
    np.testing.assert_allclose(jax.grad(landscapes.relu_student)(teacher, teacher), 0, atol=1e-14)
    doubled = jnp.concatenate([teacher, teacher, 0 * teacher[:1]])
    assert jnp.isfinite(jax.grad(landscapes.relu_student)(doubled, teacher)).all()


def test_strict_saddles_are_avoided():
    """Rank-1 factorization: every start ends at the leading eigenvector, none at the three other critical points."""
    target = jnp.diag(jnp.array([3.0, 2.0, 0.5, -1.0]))
    run = landscapes.global_success(
        lambda x: landscapes.matrix_factorization(x[:, None], target),
        lambda k: 0.1 * jax.random.normal(k, (4,)),
        jax.random.key(0), starts=200, step_size=0.1, steps=600,
        minimum=float(4.0 + 0.25 + 1.0) / 4, tolerance=1e-4,
    )  # fmt: skip
    assert float(run.fraction) == 1.0


def test_runs_that_diverge_are_failures_with_a_status():
    run = landscapes.global_success(
        lambda x: (x**4).sum(), lambda k: 10 + jax.random.normal(k, (2,)), jax.random.key(0),
        starts=4, step_size=1.0, steps=20, tolerance=1.0,
    )  # fmt: skip
    assert float(run.fraction) == 0.0
    assert (run.status == Status.NOT_FINITE).all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: landscapes.matrix_factorization_spectrum(jnp.array([1.0, -1.0]), 1), "index"),
        (lambda: landscapes.matrix_factorization_spectrum(jnp.array([1.0]), 3), "index"),
        (lambda: landscapes.phase_retrieval_spectrum(3, "top"), "point"),
        (lambda: landscapes.phase_retrieval_spectrum(1, "origin"), "dim"),
        (lambda: landscapes.deep_linear_spectrum(jnp.array([1.0]), jnp.array([True]), 1), "depth"),
        (lambda: landscapes.deep_linear_spectrum(jnp.array([0.0]), jnp.array([True]), 2), "kept"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=f"^{named} must"):
        call()
