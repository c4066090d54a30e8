"""The proximal step and entropic fictitious play against their exact laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import kernels, meanfield
from jaxtheory.meanfield import Cloud
from jaxtheory.results import Status

KAPPA = np.array([0.5, 3.0])


def attracted(a, kappa, b):
    """am²/2 + κ∫θ²/2 − bm, m the mean."""
    square = meanfield.risk(meanfield.neuron("identity"), "squared", jnp.ones((1, 1)), jnp.zeros(1))
    return a * square + meanfield.quadratic(kappa) - b * meanfield.potential(lambda t: t[0])


def run(flow, start, steps, seed=0):
    return meanfield.simulate(flow, start, steps=steps, key=jax.random.key(seed)).state.cloud


def test_the_proximal_step_of_a_quadratic_is_a_division(float64):
    """θ' = (θ + τ κ c)/(1 + τκ) for each coordinate, at a step far beyond the stable ones of explicit Euler."""
    kappa = jnp.asarray(KAPPA)
    F = meanfield.potential(lambda t: (kappa * (t - 1) ** 2).sum() / 2)
    theta = jnp.array([[2.0, -1.0], [0.5, 4.0], [1.0, 1.0]])
    start = Cloud(theta, jnp.array([0.5, 0.5, 0.0]))
    found = run(meanfield.jko(F, 100.0, tolerance=1e-9), start, 3).particles
    expected = 1 + (np.asarray(theta[:2]) - 1) / (1 + 100.0 * KAPPA) ** 3
    np.testing.assert_allclose(found[:2], expected, rtol=1e-9)
    np.testing.assert_array_equal(found[2], theta[2])  # of no mass


@pytest.mark.slow
def test_the_proximal_step_of_a_risk_is_implicit_euler(float64):
    """ℓ = (m − b)²/2 of the mean m: m' = (m + τb)/(1 + τ), and every particle moves by the same vector."""
    F = meanfield.risk(meanfield.neuron("identity"), "squared", jnp.ones((1, 1)), jnp.array([2.0]))
    theta, weights = jnp.array([[0.0], [1.0], [5.0]]), jnp.array([0.2, 0.5, 0.3])
    found = run(meanfield.jko(F, 0.7, tolerance=1e-9), Cloud(theta, weights), 1).particles
    m = float(weights @ theta[:, 0])
    np.testing.assert_allclose(found - theta, np.full((3, 1), (m + 0.7 * 2) / 1.7 - m), rtol=1e-9)


@pytest.mark.slow
def test_the_proximal_step_solves_its_equation_and_descends(key):
    """An MMD is not convex in the particles: θ' − θ + τ∇δF/δμ(θ') = 0 in float32, and F falls at a large step."""
    F = meanfield.mmd(kernels.gaussian(1.0), jax.random.normal(key, (5, 2)))
    theta = jax.random.normal(jax.random.key(7), (6, 2)) + 1.5
    tau = 5.0
    found = run(meanfield.jko(F, tau), theta, 1).particles
    left = found - theta + tau * meanfield.wasserstein_gradient(F)(found)
    assert float(jnp.linalg.norm(left)) < 1e-3 * float(jnp.linalg.norm(found - theta))
    assert float(F(found)) + float(((found - theta) ** 2).sum(1).mean()) / (2 * tau) < float(F(theta))


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.1, 10.0, 1000.0])
def test_long_proximal_steps_settle_in_wells(tau, key):
    """A double well with ripples, in float32: every step is solved, F never rises, and at last nothing moves.

    At τ = 1000 the gradient's rounding times τ is far above that of the particles, which is what counts.
    """
    F = meanfield.potential(lambda t: (t**4).sum() / 4 - (t**2).sum() / 2 + jnp.cos(3 * t).sum())
    start = 3 * jax.random.normal(key, (300, 3))
    run_of = meanfield.simulate(meanfield.jko(F, tau), start, steps=4, key=key, observe=F, record_every=1)
    assert int(run_of.status) == Status.OK
    values = np.concatenate([[float(F(start))], run_of.records])
    assert (np.diff(values) <= 1e-5 * np.abs(values[:-1])).all()
    stopped = run(meanfield.jko(F, tau, max_iterations=1), start, 1).particles
    assert jnp.isnan(stopped).all()
    if tau == 1000:
        slope = meanfield.wasserstein_gradient(F)(run_of.state.cloud)
        assert float(jnp.abs(slope).max()) < 1e-3


def quartic_step(theta, tau):
    """The proximal step of θ⁴/4 from one particle."""
    F = meanfield.potential(lambda t: (t**4).sum() / 4)
    cloud = meanfield.as_cloud(theta.reshape(1, 1))
    return meanfield.jko(F, tau, tolerance=1e-10).step(cloud, (), jax.random.key(0), jnp.int32(0))[0].particles[0, 0]


