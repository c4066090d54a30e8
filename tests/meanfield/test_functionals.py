"""Functionals against their formulas written out in numpy, in every precision, block size and weighting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory import kernels, meanfield
from jaxtheory.meanfield import Functional

TANH = meanfield.neuron("tanh")


def problem(key, dtype, particles=12, samples=7, dimension=3):
    draws = jax.random.split(key, 4)
    x = jax.random.normal(draws[0], (samples, dimension), dtype)
    y = jax.random.normal(draws[1], (samples,), dtype)
    theta = jax.random.normal(draws[2], (particles, dimension), dtype)
    return x, y, theta, jax.random.uniform(draws[3], (particles,), dtype, 0.1, 1.0)


@pytest.mark.smoke
@pytest.mark.parametrize("block", [None, 5])
@pytest.mark.first_case
def test_risk_and_its_derivatives_are_the_formulas(key, dtype, block):
    """Weighted particles: R, δR/δμ = (1/n) Σ (f − y) h, and its gradient in θ; no factor of N is lost."""
    x, y, theta, weights = problem(key, dtype)
    cloud = meanfield.as_cloud(theta, weights)
    risk = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y, block=block)
    h = np.tanh(np.asarray(x) @ np.asarray(theta).T)
    error = h @ np.asarray(weights) - np.asarray(y)
    assert_close(risk(cloud), (error**2).mean() / 2)
    assert_close(meanfield.first_variation(risk)(cloud, theta), error @ h / len(y))
    slope = ((error[:, None] * (1 - h**2)).T @ np.asarray(x)) / len(y)
    assert_close(meanfield.wasserstein_gradient(risk)(cloud), slope)


@pytest.mark.slow
def test_a_cloud_with_every_particle_twice_moves_as_the_cloud(key, float64):
    """F is a function of the measure: copies change neither its value nor any particle's velocity."""
    x, y, theta, _ = problem(key, float64)
    kernel = kernels.gaussian(1.5)
    total = meanfield.risk(meanfield.neuron("relu"), meanfield.logistic_loss, x, jnp.sign(y), block=4)
    total = total + 0.3 * meanfield.mmd(kernel, x) + meanfield.interaction(kernel, block=5) * 2.0
    twice = jnp.concatenate([theta, theta])
    assert_close(total(twice), total(theta))
    gradient = meanfield.wasserstein_gradient(total)
    assert_close(gradient(twice)[: len(theta)], gradient(theta))


def test_several_outputs_and_particles_of_several_parts(key, float64):
    """A unit with a vector output whose particle is a pytree: against the network's own gradient times N."""
    x, _, w, _ = problem(key, float64)
    a = jax.random.normal(key, (len(w), 2))
    y = jnp.zeros((len(x), 2))
    risk = meanfield.risk(lambda p, theta: theta["a"] * jnp.tanh(p @ theta["w"]), meanfield.squared_loss, x, y, block=5)

    def loss(theta):
        outputs = jnp.tanh(x @ theta["w"].T) @ theta["a"] / len(w)
        return (outputs**2).sum() / 2 / len(x)

    theta = {"a": a, "w": w}
    expected = jax.tree.map(lambda g: g * len(w), jax.grad(loss)(theta))
    jax.tree.map(assert_close, meanfield.wasserstein_gradient(risk)(theta), expected)


def test_interaction_and_mmd_are_double_sums(key, float64):
    x, _, theta, weights = problem(key, float64)
    cloud = meanfield.as_cloud(theta, weights)

    def gram(a, b):
        return np.exp(-((np.asarray(a)[:, None] - np.asarray(b)[None]) ** 2).sum(-1) / 2)

    def tilted(a, b):
        return kernels.gaussian(1.0)(a, b) * jnp.exp(a[:, :1] - b[None, :, 0] / 2)

    w, uniform = np.asarray(weights), np.full(len(x), 1 / len(x))
    expected = w @ gram(theta, theta) @ w - 2 * w @ gram(theta, x) @ uniform + uniform @ gram(x, x) @ uniform
    assert_close(meanfield.mmd(kernels.gaussian(1.0), x, block=5)(cloud), expected)
    # A kernel that is not symmetric counts by its symmetric part.
    skew = gram(theta, theta) * np.exp(np.asarray(theta)[:, :1] - np.asarray(theta)[None, :, 0] / 2)
    energy = meanfield.interaction(tilted, block=5)
    assert_close(energy(cloud), w @ skew @ w / 2)
    assert_close(meanfield.first_variation(energy)(cloud, theta), (skew + skew.T) @ w / 2)


