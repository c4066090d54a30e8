"""Answers do not depend on units or on how numbers are written; what has no answer says so, inside jit too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernels.test_bad_input import points, targets
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.results import Status


def solve(solver, y):
    """(what is linear in y, status) of one solver, at the shapes of the other tests."""
    x, kernel = points(), kernels.laplace()
    if solver == "ridge_path":
        path = kernels.ridge_path(kernel, x, y, jnp.array([0.1]))
        return path.alpha[0], path.status[0]
    if solver == "posterior":
        found = kernels.posterior(kernel, x, y, 0.1, x)
        return found.mean, found.status
    if solver == "gradient_flow":
        path = kernels.gradient_flow(kernel(x, x), y, learning_rate=1.0, times=1.0)
        return path.train[0], path.status
    options = {"centres": x[:8]} if solver == "centres" else {"solver": solver, "rank": 12}
    model = kernels.fit(kernel, x, y, 0.1, max_iterations=200, **options)
    return model.alpha, model.status


SLOW = ("eigenpro", "ridge_path", "posterior", "gradient_flow", "centres")


@pytest.mark.parametrize("solver", ["cholesky", "cg", *(pytest.param(s, marks=pytest.mark.slow) for s in SLOW)])
def test_scaling_the_targets_scales_the_answer_to_the_bit(solver):
    """y of size 1e25 and 1e-25 in float32, whose squares are no numbers there; the other fields do not overflow."""
    one, status = solve(solver, targets())
    assert int(status) == Status.OK
    for factor in (2.0**83, 2.0**-83):
        moved, verdict = solve(solver, jnp.float32(factor) * targets())
        np.testing.assert_array_equal(np.asarray(moved), np.float32(factor) * np.asarray(one))
        quadratic = solver == "ridge_path"
        assert int(verdict) == (Status.NOT_FINITE if quadratic else Status.OK)


@pytest.mark.slow
def test_integers_booleans_and_lists_are_their_numbers(unchecked):
    x = np.arange(12, dtype=np.uint8).reshape(4, 3) ** 2
    y = [1, 0, 2, 1]
    for kernel in (kernels.arc_cosine(1), kernels.gaussian(30), kernels.polynomial(2, 1, 1)):
        same = kernel(jnp.asarray(x, jnp.float32), jnp.asarray(x, jnp.float32))
        for form in (x, x.astype(np.int32), x.astype(float).tolist()):
            np.testing.assert_array_equal(kernel(form, form), same)
    whole, real = (kernels.fit(kernels.arc_cosine(1), z, y, 1) for z in (x, jnp.asarray(x, jnp.float32)))
    np.testing.assert_array_equal(whole.alpha, real.alpha)
    assert int(whole.status) == Status.OK
    np.testing.assert_array_equal(kernels.predict(whole, x[:, :].tolist()), kernels.predict(real, x))


def test_numbers_are_points_on_a_line(unchecked):
    line, y = [0.0, 0.5, 2.0], [1.0, 2.0, 3.0]
    column = jnp.asarray(line)[:, None]
    flat, wide = (kernels.fit(kernels.laplace(), x, y, 0.1) for x in (line, column))
    np.testing.assert_array_equal(kernels.predict(flat, line), kernels.predict(wide, column))
    np.testing.assert_array_equal(kernels.gram(kernels.laplace(), line), kernels.laplace()(column, column))


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.first_case
def test_a_bandwidth_for_each_dimension(dim, float64, key):
    """Also where as many points as dimensions would broadcast the wrong way; eager and inside jit."""
    x1, x2 = jax.random.normal(key, (4, dim), float), jax.random.normal(jax.random.fold_in(key, 1), (dim, dim), float)
    lengths = np.linspace(0.5, 2.0, dim)
    squares = (((np.asarray(x1)[:, None] - np.asarray(x2)[None]) / lengths) ** 2).sum(-1)
    r = np.sqrt(squares)
    for make, expected in (
        (kernels.gaussian, np.exp(-squares / 2)),
        (kernels.laplace, np.exp(-r)),
        (lambda b: kernels.matern(1.5, b), (1 + 3**0.5 * r) * np.exp(-(3**0.5) * r)),
    ):
        assert_close(make(jnp.asarray(lengths))(x1, x2), expected)
        assert_close(jax.jit(lambda b, make=make: make(b)(x1, x2))(jnp.asarray(lengths)), expected)


def test_bandwidths_of_another_length_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"bandwidth must be one number or 2 numbers, got bandwidth=shape \(3,\)"):
        kernels.gaussian(jnp.ones(3))(jnp.ones((4, 2)), jnp.ones((4, 2)))


@pytest.mark.slow
def test_noise_for_each_point(float64, key):
    x, noise = jax.random.normal(key, (12, 2), float), jnp.linspace(0.1, 2.0, 12)
    y, gram = jnp.sin(x[:, 0]), np.asarray(kernels.laplace()(x, x))
    alpha = np.linalg.solve(gram + np.diag(noise), y)
    assert_close(kernels.fit(kernels.laplace(), x, y, noise).alpha, alpha, condition=1e3)
    found = kernels.posterior(kernels.laplace(), x, y, noise, x)
    assert_close(found.mean, gram @ alpha, condition=1e3)
    expected = gram - gram @ np.linalg.solve(gram + np.diag(noise), gram)
    assert_close(found.covariance, expected, condition=1e3)


def test_forbidden_numbers_are_nan_inside_jit():
    x = jnp.ones((2, 2))
    for make in (
        kernels.gaussian,
        kernels.laplace,
        lambda b: kernels.matern(2.5, b),
        lambda b: kernels.polynomial(2, b),
    ):
        assert jnp.isnan(jax.jit(lambda b, make=make: make(b)(x, x))(-1.0)).all()
    assert jnp.isnan(jax.jit(kernels.degrees_of_freedom)(jnp.array([jnp.nan, 0.5, 0.1]), 0.1))
    with pytest.raises(ValueError, match="eigs must"):
        kernels.degrees_of_freedom(jnp.array([jnp.nan, 0.5, 0.1]), 0.1)


def test_one_nan_reaches_low_rank_factors():
    x = points().at[3, 1].set(jnp.nan)
    assert jnp.isnan(kernels.nystrom(kernels.laplace(), x, 4, jax.random.key(0))).any()
    assert jnp.isnan(kernels.rpcholesky(kernels.laplace(), x, 4, jax.random.key(0))).any()


@pytest.mark.parametrize("ridge", [0.0, 1e-8])
def test_duplicates_are_ill_conditioned_not_invalid(ridge):
    x = jnp.concatenate([points()[:12]] * 2)
    model = kernels.fit(kernels.gaussian(), x, targets(), ridge, solver="cg", max_iterations=200, rank=12)
    assert int(model.status) == Status.ILL_CONDITIONED


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.first_case
def test_centres_with_a_singular_matrix(copies, float64):
    """Twenty centres under a wide kernel, once and twice each: the least squares fit in their span, by pinv."""
    x = jnp.linspace(0.0, 1.0, 300)
    y, centres = jnp.sin(6 * x), jnp.repeat(jnp.linspace(0.0, 1.0, 20), copies)
    model = kernels.fit(kernels.gaussian(0.2), x, y, 1.0, centres=centres)
    cross, corner = (np.asarray(kernels.gaussian(0.2)(z, centres)) for z in (x, centres))
    values, vectors = np.linalg.eigh(corner)
    kept = values > 1e-14 * values[-1]
    features = cross @ vectors[:, kept] / np.sqrt(values[kept])
    expected = features @ np.linalg.solve(features.T @ features + np.eye(kept.sum()), features.T @ y)
    assert int(model.status) == Status.OK
    assert np.abs(kernels.predict(model, x) - expected).max() < 1e-6


def test_first_mistakes_are_named(unchecked):
    x, y = points(), targets()
    model = kernels.fit(kernels.laplace(), x, y, 0.1)
    with pytest.raises(ValueError, match=r"kernel must be a function .* got kernel='rbf'; pass e.g. kernels.gaussian"):
        kernels.gram("rbf", x)
    with pytest.raises(ValueError, match=r"kernel must be a square Gram matrix, got kernel=shape \(24, 6\)"):
        kernels.fit(x, kernels.laplace(), y, 0.1)
    with pytest.raises(ValueError, match="call its factory"):
        kernels.fit(kernels.laplace, x, y, 0.1)
    with pytest.raises(ValueError, match=r"x must hold points like those of the fit, \(24, 6\), got x=\(3, 2\)"):
        kernels.predict(model, jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="model must be a KernelRegressor"):
        kernels.predict(x, model)
    with pytest.raises(ValueError, match=r"key must be a random key, got key=0; pass jax.random.key\(0\)"):
        kernels.nystrom(kernels.laplace(), x, 4, 0)
    with pytest.raises(ValueError, match="y must be numbers"):
        kernels.fit(kernels.laplace(), x, None, 0.1)
    with pytest.raises(ValueError, match="must be known when the program is compiled"):
        jax.jit(lambda rank: kernels.nystrom(kernels.laplace(), x, rank, jax.random.key(0)))(3)


@pytest.mark.parametrize("times", [[0.0, 1.0], 1, 1.0, np.float64(1.0), jnp.float32(1.0)])
def test_times_are_lists_or_numbers(times, unchecked):
    expected = 1 - np.exp(-np.atleast_1d(np.asarray(times, float)))
    found = kernels.gradient_flow([[1.0]], [1], learning_rate=1, times=times)
    assert_close(found.train[:, 0], expected.astype(np.float32))
    steps = np.asarray(times).astype(int).tolist()
    found = kernels.gradient_descent([[1.0]], [1], learning_rate=0.5, steps=steps)
    assert_close(found.train[:, 0], 1 - 0.5 ** np.atleast_1d(steps).astype(np.float32))
