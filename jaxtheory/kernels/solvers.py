"""Solvers of A x = y that say how they ended: jittered Cholesky, preconditioned conjugate gradients."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxtheory.guarded import over
from jaxtheory.results import relative_residual

Operator = Callable[[Array], Array]


class Factor(NamedTuple):
    """L Lᵀ = A + jitter I; `lower` is NaN where no jitter within √ε of A's mean diagonal sufficed."""

    lower: Float[Array, "n n"]
    jitter: Float[Array, ""]


class Iterates(NamedTuple):
    """Where an iterative solver stopped.

    `indefinite`: a direction with pᵀ A p < 0 beyond rounding; `singular`: one where it is 0 within rounding;
    `converged`: the columns that reached the tolerance.
    """

    solution: Float[Array, "n o"]
    iterations: Int[Array, ""]
    indefinite: Bool[Array, ""]
    singular: Bool[Array, ""]
    converged: Bool[Array, " o"]


def jittered_cholesky(matrix: Float[Array, "n n"]) -> Factor:
    r"""Cholesky factor of A + jitter I with the least jitter of 0, ε t, 10 ε t, …, √ε t that gives one; t = tr A / n.

    Args:
        matrix: A, symmetric; only the lower triangle is read.

    Returns:
        `Factor`: the jitter that was added is in it, and is 0 for a matrix that is positive definite in its precision.

    Cost: n³/3 flops an attempt. Not differentiable in reverse mode: `differentiable_cholesky` is.
    Source: the standard device, e.g. Rasmussen and Williams (2006), section A.4.

    >>> f"{jittered_cholesky(jnp.eye(2)).jitter:.1f}"
    '0.0'
    """
    eps = float(jnp.finfo(matrix.dtype).eps)
    scale = jnp.trace(matrix) / matrix.shape[0]
    first, last = eps * scale, eps**0.5 * scale

    def failed(factor: Factor) -> Array:
        return ~jnp.isfinite(factor.lower[-1, -1]) & (factor.jitter < last)

    def attempt(factor: Factor) -> Factor:
        jitter = jnp.minimum(jnp.where(factor.jitter == 0, first, 10 * factor.jitter), last)
        return Factor(_cholesky(matrix + jitter * jnp.eye(matrix.shape[0], dtype=matrix.dtype)), jitter)

    return jax.lax.while_loop(failed, attempt, Factor(_cholesky(matrix), jnp.zeros_like(scale)))


def differentiable_cholesky(matrix: Float[Array, "n n"]) -> Factor:
    """`jittered_cholesky`, whose jitter is a constant to differentiation; costs one factorization more.

    >>> f"{jax.grad(lambda s: differentiable_cholesky(s * jnp.eye(2)).lower[0, 0])(4.0):.2f}"
    '0.25'
    """
    jitter = jittered_cholesky(jax.lax.stop_gradient(matrix)).jitter
    return Factor(_cholesky(matrix + jitter * jnp.eye(matrix.shape[0], dtype=matrix.dtype)), jitter)


def cholesky_solve(lower: Float[Array, "n n"], y: Float[Array, "n o"]) -> Float[Array, "n o"]:
    """(L Lᵀ)⁻¹ y by two triangular solves, 2 n² flops an output.

    >>> f"{cholesky_solve(2 * jnp.eye(1), jnp.ones((1, 1)))[0, 0]:.2f}"
    '0.25'
    """
    return jax.scipy.linalg.cho_solve((lower, True), y)


def factored(
    matrix: Float[Array, "n n"], tolerance: float | Array
) -> tuple[Callable[[Array], Iterates], Float[Array, ""]]:
    """Solutions of A x = y by one jittered Cholesky factor, refined where the residual is above `tolerance`.

    `indefinite` is a matrix without a factor; A = 0 is singular, and its solutions are 0. With them, the jitter.

    >>> solve, jitter = factored(2 * jnp.eye(1), 1e-3)
    >>> f"{solve(jnp.ones((1, 1))).solution[0, 0]:.2f}"
    '0.50'
    """
    factor = jittered_cholesky(matrix)
    zero = (matrix == 0).all()

    def solve(y: Array) -> Iterates:
        def missed(x: Array) -> Array:
            return jax.vmap(relative_residual, in_axes=1)(jnp.matmul(matrix, x, precision="highest"), y)

        def refined() -> Array:
            left = y - jnp.matmul(matrix, first, precision="highest")
            return first + cholesky_solve(factor.lower, left)

        first = jnp.where(zero, jnp.zeros_like(y), cholesky_solve(factor.lower, y))
        x = jax.lax.cond((missed(first) <= tolerance).all(), lambda: first, refined)
        indefinite = ~jnp.isfinite(factor.lower).all() & ~zero
        return Iterates(x, jnp.int32(1), indefinite, ~indefinite, missed(x) <= tolerance)

    return solve, factor.jitter


