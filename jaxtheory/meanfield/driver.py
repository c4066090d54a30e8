"""One driver for every flow: scan, observe, and keep a state from which another call continues bit for bit."""

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, Key, PRNGKeyArray, PyTree

from jaxtheory.checks import boundary, require, require_arrays, returned
from jaxtheory.meanfield.cloud import Cloud, as_cloud, split
from jaxtheory.meanfield.flows import Flow
from jaxtheory.results import Status, status_where


class State(NamedTuple):
    """All that a run needs to go on: the cloud, the flow's memory, the key, the steps done.

    `broken` is, for each particle, the step after which it was first not finite, or −1.
    """

    cloud: Cloud
    memory: PyTree
    key: PRNGKeyArray
    step: Int[Array, ""]
    broken: Int[Array, " N"]


class Simulation(NamedTuple):
    """The last state, what was observed and after which steps, and how it ended.

    Where a stopping rule ended the run, `state.step` says when, and the later records repeat the last. `status` is
    NOT_FINITE where a particle left the numbers, first after step `diverged_at` (−1: never).
    """

    state: State
    records: PyTree
    recorded_at: Int[Array, " records"]
    status: Int[Array, ""]
    diverged_at: Int[Array, ""]


Observe = Callable[[State], PyTree] | None
Stop = Callable[[State], Bool[Array, ""]] | None


@boundary(static=("steps", "record_every", "donate"))
def simulate(
    flow: Flow,
    particles: Cloud | PyTree | None = None,
    *,
    steps: int,
    key: Key[Array, ""] | None = None,
    observe: Callable[[Cloud], PyTree[Array]] | None = None,
    observe_state: Callable[[State], PyTree[Array]] | None = None,
    record_every: int | None = None,
    stop: Callable[[State], Bool[Array, ""]] | None = None,
    reverse: bool = False,
    mesh: Mesh | None = None,
    state: State | None = None,
    donate: bool = False,
) -> Simulation:
    r"""Run a flow for `steps` steps; step k draws from fold_in(key, k) alone.

    Args:
        flow: from `langevin`, `gradient_flow`, ...; make it once and pass it again, so that it is compiled once.
        particles: where to start: an array [N, ...], a pytree of them, or a `Cloud` with weights.
        steps: ≥ 0, a multiple of `record_every`.
        key: of all randomness; needed to start.
        observe: what to record of the cloud, any pytree of arrays, e.g. `lambda cloud: cloud.particles` for the whole
            trajectory; None records nothing.
        observe_state: in place of `observe`, what to record of the whole state, e.g. of the velocities in
            `state.memory`, or of `state.step`.
        record_every: observe after every so many steps; `steps`, so once at the end, by default.
        stop: whether the run is over, asked after every record, e.g. `lambda state: F(state.cloud) < 1e-3`.
        reverse: compile for derivatives in reverse mode, by the particles and by numbers that the flow, its
            functional and the observer hold. Results agree with those of `reverse=False` up to rounding.
        mesh: split the particles over its devices, also those of other processes that make the same call. The draws do
            not depend on it.
        state: a `Simulation.state` to continue, in place of particles, key and mesh: the same numbers, bit for bit, as
            if the earlier run had gone on.
        donate: give up the memory of `state` to the run, which then holds one state less. Its arrays are deleted, all
            but the key and the number of steps; those of `particles` may be.

    Returns:
        `Simulation`; records have a leading axis of steps/record_every.

    Raises:
        ValueError: both or neither of particles and state, both observers, steps that are not a multiple of
            record_every, particles of the wrong shape, or of a number that the devices do not divide.

    Cost: one compilation for each flow, observer and number of records, whatever the number of steps. Peak memory
    beside the records, in copies of the particles, input and output among them and whatever the data: 4 for a gradient
    flow of a `risk`, 9 for Langevin and 11 for kinetic Langevin, as compiled for a CPU, where a step's draws take 5.
    With `reverse`, one compilation for each number of steps; a gradient holds at most 2√records + 2√record_every + 2
    states, of which a gradient flow's is one copy of the particles, and evaluates each step up to five times.
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
    require(not (donate and reverse), "donate", donate, "be left out with reverse=True", "derivatives need the start")
    require(
        one, "state", given, "be given without particles, or not at all", "pass particles to start, state to resume"
    )
    observers = "both" if observe and observe_state else "one"
    require(observers == "one", "observe", observers, "be left out beside observe_state", "put it into observe_state")
    if state is None:
        require(key is not None, "key", key, "be given to start", "use jax.random.key(0)")
        state = _start(flow, as_cloud(particles, mesh=mesh), key)
    look = observe_state if observe is None else _OfCloud(observe)
    if reverse:
        return _run_with_reverse(flow, look, stop, steps // every, every, state)
    if donate:
        given_up = (state.cloud, state.memory, state.broken)
        kept = (state.key, state.step)
        return _run_in_place(flow, look, stop, steps // every, given_up, kept, every=jnp.int32(every))
    return _run(flow, look, stop, steps // every, state, jnp.int32(every))


class _OfCloud(NamedTuple):
    """An observer of the cloud as an observer of the state; equal where the functions are."""

    observe: Callable[[Cloud], PyTree]

    def __call__(self, state: State) -> PyTree:
        return self.observe(state.cloud)


@partial(jax.jit, static_argnums=0)
def _start(flow: Flow, cloud: Cloud, key: PRNGKeyArray) -> State:
    broken = jnp.where(_lost(cloud), 0, jnp.full(cloud.size, -1, jnp.int32))
    return State(cloud, flow.init(cloud), key, jnp.int32(0), split(broken, cloud.mesh))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(flow: Flow, observe: Observe, stop: Stop, records: int, state: State, every: Array) -> Simulation:
    def stretch(state: State, over: Array) -> State:
        # The number of steps is traced, so that one compiled body serves all runs: they agree to the last bit.
        count = every if stop is None else jnp.where(over, 0, every)
        return jax.lax.fori_loop(jnp.int32(0), count, lambda _, s: _step(flow, s), state)

    return _recorded(stretch, observe, stop, state, partial(jax.lax.scan, length=records))


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _run_in_place(
    flow: Flow,
    observe: Observe,
    stop: Stop,
    records: int,
    given_up: tuple[Cloud, PyTree, Int[Array, " N"]],
    kept: tuple[PRNGKeyArray, Int[Array, ""]],
    *,
    every: Array,
) -> Simulation:
    """As `_run`; the caller's key is not its own to give up."""
    cloud, memory, broken = given_up
    return _run(flow, observe, stop, records, State(cloud, memory, *kept, broken), every)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _run_with_reverse(flow: Flow, observe: Observe, stop: Stop, records: int, every: int, state: State) -> Simulation:
    def steps(state: State) -> State:
        return checkpointed(lambda s, _: (_step(flow, s), None), state, every)[0]

    def stretch(state: State, over: Array) -> State:
        return steps(state) if stop is None else jax.lax.cond(over, lambda s: s, steps, state)

    return _recorded(stretch, observe, stop, state, partial(checkpointed, length=records))


