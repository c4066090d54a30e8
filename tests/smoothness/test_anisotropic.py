"""The anisotropic norm against the norm on a line, a loop in NumPy, and functions of one variable."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from jaxtheory.smoothness import adaptive_grid, anisotropic, besov, bspline
from jaxtheory.smoothness.anisotropic import modulus_norm


def by_loops(x, s, p, q, periodic):
    """The definition, with np.diff over strided slices for each step."""

    def size(values):
        return np.abs(values).max() if math.isinf(p) else (np.sum(np.abs(values) ** p) / x.size) ** (1 / p)

    total = size(x)
    for axis, each in enumerate(s):
        order, n = math.floor(each) + 1, x.shape[axis]
        lines = np.moveaxis(x, axis, 0)
        norms = []
        for h in range(1, (n - 1) // order + 1):
            moved = lines
            for _ in range(order):
                moved = np.roll(moved, -h, axis=0) - moved if periodic else moved[h:] - moved[:-h]
            norms.append(size(moved))
        best = np.maximum.accumulate(norms)
        steps = [2**j for j in range(int(math.log2(len(best))) + 1)]
        terms = np.array([(n / h) ** each * best[h - 1] for h in steps])
        total += terms.max() if math.isinf(q) else np.sum(terms**q) ** (1 / q)
    return total


@pytest.mark.parametrize(
    ("shape", "s", "p", "q", "periodic"),
    [
        ((8, 16), (0.5, 1.5), 1.0, 2.0, False),
        pytest.param((8, 4, 8), (1.0, 0.3, 2.2), math.inf, math.inf, True, marks=pytest.mark.slow),
    ],
)
def test_the_norm_is_its_definition(shape, s, p, q, periodic, float64):
    x = np.random.default_rng(0).normal(size=shape)
    found = modulus_norm(jnp.asarray(x), s, p, q, periodic=periodic)
    np.testing.assert_allclose(found, by_loops(x, s, p, q, periodic), rtol=1e-12)


@pytest.mark.slow
def test_on_a_line_and_for_functions_of_one_variable_it_is_the_norm_on_the_line():
    """A function of the second variable alone has no moduli along the first, however smooth that is asked to be."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=16), jnp.float32)
    line = besov.modulus_norm(x, 0.7, 1.5, 2.0)
    np.testing.assert_allclose(modulus_norm(x, (0.7,), 1.5, 2.0), line, rtol=1e-6)
    plane = jnp.broadcast_to(x[None, :], (8, 16))
    np.testing.assert_allclose(modulus_norm(plane, (3.5, 0.7), 1.5, 2.0), line, rtol=1e-5)


def test_axes_are_resolved_alike():
    """2^{−l_i s_i} is within a factor 2^{s_i} of 2^{−j min s}, and there are about 2^{j min s/s̃} cells."""
    s = (0.7, 1.0, 3.5)
    vectors = anisotropic.level_vectors(s, 30)
    exact = np.arange(30)[:, None] * 0.7 / np.array(s)[None, :]
    assert (vectors <= exact + 1e-9).all()
    assert (vectors > exact - 1).all()
    assert np.abs(vectors.sum(axis=1) - np.arange(30) * 0.7 * sum(1 / each for each in s)).max() < 3


@pytest.mark.parametrize(("s", "budget"), [((1.0,), 3.5), ((0.7, 1.0, 3.5), 4.2), ((1.0, 1.0), 0.0), ((0.1, 0.3), 1.2)])
def test_the_hyperbolic_set_holds_all_vectors_within_the_budget(s, budget):
    """All of a box by enumeration; sums that are the budget but for rounding are within it."""
    box = itertools.product(*(range(int(budget / each) + 2) for each in s))
    within = {j for j in box if sum(a * b for a, b in zip(s, j, strict=True)) <= budget + 1e-9}
    found = [tuple(row) for row in anisotropic.hyperbolic_set(s, budget).tolist()]
    assert set(found) == within
    assert len(found) == len(within)
    sizes = np.array(found) @ np.array(s)
    assert (np.diff(sizes) >= -1e-12).all()


def hats(level, x):
    """The sum of all functions of a level on a line."""
    if level == 0:
        return np.ones_like(x)
    return np.abs(2 * x - 1) if level == 1 else 1 - np.abs(2 * (2.0 ** (level - 1) * x % 1) - 1)


def test_interpolation_on_hyperbolic_sets_leaves_the_blocks_outside(float64):
    """Products of Takagi functions Σ_l 2^(−s_i l) hats_l: the interpolant is the sum of the blocks within the set."""
    s, budget, finest = (0.5, 1.5, 2.0), 3.0, 9

    def f(x):
        lines = [sum(2.0 ** (-each * j) * hats(j, x[:, i]) for j in range(finest)) for i, each in enumerate(s)]
        return jnp.asarray(np.prod(lines, axis=0))

    levels = anisotropic.hyperbolic_set(s, budget)
    grid = adaptive_grid.interpolate_on(lambda x: f(np.asarray(x)), levels, dtype=jnp.float64)
    assert int(grid.status) == 0
    x = np.random.default_rng(0).random((40, 3))
    blocks = [
        np.prod([2.0 ** (-s[i] * j) * hats(j, x[:, i]) for i, j in enumerate(row)], axis=0) for row in levels.tolist()
    ]
    np.testing.assert_allclose(adaptive_grid.evaluate(grid, jnp.asarray(x)), sum(blocks), rtol=1e-12)
    box = itertools.product(range(finest), repeat=3)
    tail = sum(2.0 ** -np.dot(s, j) for j in box) - (2.0 ** -(levels @ np.array(s))).sum()
    assert np.abs(adaptive_grid.evaluate(grid, jnp.asarray(x)) - f(x)).max() <= tail


