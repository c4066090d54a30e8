"""The driver: continuation to the last bit, records, what a blow-up says, and what eight devices exchange."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from collectives import collectives

from jaxtheory import kernels, meanfield
from jaxtheory.meanfield.driver import _run_in_place
from jaxtheory.results import Status

SAMPLES = 20


@pytest.fixture(scope="module")
def functional():
    x = jax.random.normal(jax.random.key(1), (SAMPLES, 5))
    risk = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, jnp.sin(x[:, 0]), block=3)
    return risk + meanfield.quadratic(0.1)


@pytest.fixture(scope="module")
def particles():
    return jax.random.normal(jax.random.key(2), (64, 5))


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((2, 4), ("a", "b"))  # all devices of any mesh are used


def flows(functional):
    return {
        "gradient": meanfield.gradient_flow(functional, 0.1),
        "langevin": meanfield.langevin(functional, 0.01, 0.1),
        "kinetic": meanfield.kinetic(functional, 0.01, 0.1),
    }


@pytest.mark.parametrize("name", ["gradient", "langevin", "kinetic"])
@pytest.mark.first_case
@pytest.mark.slow
def test_eight_devices_exchange_the_outputs_once_a_step(functional, particles, mesh, name, key):
    """One all-reduce of n numbers in the whole program, beside the scalar of the status; the trajectory is the same."""
    flow = flows(functional)[name]

    @jax.jit
    def run(cloud):
        return meanfield.simulate(flow, cloud, steps=10, key=key)

    cloud = meanfield.as_cloud(particles, mesh=mesh)
    compiled = run.lower(cloud).compile()
    outputs = [("all-reduce", SAMPLES)]
    starting = outputs if name == "kinetic" else []  # the gradient it starts from
    assert collectives(compiled) == [*starting, *outputs, ("all-reduce", 1)]
    alone = meanfield.simulate(flow, particles, steps=10, key=key)
    together = compiled(cloud)
    np.testing.assert_allclose(
        np.asarray(together.state.cloud.particles), np.asarray(alone.state.cloud.particles), atol=2e-6
    )


@pytest.mark.slow
def test_pairs_meet_around_a_ring(particles, mesh):
    """The double sum and its gradient do not depend on the number of devices, and only neighbours exchange blocks."""
    mmd = meanfield.mmd(kernels.gaussian(1.0), jnp.ones((7, 5)))
    flow = meanfield.stein(mmd, kernels.gaussian(1.0), 0.5, 0.3)
    cloud = meanfield.as_cloud(particles, mesh=mesh)
    run = jax.jit(lambda cloud: meanfield.simulate(flow, cloud, steps=3, key=jax.random.key(0)).state.cloud.particles)
    compiled = run.lower(cloud).compile()
    np.testing.assert_allclose(np.asarray(compiled(cloud)), np.asarray(run(particles)), atol=3e-6)
    kinds = {kind for kind, _ in collectives(compiled)}
    assert "collective-permute" in kinds
    assert "all-gather" not in kinds


@pytest.mark.smoke
def test_a_continued_run_is_the_run_to_the_last_bit(functional, particles, key):
    """Whatever was observed, and however the steps were cut."""
    flow = flows(functional)["kinetic"]
    observe = functional
    whole = meanfield.simulate(flow, particles, steps=60, key=key, observe=observe, record_every=10)
    first = meanfield.simulate(flow, particles, steps=20, key=key, observe=observe, record_every=10)
    second = meanfield.simulate(flow, state=first.state, steps=40, observe=observe, record_every=20)
    for one, other in zip(jax.tree.leaves(whole.state), jax.tree.leaves(second.state), strict=True):
        assert bool((one == other).all())
    assert jnp.concatenate([first.recorded_at, second.recorded_at]).tolist() == [10, 20, 40, 60]
    np.testing.assert_array_equal(second.records, whole.records[jnp.array([3, 5])])


@pytest.mark.smoke
def test_a_donated_state_is_written_over(functional, particles, key):
    """The same numbers; the arrays given up are gone, the key is not, and the program holds one state less."""
    flow = flows(functional)["kinetic"]
    kept = meanfield.simulate(flow, particles, steps=3, key=key, donate=True).state
    whole = meanfield.simulate(flow, state=kept, steps=7).state
    given_up = (kept.cloud, kept.memory, kept.broken)
    lowered = _run_in_place.lower(flow, None, None, 1, given_up, (kept.key, kept.step), every=jnp.int32(7))
    assert lowered.compile().memory_analysis().alias_size_in_bytes == sum(
        leaf.nbytes for leaf in jax.tree.leaves(given_up)
    )
    again = meanfield.simulate(flow, state=kept, steps=7, donate=True).state
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), whole, again))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given_up))
    assert not kept.key.is_deleted()


def test_a_trajectory_is_recorded_where_asked(key):
    """θ_k = (1 − η)^k θ_0, in every record; nothing is recorded by default."""
    flow = meanfield.gradient_flow(meanfield.quadratic(1.0), 0.5)
    run = meanfield.simulate(
        flow, jnp.ones((2, 1)), steps=4, key=key, observe=lambda cloud: cloud.particles, record_every=2
    )
    np.testing.assert_array_equal(run.records[:, 0, 0], [0.25, 0.0625])
    assert meanfield.simulate(flow, jnp.ones((2, 1)), steps=4, key=key).records is None


def test_a_blow_up_names_its_step(key):
    """θ ← −3θ passes the largest float32, 3.4028e38 = 3^80.7…, at step 81, for the particle that starts at one."""
    flow = meanfield.gradient_flow(meanfield.quadratic(1.0), 4.0)
    fine = meanfield.simulate(flow, jnp.array([[1.0], [1e-6]]), steps=80, key=key)
    assert (int(fine.status), int(fine.diverged_at)) == (Status.OK, -1)
    assert jnp.isfinite(fine.state.cloud.particles).all()
    broken = meanfield.simulate(flow, state=fine.state, steps=4)
    assert (int(broken.status), int(broken.diverged_at)) == (Status.NOT_FINITE, 81)
    assert broken.state.broken.tolist() == [81, -1]
    born = meanfield.simulate(flow, jnp.array([[jnp.nan]]), steps=1, key=key)
    assert (int(born.status), int(born.diverged_at)) == (Status.NOT_FINITE, 0)


def test_bad_arguments_are_named(functional, particles, key, mesh, unchecked):
    flow = flows(functional)["gradient"]
    wrong = [
        (
            {"particles": particles, "steps": 5, "key": key, "record_every": 2},
            "steps must be a multiple of record_every=2",
        ),
        ({"particles": particles, "steps": 5}, "key must be given to start"),
        ({"steps": 5, "key": key}, "state must be given without particles"),
        ({"particles": particles[:6], "steps": 5, "key": key, "mesh": mesh}, "particles must split over 8 devices"),
        ({"particles": particles[:, :4], "steps": 5, "key": key}, "particles must fit the unit"),
        ({"particles": particles, "steps": -1, "key": key}, "steps must be >= 0"),
    ]
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message):
            meanfield.simulate(flow, **arguments)
    with pytest.raises(ValueError, match=r"temperature must be >= 0.*got temperature=-1.0"):
        meanfield.langevin(functional, -1.0, 0.1)
    with pytest.raises(ValueError, match="temperature must be >= 0"):
        meanfield.kinetic(functional, -1.0, 0.1)
    with pytest.raises(ValueError, match="friction must be positive"):
        meanfield.kinetic(functional, 1.0, 0.1, friction=0.0)
    with pytest.raises(ValueError, match="step_size must be positive"):
        meanfield.gradient_flow(functional, 0.0)
    with pytest.raises(ValueError, match="method must be"):
        meanfield.gradient_flow(functional, 0.1, method="midpoint")
    with pytest.raises(ValueError, match=r"batch must be in 1..20"):
        meanfield.stochastic(functional, 21)
    with pytest.raises(ValueError, match="period must be >= 1"):
        meanfield.svrg(functional, 2, 0)
    with pytest.raises(ValueError, match="functional must average over data"):
        meanfield.stochastic(meanfield.quadratic(1.0), 2)
