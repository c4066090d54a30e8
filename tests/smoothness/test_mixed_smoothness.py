"""Sparse grids, hyperbolic crosses and tensor wavelets against published sizes, brute force and closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.results import fit_slope
from jaxtheory.smoothness import hyperbolic_cross, mixed, sparse_grid, wavelets


@pytest.mark.smoke
def test_sizes_are_the_published_ones():
    """Bungartz and Griebel (2004), section 3.2; Dung, Temlyakov, Ullrich (2018), section 2.3."""
    assert [sparse_grid.size(n, 2) for n in range(1, 6)] == [1, 5, 17, 49, 129]
    assert [sparse_grid.size(n, 3) for n in range(1, 6)] == [1, 7, 31, 111, 351]
    assert [hyperbolic_cross.size(n, 2) for n in (10, 100, 1000)] == [27, 482, 7069]
    assert [hyperbolic_cross.size(n, 3) for n in (10, 100, 1000)] == [53, 1471, 29425]


@pytest.mark.parametrize(("level", "dim"), [(4, 1), (4, 2), (3, 4), (3, 10)])
def test_points_are_distinct_and_as_many_as_the_size(level, dim):
    points = sparse_grid.points(level, dim)
    assert len(np.unique(points, axis=0)) == len(points) == sparse_grid.size(level, dim)
    exponents = np.log2(1 / (points[:, :, None] * 2.0 ** np.arange(1, 8) % 2 == 1).argmax(axis=2).clip(1))
    assert exponents.shape == points.shape
    levels = (points[:, :, None] * 2.0 ** np.arange(1, 8) % 2 == 1).argmax(axis=2)
    assert (levels.sum(axis=1) < level).all()


@pytest.mark.parametrize(("level", "dim"), [(5, 1), (4, 3), (3, 10)])
def test_surpluses_of_parabolas_are_powers_of_four(level, dim, float64):
    """4x(1 − x) exceeds the mean of its neighbours at distance h by 4h²: the surplus is 4^{−|j|}."""
    g = sparse_grid.interpolate(lambda x: jnp.prod(4 * x * (1 - x), axis=1), level, dim, dtype=jnp.float64)
    levels, offsets = sparse_grid.blocks(level, dim)
    np.testing.assert_allclose(g.surpluses, np.repeat(4.0 ** -levels.sum(axis=1), np.diff(offsets)), rtol=1e-12)


def test_the_interpolant_interpolates_and_is_a_sum_of_hats(float64):
    rng = np.random.default_rng(0)
    points = sparse_grid.points(4, 3)
    values = rng.normal(size=len(points))
    g = sparse_grid.interpolate(lambda x: jnp.asarray(values), 4, 3, dtype=jnp.float64)
    np.testing.assert_allclose(sparse_grid.evaluate(g, jnp.asarray(points)), values, atol=1e-12)
    x = rng.uniform(size=(20, 3))
    scale = 2.0 ** (np.repeat(g.levels, np.diff(np.append(g.offsets, len(values))), axis=0) + 1)
    hats = np.maximum(0, 1 - np.abs(x[:, None] - points[None]) * scale[None]).prod(axis=2)
    np.testing.assert_allclose(sparse_grid.evaluate(g, jnp.asarray(x)), hats @ np.asarray(g.surpluses), atol=1e-12)


def test_interpolation_error_of_parabolas_is_within_its_series(float64):
    """Smolyak's remainder: what the levels beyond could add, Σ_{k ≥ n} C(k + d − 1, d − 1) 4^{−k}."""
    f = lambda x: jnp.prod(4 * x * (1 - x), axis=1)  # noqa: E731
    x = jnp.asarray(np.random.default_rng(1).uniform(size=(400, 4)))
    for level in (3, 5):
        g = sparse_grid.interpolate(f, level, 4, dtype=jnp.float64)
        bound = sum(math.comb(k + 3, 3) * 4.0**-k for k in range(level, 200))
        error = jnp.abs(sparse_grid.evaluate(g, x) - f(x)).max()
        assert bound / 20 < error < bound


@pytest.mark.parametrize(("budget", "dim"), [(7, 1), (12, 2), (9, 4)])
def test_cross_indices_are_those_of_a_search(budget, dim):
    wanted = [k for k in itertools.product(range(1, budget + 1), repeat=dim) if math.prod(k) <= budget]
    assert hyperbolic_cross.indices(budget, dim).tolist() == [list(k) for k in wanted]
    assert hyperbolic_cross.size(budget, dim) == len(wanted)


