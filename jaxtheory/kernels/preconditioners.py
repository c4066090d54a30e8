"""Low-rank approximations K ≈ F Fᵀ and the preconditioners (F Fᵀ + shift I)⁻¹ they make."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from jaxtheory.checks import require
from jaxtheory.kernels.functions import Kernel, as_kernel
from jaxtheory.kernels.gram import diagonal, matvec


def rpcholesky(
    kernel: Kernel, x: Shaped[Array, "n ..."], rank: int, key: PRNGKeyArray, *, pivots: int = 32
) -> Float[Array, "n r"]:
    r"""Randomly pivoted partial Cholesky: F [n rank] with F Fᵀ ≼ K, from `rank` columns of K.

    Pivots are drawn with probability proportional to the diagonal of the residual K − F Fᵀ, `pivots` at a time
    (pivots = 1 is the published algorithm, with E tr(K − F Fᵀ) ≤ (1 + ε) tr(K − K_q) for
    rank ≥ q/ε + q log(1/(ε η)), η = tr(K − K_q)/tr K; more at a time is faster and a little less adaptive).

    Args:
        kernel, x: K = kernel(x, x), positive semidefinite.
        rank: columns of F, 1 ≤ rank ≤ n; rounded up to a multiple of `pivots` inside.
        key: randomness of the pivots.
        pivots: columns drawn in one step.

    Cost: n rank kernel evaluations, 2 n rank² flops, n rank memory.
    Source: Chen, Epperly, Tropp, Webber (2022), Algorithm 2.1 and Theorem 3.1; blocks: section 3.5.

    >>> from jaxtheory.kernels.functions import gaussian
    >>> x = jnp.linspace(0.0, 1.0, 20)[:, None]
    >>> factor = rpcholesky(gaussian(), x, 4, jax.random.key(0), pivots=1)
    >>> bool(jnp.abs(factor @ factor.T - gaussian()(x, x)).max() < 1e-3)
    True
    """
    wrapped, x = as_kernel(kernel, x)
    _require_rank(rank, x.shape[0])
    return _rpcholesky(wrapped, x, rank, key, min(pivots, rank))


@partial(jax.jit, static_argnames=("rank", "pivots"))
def _rpcholesky(kernel: Any, x: Array, rank: int, key: PRNGKeyArray, pivots: int) -> Array:
    entries = diagonal(kernel, x)
    floor = 8 * pivots * float(jnp.finfo(entries.dtype).eps) * entries.max()
    steps = -(-rank // pivots)

    def step(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        factor, left = state
        gumbel = jax.random.gumbel(jax.random.fold_in(key, i), left.shape, left.dtype)
        # the largest of log d + Gumbel are draws without replacement, proportional to d
        chosen = jax.lax.top_k(jnp.log(jnp.maximum(left, 0)) + gumbel, pivots)[1]
        columns = kernel(x, x[chosen]) - jnp.matmul(factor, factor[chosen].T, precision="highest")
        # the shift keeps F Fᵀ below K and the factorization alive where the residual is rounding
        corner = columns[chosen] + floor * jnp.eye(pivots, dtype=columns.dtype)
        lower = jnp.linalg.cholesky(corner)
        new = jax.scipy.linalg.solve_triangular(lower, columns.T, lower=True).T
        new = jnp.where(jnp.isfinite(new).all(), new, jnp.zeros_like(new))
        return (jax.lax.dynamic_update_slice(factor, new, (0, i * pivots)), left - jnp.sum(new**2, axis=1)), None

    start = jnp.zeros((x.shape[0], steps * pivots), entries.dtype)
    return jax.lax.scan(step, (start, entries), jnp.arange(steps))[0][0][:, :rank]


def nystrom(
    kernel: Kernel, x: Shaped[Array, "n ..."], rank: int, key: PRNGKeyArray, *, block: int = 2048
) -> Float[Array, "n r"]:
    r"""Randomized Nyström factor: with Y = K Ω, Ω Gaussian and orthonormal [n rank], F Fᵀ = Y (Ωᵀ Y)⁻¹ Yᵀ.

    Args:
        kernel, x: K = kernel(x, x), positive semidefinite.
        rank: columns of F, 1 ≤ rank ≤ n.
        key: randomness of Ω.
        block: block of the products with K.

    Cost: one pass over K (n² kernel evaluations, 2 n² rank flops), n rank memory.
    Source: Frangella, Tropp, Udell (2023), Algorithm 2.1.

    >>> from jaxtheory.kernels.functions import gaussian
    >>> nystrom(gaussian(), jnp.linspace(0.0, 1.0, 20)[:, None], 4, jax.random.key(0)).shape
    (20, 4)
    """
    wrapped, x = as_kernel(kernel, x)
    _require_rank(rank, x.shape[0])
    dtype = jax.eval_shape(wrapped, x[:1], x[:1]).dtype
    sketch = jnp.linalg.qr(jax.random.normal(key, (x.shape[0], rank), dtype))[0]
    return _nystrom_factor(matvec(wrapped, x, sketch, block), sketch)


@jax.jit
def _nystrom_factor(products: Array, sketch: Array) -> Array:
    shift = jnp.sqrt(float(products.shape[0])) * float(jnp.finfo(products.dtype).eps) * jnp.linalg.norm(products)
    shifted = products + shift * sketch
    corner = jnp.matmul(sketch.T, shifted, precision="highest")
    lower = jnp.linalg.cholesky((corner + corner.T) / 2)
    factor = jax.scipy.linalg.solve_triangular(lower, shifted.T, lower=True).T
    return jnp.where(jnp.isfinite(factor).all(), factor, jnp.zeros_like(factor))


def low_rank_inverse(factor: Float[Array, "n r"], shift: Float[Array, ""]) -> Float[Array, "n r"]:
    r"""Q [n r] with (F Fᵀ + s I)⁻¹ v = (v − Q Qᵀ v) / s, from one QR factorization of [F; √s I].

    R of that QR has RᵀR = FᵀF + s I, so that Q = F R⁻¹: Woodbury's identity without squaring a condition number.
    Cost: 2 (n + r) r² flops, (n + r) r memory.

    >>> basis = low_rank_inverse(jnp.ones((2, 1)), jnp.float32(1.0))
    >>> f"{(jnp.ones(2) - basis @ (basis.T @ jnp.ones(2)))[0]:.4f}"
    '0.3333'
    """
    rank = factor.shape[1]
    stacked = jnp.concatenate([factor, jnp.sqrt(shift) * jnp.eye(rank, dtype=factor.dtype)])
    return jnp.linalg.qr(stacked)[0][: factor.shape[0]]


def _require_rank(rank: int, points: int) -> None:
    require(1 <= rank <= points, "rank", rank, f"lie in 1..{points}, the number of points", "use a smaller rank")
