r"""Depth as a prior: which solution gradient flow finds when a linear map is written as a product.

A diagonal network interpolates with the least hyperbolic entropy, between ℓ₁ (small start) and ℓ₂ (large start); a
deep linear network learns the singular values of its target one after another, the largest first.

>>> x, y = jnp.array([[1.0, 2.0]]), jnp.array([2.0])
>>> with jax.enable_x64(True):
...     sparse = hyperbolic_interpolant(jnp.array([[1.0, 2.0]]), jnp.array([2.0]), scale=1e-4)
>>> [f"{value:.3f}" for value in sparse.beta]
['0.000', '1.000']
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import holds, require
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


def hyperbolic_entropy(beta: Float[Array, "... d"], scale: float) -> Float[Array, "..."]:
    r"""Q(β) = α² Σ q(β_i/α²) with q(z) = 2 − √(4 + z²) + z arcsinh(z/2).

    Args:
        beta: β.
        scale: α > 0, the size of the start: Q → ‖β‖₁ · log(1/α²) as α → 0, Q → ‖β‖²/(4α²) as α → ∞.

    Source: Woodworth et al. (2020), Theorem 1.

    >>> f"{hyperbolic_entropy(jnp.array([2.0]), 1.0):.4f}"
    '0.9343'
    """
    z = beta / scale**2
    return scale**2 * (2 - jnp.sqrt(4 + z**2) + z * jnp.arcsinh(z / 2)).sum(-1)


def hyperbolic_interpolant(x: Float[Array, "n d"], y: Float[Array, " n"], *, scale: Number) -> Interpolant:
    r"""Where gradient flow on a diagonal network β = u² − v² from u = v = α ends: argmin Q(β) subject to Xβ = y.

    By duality β = 2α² sinh(Xᵀν), with ν the minimum of the convex Σ 2α² cosh(Xᵀν)_i − ⟨y, ν⟩: damped Newton.

    Args:
        x: n ≤ d rows that are linearly independent.
        y: targets.
        scale: α > 0.

    Returns:
        `Interpolant`; status `NOT_CONVERGED` where the residual stays above the square root of round-off.

    Raises:
        ValueError: scale ≤ 0, more rows than columns, lengths that differ.

    Cost: some tens of Newton steps of O(n²d). Source: Woodworth et al. (2020), Theorem 1.
    """
    require(holds(lambda v: v > 0, scale), "scale", scale, "be > 0", "from u = v = 0 nothing moves")
    require(len(x) == len(y), "y", y.shape, f"have one entry for each of {len(x)} rows of x", "pair them")
    wide = x.shape[0] <= x.shape[1]
    require(wide, "x", x.shape, "have at least as many columns as rows to interpolate", "use fewer samples")
    return _hyperbolic_interpolant(x, y, jnp.asarray(scale, x.dtype))


@jax.jit
def _hyperbolic_interpolant(x: Array, y: Array, scale: Array) -> Interpolant:
    twice = 2 * scale**2

    def beta_of(dual: Array) -> Array:
        return twice * jnp.sinh(jnp.matmul(dual, x, precision="highest"))

    def objective(dual: Array) -> Array:
        reach = jnp.matmul(dual, x, precision="highest")
        return (twice * jnp.cosh(reach)).sum() - jnp.dot(y, dual, precision="highest")

    def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
        dual, count = state
        reach = jnp.matmul(dual, x, precision="highest")
        gradient = jnp.matmul(x, beta_of(dual), precision="highest") - y
        hessian = jnp.matmul(x * (twice * jnp.cosh(reach))[None], x.T, precision="highest")
        step = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), gradient)
        # |Δ(Xᵀν)| ≤ 1 keeps cosh within a factor e of its quadratic model, so that every step descends.
        damping = 1 / jnp.maximum(1, jnp.abs(jnp.matmul(step, x, precision="highest")).max())
        return dual - damping * step, count + 1

    def going(state: tuple[Array, Array]) -> Array:
        dual, count = state
        residual = relative_residual(jnp.matmul(x, beta_of(dual), precision="highest"), y)
        return (residual > 8 * jnp.finfo(x.dtype).eps) & (count < _NEWTON_STEPS)

    dual, _ = lax.while_loop(going, body, (jnp.zeros_like(y), jnp.int32(0)))
    beta = beta_of(dual)
    residual = relative_residual(jnp.matmul(x, beta, precision="highest"), y)
    loose = residual > jnp.sqrt(jnp.finfo(x.dtype).eps)
    return Interpolant(beta, dual, residual, finite_status(beta, status_where((loose, Status.NOT_CONVERGED))))


def diagonal_descent(
    x: Float[Array, "n d"], y: Float[Array, " n"], *, scale: Number, step_size: Number, steps: int
) -> tuple[Float[Array, " d"], Training]:
    r"""The run itself: gradient descent on (1/2n)‖X(u² − v²) − y‖² from u = v = α.

    Args:
        x, y, scale: as in `hyperbolic_interpolant`; vmap over scales and step sizes.
        step_size: η > 0; the distance of its limit from the flow's is linear in it.
        steps: of gradient descent.

    Returns:
        (β, the `Training` with parameters (u, v)).

    Cost: `steps` passes over X. Source: Woodworth et al. (2020), section 4.

    >>> beta, run = diagonal_descent(jnp.ones((1, 1)), jnp.ones(1), scale=0.1, step_size=0.1, steps=400)
    >>> f"{beta[0]:.3f}"
    '1.000'
    """
    require(holds(lambda v: v > 0, step_size), "step_size", step_size, "be > 0", "descend")
    return _diagonal_descent(x, y, jnp.asarray(scale, x.dtype), jnp.asarray(step_size, x.dtype), steps)


@partial(jax.jit, static_argnames="steps")
def _diagonal_descent(x: Array, y: Array, scale: Array, step_size: Array, steps: int) -> tuple[Array, Training]:
    def loss(pair: tuple[Array, Array]) -> Array:
        u, v = pair
        return ((jnp.matmul(x, u**2 - v**2, precision="highest") - y) ** 2).mean() / 2

    start = scale * jnp.ones_like(x[0])
    run = train(loss, (start, start), optimizer=optax.sgd(step_size), steps=steps, record_every=steps)
    u, v = run.params
    return u**2 - v**2, run


def deep_linear_modes(
    singular_values: Float[Array, " d"], depth: int, start: float, times: Float[Array, " t"]
) -> Float[Array, "t d"]:
    r"""Singular values of W_N ⋯ W_1 under gradient flow on ½‖W_N ⋯ W_1 − Y‖² from a balanced, aligned start.

        σ̇ = N σ^{2 − 2/N} (s − σ),  σ(0) = start

    For N = 1 and 2 in closed form: s − (s − σ₀)e^{−t}, and the logistic s / (1 + (s/σ₀ − 1) e^{−2st}). Deeper, the
    time of each σ is a quadrature, and its inverse is found by bisection on log σ.

    Args:
        singular_values: s ≥ 0 of Y.
        depth: N ≥ 1.
        start: 0 < σ(0) < min s for N ≥ 3.
        times: t ≥ 0.

    Returns:
        σ at each time, for each singular value.

    Raises:
        ValueError: depth < 1, start ≤ 0 or, for N ≥ 3, not below every singular value.

    Source: Saxe, McClelland, Ganguli (2014), equation 12; Arora, Cohen, Hu, Luo (2019), Theorem 3.

    >>> modes = deep_linear_modes(jnp.array([2.0, 1.0]), 2, 1e-3, jnp.array([2.0]))
    >>> [f"{value:.3f}" for value in modes[0]]
    ['1.197', '0.052']
    """
    require(depth >= 1, "depth", depth, "be >= 1", "count the layers")
    require(holds(lambda v: v > 0, start), "start", start, "be > 0", "the origin is a critical point")
    s, t = singular_values[None, :], times[:, None]
    if depth == 1:
        return s - (s - start) * jnp.exp(-t)
    if depth == 2:
        return s / (1 + (s / start - 1) * jnp.exp(-2 * s * t))
    below = holds(lambda v: start < v, singular_values)
    require(below, "start", start, f"be below every singular value, {singular_values}", "start smaller")
    return jax.vmap(jax.vmap(_invert, (0, None, None, None)), (None, 0, None, None), 1)(
        times, singular_values, jnp.asarray(start, s.dtype), depth
    )


def _invert(time: Array, s: Array, start: Array, depth: int) -> Array:
    """The σ = s·p with p/(1 − p) between its start and round-off below s that is reached at `time`."""
    low, high = jnp.log(start / (s - start)), -jnp.log(jnp.finfo(s.dtype).eps)

    def bisect(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        late = _elapsed(low, middle, s, depth) > time
        return jnp.where(late, ends[0], middle), jnp.where(late, middle, ends[1])

    logit = lax.fori_loop(0, 60, bisect, (low, high * jnp.ones_like(low)))[0]
    return s * jax.nn.sigmoid(logit)


def _elapsed(low: Array, high: Array, s: Array, depth: int) -> Array:
    """∫ dσ / (N σ^{2−2/N}(s − σ)) in the logit of σ/s, where the integrand is a smooth exponential."""
    nodes, weights = (jnp.asarray(a, s.dtype) for a in np.polynomial.legendre.leggauss(64))
    half = (high - low) / 2
    p = jax.nn.sigmoid(low + half * (nodes + 1))
    rate = depth * s ** (2 - 2 / depth) * p ** (1 - 2 / depth)
    return half * (weights / rate).sum()


def effective_rank(singular_values: Float[Array, "... d"]) -> Float[Array, "..."]:
    r"""exp of the entropy of σ/Σσ: between 1 and the rank. Source: Roy and Vetterli (2007).

    >>> f"{effective_rank(jnp.array([1.0, 1.0, 0.0])):.3f}"
    '2.000'
    """
    share = singular_values / singular_values.sum(-1, keepdims=True)
    return jnp.exp(-jax.scipy.special.xlogy(share, share).sum(-1))


def balanced_start(key: Key[Array, ""], dim: int, depth: int, size: float) -> list[Float[Array, "{dim} {dim}"]]:
    r"""W_1, …, W_N with W_{l+1}ᵀW_{l+1} = W_l W_lᵀ and W_N ⋯ W_1 = size · O, O a random rotation.

    >>> first, second = balanced_start(jax.random.key(0), 3, 2, 0.01)
    >>> bool(jnp.allclose(second.T @ second, first @ first.T, atol=1e-7))
    True
    """
    require(size > 0, "size", size, "be > 0", "the origin is a critical point")
    require(depth >= 1, "depth", depth, "be >= 1", "count the layers")
    rotation = jnp.linalg.qr(jax.random.normal(key, (dim, dim)))[0]
    return [size ** (1 / depth) * (rotation if layer == 0 else jnp.eye(dim)) for layer in range(depth)]