def test_cross_projection_errors_are_those_of_a_sum():
    energies = np.arange(1.0, 31.0) ** -3
    kept = hyperbolic_cross.indices(10, 3)
    expected = energies.sum() ** 3 - energies[kept - 1].prod(axis=1).sum()
    np.testing.assert_allclose(hyperbolic_cross.product_error(energies, 10, 3), math.sqrt(expected), rtol=1e-12)


def test_fourier_projection_keeps_the_cross_and_nothing_else(float64):
    t = jnp.arange(16) / 16
    wave = lambda a, b: jnp.cos(2 * jnp.pi * (a * t[:, None] + b * t[None, :]))  # noqa: E731
    inside, outside = wave(3, -1) + wave(0, 4) + wave(2, 2), wave(3, 2) + wave(5, 0)
    projected = hyperbolic_cross.project(inside + outside, 4)
    np.testing.assert_allclose(projected.samples, inside, atol=1e-12)
    # both axes and the signs: 1 + 2·2·4 on the axes, 4 · 8 products up to 4 off them
    assert projected.terms == 1 + 16 + 4 * hyperbolic_cross.size(4, 2)


def test_cross_errors_are_those_of_the_tensor_transform(float64):
    """A product function on the torus, transformed as an array, against convolutions of 1-D energies."""
    n = 64
    t = jnp.arange(n) / n
    f = jnp.abs(jnp.sin(jnp.pi * (t - 0.3))) - 2 / jnp.pi
    c = wavelets.dwt(f / math.sqrt(n), "db2")
    energies = np.array([float((d**2).sum()) for d in c.details])
    table = np.asarray(wavelets.tensor_dwt(f[:, None] * f[None, :] / n, "db2"))[1:, 1:] ** 2
    levels = np.floor(np.log2(np.arange(1, n))).astype(int)
    total, largest = levels[:, None] + levels[None, :], np.maximum(levels[:, None], levels[None, :])
    cross, full = mixed.cross_errors(energies, 5, 2), mixed.isotropic_errors(energies, 5, 2)
    for i in range(5):
        np.testing.assert_allclose(cross.errors[i], np.sqrt(table[total > i].sum()), rtol=1e-9)
        np.testing.assert_allclose(full.errors[i], np.sqrt(table[largest > i].sum()), rtol=1e-9)
        assert cross.terms[i] == (total <= i).sum()
        assert full.terms[i] == (largest <= i).sum()


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_error_against_effective_terms_has_exponent_s(dim):
    """s = 1, u = 1/2: N^{−s} (log N)^{(d−1)(s+u)}. Without the logs the exponent of d = 5 is off by a fifth."""
    energies = 4.0 ** -np.arange(60)
    terms, errors = (part[30:] for part in mixed.cross_errors(energies, 45, dim))
    fit = lambda x: float(fit_slope(jnp.asarray(x), jnp.asarray(errors)).slope)  # noqa: E731
    assert abs(fit(mixed.effective_terms(terms, dim, u=0.5)) + 1) < 0.06
    assert dim < 5 or fit(terms) > -0.85


@pytest.mark.parametrize("kind", ["gaussian", "spike+dense"])
def test_norms_and_samples_of_the_mixed_ball(kind, key, float64):
    s, p, q, levels, dim = 1.0, 1.0, 2.0, 3, 10
    values = mixed.sample(key, s, p, q, levels, dim, kind=kind, dtype=jnp.float64)
    assert len(values) == sparse_grid.size(levels, dim)
    table, offsets = sparse_grid.blocks(levels, dim)
    sums = [np.abs(values[a:b]).sum() for a, b in itertools.pairwise(offsets)]
    by_hand = math.sqrt(sum((2.0 ** (j.sum() * (s - 0.5)) * v) ** 2 for j, v in zip(table, sums, strict=True)))
    np.testing.assert_allclose([by_hand, mixed.norm(values, s, p, q, levels=levels, dim=dim)], 1.0, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparse_grid.size(-1, 2), "level must be >= 0"),
        (lambda: sparse_grid.interpolate(lambda x: x, 2, 2), "f must return one value"),
        (lambda: hyperbolic_cross.indices(0, 2), "budget must be >= 1"),
        (lambda: hyperbolic_cross.size(3, 0), "dim must be >= 1"),
        (lambda: hyperbolic_cross.product_error(np.ones(3), 5, 2), "energies must number"),
        (lambda: mixed.norm(jnp.ones(4), 1.0, 1.0, 1.0, levels=2, dim=2), "values must number 5"),
        (lambda: mixed.sample(jax.random.key(0), 1.0, -1.0, 1.0, 2, 2), "p must lie in"),
        (lambda: mixed.cross_errors(np.ones(3), 3, 2), "levels must lie in"),
        (lambda: mixed.effective_terms(np.ones(2), 2), "terms must be > 1"),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
