"""Distances against closed forms, scipy, and what unconverged answers must say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from tolerances import assert_close

from jaxtheory.meanfield import wasserstein
from jaxtheory.results import Status


def clouds(key, n=6, d=2):
    first, second = jax.random.split(key)
    return jax.random.normal(first, (n, d)), jax.random.normal(second, (n, d)) + 0.5


@pytest.mark.smoke
@pytest.mark.parametrize("p", [1.0, 2.5])
def test_w1d_with_weights_is_the_transport_program(key, float64, p):
    """Against scipy's linear program over all couplings."""
    x, y = jax.random.normal(key, (5,)), jnp.array([0.3, -1.0, 2.0, 0.1])
    a, b = np.array([0.1, 0.3, 0.2, 0.25, 0.15]), np.array([0.4, 0.1, 0.3, 0.2])
    cost = np.abs(np.asarray(x)[:, None] - np.asarray(y)[None]) ** p
    rows = np.kron(np.eye(5), np.ones(4)), np.kron(np.ones(5), np.eye(4))
    best = scipy.optimize.linprog(cost.ravel(), A_eq=np.vstack(rows), b_eq=np.concatenate([a, b]), method="highs").fun
    ours = wasserstein.w1d(x, y, p, x_weights=jnp.asarray(a), y_weights=jnp.asarray(b))
    np.testing.assert_allclose(float(ours), best, rtol=1e-9)
    if p == 1.0:
        np.testing.assert_allclose(float(ours), scipy.stats.wasserstein_distance(x, y, a, b), rtol=1e-12)


def test_w1d_of_uniform_samples_has_its_exact_mean(key):
    """Two samples of n uniforms: E W₂² = 1/(3(n + 1)), within 4 standard errors."""
    n, repeats = 20, 20_000
    draws = jax.random.uniform(key, (2, repeats, n))
    costs = jax.jit(jax.vmap(lambda x, y: wasserstein.w1d(x, y, 2.0)))(*draws)
    assert abs(float(costs.mean()) - 1 / (3 * (n + 1))) < 4 * float(costs.std()) / np.sqrt(repeats)


def test_bures_is_the_distance_of_optimal_maps(key, float64):
    """For B = T A T with T > 0, T is the optimal map: W₂² = tr((I − T) A (I − T)) + |Δm|²; singular A too."""
    factor, raw = jax.random.normal(key, (2, 3, 3))
    T = raw @ raw.T + 0.1 * jnp.eye(3)
    for A in (factor @ factor.T, jnp.outer(factor[0], factor[0])):
        gap = jnp.eye(3) - T
        expected = jnp.trace(gap @ A @ gap) + 3 * 0.25
        measured = wasserstein.bures(jnp.zeros(3), A, jnp.full(3, 0.5), T @ A @ T)
        np.testing.assert_allclose(float(measured), float(expected), rtol=1e-6)
    assert jnp.isnan(wasserstein.bures(jnp.zeros(2), -jnp.eye(2), jnp.zeros(2), jnp.eye(2)))


@pytest.mark.slow
def test_a_moved_cloud_is_as_far_as_it_was_moved(key, float64):
    """Translation by a: W₂² = |a|² exactly; sliced |a|²/d within 4 standard errors; Gaussian moments agree."""
    x, _ = clouds(key, 30)
    shift = jnp.array([1.0, -2.0])
    square = float(shift @ shift)
    assert_close(wasserstein.exact(x, x + shift[None]).cost, np.float64(square), condition=10)
    sliced = wasserstein.sliced(x, x + shift[None], key, projections=500)
    assert abs(float(sliced.value) - square / 2) < 4 * float(sliced.standard_error)
    centered = x - x.mean(0, keepdims=True)
    moments = x.mean(0) + shift, centered.T @ centered / 30
    assert_close(wasserstein.gaussian_w2(x, *moments), np.float64(square), condition=1e4)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_exact_is_scipys_assignment(key, float64, p):
    x, y = clouds(key, 30)
    cost = np.linalg.norm(np.asarray(x)[:, None] - np.asarray(y)[None], axis=-1) ** p
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    found = wasserstein.exact(x, y, p)
    np.testing.assert_allclose(float(found.cost), cost[rows, columns].mean(), rtol=1e-12)
    assert int(found.status) == Status.OK
    assert float(found.residual) < 1e-12


def test_an_assignment_that_is_not_optimal_is_found_out(key, float64):
    """Two partners exchanged: the gap is at least what the exchange costs; a column taken twice is no assignment."""
    x, y = clouds(key, 20)
    cost = wasserstein.squared_distances(x, y)
    rows, columns = scipy.optimize.linear_sum_assignment(np.asarray(cost))
    swapped = columns.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    worse = wasserstein.certified(cost, jnp.asarray(swapped))
    lost = float(cost[rows, swapped].mean() - cost[rows, columns].mean())
    assert int(worse.status) == Status.NOT_CONVERGED
    assert float(worse.residual * cost.mean()) >= lost * (1 - 1e-12) > 0
    twice = columns.copy()
    twice[0] = twice[1]
    assert int(wasserstein.certified(cost, jnp.asarray(twice)).status) == Status.NOT_FINITE


