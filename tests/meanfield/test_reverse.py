"""The driver's observers of the whole state, its stopping rule, and its reverse mode with checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import kernels, meanfield
from jaxtheory.meanfield.driver import checkpointed

WELL = meanfield.quadratic(1.0)
HALVING = meanfield.gradient_flow(WELL, 0.5)


def below_one(state):
    """A stopping rule that reads the cloud."""
    return state.cloud.particles.max() < 1.0


@pytest.mark.parametrize("reverse", [False, True])
def test_a_rule_stops_the_run(reverse, key):
    """8, 4, 2, 1, 1/2: asked after every second step, the rule ends the run at step 4; later records repeat it."""
    run = meanfield.simulate(
        HALVING,
        jnp.full((2, 1), 8.0),
        steps=10,
        key=key,
        observe_state=lambda state: (state.step, state.cloud.particles[0, 0]),
        record_every=2,
        stop=below_one,
        reverse=reverse,
    )
    assert int(run.state.step) == 4
    assert run.recorded_at.tolist() == [2, 4, 4, 4, 4]
    np.testing.assert_array_equal(run.records[0], run.recorded_at)
    np.testing.assert_array_equal(run.records[1], [2.0, 0.5, 0.5, 0.5, 0.5])


def test_observers_see_the_memory(key):
    """The velocities of kinetic Langevin without noise: kinetic and potential energy add up to a falling sum."""
    flow = meanfield.kinetic(WELL, 0.0, 0.1, friction=0.5)
    energy = lambda s: ((s.cloud.particles**2 + s.memory.velocity**2) / 2).mean()  # noqa: E731
    run = meanfield.simulate(flow, jnp.ones((3, 1)), steps=20, key=key, observe_state=energy, record_every=5)
    assert run.records[0] < 0.5
    assert (jnp.diff(run.records) < 0).all()


def test_reverse_mode_through_a_run(float64):
    """θ_k = (1 − ηκ)^k θ_0 in records and at the end: derivatives by θ_0, η and κ, with a remainder of steps."""

    def outcome(theta, eta, kappa):
        flow = meanfield.gradient_flow(meanfield.quadratic(kappa), eta)
        run = meanfield.simulate(
            flow,
            theta,
            steps=21,
            key=jax.random.key(0),
            observe=lambda c: c.particles.sum(),
            record_every=7,
            reverse=True,
        )
        return run.records.sum() + run.state.cloud.particles.sum()

    theta, eta, kappa = jnp.array([[2.0], [1.0]]), 0.1, 0.7
    found = jax.grad(outcome, (0, 1, 2))(theta, eta, kappa)
    shrink = 1 - eta * kappa
    np.testing.assert_allclose(found[0], shrink**7 + shrink**14 + 2 * shrink**21 + 0 * theta, rtol=1e-12)
    slope = 3.0 * (7 * shrink**6 + 14 * shrink**13 + 2 * 21 * shrink**20)
    np.testing.assert_allclose(found[1:], [-kappa * slope, -eta * slope], rtol=1e-12)


@pytest.mark.slow
def test_a_reversible_run_is_the_run(key):
    """Langevin with a stochastic gradient draws the same numbers."""
    x = jax.random.normal(key, (6, 2))
    F = meanfield.risk(meanfield.neuron("tanh"), "squared", x, x[:, 0]) + WELL
    flow = meanfield.langevin(meanfield.stochastic(F, 2), 0.1, 0.1)
    ends = [meanfield.simulate(flow, x, steps=11, key=key, reverse=reverse) for reverse in (False, True)]
    np.testing.assert_allclose(ends[0].state.cloud.particles, ends[1].state.cloud.particles, atol=2e-6)


def test_memory_of_the_reverse_mode_grows_as_the_root_of_the_steps():
    """Of the compiled program, in states of particles, weights and marks: what the docstring says, and not 1024."""
    bumps = meanfield.potential(lambda t: jnp.cos(t).sum())  # its drift depends on the place, so places are needed
    flow, particles = meanfield.gradient_flow(bumps, 0.5), jnp.zeros((2000, 10))

    def states(steps, every):
        def loss(start):
            run = meanfield.simulate(flow, start, steps=steps, key=jax.random.key(0), record_every=every, reverse=True)
            return bumps(run.state.cloud)

        held = jax.jit(jax.grad(loss)).lower(particles).compile().memory_analysis().temp_size_in_bytes
        return held / (4 * 2000 * (10 + 2))

    assert states(1024, 1024) < 2 + 2 * 32 + 2
    assert states(1024, 16) < 2 * 8 + 2 * 4 + 2


@pytest.mark.slow
def test_checkpointed_scans_are_scans():
    """Every length, also those that are no square, and none."""
    body = lambda c, _: (2 * c + 1, c)  # noqa: E731
    for length in (0, 1, 2, 3, 7, 12):
        found, expected = checkpointed(body, jnp.float32(1), length), jax.lax.scan(body, jnp.float32(1), length=length)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_reverse_mode_of_other_flows(float64, key):
    """Langevin, Stein and the proximal step against central differences along one direction."""
    F = meanfield.potential(lambda t: (t**2).sum() / 2 + jnp.cos(t).sum())
    start, direction = jax.random.normal(key, (4, 2)), jax.random.normal(jax.random.key(1), (4, 2))
    flows = (
        meanfield.langevin(F, 0.1, 0.2),
        meanfield.stein(F, kernels.gaussian(1.0), 0.5, 0.2),
        meanfield.jko(F, 0.5, tolerance=1e-10),
    )
    for flow in flows:
        end = jax.jit(
            lambda x, flow=flow: (
                meanfield.simulate(flow, x, steps=3, key=key, reverse=True).state.cloud.particles ** 3
            ).sum()
        )
        slope = (jax.grad(end)(start) * direction).sum()
        h = 1e-5
        difference = (end(start + h * direction) - end(start - h * direction)) / (2 * h)
        np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_one_observer_at_a_time(key, unchecked):
    with pytest.raises(ValueError, match="observe must be left out beside observe_state"):
        meanfield.simulate(HALVING, [[1.0]], steps=1, key=key, observe=WELL, observe_state=lambda s: s.step)
