"""Sparse-grid interpolants as ReLU networks: values, terms and count."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.expressivity import relu_network as rn
from jaxtheory.smoothness import bspline, sparse_grid, sparse_network


def interpolant(level, dim, seed=0):
    """With random surpluses."""
    empty = sparse_grid.interpolate(lambda x: 0 * x[:, 0], level, dim, dtype=jnp.float64)
    surpluses = np.random.default_rng(seed).normal(size=sparse_grid.size(level, dim))
    return empty._replace(surpluses=jnp.asarray(surpluses))


def places(dim):
    """Inside, on edges of cells, on the boundary and outside the cube."""
    inside = np.random.default_rng(1).uniform(size=(20, dim))
    return jnp.asarray(np.concatenate([inside, np.round(4 * inside) / 4, inside + 0.9, -inside]))


def test_what_is_left_out_is_zero_and_every_term_keeps_its_accuracy(float64):
    """Against all terms through the network, and against tensor hats written out with NumPy."""
    grid, x = interpolant(3, 2), places(2)
    net = sparse_network.from_grid(grid, 1e-3)
    found = sparse_network.evaluate(net, x)
    terms = sparse_network.as_sum(net)
    np.testing.assert_allclose(found, bspline.evaluate_sum(terms, x), atol=1e-12)
    j, k = np.log2(terms.scales) - 1, terms.shifts / 2
    distance = np.abs(np.asarray(x)[:, None, :] * 2.0 ** (j + 1)[None] - (2 * k + 1)[None])
    hats = np.maximum(1 - distance, 0).prod(axis=2)
    exact = hats @ np.asarray(grid.surpluses)
    assert np.abs(exact).max() > 1
    assert (np.abs(found - exact) <= 1e-3 * (np.abs(grid.surpluses)[None] * (hats > 0)).sum(axis=1) + 1e-12).all()
    assert (np.abs(found - exact) > 0).any()


@pytest.mark.parametrize(("level", "dim"), [(2, 2), (2, 3)])
def test_the_audit_is_that_of_the_network_written_out(level, dim, float64):
    terms = sparse_network.as_sum(sparse_network.from_grid(interpolant(level, dim), 0.1))
    written = bspline.as_network(terms)
    assert bspline.audit_sum(terms) == rn.audit(written)
    assert bspline.audit_sum(terms).nonzeros == sum(np.count_nonzero(part) for layer in written for part in layer)


@pytest.mark.parametrize(("level", "dim"), [(4, 1), (4, 2), (2, 5)])
def test_the_count_needs_no_grid(level, dim, float64):
    for accuracy in (0.3, 1e-3):
        terms = sparse_network.as_sum(sparse_network.from_grid(interpolant(level, dim), accuracy))
        assert sparse_network.count(level, dim, accuracy) == bspline.audit_sum(terms).nonzeros


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 2, 0.1), "level must be >= 1"), ((2, 0, 0.1), "dim must be >= 1"), ((2, 2, 0.0), "accuracy must lie")],
)
def test_counts_of_nothing_are_refused(arguments, message, unchecked):
    with pytest.raises(ValueError, match=message):
        sparse_network.count(*arguments)


def test_single_precision_surpluses_are_evaluated_in_the_precision_of_the_points(float64):
    grid = interpolant(2, 2)
    single = grid._replace(surpluses=grid.surpluses.astype(jnp.float32))
    rounded = grid._replace(surpluses=single.surpluses.astype(jnp.float64))
    x = places(2)
    np.testing.assert_array_equal(sparse_grid.evaluate(single, x), sparse_grid.evaluate(rounded, x))
    of = [sparse_network.evaluate(sparse_network.from_grid(g, 0.1), x) for g in (single, rounded)]
    np.testing.assert_array_equal(*of)
