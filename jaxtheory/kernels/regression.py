"""Kernel ridge regression: one `fit` over exact, iterative and Nyström solvers, and `predict`."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from jaxtheory import placement
from jaxtheory.checks import known, require
from jaxtheory.kernels.functions import Kernel, as_kernel, asymmetric, require_problem
from jaxtheory.kernels.gram import diagonal, matvec
from jaxtheory.kernels.preconditioners import low_rank_inverse, nystrom, rpcholesky
from jaxtheory.kernels.solvers import Iterates, cholesky_solve, conjugate_gradients, eigenpro, jittered_cholesky
from jaxtheory.results import Status, relative_residual, status_where

_DENSE = 10_000  # points up to which "auto" holds the Gram matrix


class KernelRegressor(NamedTuple):
    """f(x) = kernel(x, centres) α, and how its α was found.

    `residual` is ‖(K + ridge I) α − y‖ / ‖y‖, recomputed from the kernel, all of it; with centres, the same ratio for
    the normal equations. `jitter` is what Cholesky had to add to the diagonal. α is NaN where `status` is INVALID_INPUT
    or NOT_FINITE.
    """

    kernel: Any
    centres: Shaped[Array, "n ..."]
    alpha: Float[Array, "n ..."]
    status: Int[Array, ""]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    jitter: Float[Array, ""]


def fit(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."] | None,
    y: Float[Array, "n ..."],
    ridge: Any,
    *,
    solver: Literal["auto", "cholesky", "cg", "eigenpro"] = "auto",
    centres: Shaped[Array, "m ..."] | None = None,
    preconditioner: Literal["rpcholesky", "nystrom", "none"] = "rpcholesky",
    rank: int | None = None,
    tolerance: float | None = None,
    max_iterations: int = 500,
    block: int = 2048,
    key: PRNGKeyArray | None = None,
    mesh: Mesh | None = None,
) -> KernelRegressor:
    r"""Kernel ridge regression, α = (K + ridge I)⁻¹ y with K = kernel(x, x) unnormalized.

    It minimises Σ (f(x_i) − y_i)² + ridge ‖f‖², in the kernel's space. With `centres` c, f is confined to their
    span: (K_cx K_xc + ridge K_cc) α = K_cx y, by Falkon's preconditioned conjugate gradients.

    Args:
        kernel: a kernel function, or the Gram matrix [n n] itself (then x is None, or indices into it).
        x, y: n points and their targets, [n] or [n outputs].
        ridge: what is added to K's diagonal, ≥ 0.
        solver: "cholesky" holds K; "cg" holds n · rank numbers; "eigenpro" holds n · rank; "auto" is Cholesky up to
            10,000 points and conjugate gradients beyond.
        centres: m points; the solver is then Falkon's.
        preconditioner, rank: of conjugate gradients; rank defaults to min(n, 6 √n), for EigenPro min(n / 2, 160).
        tolerance: a residual above it is not OK; √ε of the dtype by default.
        max_iterations: of conjugate gradients, or epochs of EigenPro.
        block: rows and columns of the blocks in which K is evaluated.
        key: randomness of preconditioner and batches; `jax.random.key(0)` by default.
        mesh: share conjugate gradients out over all its devices, be they of several processes that make the same call:
            vectors, preconditioner and α are split over them by rows, the points are whole on each.

    Returns:
        `KernelRegressor`, with status OK (residual ≤ tolerance), NOT_FINITE (NaN or infinity came in), INVALID_INPUT
        (an asymmetric or indefinite Gram, a negative ridge inside jit), ILL_CONDITIONED (Cholesky left a residual above
        the tolerance: duplicates with different targets and no ridge) or NOT_CONVERGED.

    Raises:
        ValueError: mismatched shapes, ridge < 0, an unknown solver, no points; on a mesh another solver than conjugate
            gradients, or n not a multiple of the devices.

    Cost: Cholesky n³/3 flops, 3 n² memory. CG: n²/2 kernel evaluations an iteration, 2 n rank + block² memory; on p
    devices each does and holds a p-th, and an iteration gathers and scatters n · outputs numbers and sums
    (rank + 3) · outputs.
    Source: Schölkopf and Smola (2002), section 4.1; Díaz, Epperly, Frangella, Tropp, Webber (2023) for CG with
    RPCholesky; Ma and Belkin (2019) for EigenPro; Rudi, Carratino, Rosasco (2017) for Falkon.

    >>> from jaxtheory.kernels.functions import laplace
    >>> x = jnp.linspace(0.0, 1.0, 5)[:, None]
    >>> model = fit(laplace(), x, x[:, 0] ** 2, 1e-3)
    >>> f"{predict(model, x)[2]:.2f} {Status(int(model.status)).name}"
    '0.25 OK'
    """
    wrapped, x = as_kernel(kernel, x)
    _check(wrapped, x, y, ridge, solver, preconditioner)
    columns = y.reshape(y.shape[0], -1)
    limit = float(jnp.finfo(y.dtype).eps) ** 0.5 if tolerance is None else tolerance
    ridge, key = jnp.asarray(ridge, y.dtype), jax.random.key(0) if key is None else key
    if solver == "auto":
        solver = "cholesky" if x.shape[0] <= _DENSE and mesh is None else "cg"
    if mesh is not None:
        mesh = _check_mesh(mesh, x, solver, centres)
        x, columns = placement.whole(x, mesh), placement.split(columns, mesh)
    if centres is not None:
        model = _falkon(wrapped, x, columns, ridge, centres, limit, max_iterations, block)
    elif solver == "cholesky":
        model = _exact(wrapped, x, columns, ridge, limit)
    elif solver == "cg":
        factor = _preconditioner(preconditioner, wrapped, x, rank, key, block, mesh)
        model = _iterative(wrapped, x, columns, ridge, factor, limit, max_iterations, block, mesh)
    else:
        model = _stochastic(wrapped, x, columns, ridge, key, rank, limit, max_iterations, block)
    return model._replace(alpha=model.alpha.reshape(-1, *y.shape[1:]))


def predict(
    model: KernelRegressor, x: Shaped[Array, "n ..."], *, block: int | None = None, mesh: Mesh | None = None
) -> Float[Array, "n ..."]:
    """f(x) = kernel(x, centres) α; in blocks of `block` rows and columns where it is given.

    On a `mesh`, all of whose devices must divide points and centres, the work and f are split by rows, as in `matvec`.

    Cost: n · centres kernel evaluations; memory n · centres, or block².

    >>> from jaxtheory.kernels.functions import laplace
    >>> predict(fit(laplace(), jnp.zeros((1, 1)), jnp.ones(1), 1.0), jnp.zeros((3, 1))).shape
    (3,)
    """
    size = max(x.shape[0], model.centres.shape[0]) if block is None else block
    return matvec(model.kernel, x, model.alpha, size, x2=model.centres, mesh=mesh)


def _check(kernel: Any, x: Array, y: Array, ridge: Any, solver: str, preconditioner: str) -> None:
    require_problem(kernel, x, y)
    require(solver in _SOLVERS, "solver", solver, f"be one of {_SOLVERS}", "use 'auto'")
    require(preconditioner in _FACTORS, "preconditioner", preconditioner, f"be one of {_FACTORS}", "use 'rpcholesky'")
    require(np.ndim(ridge) == 0, "ridge", ridge, "be one number", "use ridge_path for several")
    if known(ridge):
        require(not float(ridge) < 0, "ridge", ridge, "be >= 0 to define a regression", "use ridge=0.0 to interpolate")


def _check_mesh(mesh: Mesh, x: Array, solver: str, centres: Array | None) -> Mesh:
    kind = solver if centres is None else "Falkon's"
    require(kind == "cg", "solver", kind, "be conjugate gradients on a mesh", 'use solver="cg" without centres')
    mesh = placement.line(mesh, "rows")
    placement.require_rows(x.shape[0], "x", mesh)
    return mesh


@jax.jit
def _exact(kernel: Any, x: Array, y: Array, ridge: Array, limit: Any) -> KernelRegressor:
    gram = kernel(x, x).astype(y.dtype)
    factor = jittered_cholesky(gram + ridge * jnp.eye(y.shape[0], dtype=y.dtype))

    def left(alpha: Array) -> Array:
        return y - jnp.matmul(gram, alpha, precision="highest") - ridge * alpha

    def miss(alpha: Array) -> Array:
        return relative_residual(y - left(alpha), y)

    first = cholesky_solve(factor.lower, y)
    # one refinement where it is needed: it takes away the jitter's error too
    alpha = jax.lax.cond(miss(first) <= limit, lambda: first, lambda: first + cholesky_solve(factor.lower, left(first)))
    residual = miss(alpha)
    probe = jax.random.normal(jax.random.key(1), (y.shape[0], 1), y.dtype)
    rough = asymmetric(jnp.matmul(gram, probe, precision="highest"), jnp.matmul(gram.T, probe, precision="highest"))
    solved = Iterates(alpha, jnp.int32(1), ~jnp.isfinite(factor.lower).all())
    verdict = (kernel, x, y, ridge, solved, residual, rough, gram, limit)
    return _report(*verdict, Status.ILL_CONDITIONED)._replace(jitter=factor.jitter)


@partial(jax.jit, static_argnames=("max_iterations", "block", "mesh"))
def _iterative(
    kernel: Any,
    x: Array,
    y: Array,
    ridge: Array,
    factor: Array | None,
    limit: Any,
    max_iterations: int,
    block: int,
    mesh: Mesh | None,
) -> KernelRegressor:
    def apply(v: Array) -> Array:
        return matvec(kernel, x, v, block, mesh=mesh) + ridge * v

    inverse = _inverse(factor, diagonal(kernel, x), ridge)
    solved = conjugate_gradients(apply, y, inverse, tolerance=limit / 2, max_iterations=max_iterations)
    return _verify(kernel, x, y, ridge, solved, limit, block, mesh)


def _stochastic(
    kernel: Any, x: Array, y: Array, ridge: Array, key: Array, rank: int | None, limit: Any, epochs: int, block: int
) -> KernelRegressor:
    subsample = min(x.shape[0], 2000)
    modes = min(160 if rank is None else rank, subsample // 2)
    batch = max(1, min(block, x.shape[0] // 4))
    sizes = {"subsample": subsample, "modes": modes, "batch": batch, "epochs": epochs}
    solved = eigenpro(kernel, x, y, ridge, key, tolerance=limit / 2, **sizes)
    return _verify(kernel, x, y, ridge, solved, limit, block)


@partial(jax.jit, static_argnames=("block", "mesh"))
def _verify(
    kernel: Any,
    x: Array,
    y: Array,
    ridge: Array,
    solved: Iterates,
    limit: Any,
    block: int,
    mesh: Mesh | None = None,
) -> KernelRegressor:
    """The residual from all of K, and its symmetry seen by a random vector: neither vouched for by the solver."""
    # one pass over the whole of K serves both
    probe = jax.random.normal(jax.random.key(1), (y.shape[0], 1), y.dtype)
    both = matvec(kernel, x, jnp.concatenate([solved.solution, probe], axis=1), block, x2=x, mesh=mesh)
    residual = relative_residual(both[:, :-1] + ridge * solved.solution, y)
    rough = asymmetric(both[:, -1:], matvec(kernel, x, probe, block, mesh=mesh))
    return _report(kernel, x, y, ridge, solved, residual, rough, both, limit, Status.NOT_CONVERGED)


def _report(
    kernel: Any,
    x: Array,
    y: Array,
    ridge: Array,
    solved: Iterates,
    residual: Array,
    rough: Array,
    seen: Array,
    limit: Any,
    shortfall: Status,
) -> KernelRegressor:
    finite = jnp.isfinite(seen).all() & jnp.isfinite(y).all() & jnp.isfinite(ridge)
    status = status_where(
        (~finite, Status.NOT_FINITE),
        (rough | (ridge < 0) | solved.indefinite, Status.INVALID_INPUT),
        (~jnp.isfinite(solved.solution).all(), Status.NOT_FINITE),
        (~(residual <= limit), shortfall),
    )
    void = (status == Status.NOT_FINITE) | (status == Status.INVALID_INPUT)
    alpha = jnp.where(void, jnp.full_like(solved.solution, jnp.nan), solved.solution)
    return KernelRegressor(kernel, x, alpha, status, residual, solved.iterations, jnp.zeros_like(residual))


def _preconditioner(
    name: str, kernel: Any, x: Array, rank: int | None, key: Array, block: int, mesh: Mesh | None
) -> Float[Array, "n r"] | None:
    if name == "none":
        return None
    # its set-up, ~6 n r² flops, is then some seven products with K; 2 √n to 10 √n cost up to twice as much in all
    columns = min(x.shape[0], int(6 * x.shape[0] ** 0.5)) if rank is None else rank
    if name == "rpcholesky":
        return rpcholesky(kernel, x, columns, key, mesh=mesh)
    return nystrom(kernel, x, columns, key, block=block, mesh=mesh)


def _inverse(factor: Array | None, entries: Array, ridge: Array) -> Any:
    if factor is None:
        return lambda r: r
    # without a ridge the approximation's mean error stands in for it; its rounding is the least that means anything
    missed = jnp.maximum(entries.sum() - jnp.sum(factor**2), 0) / entries.shape[0]
    floor = 10 * jnp.finfo(factor.dtype).eps * jnp.abs(entries).max()
    shift = jnp.maximum(jnp.where(ridge > 0, ridge, missed), floor)
    basis = low_rank_inverse(factor, shift)
    return lambda r: r - jnp.matmul(basis, jnp.matmul(basis.T, r, precision="highest"), precision="highest")


@partial(jax.jit, static_argnames=("max_iterations", "block"))
def _falkon(
    kernel: Any, x: Array, y: Array, ridge: Array, centres: Array, limit: Any, max_iterations: int, block: int
) -> KernelRegressor:
    corner, n, m = kernel(centres, centres), x.shape[0], centres.shape[0]
    # B = T⁻ᵀ A⁻ᵀ with T Tᵀ = K_cc, A Aᵀ = (n/m) Tᵀ T + ridge I whitens the normal equations
    t = jittered_cholesky(corner)
    inner = jnp.matmul(t.lower.T, t.lower, precision="highest") * (n / m)
    a = jittered_cholesky(inner + ridge * jnp.eye(m, dtype=y.dtype))

    def solve(lower: Array, v: Array, transpose: int) -> Array:
        return jax.scipy.linalg.solve_triangular(lower, v, lower=True, trans=transpose)

    def normal(alpha: Array) -> Array:
        ahead = matvec(kernel, x, alpha, block, x2=centres)
        return matvec(kernel, centres, ahead, block, x2=x) + ridge * jnp.matmul(corner, alpha, precision="highest")

    def whiten(v: Array) -> Array:
        return solve(a.lower, solve(t.lower, v, 0), 0)

    def colour(v: Array) -> Array:
        return solve(t.lower, solve(a.lower, v, 1), 1)

    target = matvec(kernel, centres, y, block, x2=x)
    found = conjugate_gradients(
        lambda v: whiten(normal(colour(v))),
        whiten(target),
        lambda r: r,
        tolerance=limit / 4,
        max_iterations=max_iterations,
    )
    bad = found.indefinite | ~(jnp.isfinite(t.lower).all() & jnp.isfinite(a.lower).all())
    solved = Iterates(colour(found.solution), found.iterations, bad)
    residual = relative_residual(normal(solved.solution), target)
    seen = jnp.concatenate([corner.ravel(), target.ravel()])
    verdict = (kernel, centres, y, ridge, solved, residual, asymmetric(corner, corner.T), seen, limit)
    return _report(*verdict, Status.NOT_CONVERGED)._replace(jitter=jnp.maximum(t.jitter, a.jitter))


_SOLVERS = ("auto", "cholesky", "cg", "eigenpro")
_FACTORS = ("rpcholesky", "nystrom", "none")
