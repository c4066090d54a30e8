"""Positive semidefinite matrices: square roots and overlaps with derivatives at repeated and zero eigenvalues.

No derivative here divides by a difference of eigenvalues: the root's solves a Sylvester equation, whose divisors are
sums of roots, and the nuclear norm's is the polar factor. Where a sum of roots is 0 the derivative in that direction is
taken as 0, which is its value for perturbations that keep the rank.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxtheory.guarded import divided, power_of_two


def symmetric(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The symmetric part."""
    return (matrix + matrix.T) / 2


def conjugated(vectors: Float[Array, "d k"], values: Float[Array, " k"]) -> Float[Array, "d d"]:
    """V diag(values) Vᵀ."""
    return jnp.matmul(vectors * values[None], vectors.T, precision="highest")


def product(*matrices: Array) -> Array:
    """The matrix product from left to right, in full precision."""
    found = matrices[0]
    for matrix in matrices[1:]:
        found = jnp.matmul(found, matrix, precision="highest")
    return found


@jax.custom_jvp
def root(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The positive semidefinite root A^½; eigenvalues up to 4 d eps of the largest count as 0.

    NaN where an eigenvalue is below −√eps of the largest. The derivative dR solves R dR + dR R = dA.
    """
    values, vectors = jnp.linalg.eigh(symmetric(matrix))
    top, eps = jnp.abs(values).max(), jnp.finfo(matrix.dtype).eps
    kept = jnp.where(values > _floor(matrix) * top, values, jnp.zeros_like(values))
    return conjugated(vectors, jnp.where(values < -jnp.sqrt(eps) * top, jnp.nan, jnp.sqrt(kept)))


@root.defjvp
def _root_jvp(primals: PyTree, tangents: PyTree) -> tuple[Array, Array]:
    found = root(primals[0])
    return found, sylvester(found, symmetric(tangents[0]))


def sylvester(factor: Float[Array, "d d"], right: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The X with R X + X R = C for R positive semidefinite, and 0 where the eigenvalues r_i + r_j of that map are 0."""

    def solve(_: PyTree, c: Array) -> Array:
        values, vectors = jnp.linalg.eigh(factor)
        sums = values[:, None] + values[None]
        regular = sums > _floor(factor) * values.max()
        inverse = regular.astype(c.dtype) / jnp.where(regular, sums, jnp.ones_like(sums))
        inverse = jnp.where(jnp.isfinite(values).all(), inverse, jnp.full_like(inverse, jnp.nan))
        return product(vectors, product(vectors.T, c, vectors) * inverse, vectors.T)

    # its derivatives are those of the equation, not of the eigenvectors
    return jax.lax.custom_linear_solve(
        lambda x: product(factor, x) + product(x, factor), right, solve, solve, symmetric=True
    )


def half(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """A factor L with L Lᵀ = A, as accurate as A's correlations: L = D C^½ for A = D C D, D² the power-of-two diagonal.

    Coordinates of very different units therefore keep their digits, and a rank deficiency is seen in any units.
    """
    scale = power_of_two(jnp.sqrt(jnp.abs(jnp.diagonal(matrix)))[:, None], axis=1)
    return scale[:, None] * root(divided(matrix, scale[:, None], scale[None]))


@jax.custom_jvp
def nuclear(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
    """The sum of the singular values; its derivative is the polar factor."""
    return jnp.linalg.svd(matrix, compute_uv=False).sum()


@nuclear.defjvp
def _nuclear_jvp(primals: PyTree, tangents: PyTree) -> tuple[Array, Array]:
    return nuclear(primals[0]), jnp.vdot(polar(primals[0]), tangents[0], precision="highest")


@jax.custom_jvp
def polar(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """U Wᵀ over the singular values above 4 d eps of the largest, of K = U S Wᵀ."""
    left, values, right = jnp.linalg.svd(matrix)
    return jnp.matmul(left * _present(matrix, values)[None], right, precision="highest")


@polar.defjvp
def _polar_jvp(primals: PyTree, tangents: PyTree) -> tuple[Array, Array]:
    """The Z with U Kᵀ Z + Z Uᵀ K = dK − U dKᵀ U, the divisors of which are sums of singular values; 0 where those are.

    Its derivatives are those of the equation, so that no order divides by a difference of singular values.
    """
    (matrix,), (change,) = primals, tangents
    found = polar(matrix)
    rows, columns = symmetric(product(found, matrix.T)), symmetric(product(found.T, matrix))

    def solve(_: PyTree, right: Array) -> Array:
        left, values, across = jnp.linalg.svd(matrix)
        kept = values * _present(matrix, values)
        sums = kept[:, None] + kept[None]
        inverse = jnp.where(sums > 0, 1 / jnp.where(sums > 0, sums, jnp.ones_like(sums)), jnp.zeros_like(sums))
        inverse = jnp.where(jnp.isfinite(values).all(), inverse, jnp.full_like(inverse, jnp.nan))
        return product(left, product(left.T, right, across.T) * inverse, across)

    return found, jax.lax.custom_linear_solve(
        lambda z: product(rows, z) + product(z, columns),
        change - product(found, change.T, found),
        solve,
        solve,
        symmetric=True,
    )


def _present(matrix: Array, values: Array) -> Array:
    return (values > _floor(matrix) * values[0]).astype(matrix.dtype)


def _floor(matrix: Array) -> float:
    return 4 * len(matrix) * float(jnp.finfo(matrix.dtype).eps)


@jax.custom_jvp
def gap(a: Float[Array, "d d"], b: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""tr A + tr B − 2 tr (A^½ B A^½)^½, as min over rotations Q of ‖L_A − L_B Q‖², so without cancellation."""
    first, second = half(a), half(b)
    left, _, right = jnp.linalg.svd(product(first.T, second))
    return ((product(first, left) - product(second, right.T)) ** 2).sum()


@gap.defjvp
def _gap_jvp(primals: PyTree, tangents: PyTree) -> tuple[Array, Array]:
    def expanded(a: Array, b: Array) -> Array:
        return jnp.trace(a) + jnp.trace(b) - 2 * nuclear(product(half(a).T, half(b)))

    return gap(*primals), jax.jvp(expanded, primals, tangents)[1]
