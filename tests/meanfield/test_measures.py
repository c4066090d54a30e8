"""Observables of weighted clouds of any form, and what degenerate ones must say."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from tolerances import assert_close

from jaxtheory import meanfield
from jaxtheory.meanfield import Cloud, observables, wasserstein
from jaxtheory.results import Status

WELL = meanfield.quadratic(1.0)
GAUSSIAN = np.log(2 * np.pi * np.e) / 2  # entropy of N(0, 1)


@pytest.fixture(scope="module")
def reweighted():
    """N(0, 1) as weights of uniform draws on [−40, 40], worth 180 of 4000 equal ones; most are next to nothing."""
    draws = np.random.default_rng(0).uniform(-40, 40, 4000).astype(np.float32)
    return Cloud(jnp.asarray(draws[:, None]), jnp.exp(-(jnp.asarray(draws) ** 2) / 2))


@pytest.mark.slow
def test_weights_make_the_law(reweighted):
    """Entropy, free energy and gap are those of N(0, 1), 1.419, ½ − 1.419 and 0, where the draws' own is log 80."""
    nodes = observables.grid_nodes(jnp.linspace(-9.0, 9.0, 181))
    found = [
        observables.entropy(reweighted),
        observables.free_energy(WELL, 1.0, reweighted),
        observables.duality_gap(WELL, 1.0, reweighted, nodes),
    ]
    for estimate, exact in zip(found, (GAUSSIAN, 0.5 - GAUSSIAN, 0.0), strict=True):
        assert int(estimate.status) == Status.OK
        assert abs(float(estimate.value) - exact) < 4 * float(estimate.standard_error) < 1.2
    moments = observables.moments(reweighted)
    points, weights = (np.asarray(part, float) for part in (reweighted.particles[:, 0], reweighted.weights))
    np.testing.assert_allclose(moments.mean[0], np.average(points, weights=weights), atol=1e-5)
    np.testing.assert_allclose(moments.covariance[0, 0], np.cov(points, aweights=weights, ddof=0), rtol=1e-5)


def test_draws_with_importance_weights(key):
    """20 clouds drawn from a wide Gaussian and weighted to N(0, 1) in the plane: within 4 standard errors each."""

    def one(k):
        draws = 2 * jax.random.normal(k, (500, 2))
        return observables.entropy(Cloud(draws, jnp.exp(-3 / 8 * (draws**2).sum(1))))

    found = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, 20))
    assert (found.status == Status.OK).all()
    assert (np.abs(found.value - 2 * GAUSSIAN) < 4 * found.standard_error).all()


def test_massless_particles_have_no_part_in_the_entropy(key):
    points = jax.random.normal(key, (40, 2))
    others = jnp.concatenate([points, points + 0.01])
    cloud = Cloud(others, jnp.repeat(jnp.array([1.0, 0.0]), 40))
    found, plain = observables.entropy(cloud), observables.entropy(points)
    assert_close(found.value, plain.value)
    assert int(found.status) == Status.OK


def test_entropy_under_affine_maps(key):
    """H(Aθ + b) = H(θ) + log |det A| for the estimate itself, also far from the origin in ten dimensions."""
    points = np.round(np.asarray(jax.random.normal(key, (60, 10))) * 128) / 128
    turn = np.eye(10) + 0.5 * np.tri(10, k=-1)
    base, there = observables.entropy(jnp.asarray(points)), observables.entropy(jnp.asarray(points) + 1024.0)
    turned = observables.entropy(jnp.asarray(1e3 * points @ turn, jnp.float32))
    np.testing.assert_allclose(there.value, base.value, atol=1e-3)
    np.testing.assert_allclose(turned.value, base.value + 10 * np.log(1e3), atol=1e-3)


@pytest.mark.parametrize("where", ["a line", "one place", "one weight"])
def test_a_cloud_without_a_density_says_so(key, where):
    line = jax.random.normal(key, (40, 1))
    cloud = {
        "a line": Cloud(line * jnp.array([[1.0, 2.0]]), jnp.ones(40)),
        "one place": Cloud(jnp.ones((40, 2)), jnp.ones(40)),
        "one weight": Cloud(jnp.concatenate([line, line**2], 1), jnp.zeros(40).at[0].set(1.0)),
    }[where]
    assert int(observables.entropy(cloud).status) != Status.OK


