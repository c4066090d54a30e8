"""Arguments that `solve`, `linear`, `fluctuations` and `networks` share, once checked."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import losses
from jaxtheory.activations.named import elementwise
from jaxtheory.checks import constrain, holds, positive, require


class Data(NamedTuple):
    """Points, targets, test points, batches of indices (or None), and the numbers of training."""

    x: Float[Array, "n d"]
    y: Array
    test: Float[Array, "m d"]
    batches: Int[Array, "steps batch"] | None
    richness: Float[Array, ""]
    step_size: Float[Array, ""]
    momentum: Float[Array, ""]


class Plan(NamedTuple):
    """What shapes the program: static under `jit`.

    `shape` is that of one prediction, `batch` the number of points in a step, `every` the steps between records.
    """

    shape: tuple[int, ...]
    batch: int
    steps: int
    every: int
    loss: Callable[[Array, Array], Array]
    activation: Callable[[Array], Array]


class Problem(NamedTuple):
    """Data and plan."""

    data: Data
    plan: Plan


def problem(
    x: Array, y: Array, *, depth: int, activation: Any, richness: Any, step_size: Any, momentum: Any, steps: int,
    record_every: int | None, loss: Any, outputs: int | None, batches: Array | None, test_x: Array | None,
) -> Problem:  # fmt: skip
    """The arguments in their final form.

    Raises:
        ValueError: anything that does not fit, by name.
    """
    n = len(x)
    require(n >= 1 and x.shape[1] >= 1, "x", f"shape {x.shape}", "hold at least one point", "pass [n, d]")
    require(depth >= 1, "depth", depth, "be >= 1", "count the hidden layers")
    require(steps >= 1, "steps", steps, "be >= 1", "train for at least one step")
    every = steps if record_every is None else record_every
    divides = every >= 1 and steps % every == 0
    require(divides, "record_every", record_every, f"divide steps, {steps}", "choose a divisor, or round steps up")
    function = losses.resolve(loss)
    targets, shape = _targets(x, y, loss, outputs)
    sound = holds(lambda given: fit_loss(function, given, shape), targets)
    wish = "be labels 0 and 1, or ±1, of one output, or what the loss takes: ±1, or rows of probabilities"
    require(sound, "y", y, wish, "pass outputs= for more classes, or another loss")
    if test_x is None:
        test = jnp.zeros((0, x.shape[1]), x.dtype)
    else:
        same = test_x.shape[1] == x.shape[1]
        require(same, "test_x", f"shape {test_x.shape}", f"have {x.shape[1]} columns, as x", "pass points like x")
        test = test_x.astype(x.dtype)
    if batches is not None:
        _check_batches(batches, steps, n)
    richness = positive("richness", richness, "use kernels.gradient_descent for the lazy limit")
    step_size = positive("step_size", step_size, "pass η, e.g. 0.1")
    momentum = constrain("momentum", momentum, lambda v: (v >= 0) & (v < 1), "lie in [0, 1)", "use 0.0 for none")
    rate, scale, heavy = (jnp.asarray(number, x.dtype) for number in (step_size, richness, momentum))
    data = Data(x, targets, test, batches, scale, rate, heavy)
    batch = n if batches is None else batches.shape[1]
    return Problem(data, Plan(shape, batch, steps, every, function, elementwise(activation)))


def _targets(x: Array, y: Array, loss: Any, outputs: int | None) -> tuple[Array, tuple[int, ...]]:
    """Targets as the loss takes them, and the shape of one prediction."""
    n = len(x)
    require(y.ndim in (1, 2) and len(y) == n, "y", f"shape {y.shape}", f"be [{n}] or [{n}, outputs]", "pair them")
    labels = not jnp.issubdtype(y.dtype, jnp.floating)
    if outputs is not None:
        require(outputs >= 1, "outputs", outputs, "be >= 1", "count the outputs of the network")
        fits = (labels and y.ndim == 1) or y.shape[1:] == (outputs,)
        require(fits, "y", f"shape {y.shape}", f"be labels, or [{n}, {outputs}]", "drop outputs, or pass labels")
        if labels and y.ndim == 1:
            inside = holds(lambda label: (label >= 0) & (label < outputs), y)
            require(inside, "y", y, f"be labels in 0..{outputs - 1}", "count classes from 0")
            return y.astype(jnp.int32), (outputs,)
        return y.astype(x.dtype), (outputs,)
    require(y.ndim == 1 or y.shape[1] >= 1, "y", f"shape {y.shape}", "have at least one output", "pass [n]")
    if labels and loss != "squared":
        return y.astype(jnp.int32), y.shape[1:]
    return y.astype(x.dtype), y.shape[1:]


def fit_loss(loss: Any, targets: Any, shape: tuple[int, ...]) -> Any:
    """Whether targets are what a named loss takes: labels of one output, ±1, or probabilities; of NumPy or JAX arrays.

    NaN is left to the result, and classes of several outputs are compared with their number elsewhere.
    """
    if loss not in (losses.logistic, losses.hinge, losses.cross_entropy):
        return True
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        one = (abs(targets) <= 1).all() & ~((targets == 0).any() & (targets < 0).any())
        return one | (targets.ndim == 1 and shape != ())
    missing = targets != targets
    if loss is not losses.cross_entropy:
        return ((abs(targets) == 1) | missing).all()
    sound = (((targets >= 0) & (targets <= 1)) | missing).all()
    if targets.ndim > 1:
        sound &= ((abs(targets.sum(axis=1) - 1) <= 1e-3) | missing.any(axis=1)).all()
    return sound


def _check_batches(batches: Array, steps: int, n: int) -> None:
    right = batches.ndim == 2 and len(batches) == steps and batches.shape[1] >= 1
    require(right, "batches", f"shape {batches.shape}", f"be [{steps}, batch], one row a step", "index the points of x")
    inside = holds(lambda index: (index >= 0) & (index < n), batches)
    require(inside, "batches", batches, f"be indices in 0..{n - 1}", "index the rows of x")
