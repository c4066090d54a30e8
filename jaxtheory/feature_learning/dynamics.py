r"""One group of samples: start, a step of training, and what is read off it.

The samples of a layer are neurons of an infinitely wide network, whose matrices are known by their products alone
(`gaussian_matrix`). Training is that of the network itself: a pass forward, a pass backward of the loss's slopes, and
updates that are outer products. `Setup.law` says how the Gaussian vectors are drawn:

- "matched": those of one product orthonormal, as they are in the limit, and samples of the last layer in pairs with
  opposite readouts, so that f = 0 at the start. The least variance for the limit.
- "independent": as in a network of that width, whose law this then is, exactly.
- "axes": each vector is a coordinate axis. Inner products are then exact expectations, as long as every activation is
  the identity, which keeps to the span of the Gaussian vectors.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory.feature_learning.gaussian_matrix import (
    GaussianMatrix,
    Rows,
    combine,
    empty,
    inner,
    mean_product,
    mean_square,
    multiply,
    orthonormal,
    pull_back,
    remember,
    size,
    transpose,
    update,
)
from jaxtheory.feature_learning.solution import tangent_kernel
from jaxtheory.guarded import dot
from jaxtheory.losses import slopes

Law = Literal["matched", "independent", "axes"]
# what random numbers are drawn for; each has its own stream for each step or point
KINDS = 5
START, STEP, READ, READ_BACK, TEST = range(KINDS)


class Setup(NamedTuple):
    """What shapes the program: static under `jit`.

    `shape` is that of one prediction, `samples` are those of each layer, `batch` the points of a step, `rows` the
    products that a matrix has room for, `width` of them in a block, `kept` the samples whose fields are recorded.
    """

    depth: int
    activation: Callable[[Array], Array]
    loss: Callable[[Array, Array], Array]
    shape: tuple[int, ...]
    law: Law
    samples: int
    batch: int
    rows: int
    width: int
    kept: int = 0

    @property
    def outputs(self) -> int:
        """How many numbers a prediction has."""
        return math.prod(self.shape)


class Task(NamedTuple):
    """The data: points in an orthonormal basis, targets, and the constants of training.

    A test point is `test` in the basis of the training points and `test_rest`, a mean square's root, outside.
    """

    points: Float[Array, "n n"]
    targets: Array
    test: Float[Array, "m n"]
    test_rest: Float[Array, " m"]
    richness: Float[Array, ""]
    step_size: Float[Array, ""]
    momentum: Float[Array, ""]


class Group(NamedTuple):
    """The state of one group: first weights in the basis of the points, matrices, readouts, and their velocities."""

    first: Float[Array, "n M"]
    first_velocity: Float[Array, "n M"]
    matrices: tuple[GaussianMatrix, ...]
    readout: Float[Array, "outputs M"]
    trained: Float[Array, "outputs M"]
    velocity: Float[Array, "outputs M"]
    key: Key[Array, ""]
    step: Int[Array, ""]


class Reading(NamedTuple):
    """What is read at one time; matrices over points and outputs are [n · outputs, n · outputs], as raveled targets."""

    predictions: Float[Array, "n outputs"]
    test: Float[Array, "m outputs"]
    features: Float[Array, "depth n n"]
    gradients: Float[Array, "depth no no"]
    tangent: Float[Array, "no no"]
    fields: Float[Array, "depth n kept"]


def points_in_basis(x: Float[Array, "n d"], test: Float[Array, "m d"]) -> tuple[Array, Array, Array]:
    """Coordinates of points and test points in an orthonormal basis of the points, and what test points have outside.

    The inner product is ⟨x, x'⟩ = xᵀx'/d.
    """
    unit, test_unit = size(x), size(test)
    basis = orthonormal(x / unit, mean_square(x / unit))
    rest = test / test_unit
    known = mean_product(rest, basis.vectors)
    rest = rest - dot(known, basis.vectors)
    correction = mean_product(rest, basis.vectors)
    rest = rest - dot(correction, basis.vectors)
    return basis.factor * unit, (known + correction) * test_unit, jnp.sqrt(mean_square(rest)) * test_unit[:, 0]


def start(setup: Setup, task: Task, key: Key[Array, ""]) -> Group:
    """Before the first step: first weights and readouts; of the matrices nothing is known."""
    samples, dtype, n = setup.samples, task.points.dtype, len(task.points)
    if setup.law == "axes":
        first, readout = _axes(0, n, samples, dtype), _axes(setup.rows, setup.outputs, samples, dtype)
    else:
        raw = jax.random.normal(jax.random.fold_in(key, START), (n + setup.outputs, samples), dtype)
        first, readout = raw[:n], raw[n:]
    if setup.law == "matched":
        first = _normalized(_doubled(first) if setup.depth == 1 else first)
        half = _normalized(readout[:, : samples // 2])
        readout = jnp.concatenate([half, -half], axis=1)
    matrices = tuple(empty(setup.rows, setup.width, samples, dtype) for _ in range(setup.depth - 1))
    zeros, still = jnp.zeros_like(readout), jnp.zeros_like(first)
    return Group(first, still, matrices, readout, zeros, zeros, key, jnp.zeros((), jnp.int32))


def step(setup: Setup, task: Task, group: Group, indices: Int[Array, " batch"]) -> Group:
    """One step of (heavy-ball) gradient descent on the points with these indices."""
    points, draws = task.points[indices], _step_draws(setup, group)
    fields, matrices, inputs, cotangents = [dot(points, group.first)], list(group.matrices), [], []
    for layer, matrix in enumerate(group.matrices):
        noise = _fresh(setup, draws[0, layer], matrix, matrix.filled, layer + 2 == setup.depth)
        product = multiply(matrix, setup.activation(fields[-1]), noise)
        matrices[layer], coordinates = remember(matrix, product)
        inputs.append(coordinates)
        fields.append(product.image)
    features = setup.activation(fields[-1])
    outputs = predict(setup, task, group, features).reshape(-1, *setup.shape)
    push = _push(setup, task, outputs, indices)
    readout, weights = group.readout + group.trained, push[:, 0]
    # the slopes of one output are weighed after they went back, so that a point that is fitted has a direction too
    rows, weights = (readout, weights) if setup.outputs == 1 else (dot(push, readout), jnp.ones_like(weights))
    back = _slope(setup, fields[-1]) * rows
    for layer in reversed(range(setup.depth - 1)):
        turned = transpose(matrices[layer])
        noise = _fresh(setup, draws[1, layer], turned, setup.rows + turned.filled, False)
        product = multiply(turned, back, noise)
        turned, coordinates = remember(turned, product)
        matrices[layer] = transpose(turned)
        cotangents.append(coordinates * weights[None, None])
        back = _slope(setup, fields[layer]) * product.image
    rate = task.step_size * task.richness
    moved = tuple(
        update(matrix, cotangent, input_, rate, task.momentum)
        for matrix, cotangent, input_ in zip(matrices, reversed(cotangents), inputs, strict=True)
    )
    first_velocity = task.momentum * group.first_velocity + dot(points.T, back * weights[:, None])
    velocity = task.momentum * group.velocity + dot(push.T, features)
    return group._replace(
        first=group.first + rate * first_velocity, first_velocity=first_velocity, matrices=moved,
        trained=group.trained + rate * velocity, velocity=velocity, step=group.step + 1,
    )  # fmt: skip


def read(setup: Setup, task: Task, group: Group) -> Reading:
    """Predictions and kernels of the group as it is, with products that the matrices do not remember."""
    count, draws = len(task.points), _read_draws(setup, task, group)
    fields, products, base = [dot(task.points, group.first)], [], 2 * setup.rows + setup.outputs
    for layer, matrix in enumerate(group.matrices):
        noise = _fresh(setup, draws[0][layer], matrix, base, layer + 2 == setup.depth)
        products.append(multiply(matrix, setup.activation(fields[-1]), noise))
        fields.append(products[-1].image)
    features = [setup.activation(field) for field in fields]
    grams = [mean_product(feature, feature) for feature in features]
    readout = group.readout + group.trained
    back = (_slope(setup, fields[-1])[:, None, :] * readout[None]).reshape(count * setup.outputs, -1)
    gradients = [mean_product(back, back)]
    for layer in reversed(range(setup.depth - 1)):
        noise = _fresh(setup, draws[1][layer], transpose(group.matrices[layer]), base + count, False)
        image = pull_back(group.matrices[layer], back, noise, products[layer]).image
        back = jnp.repeat(_slope(setup, fields[layer]), setup.outputs, axis=0) * image
        gradients.append(mean_product(back, back))
    gradients.reverse()
    return Reading(
        predict(setup, task, group, features[-1]), _read_test(setup, task, group), jnp.stack(grams),
        jnp.stack(gradients), tangent_kernel(setup.outputs, [dot(task.points, task.points.T), *grams], gradients),
        jnp.stack(fields)[:, :, : setup.kept],
    )  # fmt: skip


def predict(setup: Setup, task: Task, group: Group, features: Rows) -> Float[Array, "rows outputs"]:
    """f = ⟨w, φ⟩/γ0; the start's readouts, which come in pairs ±w, see differences, that vanish at the start."""
    if setup.law != "matched":
        return mean_product(features, group.readout + group.trained) / task.richness
    half = setup.samples // 2
    paired = mean_product(features[:, :half] - features[:, half:], group.readout[:, :half]) / 2
    paired = jnp.where(group.step == 0, jnp.zeros_like(paired), paired)
    return (paired + mean_product(features, group.trained)) / task.richness


