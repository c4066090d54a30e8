r"""Mirror descent: of all interpolants it finds the one nearest to its start in the divergence of its potential.

>>> x, y = jnp.array([[1.0, 1.0]]), jnp.array([2.0])
>>> fit = mirror_interpolant(x, y, jnp.exp, start=jnp.log(jnp.array([0.1, 0.3])))
>>> [f"{value:.3f}" for value in fit.beta]
['0.500', '1.500']
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.checks import Checked, boundary, constrain, positive, require
from jaxtheory.results import Status, finite_status, relative_residual, status_where

Number = float | Float[Array, ""]
_NEWTON_STEPS, _HALVINGS = 200, 40


class MirrorInterpolant(NamedTuple):
    """β with Xβ = y and ∇ψ(β) = θ₀ + Xᵀν, the dual ν, and the recomputed residual ‖Xβ − y‖/‖y‖."""

    beta: Float[Array, " d"]
    dual: Float[Array, " n"]
    residual: Float[Array, ""]
    status: Int[Array, ""]


class MirrorRun(NamedTuple):
    """β after the last step, its mirror image θ = ∇ψ(β), and whether they are finite."""

    beta: Float[Array, " d"]
    mirror: Float[Array, " d"]
    status: Int[Array, ""]


def _checked(x: Array, y: Array, inverse: Callable[[Array], Array], start: Array | None) -> Array:
    """Shapes, and the start."""
    require(len(x) == len(y) >= 1, "y", y.shape, f"have one entry for each of {len(x)} rows of x", "pair them")
    require(callable(inverse), "inverse", inverse, "be a function", "pass the inverse of ∇ψ, e.g. jnp.exp")
    theta = jnp.zeros(x.shape[1], x.dtype) if start is None else start.astype(x.dtype)
    require(theta.shape == x.shape[1:], "start", theta.shape, f"have shape {x.shape[1:]}", "one entry a column of x")
    jax.eval_shape(Checked("inverse", inverse, "same"), theta)
    finite = lambda v: (v > -jnp.inf) & (v < jnp.inf)  # noqa: E731
    return constrain("start", theta, finite, "be finite", "pass ∇ψ at the first weights")


@boundary
def mirror_interpolant(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    inverse: Callable[[Array], Array],
    *,
    start: Float[Array, " d"] | None = None,
) -> MirrorInterpolant:
    r"""Where mirror descent and its flow on ‖Xβ − y‖² end: argmin D_ψ(β, β₀) subject to Xβ = y.

    For a potential ψ(β) = Σ ψ_i(β_i), strictly convex, with Bregman divergence D_ψ(β, β₀) = ψ(β) − ψ(β₀) −
    ⟨∇ψ(β₀), β − β₀⟩. The gradient ∇ψ(β) moves in the row space of X, so at the end

        β = (∇ψ)⁻¹(θ₀ + Xᵀν),   Xβ = y,   θ₀ = ∇ψ(β₀)

    which are the conditions of the minimum. Damped Newton in ν.

    Args:
        x: n ≤ d independent rows. y: targets, such that some β in the domain of ψ has Xβ = y.
        inverse: (∇ψ)⁻¹, an increasing elementwise function: `jnp.exp` for the entropy Σ β log β − β, `lambda t: t`
            for ½‖β‖², `lambda t: 2 * a**2 * jnp.sinh(t)` for the hyperbolic entropy of a diagonal network.
        start: θ₀, zeros by default.

    Returns:
        `MirrorInterpolant`, NOT_CONVERGED where the residual stays above the square root of round-off, e.g. because
        no interpolant exists. Derivatives in x, y and start are implicit, for independent rows.

    Raises:
        ValueError: shapes, an `inverse` that is not elementwise, more rows than columns; a start that is not finite
            (outside jit; NaN inside).

    Cost: some tens of Newton steps of O(n²d). Source: Gunasekar, Lee, Soudry, Srebro (2018), "Characterizing implicit
    bias in terms of optimization geometry", mirror descent with losses of a unique finite root.

    >>> found = mirror_interpolant([[1.0, 2.0]], [5.0], lambda t: t)
    >>> [f"{value:.3f}" for value in found.beta]
    ['1.000', '2.000']
    """
    theta = _checked(x, y, inverse, start)
    require(x.shape[0] <= x.shape[1], "x", x.shape, "have at least as many columns as rows", "use fewer samples")
    unit = guarded.power_of_two(x)
    rows, target = x / unit, y.astype(x.dtype) / unit

    def weights(rows: Array, theta: Array, dual: Array) -> Array:
        return inverse(theta + jnp.matmul(dual, rows, precision="highest"))

    def gap(dual: Array) -> Array:
        return jnp.matmul(rows, weights(rows, theta, dual), precision="highest") - target

    def linear(function: Callable[[Array], Array], right: Array) -> Array:
        return jnp.linalg.solve(jax.vmap(function)(jnp.eye(len(right), dtype=right.dtype)).T, right)

    dual = lax.custom_root(gap, jnp.zeros_like(target), _newton, linear)
    beta = weights(rows, theta, dual)
    residual = relative_residual(jnp.matmul(rows, beta, precision="highest"), target)
    loose = ~(residual <= jnp.sqrt(jnp.finfo(x.dtype).eps))
    invalid = jnp.isnan(theta).any()
    status = status_where((invalid, Status.INVALID_INPUT), (loose, Status.NOT_CONVERGED))
    return MirrorInterpolant(beta, dual / unit, residual, finite_status((beta, dual, residual), status))


def _newton(gap: Callable[[Array], Array], start: Array) -> Array:
    """Root of the gradient of a convex function: Newton, halved until the line's slope is past neither end."""
    eps = jnp.finfo(start.dtype).eps

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        dual, value, count = state
        jacobian = jax.jacfwd(gap)(dual)
        ridge = 4 * eps * jnp.trace(jacobian) * jnp.eye(len(dual), dtype=dual.dtype)
        step = -jnp.linalg.solve(jacobian + ridge, value)
        size, down = guarded.norm(value), jnp.dot(value, step, precision="highest")

        def bad(trial: tuple[Array, Array]) -> Array:
            share, halvings = trial
            new = gap(dual + share * step)
            # the function falls as far as the slope along the step is negative
            slope = jnp.dot(new, step, precision="highest")
            good = jnp.isfinite(new).all() & ((guarded.norm(new) < size) | ((slope <= 0) & (down < 0)))
            return ~good & (halvings < _HALVINGS)

        begin = (jnp.ones((), dual.dtype), jnp.int32(0))
        share, halvings = lax.while_loop(bad, lambda t: (t[0] / 2, t[1] + 1), begin)
        moved = dual + share * step
        kept = halvings < _HALVINGS
        count = jnp.where(kept, count + 1, jnp.full_like(count, _NEWTON_STEPS))
        new = jnp.where(kept, moved, dual)
        return new, gap(new), count

    def going(state: tuple[Array, Array, Array]) -> Array:
        _, value, count = state
        return (guarded.norm(value) > 8 * eps * scale) & (count < _NEWTON_STEPS)

    first = gap(start)
    scale = guarded.norm(first)
    return lax.while_loop(going, body, (start, first, jnp.int32(0)))[0]