def test_moments_of_millions_far_from_the_origin():
    """4 million points, mean 100, covariance 1, in float32: the mean to 1e-6 and the covariance to 1e-5."""
    draws = (100 + np.random.default_rng(0).standard_normal((4_000_000, 2))).astype(np.float32)
    found = observables.moments(draws)
    exact = draws.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(exact, rowvar=False, ddof=0), atol=1e-5)


@pytest.mark.parametrize("place", [-3e38, 0.1, 2e-38])
def test_particles_at_one_place_have_no_covariance(place):
    """Not even by rounding of their mean, whose square is infinite at the first place."""
    found = observables.moments(np.full((7, 2), place, np.float32))
    np.testing.assert_array_equal(found.mean, np.full(2, place, np.float32))
    np.testing.assert_array_equal(found.covariance, np.zeros((2, 2)))


@pytest.mark.slow
def test_every_observable_and_distance_takes_arrays_pytrees_and_clouds(key, unchecked):
    """A pytree is its leaves side by side; a Cloud of equal weights is its particles."""
    points = jax.random.normal(key, (12, 3))
    parts = {"a": points[:, 0], "b": points[:, 1:]}
    equal = meanfield.as_cloud(parts, jnp.full(12, 0.5))
    nodes = observables.gaussian_nodes(key, 30, 3, 1.5)
    target = points[::-1] * 0.5

    def summed(point, theta):
        return point * sum(leaf.sum() for leaf in jax.tree.leaves(theta))

    calls = [
        lambda x: observables.moments(x),
        lambda x: observables.entropy(x, neighbours=2),
        lambda x: observables.free_energy(WELL, 0.5, x, neighbours=2),
        lambda x: observables.duality_gap(WELL, 0.5, x, nodes, neighbours=2),
        lambda x: observables.initial_chaos(summed, x, jnp.ones(1)),
        lambda x: wasserstein.sliced(x, target, key, projections=4),
        lambda x: wasserstein.exact(x, target),
        lambda x: wasserstein.sinkhorn(x, target, epsilon=2.0),
        lambda x: wasserstein.gaussian_w2(x, jnp.zeros(3), jnp.eye(3)),
    ]
    for call in calls:
        array, tree, cloud = (jax.tree.leaves(call(x)) for x in (points, parts, equal))
        for one, two, three in zip(array, tree, cloud, strict=True):
            np.testing.assert_allclose(three, two, atol=1e-5)
            np.testing.assert_allclose(two, one, atol=1e-5)
    line = meanfield.as_cloud([1.0, 2.0, 4.0])
    assert float(wasserstein.w1d(line, [[2], [3], [5]])) == 1.0


@pytest.mark.slow
def test_a_degenerate_normalizer_shows(key):
    """N(0, I_7) at its own minimum has gap 0: nodes of variance .1 say ILL_CONDITIONED, those of variance 1 pass."""
    cloud = jax.random.normal(key, (1000, 7))
    for variance, passes in ((0.1, False), (1.0, True)):
        nodes = observables.gaussian_nodes(jax.random.fold_in(key, 1), 2000, 7, variance)
        gap = observables.duality_gap(WELL, 1.0, cloud, nodes)
        assert (int(gap.status) == Status.OK) == passes
        assert not passes or abs(float(gap.value)) < 4 * float(gap.standard_error)


