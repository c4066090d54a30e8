r"""Depth as a prior: which solution gradient flow finds when a linear map is written as a product.

A diagonal network interpolates with the least hyperbolic entropy, between ℓ₁ (small start) and ℓ₂ (large start). What a
deep linear network learns, and when, is in `deep_linear`.

>>> x, y = jnp.array([[1.0, 2.0]]), jnp.array([2.0])
>>> with jax.enable_x64(True):
...     sparse = hyperbolic_interpolant(jnp.array([[1.0, 2.0]]), jnp.array([2.0]), scale=1e-4)
>>> [f"{value:.3f}" for value in sparse.beta]
['0.000', '1.000']
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory import guarded
from jaxtheory.checks import boundary, nonnegative, positive, require
from jaxtheory.networks import Training, train
from jaxtheory.results import Status, finite_status, relative_residual, status_where

_NEWTON_STEPS = 2000  # one for each e-fold between the start and the answer, then quadratic


Number = float | Float[Array, ""]


class Interpolant(NamedTuple):
    """β with Xβ = y, the dual ν with arcsinh(β/2α²) = Xᵀν, and the recomputed residual ‖Xβ − y‖/‖y‖."""

    beta: Float[Array, " d"]
    dual: Float[Array, " n"]
    residual: Float[Array, ""]
    status: Int[Array, ""]


@boundary
def hyperbolic_entropy(beta: Float[Array, "... d"], scale: Number) -> Float[Array, "..."]:
    r"""Q(β) = α² Σ q(β_i/α²) with q(z) = 2 − √(4 + z²) + z arcsinh(z/2).

    Args:
        beta: β.
        scale: α > 0, the size of the start: Q → ‖β‖₁ · log(1/α²) as α → 0, Q → ‖β‖²/(4α²) as α → ∞.

    Raises:
        ValueError: α ≤ 0 (outside jit; NaN inside).

    Cost: O(d), from log α, so that α² may leave the range of the dtype. Source: Woodworth et al. (2020), Theorem 1.

    >>> f"{hyperbolic_entropy(jnp.array([2.0]), 1.0):.4f}"
    '0.9343'
    """
    square, log_square = _square(scale, beta.dtype)
    twice, log_twice = 2 * square, log_square + math.log(2)
    size = beta * jnp.sign(beta)  # |β| with derivative 0 at 0
    near = size < twice
    # with u = β/2α²: β (arcsinh u − u/(1 + √(1 + u²)))
    u = jnp.where(near, beta, jnp.zeros_like(beta)) / jnp.where(near.any(), twice, jnp.ones_like(twice))
    small = beta * (jnp.arcsinh(u) - u / (1 + jnp.sqrt(1 + u**2)))
    large = jnp.where(near | (size == 0), jnp.ones_like(size), size)
    inverse = twice / large
    root = jnp.sqrt(1 + jnp.where(near, jnp.zeros_like(inverse), inverse) ** 2)
    far = size * (jnp.log(large) - log_twice + jnp.log1p(root) - 1 / (inverse + root))
    return jnp.where(near, small, far).sum(-1)


@boundary
def hyperbolic_interpolant(x: Float[Array, "n d"], y: Float[Array, " n"], *, scale: Number) -> Interpolant:
    r"""Where gradient flow on a diagonal network β = u² − v² from u = v = α ends: argmin Q(β) subject to Xβ = y.

    By duality β = 2α² sinh(Xᵀν), with ν the minimum of the convex Σ 2α² cosh(Xᵀν)_i − ⟨y, ν⟩: damped Newton.

    Args:
        x: n ≤ d rows.
        y: targets.
        scale: α > 0; 2α² may lie below the smallest number of the dtype.

    Returns:
        `Interpolant`; status `NOT_CONVERGED` where the residual stays above the square root of round-off. Derivatives
        are implicit, by the linearized Xβ(ν) = y, where that system is regular: for independent rows.

    Raises:
        ValueError: scale ≤ 0 (outside jit; NOT_FINITE inside), more rows than columns, lengths that differ.

    Cost: some tens of Newton steps of O(n²d), one more for each e-fold of 1/α². Source: Woodworth et al. (2020),
    Theorem 1.

    >>> found = hyperbolic_interpolant(jnp.array([[1.0, 1.0]]), jnp.array([2.0]), scale=1.0)
    >>> [f"{value:.3f}" for value in found.beta]
    ['1.000', '1.000']
    """
    require(len(x) == len(y), "y", y.shape, f"have one entry for each of {len(x)} rows of x", "pair them")
    wide = 1 <= x.shape[0] <= x.shape[1]
    require(wide, "x", x.shape, "have a row, and at least as many columns as rows", "use fewer samples")
    return _hyperbolic_interpolant(x, y, _square(scale, x.dtype)[1])


def _square(scale: Number, dtype: Any) -> tuple[Array, Array]:
    """α² and its logarithm, in float64 for Python numbers, which the dtype may not hold."""
    alpha = positive("scale", scale, "from u = v = 0 nothing moves")
    log = 2 * math.log(alpha) if isinstance(alpha, float) else 2 * jnp.log(alpha)
    return jnp.asarray(alpha * alpha, dtype), jnp.asarray(log, dtype)


@jax.jit
def _hyperbolic_interpolant(x: Array, y: Array, log_scale: Array) -> Interpolant:
    unit = guarded.power_of_two(x)
    rows, target = x / unit, y / unit

    def gap(dual: Array) -> Array:
        return jnp.matmul(rows, _weights(rows, dual, log_scale), precision="highest") - target

    def solve(function: Callable[[Array], Array], start: Array) -> Array:
        return _newton(function, start, rows, target, log_scale)

    def linear(function: Callable[[Array], Array], right: Array) -> Array:
        return jnp.linalg.solve(jax.vmap(function)(jnp.eye(len(right), dtype=right.dtype)).T, right)

    dual = lax.custom_root(gap, jnp.zeros_like(target), solve, linear)
    beta = _weights(rows, dual, log_scale)
    residual = relative_residual(jnp.matmul(rows, beta, precision="highest"), target)
    loose = residual > jnp.sqrt(jnp.finfo(x.dtype).eps)
    status = finite_status((beta, dual, residual), status_where((loose, Status.NOT_CONVERGED)))
    return Interpolant(beta, dual / unit, residual, status)


def _weights(rows: Array, dual: Array, log_scale: Array) -> Array:
    """2α² sinh(Xᵀν), from log α² wherever the exponential is above e."""
    reach = jnp.matmul(dual, rows, precision="highest")
    near = jnp.abs(reach) < 1
    close = 2 * jnp.exp(log_scale) * jnp.sinh(jnp.where(near, reach, jnp.zeros_like(reach)))
    far = jnp.where(near, jnp.zeros_like(reach), reach)
    return jnp.where(near, close, jnp.exp(far + log_scale) - jnp.exp(log_scale - far))


def _newton(gap: Callable[[Array], Array], start: Array, rows: Array, target: Array, log_scale: Array) -> Array:
    """Newton on the dual; |Δ(Xᵀν)| ≤ 1 keeps cosh within a factor e of its quadratic model, so every step descends."""
    eps = jnp.finfo(rows.dtype).eps

    def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
        dual, count = state
        reach = jnp.abs(jnp.matmul(dual, rows, precision="highest"))
        top = reach.max() + log_scale
        curvature = jnp.exp(reach + log_scale - top) * (1 + jnp.exp(-2 * reach))  # 2α² cosh over e^top
        hessian = jnp.matmul(rows * curvature[None], rows.T, precision="highest")
        # repeated rows, and directions that no weight in use moves, stay where they are
        ridge = 4 * eps * jnp.trace(hessian) * jnp.eye(len(dual), dtype=dual.dtype)
        step = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian + ridge), gap(dual))
        longest = jnp.abs(jnp.matmul(step, rows, precision="highest")).max()
        length = jnp.minimum(jnp.exp(-top), 1 / jnp.where(longest > 0, longest, jnp.ones_like(longest)))
        return dual - length * step, count + 1

    def going(state: tuple[Array, Array]) -> Array:
        dual, count = state
        return (guarded.norm(gap(dual)) > 8 * eps * guarded.norm(target)) & (count < _NEWTON_STEPS)

    return lax.while_loop(going, body, (start, jnp.int32(0)))[0]


@boundary(static=("steps",))
def diagonal_descent(
    x: Float[Array, "n d"], y: Float[Array, " n"], *, scale: Number, step_size: Number, steps: int
) -> tuple[Float[Array, " d"], Training]:
    r"""Gradient descent on (1/2n)‖X(u² − v²) − y‖² from u = v = α.

    Args:
        x, y: the data, n ≥ 1.
        scale: α > 0; vmap over scales and step sizes.
        step_size: η > 0; the distance of its limit from that of the flow is linear in it.
        steps: of gradient descent, ≥ 1.

    Returns:
        (β, the `Training` with parameters (u, v)), whose status says whether the run diverged.

    Raises:
        ValueError: lengths that differ, no step; scale or step_size ≤ 0 (outside jit; NaN inside).

    Cost: `steps` passes over X. Source: Woodworth et al. (2020), section 4.

    >>> beta, run = diagonal_descent(jnp.ones((1, 1)), jnp.ones(1), scale=0.1, step_size=0.1, steps=400)
    >>> f"{beta[0]:.3f}"
    '1.000'
    """
    require(len(x) == len(y) >= 1, "y", y.shape, f"have one entry for each of {len(x)} rows of x", "pair them")
    require(steps >= 1, "steps", steps, "be >= 1", "descend at least once")
    alpha = positive("scale", scale, "from u = v = 0 nothing moves")
    eta = positive("step_size", step_size, "pass a small step, e.g. 0.01")
    return _diagonal_descent(x, y, jnp.asarray(alpha, x.dtype), jnp.asarray(eta, x.dtype), steps)


@partial(jax.jit, static_argnames="steps")
def _diagonal_descent(x: Array, y: Array, scale: Array, step_size: Array, steps: int) -> tuple[Array, Training]:
    def loss(pair: tuple[Array, Array]) -> Array:
        u, v = pair
        return ((jnp.matmul(x, u**2 - v**2, precision="highest") - y) ** 2).mean() / 2

    start = scale * jnp.ones_like(x[0])
    run = train(loss, (start, start), optimizer=optax.sgd(step_size), steps=steps, record_every=steps)
    u, v = run.params
    return u**2 - v**2, run


@boundary
def effective_rank(singular_values: Float[Array, "... d"]) -> Float[Array, "..."]:
    r"""exp of the entropy of σ/Σσ: between 1 and the rank, and 0 for the zero matrix.

    Args:
        singular_values: σ ≥ 0; where one is 0 the derivative is infinite.

    Raises:
        ValueError: negative values (outside jit; NaN inside). Cost: O(d). Source: Roy and Vetterli (2007).

    >>> f"{effective_rank(jnp.array([1.0, 1.0, 0.0])):.3f}"
    '2.000'
    """
    sigma = nonnegative("singular_values", singular_values, "pass singular values, e.g. of jnp.linalg.svd")
    scaled = sigma / guarded.power_of_two(sigma, axis=-1, keepdims=True)
    total = scaled.sum(-1, keepdims=True)
    zero = total == 0
    share = scaled / jnp.where(zero, jnp.ones_like(total), total)
    rank = jnp.exp(jax.scipy.special.entr(share).sum(-1))
    return jnp.where(zero[..., 0], jnp.zeros_like(rank), rank)


@boundary(static=("dim", "depth"))
def balanced_start(key: Key[Array, ""], dim: int, depth: int, size: Number) -> list[Float[Array, "{dim} {dim}"]]:
    r"""W_1, …, W_N with W_{l+1}ᵀW_{l+1} = W_l W_lᵀ and W_N ⋯ W_1 = size · O, O a uniformly random orthogonal matrix.

    Args:
        key, dim: of the matrices, ≥ 1. depth: N ≥ 1. size: > 0.

    Raises:
        ValueError: dim or depth below 1 or traced, size ≤ 0 (outside jit; NaN inside).

    Cost: one QR decomposition. Source: Arora, Cohen, Hu, Luo (2019), section 3.

    >>> first, second = balanced_start(jax.random.key(0), 3, 2, 0.01)
    >>> bool(jnp.allclose(second.T @ second, first @ first.T, atol=1e-7))
    True
    """
    require(dim >= 1, "dim", dim, "be >= 1", "pass the side of the matrices")
    require(depth >= 1, "depth", depth, "be >= 1", "count the layers")
    rotation = jax.random.orthogonal(key, dim)
    each = jnp.asarray(positive("size", size, "the origin is a critical point"), rotation.dtype) ** (1 / depth)
    return [each * (rotation if layer == 0 else jnp.eye(dim, dtype=rotation.dtype)) for layer in range(depth)]
