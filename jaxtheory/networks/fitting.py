"""What a sweep of networks trains on and records: data, labels with noise, losses, and its three compiled programs.

For all seeds at once: draws that start the widest network, noisy labels, keys of minibatches (`seed_draws`). For a
bucket of widths: parameters and optimizer states at the start (`begin_models`), and training up to the next record
(`train_models`), the one that costs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, SupportsFloat, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from jaxtheory.checks import holds, known, labels_or_targets, require, within
from jaxtheory.data import flip_labels, one_hot
from jaxtheory.networks.multilayer import Draw, Multilayer, Width
from jaxtheory.networks.training import Training, TrainingState, begin, minibatch, train

T = TypeVar("T")
Loss = Literal["mse", "xent"]
Memory = tuple[PyTree, TrainingState]


@runtime_checkable
class Build(Protocol):
    """The network of a width; hashable, since programs are compiled for it."""

    def __call__(self, width: Width, /) -> Multilayer:
        """At a width that may be traced."""
        ...


class Task(NamedTuple):
    """Points and targets; `noise` is the fraction of training labels that each seed flips."""

    x: Float[Array, "n *shape"]
    y: Shaped[Array, "n *outputs"]
    x_test: Float[Array, "m *shape"]
    y_test: Shaped[Array, "m *outputs"]
    noise: float


class Recipe(NamedTuple):
    """How each network is trained; static under jit."""

    optimizer: optax.GradientTransformation
    steps: int
    record_every: int
    loss: Loss
    batch_size: int | None
    outputs: int


class Models(NamedTuple):
    """Networks of one program, on a leading axis: true width, and place of the seed in draws, labels and keys."""

    width: Int[Array, " models"]
    seed: Int[Array, " models"]


class Curves(NamedTuple):
    """Mean loss and fraction of errors, on the training targets (label noise included) and on the test targets."""

    train_loss: Array
    train_error: Array
    test_loss: Array
    test_error: Array


def task(x: Array, y: Any, x_test: Array, y_test: Any, label_noise: float, loss: str) -> tuple[Task, int]:
    """The data once checked, and the number of outputs that a network needs.

    Raises:
        ValueError: shapes or dtypes that do not match, values NaN or infinite, fewer samples than classes, label noise
            outside [0, 1] or on targets that are not labels, cross-entropy on them.
    """
    y, y_test = (_targets(name, value, x.dtype) for name, value in (("y", y), ("y_test", y_test)))
    for name, value in (("x", x), ("y", y), ("x_test", x_test), ("y_test", y_test)):
        require(known(value), name, "a traced array", "be known", "call outside jit, once for each set of data")
    for name, value, like in (("x_test", x_test, x), ("y_test", y_test, y)):
        same = value.shape[1:] == like.shape[1:] and value.dtype == like.dtype
        found, wish = f"{value.dtype}{list(value.shape)}", f"be like the training data, {like.dtype}{list(like.shape)}"
        require(same, name, found, wish, "prepare both alike")
    for name, value, points in (("y", y, x), ("y_test", y_test, x_test)):
        require(len(value) == len(points) > 0, name, len(value), f"have {len(points)} rows", "pass one row a point")
    for name, value in (("x", x), ("y", y), ("x_test", x_test), ("y_test", y_test)):
        require(holds(np.isfinite, value), name, "values NaN or infinite", "be finite", "drop or fill what is missing")
    noise = within("label_noise", known_number("label_noise", label_noise), 0.0, 1.0, "pass a fraction of labels")
    return Task(x, y, x_test, y_test, noise), _outputs(y, y_test, noise, loss)


def known_number(name: str, value: SupportsFloat) -> float:
    """A number as Python's, for programs are made for it.

    >>> known_number("label_noise", np.float32(0.5))
    0.5
    """
    require(known(value), name, "a traced number", "be known", "call train_widths outside jit, once for each value")
    return float(value)


def _targets(name: str, value: Any, dtype: DTypeLike) -> Array:
    """Labels as int32, or targets in the dtype of the points."""
    array = labels_or_targets(name, value)
    require(array.ndim >= 1, name, value, "be labels or real targets", "pass one row a point")
    real = jnp.issubdtype(array.dtype, jnp.floating)
    return array.astype(dtype if real else jnp.int32)


def _outputs(y: Array, y_test: Array, label_noise: float, loss: str) -> int:
    """The number of classes, or of target columns."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        require(loss == "mse", "loss", repr(loss), 'be "mse" for floating targets', "pass integer labels")
        require(label_noise == 0, "label_noise", label_noise, "be 0 for floating targets", "add noise to y yourself")
        require(y.ndim <= 2, "y", f"shape {y.shape}", "be [n] or [n, outputs]", "flatten each target")
        return 1 if y.ndim == 1 else y.shape[1]
    require(
        y.ndim == 1, "y", f"shape {y.shape}", "be labels [n], or floating targets", "flatten it, or cast it to float"
    )
    labels = np.concatenate([np.asarray(y), np.asarray(y_test)])
    low, classes = int(labels.min()), 1 + int(labels.max())
    hint = "number the classes from 0; there are at least two"
    require(low >= 0 and classes >= 2, "y", f"{low}..{classes - 1}", "be labels 0..K−1", hint)
    require(len(y) >= classes, "y", f"{len(y)} samples", f"have at least one for each of {classes} classes", "add data")
    return classes


