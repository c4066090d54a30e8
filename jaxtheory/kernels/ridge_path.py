"""All ridges of one Gram matrix from one eigendecomposition, with leave-one-out and GCV at no further cost."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from jaxtheory.checks import boundary, holds, require
from jaxtheory.guarded import dot, power_of_two
from jaxtheory.kernels.functions import Kernel
from jaxtheory.kernels.matrix_functions import Eigenpairs, eigenpairs
from jaxtheory.kernels.problems import as_kernel, as_problem
from jaxtheory.kernels.scales import as_columns, lost, mean_square, worst_residual
from jaxtheory.results import Status, status_where


class RidgePath(NamedTuple):
    """Kernel ridge regression at every ridge r of a path.

    `leave_one_out` and `gcv` are mean squared errors over points and outputs; `gcv` estimates the test error, noise
    included, and is also KARE (they are one formula). `residual` is the largest ‖(K + δ I) α − y‖ / ‖y‖ over outputs.
    """

    alpha: Float[Array, "r n ..."]
    leave_one_out: Float[Array, " r"]
    gcv: Float[Array, " r"]
    train: Float[Array, " r"]
    degrees_of_freedom: Float[Array, " r"]
    residual: Float[Array, " r"]
    status: Int[Array, " r"]


@boundary
def ridge_path(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."] | None,
    y: Float[Array, "n ..."],
    ridges: float | Float[Array, "..."],
) -> RidgePath:
    r"""α = (K + δ I)⁻¹ y for every δ in `ridges`, with errors estimated from the same data.

    With K = Q Λ Qᵀ and G = (K + δ I)⁻¹:

        leave-one-out = mean (α_i / G_ii)²,   GCV = KARE = n ‖α‖² / (tr G)²,   degrees of freedom = Σ λ/(λ + δ)

    At δ = 0 directions with λ at rounding level are left out (the minimum-norm least-squares solution) and, if there
    are any, the status is ILL_CONDITIONED and the two estimates, which are 0/0 there, are NaN.

    Derivatives: first and second, forward and reverse, also at repeated eigenvalues of K; with directions left out they
    are those within the directions kept.

    Args:
        kernel, x: a kernel function and its points, or a Gram matrix and None.
        y: targets, [n] or [n outputs].
        ridges: [r] or one number, each ≥ 0, added to the unnormalized K.

    Returns:
        `RidgePath`; status INVALID_INPUT (and NaN) for an asymmetric or indefinite K or a negative ridge inside jit,
        NOT_FINITE for NaN or infinity, and where an error of y's square cannot be represented.

    Raises:
        ValueError: mismatched shapes or a negative ridge.

    Cost: one eigendecomposition, ≈ 9 n³ flops, then 2 n² (outputs + 1) a ridge; memory 3 n² + r n outputs. A derivative
    costs 8 n³ flops a ridge.
    Source: Craven and Wahba (1979) for GCV; Jacot et al. (2020), equation 6, for KARE; Rasmussen and Williams
    (2006), equation 5.12, for leave-one-out.

    >>> path = ridge_path(jnp.eye(4), None, jnp.ones(4), jnp.array([1.0, 3.0]))
    >>> f"{path.alpha[:, 0]} {path.degrees_of_freedom}"
    '[0.5  0.25] [2. 1.]'
    """
    wrapped, x = as_kernel(kernel, x)
    x, y = as_problem(wrapped, x, y)
    ridges = jnp.atleast_1d(jnp.asarray(ridges, y.dtype))
    require(ridges.ndim == 1, "ridges", f"shape {ridges.shape}", "be one number or an array [r]", "use ridges.ravel()")
    negative = not holds(lambda r: ~(r < 0), ridges)
    require(not negative, "ridges", ridges, "be >= 0", "use 0.0 for the min-norm solution")
    path = _solved(wrapped(x, x).astype(y.dtype), as_columns(y), ridges)
    return path._replace(alpha=path.alpha.reshape(ridges.shape[0], *y.shape))


@jax.jit
def _solved(gram: Array, y: Array, ridges: Array) -> RidgePath:
    """In units of K and of each output, so that powers of two go through to the bit."""
    unit, units = power_of_two(gram), power_of_two(y, axis=0, keepdims=True)
    path = _path(gram / unit, y / units, ridges / unit)
    alpha = path.alpha * (units / unit)[None]
    lose = jax.vmap(lost)(path.alpha, alpha)
    errors = {}
    for name in ("leave_one_out", "gcv", "train"):
        errors[name], gone = mean_square(getattr(path, name), units[0])
        lose = lose | gone
    status = jnp.where((path.status == Status.OK) & lose, jnp.int32(Status.NOT_FINITE), path.status)
    freedom, residual = path.degrees_of_freedom, path.residual
    return RidgePath(alpha, degrees_of_freedom=freedom, residual=residual, status=status, **errors)


@jax.custom_jvp
def _path(gram: Array, y: Array, ridges: Array) -> RidgePath:
    """The path; its errors are means over points, for each output."""
    pairs = eigenpairs(gram)
    projected = jnp.matmul(pairs.vectors.T, y, precision="highest")

    def at(ridge: Array) -> RidgePath:
        inverse, solved = _inverse(pairs, ridge)
        alpha = jnp.matmul(pairs.vectors, inverse[:, None] * projected, precision="highest")
        diagonal = jnp.matmul(pairs.vectors**2, inverse, precision="highest")
        product = jnp.matmul(gram, alpha, precision="highest") + ridge * alpha
        residual = worst_residual(product, y)
        status = status_where(
            (~jnp.isfinite(y).all() | ~jnp.isfinite(ridge), Status.NOT_FINITE),
            (ridge < 0, Status.INVALID_INPUT),
            (~solved.all() | ~(residual <= jnp.finfo(y.dtype).eps ** 0.5), Status.ILL_CONDITIONED),
        )
        status = jnp.where(pairs.status == Status.OK, status, pairs.status)
        alpha = jnp.where((status == Status.OK) | (status == Status.ILL_CONDITIONED), alpha, jnp.nan)
        # y − K α, from the eigenbasis: a difference would lose what is left at small ridges
        left = jnp.where(solved, ridge * inverse, jnp.ones_like(inverse))[:, None] * projected
        errors = _errors(alpha, diagonal, inverse.sum(), left, solved.all())
        return RidgePath(alpha, *errors, jnp.sum(pairs.values * inverse), residual, status)

    return jax.lax.map(at, ridges)


@_path.defjvp
def _path_jvp(primals: PyTree, tangents: PyTree) -> tuple[RidgePath, RidgePath]:
    gram, y, ridges = primals
    path = _path(gram, y, ridges)
    pairs = eigenpairs(jax.lax.stop_gradient(gram))
    q, identity = pairs.vectors, jnp.eye(gram.shape[0], dtype=gram.dtype)

    def inverted(gram: Array, ridge: Array) -> tuple[Array, Array]:
        """G = (K + δ I)⁻¹ with its first three derivatives: two steps of Newton and Schulz from its value."""
        inverse, solved = _inverse(pairs, jax.lax.stop_gradient(ridge))
        g, shifted = dot(q * inverse[None], q.T), gram + ridge * identity
        for _ in range(2):
            g = 2 * g - dot(dot(g, shifted), g)
        return g, solved.all()

    @jax.checkpoint
    def dense(gram: Array, y: Array, ridge: Array) -> tuple[Array, ...]:
        gram = (gram + gram.T) / 2
        g, solved = inverted(gram, ridge)
        alpha = dot(g, y)
        errors = _errors(alpha, jnp.diagonal(g), jnp.trace(g), y - dot(gram, alpha), solved)
        return alpha, *errors, jnp.sum(gram * g)

    moved = jax.jvp(lambda g, y, r: jax.lax.map(lambda ridge: dense(g, y, ridge), r), primals, tangents)[1]
    rest: Any = (jnp.zeros_like(path.residual), np.zeros(path.status.shape, jax.dtypes.float0))
    return path, RidgePath(*(*moved, *rest))


def _errors(alpha: Array, diagonal: Array, trace: Array, left: Array, solved: Array) -> tuple[Array, Array, Array]:
    """Leave-one-out, GCV and training error of each output, from G's diagonal and trace and from y − K α."""
    void = jnp.where(solved, jnp.ones_like(trace), jnp.full_like(trace, jnp.nan))
    leave_one_out = jnp.mean((alpha / diagonal[:, None]) ** 2, axis=0)
    gcv = alpha.shape[0] * jnp.sum(alpha**2, axis=0) / trace**2
    return leave_one_out * void, gcv * void, jnp.mean(left**2, axis=0)


def _inverse(pairs: Eigenpairs, ridge: Array) -> tuple[Array, Array]:
    """1/(λ + δ) where it means something, else 0; and where."""
    eps = float(jnp.finfo(ridge.dtype).eps)
    solved = pairs.kept | (ridge > pairs.values.shape[0] * eps * pairs.values.max())
    shifted = jnp.where(solved, pairs.values + ridge, jnp.ones_like(pairs.values))
    return jnp.where(solved, 1 / shifted, jnp.zeros_like(shifted)), solved
