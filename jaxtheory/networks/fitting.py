"""What a sweep of networks trains on and records: data, labels with noise, losses, and the one compiled program."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

from jaxtheory.checks import holds, require
from jaxtheory.data import flip_labels, one_hot
from jaxtheory.networks.multilayer import Multilayer
from jaxtheory.networks.training import Training, TrainingState, begin, minibatch, train

Loss = Literal["mse", "xent"]
Memory = tuple[PyTree, TrainingState]


class Task(NamedTuple):
    """Points and targets; `noise` is the fraction of training labels that each seed flips."""

    x: Float[Array, "n *shape"]
    y: Shaped[Array, "n *outputs"]
    x_test: Float[Array, "m *shape"]
    y_test: Shaped[Array, "m *outputs"]
    noise: Float[Array, ""]


class Recipe(NamedTuple):
    """How each network is trained; static under jit."""

    optimizer: optax.GradientTransformation
    steps: int
    record_every: int
    loss: Loss
    batch_size: int | None
    outputs: int


class Curves(NamedTuple):
    """Mean loss and fraction of errors, on the training targets (label noise included) and on the test targets."""

    train_loss: Array
    train_error: Array
    test_loss: Array
    test_error: Array


def task(x: Array, y: Array, x_test: Array, y_test: Array, label_noise: float, loss: str) -> tuple[Task, int]:
    """The data once checked, and the number of outputs that a network needs.

    Raises:
        ValueError: shapes or dtypes that do not match, values NaN or infinite, fewer samples than classes, label noise
            outside [0, 1] or on targets that are not labels, cross-entropy on them, an unknown loss.
    """
    require(loss in ("mse", "xent"), "loss", repr(loss), 'be "mse" or "xent"', "choose one")
    for name, value, like in (("x_test", x_test, x), ("y_test", y_test, y)):
        same = value.shape[1:] == like.shape[1:] and value.dtype == like.dtype
        found, wish = f"{value.dtype}{list(value.shape)}", f"be like the training data, {like.dtype}{list(like.shape)}"
        require(same, name, found, wish, "prepare both alike")
    for name, value, points in (("y", y, x), ("y_test", y_test, x_test)):
        require(len(value) == len(points) > 0, name, len(value), f"have {len(points)} rows", "pass one row a point")
    require(jnp.issubdtype(x.dtype, jnp.floating), "x", x.dtype, "be floating", "pass x.astype('float32')")
    for name, value in (("x", x), ("y", y), ("x_test", x_test), ("y_test", y_test)):
        require(holds(np.isfinite, value), name, "values NaN or infinite", "be finite", "drop or fill what is missing")
    share = holds(lambda value: (value >= 0) & (value <= 1), label_noise)
    require(share, "label_noise", label_noise, "be within [0, 1]", "pass a fraction of labels")
    return Task(x, y, x_test, y_test, jnp.asarray(label_noise, x.dtype)), _outputs(x, y, y_test, label_noise, loss)


def _outputs(x: Array, y: Array, y_test: Array, label_noise: float, loss: str) -> int:
    """The number of classes, or of target columns."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        require(loss == "mse", "loss", repr(loss), 'be "mse" for floating targets', "pass integer labels")
        require(label_noise == 0, "label_noise", label_noise, "be 0 for floating targets", "add noise to y yourself")
        require(y.dtype == x.dtype, "y", y.dtype, f"have the dtype of x, {x.dtype}", "cast it")
        return 1 if y.ndim == 1 else y.shape[1]
    low, classes = int(min(y.min(), y_test.min())), 1 + int(max(y.max(), y_test.max()))
    require(y.ndim == 1 and low >= 0 and classes >= 2, "y", f"{low}..{classes - 1}", "be labels 0..K−1", "number them")
    require(len(y) >= classes, "y", f"{len(y)} samples", f"have at least one for each of {classes} classes", "add data")
    return classes


def seed_list(seeds: Any) -> list[int]:
    """Seeds as numbers: a count means 0 … count − 1.

    >>> seed_list(3), seed_list([7])
    ([0, 1, 2], [7])
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    distinct = len(numbers) >= 1 and len(set(numbers)) == len(numbers) and min(numbers) >= 0
    require(distinct, "seeds", seeds, "be a positive count, or distinct numbers >= 0", "use seeds=3, say")
    return numbers


def widths_list(widths: Any) -> list[int]:
    """Widths as distinct positive numbers."""
    given = list(widths)
    numbers = [int(width) for width in given]
    require(numbers == given, "widths", given, "be whole numbers", "round them")
    positive = len(numbers) >= 1 and min(numbers) >= 1 and len(set(numbers)) == len(numbers)
    require(positive, "widths", numbers, "be distinct and >= 1", "drop width 0, and name each once")
    return numbers


def keys_of(seed: Any) -> tuple[PRNGKeyArray, PRNGKeyArray, PRNGKeyArray]:
    """Of initialization, of label noise, of minibatches."""
    start, labels, batches = jax.random.split(jax.random.key(seed), 3)
    return start, labels, batches


def fit(
    network: Multilayer, recipe: Recipe, data: Task, seed: Int[Array, ""], fresh: Array, memory: Memory
) -> Training:
    """Train one network up to its next record, its `Curves`, from its seed if `fresh`, or from where it was."""
    _, labels, batches = keys_of(seed)
    targets, tests = targets_of(data.y, recipe, data, labels), targets_of(data.y_test, recipe, data, None)
    pointwise, optimizer = losses[recipe.loss], optimizer_of(network, recipe)

    def loss(params: PyTree, key: PRNGKeyArray | None = None) -> Array:
        rows = None if key is None else minibatch(key, len(data.x), recipe.batch_size or len(data.x))
        x, y = (data.x, targets) if rows is None else (data.x[rows], targets[rows])
        return pointwise(network.apply(params, x), y).mean()

    def record(params: PyTree) -> Curves:
        ours, theirs = network.apply(params, data.x), network.apply(params, data.x_test)
        measured = (pointwise(ours, targets), errors(ours, targets), pointwise(theirs, tests), errors(theirs, tests))
        return Curves(*(values.mean(dtype=data.x.dtype) for values in measured))

    params, state = jax.lax.cond(fresh, lambda: start(network, recipe, seed), lambda: memory)
    return train(
        loss, params, optimizer=optimizer, steps=recipe.record_every, key=batches if recipe.batch_size else None,
        record=record, record_every=recipe.record_every, state=state, mask=network.mask,
    )  # fmt: skip


def start(network: Multilayer, recipe: Recipe, seed: Int[Array, ""]) -> Memory:
    """Parameters and optimizer state before the first step."""
    params = network.init(keys_of(seed)[0])
    return params, begin(optimizer_of(network, recipe), params)


def optimizer_of(network: Multilayer, recipe: Recipe) -> optax.GradientTransformation:
    """The optimizer at the rate of the network's width."""
    return optax.chain(recipe.optimizer, optax.scale(network.rate))


