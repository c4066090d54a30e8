"""The one training loop: any loss, any optax optimizer, one `lax.scan`.

It is pure, so that `jit`, `vmap` over parameters, seeds or learning rates, `grad` through training and sharding are
the caller's; a run that is cut in two and continued is the whole run.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory._host import as_array, short
from jaxtheory.checks import boundary, known, quantity, require, require_arrays, returned
from jaxtheory.results import finite_status


class TrainingState(NamedTuple):
    """All that a run needs beside its parameters, its loss and its key to go on: optimizer state, steps done."""

    optimizer: PyTree
    step: Int[Array, ""]


class Training(NamedTuple):
    """What a run left. `losses[r]` is the loss at the last step before record r, which is `records[r]`."""

    params: PyTree
    state: TrainingState
    losses: Float[Array, " records"]
    records: PyTree
    status: Int[Array, ""]


@boundary
def train(
    loss: Callable[..., Float[Array, ""]],
    params: PyTree,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    key: Key[Array, ""] | None = None,
    batches: PyTree | None = None,
    record: Callable[[PyTree], PyTree] | None = None,
    record_every: int = 1,
    state: TrainingState | None = None,
    mask: PyTree | None = None,
) -> Training:
    r"""Minimize a loss with an optax optimizer: θ_{t+1} = θ_t + u(∇L_t(θ_t)), t = 0 … steps − 1.

    Args:
        loss: L(params) → scalar; with `key`, L_t(params, key_t), key_t = fold_in(key, t), for minibatches
            (`minibatch`), dropout or noise; with `batches`, L_t(params, batches[t]), or with both
            L_t(params, key_t, batches[t]).
        params: θ_0, any pytree of real numbers. Integers, float16 and bfloat16 are trained, and returned, in float32.
        optimizer: any optax transformation; those that ask for the value or the loss (L-BFGS, Polyak) get them.
        steps: ≥ 1, static, a multiple of `record_every`.
        key: of the stochastic loss; give the same one again to continue.
        batches: what the loss takes at each of these steps, a pytree of arrays [steps, ...].
        record: any pytree computed from the parameters, after every `record_every` steps.
        state: of an earlier run of the same loss, optimizer and key: `train(…, first.params, state=first.state)`
            goes on where `first` ended. A step depends on its number alone, so that both parts together are the whole
            run, bit for bit when the same compiled program runs all of them.
        mask: a pytree like `params` of booleans; entries where it is False are held, whatever the optimizer does.

    Returns:
        `Training`, with records on a leading axis of length steps / record_every. `status` is `NOT_FINITE` when a
        loss, a record or a parameter is, that is when training diverged; the optimizer's memory is not judged.

    Raises:
        ValueError: steps < 1, or not a multiple of `record_every`; a loss that is no single real number; an optimizer
            that is not optax's; a mask or a state of another structure; batches of another number of steps.

    Cost: `steps` gradients, one compilation of one step and one record; memory that of one step, twice the parameters
    and the optimizer state, and records. Without `jit` around it, each call compiles anew; a caller's
    `jax.jit(..., donate_argnames=("params", "state"))` holds parameters and state once.

    >>> fit = train(lambda x: (x - 3.0) ** 2, jnp.array(0.0), optimizer=optax.sgd(0.25), steps=3, record=jnp.sqrt)
    >>> [f"{x:.4f}" for x in fit.records**2], int(fit.state.step), int(fit.status)
    (['1.5000', '2.2500', '2.6250'], 3, 0)
    """
    batches = _batches(steps, record_every, batches)
    _require_arguments(loss, 1 + (key is not None) + (batches is not None))
    require(bool(jax.tree.leaves(params)), "params", params, "hold at least one number", "pass what net.init returns")
    params = jax.tree.map(lambda leaf: jnp.asarray(quantity("params", leaf)), params)
    check_optimizer(optimizer)
    _require_like("mask", mask, params, "params", "map over params")
    if state is None:
        state = begin(optimizer, params)
    else:
        fresh = jax.eval_shape(lambda p: begin(optimizer, p), params)
        _require_like("state", state, fresh, "that of this optimizer", "pass the state that the same optimizer left")

    step = _step(loss, optimizer, key, mask, batched=batches is not None)

    def stretch(carry: tuple[PyTree, TrainingState], part: PyTree) -> tuple[tuple[PyTree, TrainingState], PyTree]:
        carry, values = jax.lax.scan(step, carry, part, length=record_every)
        return carry, (values[-1], None if record is None else _recorded(record, carry[0]))

    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, record_every, *leaf.shape[1:]), batches)
    (last, state), (losses, records) = jax.lax.scan(stretch, (params, state), parts, length=steps // record_every)
    return Training(last, state, losses, records, finite_status((last, losses, records)))


def _step(
    loss: Callable[..., Array],
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""] | None,
    mask: PyTree,
    *,
    batched: bool,
) -> Callable[[tuple[PyTree, TrainingState], PyTree], tuple[tuple[PyTree, TrainingState], Array]]:
    """One step of the optimizer, and the loss before it."""
    transform = optax.with_extra_args_support(optimizer)

    def step(carry: tuple[PyTree, TrainingState], batch: PyTree) -> tuple[tuple[PyTree, TrainingState], Array]:
        params, (memory, count) = carry
        given = () if key is None else (jax.random.fold_in(key, count),)
        given = (*given, batch) if batched else given

        def now(params: PyTree) -> Array:
            return returned("loss", loss(params, *given), ())

        value, gradient = jax.value_and_grad(now)(params)
        gradient = _held(mask, gradient)
        with relaxed_promotion():
            updates, memory = transform.update(gradient, memory, params, value=value, grad=gradient, value_fn=now)
            params = optax.apply_updates(params, _held(mask, updates))
        return (params, TrainingState(memory, count + 1)), value

    return step


def begin(optimizer: optax.GradientTransformation, params: PyTree) -> TrainingState:
    """The state before the first step, for `train` to continue from.

    >>> int(begin(optax.sgd(0.1), jnp.array(0.0)).step)
    0
    """
    with relaxed_promotion():
        return TrainingState(optimizer.init(params), jnp.zeros((), jnp.int32))


@boundary
def minibatch(key: Key[Array, ""], samples: int, size: int) -> Int[Array, " {size}"]:
    """Indices of `size` distinct samples of 0..samples−1, uniformly: one batch of a stochastic loss.

    Raises:
        ValueError: a size outside 1..samples.

    Cost: one sort of `samples` numbers.

    >>> sorted(minibatch(jax.random.key(0), 4, 4).tolist())
    [0, 1, 2, 3]
    """
    require(1 <= size <= samples, "size", size, f"lie in 1..{samples}", "use the number of samples for a full batch")
    return jax.random.permutation(key, samples)[:size]


def _batches(steps: int, every: int, batches: PyTree) -> PyTree:
    """The batches as arrays, once the numbers of steps are known to fit them."""
    for name, count in (("steps", steps), ("record_every", every)):
        require(known(count), name, "a traced number", "be known", f"name {name} in static_argnames of jit")
    require(steps >= 1, "steps", steps, "be >= 1", "train for at least one step")
    require(steps < 2**31, "steps", steps, "be < 2**31", "go on from the state")
    divides = every >= 1 and steps % every == 0
    require(divides, "record_every", every, f"divide steps, {steps}", "choose a divisor, or round steps up")
    if jax.tree.leaves(batches):
        require_arrays("batches", batches)
    batches = jax.tree.map(jnp.asarray, batches)
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(batches)}
    require(lengths <= {(steps,)}, "batches", lengths, f"have a leading axis of {steps} steps", "stack one a step")
    return batches


def _require_arguments(loss: Callable[..., object], count: int) -> None:
    """The loss takes the parameters, and a key and a batch where they are given."""
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):
        return  # a function that does not say
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        wish = f"take {count} argument{'s' * (count > 1)}, params, then key and batch if given"
        require(False, "loss", f"a function of {signature}", wish, "bind the data, e.g. lambda p: loss(p, x, y)")


def check_optimizer(optimizer: object) -> None:
    """An optax transformation: not a rate, nor a function that makes one."""
    made = hasattr(optimizer, "init") and hasattr(optimizer, "update")
    require(made, "optimizer", optimizer, "be an optax transformation", "pass e.g. optax.adam(1e-3)")


def _require_like(name: str, tree: PyTree, like: PyTree, kind: str, hint: str) -> None:
    """The structure and the shapes of `like`, a boolean for each array of a mask."""
    if tree is None:
        return
    found: object = jax.tree.structure(tree)
    wanted: object = jax.tree.structure(like)
    require(found == wanted, name, found, f"be a tree like {kind}, {wanted}", hint)
    kinds = [as_array(leaf) for leaf in jax.tree.leaves(tree)] if name == "mask" else []
    flags = all(
        kind is not None and (kind.dtype == jnp.bool_ or jnp.issubdtype(kind.dtype, jnp.integer)) for kind in kinds
    )
    require(flags, name, short(tree), "hold booleans", "pass True where a parameter is trained")
    for mine, theirs in zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True):
        shape, broad = jnp.shape(mine), name == "mask" and jnp.ndim(mine) == 0
        require(
            broad or shape == theirs.shape, name, f"shape {shape}", f"have the shapes of {kind}, {theirs.shape}", hint
        )


def _recorded(record: Callable[[PyTree], PyTree], params: PyTree) -> PyTree:
    found = record(params)
    require_arrays("record", found)
    return found


def _held(mask: PyTree | None, tree: PyTree) -> PyTree:
    """Zero where the mask is False, exactly, even where the entry is NaN."""
    return tree if mask is None else jax.tree.map(lambda m, leaf: jnp.where(m, leaf, jnp.zeros_like(leaf)), mask, tree)


@contextlib.contextmanager
def relaxed_promotion() -> Iterator[None]:
    """Around calls into optax, whose Adam and schedules mix dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
