"""Low-rank approximations K ≈ F Fᵀ and the preconditioners (F Fᵀ + shift I)⁻¹ they make."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key, Shaped

from jaxtheory import guarded, placement
from jaxtheory.checks import boundary, positive, require
from jaxtheory.guarded import dot
from jaxtheory.kernels.functions import Kernel
from jaxtheory.kernels.gram import diagonal, matvec
from jaxtheory.kernels.problems import as_kernel


@boundary(static=("rank", "pivots"))
def rpcholesky(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."],
    rank: int,
    key: Key[Array, ""],
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

    Returns:
        F; NaN where a number of K that it sees is not finite, or a diagonal entry of K or of a residual is negative
        beyond √ε of the largest, so that K is not positive semidefinite. Its derivatives hold
        the pivots fixed; reverse mode keeps rank / pivots copies of F.

    Raises:
        ValueError: a rank outside 1..n, pivots < 1, or rows that do not divide over the mesh.

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
    require_rank(rank, x.shape[0])
    require(pivots >= 1, "pivots", pivots, "be at least 1", "use pivots=32")
    if mesh is not None:
        mesh = placement.line(mesh, "rows")
        placement.require_rows(x.shape[0], "x", mesh)
        x = placement.whole(x, mesh)
    return pivoted(wrapped, x, rank, key, min(pivots, rank), mesh)


@partial(jax.jit, static_argnames=("rank", "pivots", "mesh"))
def pivoted(kernel: Kernel, x: Array, rank: int, key: Key[Array, ""], pivots: int, mesh: Mesh | None) -> Array:
    """`rpcholesky` of a kernel in its pytree form, after its checks."""
    rows = partial(placement.split, mesh=mesh) if mesh is not None else lambda tree: tree
    entries, mine = rows(diagonal(kernel, x)), rows(x)
    entries = jnp.where((entries >= 0).all(), entries, jnp.full_like(entries, jnp.nan))
    floor = 8 * pivots * float(jnp.finfo(entries.dtype).eps) * entries.max()
    small = float(jnp.finfo(entries.dtype).eps) ** 0.5 * entries.max()
    steps = -(-rank // pivots)

    def step(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        factor, left = state
        gumbel = jax.random.gumbel(jax.random.fold_in(key, i), left.shape, left.dtype)
        # the largest of log d + Gumbel are draws without replacement, proportional to d
        chosen = jax.lax.top_k(jnp.log(jnp.maximum(left, 0)) + gumbel, pivots)[1]
        columns = kernel(mine, x[chosen]) - dot(factor, factor[chosen].T)
        # the shift keeps F Fᵀ below K and the factorization alive where the residual is rounding
        corner = columns[chosen] + floor * jnp.eye(pivots, dtype=columns.dtype)
        lower = jnp.linalg.cholesky(corner)
        # a product with the small inverse, whose condition the shift bounds, divides over devices as no solve does
        new = dot(columns, _inverse_root(lower))
        # a factorization that fails on finite numbers has met a residual of 0, or K is not positive semidefinite
        seen = jnp.isfinite(columns).all() & jnp.isfinite(left).all() & (left.max() <= small)
        new = jnp.where(jnp.isfinite(new).all() | ~seen, new, jnp.zeros_like(new))
        factor = jax.lax.dynamic_update_slice(factor, new, (0, i * pivots))
        left = left - jnp.sum(new**2, axis=1)
        return rows((factor, jnp.where((left >= -small).all(), left, jnp.full_like(left, jnp.nan)))), None

    start = rows(jnp.zeros((x.shape[0], steps * pivots), entries.dtype))
    factor, left = jax.lax.scan(step, (start, entries), jnp.arange(steps))[0]
    return rows(jnp.where(jnp.isnan(left).any(), jnp.full_like(factor, jnp.nan), factor)[:, :rank])


def _inverse_root(lower: Array) -> Array:
    """L⁻ᵀ."""
    return jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(lower), dtype=lower.dtype), lower=True).T


@boundary(static=("rank", "block"))
def nystrom(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."],
    rank: int,
    key: Key[Array, ""],
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

    Returns:
        F, 0 for K = 0; NaN where K has a number that is not finite or is not positive semidefinite.

    Raises:
        ValueError: a rank outside 1..n, block < 1, or rows that do not divide over the mesh.

    Cost: one pass over K (n²/2 kernel evaluations, 2 n² rank flops), n rank memory.
    Source: Frangella, Tropp, Udell (2023), Algorithm 2.1.

    >>> from jaxtheory.kernels.functions import gaussian
    >>> nystrom(gaussian(), jnp.linspace(0.0, 1.0, 20)[:, None], 4, jax.random.key(0)).shape
    (20, 4)
    """
    wrapped, x = as_kernel(kernel, x)
    require_rank(rank, x.shape[0])
    return sketched(wrapped, x, rank, key, block, mesh)