def targets_of(y: Array, recipe: Recipe, data: Task, key: PRNGKeyArray | None) -> Float[Array, "n outputs"]:
    """Targets as columns; labels one-hot, flipped first where there is a key."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y.reshape(len(y), -1)
    noisy = y if key is None else flip_labels(y, data.noise, key, classes=recipe.outputs)
    return one_hot(noisy, recipe.outputs, data.x.dtype)


def squared(outputs: Float[Array, "n k"], targets: Float[Array, "n k"]) -> Float[Array, " n"]:
    """‖f − y‖², summed over outputs."""
    return ((outputs - targets) ** 2).sum(axis=1)


def cross_entropy(outputs: Float[Array, "n k"], targets: Float[Array, "n k"]) -> Float[Array, " n"]:
    """−Σ y log softmax(f)."""
    return -(targets * jax.nn.log_softmax(outputs, axis=1)).sum(axis=1)


losses: dict[str, Callable[[Array, Array], Array]] = {"mse": squared, "xent": cross_entropy}


def errors(outputs: Float[Array, "n k"], targets: Float[Array, "n k"]) -> Array:
    """Whether the largest output is not the target's; for one output, whether the sign is not."""
    if outputs.shape[1] == 1:
        return (jnp.sign(outputs) != jnp.sign(targets))[:, 0]
    return outputs.argmax(axis=1) != targets.argmax(axis=1)


@partial(jax.jit, static_argnames=("build", "recipe", "mesh"))
def train_models(
    build: Callable[[Array], Multilayer],
    recipe: Recipe,
    mesh: Mesh,
    data: Task,
    fresh: Array,
    widths: Int[Array, " models"],
    seeds: Int[Array, " models"],
    memory: Memory,
) -> Training:
    """The one compiled program: `build(width)` from each seed to its next record, each device its share of them."""

    def one(data: Task, fresh: Array, width: Array, seed: Array, past: Memory) -> Training:
        return fit(build(width), recipe, data, seed, fresh, past)

    split, whole = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
    mapped = jax.vmap(one, in_axes=(None, None, 0, 0, 0))
    specs = (whole, whole, split, split, split)
    # check_vma=False: an optimizer's first state is made of constants, which vary over no axis and would be refused.
    return jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(
        data, fresh, widths, seeds, memory
    )


def run_models(
    build: Callable[[Array], Multilayer],
    recipe: Recipe,
    data: Task,
    models: list[tuple[int, int]],
    memory: Memory | None,
    mesh: Mesh,
) -> Training:
    """Train the (width, seed) pairs, sharded over the mesh; pairs are repeated until they divide.

    Each record is one call of the same program, whatever came before, so that a continued run has the bits of a whole.
    """
    order = np.arange(len(models) - len(models) % -mesh.size) % len(models)
    widths, seeds = np.array(models, np.int32)[order].T
    split, whole = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])), NamedSharding(mesh, PartitionSpec())
    fresh = memory is None
    memory = _blank(build, recipe, len(order)) if memory is None else jax.tree.map(lambda leaf: leaf[order], memory)
    widths, seeds, memory = jax.device_put((widths, seeds, memory), split)
    data, records, statuses = jax.device_put(data, whole), [], []
    for _ in range(recipe.steps // recipe.record_every):
        run = train_models(build, recipe, mesh, data, np.array(fresh), widths, seeds, memory)
        memory, fresh = (run.params, run.state), False
        records.append(jax.device_get((run.losses, run.records)))
        statuses.append(np.asarray(run.status))
    losses, curves = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *records)
    params, state = memory
    run = Training(params, state, losses, curves, np.max(statuses, axis=0))
    return jax.tree.map(lambda leaf: leaf[: len(models)], run)


def _blank(build: Callable[[Any], Multilayer], recipe: Recipe, count: int) -> Memory:
    """Zeros like the memory of `count` networks, which the program replaces when it starts afresh."""
    shapes = jax.eval_shape(lambda n: start(build(n), recipe, n), jax.ShapeDtypeStruct((), np.int32))
    return jax.tree.map(lambda leaf: np.zeros((count, *leaf.shape), leaf.dtype), shapes)
