"""Buckets of networks trained one after another on all devices, without pauses between them.

All records of a bucket are dispatched at once, its state donated from each to the next; while they run, the programs of
the next buckets are compiled, in threads of their own. The host waits for the devices once a bucket, and where a
checkpoint is due.
"""

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled
from jaxtyping import Array, Int, Key, PyTree

from jaxtheory.checks import require
from jaxtheory.conversion import Numbers
from jaxtheory.networks.fitting import (
    Build,
    Curves,
    Draws,
    Memory,
    Models,
    Recipe,
    Task,
    begin_models,
    first_memory,
    seed_draws,
    train_models,
)
from jaxtheory.networks.multilayer import Draw
from jaxtheory.networks.training import Training, TrainingState
from jaxtheory.sweeps.checkpoint import Checkpoint

_AHEAD = 4  # programs that are compiled at the same time, at most: each needs memory of its own

# In the shape of a bucket's losses, records and statuses, for a checkpoint's structure.
_RECORDS = (0, Curves._make((0, 0, 0, 0)), 0)
Records = tuple[Numbers, Curves, Numbers]  # losses, records and statuses, each [models, records]
Builds = Mapping[tuple[int, ...], Build]  # by the widths of a bucket


class Bucket(NamedTuple):
    """Networks that trained in one program, width by width and seed by seed on a leading axis."""

    widths: tuple[int, ...]
    params: PyTree
    training: TrainingState


class Setting(NamedTuple):
    """What all buckets share."""

    recipe: Recipe
    data: Task
    labels: Int[Array, "seeds n"] | None
    draws: PyTree
    batches: Key[Array, " seeds"]
    seeds: int
    mesh: Mesh


class Job(NamedTuple):
    """One bucket: its networks, padded to a multiple of the devices, and how they are built."""

    build: Build
    name: str
    size: int
    models: Models
    order: np.ndarray


class Launched(NamedTuple):
    """A bucket whose records are dispatched: what it returned earlier, and what will come."""

    job: Job
    memory: Memory
    earlier: list[Records]
    coming: list[Records]


def setting(recipe: Recipe, data: Task, draw: Draw, seeds: list[int], mesh: Mesh) -> Setting:
    """The draws of every seed, made once, for the widest network, on all devices."""
    noisy = data.noise > 0
    labels = data.y if noisy else None
    noise = np.asarray(data.noise, data.x.dtype)
    draws, labels, batches = seed_draws(draw, np.array(seeds, np.int32), labels, noise, recipe.outputs)
    data = data._replace(noise=0.0)  # is in the labels: programs do not depend on it
    data, labels, draws, batches = jax.device_put((data, labels, draws, batches), NamedSharding(mesh, PartitionSpec()))
    return Setting(recipe, data, labels, draws, batches, len(seeds), mesh)


def run_buckets(
    builds: Builds, shared: Setting, state: tuple[Bucket, ...] | None, checkpoint: Checkpoint | None
) -> list[Training]:
    """Every bucket's networks, `recipe.steps` further, in the order of width and seed."""
    runs: list[Training] = []
    running: Launched | None = None
    jobs = [_job(place, group, build, shared) for place, (group, build) in enumerate(builds.items())]
    ahead = min(os.cpu_count() or 1, _AHEAD)
    with ThreadPoolExecutor(ahead) as pool:
        compiling = [_compile(pool, job, shared) for job in jobs[:ahead]]
        for place, job in enumerate(jobs):
            start = None if state is None else (state[place].params, state[place].training)
            compiling[place].result()
            if running is not None:
                runs.append(_finished(running, checkpoint))
            running = _launched(job, shared, start, checkpoint)
            compiling += [_compile(pool, later, shared) for later in jobs[place + ahead : place + ahead + 1]]
    return runs if running is None else [*runs, _finished(running, checkpoint)]


def memory_shapes(build: Build, recipe: Recipe, draws: PyTree, count: int) -> Memory:
    """Shapes of the parameters and optimizer states of `count` networks."""
    one = jax.eval_shape(
        lambda d, width: first_memory(build(width), recipe, jax.tree.map(lambda leaf: leaf[0], d)),
        draws, jax.ShapeDtypeStruct((), np.int32),
    )  # fmt: skip
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), one)


def require_state(state: object, builds: Builds, shared: Setting) -> None:
    """A state to continue from is that of these widths, seeds, networks and optimizer."""
    if state is None:
        return
    buckets = [bucket for bucket in state if isinstance(bucket, Bucket)] if isinstance(state, tuple) else []
    sound = isinstance(state, tuple) and len(buckets) == len(state)
    require(sound, "state", type(state).__name__, "be the state of an earlier sweep", "pass sweep.state")
    found = [(bucket.widths, len(bucket.training.step)) for bucket in buckets]
    wish = [(group, len(group) * shared.seeds) for group in builds]
    hint = "pass the arguments of that sweep"
    require(found == wish, "state", found, f"be of the widths and seeds {wish}", hint)
    for bucket, (group, build) in zip(buckets, builds.items(), strict=True):
        wanted = memory_shapes(build, shared.recipe, shared.draws, len(group) * shared.seeds)
        same = _alike((bucket.params, bucket.training), wanted)
        require(same, "state", f"widths {group}", "be of the same network and optimizer", hint)