def entropic(cost, a, b, epsilon):
    """OT_ε by scipy's maximizer of the semi-dual, whose only unknown is g."""

    def negative(g):
        soft = -epsilon * scipy.special.logsumexp((g[None] - cost) / epsilon, b=b[None], axis=1)
        return -(a @ soft + b @ g)

    return -scipy.optimize.minimize(negative, np.zeros(len(b)), method="BFGS", options={"gtol": 1e-10}).fun


def test_the_sinkhorn_divergence_is_that_of_the_dual_program(key, float64):
    x, y = clouds(key)
    y = y[:4]
    a, b = np.array([0.1, 0.2, 0.1, 0.3, 0.2, 0.1]), np.array([0.4, 0.1, 0.3, 0.2])
    distance = lambda u, v: np.asarray(wasserstein.squared_distances(u, v))  # noqa: E731
    solve = lambda u, v, p, q: entropic(distance(u, v), p, q, 0.5)  # noqa: E731
    expected = solve(x, y, a, b) - (solve(x, x, a, a) + solve(y, y, b, b)) / 2
    found = wasserstein.sinkhorn(
        x, y, epsilon=0.5, x_weights=jnp.asarray(a), y_weights=jnp.asarray(b), tolerance=1e-8, max_iterations=20_000
    )
    np.testing.assert_allclose(float(found.cost), expected, atol=1e-7)
    assert int(found.status) == Status.OK
    assert float(found.residual) < 1e-8


def test_an_unconverged_sinkhorn_cannot_pass(key):
    """Ten iterations at a small ε: the recomputed residual is large, and the status says so."""
    x, y = clouds(key, 40)
    found = wasserstein.sinkhorn(x, y, epsilon=1e-3, max_iterations=10)
    assert int(found.status) == Status.NOT_CONVERGED
    assert float(found.residual) > 1e-3
    lost = wasserstein.sinkhorn(x.at[0, 0].set(jnp.nan), y, epsilon=1.0, max_iterations=10)
    assert int(lost.status) == Status.NOT_FINITE


@pytest.mark.slow
@pytest.mark.parametrize(("dimension", "seen"), [(1, -0.485), (2, -0.463), (3, -0.350), (5, -0.232)])
def test_the_rate_of_matching_is_the_sheets(dimension, seen, key):
    """Slopes of W₁ at 32 to 256 points, within 4 standard errors and .03 for the range of sizes; in d = 1, −1/2."""
    rate = wasserstein.empirical_rate(dimension, (32, 64, 128, 256), key, repeats=24)
    slope = rate.slope
    assert abs(float(slope.slope) - seen) < 4 * float(slope.standard_error) + 0.03


@pytest.mark.slow
def test_the_rate_in_one_dimension(key):
    """(E W₂²)^½ = (3(n + 1))^(−½) at every n, within 4 standard errors."""
    sizes = (10, 40, 160)
    rate = wasserstein.empirical_rate(1, sizes, key, p=2.0, repeats=400)
    expected = (3 * (np.array(sizes) + 1)) ** -0.5
    assert (np.abs(np.asarray(rate.distance) - expected) < 4 * np.asarray(rate.standard_error)).all()


@pytest.mark.slow
def test_samples_of_a_set_in_a_larger_space_are_matched_there(key):
    """A square in space, turned: its distances are those in the plane."""
    turn = jnp.array([[2.0, 1.0, 2.0], [-2.0, 2.0, 1.0]]) / 3
    sizes, options = (2, 3, 4), {"repeats": 2}
    within = wasserstein.empirical_rate(2, sizes, key, **options)
    found = wasserstein.empirical_rate(
        2, sizes, key, sample=lambda k, shape: jax.random.uniform(k, shape) @ turn, **options
    )
    np.testing.assert_allclose(found.distance, within.distance, rtol=1e-5)


def test_distances_say_what_is_wrong(unchecked):
    x = jnp.zeros(3)
    cloud = jnp.zeros((3, 2))
    wrong = [
        (lambda: wasserstein.w1d(x, x, 0.5), "p must be >= 1"),
        (lambda: wasserstein.w1d(cloud, cloud), "x must be numbers on the line"),
        (lambda: wasserstein.w1d(x, x, x_weights=-jnp.ones(3)), "x_weights must be >= 0"),
        (lambda: wasserstein.exact(cloud, cloud[:, :1]), "y must have the 2 components of x"),
        (lambda: wasserstein.sinkhorn(cloud, cloud, epsilon=0.0), "epsilon must be positive"),
        (lambda: wasserstein.sliced(cloud, cloud, jax.random.key(0), projections=1), "projections must be >= 2"),
        (lambda: wasserstein.empirical_rate(2, (4, 8, 16), jax.random.key(0), repeats=1), "repeats must be >= 2"),
        (
            lambda: wasserstein.empirical_rate(
                2, (4, 8, 16), jax.random.key(0), sample=lambda key, s: jnp.zeros((s[0], 1))
            ),
            "sample must return 4 points of at least 2 numbers",
        ),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
