"""All ridges of one Gram matrix from one eigendecomposition, with leave-one-out and GCV at no further cost."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxtheory.checks import known, require
from jaxtheory.kernels.functions import Kernel, as_kernel, asymmetric, require_problem
from jaxtheory.results import Status, status_where


class RidgePath(NamedTuple):
    """Kernel ridge regression at every ridge r of a path.

    `leave_one_out` and `gcv` are mean squared errors over points and outputs; `gcv` estimates the test error, noise
    included, and is also KARE (they are one formula).
    """

    alpha: Float[Array, "r n ..."]
    leave_one_out: Float[Array, " r"]
    gcv: Float[Array, " r"]
    train: Float[Array, " r"]
    degrees_of_freedom: Float[Array, " r"]
    residual: Float[Array, " r"]
    status: Int[Array, " r"]


class Eigenpairs(NamedTuple):
    """K = Q diag(values) Qᵀ, ascending; `kept` marks values above the rounding n ε max|λ|; `status` of K itself."""

    values: Float[Array, " n"]
    vectors: Float[Array, "n n"]
    kept: Shaped[Array, " n"]
    status: Int[Array, ""]


def ridge_path(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."] | None,
    y: Float[Array, "n ..."],
    ridges: Float[Array, " r"],
) -> RidgePath:
    r"""α = (K + δ I)⁻¹ y for every δ in `ridges`, with errors estimated from the same data.

    With K = Q Λ Qᵀ and G = (K + δ I)⁻¹:

        leave-one-out = mean (α_i / G_ii)²,   GCV = KARE = n ‖α‖² / (tr G)²,   degrees of freedom = Σ λ/(λ + δ)

    At δ = 0 directions with λ at rounding level are left out (the minimum-norm least-squares solution) and, if there
    are any, the status is ILL_CONDITIONED and the two estimates, which are 0/0 there, are NaN.

    Args:
        kernel, x: a kernel function and its points, or a Gram matrix and None.
        y: targets, [n] or [n outputs].
        ridges: each ≥ 0, added to the unnormalized K.

    Returns:
        `RidgePath`; status INVALID_INPUT (and NaN) for an asymmetric or indefinite K, NOT_FINITE for NaN.

    Raises:
        ValueError: mismatched shapes or a negative ridge.

    Cost: one eigendecomposition, ≈ 9 n³ flops, then 2 n² (outputs + 1) a ridge; memory 3 n² + r n outputs.
    Source: Craven and Wahba (1979) for GCV; Jacot et al. (2020), equation 6, for KARE; Rasmussen and Williams
    (2006), equation 5.12, for leave-one-out.

    >>> path = ridge_path(jnp.eye(4), None, jnp.ones(4), jnp.array([1.0, 3.0]))
    >>> f"{path.alpha[:, 0]} {path.degrees_of_freedom}"
    '[0.5  0.25] [2. 1.]'
    """
    wrapped, x = as_kernel(kernel, x)
    require_problem(wrapped, x, y)
    if known(ridges):
        require(not (np.asarray(ridges) < 0).any(), "ridges", ridges, "be >= 0", "use 0.0 for the min-norm solution")
    path = _path(wrapped(x, x).astype(y.dtype), y.reshape(y.shape[0], -1), ridges)
    return path._replace(alpha=path.alpha.reshape(ridges.shape[0], *y.shape))


def eigenpairs(gram: Float[Array, "n n"]) -> Eigenpairs:
    """Eigenvalues of a Gram matrix with a verdict: NOT_FINITE, or INVALID_INPUT (asymmetric, indefinite).

    Negative eigenvalues within rounding, n ε max|λ|, are set to 0; whatever is refused is NaN.
    Cost: ≈ 9 n³ flops, 2 n² memory.

    >>> int(eigenpairs(jnp.diag(jnp.array([1.0, -1.0]))).status)
    4
    """
    eps = float(jnp.finfo(gram.dtype).eps)
    values, vectors = jnp.linalg.eigh((gram + gram.T) / 2)
    rounding = gram.shape[0] * eps * jnp.abs(values).max()
    indefinite = values[0] < -10 * rounding
    finite = jnp.isfinite(gram).all()
    status = status_where((~finite, Status.NOT_FINITE), (asymmetric(gram, gram.T) | indefinite, Status.INVALID_INPUT))
    values = jnp.where(status == Status.OK, jnp.maximum(values, 0), jnp.full_like(values, jnp.nan))
    vectors = jnp.where(status == Status.OK, vectors, jnp.full_like(vectors, jnp.nan))
    return Eigenpairs(values, vectors, values > rounding, status)


@jax.jit
def _path(gram: Array, y: Array, ridges: Array) -> RidgePath:
    pairs = eigenpairs(gram)
    projected = jnp.matmul(pairs.vectors.T, y, precision="highest")

    def at(ridge: Array) -> RidgePath:
        solved = pairs.kept | (ridge > pairs.values.shape[0] * jnp.finfo(y.dtype).eps * pairs.values.max())
        shifted = pairs.values + ridge
        inverse = jnp.where(solved, 1 / jnp.where(solved, shifted, jnp.ones_like(shifted)), jnp.zeros_like(shifted))
        alpha = jnp.matmul(pairs.vectors, inverse[:, None] * projected, precision="highest")
        diagonal = jnp.matmul(pairs.vectors**2, inverse, precision="highest")
        void = jnp.where(solved.all(), 1.0, jnp.nan).astype(y.dtype)
        gcv = y.shape[0] * jnp.mean(jnp.sum(alpha**2, axis=0)) / inverse.sum() ** 2
        product = jnp.matmul(gram, alpha, precision="highest") + ridge * alpha
        residual = jnp.linalg.norm(product - y) / jnp.maximum(jnp.linalg.norm(y), jnp.finfo(y.dtype).tiny)
        poor = residual > jnp.finfo(y.dtype).eps ** 0.5
        status = status_where(
            (~jnp.isfinite(y).all() | ~jnp.isfinite(ridge), Status.NOT_FINITE),
            (ridge < 0, Status.INVALID_INPUT),
            (~solved.all() | poor, Status.ILL_CONDITIONED),
        )
        status = jnp.where(pairs.status == Status.OK, status, pairs.status)
        alpha = jnp.where((status == Status.OK) | (status == Status.ILL_CONDITIONED), alpha, jnp.nan)
        loo = jnp.mean((alpha / diagonal[:, None]) ** 2) * void
        freedom = jnp.sum(pairs.values * inverse)
        train = jnp.mean((y - jnp.matmul(gram, alpha, precision="highest")) ** 2)
        return RidgePath(alpha, loo, gcv * void, train, freedom, residual, status)

    return jax.lax.map(at, ridges)
