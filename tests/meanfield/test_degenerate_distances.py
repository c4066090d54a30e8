"""Distances far from the origin, between coincident points and singular Gaussians, of arguments as users write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxtheory import meanfield
from jaxtheory.meanfield import wasserstein
from jaxtheory.results import Status


def matched(x, y, p=2.0):
    """The optimal matching's mean cost and its partners, in float64 by scipy."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    costs = np.linalg.norm(x[:, None] - y[None], axis=-1) ** p
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    return costs[rows, columns].mean(), columns


@pytest.fixture(scope="module")
def far():
    """Two clouds of 12 points in ten dimensions about 1000, a tenth wide, in float32."""
    draws = np.random.default_rng(0).standard_normal((2, 12, 10))
    return tuple(jnp.asarray(1e3 + 0.1 * draw, jnp.float32) for draw in draws)


@pytest.mark.slow
def test_exact_far_from_the_origin(far):
    """|x|² + |y|² − 2xy has no digit left there; differences give scipy's cost of the same numbers."""
    x, y = far
    expected, partners = matched(x, y)
    found = wasserstein.exact(x, y)
    np.testing.assert_allclose(found.cost, expected, rtol=1e-5)
    assert int(found.status) == Status.OK
    np.testing.assert_allclose(jax.grad(lambda x: wasserstein.exact(x, y).cost)(x), (x - y[partners]) / 6, atol=1e-6)


def test_the_certificate_far_from_the_origin(far):
    """Two partners exchanged are found out: the gap is at least what the exchange costs."""
    x, y = far
    best, partners = matched(x, y)
    swapped = np.array(partners)
    swapped[[0, 1]] = swapped[[1, 0]]
    found = wasserstein.certified(wasserstein.squared_distances(x, y), jnp.asarray(swapped, jnp.int32))
    lost = ((np.asarray(x, float) - np.asarray(y, float)[swapped]) ** 2).sum(1).mean() - best
    assert lost > 0
    assert int(found.status) == Status.NOT_CONVERGED
    assert float(found.residual * found.cost) > 0.999 * lost