def whole_numbers(name: str, values: object, least: int, hint: str) -> list[int]:
    """Distinct integers in least..2³¹−1.

    >>> whole_numbers("widths", [4.0, 2], 1, "round them")
    [4, 2]
    """
    keys = isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key)
    given = np.asarray(values).tolist() if hasattr(values, "dtype") and not keys else values
    if not isinstance(given, (list, tuple, range, set, frozenset)) or len(given) == 0:
        require(False, name, values, "be a sequence of integers", hint)
        raise AssertionError
    real = all(isinstance(value, (int, float, np.integer, np.floating)) and value is not True for value in given)
    numbers = [int(value) if real and abs(value) < 2**31 else None for value in given]
    require(real and numbers == list(given), name, list(given), "be whole numbers", "round them")
    kept = [number for number in numbers if number is not None]
    distinct = len(set(kept)) == len(kept) and min(kept) >= least
    require(distinct, name, kept, f"be distinct and >= {least}", "name each once")
    return kept


def seed_list(seeds: object) -> list[int]:
    """Seeds as numbers: a count means 0 … count − 1.

    >>> seed_list(3), seed_list([7])
    ([0, 1, 2], [7])
    """
    if not isinstance(seeds, (int, np.integer)) or isinstance(seeds, bool):
        return whole_numbers("seeds", seeds, 0, "use seeds=3, say")
    require(bool(seeds >= 1), "seeds", seeds, "be a positive count, or distinct numbers >= 0", "use seeds=3, say")
    return list(range(int(seeds)))


def keys_of(seed: ArrayLike) -> tuple[Key[Array, ""], Key[Array, ""], Key[Array, ""]]:
    """Of initialization, of label noise, of minibatches."""
    start, labels, batches = jax.random.split(jax.random.key(seed), 3)
    return start, labels, batches


@partial(jax.jit, static_argnames=("draws", "classes"))
def seed_draws(
    draws: Draw, seeds: Int[Array, " seeds"], y: Int[Array, " n"] | None, noise: Array, classes: int
) -> tuple[PyTree, Int[Array, "seeds n"] | None, Key[Array, " seeds"]]:
    """For each seed: what its networks start from, its labels where there is noise, the key of its minibatches."""

    def one(seed: Array) -> tuple[PyTree, Array | None, Key[Array, ""]]:
        start, flips, batches = keys_of(seed)
        return draws(start), None if y is None else flip_labels(y, noise, flips, classes=classes), batches

    return jax.lax.map(one, seeds)  # generators compile in half the time where they are not batched


@partial(jax.jit, static_argnames=("build", "recipe", "mesh"))
def begin_models(build: Build, recipe: Recipe, mesh: Mesh, models: Models, draws: PyTree) -> Memory:
    """Parameters and optimizer states before the first step, each device its share of them."""

    def one(models: Models, draws: PyTree) -> Memory:
        return first_memory(build(models.width), recipe, jax.tree.map(lambda leaf: leaf[models.seed], draws))

    return _shared(mesh, jax.vmap(one, in_axes=(0, None)), "sw")(models, draws)