def _recorded(
    stretch: Callable[[State, Array], State], observe: Observe, stop: Stop, state: State, scan: Any
) -> Simulation:
    """Stretches of steps with a record after each, until the run is over."""

    def record(carry: tuple[State, Array], _: None) -> tuple[tuple[State, Array], PyTree]:
        state, over = carry
        state = stretch(state, over)
        seen = None if observe is None else observe(state)
        if observe is not None:
            require_arrays("observe", seen)
        over = over if stop is None else over | returned("stop", stop(state), (), whole=bool).astype(bool)
        return (state, over), (seen, state.step)

    (state, _), (seen, recorded_at) = scan(record, (state, jnp.array(False)))
    never = jnp.int32(jnp.iinfo(jnp.int32).max)
    first = jnp.where(state.broken >= 0, state.broken, never).min()
    diverged = first < never
    status = status_where((diverged, Status.NOT_FINITE))
    return Simulation(state, seen, recorded_at, status, jnp.where(diverged, first, jnp.int32(-1)))


def checkpointed(body: Any, carry: PyTree, length: int) -> tuple[PyTree, PyTree]:
    """`lax.scan` of a body without inputs, whose reverse mode holds 2√length carries and one body's residuals."""
    again = jax.checkpoint(body, prevent_cse=False)
    inner = max(1, math.isqrt(length))
    outer, rest = divmod(length, inner)

    @partial(jax.checkpoint, prevent_cse=False)
    def part(carry: PyTree, _: None) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(again, carry, length=inner)

    carry, seen = jax.lax.scan(part, carry, length=outer)
    seen = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), seen)
    if rest == 0:
        return carry, seen
    carry, more = jax.lax.scan(again, carry, length=rest)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seen, more)


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
    # not stacked: under vmap a stack does not know how weights that are the same for all lie on an Explicit mesh
    kept = [jnp.isfinite(leaf).reshape(cloud.size, -1).all(1) for leaf in leaves]
    return ~reduce(jnp.logical_and, kept)