def test_any_function_of_a_cloud_is_a_functional(key, float64):
    """F = variance of a coordinate: δF/δμ(θ) = (θ − m)² up to the constant, and gradient 2(θ − m)."""
    theta = jax.random.normal(key, (9, 1))

    def variance(cloud):
        square, first = meanfield.mean(cloud, lambda t: (t[0] ** 2, t[0]), block=4)
        return square - first**2

    gradient = meanfield.wasserstein_gradient(Functional(variance))(theta)
    assert_close(gradient, 2 * (theta - theta.mean()))


@pytest.mark.slow
def test_derivatives_go_to_second_order_through_blocks(key, float64):
    x, y, theta, _ = problem(key, float64, particles=4)
    small, whole = (
        meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y, block=block) for block in (3, None)
    )
    assert_close(jax.hessian(small)(theta), jax.hessian(whole)(theta))


def test_a_subset_of_the_data_is_the_risk_there(key, float64):
    x, y, theta, _ = problem(key, float64)
    F = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y) * 2.0 + meanfield.quadratic(0.1)
    indices = jnp.array([4, 1, 1])
    part = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x[indices], y[indices])
    assert F.samples == 7
    assert_close(F.subset(indices)(theta), 2 * part(theta) + 0.05 * (theta**2).sum() / len(theta))


@pytest.mark.slow
def test_a_million_particles_fit(key):
    """Compiled, not run, at d = 100: less memory than one N × n array, and twice the data adds next to nothing."""
    particles = jax.ShapeDtypeStruct((1_000_000, 100), jnp.float32)

    def temporaries(samples):
        x, y = jnp.ones((samples, 100)), jnp.ones(samples)
        F = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y)
        flow = meanfield.langevin(F, 0.1, 0.1)
        run = jax.jit(lambda start: meanfield.simulate(flow, start, steps=10, key=key))
        return run.lower(particles).compile().memory_analysis().temp_size_in_bytes

    cloud = 4 * 1_000_000 * 100
    once, twice = temporaries(1000), temporaries(2000)
    assert once < 4 * 1_000_000 * 1000
    assert twice - once < 0.05 * cloud


@pytest.mark.parametrize(
    ("particles", "weights", "message"),
    [
        (["a", "b"], None, "particles must be numbers"),
        ({}, None, "particles must be arrays"),
        ((jnp.zeros((3, 2)), jnp.zeros(4)), None, "particles must be arrays"),
        (jnp.zeros((3, 2)), -jnp.ones(3), "weights must be >= 0"),
        (jnp.zeros((3, 2)), jnp.ones(4), r"weights must have shape \(3,\)"),
    ],
)
def test_a_cloud_says_what_is_wrong(unchecked, particles, weights, message):
    with pytest.raises(ValueError, match=message):
        meanfield.as_cloud(particles, weights)


def test_functionals_say_what_is_wrong(unchecked):
    unit, x, y = meanfield.neuron("tanh"), jnp.zeros((4, 3)), jnp.zeros(4)
    risk = meanfield.risk(unit, meanfield.squared_loss, x, y)
    with pytest.raises(ValueError, match=r"particles must fit the unit at points of shape \(3,\)"):
        risk(jnp.zeros((5, 2)))
    with pytest.raises(ValueError, match="y must hold one target for each of 4 points"):
        meanfield.risk(unit, meanfield.squared_loss, x, y[:2])
    with pytest.raises(ValueError, match="y must have the shape of the unit's outputs"):
        meanfield.risk(unit, meanfield.squared_loss, x, y[:, None])(jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match="block must be >= 1"):
        meanfield.risk(unit, meanfield.squared_loss, x, y, block=0)(jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"ridge must be >= 0 .* got ridge=-1"):
        meanfield.quadratic(-1.0)
    with pytest.raises(ValueError, match="other must average over 4 samples"):
        risk + meanfield.risk(unit, meanfield.squared_loss, x[:2], y[:2])
    with pytest.raises(ValueError, match="theta must have the shape of a point"):
        meanfield.neuron("tanh")(x[0], jnp.zeros(2))


