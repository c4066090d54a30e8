"""Crossing times against the exact mean in one dimension and the backward equation on a grid in two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

from jaxtheory.optimization import eyring_kramers
from jaxtheory.results import Status


def tilted(x):
    """Minima of different depth and curvature."""
    return (x[0] ** 2 - 1) ** 2 / 4 - 0.05 * x[0] ** 3


def funnel(x):
    """Across the valley the stiffness is 1 at the minima and 5 at the saddle: the prefactor is √5 larger."""
    return (x[0] ** 2 - 1) ** 2 / 2 + (1 + 4 * (1 - x[0] ** 2) ** 2) * x[1] ** 2 / 2


def test_one_dimension_is_the_exact_mean_first_passage_time(float64):
    """E T = ∫ e^{V/ε} ∫_{−∞} e^{−V/ε} / ε; the relative distance is of order ε and halves with it."""
    minimum = (0.15 - np.sqrt(0.15**2 + 4)) / 2
    other = (0.15 + np.sqrt(0.15**2 + 4)) / 2
    apart = []
    for eps in (0.02, 0.01):
        y = np.linspace(-1.8, other, 60_001)
        v = tilted(y[None])
        inner = np.concatenate([[0], np.cumsum((np.exp(-v / eps)[1:] + np.exp(-v / eps)[:-1]) / 2 * np.diff(y))])
        keep = y >= minimum
        exact = np.trapezoid((np.exp(v / eps) * inner)[keep], y[keep]) / eps
        found = eyring_kramers(tilted, np.array([minimum]), np.zeros(1), temperature=eps)
        assert found.status == Status.OK
        apart.append(np.exp(found.log_time) / exact - 1)
    assert abs(apart[0]) < 0.1
    np.testing.assert_allclose(apart[0] / apart[1], 2, rtol=0.3)


def backward(eps, n=161, m=121):
    """Mean time from (−1, 0) to x ≥ 0.9 by finite volumes: ε ∇·(e^{−V/ε}∇u) = −e^{−V/ε}."""
    x, y = np.linspace(-1.9, 0.95, n), np.linspace(-1.5, 1.5, m)
    v = funnel(np.stack(np.meshgrid(x, y, indexing="ij")))
    index = np.arange(n * m).reshape(n, m)
    rows, columns, rates = [], [], []
    for axis, h in ((0, x[1] - x[0]), (1, y[1] - y[0])):
        one, two = (np.moveaxis(index, axis, 0)[s].ravel() for s in (slice(None, -1), slice(1, None)))
        # detailed balance: rate from i to j is ε/h² e^{(V_i − V_j)/2ε}
        for a, b in ((one, two), (two, one)):
            rows.append(a)
            columns.append(b)
            rates.append(eps / h**2 * np.exp((v.ravel()[a] - v.ravel()[b]) / (2 * eps)))
    rows, columns, rates = map(np.concatenate, (rows, columns, rates))
    generator = scipy.sparse.coo_matrix((rates, (rows, columns)), shape=(n * m, n * m)).tocsr()
    generator = generator - scipy.sparse.diags(np.asarray(generator.sum(axis=1)).ravel())
    inside = np.flatnonzero(np.repeat(x < 0.9, m))
    u = scipy.sparse.linalg.spsolve(generator[inside][:, inside].tocsc(), -np.ones(len(inside)))
    return u[np.searchsorted(inside, index[np.argmin(abs(x + 1)), m // 2])]


def coupled(x):
    """Three dimensions, every pair of them coupled."""
    bent = (x[1] - 0.4 * x[0]) ** 2 + (x[2] + 0.2 * x[0] * x[1]) ** 2
    return (x[0] ** 2 - 1) ** 2 + bent + 0.15 * x[1] * x[2]


def test_three_coupled_dimensions_are_their_eigenvalues(float64):
    """2π/|λ_−| √(|det ∇²V(saddle)|/det ∇²V(minimum)) e^{barrier/ε}, by numpy at points that scipy finds."""
    slope, bend = jax.jit(jax.grad(coupled)), jax.jit(jax.hessian(coupled))
    places = [scipy.optimize.root(slope, guess, tol=1e-13).x for guess in ([-1.0, -0.4, 0.0], [0.0, 0.0, 0.0])]
    wells, passes = (np.linalg.eigvalsh(bend(place)) for place in places)
    barrier, eps = coupled(places[1]) - coupled(places[0]), 0.1
    prefactor = 2 * np.pi / abs(passes[0]) * np.sqrt(abs(passes.prod()) / wells.prod())
    found = eyring_kramers(coupled, *map(jnp.asarray, places), temperature=eps)
    np.testing.assert_allclose(found.prefactor, prefactor, rtol=1e-10)
    np.testing.assert_allclose(found.log_time, np.log(prefactor) + barrier / eps, rtol=1e-10)
    assert found.status == Status.OK


def test_two_dimensions_are_the_backward_equation(float64):
    """The time lies near the law, at a distance that falls with ε; without the prefactor's √5 it would not."""
    apart = []
    for eps in (0.1, 0.05):
        found = eyring_kramers(funnel, np.array([-1.0, 0.0]), np.zeros(2), temperature=eps)
        assert found.status == Status.OK
        apart.append(np.exp(found.log_time) / backward(eps) - 1)
    assert abs(apart[1]) < 0.75 * abs(apart[0]) < 0.75 * 0.6
    assert abs(apart[1]) < 0.3


def test_derivatives_and_what_is_no_minimum_or_saddle(float64):
    minimum, saddle = jnp.array([-1.0, 0.0]), jnp.zeros(2)
    slope = jax.grad(lambda e: eyring_kramers(funnel, minimum, saddle, temperature=e).log_time)(0.05)
    np.testing.assert_allclose(slope, -0.5 / 0.05**2)
    for points in ((saddle, minimum), (minimum, minimum), (saddle, saddle)):
        found = eyring_kramers(funnel, *points, temperature=0.1)
        assert found.status == Status.INVALID_INPUT
        assert np.isnan(found.log_time)
    assert eyring_kramers(funnel, minimum + 0.1, saddle, temperature=0.1).status == Status.NOT_CONVERGED
    with pytest.raises(ValueError, match="temperature must be positive"):
        eyring_kramers(funnel, minimum, saddle, temperature=0.0)
