"""Kernel Stein discrepancy descent, noise injection and many-body energies against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import kernels, meanfield
from jaxtheory.meanfield import Cloud


def linear(x, y):
    """The kernel under which moments close."""
    return jnp.matmul(x, y.T) + 1


def half_square(theta):
    """The energy of a standard Gaussian."""
    return (theta**2).sum() / 2


@pytest.mark.slow
def test_stein_discrepancy_under_a_linear_kernel_is_of_moments(float64, key):
    """k(x, y) = x·y + 1 and N(0, I): ‖M − I‖_F² + |m|², with weights."""
    theta, weights = jax.random.normal(key, (7, 3)), jnp.arange(1.0, 8.0) / 28
    found = meanfield.stein_discrepancy(half_square, linear, block=3)(Cloud(theta, weights))
    m, second = weights @ theta, jnp.einsum("i,ij,ik->jk", weights, theta, theta)
    np.testing.assert_allclose(found, ((second - np.eye(3)) ** 2).sum() + m @ m, rtol=1e-12)


def test_stein_discrepancy_under_a_gaussian_kernel(float64, key):
    """Against the derivatives of exp(−r²/2s²) written out, for the energy Σ θ⁴/4."""
    theta, s2 = jax.random.normal(key, (5, 2)), 0.8**2
    found = meanfield.stein_discrepancy(lambda t: (t**4).sum() / 4, kernels.gaussian(0.8))(theta)
    x = np.asarray(theta)
    score, gap = -(x**3), x[:, None] - x[None]
    r2 = (gap**2).sum(-1)
    k = np.exp(-r2 / 2 / s2)
    terms = score @ score.T + (score[:, None] * gap).sum(-1) / s2 - (score[None] * gap).sum(-1) / s2
    np.testing.assert_allclose(found, (k * (terms + 2 / s2 - r2 / s2**2)).mean(), rtol=1e-12)


def test_stein_discrepancy_descent_moves_the_moments_exactly(float64):
    """d = 1, δ = M − 1: m' = m (1 − η(2δ + 1)), M' = (1 − 2ηδ)² M − 2η(1 − 2ηδ) m² + η² m², down to (0, 1)."""
    eta, theta = 0.1, jnp.array([[2.0], [0.5], [-0.25], [1.5]])
    flow = meanfield.gradient_flow(meanfield.stein_discrepancy(half_square, linear) / 2, eta)
    seen = lambda c: jnp.stack([c.particles.mean(), (c.particles**2).mean()])  # noqa: E731
    run = meanfield.simulate(flow, theta, steps=200, key=jax.random.key(0), observe=seen, record_every=1)
    m, second = float(theta.mean()), float((theta**2).mean())
    for k in range(10):
        gap = second - 1
        m, second = (
            m * (1 - eta * (2 * gap + 1)),
            (1 - 2 * eta * gap) ** 2 * second - 2 * eta * (1 - 2 * eta * gap) * m**2 + eta**2 * m**2,
        )
        np.testing.assert_allclose(run.records[k], [m, second], rtol=1e-11)
    np.testing.assert_allclose(run.records[-1], [0.0, 1.0], atol=1e-6)


@pytest.mark.slow
def test_injected_noise_smooths_the_drift(float64):
    """A Gaussian kernel of variance s² drifts on average as one of s² + β²: within 4.5 standard errors of 20,000."""
    target, s2, beta = jnp.array([[1.0, -0.5]]), 0.6**2, 0.9
    F = meanfield.mmd(kernels.gaussian(0.6), target) / 2
    places = jnp.zeros((20_000, 2))
    noisy = meanfield.noise_injection(
        meanfield.potential(lambda t: -jnp.exp(-((t - target[0]) ** 2).sum() / 2 / s2)), beta
    )
    cloud = meanfield.as_cloud(places)
    draws = np.asarray(noisy.gradient(cloud, (), jax.random.key(1), jnp.int32(0))[0])
    y, wide = np.asarray(target[0]), s2 + beta**2
    expected = -y / wide * np.exp(-(y @ y) / 2 / wide) * s2 / wide
    assert (np.abs(draws.mean(0) - expected) < 4.5 * draws.std(0) / np.sqrt(20_000)).all()
    # the measure of an MMD stays while its particles are displaced
    few = jnp.array([[0.3, 0.1], [-0.2, 0.4], [0.0, -1.0]])
    found = meanfield.noise_injection(F, beta).gradient(meanfield.as_cloud(few), (), jax.random.key(1), jnp.int32(0))[0]
    moved = np.asarray(few + beta * jax.random.normal(jax.random.split(jax.random.key(1), 1)[0], (3, 2), few.dtype))
    pull = lambda at, to: -((at - to) / s2 * np.exp(-((at - to) ** 2).sum(-1, keepdims=True) / 2 / s2))  # noqa: E731
    field = [pull(at, np.asarray(few)).mean(0) - pull(at, np.asarray(target)).mean(0) for at in moved]
    np.testing.assert_allclose(found, field, rtol=1e-10)


@pytest.mark.slow
def test_injected_noise_leaves_a_rest_point_that_is_not_the_minimum():
    """8 lengths away the drift is 1e-13 and float32 stands still; fading noise brings the particle to the target."""
    F = meanfield.mmd(kernels.gaussian(1.0), jnp.zeros((1, 1))) / 2

    def ended(drift):
        flow = meanfield.gradient_flow(drift, 0.5)
        start = jnp.full((1, 1), 8.0)
        return float(meanfield.simulate(flow, start, steps=4000, key=jax.random.key(0)).state.cloud.particles[0, 0])

    assert ended(F) > 7.99
    assert abs(ended(meanfield.noise_injection(F, lambda k: 3 * jnp.exp(-k.astype(jnp.float32) / 1000)))) < 0.1


@pytest.mark.slow
def test_many_bodies_are_their_sums(float64, key):
    """k = 1 and 2 are `potential` and `interaction`; k = 3 is a sum over triples, its first variation ½∬W dμ dμ."""
    theta, weights = jax.random.normal(key, (4, 2)), jnp.array([0.4, 0.1, 0.3, 0.2])
    cloud = Cloud(theta, weights)
    pair = lambda a, b: jnp.exp(-((a - b) ** 2).sum())  # noqa: E731
    matrix = lambda x, y: jax.vmap(lambda a: jax.vmap(lambda b: pair(a, b))(y))(x)  # noqa: E731
    np.testing.assert_allclose(meanfield.many_body(half_square, 1)(cloud), meanfield.potential(half_square)(cloud))
    np.testing.assert_allclose(meanfield.many_body(pair, 2, block=3)(cloud), meanfield.interaction(matrix)(cloud))
    triple = lambda a, b, c: (a * b * c).sum() ** 2  # noqa: E731
    x, w = np.asarray(theta), np.asarray(weights)
    every = np.einsum("ad,bd,cd->abcd", x, x, x).sum(-1) ** 2
    F = meanfield.many_body(triple, 3, block=3)
    np.testing.assert_allclose(F(cloud), np.einsum("a,b,c,abc", w, w, w, every) / 6, rtol=1e-12)
    variation = np.einsum("b,c,abc->a", w, w, every) / 2
    np.testing.assert_allclose(meanfield.first_variation(F)(cloud, theta), variation, rtol=1e-12)


@pytest.mark.slow
def test_discrepancies_do_not_depend_on_the_number_of_devices(key):
    """Value and gradient on 8 devices."""
    theta, mesh = jax.random.normal(key, (16, 2)), jax.make_mesh((8,), ("a",))
    for F in (
        meanfield.stein_discrepancy(half_square, kernels.gaussian(1.0)),
        meanfield.many_body(lambda a, b, c: (jnp.sin(a) * b * c).sum(), 3),
    ):
        for call in (F, meanfield.wasserstein_gradient(F)):
            np.testing.assert_allclose(
                np.asarray(call(meanfield.as_cloud(theta, mesh=mesh))), np.asarray(call(theta)), atol=1e-5
            )


def test_errors_name_the_argument(unchecked):
    with pytest.raises(ValueError, match="energy must return one real number"):
        meanfield.stein_discrepancy(lambda t: t, linear)(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="order must be >= 1"):
        meanfield.many_body(half_square, 0)
    with pytest.raises(ValueError, match="level must be >= 0"):
        meanfield.noise_injection(meanfield.quadratic(1.0), -1.0)
    with pytest.raises(ValueError, match="slopes must be given"):
        meanfield.fisher_rao(meanfield.noise_injection(meanfield.quadratic(1.0), 1.0), 0.1)


PAIRWISE = {
    "mmd": lambda x: meanfield.mmd(kernels.gaussian(1.0), x[::-1] + 1)(x),
    "many_body": lambda x: meanfield.many_body(lambda a, b: jnp.tanh(a - b).sum(), 2)(x),
    "entropy": lambda x: meanfield.observables.entropy(x).value,
    "stein": lambda x: meanfield.simulate(
        meanfield.stein(meanfield.quadratic(1.0), kernels.gaussian(1.0), 1.0, 0.1),
        x, steps=1, key=jax.random.key(0), reverse=True,
    ).state.cloud.particles.sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", [n if n == "mmd" else pytest.param(n, marks=pytest.mark.slow) for n in PAIRWISE])
def test_sums_over_pairs_hold_no_matrix_of_pairs(name):
    """Value and gradient of 8192 particles: a tenth of the 268 MB of one number for each pair."""
    for function in (PAIRWISE[name], jax.grad(PAIRWISE[name])):
        lowered = jax.jit(function).lower(jax.ShapeDtypeStruct((8192, 4), jnp.float32))
        assert lowered.compile().memory_analysis().temp_size_in_bytes < 4 * 8192**2 / 10
