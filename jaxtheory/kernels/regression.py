"""Kernel ridge regression: one `fit` over exact, iterative and Nyström solvers, and `predict`."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.tree_util import Partial
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, Shaped

from jaxtheory import placement
from jaxtheory.checks import boundary, holds, positive, require
from jaxtheory.guarded import dot, power_of_two
from jaxtheory.kernels.eigenpro import eigenpro
from jaxtheory.kernels.falkon import falkon
from jaxtheory.kernels.functions import Kernel
from jaxtheory.kernels.gram import diagonal, matvec
from jaxtheory.kernels.preconditioners import pivoted, require_rank, sketched, whitened_basis
from jaxtheory.kernels.problems import as_kernel, as_points, as_problem, asymmetric, in_dtype
from jaxtheory.kernels.scales import as_columns, common_unit, lost, worst_residual
from jaxtheory.kernels.solvers import Iterates, conjugate_gradients, factored, solution_of
from jaxtheory.results import Status, status_where

_DENSE = 10_000  # points up to which "auto" holds the Gram matrix


class KernelRegressor(NamedTuple):
    """f(x) = kernel(x, centres) α, and how its α was found.

    `residual` is the largest ‖(K + ridge I) α − y‖ / ‖y‖ over outputs, recomputed from the kernel, all of it. With
    centres it is √((J − min J)/Σ w y²) of the objective J, the `excess` of `falkon`, infinite where it could not be
    computed. Both bound the error of f at the points x, relative to ‖y‖. `jitter` is what Cholesky had to add to the
    diagonal. α is NaN where `status` is INVALID_INPUT or NOT_FINITE.
    """

    kernel: Kernel
    centres: Shaped[Array, "n ..."]
    alpha: Float[Array, "n ..."]
    status: Int[Array, ""]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    jitter: Float[Array, ""]


@boundary(static=("rank", "max_iterations", "block"))
def fit(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."] | None,
    y: Float[Array, "n ..."],
    ridge: float | Float[Array, "..."],
    *,
    solver: Literal["auto", "cholesky", "cg", "eigenpro"] = "auto",
    centres: Shaped[Array, "m ..."] | None = None,
    preconditioner: Literal["rpcholesky", "nystrom", "none"] = "rpcholesky",
    rank: int | None = None,
    tolerance: float | None = None,
    max_iterations: int = 500,
    block: int = 2048,
    key: Key[Array, ""] | None = None,
    mesh: Mesh | None = None,
) -> KernelRegressor:
    r"""Kernel ridge regression, α = (K + ridge I)⁻¹ y with K = kernel(x, x) unnormalized.

    It minimises Σ (f(x_i) − y_i)² + ridge ‖f‖², in the kernel's space. With `centres` c, f is confined to their
    span: (K_cx K_xc + ridge K_cc) α = K_cx y, by Falkon's preconditioned conjugate gradients.

    Args:
        kernel: a kernel function, or the Gram matrix [n n] itself (then x is None, or indices into it).
        x, y: n points and their targets, [n] or [n outputs]; points [n] are [n, 1].
        ridge: what is added to K's diagonal, ≥ 0: one number, or [n], the noise of each point. With centres the points'
            errors are then weighted by its inverse, and it must be positive.
        solver: "cholesky" holds K; "cg" holds n · rank numbers; "eigenpro" holds n · rank; "auto" is Cholesky up to
            10,000 points and conjugate gradients beyond.
        centres: m points; the solver is then Falkon's.
        preconditioner, rank: of conjugate gradients; rank defaults to min(n, 6 √n), for EigenPro min(n / 2, 160).
        tolerance: a residual above it is not OK; √ε of the dtype by default.
        max_iterations: of conjugate gradients, or epochs of EigenPro.
        block: rows and columns of the blocks in which K is evaluated.
        key: randomness of preconditioner and batches; `jax.random.key(0)` by default.
        mesh: share conjugate gradients out over all its devices (of one process, or of several that make the same
            call): vectors, preconditioner and α are split over them by rows, the points are whole on each. With
            centres points are split too, and what has a row for each centre is whole.

    Returns:
        `KernelRegressor`, with status OK (residual ≤ tolerance), NOT_FINITE (NaN or infinity came in, or α cannot be
        represented), INVALID_INPUT (an asymmetric or indefinite Gram, a negative ridge inside jit), ILL_CONDITIONED
        (the residual is above the tolerance and K + ridge I singular within rounding: duplicates with different targets
        and no ridge) or NOT_CONVERGED. Scaling y by a power of two scales α by it, to the bit.

    Raises:
        ValueError: no kernel, mismatched shapes, ridge < 0, an unknown solver, no points; on a mesh another solver than
            conjugate gradients, or n not a multiple of the devices.

    Derivatives: of every order, forward and reverse, in the kernel's parameters, x, y and ridge, from the equation that
    α solves: each costs another solution by the same solver to the same tolerance, and is NaN where that fails.

    Cost: Cholesky n³/3 flops, 4 n² memory. CG: n²/2 kernel evaluations an iteration, 2 n rank + block² memory; on p
    devices each does and holds a p-th, and an iteration gathers and scatters n · outputs numbers and sums
    (rank + 3) · outputs; with centres as `falkon` says, sums of centres · outputs.
    Source: Schölkopf and Smola (2002), section 4.1; Díaz, Epperly, Frangella, Tropp, Webber (2023) for CG with
    RPCholesky; Ma and Belkin (2019) for EigenPro; Rudi, Carratino, Rosasco (2017) for Falkon.

    >>> from jaxtheory.kernels.functions import laplace
    >>> x = jnp.linspace(0.0, 1.0, 5)[:, None]
    >>> model = fit(laplace(), x, x[:, 0] ** 2, 1e-3)
    >>> f"{predict(model, x)[2]:.2f} {Status(int(model.status)).name}"
    '0.25 OK'
    """
    wrapped, x = as_kernel(kernel, x)
    x, y = as_problem(wrapped, x, y)
    limit = float(jnp.finfo(y.dtype).eps) ** 0.5 if tolerance is None else tolerance
    limit = positive("tolerance", limit, "use None for the root of the rounding error")
    ridge = _check(ridge, y, max_iterations, rank)
    key = jax.random.key(0) if key is None else key
    if solver == "auto":
        solver = "cholesky" if x.shape[0] <= _DENSE and mesh is None else "cg"
    columns = as_columns(y)
    if mesh is not None:
        mesh = _check_mesh(mesh, x, solver, centres)
        x = placement.whole(x, mesh) if centres is None else placement.split(x, mesh)
        columns, ridge = placement.split(columns, mesh), _placed(ridge, mesh)
    problem = (wrapped, x, columns, ridge)
    if centres is not None:
        centres = _as_centres(wrapped, centres, x, y.dtype, mesh)
        options = {"max_iterations": max_iterations, "block": block, "mesh": mesh}
        model = _on_centres(*problem, centres, limit, **options)
    elif solver == "cholesky":
        model = _exact(*problem, limit)
    else:
        settings = _Settings(solver, preconditioner, rank, max_iterations, block)
        model = _iterative(*problem, key, limit, settings=settings, mesh=mesh)
    return model._replace(alpha=model.alpha.reshape(-1, *y.shape[1:]))


def _as_centres(kernel: Kernel, centres: Array, x: Array, dtype: DTypeLike, mesh: Mesh | None) -> Array:
    """Centres like the points, whole on every device."""
    centres = in_dtype(as_points(kernel, centres, "centres"), dtype)
    alike = centres.shape[1:] == x.shape[1:] and centres.shape[0] >= 1
    require(alike, "centres", centres.shape, f"hold points like those of x, {x.shape}", "use the same columns")
    return centres if mesh is None else placement.whole(centres, mesh)


@boundary(static=("block",))
def predict(
    model: KernelRegressor, x: Shaped[Array, "n ..."], *, block: int | None = None, mesh: Mesh | None = None
) -> Float[Array, "n ..."]:
    """f(x) = kernel(x, centres) α; in blocks of `block` rows and columns where it is given.

    On a `mesh`, all of whose devices must divide points and centres, the work and f are split by rows, as in `matvec`.

    Raises:
        ValueError: no model, or points of another dimension than those it was fitted on.

    Cost: n · centres kernel evaluations; memory n · centres, or block².

    >>> from jaxtheory.kernels.functions import laplace
    >>> predict(fit(laplace(), jnp.zeros((1, 1)), jnp.ones(1), 1.0), jnp.zeros((3, 1))).shape
    (3,)
    """
    x = as_points(model.kernel, x)
    alike = x.shape[1:] == model.centres.shape[1:] or x.ndim == model.centres.ndim + 1 == 2
    require(alike, "x", x.shape, f"hold points like those of the fit, {model.centres.shape}", "use the same columns")
    if block is None and mesh is None:
        return _predict(model, x)
    size = max(x.shape[0], model.centres.shape[0]) if block is None else block
    return matvec(model.kernel, x, model.alpha, size, x2=model.centres, mesh=mesh)


@jax.jit
def _predict(model: KernelRegressor, x: Array) -> Array:
    return jnp.tensordot(model.kernel(x, model.centres), model.alpha, 1, precision="highest")


class _Settings(NamedTuple):
    """Of an iterative solver, static."""

    solver: str
    preconditioner: str
    rank: int | None
    max_iterations: int
    block: int


def _check(ridge: Any, y: Array, max_iterations: int, rank: int | None) -> Array:
    """The ridge as a number, or as a column."""
    n, shape = y.shape[0], jnp.shape(ridge)
    hint = f"pass one, or one for each of the {n} points"
    require(shape in ((), (n,)), "ridge", f"shape {shape}", f"be one number or {n} numbers", hint)
    nonnegative = holds(lambda r: ~(r < 0), ridge)
    require(nonnegative, "ridge", ridge, "be >= 0 to define a regression", "use ridge=0.0 for the min-norm solution")
    require(max_iterations >= 1, "max_iterations", max_iterations, "be at least 1", "use 500")
    if rank is not None:
        require_rank(rank, n)
    return jnp.asarray(ridge, y.dtype).reshape(shape if shape == () else (n, 1))


def _check_mesh(mesh: Mesh, x: Array, solver: str, centres: Array | None) -> Mesh:
    mesh = placement.line(mesh, "rows")
    iterative = solver == "cg" or centres is not None
    require(iterative, "solver", solver, "be conjugate gradients on a mesh", 'use solver="cg"')
    placement.require_rows(x.shape[0], "x", mesh)
    return mesh


def _placed(ridge: Array, mesh: Mesh) -> Array:
    return placement.split(ridge, mesh) if ridge.ndim else placement.whole(ridge, mesh)


class _Seen(NamedTuple):
    """What the verdict on a solution is made of, in the units of the problem."""

    solution: Array
    iterations: Array
    residual: Array
    invalid: Array
    singular: Array
    finite: Array


@jax.jit
def _exact(kernel: Kernel, x: Array, y: Array, ridge: Array, limit: float | Array) -> KernelRegressor:
    gram, units = kernel(x, x).astype(y.dtype), power_of_two(y, axis=0, keepdims=True)
    unit = common_unit(jnp.diagonal(gram), ridge)
    matrix = gram / unit + ridge / unit * jnp.eye(y.shape[0], dtype=y.dtype)
    solve, jitter = factored(jax.lax.stop_gradient(matrix), limit)
    alpha, found = solution_of(partial(dot, matrix), y / units, solve)
    probe = jax.random.normal(jax.random.key(1), (y.shape[0], 1), y.dtype)
    rough = asymmetric(dot(matrix, probe), dot(matrix.T, probe))
    residual = worst_residual(dot(matrix, alpha), y / units)
    finite = jnp.isfinite(gram).all()
    seen = _Seen(alpha, found.iterations, residual, rough | found.indefinite, jnp.ones((), bool), finite)
    return _report(kernel, x, y, ridge, seen, units, unit=unit, limit=limit)._replace(jitter=jitter * unit)


@partial(jax.jit, static_argnames=("settings", "mesh"))
def _iterative(
    kernel: Kernel,
    x: Array,
    y: Array,
    ridge: Array,
    key: Array,
    limit: float | Array,
    *,
    settings: _Settings,
    mesh: Mesh | None,
) -> KernelRegressor:
    units, unit, scaled, fixed, points = _in_units(kernel, x, y, ridge)
    right, shift, block = y / units, ridge / unit, settings.block

    def apply(v: Array, kernel: Kernel = scaled, x: Array = x) -> Array:
        return matvec(kernel, x, v, block, mesh=mesh) + shift * v

    if settings.solver == "cg":
        solve = _conjugate(
            partial(apply, kernel=fixed, x=points), fixed, points, shift, key, limit, settings=settings, mesh=mesh
        )
    else:
        solve = _stochastic(fixed, points, shift, key, limit, settings)
    alpha, found = solution_of(apply, right, solve)
    # one pass over the whole of K for the residual and, by a random vector, for its symmetry
    probe = jax.random.normal(jax.random.key(1), (y.shape[0], 1), y.dtype)
    both = jnp.concatenate([jax.lax.stop_gradient(alpha), probe], axis=1)
    product = matvec(fixed, points, both, block, x2=points, mesh=mesh)
    residual = worst_residual(product[:, :-1] + shift * both[:, :-1], right)
    rough = asymmetric(product[:, -1:], matvec(fixed, points, probe, block, mesh=mesh))
    finite = jnp.isfinite(product[:, -1]).all()
    seen = _Seen(alpha, found.iterations, residual, rough | found.indefinite, found.singular, finite)
    return _report(kernel, x, y, ridge, seen, units, unit=unit, limit=limit)


@partial(jax.jit, static_argnames=("max_iterations", "block", "mesh"))
def _on_centres(
    kernel: Kernel,
    x: Array,
    y: Array,
    ridge: Array,
    centres: Array,
    limit: float | Array,
    *,
    max_iterations: int,
    block: int,
    mesh: Mesh | None,
) -> KernelRegressor:
    units, unit, scaled, _, _ = _in_units(kernel, centres, y, ridge)
    options = {"tolerance": limit / 4, "max_iterations": max_iterations, "block": block, "mesh": mesh}
    found = falkon(scaled, x, y / units, ridge / unit, centres, **options)
    finite = (found.status != Status.NOT_FINITE) & ~jnp.isnan(found.excess)
    invalid = found.status == Status.INVALID_INPUT
    seen = _Seen(found.alpha, found.iterations, found.excess, invalid, found.singular, finite)
    return _report(kernel, centres, y, ridge, seen, units, unit=unit, limit=limit)


def _in_units(kernel: Kernel, x: Array, y: Array, ridge: Array) -> tuple[Array, Array, Any, Any, Array]:
    """Units of the outputs and of the kernel, the kernel in its unit, and kernel and points without derivatives."""
    fixed, points = jax.tree.map(jax.lax.stop_gradient, (kernel, x))
    unit = common_unit(diagonal(fixed, points), ridge).astype(y.dtype)
    units = power_of_two(y, axis=0, keepdims=True)
    return units, unit, Partial(_divided, kernel, unit), Partial(_constant, Partial(_divided, fixed, unit)), points


def _divided(kernel: Kernel, unit: Array, x1: Array, x2: Array) -> Array:
    return kernel(x1, x2).astype(unit.dtype) / unit


def _constant(kernel: Kernel, x1: Array, x2: Array) -> Array:
    return jax.lax.stop_gradient(kernel(x1, x2))


def _conjugate(
    apply: Any,
    kernel: Kernel,
    x: Array,
    shift: Array,
    key: Array,
    limit: float | Array,
    *,
    settings: _Settings,
    mesh: Mesh | None,
) -> Any:
    n, entries, frozen = x.shape[0], diagonal(kernel, x), jax.lax.stop_gradient(shift)
    # its set-up, ~6 n r² flops, is then some seven products with K; 2 √n to 10 √n cost up to twice as much in all
    rank = min(n, int(6 * n**0.5)) if settings.rank is None else settings.rank
    inverse: Any = lambda r: r  # noqa: E731
    if settings.preconditioner == "rpcholesky":
        inverse = _inverse(pivoted(kernel, x, rank, key, min(32, rank), mesh), entries, frozen)
    elif settings.preconditioner == "nystrom":
        inverse = _inverse(sketched(kernel, x, rank, key, settings.block, mesh), entries, frozen)
    level = 10 * n * float(jnp.finfo(entries.dtype).eps) * (jnp.abs(entries).max() + frozen.max())
    solve = partial(
        conjugate_gradients, apply, inverse=inverse, tolerance=limit / 2, max_iterations=settings.max_iterations,
        level=level,
    )  # fmt: skip
    return lambda y: _per_unit(solve, y)


def _stochastic(kernel: Kernel, x: Array, shift: Array, key: Array, limit: float | Array, settings: _Settings) -> Any:
    n = x.shape[0]
    subsample = min(n, 2000)
    modes = min(160 if settings.rank is None else settings.rank, subsample // 2)
    batch = max(1, min(settings.block, n // 4))
    sizes = {"subsample": subsample, "modes": modes, "batch": batch, "epochs": settings.max_iterations}
    ridge = jnp.broadcast_to(jax.lax.stop_gradient(shift), (n, 1))
    run = partial(eigenpro, kernel, x, ridge=ridge, key=key, tolerance=limit / 2, **sizes)
    return lambda y: _per_unit(run, y)


def _per_unit(solve: Any, y: Array) -> Iterates:
    """Right-hand sides of any size, each solved in its own unit."""
    units = power_of_two(y, axis=0, keepdims=True)
    found = solve(y / units)
    return found._replace(solution=found.solution * units)


def _inverse(factor: Array, entries: Array, ridge: Array) -> Any:
    # without a ridge the approximation's mean error stands in for it; its rounding is the least that means anything
    missed = jnp.maximum(entries.sum() - jnp.sum(factor**2), 0) / entries.shape[0]
    floor = 10 * jnp.finfo(factor.dtype).eps * jnp.abs(entries).max()
    shift = jnp.maximum(jnp.where(ridge > 0, ridge, missed), floor)
    basis, root = whitened_basis(factor, shift), jnp.sqrt(shift)
    # K that is no covariance has no factor; the iteration tells
    basis = jnp.where(jnp.isfinite(basis).all(), basis, jnp.zeros_like(basis))

    def inverse(r: Array) -> Array:
        whitened = r / root
        return (whitened - dot(basis, dot(basis.T, whitened))) / root

    return inverse


def _report(
    kernel: Kernel, x: Array, y: Array, ridge: Array, seen: _Seen, units: Array, *, unit: Array, limit: float | Array
) -> KernelRegressor:
    finite = seen.finite & jnp.isfinite(y).all() & jnp.isfinite(ridge).all()
    alpha = seen.solution * (units / unit)
    missed = ~(seen.residual <= limit)
    status = status_where(
        (~finite, Status.NOT_FINITE),
        (seen.invalid | (ridge < 0).any(), Status.INVALID_INPUT),
        (~jnp.isfinite(alpha).all() | lost(seen.solution, alpha), Status.NOT_FINITE),
        (missed & seen.singular, Status.ILL_CONDITIONED),
        (missed, Status.NOT_CONVERGED),
    )
    void = (status == Status.NOT_FINITE) | (status == Status.INVALID_INPUT)
    alpha = jnp.where(void, jnp.full_like(alpha, jnp.nan), alpha)
    none = jnp.zeros_like(seen.residual)
    return KernelRegressor(kernel, x, alpha, status, seen.residual, seen.iterations, none)
