"""B-splines against SciPy, and the ReLU networks that are B-splines against B-splines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline, NdBSpline
from tolerances import assert_close

from jaxtheory.expressivity import relu_network as rn
from jaxtheory.smoothness import bspline


def clamped(rng, degree, inner=8):
    return np.concatenate([np.zeros(degree + 1), np.sort(rng.uniform(size=inner)), np.ones(degree + 1)])


@pytest.mark.parametrize("degree", [0, 1, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_splines_and_derivatives_are_those_of_scipy(degree, float64):
    rng = np.random.default_rng(degree)
    knots = clamped(rng, degree)
    coefficients = rng.normal(size=len(knots) - degree - 1)
    x = np.concatenate([rng.uniform(size=100), [0.0, 1.0]])
    for derivative in range(min(degree, 3) + 1):
        expected = BSpline(knots, coefficients, degree)(x, nu=derivative)
        ours = bspline.evaluate(*map(jnp.asarray, (x, knots, coefficients)), degree, derivative=derivative)
        assert_close(ours, expected, condition=10)


@pytest.mark.smoke
def test_repeated_knots_and_float32(dtype):
    knots = jnp.array([0.0, 0, 0, 0.5, 0.5, 1, 1, 1], dtype)
    x = jnp.linspace(0, 1, 30, dtype=dtype)
    expected = BSpline.design_matrix(np.asarray(x, float), np.asarray(knots, float), 2).toarray()
    values = bspline.basis(x, knots, 2)
    assert values.dtype == dtype
    assert_close(values, expected.astype(dtype))
    assert_close(values.sum(1), np.ones(30, dtype))


def test_tensor_products_are_those_of_scipy(float64):
    rng = np.random.default_rng(0)
    knots = (clamped(rng, 3, 4), clamped(rng, 3, 2))
    coefficients, x = rng.normal(size=(8, 6)), rng.uniform(size=(50, 2))
    expected = NdBSpline(knots, coefficients, 3)(x)
    ours = bspline.evaluate_tensor(jnp.asarray(x), tuple(map(jnp.asarray, knots)), jnp.asarray(coefficients), 3)
    assert_close(ours, expected, condition=10)


def test_cardinal_splines_and_mixed_derivatives(float64):
    x = np.random.default_rng(1).uniform(-1, 5, (200, 2))
    one = BSpline.basis_element(np.arange(5.0), extrapolate=False)
    expected = np.nan_to_num(one(x[:, 0], nu=1)) * np.nan_to_num(one(x[:, 1]))
    assert_close(bspline.cardinal(jnp.asarray(x), 3, derivative=(1, 0)), expected, condition=10)


def test_gradients_through_knots_are_finite_differences(float64):
    knots = jnp.array([0.0, 0.2, 0.5, 0.9, 1.3, 2.0])
    value = lambda t: bspline.evaluate(jnp.array([0.7]), t, jnp.array([1.0, -2.0]), 3)[0]  # noqa: E731
    step = 1e-6 * jnp.eye(6)[2]
    difference = (value(knots + step) - value(knots - step)) / 2e-6
    np.testing.assert_allclose(jax.grad(value)(knots)[2], difference, rtol=1e-7)


def test_dictionary_holds_every_level(float64):
    x = jnp.linspace(0.01, 0.99, 40)
    atoms = bspline.dictionary(x, 3, 2)
    assert atoms.shape[1] == bspline.dictionary_size(3, 2, 1) == 4 + 5 + 7
    np.testing.assert_allclose(atoms[:, 4:9].sum(1), 1.0, atol=1e-14)
    np.testing.assert_allclose(atoms[:, 10], bspline.cardinal(4 * x[:, None] + 2, 3), atol=1e-14)


@pytest.mark.parametrize(
    ("order", "accuracy", "dim"),
    [
        (1, 1e-2, 1),
        (3, 1e-3, 1),
        (3, 1e-3, 2),
        pytest.param(2, 1e-6, 1, marks=pytest.mark.slow),
        pytest.param(10, 1e-5, 1, marks=pytest.mark.slow),
        pytest.param(2, 1e-2, 3, marks=pytest.mark.slow),
    ],
)
def test_networks_are_splines_within_their_accuracy_and_the_lemma(order, accuracy, dim, float64):
    """Suzuki (2019), Lemma 1: depth, width, nonzeros, weights, error, support."""
    net = bspline.relu_network(order, accuracy, dim)
    grid = np.random.default_rng(order).uniform(-1, order + 2, (3000, dim))
    values = rn.evaluate(net, jnp.asarray(grid)).ravel()
    assert np.abs(values - bspline.cardinal(jnp.asarray(grid), order)).max() <= accuracy
    outside = ((grid < 0) | (grid > order + 1)).any(axis=1)
    assert np.abs(values[outside]).max() < 1e-14
    audit, bound = rn.audit(net), bspline.suzuki_bound(order, accuracy, dim)
    assert audit.depth <= bound.depth
    assert audit.width <= bound.width
    assert audit.nonzeros <= bound.nonzeros
    assert audit.largest <= bound.largest


def test_networks_hold_in_single_precision():
    """Where truncated powers lose 4e-2 at order 10."""
    net = bspline.relu_network(10, 1e-4)
    x = np.linspace(-1, 12, 2000)[:, None].astype(np.float32)
    exact = np.nan_to_num(BSpline.basis_element(np.arange(12.0), extrapolate=False)(x.astype(float)))
    assert np.abs(np.asarray(rn.evaluate(net, jnp.asarray(x))) - exact).max() < 1.2e-4


def test_a_sum_is_its_splines_and_its_written_out_network(float64):
    rng = np.random.default_rng(5)
    weights, scales, shifts = (
        rng.normal(size=7),
        2.0 ** rng.integers(0, 4, 7),
        rng.integers(-3, 8, (7, 1)).astype(float),
    )
    net = bspline.relu_sum(jnp.asarray(weights), jnp.asarray(scales), jnp.asarray(shifts), 3, 1e-4)
    x = rng.uniform(size=(200, 1))
    one = BSpline.basis_element(np.arange(5.0), extrapolate=False)
    expected = np.nan_to_num(one(scales * x - shifts.T)) @ weights
    values = bspline.evaluate_sum(net, jnp.asarray(x))
    assert np.abs(values - expected).max() <= 1e-4 * np.abs(weights).sum()
    whole = bspline.as_network(net)
    assert_close(rn.evaluate(whole, jnp.asarray(x)).ravel(), values, condition=10)
    assert rn.audit(whole) == bspline.audit_sum(net)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bspline.basis(jnp.ones(1), jnp.arange(3.0), 2), "knots must be at least degree"),
        (lambda: bspline.basis(jnp.ones(1), jnp.array([0.0, 2.0, 1.0]), 1), "knots must not decrease"),
        (lambda: bspline.basis(jnp.ones(1), jnp.arange(3.0), -1), "degree must be >= 0"),
        (lambda: bspline.evaluate(jnp.ones(1), jnp.arange(4.0), jnp.ones(3), 1), "coefficients must be 2"),
        (lambda: bspline.relu_network(0, 0.1), "order must be >= 1"),
        (lambda: bspline.relu_network(2, 1.5), "accuracy must lie in"),
        (lambda: bspline.relu_sum(jnp.ones(2), jnp.ones(3), jnp.ones((3, 1)), 1, 0.1), "weights must be one a scale"),
    ],
)
def test_what_is_no_spline_is_refused(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