def first_memory(network: Multilayer, recipe: Recipe, draws: PyTree) -> Memory:
    """Parameters from their draws, and the optimizer's state before the first step."""
    assert network.start is not None
    params = network.start(draws)
    return params, begin(optimizer_of(network, recipe), params)


class Draws(NamedTuple):
    """What all networks are trained on: the task, noisy labels of each seed or None, keys of their minibatches."""

    data: Task
    labels: Int[Array, "seeds n"] | None
    batches: Key[Array, " seeds"]


@partial(jax.jit, static_argnames=("build", "recipe", "mesh"), donate_argnames=("memory",))
def train_models(build: Build, recipe: Recipe, mesh: Mesh, drawn: Draws, models: Models, memory: Memory) -> Training:
    """Each network to its next record, each device its share of them; `memory` is donated to the result.

    Losses, records and statuses have a second axis of length 1, along which records are joined.
    """

    def one(drawn: Draws, models: Models, memory: Memory) -> Training:
        data, labels, batches = drawn
        noisy = data if labels is None else data._replace(y=labels[models.seed])
        run = fit(build(models.width), recipe, noisy, batches[models.seed], memory)
        return run._replace(status=run.status[None])

    every = jax.vmap(one, in_axes=(None, 0, 0))
    return _shared(mesh, every, "wss")(drawn, models, memory)


def _shared(mesh: Mesh, function: Callable[..., T], arguments: str) -> Callable[..., T]:
    """`function` on every device's share of the arguments marked s; those marked w are whole on each."""
    specs = {"s": PartitionSpec(mesh.axis_names[0]), "w": PartitionSpec()}
    # check_vma=False: an optimizer's first state is made of constants, which vary over no axis and would be refused.
    return jax.shard_map(
        function, mesh=mesh, in_specs=tuple(specs[a] for a in arguments), out_specs=specs["s"], check_vma=False
    )


def fit(network: Multilayer, recipe: Recipe, data: Task, batches: Key[Array, ""], memory: Memory) -> Training:
    """Train one network from where it was up to its next record, its `Curves`."""
    targets, tests = (columns(y, recipe, data.x.dtype) for y in (data.y, data.y_test))
    pointwise = losses[recipe.loss]

    def loss(params: PyTree, key: Key[Array, ""] | None = None) -> Array:
        rows = None if key is None else minibatch(key, len(data.x), recipe.batch_size or len(data.x))
        x, y = (data.x, targets) if rows is None else (data.x[rows], targets[rows])
        return pointwise(network.apply(params, x), y).mean()

    everywhere, n = jnp.concatenate([targets, tests]), len(targets)

    def record(params: PyTree) -> Curves:
        # both sets in one array: fewer kernels to compile
        outputs = jnp.concatenate([network.apply(params, data.x), network.apply(params, data.x_test)])
        wrong = errors(outputs, everywhere).astype(data.x.dtype)
        both = jnp.stack([pointwise(outputs, everywhere), wrong])
        (loss_now, error_now), (loss_then, error_then) = both[:, :n].mean(axis=1), both[:, n:].mean(axis=1)
        return Curves(loss_now, error_now, loss_then, error_then)

    params, state = memory
    return train(
        loss, params, optimizer=optimizer_of(network, recipe), steps=recipe.record_every, record=record,
        key=batches if recipe.batch_size else None, record_every=recipe.record_every, state=state, mask=network.mask,
    )  # fmt: skip


def optimizer_of(network: Multilayer, recipe: Recipe) -> optax.GradientTransformation:
    """The optimizer at the rate of the network's width."""
    return optax.chain(recipe.optimizer, optax.scale(network.rate))


def columns(y: Array, recipe: Recipe, dtype: DTypeLike) -> Float[Array, "n outputs"]:
    """Targets as columns, labels one-hot."""
    real = jnp.issubdtype(y.dtype, jnp.floating)
    return y.reshape(len(y), -1) if real else one_hot(y, recipe.outputs, dtype)


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
