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


def gradient_and_spectrum(f):
    """One program for all the points that a landscape is looked at in."""
    derivatives = jax.jit(lambda x: (jax.grad(f)(x), jax.hessian(f)(x)))

    def at(x):
        gradient, hessian = derivatives(x)
        return gradient, np.linalg.eigvalsh(hessian)

    return at


def test_matrix_factorization_spectra(rotation, float64):
    eigenvalues = jnp.array([3.0, 2.0, 0.5, -1.0])
    target = jnp.asarray(rotation * np.asarray(eigenvalues) @ rotation.T)
    at = gradient_and_spectrum(lambda p: landscapes.matrix_factorization(p[:, None], target))
    for index in (None, 0, 1, 2):
        x = np.zeros(4) if index is None else np.sqrt(eigenvalues[index]) * rotation[:, index]
        gradient, spectrum = at(jnp.asarray(x))
        np.testing.assert_allclose(gradient, 0, atol=1e-12)
        predicted = landscapes.matrix_factorization_spectrum(eigenvalues, index)
        np.testing.assert_allclose(spectrum, np.sort(predicted), atol=1e-12)


def test_phase_retrieval_spectra(rotation, float64):
    signal, across = rotation[:, 0], rotation[:, 1]
    at = gradient_and_spectrum(lambda p: landscapes.phase_retrieval(p, jnp.asarray(signal)))
    for point, x in {"signal": -signal, "saddle": across / np.sqrt(3), "origin": 0 * signal}.items():
        gradient, spectrum = at(jnp.asarray(x))
        np.testing.assert_allclose(gradient, 0, atol=1e-12)
        np.testing.assert_allclose(spectrum, landscapes.phase_retrieval_spectrum(4, point), atol=1e-12)


def test_phase_retrieval_is_an_expectation(float64):
    """The closed form is the mean over Gaussian measurements, within 4 standard errors."""
    rng = np.random.default_rng(1)
    a, x, z = rng.normal(size=(200_000, 3)), jnp.array([0.5, -0.2, 0.9]), jnp.array([1.0, 0.3, 0.0])
    draws = ((a @ np.asarray(x)) ** 2 - (a @ np.asarray(z)) ** 2) ** 2 / 4
    assert abs(float(landscapes.phase_retrieval(x, z)) - draws.mean()) < 4 * draws.std() / np.sqrt(len(draws))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_deep_linear_spectra(depth, float64):
    """All N d² eigenvalues, from autodiff at every kind of balanced critical point."""
    sigma = jnp.array([3.0, 2.0, 0.5])
    _, unravel = ravel_pytree([jnp.eye(3)] * depth)
    f = lambda p: landscapes.deep_linear(unravel(p), jnp.diag(sigma))  # noqa: E731
    at = gradient_and_spectrum(f)
    for kept in np.array([(1, 1, 1), (1, 0, 1), (0, 1, 0), (0, 0, 0)], bool):
        flat, _ = ravel_pytree([jnp.diag(jnp.where(kept, sigma ** (1 / depth), 0))] * depth)
        gradient, spectrum = at(flat)
        np.testing.assert_allclose(gradient, 0, atol=1e-12)
        predicted = landscapes.deep_linear_spectrum(sigma, jnp.asarray(kept), depth)
        np.testing.assert_allclose(spectrum, predicted, atol=1e-11)


@pytest.mark.slow
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
    slope = jax.jit(jax.grad(landscapes.relu_student))
    np.testing.assert_allclose(slope(teacher, teacher), 0, atol=1e-14)
    doubled = jnp.concatenate([teacher, teacher, 0 * teacher[:1]])
    assert jnp.isfinite(slope(doubled, teacher)).all()


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
