"""The shared vocabulary of results, against SciPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from tolerances import assert_close

from jaxtheory import results
from jaxtheory.results import Status

pytestmark = pytest.mark.smoke


def test_slope_and_its_standard_error_are_those_of_scipy(float64):
    x = np.geomspace(10.0, 1e4, 12)
    y = 3.0 * x**-0.7 * np.exp(0.1 * np.random.default_rng(0).standard_normal(12))
    fit, oracle = results.fit_slope(jnp.asarray(x), jnp.asarray(y)), scipy.stats.linregress(np.log(x), np.log(y))
    assert_close(jnp.array(fit), np.array([oracle.slope, oracle.intercept, oracle.stderr]))


def test_weighted_slope_is_unbiased_with_the_stated_error(float64, key):
    """Over 4000 noisy power laws the z-scores of the slope have mean 0 and variance 1, within 4 standard errors."""
    x = jnp.geomspace(1.0, 100.0, 6)
    error = 0.01 * x**-0.5 * jnp.array([1.0, 3.0, 1.0, 2.0, 1.0, 5.0])
    noise = error[None] * jax.random.normal(key, (4000, 6))
    fits = jax.vmap(lambda e: results.fit_slope(x, x**-0.5 + e, error))(noise)
    z = (fits.slope + 0.5) / fits.standard_error
    assert abs(z.mean()) < 4 / np.sqrt(4000)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / 4000)


def test_slope_refuses_what_has_no_logarithm():
    with pytest.raises(ValueError, match="y must be positive"):
        results.fit_slope(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, -2.0, 3.0]))
    with pytest.raises(ValueError, match="at least 3 points"):
        results.fit_slope(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0]))


def test_shapes_that_do_not_fit_are_refused_by_name(unchecked):
    with pytest.raises(ValueError, match=r"y must have the shape of x, \(3,\), got y=\(2,\)"):
        results.fit_slope(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="samples must have an axis of samples"):
        results.standard_error(jnp.float32(1.0))


def test_standard_error_is_scipys(dtype):
    samples = jax.random.normal(jax.random.key(0), (7, 3), dtype)
    assert_close(results.standard_error(samples), scipy.stats.sem(np.asarray(samples)))
    with pytest.raises(ValueError, match="at least two"):
        results.standard_error(samples[:1])


def test_status_tells_of_nan_but_keeps_what_was_said():
    bad, good = {"a": jnp.array([1.0, jnp.inf]), "n": jnp.arange(3)}, {"a": jnp.ones(2)}
    assert int(results.finite_status(good)) == Status.OK
    assert int(results.finite_status(bad)) == Status.NOT_FINITE
    assert int(results.finite_status(bad, jnp.int32(Status.ILL_CONDITIONED))) == Status.ILL_CONDITIONED


def test_first_condition_names_the_status():
    status = results.status_where(
        (jnp.array([True, False, False]), Status.INVALID_INPUT), (jnp.array([True, True, False]), Status.NOT_FINITE)
    )
    assert status.tolist() == [Status.INVALID_INPUT, Status.NOT_FINITE, Status.OK]


def test_residual_is_recomputed(dtype):
    matrix, x = jnp.diag(jnp.array([1.0, 2.0], dtype)), jnp.array([1.0, 1.0], dtype)
    assert results.relative_residual(matrix @ x, jnp.array([1.0, 2.0], dtype)) == 0
    assert_close(results.relative_residual(matrix @ x, jnp.array([1.0, 1.0], dtype)), jnp.asarray(0.5**0.5, dtype))


def test_every_status_is_explained():
    for status in Status:
        text = results.explain(status)
        assert text == results.explain(jnp.int32(status)) == f"{status.name}: {status.meaning}; {status.remedy}."


def test_statuses_of_an_array_are_counted():
    lines = results.explain(jnp.array([[0, 3], [0, 0]])).splitlines()
    assert [line.split(":")[0] for line in lines] == ["3 of 4 OK", "1 of 4 ILL_CONDITIONED"]


@pytest.mark.parametrize("status", [9, -2, 0.0, "OK", True, [0, 7]])
def test_what_is_no_status_is_named(status, unchecked):
    with pytest.raises(ValueError, match=r"status must hold codes of Status, got status="):
        results.explain(status)


def test_a_traced_status_is_named():
    with pytest.raises(ValueError, match=r"status must be known, not traced.*outside"):
        jax.jit(lambda s: jnp.float32(len(results.explain(s))))(jnp.int32(0))


def test_slopes_over_a_narrow_range_keep_their_digits():
    """Logarithms of close numbers cancel in float32: 1e-5 apart, the slope was off by 0.6 %, 20 times its error."""
    x = np.float32(1e6 * (1 + 1e-5 * np.arange(6)))
    y = np.float32(3 * (x.astype(float) / 1e6) ** -2)
    fit, oracle = results.fit_slope(x, y), scipy.stats.linregress(np.log(x.astype(float)), np.log(y.astype(float)))
    np.testing.assert_allclose(fit.slope, oracle.slope, rtol=1e-6)
    np.testing.assert_allclose(fit.standard_error, oracle.stderr, rtol=1e-3)
    assert all(np.isnan(v) for v in jax.jit(results.fit_slope)(jnp.array([1.0, -2.0, 4.0]), jnp.array([3.0, 1.0, 2.0])))


def test_slopes_hold_at_errors_whose_weights_overflow():
    """(y/error)² leaves float32 at 1e20."""
    x, y = jnp.array([1.0, 2.0, 4.0]), jnp.array([3.0, 12.0, 47.0])
    usual, tiny = (results.fit_slope(x, y, jnp.full(3, error)) for error in (2.0**-10, 2.0**-80))
    np.testing.assert_array_equal(tiny.slope, usual.slope)
    np.testing.assert_allclose(tiny.standard_error * 2.0**70, usual.standard_error, rtol=1e-6)


def test_standard_errors_hold_far_from_0_and_for_columns_of_any_size():
    """The rounded mean of 1e6 + i/16 spread the samples by 2 %; a column 1e60 times smaller than another had none."""
    samples = np.float32(1e6 + np.arange(8) / 16)
    np.testing.assert_allclose(results.standard_error(samples), scipy.stats.sem(samples.astype(float)), rtol=1e-6)
    both = results.standard_error(jnp.array([[1e30, 1e-30], [2e30, 2e-30], [3e30, 3e-30]]))
    np.testing.assert_allclose(both, np.array([1e30, 1e-30]) / 3**0.5, rtol=1e-6)


def test_conditions_are_truth_values():
    """An integer condition multiplied its status: 2 · NOT_FINITE was NOT_CONVERGED."""
    found = results.status_where((jnp.array([2, 0]), Status.NOT_FINITE))
    np.testing.assert_array_equal(found, [Status.NOT_FINITE, Status.OK])
    assert results.status_where((jnp.array(jnp.nan), Status.NOT_FINITE)) == Status.NOT_FINITE


@pytest.mark.parametrize("conditions", [(), (None,), ((True, 2),), ((None, Status.OK),)])
def test_what_is_no_condition_is_named(conditions, unchecked):
    with pytest.raises(ValueError, match=r"(conditions|where) must be "):
        results.status_where(*conditions)


@pytest.mark.parametrize("values", ["float32", {"a": "b"}, [1.0, object()]])
def test_what_has_no_values_has_no_status(values, unchecked):
    """A string was read as the name of a dtype, and so was finite."""
    with pytest.raises(ValueError, match="values must hold arrays or numbers, got "):
        results.finite_status(values)


def test_equal_sizes_have_no_slope():
    """The mean of three equal logarithms is rounded, which is no spread."""
    x, y = jnp.full(3, 200.0), jnp.array([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="x must hold two sizes"):
        results.fit_slope(x, y)
    assert np.isnan(jax.jit(results.fit_slope)(x, y).slope)