@boundary(static=("steps",))
def mirror_descent(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    inverse: Callable[[Array], Array],
    *,
    step_size: Number,
    steps: int,
    start: Float[Array, " d"] | None = None,
) -> MirrorRun:
    r"""Mirror descent on (1/2n)‖Xβ − y‖² from θ₀ = `start`, whose limit `mirror_interpolant` predicts.

        θ ← θ − η Xᵀ(Xβ − y)/n,   β = (∇ψ)⁻¹(θ)

    Args:
        x, y: the data, n ≥ 1.
        inverse: (∇ψ)⁻¹, an increasing elementwise function, e.g. `jnp.exp`.
        step_size: η > 0, below 2 over the largest eigenvalue of XᵀX/n times the slope of `inverse`.
        steps: ≥ 1. start: θ₀, zeros by default.

    Returns:
        `MirrorRun`, NOT_FINITE where it diverged.

    Raises:
        ValueError: shapes, no step; numbers out of range (outside jit; NaN inside).

    Cost: `steps` passes over X. Source: Nemirovski and Yudin (1983); Gunasekar et al. (2018).

    >>> run = mirror_descent([[1.0, 1.0]], [2.0], jnp.exp, step_size=0.2, steps=100, start=[0.0, 1.0])
    >>> [f"{value:.3f}" for value in run.beta]
    ['0.538', '1.462']
    """
    theta = _checked(x, y, inverse, start)
    require(steps >= 1, "steps", steps, "be at least 1", "descend at least once")
    eta = jnp.asarray(positive("step_size", step_size, "pass a small step, e.g. 0.01"), x.dtype)
    target = y.astype(x.dtype)

    def step(theta: Array, _: None) -> tuple[Array, None]:
        miss = jnp.matmul(x, inverse(theta), precision="highest") - target
        return theta - eta / len(x) * jnp.matmul(miss, x, precision="highest"), None

    theta = lax.scan(step, theta, None, length=steps)[0]
    beta = inverse(theta)
    invalid = jnp.isnan(eta)
    status = finite_status((beta, theta), status_where((invalid, Status.INVALID_INPUT)))
    return MirrorRun(beta, theta, status)