@pytest.mark.slow
def test_sliced_and_sinkhorn_do_not_see_a_common_shift(key):
    """Numbers on a grid that float32 holds with the shift: the same costs about 0 and about 4096, in ten dimensions."""
    x, y = (jnp.round(draw * 128) / 128 for draw in jax.random.normal(key, (2, 12, 10)))
    for distance in (
        lambda x, y: wasserstein.sliced(x, y, key, projections=4).value,
        lambda x, y: wasserstein.sinkhorn(x, y, epsilon=2.0).cost,
    ):
        np.testing.assert_allclose(distance(x + 4096.0, y + 4096.0), distance(x, y), rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_costs_in_extreme_units(far, unit):
    """W₁ is homogeneous; a W₂² that float32 cannot hold is not OK."""
    x, y = (draw / 1e3 for draw in far)
    near = wasserstein.exact(x, y, 1.0)
    found = wasserstein.exact(unit * x, unit * y, 1.0)
    np.testing.assert_allclose(found.cost, unit * float(near.cost), rtol=1e-4)
    assert int(found.status) == Status.OK
    assert int(wasserstein.exact(unit * x, unit * y).status) != Status.OK
    assert int(wasserstein.sliced(unit * x, unit * y, jax.random.key(0), projections=4).status) != Status.OK


@pytest.mark.parametrize("p", [1.0, 1.5])
def test_gradients_at_coincident_pairs(p, float64):
    """p |v|^(p − 2) v/n for each pair apart by v, and 0 for one that coincides; on the line too."""
    x = jnp.array([[0.0, 0.0], [5.0, 1.0], [-4.0, 3.0], [9.0, 9.0]])  # each is nearest to itself
    offset = jnp.array([[0.0, 0.0], [0.3, -0.4], [0.0, 0.0], [0.0, 2.0]])
    length = np.linalg.norm(np.asarray(offset), axis=1, keepdims=True)
    slope = p * np.where(length > 0, length, 1.0) ** (p - 2) * np.asarray(offset) / 4
    np.testing.assert_allclose(
        jax.grad(lambda moved: wasserstein.exact(moved, x, p).cost)(x + offset), slope, atol=1e-12
    )
    on_line = jax.grad(lambda moved: wasserstein.w1d(moved, x[:, 1], p))(x[:, 1] + offset[:, 1])
    gaps = np.asarray(offset)[:, 1]
    expected = p * np.where(gaps == 0, 1.0, np.abs(gaps)) ** (p - 1) * np.sign(gaps) / 4
    np.testing.assert_allclose(on_line, expected, atol=1e-12)


def test_derivatives_of_bures_at_repeated_eigenvalues(float64):
    """bures(0, cI, 0, I) = d (√c − 1)² at c = 1.5 in the plane: .367 and c^(−3/2), forward and reverse."""

    def distance(c):
        return wasserstein.bures(jnp.zeros(2), c * jnp.eye(2), jnp.zeros(2), jnp.eye(2))

    c = 1.5
    slope, curvature = 2 * (1 - c**-0.5), c**-1.5
    both = jax.jit(lambda c: jnp.stack([jax.grad(distance)(c), jax.hessian(distance)(c)]))
    np.testing.assert_allclose(both(c), [slope, curvature], rtol=1e-12)
    np.testing.assert_allclose(both(1.0), [0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(distance))(c), slope, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_third_derivatives_of_bures_at_repeated_eigenvalues(turn, float64):
    """Covariances that commute, a = 3/2 + t v and b = 1 + s w on each axis: third derivatives of −2 √(a b)."""
    spin = jnp.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    along, other = (spin @ jnp.diag(jnp.array(values)) @ spin.T for values in ([1.0, 0.5], [1.0, -1.0]))

    def distance(t, s):
        return wasserstein.bures(jnp.zeros(2), 1.5 * jnp.eye(2) + t * along, jnp.zeros(2), jnp.eye(2) + s * other)

    second = jax.grad(jax.grad(distance))
    found = jax.jit(lambda t, s: jnp.stack(jax.grad(second, (0, 1))(t, s)))(0.0, 0.0)
    expected = [-0.75 * 1.5**-2.5 * (1 + 0.125), 0.25 * 1.5**-1.5 * (1 - 0.25)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_derivatives_of_bures_at_zero_eigenvalues(float64):
    """A and B on one line: (√a − √b)² in the line's variance; a singular A against a B on the plane: 1 in B's rest."""
    line = jnp.array([0.6, 0.8])
    along, across = jnp.outer(line, line), jnp.eye(2) - jnp.outer(line, line)

    def distance(a, b, rest):
        return wasserstein.bures(jnp.zeros(2), a * along, jnp.zeros(2), b * along + rest * across)

    a, b = 1.5, 0.7
    slopes, curvature = jax.jit(jax.grad(distance, (0, 1, 2))), jax.jit(jax.hessian(distance))
    for rest in (0.0, 0.3):
        np.testing.assert_allclose(distance(a, b, rest), (a**0.5 - b**0.5) ** 2 + rest, rtol=1e-12)
        found = np.asarray(slopes(a, b, rest))
        np.testing.assert_allclose(found[:2], [1 - (b / a) ** 0.5, 1 - (a / b) ** 0.5], rtol=1e-10)
        np.testing.assert_allclose(curvature(a, b, rest), (b / a) ** 0.5 / (2 * a), rtol=1e-10)
    np.testing.assert_allclose(found[2], 1.0, rtol=1e-10)


def test_the_gradient_of_gaussian_w2_is_that_of_the_optimal_map(float64):
    """2 (x − T x)/n with T the map to the Gaussian; at equal eigenvalues, and for points on a line of the plane."""
    square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    goal = np.array([[2.0, 0.5], [0.5, 1.0]])
    values, vectors = np.linalg.eigh(goal)
    root = vectors * np.sqrt(values) @ vectors.T
    mean = np.array([0.3, -0.2])
    distance = jax.jit(jax.grad(lambda x, c: wasserstein.gaussian_w2(x, jnp.asarray(mean), c)))

    def gradient(x, covariance):
        return np.asarray(distance(jnp.asarray(x), jnp.asarray(covariance)))

    np.testing.assert_allclose(gradient(square, goal), (square - square @ root - mean) / 2, atol=1e-12)
    np.testing.assert_allclose(gradient(square, 4 * np.eye(2)), (-square - mean) / 2, atol=1e-12)
    line = square * np.array([1.0, 0.0])
    np.testing.assert_allclose(gradient(line, np.diag([4.0, 0.0])), (-line - mean) / 2, atol=1e-12)


def test_points_and_weights_of_a_line_as_users_write_them(unchecked):
    """Numbers, rows of one number, lists and integers; weights of the points' number only."""
    x, y, expected = [0, 1, 4], [2.0, 3.0, 5.0], 3.0  # (2² + 2² + 1²)/3
    for one in (x, np.array(x, np.uint8), jnp.array(x, jnp.bfloat16)[:, None], meanfield.as_cloud([0.0, 1.0, 4.0])):
        np.testing.assert_allclose(wasserstein.w1d(one, y), expected, rtol=1e-6)
    np.testing.assert_allclose(wasserstein.w1d(x, y, x_weights=[1, 0, 0], y_weights=[0, 0, 2]), 25.0, rtol=1e-6)
    for weights in ([1.0], [1.0, 1.0], [1.0] * 4):
        with pytest.raises(ValueError, match=r"x_weights must have shape \(3,\)"):
            wasserstein.w1d(x, y, x_weights=weights)
        with pytest.raises(ValueError, match=r"y_weights must have shape \(3,\)"):
            wasserstein.sinkhorn(x, y, epsilon=1.0, y_weights=weights)
    with pytest.raises(ValueError, match="x_weights must be left out beside a Cloud"):
        wasserstein.w1d(meanfield.as_cloud(y), y, x_weights=[1.0, 1.0, 1.0])


def test_traced_numbers(key):
    """Orders and weights may be traced, and forbidden ones are NaN there; counts may not, and the error names them."""
    x, y = jnp.array([0.0, 1.0, 4.0]), jnp.array([2.0, 3.0, 5.0])
    traced = jax.jit(lambda p, w: wasserstein.w1d(x, y, p, x_weights=w))
    np.testing.assert_allclose(traced(2.0, jnp.ones(3)), 3.0, rtol=1e-6)
    assert jnp.isnan(traced(0.5, jnp.ones(3)))
    assert jnp.isnan(traced(2.0, -jnp.ones(3)))
    counts = {
        "projections": lambda n: wasserstein.sliced(x, y, key, projections=n),
        "max_iterations": lambda n: wasserstein.sinkhorn(x, y, epsilon=1.0, max_iterations=n),
    }
    for name, call in counts.items():
        with pytest.raises(ValueError, match=f"{name} must be known when the program is compiled"):
            jax.jit(call)(3)
