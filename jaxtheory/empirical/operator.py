r"""The tangent kernel as an operator, never formed: Θv by one vector-Jacobian and one Jacobian-vector product.

Vectors are shaped like the outputs, [n, *out], and Θv = J(Jᵀv). What needs only products (trace, diagonal, top
eigenpairs, density of states, effective rank) is here too; anything that takes a matrix-vector product (conjugate
gradients, matfree's Lanczos) takes this operator.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory import placement
from jaxtheory.checks import require
from jaxtheory.empirical.validation import check_function
from jaxtheory.results import Status, finite_status, standard_error, status_where

Operator = Callable[[Array], Array]


class Estimate(NamedTuple):
    """A mean over random probes with its standard error."""

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]


class Eigenpairs(NamedTuple):
    """Top eigenvalues, largest first, eigenvectors [k, *shape], recomputed relative residuals, and a status."""

    values: Float[Array, " k"]
    vectors: Float[Array, "k ..."]
    residual: Float[Array, " k"]
    status: Int[Array, ""]


class Density(NamedTuple):
    """A spectral density as weighted nodes: ∫ h dμ ≈ Σ weights h(nodes) for each probe, weights summing to one."""

    nodes: Float[Array, "probes steps"]
    weights: Float[Array, "probes steps"]


@jax.default_matmul_precision("highest")
def ntk_operator(f: Callable[[Any, Any], Any], params: PyTree, x: PyTree, *, mesh: Mesh | None = None) -> Operator:
    """v ↦ Θ(x, x) v for v of the shape of f's outputs; linear, symmetric, positive semidefinite, differentiable.

    On a `mesh` examples, outputs and vectors are split over all its devices, a divisor of their number, and the
    parameters are whole on each; a product then sums P numbers, a gradient's, over the devices.

    Cost: a forward and a backward pass of f on all of x a product; memory that of one gradient.

    >>> theta = ntk_operator(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> print(theta(jnp.array([[1.0], [0.0]])).ravel())
    [ 5. 11.]
    """
    check_function(f, params, x, None)
    if mesh is not None:
        mesh = placement.line(mesh, "rows")
        placement.require_rows(len(jax.tree.leaves(x)[0]), "x", mesh)
        params, x = placement.whole(params, mesh), placement.split(x, mesh)
    out, push = jax.linearize(lambda p: f(p, x), params)
    pull = jax.linear_transpose(push, params)

    def product(v: Array) -> Array:
        require(v.shape == out.shape, "v", v.shape, f"have the shape of the outputs, {out.shape}", "reshape it")
        return push(pull(v if mesh is None else placement.split(v, mesh))[0])

    return product


def trace(operator: Operator, shape: tuple[int, ...], key: Key[Array, ""], probes: int = 32) -> Estimate:
    """Hutchinson's estimate of tr Θ, the mean of zᵀΘz over random signs z; its variance is 2 Σ_{i≠j} Θ_ij².

    Args:
        operator: a symmetric product of arrays of shape `shape`.
        probes: random vectors, at least 2.

    Cost: `probes` products. Source: Hutchinson (1990).
    """
    signs = jax.random.rademacher(key, (probes, *shape), jnp.float32).astype(_dtype(operator, shape))
    values = jax.lax.map(lambda z: jnp.vdot(z, operator(z), precision="highest"), signs)
    return Estimate(values.mean(), standard_error(values))


def diagonal(operator: Operator, shape: tuple[int, ...], key: Key[Array, ""], probes: int = 32) -> Estimate:
    """The diagonal of Θ, the mean of z ∘ Θz over random signs. Cost: `probes` products. Source: Bekas et al. (2007)."""
    signs = jax.random.rademacher(key, (probes, *shape), jnp.float32).astype(_dtype(operator, shape))
    values = jax.lax.map(lambda z: z * operator(z), signs)
    return Estimate(values.mean(0), standard_error(values))


def top_eigenpairs(
    operator: Operator, shape: tuple[int, ...], count: int, key: Key[Array, ""], steps: int | None = None
) -> Eigenpairs:
    """The `count` largest eigenpairs of a symmetric operator by Lanczos with full reorthogonalization.

    Args:
        steps: products, by default min(size, 2·count + 20).

    Returns:
        Eigenpairs with residuals ‖Θu − λu‖ / λ₁; NOT_CONVERGED where one exceeds √eps.

    Cost: steps + count products, steps² · size flops, steps · size numbers.
    Source: Golub and Van Loan (2013), section 10.1.
    """
    size = _size(shape)
    steps = min(size, 2 * count + 20) if steps is None else steps
    require(
        1 <= count <= steps <= size, "count", count, f"be in 1..steps={steps} <= {size}", "lower count or raise steps"
    )
    alpha, beta, basis = _lanczos(operator, shape, key, steps)
    values, inner = jnp.linalg.eigh(_tridiagonal(alpha, beta))
    top, ritz = values[::-1][:count], inner[:, ::-1][:, :count]
    vectors = jnp.matmul(ritz.T, basis, precision="highest").reshape(count, *shape)
    products = jax.lax.map(operator, vectors)
    error = (products - top.reshape(-1, *[1] * len(shape)) * vectors).reshape(count, -1)
    residual = jnp.linalg.norm(error, axis=1) / jnp.abs(top[0])
    status = status_where((residual.max() > jnp.finfo(alpha.dtype).eps ** 0.5, Status.NOT_CONVERGED))
    return Eigenpairs(top, vectors, residual, finite_status((top, vectors), status))


def spectral_density(
    operator: Operator, shape: tuple[int, ...], key: Key[Array, ""], probes: int = 8, steps: int = 32
) -> Density:
    """Stochastic Lanczos quadrature: Gauss nodes of the spectral measure seen by random probes.

    Cost: probes · steps products. Source: Ubaru, Chen, Saad (2017).
    """
    steps = min(steps, _size(shape))

    def one(key: Array) -> tuple[Array, Array]:
        alpha, beta, _ = _lanczos(operator, shape, key, steps)
        nodes, vectors = jnp.linalg.eigh(_tridiagonal(alpha, beta))
        return nodes, vectors[0] ** 2

    return Density(*jax.lax.map(one, jax.random.split(key, probes)))


def effective_rank(eigenvalues: Float[Array, " n"]) -> Float[Array, ""]:
    """exp of the entropy of λ/Σλ: n for a flat spectrum, 1 for a single direction. Source: Roy and Vetterli (2007).

    >>> f"{effective_rank(jnp.array([2.0, 2.0, 0.0])):.4f}"
    '2.0000'
    """
    share = jnp.clip(eigenvalues, 0) / jnp.clip(eigenvalues, 0).sum()
    return jnp.exp(-jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0).sum())


def alignment(kernel1: Float[Array, "n n"], kernel2: Float[Array, "n n"]) -> Float[Array, ""]:
    """Cosine ⟨K1, K2⟩ / (‖K1‖ ‖K2‖). Source: Cristianini et al. (2001).

    >>> f"{alignment(jnp.eye(2), jnp.ones((2, 2))):.4f}"
    '0.7071'
    """
    return jnp.vdot(kernel1, kernel2, precision="highest") / (jnp.linalg.norm(kernel1) * jnp.linalg.norm(kernel2))


def target_alignment(kernel: Float[Array, "n n"], targets: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Alignment of a kernel with the targets' own, YYᵀ.

    >>> f"{target_alignment(jnp.eye(2), jnp.array([1.0, 1.0])):.4f}"
    '0.7071'
    """
    flat = targets.reshape(len(targets), -1)
    return alignment(kernel, jnp.matmul(flat, flat.T, precision="highest"))


def centered_alignment(kernel1: Float[Array, "n n"], kernel2: Float[Array, "n n"]) -> Float[Array, ""]:
    """Alignment of HK1H and HK2H, H = I − 11ᵀ/n: 1 for the same kernel up to scale and offset.

    Source: Cortes, Mohri, Rostamizadeh (2012); Kornblith et al. (2019).

    >>> kernel = jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    >>> f"{centered_alignment(kernel, 2 * kernel + 5):.4f}"
    '1.0000'
    """
    return alignment(_centered(kernel1), _centered(kernel2))


def _centered(kernel: Array) -> Array:
    rows = kernel - kernel.mean(0, keepdims=True)
    return rows - rows.mean(1, keepdims=True)


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _dtype(operator: Operator, shape: tuple[int, ...]) -> Any:
    """The type the operator works in: that of the widest enabled float it accepts."""
    for dtype in (jnp.float64, jnp.float32) if jax.config.read("jax_enable_x64") else (jnp.float32,):
        try:
            return jax.eval_shape(operator, jax.ShapeDtypeStruct(shape, dtype)).dtype
        except TypeError:
            continue
    raise ValueError("operator must map float arrays of `shape` to themselves; pass one made by ntk_operator.")


def _lanczos(operator: Operator, shape: tuple[int, ...], key: Array, steps: int) -> tuple[Array, Array, Array]:
    """Diagonal, off-diagonal and orthonormal basis [steps, size] of the Krylov space of a random start."""
    dtype, size = _dtype(operator, shape), _size(shape)
    start = jax.random.normal(key, (size,), dtype)
    basis = jnp.zeros((steps, size), dtype).at[0].set(start / jnp.linalg.norm(start))

    def step(basis: Array, i: Array) -> tuple[Array, tuple[Array, Array]]:
        w = operator(basis[i].reshape(shape)).ravel()
        alpha = jnp.vdot(basis[i], w, precision="highest")
        for _ in range(2):
            w = w - jnp.matmul(jnp.matmul(basis, w, precision="highest"), basis, precision="highest")
        beta = jnp.linalg.norm(w)
        # an invariant subspace is exhausted: go on with zeros, which add null directions
        w = jnp.where(beta > 0, w / jnp.where(beta > 0, beta, 1), 0)
        return basis.at[i + 1].set(w, mode="drop"), (alpha, beta)

    basis, (alpha, beta) = jax.lax.scan(step, basis, jnp.arange(steps))
    return alpha, beta[:-1], basis


def _tridiagonal(alpha: Array, beta: Array) -> Array:
    return jnp.diag(alpha) + jnp.diag(beta, 1) + jnp.diag(beta, -1)
