"""Regression on centres: preconditioned conjugate gradients of the normal equations in the kernel's eigenbasis."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxtheory.guarded import dot, over
from jaxtheory.kernels.gram import matvec
from jaxtheory.kernels.matrix_functions import Eigenpairs, eigenpairs
from jaxtheory.kernels.scales import worst_residual
from jaxtheory.kernels.solvers import Iterates, conjugate_gradients, solution_of
from jaxtheory.results import Status


class Fitted(NamedTuple):
    """α of `falkon`, the relative residual of its normal equations, and what K_cc and the iteration say."""

    alpha: Float[Array, "m o"]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    status: Int[Array, ""]
    singular: Bool[Array, ""]


@partial(jax.jit, static_argnames=("max_iterations", "block", "mesh"))
def falkon(
    kernel: Any,
    x: Array,
    y: Float[Array, "n o"],
    ridge: Float[Array, "..."],
    centres: Array,
    *,
    tolerance: Any,
    max_iterations: int,
    block: int,
    mesh: Mesh | None = None,
) -> Fitted:
    r"""(K_cx W K_xc + s K_cc) α = K_cx W y, with s = min ridge and weights W = s/ridge: 1 for one ridge.

    With K_cc = Q Λ Qᵀ and Q, Λ of the eigenvalues above rounding alone, α = C β, C = Q Λ^(−1/2), turns them into

        (Φᵀ W Φ + s I) β = Φᵀ W y,   Φ = K_xc C

    which is as well posed as the regression itself, however singular K_cc is: directions left out are functions of
    norm 0. ΦᵀΦ is near (n/m) Λ, which makes the preconditioner (n/m) Λ + s. The residual is that of the first equation.

    Derivatives are those within the span of C, which are all where centres move together or their span stays.

    Cost: ≈ 9 m³ flops for the eigenpairs, then 2 n m kernel evaluations and 4 n m o flops an iteration; 3 m² + block²
    memory. On a mesh of p devices, a line, each has n/p rows of x, y and ridge, and an iteration adds up m o numbers;
    what has m rows is on all of them.
    Source: Rudi, Carratino, Rosasco (2017), with eigenpairs in the place of Cholesky factors.

    >>> from jaxtheory.kernels.functions import laplace
    >>> x = jnp.arange(4.0)[:, None]
    >>> found = falkon(laplace(), x, x, jnp.ones((1, 1)), x[:2], tolerance=1e-4, max_iterations=9, block=4)
    >>> bool(found.residual < 1e-4), found.alpha.shape
    (True, (2, 1))
    """
    n, m = x.shape[0], centres.shape[0]
    corner = kernel(centres, centres).astype(y.dtype)
    pairs = eigenpairs(jax.lax.stop_gradient(corner))
    colour, whiten = _roots(pairs)
    least = jnp.min(ridge)
    weights = jnp.where(ridge == least, jnp.ones_like(ridge), over(least, ridge))
    there_and_back, back = _products(kernel, x, jnp.broadcast_to(weights, (n, 1)), centres, block, mesh)

    def normal(alpha: Array) -> Array:
        return there_and_back(alpha) + least * dot(corner, alpha)

    def apply(beta: Array) -> Array:
        # what is left out acts as the identity, so that the operator stays definite there
        return whiten(normal(colour(beta))) + jnp.where(pairs.kept, 0, 1).astype(y.dtype)[:, None] * beta

    expected = n / m * pairs.values + jax.lax.stop_gradient(least)
    inverse = jnp.where(pairs.kept, over(jnp.ones_like(expected), expected), jnp.ones_like(expected))[:, None]
    options = {"tolerance": tolerance, "max_iterations": max_iterations, "level": m * float(jnp.finfo(y.dtype).eps)}
    target = back(weights * y)
    beta, found = solution_of(apply, whiten(target), partial(_conjugate, apply, inverse, options))
    alpha = colour(beta)
    residual = worst_residual(normal(jax.lax.stop_gradient(alpha)), target)
    status = jnp.where(found.indefinite, jnp.int32(Status.INVALID_INPUT), pairs.status)
    return Fitted(alpha, residual, found.iterations, status, found.singular)


def _conjugate(apply: Any, inverse: Array, options: dict[str, Any], right: Array) -> Iterates:
    """The preconditioned equations, of which the largest eigenvalues are near 1, for right-hand sides of norm 1."""
    size = jnp.linalg.norm(right, axis=0, keepdims=True)
    unit = right / jnp.where(size > 0, size, jnp.ones_like(size))
    found = conjugate_gradients(apply, unit, lambda r: inverse * r, **options)
    return found._replace(solution=found.solution * size)


def _products(
    kernel: Any, x: Array, weights: Array, centres: Array, block: int, mesh: Mesh | None
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Products with K_cx W K_xc and with K_cx, the rows of x split over a mesh."""

    def back(kernel: Any, centres: Array, x: Array, values: Array) -> Array:
        return matvec(kernel, centres, values, block, x2=x)

    def there_and_back(kernel: Any, centres: Array, alpha: Array, x: Array, weights: Array) -> Array:
        return back(kernel, centres, x, weights * matvec(kernel, x, alpha, block, x2=centres))

    return (
        lambda alpha: _sum(there_and_back, mesh, (kernel, centres, alpha), (x, weights)),
        lambda values: _sum(back, mesh, (kernel, centres), (x, values)),
    )


def _sum(function: Callable[..., Array], mesh: Mesh | None, whole: tuple[Any, ...], split: tuple[Array, ...]) -> Array:
    """`function(*whole, *split)`, a sum over rows of what is split: each device's part, added up."""
    if mesh is None:
        return function(*whole, *split)
    (axis,) = mesh.axis_names
    specs = (*[PartitionSpec()] * len(whole), *[PartitionSpec(axis)] * len(split))
    added = lambda *given: jax.lax.psum(function(*given), axis)  # noqa: E731
    run = jax.shard_map(added, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
    found: Array = run(*whole, *split)
    return found


def _roots(pairs: Eigenpairs) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Products with C = Q Λ^(−1/2) and with its transpose."""
    scale = jax.lax.rsqrt(jnp.where(pairs.kept, pairs.values, jnp.ones_like(pairs.values)))
    whitening = jnp.where(pairs.kept, scale, jnp.zeros_like(scale))[:, None]
    return lambda v: dot(pairs.vectors, whitening * v), lambda v: whitening * dot(pairs.vectors.T, v)
