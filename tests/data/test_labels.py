"""Label noise, one-hot targets and standardized columns, by counting and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_close

from jaxtheory import data

pytestmark = pytest.mark.smoke


@settings(max_examples=25, deadline=None)
@given(n=st.sampled_from([1, 40]), share=st.integers(0, 20), classes=st.sampled_from([2, 5]), seed=st.integers(0, 99))
def test_exactly_the_rounded_number_of_labels_becomes_another_class(n, share, classes, seed):
    y = jnp.arange(n, dtype=jnp.int32) % classes
    flipped = data.flip_labels(y, share / 20, jax.random.key(seed), classes=classes)
    assert int((flipped != y).sum()) == round(share / 20 * n)
    assert flipped.dtype == y.dtype
    assert bool(((flipped >= 0) & (flipped < classes)).all())


def test_other_classes_are_equally_likely(key):
    """χ² over 9 other classes and 9000 flips; a p-value under 1e-6 would refuse uniformity."""
    flipped = data.flip_labels(jnp.full(9000, 4), 1.0, key, classes=10)
    counts = np.bincount(np.asarray(flipped), minlength=10)
    assert counts[4] == 0
    assert scipy.stats.chisquare(np.delete(counts, 4)).pvalue > 1e-6


def test_flipped_places_are_equally_likely(key):
    """Over 3000 keys each of 10 places flips in 3/10 of the draws, within 5 standard errors."""
    y = jnp.zeros(10, jnp.int32)
    flipped = jax.vmap(lambda k: data.flip_labels(y, 0.3, k, classes=3))(jax.random.split(key, 3000))
    share = (np.asarray(flipped) != 0).mean(0)
    assert np.abs(share - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 3000)


def test_smaller_noise_is_contained_in_larger(key):
    y = jnp.arange(50) % 5
    small, large = (data.flip_labels(y, f, key, classes=5) for f in (0.2, 0.6))
    np.testing.assert_array_equal(jnp.where(small != y, small, large), large)


def test_fraction_may_be_traced_and_mapped(key):
    y = jnp.arange(40) % 4
    fractions = jnp.array([0.0, 0.25, 1.0, 1.5, jnp.nan])
    mapped = jax.jit(jax.vmap(lambda f: data.flip_labels(y, f, key, classes=4)))(fractions)
    for row, fraction in zip(mapped[:3], (0.0, 0.25, 1.0), strict=True):
        np.testing.assert_array_equal(row, data.flip_labels(y, fraction, key, classes=4))
    assert (mapped[3:] == -1).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_outside_the_unit_interval_is_refused(key, fraction):
    with pytest.raises(ValueError, match=r"fraction must lie in \[0.0, 1.0\], got fraction="):
        data.flip_labels(jnp.arange(3), fraction, key, classes=3)


def test_labels_out_of_range_are_refused_and_marked_inside_jit(key):
    y = jnp.array([0, 3, -1])
    with pytest.raises(ValueError, match=r"y must hold labels within 0..2, got y=labels -1..3"):
        data.flip_labels(y, 0.5, key, classes=3)
    with pytest.raises(ValueError, match=r"y must hold labels within 0\.\.2"):
        data.one_hot(y, 3)
    marked = jax.jit(lambda v: data.flip_labels(v, 0.0, key, classes=3))(y)
    assert marked.tolist() == [0, -1, -1]
    assert jnp.isnan(jax.jit(lambda v: data.one_hot(v, 3))(marked)).all(1).tolist() == [False, True, True]


def test_labels_are_integers(unchecked, key):
    y = jnp.array([0.0, 1.5])
    with pytest.raises(ValueError, match=r"y must be integers of shape .*; round or convert it by astype"):
        data.one_hot(y, 3)
    with pytest.raises(ValueError, match="y must be integers"):
        data.flip_labels(y, 0.5, key, classes=3)


@pytest.mark.parametrize("kind", ["uint8", "int8", "bool"])
def test_narrow_labels_do_not_wrap(kind, key, unchecked):
    """200 classes and their sums with a shift do not fit in a byte; −1 is no unsigned number."""
    classes, y = (2, np.ones(500, bool)) if kind == "bool" else (200, np.full(500, 120, kind))
    flipped = np.asarray(data.flip_labels(y, 1.0, key, classes=classes))
    np.testing.assert_array_equal(flipped, data.flip_labels(y.astype(np.int32), 1.0, key, classes=classes))
    assert not (flipped == y).any()
    assert (data.one_hot(y, 400).sum(1) == 1).all()
    marked = jax.jit(lambda v: data.flip_labels(v, 0.0, key, classes=2))(np.array([2, 0], np.uint8))
    assert marked.tolist() == [-1, 0]


@pytest.mark.slow
def test_standardized_columns_have_the_derivatives_of_differences(float64, key):
    """Also beside a constant column, whose result is 0 with derivative 0, and where the smallest value is tied."""
    x = jnp.concatenate([jax.random.normal(key, (6, 2)), jnp.full((6, 1), 3.0)], axis=1).at[1].set(jnp.zeros(3) + 3)
    x = x.at[2, 0].set(x[:, 0].min()).at[3, 0].set(x[:, 0].min())
    weights, step = jax.random.normal(jax.random.key(1), x.shape), jax.random.normal(jax.random.key(2), x.shape)
    step = step.at[:, 2].set(0.0)
    value = lambda t: (weights * data.standardize(x + t * step)).sum()  # noqa: E731
    h = 1e-4
    difference = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    np.testing.assert_allclose(jax.grad(value)(0.0), difference, rtol=1e-9)
    assert jnp.isfinite(jax.grad(lambda x: (weights * data.standardize(x)).sum())(x)).all()


def test_one_class_or_none_is_refused(key):
    with pytest.raises(ValueError, match="classes must be >= 2"):
        data.flip_labels(jnp.zeros(3, jnp.int32), 0.5, key, classes=1)
    with pytest.raises(ValueError, match="classes must be >= 1"):
        data.one_hot(jnp.zeros(3, jnp.int32), 0)


def test_one_hot_is_a_row_of_the_identity(dtype):
    y = jnp.array([[2, 0], [1, 1]])
    hot = data.one_hot(y, 3, dtype)
    assert hot.dtype == dtype
    np.testing.assert_array_equal(hot, np.eye(3)[np.asarray(y)])


def test_columns_far_from_0_and_columns_of_the_whole_range_are_standardized():
    """A division before the difference rounded 1e6 + i/16 to half a standard deviation."""
    x = np.float32(1e6 + np.arange(8) / 16)
    exact = (x.astype(float) - x.mean(dtype=float)) / x.astype(float).std()
    np.testing.assert_allclose(data.standardize(x)[:, 0], exact, rtol=1e-6)
    ends = jnp.array([[-3e38], [3e38]])
    np.testing.assert_allclose(data.standardize(ends)[:, 0], [-1, 1], rtol=1e-6)


def test_standardized_columns_are_those_of_numpy(dtype, key):
    x, reference = (3 + 5 * jax.random.normal(k, (30, 4), dtype) for k in jax.random.split(key))
    reference_np = np.asarray(reference)
    expected = (np.asarray(x) - reference_np.mean(0)) / reference_np.std(0)
    ours = data.standardize(x, reference)
    assert ours.dtype == dtype
    assert_close(ours, expected, condition=10)
    own = data.standardize(x)
    assert_close(own.std(0), np.ones(4, dtype))
    assert_close(own.mean(0) + 1, np.ones(4, dtype))


def test_constant_columns_stay_zero_though_their_mean_rounds(dtype):
    """The mean of many 0.1 is not 0.1 in floating point; the column is constant all the same."""
    x = jnp.stack([jnp.full(1001, 0.1, dtype), jnp.zeros(1001, dtype), jnp.arange(1001, dtype=dtype)], 1)
    out = data.standardize(x)
    assert not out[:, :2].any()
    assert not data.standardize(x + 1, x)[:, :2].any()
    assert jnp.isfinite(out).all()


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_standardize_does_not_know_the_unit(unit, key):
    """In float32, squares of 1e±30 are not representable."""
    x = jax.random.normal(key, (20, 3))
    assert_close(data.standardize(x * jnp.float32(unit)), data.standardize(x))


def test_standardize_finds_a_small_spread_on_a_large_mean(float64, key):
    """Condition number mean/spread = 1e6."""
    x = jax.random.normal(key, (50, 2), float64)
    assert_close(data.standardize(1e6 + x), data.standardize(x), condition=1e6)


def test_standardize_refuses_other_columns_and_keeps_nan_visible(unchecked):
    with pytest.raises(ValueError, match="reference must have rows like the 3 columns of x"):
        data.standardize(jnp.ones((2, 3)), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"x must be of shape \[n d\], got shape \(1, 2, 3\)"):
        data.standardize(jnp.ones((1, 2, 3)))
    out = data.standardize(jnp.array([[1.0, jnp.nan], [2.0, 1.0]]))
    assert jnp.isnan(out).all(0).tolist() == [False, True]
