"""The gates of `smoothness`: exact counts, tables and networks, computed on the host."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Entry, quantity, static, tree

from jaxtheory.smoothness import (
    anisotropic,
    approximation,
    besov,
    bspline,
    hyperbolic_cross,
    lasso,
    mixed,
    signals,
    sparse_grid,
    sparse_network,
    wavelets,
)
from jaxtheory.smoothness.wavelets import Coefficients

ENERGIES = np.array([1.0, 0.25, 0.0625])
BAD_ENERGIES = (-ENERGIES, np.array([1.0, np.nan, 1.0]), np.array([1.0, np.inf, 1.0]))
HOST = {"precision": "computed in float64 on the host", "jit": "the numbers must be known"}
CELLS = {"level": static(2), "dim": static(2)}
BAD_CELLS = {"level": (-1,), "dim": (0,)}
CROSS = {"budget": static(4), "dim": static(2)}
BAD_CROSS = {"budget": (0, -1), "dim": (0,)}
PRODUCT = {"energies": static(ENERGIES), "levels": static(2), "dim": static(2)}
BAD_PRODUCT = {"energies": BAD_ENERGIES, "levels": (0, 3), "dim": (0,)}
SPLINE = {"order": static(2), "accuracy": static(0.1), "dim": static(1)}
BAD_SPLINE = {"order": (0,), "accuracy": (0.0, 1.0, np.nan), "dim": (0,)}
PYRAMID = Coefficients(np.ones(2), (np.ones((1, 2)),))


def written_out(function):
    """A function of the sum of two hats with given weights."""
    return lambda weights: function(bspline.relu_sum(weights, jnp.ones(2), jnp.asarray([[0.0], [1.0]]), 1, 0.1))


def sparse_sum(surpluses):
    """The terms of the network of an interpolant on three points of a line."""
    empty = sparse_grid.interpolate(lambda x: 0 * x[:, 0], 2, 1)
    return sparse_network.as_sum(sparse_network.from_grid(empty._replace(surpluses=surpluses), 0.1))


ENTRIES = [
    Entry(
        "smoothness.anisotropic.level_vectors",
        anisotropic.level_vectors,
        {"s": static((1.0, 2.0)), "levels": static(3)},
        {"s": ((), (1.0, 0.0), (float("nan"),)), "levels": (0,)},
        skip=HOST,
    ),
    Entry(
        "smoothness.anisotropic.hyperbolic_set",
        anisotropic.hyperbolic_set,
        {"s": static((1.0, 2.0)), "budget": static(3.0)},
        {"s": ((), (1.0, 0.0), (float("nan"),)), "budget": (-1.0, float("nan"), float("inf"), 1e8)},
        skip=HOST,
    ),
    Entry(
        "smoothness.sparse_network.count",
        sparse_network.count,
        {"level": static(3), "dim": static(2), "accuracy": static(0.1)},
        {"level": (0, -1), "dim": (0,), "accuracy": (0.0, 1.0, float("nan"))},
        skip=HOST,
    ),
    Entry(
        "smoothness.wavelets.filters", wavelets.filters, {"wavelet": static("db2")}, {"wavelet": ("db0",)}, skip=HOST
    ),
    Entry(
        "smoothness.wavelets.vanishing_moments",
        wavelets.vanishing_moments,
        {"wavelet": static("haar")},
        {"wavelet": ("sym4",)},
    ),
    Entry(
        "smoothness.wavelets.smoothness",
        wavelets.smoothness,
        {"wavelet": static("db3"), "p": static(1.5)},
        {"wavelet": ("db0",), "p": (0.0, np.nan)},
        skip=HOST,
    ),
    Entry(
        "smoothness.approximation.linear_terms",
        approximation.linear_terms,
        {"coefficients": tree(PYRAMID)},
        skip={"poison": "reads the shapes alone", "precision": "integers"},
    ),
    Entry(
        "smoothness.approximation.rates",
        approximation.rates,
        {"s": static(1.0), "p": static(1.0)},
        {"s": (0.5, np.nan, np.inf), "p": (0.0, np.nan)},
        skip=HOST,
    ),
    Entry(
        "smoothness.besov.check_exponents",
        besov.check_exponents,
        {"p": static(1.0), "q": static(np.inf)},
        {"p": (0.0, np.nan), "q": (-1.0,)},
    ),
    Entry(
        "smoothness.besov.level_weights",
        lambda exponents: besov.level_weights(exponents, 1.0, jnp.float32),
        {"exponents": static([0.0, 1.5])},
        {"exponents": ([200.0],)},
        skip=HOST,
    ),
    Entry(
        "smoothness.bspline.dictionary_size",
        bspline.dictionary_size,
        {"order": static(3), "levels": static(2), "dim": static(2)},
        {"order": (-1,), "levels": (-1,), "dim": (0,)},
    ),
    Entry("smoothness.bspline.relu_network", bspline.relu_network, SPLINE, BAD_SPLINE, skip=HOST),
    Entry("smoothness.bspline.suzuki_bound", bspline.suzuki_bound, SPLINE, BAD_SPLINE, skip=HOST),
    Entry(
        "smoothness.bspline.as_network",
        written_out(bspline.as_network),
        {"weights": quantity([1.0, -0.5])},
        skip=HOST,
    ),
    Entry(
        "smoothness.bspline.audit_sum",
        written_out(bspline.audit_sum),
        {"weights": quantity([1.0, -0.5])},
        skip=HOST,
    ),
    Entry("smoothness.hyperbolic_cross.size", hyperbolic_cross.size, CROSS, BAD_CROSS),
    Entry("smoothness.hyperbolic_cross.indices", hyperbolic_cross.indices, CROSS, BAD_CROSS),
    Entry(
        "smoothness.hyperbolic_cross.dirichlet_power",
        hyperbolic_cross.dirichlet_power,
        {"values": static(ENERGIES), "dim": static(2)},
        {"dim": (0,), "values": BAD_ENERGIES[1:]},
        skip=HOST,
    ),
    Entry(
        "smoothness.hyperbolic_cross.product_error",
        hyperbolic_cross.product_error,
        {"energies": static(ENERGIES), "budget": static(2), "dim": static(2)},
        {"energies": BAD_ENERGIES, "budget": (0, 4), "dim": (0,)},
        skip=HOST,
    ),
    Entry("smoothness.mixed.cross_errors", mixed.cross_errors, PRODUCT, BAD_PRODUCT, skip=HOST),
    Entry("smoothness.mixed.isotropic_errors", mixed.isotropic_errors, PRODUCT, BAD_PRODUCT, skip=HOST),
    Entry(
        "smoothness.mixed.effective_terms",
        mixed.effective_terms,
        {"terms": static([10.0, 100.0]), "dim": static(2), "s": static(1.0), "u": static(0.5)},
        {"terms": ([1.0], [np.nan]), "dim": (0,), "s": (0.0, np.nan), "u": (-1.0, np.nan)},
        skip=HOST,
    ),
    Entry(
        "smoothness.signals.disc",
        signals.disc,
        {"size": static(4), "radius": static(0.3)},
        {"size": (0,), "radius": (0.0, np.nan, np.inf)},
        skip=HOST,
    ),
    Entry("smoothness.sparse_grid.size", sparse_grid.size, CELLS, BAD_CELLS),
    Entry("smoothness.sparse_grid.blocks", sparse_grid.blocks, CELLS, BAD_CELLS),
    Entry("smoothness.sparse_grid.points", sparse_grid.points, CELLS, BAD_CELLS, skip=HOST),
    Entry(
        "smoothness.sparse_grid.interpolate",
        lambda level, dim: sparse_grid.interpolate(lambda x: jnp.prod(x * (1 - x), axis=1), level, dim),
        CELLS,
        BAD_CELLS,
        skip={"precision": "float32 is the default dtype"},
    ),
    Entry(
        "smoothness.sparse_network.from_grid",
        lambda accuracy: sparse_network.from_grid(sparse_grid.interpolate(lambda x: x[:, 0], 2, 1), accuracy),
        {"accuracy": static(0.1)},
        {"accuracy": (0.0, 1.0, np.nan)},
        skip={"precision": "the block is of the host"},
    ),
    Entry(
        "smoothness.sparse_network.as_sum",
        sparse_sum,
        {"surpluses": static(np.array([1.0, 0.5, -0.5]))},
        skip=HOST,
    ),
    Entry(
        "smoothness.lasso.lasso_network",
        lambda coefficients: lasso.lasso_network(coefficients, 1, 1, 0.1),
        {"coefficients": quantity([0.0, 1.0, 0.0, 2.0, 0.0])},
        {"coefficients": (np.zeros(5, np.float32), np.ones(4, np.float32))},
        skip={"precision": "the block is of the host", "jit": "a network is built on the host"},
    ),
]


class TestSmoothnessHost(Gates):
    """Every function of the room that runs on the host."""

    entries = ENTRIES
