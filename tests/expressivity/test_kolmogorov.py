"""Kolmogorov superposition: the inner function against rational recursions, one outer step against rational sums."""

import bisect
import itertools
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import tolerance

from jaxtheory.expressivity import kolmogorov


def beta(r, dim):
    return (dim**r - 1) // (dim - 1)


def koppen(d, k, dim, base):
    """The recursion as it is printed, on Fractions."""
    if d >= 1:
        return 1 + koppen(d - 1, k, dim, base)
    if k == 1:
        return d
    digit = int(d * base**k) % base
    unit = Fraction(1, base**k)
    if digit < base - 1:
        return koppen(d - digit * unit, k - 1, dim, base) + digit * Fraction(1, base ** beta(k, dim))
    return (koppen(d - unit, k, dim, base) + koppen(d + unit, k - 1, dim, base)) / 2


def smooth(x):
    return np.exp(-3 * ((x - 0.4) ** 2).sum(-1)) * np.cos(4 * x[..., 0] + 2 * x[..., 1] ** 2)


def grid(step, count, dim=2):
    axis = np.linspace(0, step.reach, count)
    return np.stack(np.meshgrid(*[axis] * dim), -1).reshape(-1, dim)


@pytest.mark.smoke
def test_published_values():
    values = kolmogorov.inner(["0.5", "0.58", "0.19", "0.59", "0.599"], dim=2)
    assert values.tolist() == [0.5, 0.508, 0.154, 0.554, 0.5770004]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**4), st.sampled_from([2, 3]))
def test_inner_is_the_printed_recursion(index, dim):
    d = Fraction(index, 10**4)
    table = kolmogorov.inner_table(dim, 10, 4)
    assert Fraction(int(table.numerators[index]), table.denominator) == koppen(d, 4, dim, 10)
    assert kolmogorov.inner(d, dim=dim) == float(koppen(d, 4, dim, 10))


@pytest.mark.parametrize(("dim", "base", "digits"), [(2, 10, 5), (2, 6, 6), (3, 8, 4), (4, 10, 3)])
def test_inner_increases_by_at_least_its_law(dim, base, digits):
    """The smallest increment is exactly γ^(−β(k)), far below float64 for k = 5."""
    table = kolmogorov.inner_table(dim, base, digits)
    assert min(np.diff(table.numerators)) * base ** beta(digits, dim) == table.denominator


def test_sprechers_function_first_falls_at_five_digits():
    falls = [int((np.diff(kolmogorov.inner_table(2, 10, k, "sprecher").numerators) <= 0).sum()) for k in range(1, 6)]
    assert falls[:4] == [0, 0, 0, 0]
    assert falls[4] > 0


def test_inner_continues_beyond_one_and_reads_floats_on_the_grid():
    inside = kolmogorov.inner(np.array([0.25, 0.5]), dim=2, digits=2)
    np.testing.assert_allclose(kolmogorov.inner(np.array([1.25, 1.5]), dim=2, digits=2), 1 + inside, rtol=1e-15)


@pytest.mark.parametrize("digits", [1, 2])
def test_one_step_is_its_definition_in_rationals(digits):
    """Φ_q(Σ λ_p ψ(x_p + qa)) summed by Fractions and bisection, with λ to more places."""
    dim, base, terms = 2, 6, 5
    step = kolmogorov.superpose(smooth, dim=dim, base=base, terms=terms, digits=digits)
    fine, rng = digits + 2, np.random.default_rng(0)
    lam = [Fraction(1), sum(Fraction(1, base ** beta(r, dim)) for r in range(1, 7))]
    rate = base ** beta(digits + 1, dim)
    plateau = (base - 2) * sum(Fraction(1, base ** beta(r, dim)) for r in range(digits + 1, 7)) * sum(lam)
    shift = lambda q, k: q * sum(Fraction(1, base**r) for r in range(2, k + 1))  # noqa: E731
    index = rng.integers(0, int(step.reach * base**fine), (40, dim))
    expected, ramps = np.zeros(len(index)), []
    for q in range(terms):
        cache = [koppen(Fraction(j, base**digits) + shift(q, digits), digits, dim, base) for j in range(base**digits)]
        corners = sorted(
            (cache[i] + lam[1] * cache[j], i, j) for i in range(base**digits) for j in range(base**digits)
        )  # fmt: skip
        starts = [corner[0] for corner in corners]
        ramp = min(Fraction(1, rate), min((b - a - plateau) / 2 for a, b in itertools.pairwise(starts)))
        ramps.append(ramp)
        for row, (i, j) in enumerate(index):
            y = koppen(Fraction(int(i), base**fine) + shift(q, fine), fine, dim, base)
            y += lam[1] * koppen(Fraction(int(j), base**fine) + shift(q, fine), fine, dim, base)
            place = bisect.bisect_right(starts, y + ramp) - 1
            if place >= 0:
                u = (y - starts[place]) / ramp + 1
                theta = min(max(u, 0), 1) - min(max(u - 1 - plateau / ramp, 0), 1)
                corner = np.array(corners[place][1:]) / base**digits
                expected[row] += float(theta) * smooth(corner) / terms
    got = kolmogorov.evaluate(step, jnp.asarray((index + 0.5) / base**fine, jnp.float32))
    np.testing.assert_allclose(got, expected, atol=20 * tolerance("float32"))