@pytest.mark.parametrize(
    ("s", "ties"), [((0.5,), 1), ((0.5, 1.5, 2.0), 1), ((0.5, 0.8, 0.8, 1.1), 1), ((0.5, 0.5, 2.0), 2)]
)
def test_the_exponent_of_hyperbolic_sets_is_that_of_the_roughest_axis(s, ties):
    """N ∝ 2^(n/min s) n^(m−1) terms leave blocks of size 2^(−n) n^(m−1): local exponents tend to these for every d.

    What is left falls at least as 1/(n + c), so that it shrinks by more than .7 from n = 8 to n = 32.
    """
    whole = math.prod(1 / (1 - 2.0**-each) for each in s)

    def exponents(first):
        terms, left = [], []
        for budget in (first, first + 2):
            levels = anisotropic.hyperbolic_set(s, budget)
            terms.append((2.0 ** levels.sum(axis=1)).sum() / budget ** (ties - 1))
            left.append((whole - math.fsum(2.0 ** -(levels @ np.array(s)))) / budget ** (ties - 1))
        return np.log2([terms[1] / terms[0], left[1] / left[0]]) / 2

    early, late = (np.abs(exponents(first) - [1 / min(s), -1]) for first in (8.0, 32.0))
    assert (late < 0.7 * early + 1e-5).all(), (early, late)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spike+dense", "weak-lp", "gaussian"])
def test_samples_lie_on_the_sphere_and_are_their_splines(kind, float64):
    """The norm by hand, and values by SciPy's B-splines; the network is within its accuracy."""
    s, p, q, levels = (1.0, 2.5), 1.5, 3.0, 4
    terms = anisotropic.sample(jax.random.key(1), s, p, q, levels, kind, order=2, dtype=jnp.float64)
    vectors = [(0, 0), (1, 0), (2, 0), (3, 1)]
    counts = np.cumsum([(2**a + 2) * (2**b + 2) for a, b in vectors])
    blocks = np.split(np.abs(terms.weights), counts[:-1])
    parts = [2.0 ** (j - (a + b) / p) * (c**p).sum() ** (1 / p) for j, ((a, b), c) in
             enumerate(zip(vectors, blocks, strict=True))]  # fmt: skip
    np.testing.assert_allclose((np.array(parts) ** q).sum() ** (1 / q), 1.0, rtol=1e-12)
    np.testing.assert_allclose(anisotropic.norm(terms.weights, s, p, q, levels=4, order=2), 1.0, rtol=1e-12)
    x = np.random.default_rng(0).uniform(size=(20, 2))
    one = BSpline.basis_element(np.arange(4.0), extrapolate=False)
    local = np.asarray(terms.scales)[None] * x[:, None, :] - np.asarray(terms.shifts)[None]
    expected = np.nan_to_num(one(local)).prod(axis=2) @ np.asarray(terms.weights)
    np.testing.assert_allclose(anisotropic.evaluate(terms, jnp.asarray(x), order=2), expected, atol=1e-12)
    few = anisotropic.Terms(*(part[:40] for part in terms))
    net = bspline.evaluate_sum(bspline.relu_sum(*few, 2, 1e-4), jnp.asarray(x))
    error = np.abs(net - anisotropic.evaluate(few, jnp.asarray(x), order=2)).max()
    assert error <= 1e-4 * np.abs(few.weights).sum()


@pytest.mark.slow
def test_sums_of_splines_are_smooth_along_their_own_axes():
    """Both norms stay together from 4 to 6 steps; with the axes exchanged, the norm by moduli doubles in each."""
    grid = np.stack(np.meshgrid(np.arange(64) / 64, np.arange(32) / 32, indexing="ij"), axis=-1).reshape(-1, 2)
    found = []
    for levels in (4, 6):
        terms = anisotropic.sample(jax.random.key(3), (1.0, 2.0), 1.0, math.inf, levels)
        values = anisotropic.evaluate(terms, jnp.asarray(grid, jnp.float32)).reshape(64, 32)
        found.append([float(modulus_norm(values, s, 1.0, math.inf)) for s in ((1.0, 2.0), (2.0, 1.0))])
    (own, other), (last, exchanged) = found
    assert 0.5 < last / own < 2
    assert exchanged / other > 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modulus_norm(jnp.ones((4, 4)), (1.0,), 2.0, 2.0), "s must have one"),
        (lambda: modulus_norm(jnp.ones((4, 4)), (1.0, 0.0), 2.0, 2.0), "s must be > 0"),
        (lambda: modulus_norm(jnp.ones((4, 6)), (0.5, 0.5), 2.0, 2.0), "x must have a power"),
        (lambda: modulus_norm(jnp.ones((4, 2)), (0.5, 1.5), 2.0, 2.0), "x must have more"),
        (lambda: modulus_norm(jnp.ones((4, 4)), (0.5, 0.5), 0.0, 2.0), "p must lie"),
        (lambda: anisotropic.level_vectors((1.0, -1.0), 2), "s must be > 0"),
        (lambda: anisotropic.level_vectors((1.0,), 0), "levels must be >= 1"),
        (lambda: anisotropic.sample(jax.random.key(0), (1.0,), 1.0, 1.0, 40), "levels must leave"),
        (lambda: anisotropic.sample(jax.random.key(0), (1.0,), 1.0, 1.0, 2, order=0), "order must be"),
        (lambda: anisotropic.norm(jnp.ones(3), (1.0,), 1.0, 1.0, levels=1), "weights must number"),
        (
            lambda: anisotropic.evaluate(anisotropic.Terms(jnp.ones(1), *[jnp.ones((1, 1))] * 2), jnp.ones((1, 2))),
            "terms",
        ),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