@partial(jax.jit, static_argnames=("rank", "block", "mesh"))
def sketched(kernel: Kernel, x: Array, rank: int, key: Key[Array, ""], block: int, mesh: Mesh | None) -> Array:
    """`nystrom` of a kernel in its pytree form, after its checks."""
    dtype = jax.eval_shape(kernel, x[:1], x[:1]).dtype
    sketch = jnp.linalg.qr(jax.random.normal(key, (x.shape[0], rank), dtype))[0]
    products = matvec(kernel, x, sketch, block, mesh=mesh)
    shift = jnp.sqrt(float(products.shape[0])) * float(jnp.finfo(products.dtype).eps) * guarded.norm(products)
    shifted = products + shift * sketch
    corner = dot(sketch.T, shifted)
    lower = jnp.linalg.cholesky((corner + corner.T) / 2)
    factor = dot(shifted, _inverse_root(lower))
    return jnp.where(shift > 0, factor, jnp.where(shift == 0, jnp.zeros_like(factor), jnp.nan))


@boundary
def low_rank_inverse(factor: Float[Array, "n r"], shift: float | Float[Array, "..."]) -> Float[Array, "n r"]:
    r"""Q [n r] with (F Fᵀ + S)⁻¹ = S^(−1/2) (I − Q Qᵀ) S^(−1/2), from the QR factorization of [S^(−1/2) F; I].

    With G = S^(−1/2) F, R of that QR has RᵀR = GᵀG + I, so that Q = G R⁻¹: Woodbury's identity without squaring a
    condition number. Three passes of Cholesky QR, the first of a shifted Gram matrix, have Householder's accuracy up to
    condition numbers of 1/ε; they are products alone, which divide over devices where F is split by rows and then sum
    r² numbers a pass.

    Args:
        factor: F. shift: S > 0, one number s for s I, or the n entries of a diagonal.

    Raises:
        ValueError: a shift that is not positive and finite (NaN inside jit) or of another length.

    Cost: 12 n r² flops, 3 n r memory.
    Source: Fukaya, Kannan, Nakatsukasa, Yamamoto, Yanagisawa (2020), shifted Cholesky QR.

    >>> basis = low_rank_inverse(jnp.ones((2, 1)), 1.0)
    >>> f"{(jnp.ones(2) - basis @ (basis.T @ jnp.ones(2)))[0]:.4f}"
    '0.3333'
    """
    n, entries = factor.shape[0], jnp.asarray(shift, factor.dtype)
    require(entries.shape in ((), (n,)), "shift", f"shape {entries.shape}", f"be one number or {n} numbers", "pass S")
    entries = positive("shift", entries, "pass the ridge, or the error of the approximation")
    return whitened_basis(factor, entries if entries.ndim == 0 else entries[:, None])


@jax.jit
def whitened_basis(factor: Float[Array, "n r"], shift: Float[Array, "..."]) -> Float[Array, "n r"]:
    """`low_rank_inverse` after its checks; the shift broadcasts against F.

    >>> f"{whitened_basis(jnp.ones((1, 1)), jnp.float32(1.0))[0, 0]:.4f}"
    '0.7071'
    """
    rank, eps = factor.shape[1], float(jnp.finfo(factor.dtype).eps)
    identity = jnp.eye(rank, dtype=factor.dtype)
    above, below = factor / jnp.sqrt(shift), identity
    for relative in (10 * eps, 0.0, 0.0):
        gram = dot(above.T, above) + dot(below.T, below)
        inverse = _inverse_root(jnp.linalg.cholesky(gram + relative * jnp.trace(gram) * identity))
        above, below = dot(above, inverse), dot(below, inverse)
    return above


def require_rank(rank: int, points: int) -> None:
    """The rank of an approximation is one of 1..n."""
    require(1 <= rank <= points, "rank", rank, f"lie in 1..{points}, the number of points", "use a smaller rank")