def conjugate_gradients(
    apply: Operator,
    y: Float[Array, "n o"],
    inverse: Operator,
    *,
    tolerance: float | Array,
    max_iterations: int,
    level: float | Array = 0.0,
) -> Iterates:
    r"""Preconditioned conjugate gradients for every column of A X = y at once, one product with A a step.

    Columns have their own step sizes and stop moving when ‖r_j‖ ≤ tolerance ‖y_j‖. A direction with pᵀ A p ≤ 0 ends
    the iteration and is reported.

    Args:
        apply: V → A V, [n o] → [n o], symmetric positive definite.
        y: right-hand sides, of order one: squares of their norms are formed.
        inverse: the preconditioner, R → P⁻¹ R.
        tolerance, max_iterations: when to stop.
        level: what rounding makes of a vanishing pᵀ A p / pᵀ p.

    Cost: a step is one `apply`, one `inverse` and 12 n o flops; memory 4 n o. Differentiable by `solution_of` alone.
    Source: Golub and Van Loan (2013), section 11.5, preconditioned conjugate gradients.

    >>> done = conjugate_gradients(lambda v: 2 * v, jnp.ones((2, 1)), lambda r: r, tolerance=1e-6, max_iterations=5)
    >>> f"{done.solution.ravel()} {done.iterations}"
    '[0.5 0.5] 1'
    """
    size = jnp.linalg.norm(y, axis=0)
    target = tolerance * size

    def going(state: PyTree) -> Array:
        _, _, _, _, left, i, ended, _, _ = state
        return (left > target).any() & (i < max_iterations) & ~ended

    def step(state: PyTree) -> PyTree:
        x, r, p, rz, left, i, _, indefinite, singular = state
        product = apply(p)
        curvature, rounding = jnp.sum(p * product, axis=0), level * jnp.sum(p**2, axis=0)
        active = left > target
        ended = (active & ~(curvature > 0)).any()
        indefinite = indefinite | (active & ~(curvature >= -rounding)).any()
        singular = singular | (active & (curvature <= rounding)).any()
        stride = jnp.where(active & ~ended, over(rz, curvature), 0)[None]
        x, r = x + stride * p, r - stride * product
        z = inverse(r)
        new = jnp.sum(r * z, axis=0)
        p = z + over(new, rz)[None] * p
        return x, r, p, new, jnp.linalg.norm(r, axis=0), i + 1, ended, indefinite, singular

    z = inverse(y)
    no, bad = jnp.zeros((), bool), ~jnp.isfinite(y).all()
    state = (jnp.zeros_like(y), y, z, jnp.sum(y * z, axis=0), size, jnp.int32(0), bad, no, no)
    x, _, _, _, left, iterations, _, indefinite, singular = jax.lax.while_loop(going, step, state)
    return Iterates(x, iterations, indefinite, singular, left <= target)


def solution_of(
    apply: Operator, y: Float[Array, "n o"], solve: Callable[[Array], Iterates]
) -> tuple[Float[Array, "n o"], Iterates]:
    r"""The solution x of A x = y that `solve` finds, with the derivatives of the equation: dx = A⁻¹ (dy − dA x).

    Forward, reverse and of any order, each by another `solve`, one product with A or its derivative, and no memory of
    the iteration: x = x₀ + A⁻¹ r, r = y − A x₀ with its value set to 0 and its derivatives kept. A derivative is
    NaN in the columns where its own solution does not converge.

    Args:
        apply: V → A V, symmetric in exact arithmetic; differentiable in what it closes over.
        solve: Y → `Iterates`, not differentiated; it returns at once for Y = 0.

    Cost: a product with A more than `solve`.

    >>> def halve(y):
    ...     no = jnp.zeros((), bool)
    ...     return Iterates(y / 2, jnp.int32(1), no, no, jnp.ones(y.shape[1], bool))
    >>> float(jax.grad(lambda s: solution_of(lambda v: s * v, jnp.ones((1, 1)), halve)[0].sum())(2.0))
    -0.25
    """

    def attempt(_: Operator, right: Array) -> Array:
        again = jax.tree.map(jax.lax.stop_gradient, solve(right))
        return jnp.where(again.converged[None], again.solution, jnp.nan)

    found = jax.tree.map(jax.lax.stop_gradient, solve(jax.lax.stop_gradient(y)))
    left = y - apply(found.solution)
    change = jax.lax.custom_linear_solve(apply, left - jax.lax.stop_gradient(left), attempt, symmetric=True)
    return found.solution + change, found


def _cholesky(matrix: Array) -> Array:
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
