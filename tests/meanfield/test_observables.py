"""Entropies, gaps and fluctuations against laws known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import meanfield
from jaxtheory.meanfield import observables, oracles
from jaxtheory.results import Status


def test_the_entropy_of_gaussians(key):
    """½ log det(2πe Σ) in two dimensions, within 4 standard errors and the bias of order k/N."""
    points = jax.random.normal(key, (2000, 2)) * jnp.array([1.0, 3.0])[None]
    expected = np.log(2 * np.pi * np.e) + np.log(3.0)
    found = observables.entropy(points, neighbours=4)
    # Neighbours share points: their dependence at most doubles the variance in the plane.
    assert abs(float(found.value) - expected) < 4 * np.sqrt(2) * float(found.standard_error) + 4 / 2000 * 10
    assert abs(float(observables.entropy(points * 2.0, neighbours=4).value - found.value) - 2 * np.log(2)) < 1e-4


@pytest.mark.slow
def test_the_duality_gap_of_a_gaussian_is_its_divergence(key):
    """F = κ|θ|²/2 and μ = N(m, s²): λ KL(μ ‖ N(0, λ/κ)), and the free energy, within 4 standard errors."""
    kappa, temperature, mean, scale = 2.0, 0.5, 0.8, 1.3
    cloud = mean + scale * jax.random.normal(key, (2000, 1))
    variance = temperature / kappa
    expected = temperature * ((scale**2 + mean**2) / variance - 1 - np.log(scale**2 / variance)) / 2
    F = meanfield.quadratic(kappa)
    grid = observables.grid_nodes(jnp.linspace(-5.0, 5.0, 401))
    entropy = np.log(2 * np.pi * np.e * scale**2) / 2
    energy = kappa / 2 * (scale**2 + mean**2) - temperature * entropy
    gap = observables.duality_gap(F, temperature, cloud, grid)
    law = observables.free_energy(F, temperature, cloud)
    for found, exact in ((gap, expected), (law, energy)):
        assert int(found.status) == Status.OK
        assert abs(float(found.value) - exact) < 4 * float(found.standard_error) < 0.4


@pytest.mark.slow
def test_the_duality_gap_closes_at_the_fixed_point(key):
    """Particles drawn from oracle B's density: gap 0 within its errors; particles elsewhere: far above."""
    x, y, unit = jnp.array([[1.2], [-0.4], [0.2]]), jnp.array([0.8, -0.5, 0.3]), meanfield.neuron("tanh")
    axis = jnp.linspace(-8.0, 8.0, 801)
    fixed = oracles.gibbs_fixed_point(unit, x, y, ridge=0.5, temperature=0.3, grid=axis)
    F = meanfield.risk(unit, meanfield.squared_loss, x, y) + meanfield.quadratic(0.5)
    jitter = jax.random.uniform(jax.random.fold_in(key, 1), (2000, 1), minval=-0.01, maxval=0.01)
    drawn = jax.random.choice(key, axis, (2000,), p=fixed.density)[:, None] + jitter
    gaps = [observables.duality_gap(F, 0.3, cloud, observables.grid_nodes(axis)) for cloud in (drawn, drawn + 1.0)]
    # The gap is quadratic at the minimum, except for the entropy's own error and the energy's.
    energy = 0.25 * float((drawn**2).std()) / np.sqrt(2000)
    assert abs(float(gaps[0].value)) < 4 * (1.5 * float(gaps[0].standard_error) + energy)
    assert float(gaps[1].value) > 0.1


@pytest.mark.slow
def test_chaos_at_time_zero_is_exact(key):
    """N · Var f_N = Var h for independent particles; N · E‖f_N − f‖² the mean of it over points."""
    unit, x, seeds, particles = meanfield.neuron("tanh"), jnp.array([[0.5], [2.0]]), 4000, 25
    population = jax.random.normal(key, (40_000, 1))
    variance = observables.initial_chaos(unit, population, x)
    limit = meanfield.predict(unit, population, x)
    clouds = jax.random.normal(jax.random.fold_in(key, 1), (seeds, particles, 1))
    outputs = jax.jit(jax.vmap(lambda cloud: meanfield.predict(unit, cloud, x)))(clouds)
    clt = observables.clt_variance(outputs, particles)
    assert (jnp.abs(clt.value - variance) < 4 * clt.standard_error + 4 * variance / 200).all()
    chaos = observables.chaos_error(outputs, limit, particles)
    assert abs(float(chaos.value) - float(variance.mean())) < 4 * float(chaos.standard_error) + 4 * 2 / 200


def test_the_error_of_a_variance_is_that_of_repeated_experiments(key):
    """1,000 experiments of 50 uniform seeds: the stated standard error is the spread of the estimates, within 10%."""
    draws = jax.random.uniform(key, (1000, 50, 1))
    found = jax.vmap(lambda outputs: observables.clt_variance(outputs, 1))(draws)
    assert abs(float(found.standard_error.mean() / found.value.std()) - 1) < 0.1


def test_observables_say_what_is_wrong(unchecked):
    F, nodes = meanfield.quadratic(1.0), observables.grid_nodes(jnp.linspace(-1.0, 1.0, 5))
    with pytest.raises(ValueError, match=r"neighbours must be in 1..2"):
        observables.entropy(jnp.zeros((3, 1)), neighbours=3)
    with pytest.raises(ValueError, match="temperature must be positive"):
        observables.duality_gap(F, 0.0, jnp.zeros((5, 1)), nodes)
    with pytest.raises(ValueError, match="outputs must hold at least 4"):
        observables.clt_variance(jnp.zeros((3, 1)), 5)


def test_particles_without_mass_leave_the_error_of_a_free_energy():
    """In float32 the square of their energy, 1e40, is infinite."""
    x = jax.random.normal(jax.random.key(0), (40, 1))
    more = meanfield.as_cloud(jnp.concatenate([x, jnp.full((3, 1), 1e10)]), jnp.r_[jnp.ones(40), jnp.zeros(3)])
    found, alone = (observables.free_energy(meanfield.quadratic(1.0), 1.0, cloud) for cloud in (more, x))
    np.testing.assert_allclose(found.value, alone.value, rtol=1e-4)
    np.testing.assert_allclose(found.standard_error, alone.standard_error, rtol=1e-4)
    assert int(found.status) == 0
