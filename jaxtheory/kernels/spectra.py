"""Spectra of Gram matrices: of all eigenvalues, of sums over them, and of kernels too large to form."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from jaxtheory.checks import known, require
from jaxtheory.kernels.functions import Kernel, as_kernel
from jaxtheory.kernels.gram import matvec


class SpectralDensity(NamedTuple):
    """Gauss quadratures of the spectral measure, one a probe: tr f(K) ≈ mean over probes of Σ weights f(nodes)."""

    nodes: Float[Array, "probes order"]
    weights: Float[Array, "probes order"]


class Estimate(NamedTuple):
    """A mean over independent probes and its standard error."""

    mean: Float[Array, ""]
    standard_error: Float[Array, ""]


def degrees_of_freedom(
    eigs: Float[Array, "... modes"], ridge: Any, multiplicity: Float[Array, " modes"] | None = None
) -> Float[Array, "..."]:
    r"""Effective dimension Σ m_i λ_i / (λ_i + ridge) = tr K (K + ridge I)⁻¹; ridge = n λ gives N(λ) of a Gram matrix.

    Args:
        eigs: λ ≥ 0, of a Gram matrix or an integral operator. ridge: > 0, or 0 to count the nonzero ones.
        multiplicity: m of each eigenvalue, 1 by default.

    Raises:
        ValueError: ridge < 0. Cost: O(modes). Source: Zhang (2005), section 2; Caponnetto and De Vito (2007).

    >>> f"{degrees_of_freedom(jnp.array([1.0, 1.0, 0.0]), 1.0):.1f}"
    '1.0'
    """
    if known(ridge):
        require(float(ridge) >= 0, "ridge", ridge, "be >= 0", "pass n λ for the λ of a mean loss")
    positive = eigs > 0
    share = jnp.where(positive, eigs / jnp.where(positive, eigs + ridge, 1), 0)
    return jnp.sum(share if multiplicity is None else share * multiplicity, axis=-1)


@jax.jit
def empirical_spectrum(gram: Float[Array, "n n"]) -> Float[Array, " n"]:
    r"""Eigenvalues of K/n, descending: estimates of the eigenvalues of the kernel's integral operator.

    They differ from the operator's by O(n^(−1/2)) in ℓ². Cost: ≈ 4 n³/3 flops, 2 n² memory.
    Source: Koltchinskii and Giné (2000), Theorem 3.1.

    >>> f"{empirical_spectrum(jnp.ones((2, 2)))[0]:.4f}"
    '1.0000'
    """
    return jnp.linalg.eigvalsh((gram + gram.T) / 2)[::-1] / gram.shape[0]


def lanczos_density(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."] | None,
    key: PRNGKeyArray,
    *,
    order: int = 30,
    probes: int = 8,
    block: int = 2048,
) -> SpectralDensity:
    r"""Stochastic Lanczos quadrature of K = kernel(x, x), which is never formed.

    A probe of ±1 entries starts `order` steps of Lanczos with full reorthogonalization (matfree's); the eigenpairs
    (θ, v) of its tridiagonal matrix give nodes θ and weights n v_1²: exact for polynomials of degree 2 order − 1 in the
    probe's measure.

    Args:
        kernel, x: a kernel function and n points, or a Gram matrix and None.
        order: Lanczos steps, 2 ≤ order ≤ n − 1; below the rank of K, or Lanczos breaks down.
        probes: independent starts.

    Returns:
        `SpectralDensity`, for `spectral_sum`.

    Raises:
        ValueError: order or probes out of range.

    Cost: probes · order products with K (n²/2 kernel evaluations each), memory n order + block².
    Source: Ubaru, Chen, Saad (2017), Algorithm 1; Krämer et al. (2024) for matfree.

    >>> density = lanczos_density(jnp.diag(jnp.arange(1.0, 9.0)), None, jax.random.key(0), order=3)
    >>> f"{spectral_sum(density, lambda v: v).mean:.1f}"
    '36.0'
    """
    wrapped, x = as_kernel(kernel, x)
    n = x.shape[0]
    require(2 <= order < n, "order", order, f"lie in 2..{n - 1}, below the number of points", "use a smaller order")
    require(probes >= 1, "probes", probes, "be at least 1", "use 8 for a standard error")
    # a Gram matrix is multiplied as it is: gathering its entries block by block would cost more than the product
    matrix = None if callable(kernel) else wrapped(x, x)
    return _density(wrapped, x, matrix, key, order, probes, block)


def spectral_sum(density: SpectralDensity, function: Callable[[Array], Array]) -> Estimate:
    """tr f(K) = Σ f(λ_i) from a density: mean over probes and its standard error (NaN for one probe).

    >>> density = SpectralDensity(jnp.ones((2, 1)), jnp.full((2, 1), 3.0))
    >>> f"{spectral_sum(density, jnp.exp).mean:.3f}"
    '8.155'
    """
    sums = jnp.sum(density.weights * function(density.nodes), axis=1)
    spread = jnp.std(sums, ddof=1) if sums.shape[0] > 1 else jnp.full((), jnp.nan, sums.dtype)
    return Estimate(sums.mean(), spread / sums.shape[0] ** 0.5)


@partial(jax.jit, static_argnames=("order", "probes", "block"))
def _density(
    kernel: Any, x: Array, matrix: Array | None, key: PRNGKeyArray, order: int, probes: int, block: int
) -> SpectralDensity:
    from matfree import decomp

    n, dtype = x.shape[0], jax.eval_shape(kernel, x[:1], x[:1]).dtype
    lanczos = decomp.tridiag_sym(order, reortho="full", custom_vjp=False)

    def product(v: Array) -> Array:
        return matvec(kernel, x, v, block) if matrix is None else jnp.matmul(matrix, v, precision="highest")

    def probe(start: Array) -> tuple[Array, Array]:
        with jax.default_matmul_precision("highest"):  # of matfree's own products
            found = lanczos(product, start / n**0.5)
        nodes, vectors = jnp.linalg.eigh(found.J_small)
        return nodes, n * vectors[0] ** 2

    starts = jax.random.rademacher(key, (probes, n), dtype)
    return SpectralDensity(*jax.lax.map(probe, starts))