def _read_test(setup: Setup, task: Task, group: Group) -> Float[Array, "m outputs"]:
    """Predictions at test points, each of which is as if it were the only one."""
    base, dtype = 2 * setup.rows + setup.outputs, task.points.dtype

    def one(point: tuple[Array, Array, Array]) -> Array:
        known, rest, index = point
        draws = _draws(setup, group, TEST, index, (setup.depth, 1), dtype)
        if setup.law == "axes":
            noise = _axes(base, 1, setup.samples, dtype)
        else:
            noise = _doubled(draws[0]) if setup.law == "matched" and setup.depth == 1 else draws[0]
        field = dot(known[None], group.first) + rest * noise
        for layer, matrix in enumerate(group.matrices):
            noise = _fresh(setup, draws[layer + 1], matrix, base, layer + 2 == setup.depth)
            field = multiply(matrix, setup.activation(field), noise).image
        return predict(setup, task, group, setup.activation(field))[0]

    if not len(task.test):
        return jnp.zeros((0, setup.outputs), dtype)
    points = task.test, task.test_rest, jnp.arange(len(task.test), dtype=jnp.int32)
    return lax.map(one, points, batch_size=min(len(task.test), 64))


def _push(setup: Setup, task: Task, outputs: Array, indices: Array) -> Float[Array, "batch outputs"]:
    """Δ = −∂ℓ/∂f."""
    return -slopes(setup.loss, outputs, task.targets[indices]).reshape(len(indices), setup.outputs)


