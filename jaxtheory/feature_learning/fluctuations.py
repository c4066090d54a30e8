r"""How networks of finite width scatter about the limit: N times the variance of predictions and kernels."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory.checks import boundary, require
from jaxtheory.feature_learning.dynamics import Setup
from jaxtheory.feature_learning.problem import Problem, problem
from jaxtheory.feature_learning.solution import Kernels, estimates
from jaxtheory.feature_learning.solver import Course, arrange, run, status_of
from jaxtheory.losses import Loss
from jaxtheory.results import Estimate


class Fluctuations(NamedTuple):
    """N · variance over networks, and N times the mean's distance is O(1): `mean` is that of networks of this width.

    Fields as in `Solution`, each an `Estimate`.
    """

    times: Int[Array, " records"]
    predictions: Estimate
    test_predictions: Estimate | None
    kernels: Kernels
    mean: Estimate
    status: Int[Array, ""]


@boundary(static=("depth", "steps", "width", "networks", "outputs", "record_every"))
def fluctuations(
    x: Float[Array, "n d"],
    y: Float[Array, "n ..."] | Int[Array, "n ..."],
    *,
    depth: int,
    activation: str | Callable[[Array], Array] = "tanh",
    richness: float,
    step_size: float,
    steps: int,
    key: Key[Array, ""],
    width: int = 512,
    networks: int = 256,
    loss: str | Loss = "squared",
    outputs: int | None = None,
    momentum: float = 0.0,
    batches: Int[Array, "steps batch"] | None = None,
    test_x: Float[Array, "m d"] | None = None,
    record_every: int | None = None,
    mesh: Mesh | None = None,
) -> Fluctuations:
    r"""N Var of the predictions and kernels of networks of width N, over their starts, in training.

    A network's matrices are drawn only where they are used: given its products so far, the next product with a
    Gaussian matrix is known but for one Gaussian vector orthogonal to them. So the networks here have the law of
    networks of width N exactly, at N (steps · batch)² flops in place of N² · steps · batch. To leading order in 1/N,

        N Var f → constant,   N (E f − f_∞) → constant,   and at the start N Var f = Φ^L/γ0².

    Args:
        x, y, depth, activation, richness, step_size, steps, loss, outputs, momentum, batches, test_x, record_every,
            mesh: as in `solve`.
        key: of the networks. width: N; the leading order holds up to a factor 1 + O(1/N).
        networks: R ≥ 2; the relative standard error of a variance is about √(2/R).

    Returns:
        `Fluctuations`.

    Raises:
        ValueError: what does not fit, by name.

    Cost: R networks, one after the other: 20 R N K² flops for each hidden matrix, K = steps · batch.
    Source: Bordelon and Pehlevan (2023), section 3, for the leading order; `gaussian_matrix` for the draws.

    >>> x, y = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([1.0, -1.0])
    >>> found = fluctuations(
    ...     x, y, depth=1, richness=1.0, step_size=0.2, steps=2, key=jax.random.key(0), width=64, networks=64
    ... )
    >>> found.predictions.value.shape, int(found.status)
    ((2, 2), 0)
    """
    given = problem(
        x, y, depth=depth, activation=activation, richness=richness, step_size=step_size, momentum=momentum,
        steps=steps, record_every=record_every, loss=loss, outputs=outputs, batches=batches, test_x=test_x,
    )  # fmt: skip
    require(width >= 1, "width", width, "be >= 1", "count the neurons of a layer")
    require(networks >= 2, "networks", networks, "be >= 2 for a variance", "use networks=256")
    setup = arrange(given, depth, "independent", width, 0)
    return run(setup, given, jax.random.split(key, networks), groups=networks, mesh=mesh, summary=_variances)


def _variances(setup: Setup, given: Problem, course: Course) -> Fluctuations:
    readings = course.readings
    kernels = Kernels(readings.features, readings.gradients, readings.tangent)
    shape = readings.predictions.shape[:2]
    predictions = readings.predictions.reshape(*shape, len(given.data.x), *given.plan.shape)
    test = readings.test.reshape(*shape, len(given.data.test), *given.plan.shape) if len(given.data.test) else None

    def squares(leaf: Array) -> Array:
        """Each network's share of the variance, whose mean is N times the unbiased estimate."""
        count = len(leaf)
        return setup.samples * count / (count - 1) * (leaf - jnp.mean(leaf, axis=0, keepdims=True)) ** 2

    spread = jax.tree.map(squares, (predictions, test, kernels))
    found: tuple[PyTree, PyTree, PyTree, PyTree] = estimates((*spread, predictions))
    times = jnp.arange(0, given.plan.steps + 1, given.plan.every, dtype=jnp.int32)
    return Fluctuations(times, *found, status_of(given, found))