@pytest.mark.parametrize(("base", "terms", "digits"), [(10, 5, 2), (22, 21, 1)])
def test_one_step_errs_within_its_bound(base, terms, digits):
    step = kolmogorov.superpose(smooth, dim=2, base=base, terms=terms, digits=digits)
    x = grid(step, 151)
    truth = smooth(x)
    error = np.abs(np.asarray(kolmogorov.evaluate(step, jnp.asarray(x, jnp.float32))) - truth).max()
    oscillation = 2 * float(base) ** -digits * np.abs(np.gradient(truth.reshape(151, 151))).max() * 151
    bound = kolmogorov.step_bound(dim=2, terms=terms, norm=np.abs(truth).max(), oscillation=oscillation)
    assert error <= bound
    assert error >= 0.5 * 2 / terms  # some point lies in two gaps: this is one step, not interpolation


@pytest.mark.parametrize(("dim", "base", "digits"), [(2, 8, 2), (3, 8, 1)])
@pytest.mark.first_case
def test_every_point_lies_in_all_cubes_but_n(dim, base, digits):
    """For f = 1 the sum counts plateaus: at least m + 1 − n of them everywhere, all of them somewhere."""
    terms = 2 * dim + 1
    step = kolmogorov.superpose(lambda x: np.ones(len(x)), dim=dim, base=base, digits=digits)
    x = np.random.default_rng(1).uniform(0, step.reach, (5000, dim))
    count = terms * np.asarray(kolmogorov.evaluate(step, jnp.asarray(x, jnp.float32)))
    assert count.min() >= terms - dim - 1e-3
    assert count.max() <= terms + 1e-3
    assert (count > terms - 1e-3).any()


def test_inner_sums_are_the_coordinates(float64):
    step = kolmogorov.superpose(smooth, dim=2, base=10, digits=2)
    x = np.array([[0.58, 0.19]])
    sums = kolmogorov.inner_sums(step, jnp.asarray(x))[:, 0]
    assert sums[0] == pytest.approx(0.508 + 0.1010001 * 0.154, abs=1e-12)
    shifted = [kolmogorov.inner(Fraction(str(v)) + Fraction("0.0111"), dim=2, digits=4) for v in (0.58, 0.19)]
    assert sums[1] == pytest.approx(shifted[0] + 0.1010001 * shifted[1], abs=1e-7)


def flat(x):
    return np.ones(len(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kolmogorov.inner("0.5", dim=1), "dim must be >= 2"),
        (lambda: kolmogorov.inner("0.123", dim=2, digits=2), "x must have at most 2"),
        (lambda: kolmogorov.inner("0.1234567", dim=2), "digits must be <= 6 in base 10"),
        (lambda: kolmogorov.inner(Fraction(1, 3), dim=2), "digits must be <= 6"),
        (lambda: kolmogorov.inner(np.array([0.5]), dim=2), "digits must be given for floats"),
        (lambda: kolmogorov.inner(np.array([0.123]), dim=2, digits=2), "x must lie on the grid of 100 cells"),
        (lambda: kolmogorov.superpose(flat, dim=2, terms=4), "terms must be >= 2 dim"),
        (lambda: kolmogorov.superpose(flat, dim=2, base=5), "base must be >= terms"),
        (lambda: kolmogorov.superpose(flat, dim=3, base=10, digits=3), "digits must give at most"),
        (lambda: kolmogorov.superpose(lambda x: x, dim=2, digits=1), "f must return shape"),
        (lambda: kolmogorov.evaluate(kolmogorov.superpose(flat, dim=2, digits=1), jnp.ones((1, 2))), "x must lie in"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
