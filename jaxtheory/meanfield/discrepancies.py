"""Kernel discrepancies without samples of the target, interactions of many particles, and noise injected in a drift."""

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxtheory.checks import Checked, boundary, nonnegative, require
from jaxtheory.meanfield.cloud import Cloud, mean, pair_mean, rows, rows_of
from jaxtheory.meanfield.estimators import Estimator
from jaxtheory.meanfield.flows import Schedule, gaussian_noise, moved, scheduled
from jaxtheory.meanfield.functionals import Functional, evaluated


@boundary(static=("block",))
def stein_discrepancy(
    energy: Callable[[PyTree], Array],
    kernel: Callable[[Array, Array], Float[Array, "n1 n2"]],
    *,
    block: int | None = None,
) -> Functional:
    r"""Squared kernel Stein discrepancy KSD²(μ, π) to π ∝ e^(−V), whose normalization is not needed.

        ∬k_π dμ dμ,   k_π(x, y) = s(x)·s(y) k + s(x)·∇_y k + s(y)·∇_x k + tr ∇_x∇_y k,   s = −∇V

    `gradient_flow(stein_discrepancy(V, k) / 2, η)` is kernel Stein discrepancy descent: deterministic, with a value
    that says how far it is, in contrast to `stein`. For k(x, y) = x·y + 1 and π = N(0, I) it is
    ‖∫θθᵀ dμ − I‖_F² + |∫θ dμ|².

    Args:
        energy: V of one particle, twice differentiable. kernel: k(x1 [n1 d], x2 [n2 d]) -> [n1 n2], symmetric
            positive, of particles as rows, e.g. `kernels.gaussian(1.0)`. block: rows at once, as in `pair_mean`.

    Returns:
        `Functional`, its diagonal included. It is 0 for μ = π only where the kernel separates measures, and its flow
        may rest elsewhere: where V has several wells, or on a plane of symmetry.

    Raises:
        ValueError: block < 1; on evaluation, an energy that is not one number a particle.

    Cost: N scores and N² d second derivatives of the kernel a value; memory block · N · d numbers.
    Source: Korba, Aubin-Frankowski, Majewski, Ablin (2021, Kernel Stein discrepancy descent); the discrepancy: Liu,
    Lee, Jordan (2016); Chwialkowski, Strathmann, Gretton (2016).

    >>> F = stein_discrepancy(lambda theta: theta @ theta / 2, lambda x, y: x @ y.T + 1)
    >>> f"{F(jnp.array([[0.0], [2.0]])):.1f}"  # mean 1 and second moment 2
    '2.0'
    """
    require(block is None or block >= 1, "block", block, "be >= 1 row", "use None for a block that fits the cache")
    checked = Checked("kernel", kernel, "pairs")

    def entry(x: Array, y: Array, x_score: Array, y_score: Array) -> Array:
        k = lambda a, b: checked(a[None], b[None])[0, 0]  # noqa: E731
        value, (by_x, by_y) = jax.value_and_grad(k, (0, 1))(x, y)
        along = lambda e: jax.jvp(lambda a: jax.grad(k, 1)(a, y), (x,), (e,))[1] @ e  # noqa: E731
        trace = jax.vmap(along)(jnp.eye(len(x), dtype=x.dtype)).sum()
        return x_score @ y_score * value + x_score @ by_y + y_score @ by_x + trace

    def steined(left: Array, right: Array) -> Array:
        size = left.shape[1] // 2
        column = lambda a: jax.vmap(lambda b: entry(a[:size], b[:size], a[size:], b[size:]))(right)  # noqa: E731
        return jax.vmap(column)(left)

    def value(cloud: Cloud) -> Array:
        scores = jax.tree.map(jnp.negative, jax.vmap(jax.grad(Checked("energy", energy)))(cloud.particles))
        both = jnp.concatenate([rows(cloud), rows(replace(cloud, particles=scores))], 1)
        return pair_mean(replace(cloud, particles=both), steined, block=block)

    return Functional(value)