def test_a_measure_has_no_negative_mass(unchecked):
    """An error where the numbers are known, NaN where they are traced; gradients of clouds are no measures."""
    x, negative = jnp.ones((2, 1)), jnp.array([1.5, -0.5])
    with pytest.raises(ValueError, match="weights must be >= 0"):
        meanfield.Cloud(x, negative)
    for wrong, words in (
        ([1.0, -1.0], "be >= 0"),
        ([1.0, 2.0, 3.0], "leading axes"),
        (np.ones((1, 2)), "leading axes"),
    ):
        with pytest.raises(ValueError, match=f"weights must .*{words}"):
            meanfield.Cloud(x, wrong)
    assert meanfield.Cloud(x, [1, 3]).weights.tolist() == [1.0, 3.0]
    assert meanfield.Cloud(x[None], np.ones((1, 2))).size == 1  # a batch of one cloud, for vmap
    F = meanfield.quadratic(1.0)
    assert jnp.isnan(jax.jit(lambda w: F(meanfield.Cloud(x, w)))(negative))
    gradient = jax.grad(lambda cloud: -meanfield.mean(cloud, lambda theta: theta[0]))(meanfield.as_cloud(x))
    np.testing.assert_array_equal(gradient.weights, [-1.0, -1.0])


def test_particles_are_what_users_pass(unchecked):
    """Nested lists, integers, booleans and half precision are the floats they stand for."""
    F, expected = meanfield.quadratic(1.0), 2.5
    forms = [[[1], [3]], np.array([[1], [3]], np.uint8), jnp.array([[1.0], [3.0]], jnp.bfloat16)]
    for particles in forms:
        assert float(F(particles)) == expected
    assert float(F({"a": np.array([True, False]), "b": np.array([[2.0], [2.0]], np.float16)})) == 2.25
    assert meanfield.as_cloud(forms[0], [1, 3]).weights.tolist() == [1.0, 3.0]


@pytest.mark.slow
def test_kernels_see_the_numbers_of_a_pytree_as_one_row(key, float64):
    """Interaction, MMD and SVGD of a pytree are those of its leaves side by side."""
    x, _, theta, weights = problem(key, float64)
    kernel = kernels.gaussian(1.5)
    parts = {"a": theta[:, 0], "b": theta[:, 1:]}
    split, joined = meanfield.as_cloud(parts, weights), meanfield.as_cloud(theta, weights)
    total = meanfield.interaction(kernel) + meanfield.mmd(kernel, x)
    assert_close(total(split), total(joined))
    assert_close((meanfield.mmd(kernel, {"a": x[:, 0], "b": x[:, 1:]}))(split), meanfield.mmd(kernel, x)(joined))
    moved = [
        meanfield.simulate(meanfield.stein(total, kernel, 0.5, 0.1), cloud, steps=1, key=key).state.cloud.particles
        for cloud in (split, joined)
    ]
    assert_close(moved[0]["b"], moved[1][:, 1:])


def test_targets_are_numbers_or_labels(key, unchecked):
    """uint8 targets do not wrap, and integer labels reach a cross-entropy as they are."""
    x, _, theta, _ = problem(key, jnp.float32)
    signs = np.sign(np.asarray(x[:, 0]))
    outputs = np.asarray(meanfield.predict(TANH, theta, x))
    squared = meanfield.risk(TANH, meanfield.squared_loss, x, np.full(len(x), 3, np.uint8))
    assert_close(squared(theta), np.float32(((outputs - 3) ** 2).mean() / 2))
    logistic = meanfield.risk(TANH, meanfield.logistic_loss, x, signs.astype(np.int8))
    assert_close(logistic(theta), np.float32(np.log1p(np.exp(-signs * outputs)).mean()))
    labels = (signs > 0).astype(int)
    for loss in ("cross_entropy", lambda f, label: jax.nn.logsumexp(f) - f[label]):
        both = meanfield.risk(lambda point, t: jnp.stack([jnp.zeros(()), TANH(point, t)]), loss, x, labels)
        assert_close(both(theta), np.float32(np.log1p(np.exp(np.where(labels, -outputs, outputs))).mean()))


def test_sums_over_millions_of_particles_keep_their_digits():
    """Mean of 4 million numbers near 100 in three coordinates, in float32: to 1e-6, where running sums lose 2%."""
    draws = np.random.default_rng(0).normal(100.0, 1.0, (4_000_000, 3)).astype(np.float32)
    found = meanfield.mean(meanfield.as_cloud(draws), lambda theta: theta)
    np.testing.assert_allclose(found, draws.astype(np.float64).mean(0), rtol=1e-6)


@pytest.mark.slow
def test_a_unit_is_compiled_once_for_a_functional():
    """Evaluations, gradients and variations of one functional on one shape share a program."""
    F, calls = meanfield.potential(lambda theta: calls.append(1) or theta @ theta), []
    for scale in (1.0, 2.0):
        F(scale * jnp.ones((3, 2)))
        meanfield.wasserstein_gradient(F)(scale * jnp.ones((3, 2)))
        meanfield.first_variation(F)(scale * jnp.ones((3, 2)), jnp.ones((2, 2)))
        counted = len(calls) if scale == 1.0 else counted
    assert len(calls) == counted
