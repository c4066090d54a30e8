"""Sparse grids with boundary values: counts, exactness, order of the error, the grid without them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.smoothness import boundary_grid, sparse_grid


def test_the_points_are_the_known_sparse_grid():
    """Distinct points with coordinates k/2^{l_i}, Σ_i max(l_i, 1) ≤ n + d − 1 for the axes off the boundary."""
    for level, dim in ((0, 1), (3, 1), (3, 2), (2, 3)):
        found = {tuple(row) for row in boundary_grid.points(level, dim)}
        axes = np.meshgrid(*[np.arange(2**level + 1)] * dim, indexing="ij")
        full = np.stack([axis.ravel() for axis in axes], axis=1)
        twos = np.where(full == 0, 2**level, full & -full)
        depth = np.maximum(level - np.log2(twos).astype(int), 0)  # l_i, 0 on the boundary
        total = np.sum(np.maximum(depth - 1, 0), axis=1)
        allowed = {tuple(row) for row in full[(total < level) | (depth == 0).all(axis=1)] / 2**level}
        assert found == allowed
        assert len(found) == boundary_grid.size(level, dim)


def test_it_interpolates_and_keeps_multilinear_functions(float64):
    """Exact at the points; 1, x and x y everywhere, where the grid without boundary has 0.32 for 1 at .01."""
    rng = np.random.default_rng(0)

    def rough(x):
        return jnp.sin(37 * x[:, 0] + 11 * x[:, 1]) + jnp.sign(x[:, 1] - 0.3)

    grid = jnp.asarray(boundary_grid.points(4, 2))
    found = boundary_grid.interpolate(rough, 4, 2, dtype=jnp.float64)
    np.testing.assert_allclose(boundary_grid.evaluate(found, grid), rough(grid), atol=1e-12)
    x = jnp.asarray(np.concatenate([rng.random((20, 2)), [[0.0, 0.0], [0.01, 1.0], [1.0, 0.5]]]))
    for f in (lambda x: 1 + 0 * x[:, 0], lambda x: 2 - x[:, 0], lambda x: (1 + x[:, 0]) * (3 - x[:, 1])):
        found = boundary_grid.interpolate(f, 3, 2, dtype=jnp.float64)
        np.testing.assert_allclose(boundary_grid.evaluate(found, x), f(x), atol=1e-13)
    outside = boundary_grid.evaluate(found, jnp.array([[-1.0, 2.0]]))
    np.testing.assert_allclose(outside, [2.0], atol=1e-13)


@pytest.mark.slow
def test_it_is_the_grid_without_boundary_where_the_boundary_is_0(float64):
    def bump(x):
        return jnp.prod(jnp.sin(jnp.pi * x), axis=1)

    x = jnp.asarray(np.random.default_rng(1).random((30, 3)))
    with_sides = boundary_grid.interpolate(bump, 3, 3, dtype=jnp.float64)
    without = sparse_grid.interpolate(bump, 3, 3, dtype=jnp.float64)
    np.testing.assert_allclose(boundary_grid.evaluate(with_sides, x), sparse_grid.evaluate(without, x), atol=1e-12)


@pytest.mark.slow
def test_the_error_falls_as_the_theorem_says(float64):
    """exp(x + y/2), which is not 0 on the boundary: sup error · 2^{2n} between a constant and n, n = 3, 5, 7."""
    x = jnp.asarray(np.random.default_rng(2).random((400, 2)))

    def f(x):
        return jnp.exp(x[:, 0] + x[:, 1] / 2)

    errors = []
    levels = np.array([3, 5, 7])
    for level in levels:
        found = boundary_grid.interpolate(f, int(level), 2, dtype=jnp.float64)
        errors.append(np.abs(boundary_grid.evaluate(found, x) - f(x)).max())
    scaled = np.array(errors) * 4.0**levels
    assert scaled.min() > scaled[0] / 2
    assert (scaled / scaled[0] < levels / levels[0] * 1.2).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: boundary_grid.size(-1, 2), "level must be"),
        (lambda: boundary_grid.points(2, 0), "dim must be"),
        (lambda: boundary_grid.size(40, 2), "level must be <="),
        (lambda: boundary_grid.interpolate(lambda x: x, 1, 2), "f must return"),
        (
            lambda: boundary_grid.evaluate(boundary_grid.interpolate(lambda x: x[:, 0], 1, 2), jnp.ones((1, 3))),
            "x must have",
        ),
    ],
)
def test_bad_input_is_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
