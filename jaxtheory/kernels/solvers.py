"""Solvers of (K + ridge I) α = y that say how they ended: jittered Cholesky, preconditioned CG, EigenPro."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Operator = Callable[[Array], Array]


class Factor(NamedTuple):
    """L Lᵀ = A + jitter I; `lower` is NaN where no jitter within √ε of A's mean diagonal sufficed."""

    lower: Float[Array, "n n"]
    jitter: Float[Array, ""]


class Iterates(NamedTuple):
    """Where an iterative solver stopped; `indefinite` tells of a direction with pᵀ A p ≤ 0."""

    solution: Float[Array, "n o"]
    iterations: Int[Array, ""]
    indefinite: Bool[Array, ""]


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


def conjugate_gradients(
    apply: Operator, y: Float[Array, "n o"], inverse: Operator, *, tolerance: Any, max_iterations: int
) -> Iterates:
    r"""Preconditioned conjugate gradients for every column of A X = y at once, one product with A a step.

    Columns have their own step sizes and stop moving when ‖r_j‖ ≤ tolerance ‖y_j‖. A direction with pᵀ A p ≤ 0 ends
    the iteration and is reported.

    Args:
        apply: V → A V, [n o] → [n o], symmetric positive definite.
        y: right-hand sides.
        inverse: the preconditioner, R → P⁻¹ R.
        tolerance, max_iterations: when to stop.

    Cost: a step is one `apply`, one `inverse` and 10 n o flops; memory 4 n o.
    Source: Golub and Van Loan (2013), Algorithm 11.5.2.

    >>> done = conjugate_gradients(lambda v: 2 * v, jnp.ones((2, 1)), lambda r: r, tolerance=1e-6, max_iterations=5)
    >>> f"{done.solution.ravel()} {done.iterations}"
    '[0.5 0.5] 1'
    """
    size = jnp.linalg.norm(y, axis=0)
    target = tolerance * size

    def going(state: Any) -> Array:
        _, _, _, _, left, i, bad = state
        return (left > target).any() & (i < max_iterations) & ~bad

    def step(state: Any) -> Any:
        x, r, p, rz, left, i, _ = state
        product = apply(p)
        curvature = jnp.sum(p * product, axis=0)
        active = left > target
        bad = (active & ~(curvature > 0)).any()
        stride = jnp.where(active & ~bad, rz / jnp.where(curvature > 0, curvature, 1), 0)[None]
        x, r = x + stride * p, r - stride * product
        z = inverse(r)
        new = jnp.sum(r * z, axis=0)
        p = z + jnp.where(rz > 0, new / jnp.where(rz > 0, rz, 1), 0)[None] * p
        return x, r, p, new, jnp.linalg.norm(r, axis=0), i + 1, bad

    z = inverse(y)
    state = (jnp.zeros_like(y), y, z, jnp.sum(y * z, axis=0), size, jnp.int32(0), ~jnp.isfinite(y).all())
    x, _, _, _, _, iterations, bad = jax.lax.while_loop(going, step, state)
    return Iterates(x, iterations, bad)


@partial(jax.jit, static_argnames=("subsample", "modes", "batch", "epochs"))
def eigenpro(
    kernel: Any,
    x: Array,
    y: Float[Array, "n o"],
    ridge: Float[Array, ""],
    key: Array,
    *,
    subsample: int,
    modes: int,
    batch: int,
    epochs: int,
    tolerance: Any,
) -> Iterates:
    r"""Stochastic gradient descent in the RKHS, its `modes` largest directions damped to the size of the next.

    Interpolates with the kernel K + ridge 1{i = j}, whose solution is (K + ridge I)⁻¹ y. A batch B has the step

        α_B ← α_B − (η/m) g,   α_S ← α_S + (η/m) V D Vᵀ K(S, B) g,   g = (K α + ridge α − y)_B,
        D = (1 − σ_{q+1}/σ_i)/σ_i,   η = m / (β + (m − 1) σ_{q+1}/s)

    with (σ, V) the eigenpairs of K(S, S) + ridge I on a random subsample S of s points, β = max K_ii + ridge. The
    stop looks at the mean of ‖g‖² over its batches, so that the caller must recompute the residual.

    Cost: an epoch is n² kernel evaluations; memory n · batch + s². Source: Ma and Belkin (2019), Algorithm 1.

    >>> from jaxtheory.kernels.functions import as_kernel, laplace
    >>> kernel, x = as_kernel(laplace(), jnp.arange(8.0)[:, None])
    >>> run = eigenpro(kernel, x, jnp.ones((8, 1)), jnp.float32(0.1), jax.random.key(0), subsample=8, modes=2, batch=4,
    ...     epochs=200, tolerance=1e-5)
    >>> bool(jnp.abs(kernel(x, x) @ run.solution + 0.1 * run.solution - 1).max() < 1e-3)
    True
    """
    n = x.shape[0]
    chosen = jax.random.permutation(key, n)[:subsample]
    damped = _damped(kernel, x[chosen], ridge, modes, batch)

    def visit(state: tuple[Array, Array], members: Array) -> tuple[tuple[Array, Array], None]:
        alpha, squares = state
        rows = kernel(x[members], x)
        gradient = jnp.matmul(rows, alpha, precision="highest") + ridge * alpha[members] - y[members]
        cross = rows[:, chosen] + ridge * (members[:, None] == chosen[None]).astype(y.dtype)
        seen = jnp.linalg.multi_dot([damped.vectors.T, cross.T, gradient], precision="highest")
        lifted = jnp.matmul(damped.vectors, damped.damping[:, None] * seen, precision="highest")
        alpha = alpha.at[members].add(-damped.rate * gradient).at[chosen].add(damped.rate * lifted)
        return (alpha, squares + jnp.sum(gradient**2)), None

    def going(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > tolerance**2 * jnp.sum(y**2)) & (state[2] < epochs)

    def epoch(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        alpha, _, i = state
        shuffled = jax.random.permutation(jax.random.fold_in(key, i), n)[: n // batch * batch].reshape(-1, batch)
        alpha, squares = jax.lax.scan(visit, (alpha, jnp.zeros_like(state[1])), shuffled)[0]
        return alpha, squares, i + 1

    start = (jnp.zeros_like(y), jnp.full((), jnp.inf, y.dtype), jnp.int32(0))
    alpha, _, epochs_done = jax.lax.while_loop(going, epoch, start)
    return Iterates(alpha, epochs_done, ~(damped.level > 0))


class _Damped(NamedTuple):
    """EigenPro's V, D, η/m and σ_{q+1}."""

    vectors: Float[Array, "s q"]
    damping: Float[Array, " q"]
    rate: Float[Array, ""]
    level: Float[Array, ""]


def _damped(kernel: Any, sample: Array, ridge: Array, modes: int, batch: int) -> _Damped:
    corner = kernel(sample, sample)
    corner = corner + ridge * jnp.eye(sample.shape[0], dtype=corner.dtype)
    values, vectors = jnp.linalg.eigh((corner + corner.T) / 2)
    level, top = values[-modes - 1], values[-modes:]
    rate = 1 / (jnp.diagonal(corner).max() + (batch - 1) * level / sample.shape[0])
    return _Damped(vectors[:, -modes:], (1 - level / top) / top, rate, level)


def _cholesky(matrix: Array) -> Array:
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