@pytest.mark.slow
def test_the_proximal_step_has_implicit_derivatives(float64):
    """θ' of θ⁴/4: θ' + τθ'³ = θ, so dθ'/dθ = 1/(1 + 3τθ'²) and dθ'/dτ = −θ'³/(1 + 3τθ'²)."""
    theta, tau = jnp.asarray(1.7), jnp.asarray(0.8)
    at, found = jax.value_and_grad(quartic_step, (0, 1))(theta, tau)
    at = float(at)
    np.testing.assert_allclose(at + 0.8 * at**3, 1.7, rtol=1e-9)
    np.testing.assert_allclose(found, np.array([1.0, -(at**3)]) / (1 + 3 * 0.8 * at**2), rtol=1e-7)


@pytest.mark.slow
def test_the_proximal_step_has_second_derivatives(float64):
    """d²θ'/dθ² = −6τθ'/(1 + 3τθ'²)³, forward over reverse and forward over forward."""
    theta, tau = jnp.asarray(1.7), jnp.asarray(0.8)
    at = float(quartic_step(theta, tau))
    second = -6 * 0.8 * at / (1 + 3 * 0.8 * at**2) ** 3
    np.testing.assert_allclose(jax.jacfwd(jax.grad(quartic_step))(theta, tau), second, rtol=1e-7)
    np.testing.assert_allclose(jax.jacfwd(jax.jacfwd(quartic_step))(theta, tau), second, rtol=1e-7)


@pytest.mark.slow
def test_fictitious_play_mixes_exactly(key):
    """δF/δμ = a m θ + κθ²/2 − bθ: mean and second moment of particles and chains follow a closed recursion.

    Within 4.5 standard errors of 20,000 particles; all share the measured mean m, which enters α n a η times a step
    with n inner steps, so its error counts once more.
    """
    a, kappa, b, heat, share, eta, inner = 0.8, 1.0, 1.5, 0.5, 0.3, 0.1, 4
    F = attracted(a, kappa, b)
    flow = meanfield.fictitious_play(F, heat, share, step_size=eta, inner_steps=inner)
    start = jax.random.normal(key, (20_000, 1)) - 1
    cloud = run(flow, start, 6)
    m, second, c, v = -1.0, 2.0, -1.0, 1.0
    for _ in range(6):
        for _ in range(inner):
            c, v = c - eta * (kappa * c + a * m - b), (1 - eta * kappa) ** 2 * v + 2 * heat * eta
        m, second = (1 - share) * m + share * c, (1 - share) * second + share * (v + c**2)
    theta = np.asarray(cloud.particles[:, 0])
    assert abs(theta.mean() - m) < 1.5 * 4.5 * theta.std() / np.sqrt(20_000)
    assert abs((theta**2).mean() - second) < 1.5 * 4.5 * (theta**2).std() / np.sqrt(20_000)


@pytest.mark.slow
def test_fictitious_play_ends_at_the_gibbs_measure_of_itself(key):
    """Mean b/(κ + a), variance λ/κ up to the chains' 1/(1 − ηκ/2), within 4.5 standard errors of 10,000."""
    a, kappa, b, heat, eta = 0.8, 1.0, 1.5, 0.5, 0.1
    F = attracted(a, kappa, b)
    flow = meanfield.fictitious_play(F, heat, 0.2, step_size=eta, inner_steps=20)
    theta = np.asarray(run(flow, jax.random.normal(key, (10_000, 1)) - 1, 40).particles[:, 0])
    variance = heat / kappa / (1 - eta * kappa / 2)
    assert abs(theta.mean() - b / (kappa + a)) < 4.5 * np.sqrt(variance / 10_000)
    assert abs(theta.var() - variance) < 4.5 * variance * np.sqrt(2 / 10_000)


def test_errors_name_the_argument(unchecked):
    F = meanfield.quadratic(1.0)
    play = {"temperature": 0.1, "share": 0.1, "step_size": 0.1, "inner_steps": 2}
    wrong = [
        (lambda: meanfield.jko(F, 0.0), "step_size must be positive"),
        (lambda: meanfield.jko(F, 1.0, tolerance=0.0), "tolerance must be positive"),
        (lambda: meanfield.jko(F, 1.0, max_iterations=0), "max_iterations must be >= 1"),
        (lambda: meanfield.fictitious_play(F, **play | {"temperature": -1.0}), "temperature must be >= 0"),
        (lambda: meanfield.fictitious_play(F, **play | {"share": 1.5}), "share must lie in"),
        (lambda: meanfield.fictitious_play(F, **play | {"inner_steps": 0}), "inner_steps must be >= 1"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
