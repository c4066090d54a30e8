"""Dimension-adaptive grids: interpolation, exactness, which variables they find, and the regular sparse grid."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.results import Status
from jaxtheory.smoothness import adaptive_grid, boundary_grid

RNG = np.random.default_rng(0)


def on_a_line(level, values, x):
    """Piecewise linear interpolation at the nodes of all levels up to `level`."""
    nodes = np.array([0.5]) if level == 0 else np.linspace(0, 1, 2**level + 1)
    return np.interp(x, nodes, values(nodes))


@pytest.mark.parametrize("level", [0, 1, 2, 4])
def test_on_a_line_it_is_piecewise_linear_interpolation(level, float64):
    x = RNG.random((30, 1))
    found = adaptive_grid.interpolate(lambda x: jnp.exp(3 * x[:, 0]), 1, 1e9, start=level, dtype=jnp.float64)
    assert len(found.surpluses) == (1 if level == 0 else 2**level + 1)
    expected = on_a_line(level, lambda t: np.exp(3 * t), x[:, 0])
    np.testing.assert_allclose(adaptive_grid.evaluate(found, jnp.asarray(x)), expected, rtol=1e-12)


@pytest.mark.slow
def test_it_interpolates_at_its_points_and_no_vector_lacks_a_smaller_one(float64):
    def rough(x):
        return jnp.sin(7 * x[:, 0] + 3 * x[:, 1] ** 2) + jnp.abs(x[:, 2] - 0.3) * x[:, 0]

    found = adaptive_grid.interpolate(rough, 3, 0.05, dtype=jnp.float64)
    grid = jnp.asarray(adaptive_grid.points(found))
    assert int(found.status) == Status.OK
    assert float(found.error) <= 0.05
    assert len(np.unique(grid, axis=0)) == len(grid) == len(found.surpluses)
    np.testing.assert_allclose(adaptive_grid.evaluate(found, grid), rough(grid), atol=1e-12)
    held = set(map(tuple, found.levels.tolist()))
    below = [(*v[:i], v[i] - 1, *v[i + 1 :]) for v in held for i in range(3) if v[i]]
    assert held.issuperset(below)


def test_a_sum_of_functions_of_one_variable_needs_lines_alone(float64):
    """In ten dimensions: beyond the first level no vector has two entries, and the error is that of the lines."""
    weights = np.array([2.0, 1.0, 0.5, *[0.0] * 7])

    def additive(x):
        return jnp.matmul(jnp.exp(x), weights, precision="highest")

    found = adaptive_grid.interpolate(additive, 10, 1e-3, dtype=jnp.float64)
    mixed = (found.levels > 0).sum(axis=1) > 1
    assert np.all(found.levels[mixed].max(axis=1) <= 1)
    ends = np.append(found.offsets, len(found.surpluses))
    largest = [np.abs(found.surpluses[a:b]).max() for a, b in itertools.pairwise(ends)]
    assert np.max(np.array(largest)[mixed]) < 1e-12
    deepest = np.array([found.levels[:, axis].max() for axis in range(10)])
    assert np.all(np.diff(deepest[:3]) <= 0)
    assert np.all(deepest[3:] == 1)
    x = RNG.random((200, 10))
    lines = sum(
        w * on_a_line(level, np.exp, x[:, i]) for i, (w, level) in enumerate(zip(weights, deepest, strict=True))
    )
    np.testing.assert_allclose(adaptive_grid.evaluate(found, jnp.asarray(x)), lines, atol=1e-12)
    assert np.abs(lines - additive(x)).max() < 1e-3
    assert len(found.surpluses) < 500 < boundary_grid.size(0, 10)


@pytest.mark.slow
def test_it_needs_fewer_points_than_the_regular_grid_where_variables_differ(float64):
    """One rough and three smooth variables: a smaller error than the sparse grid of level 4, at fewer points."""

    def f(x):
        return jnp.exp(-20 * (x[:, 0] - 0.4) ** 2) * (1 + 0.1 * x[:, 1] * x[:, 2]) + 0.05 * x[:, 3]

    x = jnp.asarray(RNG.random((300, 4)))
    regular = boundary_grid.interpolate(f, 4, 4, dtype=jnp.float64)
    adaptive = adaptive_grid.interpolate(f, 4, 1e-2, dtype=jnp.float64)
    errors = [float(jnp.abs(g(x) - f(x)).max()) for g in (
        lambda x: boundary_grid.evaluate(regular, x), lambda x: adaptive_grid.evaluate(adaptive, x))]  # fmt: skip
    assert len(adaptive.surpluses) < boundary_grid.size(4, 4) / 2
    assert errors[1] < errors[0] / 2
    assert errors[1] < 1e-2


def test_accidents_at_the_first_points_need_a_later_start():
    """sin 2πx is 0 at 0, 1/2 and 1: the estimate is 0 there, and the error 1; from level 2 on it is seen."""

    def wave(x):
        return jnp.sin(2 * jnp.pi * x[:, 0])

    blind, seeing = (adaptive_grid.interpolate(wave, 1, 1e-3, start=start) for start in (1, 2))
    assert float(blind.error) < 1e-6
    x = jnp.linspace(0.0, 1.0, 101)[:, None]
    assert float(jnp.abs(adaptive_grid.evaluate(seeing, x) - wave(x)).max()) < 2e-3


def test_a_budget_that_ends_first_and_values_that_are_not_finite_are_told():
    def f(x):
        return jnp.exp(4 * x[:, 0])

    small = adaptive_grid.interpolate(f, 2, 1e-4, budget=30)
    assert int(small.status) == Status.NOT_CONVERGED
    assert len(small.surpluses) <= 30
    assert float(small.error) > 1e-4
    broken = adaptive_grid.interpolate(lambda x: 1 / x[:, 0], 2, 1e-2, budget=100)
    assert int(broken.status) == Status.NOT_FINITE
    assert np.isnan(broken.error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adaptive_grid.interpolate(jnp.sum, 2, 0.1), "f must return one value for each"),
        (lambda: adaptive_grid.interpolate(jnp.sum, 0, 0.1), "dim must be >= 1"),
        (lambda: adaptive_grid.interpolate(jnp.sum, 2, 0.1, budget=3), "start must need at most 3 points"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("levels", [[[0.0, 0.0], [0.5, 0.0]], [0, 2], [[0, 0], [1, 1]], [[0, 0], [0, 0]], [[0], [21]]])
def test_sets_that_are_not_admissible_are_refused(levels):
    """Numbers that are not whole, levels that lack smaller ones, stand twice or are too fine."""
    with pytest.raises(ValueError, match="levels must"):
        adaptive_grid.interpolate_on(lambda x: x[:, 0], levels)