@boundary(static=("order", "block"))
def many_body(energy: Callable[..., Array], order: int, *, block: int | None = None) -> Functional:
    r"""Interaction energy of k bodies, (1/k!) ∫…∫W(θ_1, …, θ_k) μ(dθ_1) … μ(dθ_k), coincident indices included.

    `many_body(W, 1)` is `potential(W)` and `many_body(W, 2)` is `interaction`, of an energy of two particles.

    Args:
        energy: W of k particles, one number. order: k ≥ 1. block: particles at once in each of the k sums.

    Returns:
        `Functional`. For a symmetric W its first variation is (1/(k − 1)!) ∫W(θ, ·) dμ^(k−1).

    Raises:
        ValueError: order < 1, block < 1; on evaluation, an energy that is not one number.

    Cost: N^k evaluations of W, memory block^(k−1) · N, 2^18 numbers by default. The sums are not split over a mesh.

    >>> F = many_body(lambda a, b, c: (a * b * c).sum(), 3)
    >>> f"{F(jnp.array([[1.0], [3.0]])):.3f}"  # 2³/3!
    '1.333'
    """
    require(order >= 1, "order", order, "be >= 1 particle", "use 2 for pairs")
    require(block is None or block >= 1, "block", block, "be >= 1 particle", "use None for a block that fits the cache")
    checked = Checked("energy", energy, whole=True)

    def value(cloud: Cloud) -> Array:
        alone = replace(cloud, mesh=None)
        # of each of the outer sums, so that all blocks together are as large as one of pairs
        outer = block or max(1, int(rows_of(cloud.size) ** (1 / max(order - 1, 1))))

        def bound(held: tuple[PyTree, ...]) -> Array:
            """The sum over the particles that are not held."""
            if len(held) == order:
                return checked(*held)
            size = outer if len(held) < order - 1 else block
            return mean(alone, lambda theta: bound((*held, theta)), block=size)

        return bound(()) / math.factorial(order)

    return Functional(value)


@boundary
def noise_injection(functional: Functional, level: Schedule) -> Estimator:
    r"""The drift at particles displaced by noise, while the measure stays: ∇δF/δμ(μ)(θ_i + β_k ξ_i), ξ_i ~ N(0, I).

    `gradient_flow(noise_injection(mmd(k, target) / 2, β), η)` is the MMD flow with noise injection: noise reaches
    regions where the drift is not 0 when the particles sit where it is, and the particles themselves are not diffused.
    For a Gaussian kernel of variance s² the mean drift is that of variance s² + β², times (s²/(s² + β²))^(d/2).

    Args:
        functional: F. level: β ≥ 0, or a function of the step's index, e.g. to let the noise vanish.

    Returns:
        `Estimator` without slopes: the drift of positions only.

    Raises:
        ValueError: β < 0 (inside `jit` and in schedules, the particles become NaN).

    Cost: a gradient of the first variation on N + N particles, two to three times that of F on as many.
    Source: Arbel, Korba, Salim, Gretton (2019, Maximum mean discrepancy gradient flow), the section on noise injection.

    >>> from jaxtheory import meanfield
    >>> F = meanfield.mmd(lambda x, y: x @ y.T, jnp.ones((2, 1))) / 2  # its drift is the same at all places
    >>> flow = meanfield.gradient_flow(meanfield.noise_injection(F, 1.0), 0.5)
    >>> meanfield.simulate(flow, [[0.0], [2.0], [4.0]], steps=1, key=jax.random.key(0)).state.cloud.particles.mean()
    Array(1.5, dtype=float32)
    """
    levels = scheduled("level", level, nonnegative, "use 0.0 for the gradient itself")

    def gradient(
        cloud: Cloud, memory: PyTree, key: PRNGKeyArray, index: Int[Array, ""]
    ) -> tuple[PyTree[Array], PyTree]:
        displaced = moved(cloud, gaussian_noise(key, cloud), levels(index)).particles
        return drift_at(functional, cloud, displaced), memory

    return Estimator(lambda cloud: (), gradient, lambda memory, parents: memory)


def drift_at(functional: Functional, cloud: Cloud, points: PyTree[Array]) -> PyTree[Array]:
    """∇δF/δμ(μ) at any points, for a measure that stays: the points are particles of mass 0."""
    count = len(jax.tree.leaves(points)[0])
    added = jnp.concatenate([jnp.zeros_like(cloud.weights), jnp.ones(count, cloud.weights.dtype)])
    held = jnp.concatenate([cloud.weights, jnp.zeros(count, cloud.weights.dtype)])

    def variation(places: PyTree[Array]) -> Array:
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cloud.particles, places)
        return jax.jvp(lambda w: evaluated(functional, Cloud(both, w)), (held,), (added,))[1]

    return jax.grad(variation)(points)