def _alike(tree: PyTree, like: PyTree) -> bool:
    found: object = jax.tree.structure(tree)
    if found != jax.tree.structure(like):
        return False
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True)
    return all(np.shape(a) == b.shape and a.dtype == b.dtype for a, b in pairs)


def _job(place: int, group: tuple[int, ...], build: Build, shared: Setting) -> Job:
    """Width by width and seed by seed; networks are repeated until they divide among the devices."""
    count = len(group) * shared.seeds
    order = np.arange(count - count % -shared.mesh.size) % count
    widths, seeds = np.repeat(np.array(group, np.int32), shared.seeds), np.tile(np.arange(shared.seeds), len(group))
    seeds = seeds[order].astype(np.int32)
    models = jax.device_put((widths[order], seeds), _split(shared.mesh))
    return Job(build, f"bucket-{place}", count, Models(*models), order)


def _split(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))


def _compile(pool: ThreadPoolExecutor, job: Job, shared: Setting) -> Future[tuple[Compiled, Compiled]]:
    """Compile a bucket's programs, which calls then find compiled; they are traced here, in the caller's settings."""
    shapes = memory_shapes(job.build, shared.recipe, shared.draws, len(job.order))
    split = _split(shared.mesh)
    memory = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split), shapes)
    begin = begin_models.lower(job.build, shared.recipe, shared.mesh, job.models, shared.draws)
    train = train_models.lower(*_arguments(job, shared), memory)
    return pool.submit(lambda: (begin.compile(), train.compile()))


def _arguments(job: Job, shared: Setting) -> tuple[Build, Recipe, Mesh, Draws, Models]:
    """Of the training program, all but the memory."""
    drawn = Draws(shared.data, shared.labels, shared.batches)
    return job.build, shared.recipe, shared.mesh, drawn, job.models


def _launched(job: Job, shared: Setting, start: Memory | None, checkpoint: Checkpoint | None) -> Launched:
    """Dispatch every record that a checkpoint does not hold.

    Each record is one call of the same program, whatever came before, so that a continued run has the bits of a whole.
    """
    memory, earlier = _begun(job, shared, start, checkpoint)
    done = sum(losses.shape[1] for losses, _, _ in earlier)
    coming: list[Records] = []
    for _ in range(shared.recipe.steps // shared.recipe.record_every - done):
        run = train_models(*_arguments(job, shared), memory)
        memory = (run.params, run.state)
        coming.append((run.losses, run.records, run.status))
        jax.tree.map(lambda leaf: leaf.copy_to_host_async(), coming[-1])
        if checkpoint is not None and checkpoint.due():
            checkpoint.save((jax.device_get(memory), _joined(earlier, coming)), job.name)
    return Launched(job, memory, earlier, coming)


def _begun(
    job: Job, shared: Setting, start: Memory | None, checkpoint: Checkpoint | None
) -> tuple[Memory, list[Records]]:
    """Where a bucket goes on: at its checkpoint, at the state given, or at the start; and the records until there."""
    shapes = memory_shapes(job.build, shared.recipe, shared.draws, len(job.order))
    kept = None if checkpoint is None else checkpoint.load((shapes, _RECORDS), job.name)
    if kept is not None and _alike(kept[0], shapes):
        return jax.device_put(kept[0], _split(shared.mesh)), [kept[1]]
    if start is None:
        return begin_models(job.build, shared.recipe, shared.mesh, job.models, shared.draws), []
    # a copy, since the program is given what it is called with
    return jax.device_put(jax.tree.map(lambda leaf: leaf[job.order], start), _split(shared.mesh)), []


def _finished(launched: Launched, checkpoint: Checkpoint | None) -> Training:
    """Wait for a bucket; its networks without repetitions."""
    losses, records, statuses = _joined(launched.earlier, launched.coming)
    if checkpoint is not None and launched.coming:
        checkpoint.save((jax.device_get(launched.memory), (losses, records, statuses)), launched.job.name)
    params, state = launched.memory
    run = Training(params, state, losses, records, statuses.max(axis=1))
    return jax.tree.map(lambda leaf: leaf[: launched.job.size], run)


def _joined(earlier: list[Records], coming: list[Records]) -> PyTree:
    """One record of all, fetched from the devices."""
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *earlier, *jax.device_get(coming))