@pytest.mark.slow
def test_nodes_that_miss_a_sharp_posterior_show():
    """At a low temperature the Gibbs law is far narrower than N(0, λ/ridge): a few draws carry all the weight."""
    x = jnp.linspace(-1.0, 1.0, 10)[:, None] * jnp.array([[1.0, 0.5, -0.3]])
    F = meanfield.risk(meanfield.neuron("identity"), meanfield.squared_loss, x, 3 * x[:, 0]) + meanfield.quadratic(1e-3)
    flow = meanfield.langevin(F, 1e-3, 0.1)
    run = meanfield.simulate(flow, jnp.zeros((200, 3)), steps=200, key=jax.random.key(0))
    nodes = observables.gaussian_nodes(jax.random.key(1), 2000, 3, 1.0)
    gap = observables.duality_gap(F, 1e-3, run.state.cloud, nodes)
    assert int(gap.status) == Status.ILL_CONDITIONED


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_a_gap_that_is_ok_holds_the_truth(dimension):
    """30 clouds and node sets for each of six variances: gap 0 within 4 standard errors wherever the status is OK."""

    def one(k, variance):
        cloud = jax.random.normal(k, (500, dimension))
        nodes = observables.gaussian_nodes(jax.random.fold_in(k, 1), 1000, dimension, variance)
        return observables.duality_gap(WELL, 1.0, cloud, nodes)

    keys = jax.random.split(jax.random.key(dimension), 30)
    passed = 0
    run = jax.jit(lambda k, v: jax.lax.map(lambda one_key: one(one_key, v), k))
    for variance in (0.1, 0.3, 0.5, 0.8, 1.0, 2.0):
        found = run(keys, variance)
        fine = np.asarray(found.status) == Status.OK
        assert (np.abs(found.value) < 4 * found.standard_error)[fine].all()
        passed += fine.sum()
        assert variance < 0.8 or fine.mean() > 0.9
    assert passed > 80


@pytest.mark.parametrize("axis", [np.linspace(-1, 1, 101), np.linspace(-30, 30, 21)], ids=["short", "coarse"])
@pytest.mark.first_case
def test_a_grid_that_does_not_resolve_the_density_shows(key, axis):
    cloud = jax.random.normal(key, (300, 1))
    gap = observables.duality_gap(WELL, 1.0, cloud, observables.grid_nodes(jnp.asarray(axis, jnp.float32)))
    assert int(gap.status) == Status.ILL_CONDITIONED
    with pytest.raises(ValueError, match="axes must be increasing and equally spaced"):
        observables.grid_nodes(jnp.asarray(axis, jnp.float32) ** 3)


def test_variances_over_seeds_far_from_zero():
    """Outputs near 1000 with a spread of 1 in float32: N Var f_N and Var h to 1e-5 of the two-pass float64 values."""
    outputs = 1000 + np.round(np.random.default_rng(0).standard_normal((50, 3)) * 1024) / 1024
    found = observables.clt_variance(jnp.asarray(outputs, jnp.float32), 7)
    np.testing.assert_allclose(found.value, 7 * outputs.var(0, ddof=1), rtol=1e-5)
    chaos = observables.initial_chaos(lambda x, theta: x * theta, jnp.asarray(outputs[:, 0], jnp.float32), jnp.ones(1))
    np.testing.assert_allclose(chaos, outputs[:, :1].var(0), rtol=1e-5)
    tiny = observables.chaos_error(1e-25 * jnp.ones((3, 2)), jnp.zeros(2), 10)
    assert int(tiny.status) == Status.ILL_CONDITIONED  # 1e-50 is no float32


@pytest.mark.slow
def test_the_entropy_keeps_up_with_a_tree(key):
    """N = 10,000 in 7 dimensions: the value from a k-d tree's distances, in a few times the tree's time (one process).

    The limit of 10 leaves room for a busy machine; neighbours by sorting all distances would take 100 times as long.
    """
    points = jax.random.normal(key, (10_000, 7))
    jax.block_until_ready(observables.entropy(points))
    start = time.process_time()
    found = jax.block_until_ready(observables.entropy(points))
    ours = time.process_time() - start
    centered = np.asarray(points, float) - np.asarray(points, float).mean(0)
    factor = np.linalg.cholesky(centered.T @ centered / 10_000)
    white = np.linalg.solve(factor, centered.T).T
    start = time.process_time()
    distances = cKDTree(white).query(white, 7)[0][:, 3]
    tree = time.process_time() - start
    ball = 3.5 * np.log(np.pi) - gammaln(4.5)
    expected = digamma(10_000) - digamma(3) + ball + 7 * np.log(distances).mean() + np.log(np.diag(factor)).sum()
    np.testing.assert_allclose(found.value, expected, rtol=1e-5)
    assert ours < 10 * tree