def _step_draws(setup: Setup, group: Group) -> Float[Array, "2 hidden batch M"]:
    """Gaussian vectors of a step, forward and back, for each hidden matrix."""
    shape = (2, setup.depth - 1, setup.batch)
    return _draws(setup, group, STEP, group.step, shape, group.first.dtype)


def _read_draws(setup: Setup, task: Task, group: Group) -> tuple[Array, Array]:
    """Those of a reading; of all points and one output, those of the step to come, whose fields it then reads."""
    count = len(task.points)
    if count == setup.batch and setup.outputs == 1:
        draws = _step_draws(setup, group)
        return draws[0], draws[1]
    shapes, dtype = ((setup.depth - 1, count), (setup.depth - 1, count * setup.outputs)), task.points.dtype
    forward = _draws(setup, group, READ, 0, shapes[0], dtype)
    return forward, _draws(setup, group, READ_BACK, 0, shapes[1], dtype)


def _draws(
    setup: Setup, group: Group, kind: int, index: int | Array, shape: tuple[int, ...], dtype: jnp.dtype
) -> Array:
    if setup.law == "axes" or 0 in shape:
        return jnp.zeros((*shape, 0), dtype)
    key = jax.random.fold_in(group.key, kind + KINDS * index)
    return jax.random.normal(key, (*shape, setup.samples), dtype)


def _fresh(
    setup: Setup, raw: Float[Array, "rows draws"], matrix: GaussianMatrix, axis: int | Array, paired: bool
) -> Rows:
    """New Gaussian vectors on the matrix's side of the cotangents, orthogonal to them.

    Args:
        raw: independent draws, of length 0 under the law "axes". axis: the first axis, for that law.
        paired: both halves of the samples have the same numbers.
    """
    if setup.law == "axes":
        return _axes(axis, len(raw), setup.samples, raw.dtype)
    rows = _doubled(raw) if setup.law == "matched" and paired else raw
    frames = (matrix.cotangents,)
    rows = rows - combine(matrix, frames, inner(matrix, frames, rows))
    return _normalized(rows) if setup.law == "matched" else rows


def _axes(first: int | Array, count: int, samples: int, dtype: jnp.dtype) -> Rows:
    """Vectors with one entry √M, from the axis `first` on, so that ⟨·, ·⟩ is the product of coordinates."""
    index = first + jnp.arange(count, dtype=jnp.int32)
    return samples**0.5 * (index[:, None] == jnp.arange(samples, dtype=jnp.int32)[None]).astype(dtype)


def _doubled(rows: Rows) -> Rows:
    """The first half of each row twice."""
    half = rows[:, : rows.shape[1] // 2]
    return jnp.concatenate([half, half], axis=1)


def _normalized(rows: Rows) -> Rows:
    """The orthonormal basis of rows that are independent."""
    return orthonormal(rows, jnp.zeros(len(rows), rows.dtype)).vectors


def _slope(setup: Setup, field: Rows) -> Rows:
    """φ'(h)."""
    return jax.jvp(setup.activation, (field,), (jnp.ones_like(field),))[1]
