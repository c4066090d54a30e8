"""One driver for every flow: scan, observe, and keep a state from which another call continues bit for bit."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key, PRNGKeyArray, PyTree

from jaxtheory.checks import boundary, require
from jaxtheory.meanfield.cloud import Cloud, as_cloud, split
from jaxtheory.meanfield.flows import Flow
from jaxtheory.results import Status, status_where


class State(NamedTuple):
    """All that a run needs to go on: the cloud, the flow's memory, the key, the steps done.

    `broken` is, for each particle, the step after which it was first not finite, or −1.
    """

    cloud: Cloud
    memory: Any
    key: PRNGKeyArray
    step: Int[Array, ""]
    broken: Int[Array, " N"]


class Simulation(NamedTuple):
    """The last state, what was observed and after which steps, and how it ended.

    `status` is NOT_FINITE where a particle left the numbers, first after step `diverged_at` (−1: never).
    """

    state: State
    records: Any
    recorded_at: Int[Array, " records"]
    status: Int[Array, ""]
    diverged_at: Int[Array, ""]


@boundary(static=("steps", "record_every"))
def simulate(
    flow: Flow,
    particles: Cloud | PyTree | None = None,
    *,
    steps: int,
    key: Key[Array, ""] | None = None,
    observe: Callable[[Cloud], PyTree[Array]] | None = None,
    record_every: int | None = None,
    mesh: Mesh | None = None,
    state: State | None = None,
) -> Simulation:
    r"""Run a flow for `steps` steps; step k draws from fold_in(key, k) alone.

    Args:
        flow: from `langevin`, `gradient_flow`, ...; make it once and pass it again, so that it is compiled once.
        particles: where to start: an array [N, ...], a pytree of them, or a `Cloud` with weights.
        steps: ≥ 0, a multiple of `record_every`.
        key: of all randomness; needed to start.
        observe: what to record of the cloud, any pytree of arrays, e.g. `lambda cloud: cloud.particles` for the whole
            trajectory; None records nothing.
        record_every: observe after every so many steps; `steps`, so once at the end, by default.
        mesh: split the particles over its devices, also those of other processes that make the same call. The draws do
            not depend on it.
        state: a `Simulation.state` to continue, in place of particles, key and mesh: the same numbers, bit for bit, as
            if the earlier run had gone on.

    Returns:
        `Simulation`; records have a leading axis of steps/record_every.

    Raises:
        ValueError: both or neither of particles and state, steps that are not a multiple of record_every, particles
            of the wrong shape, or of a number that the devices do not divide.

    Cost: one compilation for each flow, observer and number of records, whatever the number of steps. Peak memory
    beside the records, in copies of the particles, input and output among them and whatever the data: 4 for a gradient
    flow of a `risk`, 9 for Langevin and 11 for kinetic Langevin, as compiled for a CPU, where a step's draws take 5.
    A blow-up costs no communication to notice: each particle keeps its own step.

    >>> from jaxtheory import meanfield
    >>> flow = meanfield.gradient_flow(meanfield.quadratic(1.0), 0.5)
    >>> run = simulate(flow, jnp.ones((2, 1)), steps=2, key=jax.random.key(0), observe=lambda c: c.particles.mean())
    >>> run.records, int(run.status)
    (Array([0.25], dtype=float32), 0)
    """
    every = max(steps, 1) if record_every is None else record_every
    require(steps >= 0, "steps", steps, "be >= 0", "count steps, not time")
    require(every >= 1 and steps % every == 0, "steps", steps, f"be a multiple of record_every={every}", "round it")
    given = "both" if particles is not None and state is not None else "neither"
    one = (particles is None) != (state is None)
    require(
        one, "state", given, "be given without particles, or not at all", "pass particles to start, state to resume"
    )
    if state is None:
        require(key is not None, "key", key, "be given to start", "use jax.random.key(0)")
        state = _start(flow, as_cloud(particles, mesh=mesh), key)
    return _run(flow, observe, steps // every, state, jnp.int32(every))


@partial(jax.jit, static_argnums=0)
def _start(flow: Flow, cloud: Cloud, key: PRNGKeyArray) -> State:
    broken = jnp.where(_lost(cloud), 0, jnp.full(cloud.size, -1, jnp.int32))
    return State(cloud, flow.init(cloud), key, jnp.int32(0), split(broken, cloud.mesh))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _run(flow: Flow, observe: Any, records: int, state: State, every: Array) -> Simulation:
    advance = partial(_step, flow)

    def stretch(state: State, _: None) -> tuple[State, Any]:
        # The number of steps is traced, so that one compiled body serves all runs: they agree to the last bit.
        state = jax.lax.fori_loop(jnp.int32(0), every, lambda _, s: advance(s), state)
        return state, None if observe is None else observe(state.cloud)

    start = state.step
    state, seen = jax.lax.scan(stretch, state, length=records)
    recorded_at = start + every * jnp.arange(1, records + 1, dtype=jnp.int32)
    never = jnp.int32(jnp.iinfo(jnp.int32).max)
    first = jnp.where(state.broken >= 0, state.broken, never).min()
    diverged = first < never
    status = status_where((diverged, Status.NOT_FINITE))
    return Simulation(state, seen, recorded_at, status, jnp.where(diverged, first, jnp.int32(-1)))


def _step(flow: Flow, state: State) -> State:
    key = jax.random.fold_in(state.key, state.step)
    cloud, memory = flow.step(state.cloud, state.memory, key, state.step)
    particles, weights = split((cloud.particles, cloud.weights), cloud.mesh)
    cloud = Cloud(particles, weights, cloud.mesh)
    step = state.step + 1
    broken = jnp.where(_lost(cloud) & (state.broken < 0), step, state.broken)
    return State(cloud, memory, state.key, step, broken)


def _lost(cloud: Cloud) -> Array:
    """Which particles, or their weights, are not finite."""
    leaves = [cloud.weights, *jax.tree.leaves(cloud.particles)]
    return ~jnp.stack([jnp.isfinite(leaf).reshape(cloud.size, -1).all(1) for leaf in leaves]).all(0)
