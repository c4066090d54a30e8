r"""Networks of finite width in the scaling of the limit, so that the width is the only difference from `solve`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory.checks import boundary, require
from jaxtheory.feature_learning.problem import Data, Plan, Problem, fit_loss, problem
from jaxtheory.feature_learning.solution import Kernels, tangent_kernel
from jaxtheory.losses import Loss
from jaxtheory.networks import Layer, Multilayer, multilayer, mup, shifted, train
from jaxtheory.results import Status, finite_status


class Networks(NamedTuple):
    """Networks from independent starts, on a leading axis; otherwise as in `Solution`, and the trained parameters."""

    times: Int[Array, " records"]
    predictions: Float[Array, "networks records n ..."]
    test_predictions: Float[Array, "networks records m ..."] | None
    kernels: Kernels
    params: list[Layer]
    status: Int[Array, " networks"]


@boundary(static=("width", "count", "depth", "steps", "outputs", "record_every"))
def networks(
    x: Float[Array, "n d"],
    y: Float[Array, "n ..."] | Int[Array, "n ..."],
    *,
    width: int,
    depth: int,
    activation: str | Callable[[Array], Array] = "tanh",
    richness: float,
    step_size: float,
    steps: int,
    key: Key[Array, ""],
    count: int = 1,
    loss: str | Loss = "squared",
    outputs: int | None = None,
    momentum: float = 0.0,
    batches: Int[Array, "steps batch"] | None = None,
    test_x: Float[Array, "m d"] | None = None,
    record_every: int | None = None,
    centered: bool = False,
) -> Networks:
    r"""Train networks of width N on what `solve` takes: its prediction holds up to O(N^(−1/2)) for each of them.

        h¹ = W⁰x/√d,  h^{l+1} = W^l φ(h^l)/√N,  f = w·φ(h^L)/(γ0 N),   steps η γ0² N on Σ_μ ℓ(f_μ, y_μ)

    Args:
        x, y, depth, activation, richness, step_size, steps, loss, outputs, momentum, batches, test_x, record_every:
            as in `solve`.
        width: N ≥ 1. key: of the starts. count: number of networks.
        centered: subtract each network's own f(0), which is N(0, Φ^L/(γ0² N)), from its predictions and in training.

    Returns:
        `Networks`; the kernels are the network's own, [networks records ...].

    Raises:
        ValueError: what does not fit, by name.

    Cost: 6 (L − 1) n N² flops a step; the networks are trained one after the other, by `jaxtheory.networks.train`.
    Source: Bordelon and Pehlevan (2022), section 2; it is `networks.mup` with another gauge, Yang and Hu (2021).

    >>> x, y = jnp.array([[1.0, 0.0], [0.6, 0.8]]), jnp.array([1.0, -1.0])
    >>> found = networks(x, y, width=64, depth=2, richness=1.0, step_size=0.2, steps=20, key=jax.random.key(0))
    >>> found.predictions.shape, int(found.status[0])
    ((1, 2, 2), 0)
    """
    given = problem(
        x, y, depth=depth, activation=activation, richness=richness, step_size=step_size, momentum=momentum,
        steps=steps, record_every=record_every, loss=loss, outputs=outputs, batches=batches, test_x=test_x,
    )  # fmt: skip
    require(width >= 1, "width", width, "be >= 1", "count the neurons of a layer")
    require(count >= 1, "count", count, "be >= 1", "train at least one network")
    return _networks(given.plan, width, depth, centered, given.data, jax.random.split(key, count))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _networks(plan: Plan, width: int, depth: int, centered: bool, data: Data, keys: Array) -> Networks:
    given = Problem(data, plan)
    (outputs, kernels), params, status = jax.lax.map(partial(_train, given, width, depth, centered), keys)
    n, shape = len(given.data.x), outputs.shape[:2]
    predictions = outputs[:, :, :n].reshape(*shape, n, *given.plan.shape)
    test = outputs[:, :, n:].reshape(*shape, len(given.data.test), *given.plan.shape) if len(given.data.test) else None
    times = jnp.arange(0, given.plan.steps + 1, given.plan.every, dtype=jnp.int32)
    return Networks(times, predictions, test, kernels, params, status)


def _train(given: Problem, width: int, depth: int, centered: bool, key: Array) -> tuple[Any, list[Layer], Array]:
    """One network: outputs [records n + m outputs] and kernels, parameters, status."""
    dimension, size = given.data.x.shape[1], max(1, sum(given.plan.shape[:1]))
    scale = jnp.asarray(dimension**0.5, given.data.x.dtype)
    points, everything = given.data.x / scale, jnp.concatenate([given.data.x, given.data.test]) / scale
    net = multilayer(
        dimension, width, size, hidden_layers=depth, activation=given.plan.activation,
        abc=shifted(mup(depth + 1), 0.5), output_scale=1 / given.data.richness, dtype=given.data.x.dtype,
    )  # fmt: skip
    start = net.init(key)
    start[0] = start[0]._replace(weight=start[0].weight * scale)
    zero = net.apply(start, everything) if centered else jnp.zeros((len(everything), size), given.data.x.dtype)

    def loss(params: list[Layer], indices: Array | None = None) -> Array:
        rows = slice(None) if indices is None else indices
        found = net.apply(params, points[rows]) - zero[: len(points)][rows]
        return jnp.sum(jax.vmap(given.plan.loss)(found.reshape(-1, *given.plan.shape), given.data.y[rows]))

    def record(params: list[Layer]) -> tuple[Array, Kernels]:
        return net.apply(params, everything) - zero, _kernels(given, net, params, points)

    optimizer = optax.sgd(net.rate * given.data.step_size * given.data.richness**2, momentum=given.data.momentum)
    run = train(
        loss, start, optimizer=optimizer, steps=given.plan.steps, batches=given.data.batches, record=record,
        record_every=given.plan.every,
    )  # fmt: skip
    records = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), record(start), run.records)
    return records, run.params, _status(given, run.status, records)


def _status(given: Problem, trained: Array, records: PyTree) -> Array:
    """NOT_FINITE where training or a record is, INVALID_INPUT for points, targets or indices that are none."""
    data = given.data
    invalid = ~(jnp.isfinite(data.x).all() & jnp.isfinite(data.test).all())
    invalid |= ~jnp.asarray(fit_loss(given.plan.loss, data.y, given.plan.shape))
    if data.batches is not None:
        invalid |= ((data.batches < 0) | (data.batches >= len(data.x))).any()
    return jnp.where(invalid, jnp.int32(Status.INVALID_INPUT), finite_status(records, trained))


def _kernels(given: Problem, net: Multilayer, params: list[Layer], points: Array) -> Kernels:
    """Φ^l, G^l and the tangent kernel of one network, from its layers."""
    n, width, outputs = len(points), params[0].weight.shape[1], params[-1].weight.shape[1]
    fields = [jnp.matmul(points, params[0].weight, precision="highest")]
    for layer in params[1:-1]:
        fields.append(jnp.matmul(given.plan.activation(fields[-1]), layer.weight, precision="highest") / width**0.5)
    features = [given.plan.activation(field) for field in fields]
    slopes = [jax.jvp(given.plan.activation, (field,), (jnp.ones_like(field),))[1] for field in fields]
    back = (slopes[-1][:, None, :] * params[-1].weight.T[None]).reshape(n * outputs, width)
    cotangents = [back]
    for slope, layer in zip(reversed(slopes[:-1]), reversed(params[1:-1]), strict=True):
        back = jnp.matmul(back, layer.weight.T, precision="highest") / width**0.5
        back = jnp.repeat(slope, outputs, axis=0) * back
        cotangents.append(back)
    inner = [jnp.matmul(a, a.T, precision="highest") / width for a in (*features, *reversed(cotangents))]
    grams, gradients = inner[: len(features)], inner[len(features) :]
    inputs = jnp.matmul(points, points.T, precision="highest")
    return Kernels(jnp.stack(grams), jnp.stack(gradients), tangent_kernel(outputs, [inputs, *grams], gradients))
