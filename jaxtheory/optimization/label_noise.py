r"""SGD with noisy labels: the penalty of sharp minima that it descends, and a model whose drift is known exactly.

Once the labels are fitted, SGD with fresh noise on them moves along the minima, as if it descended L + λR with

    λ = ησ²/B,   R = −(1/2η) tr log(1 − (η/2) ∇²L) = tr ∇²L/4 + O(η)

>>> f"{flatness_penalty(jnp.diag(jnp.array([1.0, 0.0])), 1.0):.4f}"  # log(2)/2
'0.3466'
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, constrain, holds, nonnegative, positive, require
from jaxtheory.guarded import norm
from jaxtheory.results import finite_status

__all__ = ["LabelNoise", "ProductFlow", "effective_loss", "flatness_penalty", "label_noise_sgd", "product_flow"]

Number = float | Float[Array, ""]

_HALVINGS = 80


class LabelNoise(NamedTuple):
    """Parameters at the steps recorded, those steps, and NOT_FINITE where the run diverged."""

    params: Float[Array, "t p"]
    recorded_at: Int[Array, " t"]
    status: Int[Array, ""]


class ProductFlow(NamedTuple):
    """u² − v², and the one eigenvalue u² + v² of the Hessian, at each time."""

    imbalance: Float[Array, " t"]
    sharpness: Float[Array, " t"]


@boundary
def flatness_penalty(hessian: Float[Array, "p p"], step_size: Number) -> Float[Array, ""]:
    r"""R = −(1/2η) tr log(1 − (η/2)H) = −(1/2η) Σ_i log(1 − ηh_i/2), which exceeds tr H/4 at large steps.

    Args:
        hessian: H = ∇²L, symmetric, all eigenvalues below 2/η (where gradient descent is stable).
        step_size: η > 0.

    Raises:
        ValueError: a matrix that is not square, η ≤ 0, an eigenvalue of 2/η or more (NaN inside `jit`).

    Cost: one eigendecomposition. By a determinant, so that derivatives are right at repeated eigenvalues.
    Source: Damian, Ma, Lee (2021, Label noise SGD provably prefers flat global minimizers); tr H/4: Blanc, Gupta,
    Valiant, Valiant (2020).

    >>> f"{flatness_penalty(jnp.eye(3), 1e-3):.4f}"
    '0.7502'
    """
    square = hessian.ndim == 2 and hessian.shape[0] == hessian.shape[1] >= 1
    require(square, "hessian", hessian.shape, "be a square matrix", "pass jax.hessian(loss)(params)")
    eta = jnp.asarray(positive("step_size", step_size, "pass e.g. 0.1"), hessian.dtype)
    found, stable = _penalty(hessian, eta)
    right = holds(lambda v: v, stable) or not holds(lambda h: abs(h) < jnp.inf, hessian)
    require(right, "step_size", step_size, "be below 2 over the largest eigenvalue", "take a smaller step")
    return found


@jax.jit
def _penalty(hessian: Array, eta: Array) -> tuple[Array, Array]:
    even = (hessian + hessian.T) / 2
    largest = jnp.linalg.eigvalsh(lax.stop_gradient(even))[-1]
    stable = eta * largest < 2
    # log det by the factor of a positive definite matrix, whose diagonal is √(1 − lost)
    moved, eye = eta / 2 * even, jnp.eye(len(even), dtype=even.dtype)
    factor = jnp.linalg.cholesky(jnp.where(stable, eye - moved, eye))
    lost = jnp.where(stable, jnp.diagonal(moved) + (jnp.tril(factor, -1) ** 2).sum(axis=1), 0)
    found = -jnp.log1p(-lost).sum() / (2 * eta)
    return jnp.where(stable, found, jnp.nan), stable


@boundary(static=("batch_size",))
def effective_loss(
    loss: Callable[[Array], Array], *, step_size: Number, noise_variance: Number, batch_size: int = 1
) -> Callable[[Float[Array, " p"]], Float[Array, ""]]:
    r"""The loss L + λR whose stationary points SGD with label noise approaches, λ = ησ²/B.

    Args:
        loss: L of a vector of parameters, twice differentiable: the mean of (f_i − y_i)²/2 over the data.
        step_size: η > 0. noise_variance: σ² ≥ 0 of the labels' noise. batch_size: B ≥ 1.

    Returns:
        A function of parameters [p], NaN where the Hessian has an eigenvalue of 2/η or more.

    Raises:
        ValueError: numbers out of range (NaN inside `jit`).

    Cost: a Hessian and its eigendecomposition a value, p up to some hundreds.
    Source: Damian, Ma, Lee (2021, Label noise SGD provably prefers flat global minimizers).

    >>> product = lambda theta: (theta[0] * theta[1] - 1) ** 2 / 2
    >>> flat = effective_loss(product, step_size=0.1, noise_variance=1.0)
    >>> bool(flat(jnp.array([2.0, 0.5])) > flat(jnp.array([1.0, 1.0])))
    True
    """
    require(batch_size >= 1, "batch_size", batch_size, "be >= 1", "count the examples of a step")
    eta = positive("step_size", step_size, "pass e.g. 0.1")
    lam = eta * nonnegative("noise_variance", noise_variance, "pass a variance") / batch_size

    @jax.jit
    def value(params: Array) -> Array:
        step = jnp.asarray(eta, params.dtype)
        return loss(params) + jnp.asarray(lam, params.dtype) * _penalty(jax.hessian(loss)(params), step)[0]

    return value


@boundary(static=("batch_size", "steps", "record_every"))
def label_noise_sgd(
    key: Key[Array, ""],
    model: Callable[[Array, Array], Array],
    start: Float[Array, " p"],
    x: Float[Array, "n ..."],
    y: Float[Array, " n"],
    *,
    step_size: Number,
    noise_variance: Number,
    batch_size: int = 1,
    steps: int,
    record_every: int | None = None,
) -> LabelNoise:
    r"""SGD on (1/2B) Σ_{i in the batch} (f(θ, x_i) − y_i − ξ_i)², with fresh noise ξ_i = ±σ on the labels at each step.

    Args:
        key: of batches, drawn with replacement, and signs.
        model: f of a vector of parameters and one point, a number. start: θ_0. x, y: data.
        step_size: η > 0. noise_variance: σ² ≥ 0. batch_size: B ≥ 1, also above n.
        steps: ≥ 0, a multiple of record_every; by default only the last is recorded.

    Returns:
        `LabelNoise`; the status is of the parameters recorded.

    Raises:
        ValueError: shapes that do not pair, numbers out of range (not OK inside `jit`), steps that are no multiple.

    Cost: B gradients of f a step; one compilation for each model and number of records.
    Source: Damian, Ma, Lee (2021, Label noise SGD provably prefers flat global minimizers); Blanc, Gupta, Valiant,
    Valiant (2020, Implicit regularization for deep neural networks driven by an Ornstein-Uhlenbeck like process).

    >>> product = lambda theta, x: theta[0] * theta[1] * x
    >>> run = label_noise_sgd(jax.random.key(0), product, jnp.array([3.0, 0.3]), jnp.ones(1), jnp.ones(1),
    ...     step_size=0.1, noise_variance=1.0, steps=400)
    >>> bool((run.params[-1] ** 2).sum() < 6)  # it was 9.09
    True
    """
    every = max(steps, 1) if record_every is None else record_every
    require(len(y) == len(x) >= 1, "y", y.shape, f"have one entry for each of {len(x)} points", "pair them")
    require(batch_size >= 1, "batch_size", batch_size, "be >= 1", "count the examples of a step")
    require(every >= 1 and steps >= 0 and steps % every == 0, "steps", steps, f"be a multiple of {every}", "round it")
    eta = jnp.asarray(positive("step_size", step_size, "pass e.g. 0.1"), start.dtype)
    spread = jnp.sqrt(jnp.asarray(nonnegative("noise_variance", noise_variance, "pass a variance"), start.dtype))
    data = _Noisy(x, y.astype(start.dtype), spread)
    params = _run(model, batch_size, steps // every, key, start, data, eta=eta, every=jnp.int32(every))
    recorded_at = every * jnp.arange(1, steps // every + 1, dtype=jnp.int32)
    return LabelNoise(params, recorded_at, finite_status((params, eta, spread)))


class _Noisy(NamedTuple):
    """Points, labels, and the standard deviation of the noise on labels."""

    x: Array
    y: Array
    spread: Array


@partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    model: Callable[[Array, Array], Array], batch: int, records: int, key: Array, start: Array, data: _Noisy,
    *, eta: Array, every: Array,
) -> Array:  # fmt: skip
    x, y, spread = data

    def step(k: Array, params: Array) -> Array:
        choosing, flipping = jax.random.split(jax.random.fold_in(key, k))
        rows = jax.random.randint(choosing, (batch,), 0, len(y), jnp.int32)
        labels = y[rows] + spread * jax.random.rademacher(flipping, (batch,), y.dtype)

        def loss(theta: Array) -> Array:
            return ((jax.vmap(lambda row: model(theta, row))(x[rows]) - labels) ** 2).mean() / 2

        return params - eta * jax.grad(loss)(params)

    def stretch(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        done, params = carry
        params = lax.fori_loop(done, done + every, step, params)
        return (done + every, params), params

    return lax.scan(stretch, (jnp.int32(0), start), length=records)[1]


@boundary
def product_flow(
    label: Number, imbalance: Number, steps: Float[Array, " t"], *, step_size: Number, noise_variance: Number
) -> ProductFlow:
    r"""Where label noise drives the model f = u v of one label y along its minima u v = y.

    A step multiplies a = u² − v² by 1 − η²g² exactly, g the noisy residual. With s = u² + v² = √(a² + 4y²) the residual
    has the stationary E g² = 2σ²/(2 − ηs), so over many steps k

        da/dk = −2η²σ² a/(2 − ηs),   2 log(a_0/a) − η [s_0 − s − c log((c + s_0) a/((c + s) a_0))] = 2η²σ² k,  c = 2|y|

    which is the descent of λR along the minima: a falls to 0 and s, the trace of the Hessian, to its least, 2|y|.

    Args:
        label: y. imbalance: a_0, of either sign, with ηs_0 < 2.
        steps: k ≥ 0, real numbers of steps.
        step_size: η > 0. noise_variance: σ² ≥ 0.

    Returns:
        `ProductFlow`; its relative error against SGD is of order η²σ², beside the noise.

    Raises:
        ValueError: numbers out of range, ηs_0 ≥ 2 (NaN inside `jit`).

    Cost: 80 halvings a time. Derivatives are implicit.
    Source: Damian, Ma, Lee (2021) and Blanc, Gupta, Valiant, Valiant (2020) for the model class; the integral of the
    drift above is elementary.

    >>> path = product_flow(1.0, 3.0, jnp.array([0.0, 1e6]), step_size=0.1, noise_variance=1.0)
    >>> [f"{value:.3f}" for value in path.sharpness]
    ['3.606', '2.000']
    """
    eta = positive("step_size", step_size, "pass e.g. 0.1")
    variance = nonnegative("noise_variance", noise_variance, "pass a variance")
    steps = nonnegative("steps", steps, "start at 0")
    start = jnp.asarray(imbalance, steps.dtype)
    lowest = 2 * jnp.abs(jnp.asarray(label, steps.dtype))
    first = norm(jnp.stack([start, lowest]))
    stable = constrain("step_size", eta * first, lambda v: v < 2, "be below 2/(u² + v²)", "take a smaller step") < 2
    eta = jnp.where(stable, jnp.asarray(eta, steps.dtype), jnp.nan)
    found = jax.vmap(partial(_imbalance, start, lowest, eta))(2 * eta**2 * variance * steps)
    return ProductFlow(found, jax.vmap(lambda a: norm(jnp.stack([a, lowest])))(found))


@jax.jit
def _imbalance(start: Array, lowest: Array, eta: Array, time: Array) -> Array:
    """a where 2 log(a_0/a) − η[…] = time, by the logarithm z of a_0/a."""
    first = norm(jnp.stack([start, lowest]))
    some = jnp.where(first > 0, first, jnp.ones_like(first))

    def excess(z: Array) -> Array:
        a = start * jnp.exp(-z)
        s = jnp.where(first > 0, norm(jnp.stack([a, lowest])), some)
        fallen = (start - a) * ((start + a) / (some + s))
        curve = fallen - lowest * (jnp.log1p(fallen / (lowest + s)) - z)
        return 2 * z - eta * curve - time

    top = time / (2 - eta * first)

    def bisect(function: Callable[[Array], Array], _: Array) -> Array:
        def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (ends[0] + ends[1]) / 2
            late = function(middle) > 0
            return jnp.where(late, ends[0], middle), jnp.where(late, middle, ends[1])

        return lax.fori_loop(0, _HALVINGS, halve, (0 * top, top))[1]

    z = lax.custom_root(excess, 0 * top, bisect, lambda slope, y: y / slope(jnp.ones_like(y)))
    return start * jnp.exp(-z)
