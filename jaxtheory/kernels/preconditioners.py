"""Low-rank approximations K ≈ F Fᵀ and the preconditioners (F Fᵀ + shift I)⁻¹ they make."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from jaxtheory import placement
from jaxtheory.checks import require
from jaxtheory.kernels.functions import Kernel, as_kernel
from jaxtheory.kernels.gram import diagonal, matvec


def rpcholesky(
    kernel: Kernel,
    x: Shaped[Array, "n ..."],
    rank: int,
    key: PRNGKeyArray,
    *,
    pivots: int = 32,
    mesh: Mesh | None = None,
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
        mesh: F and the work are split by rows over its devices, a divisor of n; the draws do not depend on it.

    Raises:
        ValueError: a rank outside 1..n, or rows that do not divide over the mesh.

    Cost: n rank kernel evaluations, 2 n rank² flops, n rank memory, each divided by the devices. A mesh sums the
    pivots' rows of F, rank · pivots numbers, and gathers n numbers to draw from, rank / pivots times.
    Source: Chen, Epperly, Tropp, Webber (2022), Algorithm 2.1 and Theorem 3.1; blocks: section 3.5.

    >>> from jaxtheory.kernels.functions import gaussian
    >>> x = jnp.linspace(0.0, 1.0, 20)[:, None]
    >>> factor = rpcholesky(gaussian(), x, 4, jax.random.key(0), pivots=1)
    >>> bool(jnp.abs(factor @ factor.T - gaussian()(x, x)).max() < 1e-3)
    True
    """
    wrapped, x = as_kernel(kernel, x)
    _require_rank(rank, x.shape[0])
    if mesh is not None:
        mesh = placement.line(mesh, "rows")
        placement.require_rows(x.shape[0], "x", mesh)
        x = placement.whole(x, mesh)
    return _rpcholesky(wrapped, x, rank, key, min(pivots, rank), mesh)


@partial(jax.jit, static_argnames=("rank", "pivots", "mesh"))
def _rpcholesky(kernel: Any, x: Array, rank: int, key: PRNGKeyArray, pivots: int, mesh: Mesh | None) -> Array:
    rows = partial(placement.split, mesh=mesh) if mesh is not None else lambda tree: tree
    entries, mine = rows(diagonal(kernel, x)), rows(x)
    floor = 8 * pivots * float(jnp.finfo(entries.dtype).eps) * entries.max()
    steps = -(-rank // pivots)

    def step(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        factor, left = state
        gumbel = jax.random.gumbel(jax.random.fold_in(key, i), left.shape, left.dtype)
        # the largest of log d + Gumbel are draws without replacement, proportional to d
        chosen = jax.lax.top_k(jnp.log(jnp.maximum(left, 0)) + gumbel, pivots)[1]
        columns = kernel(mine, x[chosen]) - _dot(factor, factor[chosen].T)
        # the shift keeps F Fᵀ below K and the factorization alive where the residual is rounding
        corner = columns[chosen] + floor * jnp.eye(pivots, dtype=columns.dtype)
        lower = jnp.linalg.cholesky(corner)
        # a product with the small inverse, whose condition the shift bounds, divides over devices as no solve does
        new = _dot(columns, _inverse_root(lower))
        new = jnp.where(jnp.isfinite(new).all(), new, jnp.zeros_like(new))
        factor = jax.lax.dynamic_update_slice(factor, new, (0, i * pivots))
        return rows((factor, left - jnp.sum(new**2, axis=1))), None

    start = rows(jnp.zeros((x.shape[0], steps * pivots), entries.dtype))
    return rows(jax.lax.scan(step, (start, entries), jnp.arange(steps))[0][0][:, :rank])


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")


def _inverse_root(lower: Array) -> Array:
    """L⁻ᵀ."""
    return jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(lower), dtype=lower.dtype), lower=True).T


