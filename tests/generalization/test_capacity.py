"""VC dimension by hand, Rademacher complexity by enumeration, kl inverse by mpmath, Kendall's tau by SciPy."""

import itertools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from jaxtheory import generalization as gen


@pytest.mark.parametrize(
    ("sizes", "depth", "parameters", "r"),
    [
        ([2, 3, 1], 2, [9, 13], 1 * 3 + 2 * 1),
        ([5, 4, 4, 1], 3, [24, 44, 49], 1 * 4 + 2 * 4 + 3 * 1),
        ([10, 1], 1, [11], 1),
    ],
)
def test_vc_dimension_by_hand(sizes, depth, parameters, r):
    expected = depth + sum(parameters) * math.log2(4 * math.e * r * math.log2(2 * math.e * r))
    assert gen.vc_dimension(sizes) == pytest.approx(expected, rel=1e-14)


def test_growth_by_hand():
    """[2, 3, 3] at 50 points: 150 conditions on 9 parameters at level 1, 3 pairs on 21 parameters at level 2."""
    first = math.log(2) + 9 * math.log(2 * math.e * 50 * 3 * 1 / 9)
    second = math.log(2) + 21 * math.log(2 * math.e * 50 * 3 * 2 / 21)
    assert gen.log_growth([2, 3, 3], 50) == pytest.approx(first + second, rel=1e-14)
    assert gen.log_growth([2, 3, 2], 1) == pytest.approx((3 + 1) * math.log(2))


def test_rademacher_of_few_points_by_enumeration(float64):
    x = np.random.default_rng(0).normal(size=(8, 3))
    gram = x @ x.T
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    lengths = np.linalg.norm(signs @ x, axis=1)
    found = gen.rademacher(jnp.asarray(gram), 2.0, jax.random.key(0))
    assert float(found.value) == pytest.approx(2 / 8 * lengths.mean(), rel=1e-12)
    assert float(found.lower) <= float(found.value) <= float(found.upper)
    assert float(found.standard_error) == 0


@pytest.mark.slow
def test_rademacher_of_many_points_lies_in_its_interval():
    """Orthogonal points give the upper end exactly, one point repeated the lower one up to 1/n."""
    n = 200
    key = jax.random.key(1)
    orthogonal = gen.rademacher(jnp.eye(n), 1.0, key)
    assert float(orthogonal.value) == pytest.approx(1 / np.sqrt(n), rel=1e-5)
    repeated = gen.rademacher(jnp.ones((n, n)), 1.0, key)
    expected = np.sqrt(2 / (np.pi * n))  # E|Σσ|/n as n grows, within 1/(4n) of it
    assert abs(float(repeated.value) - expected) < 4 * float(repeated.standard_error) + expected / (4 * n)
    assert float(repeated.lower) <= float(repeated.value) <= float(repeated.upper)


@pytest.mark.parametrize(
    ("q", "c", "value"), [(0.0, 0.1, 0.0951625820), (0.02, 0.01, 0.0465159211), (0.1, 0.05, 0.2200786011)]
)
def test_kl_inverse_of_the_published_values(q, c, value, float64):
    assert float(gen.kl_inverse(q, c)) == pytest.approx(value, abs=1e-9)


@given(q=st.floats(0, 0.99), c=st.floats(1e-6, 5))
@settings(max_examples=30, deadline=None)
def test_kl_inverse_solves_its_equation(q, c):
    """The relative entropy at the answer is c, in 30 digits."""
    with jax.enable_x64(True):
        p = mpmath.mpf(float(gen.kl_inverse(q, c)))
    q = mpmath.mpf(q)
    terms = (q * mpmath.log(q / p) if q else 0) + (1 - q) * mpmath.log((1 - q) / (1 - p)) if p < 1 else mpmath.inf
    slope = (1 - q) / (1 - p) - q / p if p < 1 else mpmath.inf
    assert q <= p <= 1
    assert terms == mpmath.inf or abs(terms - c) < 1e-9 * max(1, slope)


def test_ntk_complexity_by_solving(float64):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(12, 20)), rng.normal(size=(12, 2))
    gram = x @ x.T
    expected = np.sqrt(2 * np.trace(y.T @ np.linalg.solve(gram, y)) / 12)
    assert float(gen.ntk_complexity(jnp.asarray(gram), jnp.asarray(y))) == pytest.approx(expected, rel=1e-10)


def test_kendall_is_scipys():
    """Without ties the two definitions agree."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 30))
    assert gen.kendall(a, b) == pytest.approx(kendalltau(a, b).statistic)


def test_kendall_takes_pairs_alone(unchecked):
    assert gen.kendall([1, 2, 3], [4, 5, 7]) == 1
    for gap in (np.arange(4.0), np.ones((3, 1))):
        with pytest.raises(ValueError, match=r"gap must have the shape \[n\] of measure, \(3,\)"):
            gen.kendall(np.arange(3.0), gap)


def test_rankings_of_what_has_no_order_of_its_own_are_refused(unchecked):
    """Masked entries are no numbers, an axis is named once, and differences may leave float64."""
    assert gen.kendall([-1.7e308, 1.7e308, 5e-324, 0.0], [1, 4, 3, 2]) == 1
    masked = np.ma.masked_array([1.0, 9.0, 3.0], [False, True, False])
    with pytest.raises(ValueError, match="measure must be numbers"):
        gen.kendall(masked, [1.0, 2.0, 3.0])
    square = np.ones((2, 2, 2))
    for call, message in (
        (lambda: gen.rank(square, square, ("width", "width")), "axes must name the 2 axes"),
        (lambda: gen.rank(square[0, 0], square[0, 0], ()), "measure must have an axis after the seeds"),
        (lambda: gen.rank(square[0], square[0], ("width",), seed=-1), "seed must be >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_granulated_ranking_unmasks_a_confounder():
    """A measure that follows only one of two knobs: τ along it is 1, along the other 0, and Ψ their mean."""
    one, two = np.arange(4.0)[None, :, None], np.arange(5.0)[None, None, :]
    gap = one + 0.1 * two + np.zeros((6, 1, 1))
    found = gen.rank(one + 0 * two + np.zeros((6, 1, 1)), gap, ("one", "two"))
    assert found.along == {"one": 1.0, "two": 0.0}
    assert found.granulated == 0.5
    assert found.interval == (0.5, 0.5)
    assert found.tau > 0.7


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: gen.vc_dimension([3]), "layer_sizes"),
        (lambda: gen.vc_dimension([3, 0, 1]), "layer_sizes"),
        (lambda: gen.log_growth([3, 4, 1], 5), "layer_sizes"),
        (lambda: gen.rademacher(jnp.eye(2), -1.0, jax.random.key(0)), "radius"),
        (lambda: gen.rademacher(-jnp.eye(2), 1.0, jax.random.key(0)), "gram"),
        (lambda: gen.rademacher([[1.0, 2.0], [2.0, 1.0]], 1.0, jax.random.key(0)), "gram"),
        (lambda: gen.kl_inverse(1.5, 0.1), "q"),
        (lambda: gen.kl_inverse(0.5, -0.1), "c"),
        (lambda: gen.ntk_complexity(jnp.ones((2, 2)) - 2 * jnp.eye(2), jnp.ones(2)), "gram"),
        (lambda: gen.rank(np.ones((2, 3)), np.ones((2, 4)), ("a",)), "gap"),
        (lambda: gen.rank(np.ones((2, 3)), np.ones((2, 3)), ("a", "b")), "axes"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=f"^{named} must"):
        call()
