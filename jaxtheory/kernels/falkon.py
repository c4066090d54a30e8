"""Regression on centres: preconditioned conjugate gradients of the normal equations in the kernel's eigenbasis."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxtheory.guarded import dot, over
from jaxtheory.kernels.functions import Kernel
from jaxtheory.kernels.gram import matvec
from jaxtheory.kernels.matrix_functions import Eigenpairs, eigenpairs
from jaxtheory.kernels.solvers import Iterates, conjugate_gradients, solution_of
from jaxtheory.results import Status

_ROUNDS = 4  # of corrections; what they leave is rounding
_PROBED = 8  # of the directions left out, the largest ones
_GAP = 1e3  # roundings: eigenvalues between which none are lost


class Fitted(NamedTuple):
    """α of `falkon`, how far its objective is above the least, and what K_cc and the iteration say."""

    alpha: Float[Array, "m o"]
    excess: Float[Array, ""]
    iterations: Int[Array, ""]
    status: Int[Array, ""]
    singular: Bool[Array, ""]


class _Basis(NamedTuple):
    """C = Q (Λ P)^(−1/2), P⁻¹, which directions are left out, the largest of these, and the largest entry of K_cc.

    `blind` is the share of y − f that directions below the rounding of K_cc may hold.
    """

    vectors: Float[Array, "m m"]
    scale: Float[Array, "m 1"]
    inverse: Float[Array, "m 1"]
    out: Float[Array, "m 1"]
    outside: Float[Array, "m p"]
    values: Float[Array, " p"]
    entry: Float[Array, ""]
    blind: Float[Array, ""]

    def colour(self, gamma: Array) -> Array:
        """C γ."""
        return dot(self.vectors, self.scale * gamma)

    def whiten(self, alpha: Array) -> Array:
        """Cᵀ α."""
        return self.scale * dot(self.vectors.T, alpha)

    def ridged(self, ridge: Array, gamma: Array) -> Array:
        """s P⁻¹ γ; what is left out acts as the identity, so that the equations stay definite."""
        return (ridge * self.inverse + self.out) * gamma


class _Products(NamedTuple):
    """α ↦ K_xc α, v ↦ K_cx v and α ↦ K_cx W K_xc α."""

    there: Callable[[Array], Array]
    back: Callable[[Array], Array]
    normal: Callable[[Array], Array]


class _Checked(NamedTuple):
    """What a second iteration corrects, how far J was above its least, and what the directions left out add to that."""

    correction: Iterates
    excess: Float[Array, ""]
    dropped: Float[Array, ""]


@partial(jax.jit, static_argnames=("max_iterations", "block", "mesh"))
def falkon(
    kernel: Kernel, x: Array, y: Float[Array, "n o"], ridge: Float[Array, "..."], centres: Array,
    *, tolerance: float | Array, max_iterations: int, block: int, mesh: Mesh | None = None,
) -> Fitted:  # fmt: skip
    r"""The least of J(α) = Σ w (K_xc α − y)² + s αᵀ K_cc α, with s = min ridge and w = s/ridge: 1 for one ridge.

    With K_cc = Q Λ Qᵀ, Q, Λ of the eigenvalues above rounding alone, and P = (Σw/m) Λ + s, α = C γ, C = Q (Λ P)^(−1/2),

        (Cᵀ K_cx W K_xc C + s P⁻¹) γ = Cᵀ K_cx W y

    is as well posed as the regression itself, however singular K_cc is, and its matrix is near 1. Its residual is the
    distance from the least in the norm of J, and so bounds the error of f: where ‖r‖² is the energy of what is missing,
    J(α) − min J ≈ ‖r‖² and Σ w (f − f*)² is no more. It is computed from y − f, iterations correct what it
    leaves, and `excess` is √((J − min J)/Σ w y²) before the last correction, its largest over outputs.

    To it is added an estimate of what the directions left out may change of f: the largest of them, where K_xc sees
    them above its rounding; and below it a share of y − f, where the spectrum of K_cc goes on to there and s is less
    than its rounding. A float32 kernel cannot tell functions of small norm from rounding: where they matter, the answer
    is not known.

    Derivatives are those within the span of C, which are all where centres move together or their span stays.

    Cost: ≈ 9 m³ flops for the eigenpairs, then 2 n m kernel evaluations and 4 n m o flops an iteration; 3 m² + block²
    memory. On a mesh of p devices, a line, each has n/p rows of x, y and ridge, and an iteration adds up m o numbers;
    what has m rows is on all of them.
    Source: Rudi, Carratino, Rosasco (2017), with eigenpairs in the place of Cholesky factors.

    >>> from jaxtheory.kernels.functions import laplace
    >>> x = jnp.arange(4.0)[:, None]
    >>> found = falkon(laplace(), x, x, jnp.ones((1, 1)), x[:2], tolerance=1e-4, max_iterations=9, block=4)
    >>> bool(found.excess < 1e-3), found.alpha.shape
    (True, (2, 1))
    """
    m, still = centres.shape[0], jax.lax.stop_gradient
    corner = kernel(centres, centres).astype(y.dtype)
    pairs = eigenpairs(still(corner))
    least = jnp.min(ridge)
    weights = jnp.broadcast_to(jnp.where(ridge == least, jnp.ones_like(ridge), over(least, ridge)), (x.shape[0], 1))
    basis = _basis(pairs, *still((corner, least, weights.sum() / m)), len(x))
    products = _products(kernel, x, weights, centres, block, mesh)
    fixed = _products(*still((kernel, x, weights, centres)), block, mesh)

    def apply(gamma: Array) -> Array:
        alpha = basis.colour(gamma)
        moved = least * dot(corner - still(corner), alpha)  # Cᵀ K_cc C is 1: its derivatives alone are missing
        return basis.whiten(products.normal(alpha) + moved) + basis.ridged(least, gamma)

    def plain(gamma: Array) -> Array:
        return basis.whiten(fixed.normal(basis.colour(gamma))) + basis.ridged(still(least), gamma)

    solve = partial(_conjugate, plain, max_iterations, m * float(jnp.finfo(y.dtype).eps))
    gamma, found = solution_of(apply, basis.whiten(products.back(weights * y)), partial(solve, tolerance))
    check = partial(_checked, fixed, basis, partial(solve, 0.1), still(_Rows(y, weights, least)))
    change, seen = still(_refined(check, still(gamma), 2 * tolerance))
    status = jnp.where(found.indefinite, jnp.int32(Status.INVALID_INPUT), pairs.status)
    singular = found.singular | (found.converged.all() & seen.correction.converged.all())
    iterations = found.iterations + seen.correction.iterations
    return Fitted(basis.colour(gamma + change), seen.excess + seen.dropped, iterations, status, singular)


def _basis(pairs: Eigenpairs, corner: Array, least: Array, mass: Array, n: int) -> _Basis:
    values, m = pairs.values, len(pairs.values)
    rounding = float(jnp.finfo(values.dtype).eps) * values[-1]
    kept = values > (m**0.5 + 3) * rounding
    inverse = jnp.where(kept, over(jnp.ones_like(values), mass * values + least), 0)
    scale = jnp.sqrt(jnp.where(kept, over(inverse, values), 0))
    lost = jnp.sum(~kept)
    place = lost - 1 - jnp.arange(min(m, _PROBED))
    outside = jnp.where((place >= 0)[None], pairs.vectors[:, jnp.maximum(place, 0)], 0)
    # a spectrum that ends far above rounding has ended; one that reaches it goes on below, but for repeated centres
    goes_on = jnp.min(jnp.where(kept, values, jnp.inf)) < _GAP * rounding
    unseen = jnp.where(goes_on, jnp.maximum(lost - _repeats(corner), 0), 0).astype(values.dtype)
    blind = over(2 * mass * rounding, 2 * mass * rounding + least) * jnp.sqrt(unseen / n)
    out = jnp.where(kept, 0, 1).astype(values.dtype)
    columns = (scale[:, None], inverse[:, None], out[:, None])
    norms = jnp.maximum(values[jnp.maximum(place, 0)], rounding)  # below it an eigenvalue is not known
    return _Basis(pairs.vectors, *columns, outside, norms, jnp.abs(corner).max(), blind)


def _repeats(corner: Array) -> Array:
    """How many centres are another one again: rows of K_cc with the same product with random numbers."""
    marks = jnp.sort(dot(corner, jax.random.normal(jax.random.key(0), (len(corner),), corner.dtype)))
    return jnp.sum(marks[1:] == marks[:-1])


def _refined(check: Callable[[Array], Any], gamma: Array, enough: float | Array) -> tuple[Array, Any]:
    """What corrections change of γ, the last of them included, and what was seen before that one."""

    def again(state: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        change, seen, rounds = state
        change = change + seen.correction.solution
        later = check(gamma + change)
        spent = seen.correction.iterations + later.correction.iterations
        return change, later._replace(correction=later.correction._replace(iterations=spent)), rounds + 1

    def going(state: tuple[Array, Any, Array]) -> Array:
        _, seen, rounds = state
        return (seen.excess > enough) & seen.correction.converged.all() & (rounds < _ROUNDS)

    start = (jnp.zeros_like(gamma), check(gamma), jnp.int32(1))
    change, seen, _ = jax.lax.while_loop(going, again, start)
    return change + seen.correction.solution, seen


class _Rows(NamedTuple):
    """Targets and weights of the points, and the least ridge."""

    y: Array
    weights: Array
    ridge: Array


def _checked(
    products: _Products, basis: _Basis, solve: Callable[[Array], Iterates], rows: _Rows, gamma: Array
) -> _Checked:
    """γ judged by y − f, in one pass over the kernel for f and for the directions that were left out."""
    y, weights, ridge = rows
    values = products.there(jnp.concatenate([basis.colour(gamma), basis.outside], axis=1))
    left, outside = y - values[:, : y.shape[1]], values[:, y.shape[1] :]
    missing = basis.whiten(products.back(weights * left)) - ridge * basis.inverse * gamma
    correction = solve(missing)
    energy = jnp.maximum(jnp.sum(missing * correction.solution, axis=0), jnp.sum(missing**2, axis=0))
    energy = jnp.where(correction.converged, energy, jnp.inf)
    total = jnp.sum(weights * y**2, axis=0)
    sizes = jnp.sum(outside**2, axis=0)
    # a function that vanishes: its own rounding, and what ε λ_max/√m of the others is in its vector, λ_max about m/2
    point = (1 + len(basis.vectors) ** 0.5 / 2) * float(jnp.finfo(y.dtype).eps) * basis.entry
    noise = point**2 * len(y)
    slopes = dot(outside.T, weights * left) ** 2
    seen = jnp.sum(weights * outside**2, axis=0)
    lower = seen + ridge * basis.values
    changes = over(slopes * seen[:, None], lower[:, None] ** 2)
    changes = jnp.where((sizes > noise)[:, None], changes, 0).sum(axis=0)
    changes = changes + basis.blind**2 * jnp.sum(weights * left**2, axis=0)
    relative = [jnp.sqrt(over(part, total)).max(initial=0) for part in (energy, changes)]
    return _Checked(correction, *relative)


def _conjugate(apply: Any, max_iterations: int, level: float, tolerance: float | Array, right: Array) -> Iterates:
    """The equations, of which the largest eigenvalues are near 1, for right-hand sides of norm 1."""
    size = jnp.linalg.norm(right, axis=0, keepdims=True)
    unit = right / jnp.where(size > 0, size, jnp.ones_like(size))
    found = conjugate_gradients(
        apply, unit, lambda r: r, tolerance=tolerance, max_iterations=max_iterations, level=level
    )
    return found._replace(solution=found.solution * size)


def _products(kernel: Kernel, x: Array, weights: Array, centres: Array, block: int, mesh: Mesh | None) -> _Products:
    """Products with K_xc, K_cx and K_cx W K_xc, the rows of x split over a mesh."""

    def there(kernel: Kernel, centres: Array, alpha: Array, x: Array) -> Array:
        return matvec(kernel, x, alpha, block, x2=centres)

    def back(kernel: Kernel, centres: Array, x: Array, values: Array) -> Array:
        return matvec(kernel, centres, values, block, x2=x)

    def normal(kernel: Kernel, centres: Array, alpha: Array, x: Array, weights: Array) -> Array:
        return back(kernel, centres, x, weights * there(kernel, centres, alpha, x))

    return _Products(
        lambda alpha: _on_rows(there, mesh, (kernel, centres, alpha), (x,), summed=False),
        lambda values: _on_rows(back, mesh, (kernel, centres), (x, values)),
        lambda alpha: _on_rows(normal, mesh, (kernel, centres, alpha), (x, weights)),
    )


def _on_rows(
    function: Callable[..., Array], mesh: Mesh | None, whole: tuple[Any, ...], split: tuple[Array, ...],
    *, summed: bool = True,
) -> Array:  # fmt: skip
    """`function(*whole, *split)` of each device's rows of what is split: added up, or row by row."""
    if mesh is None:
        return function(*whole, *split)
    (axis,) = mesh.axis_names
    specs = (*[PartitionSpec()] * len(whole), *[PartitionSpec(axis)] * len(split))
    added = lambda *given: jax.lax.psum(function(*given), axis)  # noqa: E731
    out = PartitionSpec() if summed else PartitionSpec(axis)
    run = jax.shard_map(added if summed else function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    found: Array = run(*whole, *split)
    return found