def nystrom(
    kernel: Kernel,
    x: Shaped[Array, "n ..."],
    rank: int,
    key: PRNGKeyArray,
    *,
    block: int = 2048,
    mesh: Mesh | None = None,
) -> Float[Array, "n r"]:
    r"""Randomized Nyström factor: with Y = K Ω, Ω Gaussian and orthonormal [n rank], F Fᵀ = Y (Ωᵀ Y)⁻¹ Yᵀ.

    Args:
        kernel, x: K = kernel(x, x), positive semidefinite.
        rank: columns of F, 1 ≤ rank ≤ n.
        key: randomness of Ω.
        block: block of the products with K.
        mesh: F and the products with K are split by rows over its devices, a divisor of n; Ω is made on each.

    Cost: one pass over K (n²/2 kernel evaluations, 2 n² rank flops), n rank memory.
    Source: Frangella, Tropp, Udell (2023), Algorithm 2.1.

    >>> from jaxtheory.kernels.functions import gaussian
    >>> nystrom(gaussian(), jnp.linspace(0.0, 1.0, 20)[:, None], 4, jax.random.key(0)).shape
    (20, 4)
    """
    wrapped, x = as_kernel(kernel, x)
    _require_rank(rank, x.shape[0])
    dtype = jax.eval_shape(wrapped, x[:1], x[:1]).dtype
    sketch = jnp.linalg.qr(jax.random.normal(key, (x.shape[0], rank), dtype))[0]
    return _nystrom_factor(matvec(wrapped, x, sketch, block, mesh=mesh), sketch)


@jax.jit
def _nystrom_factor(products: Array, sketch: Array) -> Array:
    shift = jnp.sqrt(float(products.shape[0])) * float(jnp.finfo(products.dtype).eps) * jnp.linalg.norm(products)
    shifted = products + shift * sketch
    corner = _dot(sketch.T, shifted)
    lower = jnp.linalg.cholesky((corner + corner.T) / 2)
    factor = _dot(shifted, _inverse_root(lower))
    return jnp.where(jnp.isfinite(factor).all(), factor, jnp.zeros_like(factor))


@jax.jit
def low_rank_inverse(factor: Float[Array, "n r"], shift: Float[Array, ""]) -> Float[Array, "n r"]:
    r"""Q [n r] with (F Fᵀ + s I)⁻¹ v = (v − Q Qᵀ v) / s, from the QR factorization of [F; √s I].

    R of that QR has RᵀR = FᵀF + s I, so that Q = F R⁻¹: Woodbury's identity without squaring a condition number. Three
    passes of Cholesky QR, the first of a shifted Gram matrix, have Householder's accuracy up to condition numbers of
    1/ε; they are products alone, which divide over devices where F is split by rows and then sum r² numbers a pass.

    Cost: 12 n r² flops, 3 n r memory.
    Source: Fukaya, Kannan, Nakatsukasa, Yamamoto, Yanagisawa (2020), shifted Cholesky QR.

    >>> basis = low_rank_inverse(jnp.ones((2, 1)), jnp.float32(1.0))
    >>> f"{(jnp.ones(2) - basis @ (basis.T @ jnp.ones(2)))[0]:.4f}"
    '0.3333'
    """
    rank, eps = factor.shape[1], float(jnp.finfo(factor.dtype).eps)
    identity = jnp.eye(rank, dtype=factor.dtype)
    above, below = factor, jnp.sqrt(shift) * identity
    for relative in (10 * eps, 0.0, 0.0):
        gram = _dot(above.T, above) + _dot(below.T, below)
        inverse = _inverse_root(jnp.linalg.cholesky(gram + relative * jnp.trace(gram) * identity))
        above, below = _dot(above, inverse), _dot(below, inverse)
    return above


def _require_rank(rank: int, points: int) -> None:
    require(1 <= rank <= points, "rank", rank, f"lie in 1..{points}, the number of points", "use a smaller rank")
