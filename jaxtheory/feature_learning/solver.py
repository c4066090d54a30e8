"""The course of training of infinitely wide networks that learn features, by samples of the limit."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory import placement
from jaxtheory.checks import boundary, known, require
from jaxtheory.feature_learning.dynamics import Group, Law, Reading, Setup, Task, points_in_basis, read, start, step
from jaxtheory.feature_learning.gaussian_matrix import grown
from jaxtheory.feature_learning.problem import Data, Plan, Problem, fit_loss, problem
from jaxtheory.feature_learning.solution import Kernels, Solution, State, estimates, moved
from jaxtheory.losses import Loss
from jaxtheory.results import Status, finite_status, status_where

AXIS = "groups"
Summary = TypeVar("Summary")


class Course(NamedTuple):
    """Every group's readings [groups records ...] and last state."""

    readings: Reading
    groups: Group


@boundary(static=("depth", "steps", "samples", "groups", "outputs", "record_every", "fields"))
def solve(
    x: Float[Array, "n d"],
    y: Float[Array, "n ..."] | Int[Array, "n ..."],
    *,
    depth: int,
    activation: str | Callable[[Array], Array] = "tanh",
    richness: float,
    step_size: float,
    steps: int,
    key: Key[Array, ""] | None = None,
    loss: str | Loss = "squared",
    outputs: int | None = None,
    momentum: float = 0.0,
    batches: Int[Array, "steps batch"] | None = None,
    test_x: Float[Array, "m d"] | None = None,
    samples: int = 16_384,
    groups: int = 8,
    record_every: int | None = None,
    fields: int = 0,
    mesh: Mesh | None = None,
    state: State | None = None,
) -> Solution:
    r"""Training of a fully connected network with L hidden layers as its width N → ∞, features and all.

        h¹ = W⁰x/√d,  h^{l+1} = W^l φ(h^l)/√N,  f = w·φ(h^L)/(γ0 N),   all weights N(0, 1) at the start,

    by (heavy-ball) gradient descent with steps η γ0² N on Σ_μ ℓ(f_μ, y_μ). In the limit f(0) = 0, and one random
    network is as good as another. γ0 → 0 is the lazy limit of the constant tangent kernel; with L = 1 it is the
    mean-field flow of particles. The method is described in `feature_learning`: one causal sweep, no iteration.

    Args:
        x: points. y: targets [n] or [n, o]; or integer labels, with `outputs` for more than one output.
        depth: L ≥ 1. activation: φ, a name or an elementwise function.
        richness: γ0 > 0. step_size: η > 0. momentum: μ in [0, 1) of the heavy ball, which stays causal.
        steps: of gradient descent. key: of the samples; runs that differ in the numbers of training alone share draws.
        loss: "squared", "logistic", "cross_entropy", "hinge" or ℓ(prediction, target), see `losses`.
        batches: for each step the indices of its points (one may occur twice); all points by default.
        test_x: more points to predict at; they do not change anything else.
        samples: of each layer, over all groups. groups: independent parts of the samples, ≥ 2, whose spread gives the
            standard errors; the bias of a mean is O(groups / samples).
        record_every: steps between records, a divisor of `steps`; the start is always recorded.
        fields: samples of the pre-activations to return, at most samples / groups.
        mesh: split the groups over its devices. The numbers are those of one device.
        state: a `Solution.state` to continue in place of `key`, with the same data and sizes; steps go on, bit for bit.

    Returns:
        `Solution`.

    Raises:
        ValueError: what does not fit, by name; samples too few to be orthogonal, 4 (n + 2 steps · batch) a group.

    Cost: with K = n + steps · batch rows, S samples and L − 1 hidden matrices, 4 S K numbers of memory a matrix (the
    groups run one after the other, so that the working set is a 1/groups of that) and about 20 S K² flops a matrix,
    beside 20 S K (1 + outputs) n flops a record. No communication on a mesh but for the means at the end. Forward-mode
    derivatives.
    Source: Bordelon and Pehlevan (2022), equations 7-9, at discrete times.

    >>> x, y = jnp.array([[1.0, 0.0], [0.6, 0.8]]), jnp.array([1.0, -1.0])
    >>> run = solve(x, y, depth=2, richness=1.0, step_size=0.2, steps=20, key=jax.random.key(0), samples=4096)
    >>> run.predictions.value.shape, int(run.status), bool((abs(run.predictions.value[1] - y) < 0.7).all())
    ((2, 2), 0, True)
    """
    given = problem(
        x, y, depth=depth, activation=activation, richness=richness, step_size=step_size, momentum=momentum,
        steps=steps, record_every=record_every, loss=loss, outputs=outputs, batches=batches, test_x=test_x,
    )  # fmt: skip
    require((key is None) != (state is None), "key", key, "be given to start, and only then", "pass key or state")
    require(groups >= 2, "groups", groups, "be >= 2 for a standard error", "use groups=8")
    even = samples >= 1 and samples % (2 * groups) == 0
    require(even, "samples", samples, f"be a multiple of 2 · groups, {2 * groups}", "round it up")
    require(0 <= fields <= samples // groups, "fields", fields, f"lie in 0..{samples // groups}", "keep fewer")
    done = 0 if state is None else _steps_done(state, given, depth, samples // groups, groups)
    setup = arrange(given, depth, "matched", samples // groups, fields, done)
    least = 4 * groups * (setup.rows + len(x) if depth > 1 else len(x))
    require(samples >= least, "samples", samples, f"be at least {least} here", "draw more, or train fewer steps")
    begin = state.groups if state is not None else jax.random.split(jnp.asarray(key), groups)
    return run(setup, given, begin, groups=groups, mesh=mesh, summary=summarized)


def arrange(given: Problem, depth: int, law: Law, samples: int, fields: int, done: int = 0) -> Setup:
    """The static part of a run that has made `done` steps before."""
    plan = given.plan
    rows = max((done + plan.steps) * plan.batch, len(given.data.x))
    return Setup(depth, plan.activation, plan.loss, plan.shape, law, samples, plan.batch, rows, _block(plan), fields)


def run(
    setup: Setup,
    given: Problem,
    begin: Key[Array, " groups"] | Group,
    *,
    groups: int,
    mesh: Mesh | None,
    summary: Callable[[Setup, Problem, Course], Summary],
) -> Summary:
    """All groups, one after the other on each device, and what `summary` makes of them."""
    line = None if mesh is None else placement.line(mesh, AXIS)
    if line is not None:
        divides = groups % line.size == 0
        require(divides, "groups", groups, f"be a multiple of {line.size} devices", "pass groups=... to match")
    return _run(setup, given.plan, line, summary, given.data, begin, every=jnp.int32(given.plan.every))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(
    setup: Setup, plan: Plan, mesh: Mesh | None, summary: Callable[[Setup, Problem, Course], Summary], data: Data,
    begin: Key[Array, " groups"] | Group, *, every: Array,
) -> Summary:  # fmt: skip
    records = plan.steps // plan.every

    def all_groups(data: Data, every: Array, begin: Key[Array, " groups"] | Group) -> Course:
        points, test, test_rest = points_in_basis(data.x, data.test)
        task = Task(points, data.y, test, test_rest, data.richness, data.step_size, data.momentum)
        return lax.map(lambda one: _group(setup, records, task, data.batches, every, one), begin)

    course = all_groups
    if mesh is not None:
        split, whole = PartitionSpec(AXIS), PartitionSpec()
        course = jax.shard_map(all_groups, mesh=mesh, in_specs=(whole, whole, split), out_specs=split, check_vma=False)
    return summary(setup, Problem(data, plan), course(data, every, begin))


def _group(
    setup: Setup, records: int, task: Task, batches: Array | None, every: Array, begin: Key[Array, ""] | Group
) -> Course:
    """One group from its key, or from its state."""
    group = begin if isinstance(begin, Group) else start(setup, task, begin)
    group = group._replace(matrices=tuple(grown(matrix, setup.rows) for matrix in group.matrices))
    first, everyone = group.step, jnp.arange(len(task.points), dtype=jnp.int32)

    def advance(_: Array, group: Group) -> Group:
        return step(setup, task, group, everyone if batches is None else batches[group.step - first])

    def stretch(group: Group, last: Array) -> tuple[Group, Reading]:
        reading = read(setup, task, group)
        turns = jnp.where(last, jnp.int32(0), every)
        # the number of steps is traced, so that one compiled body serves all runs: they agree to the last bit
        return lax.fori_loop(jnp.int32(0), turns, advance, group), reading

    group, readings = lax.scan(stretch, group, jnp.arange(records + 1) == records)
    return Course(readings, group)


def summarized(setup: Setup, given: Problem, course: Course) -> Solution:
    """Means and standard errors over the groups."""
    readings, state = course
    kernels = Kernels(readings.features, readings.gradients, readings.tangent)
    shape = (*readings.predictions.shape[:-1], *given.plan.shape)
    test = readings.test.reshape(*readings.test.shape[:-1], *given.plan.shape) if len(given.data.test) else None
    found: tuple[PyTree, PyTree, PyTree, PyTree] = estimates(
        (readings.predictions.reshape(shape), test, kernels, moved(kernels))
    )
    times = state.step[0] + jnp.arange(-given.plan.steps, 1, given.plan.every, dtype=jnp.int32)
    kept = jnp.moveaxis(readings.fields, 0, -2)
    kept = kept.reshape(*kept.shape[:-2], -1)[..., : setup.kept]
    return Solution(times, *found, kept, State(state), status_of(given, (found, kept)))


def status_of(given: Problem, found: PyTree) -> Int[Array, ""]:
    """NOT_FINITE, INVALID_INPUT or ILL_CONDITIONED where they apply."""
    data = given.data
    numbers = jnp.stack([data.richness, data.step_size, data.momentum])
    invalid = ~(jnp.isfinite(numbers).all() & jnp.isfinite(data.x).all() & jnp.isfinite(data.test).all())
    if data.batches is not None:
        invalid |= ((data.batches < 0) | (data.batches >= len(data.x))).any()
    invalid |= ~jnp.asarray(fit_loss(given.plan.loss, data.y, given.plan.shape))
    status = finite_status(found, status_where((invalid, Status.INVALID_INPUT)))
    rounding = jnp.finfo(data.x.dtype).eps / data.richness
    lost = (status == Status.OK) & (rounding > 1e-2)
    return jnp.where(lost, jnp.int32(Status.ILL_CONDITIONED), status)


def _block(plan: Plan) -> int:
    """Rows of a block: a whole number of steps, about 128."""
    return plan.batch * max(1, 128 // plan.batch)


def _steps_done(state: State, given: Problem, depth: int, samples: int, groups: int) -> int:
    """How many steps a state has room for, once it is known to fit."""
    held = state.groups
    shape = (len(held.first), *held.first.shape[1:], len(held.matrices), held.readout.shape[1])
    wanted = (groups, len(given.data.x), samples, depth - 1, int(np.prod(given.plan.shape, dtype=int)))
    require(
        shape == wanted, "state", shape, f"be of (groups, n, samples, depth - 1, outputs) = {wanted}", "continue so"
    )
    if depth == 1:
        return 0
    matrix = held.matrices[0]
    width = _block(given.plan)
    require(
        matrix.inputs.shape[2] == width, "batches", given.plan.batch, "have the size of the earlier run's", "keep it"
    )
    if not known(matrix.filled):
        return int(matrix.inputs.shape[1] * width // given.plan.batch)
    return int(np.asarray(matrix.filled).max()) // given.plan.batch
