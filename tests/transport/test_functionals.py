"""Flows of transport functionals: what their means do exactly, and weights as multiplicities."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import meanfield

WEIGHTS = np.array([2.0, 1.0, 1.0]) / 4


@pytest.fixture(scope="module")
def clouds():
    """Three particles and four points of a target, in the plane, float64."""
    rng = np.random.default_rng(7)
    return rng.standard_normal((3, 2)), rng.standard_normal((4, 2)) + 1.0


def functionals(target, key):
    return {
        "sinkhorn": meanfield.sinkhorn_divergence(target, [1, 1, 1, 3], epsilon=0.5, tolerance=1e-10),
        "sliced": meanfield.sliced(target, key, [1, 1, 1, 3], projections=6),
    }


@pytest.mark.parametrize("name", ["sinkhorn", "sliced"])
@pytest.mark.first_case
@pytest.mark.slow
def test_a_weight_is_a_multiplicity(clouds, name, key, float64):
    """A particle of weight 2/4 is two particles of 1/4: the same value and velocity."""
    x, target = (jnp.asarray(points) for points in clouds)
    F = functionals(target, key)[name]
    once, twice = meanfield.as_cloud(x, jnp.asarray(WEIGHTS)), x[jnp.array([0, 0, 1, 2])]
    np.testing.assert_allclose(F(once), F(twice), rtol=1e-9)
    velocity, doubled = (meanfield.wasserstein_gradient(F)(cloud) for cloud in (once, twice))
    merged = jnp.stack([doubled[:2].mean(0), doubled[2], doubled[3]])  # a sort gives each copy its own partners
    np.testing.assert_allclose(velocity, merged, rtol=1e-6, atol=1e-9)


def test_the_mean_of_a_sinkhorn_flow_is_exact(clouds, key, float64):
    """S_ε(x + t, y) = S_ε(x, y) + |t|² + 2 t·(mean x − mean y): the mean contracts by 1 − 2h a step, at any ε."""
    x, target = clouds
    F = functionals(jnp.asarray(target), key)["sinkhorn"]
    flow = meanfield.gradient_flow(F, step_size=0.1)
    cloud = meanfield.as_cloud(jnp.asarray(x), jnp.asarray(WEIGHTS))
    run = meanfield.simulate(flow, cloud, steps=5, key=key)
    goal = np.array([1, 1, 1, 3]) @ target / 6
    found = WEIGHTS @ np.asarray(run.state.cloud.particles)
    np.testing.assert_allclose(found, goal + 0.8**5 * (WEIGHTS @ x - goal), rtol=1e-8)
    assert F(run.state.cloud) < F(cloud)


@pytest.mark.slow
def test_functionals_say_what_is_wrong(clouds, key, unchecked):
    x, target = (jnp.asarray(points, jnp.float32) for points in clouds)
    with pytest.raises(ValueError, match="particles must have the target's 2 components"):
        meanfield.sinkhorn_divergence(target, epsilon=1.0)(x[:, :1])
    with pytest.raises(ValueError, match="epsilon must be positive"):
        meanfield.sinkhorn_divergence(target, epsilon=0.0)
    with pytest.raises(ValueError, match="p must be >= 1"):
        meanfield.sliced(target, key, p=0.5)
    assert jnp.isnan(meanfield.sinkhorn_divergence(target, epsilon=0.01, max_iterations=1)(x))
