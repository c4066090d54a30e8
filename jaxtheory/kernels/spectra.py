"""Spectra of Gram matrices: of all eigenvalues, of sums over them, and of kernels too large to form."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from jaxtheory.checks import boundary, constrain, nonnegative, quantity, require, returned
from jaxtheory.guarded import over, power_of_two
from jaxtheory.kernels.functions import Kernel
from jaxtheory.kernels.gram import diagonal, matvec
from jaxtheory.kernels.problems import as_kernel, asymmetric
from jaxtheory.results import Estimate, standard_error
from jaxtheory.spectra.operators import quadrature


class SpectralDensity(NamedTuple):
    """Gauss quadratures of the spectral measure, one a probe: tr f(K) ≈ mean over probes of Σ weights f(nodes)."""

    nodes: Float[Array, "probes order"]
    weights: Float[Array, "probes order"]


@boundary
def degrees_of_freedom(
    eigs: Float[Array, "... modes"],
    ridge: float | Float[Array, ""],
    multiplicity: Float[Array, " modes"] | None = None,
) -> Float[Array, "..."]:
    r"""Effective dimension Σ m_i λ_i / (λ_i + ridge) = tr K (K + ridge I)⁻¹; ridge = n λ gives N(λ) of a Gram matrix.

    Args:
        eigs: λ ≥ 0, of a Gram matrix or an integral operator; below 0 by rounding is 0.
        ridge: > 0, or 0 to count the nonzero ones.
        multiplicity: m ≥ 0 of each eigenvalue, 1 by default.

    Raises:
        ValueError: numbers out of these ranges or not finite (NaN inside jit).

    Cost: O(modes). Source: Zhang (2005), section 2; Caponnetto and De Vito (2007).

    >>> f"{degrees_of_freedom(jnp.array([1.0, 1.0, 0.0]), 1.0):.1f}"
    '1.0'
    """
    eigs = as_spectrum(eigs)
    ridge = jnp.asarray(nonnegative("ridge", ridge, "pass n λ for the λ of a mean loss"), eigs.dtype)
    share = over(eigs, eigs + ridge)
    if multiplicity is None:
        return jnp.sum(share, axis=-1)
    alike = multiplicity.shape == eigs.shape[-1:]
    require(alike, "multiplicity", multiplicity.shape, f"have {eigs.shape[-1]} entries", "pass one for each eigenvalue")
    counts = nonnegative("multiplicity", multiplicity, "count the modes of each eigenvalue").astype(eigs.dtype)
    return jnp.tensordot(share, counts, 1, precision="highest")


def as_spectrum(eigs: Float[Array, "... modes"]) -> Float[Array, "... modes"]:
    """Eigenvalues ≥ 0: below 0 by rounding, 10 modes ε max|λ|, they are 0; lower ones are refused (NaN inside jit).

    >>> as_spectrum(jnp.array([1.0, -1e-7]))
    Array([1., 0.], dtype=float32)
    """
    require(eigs.shape[-1] >= 1, "eigs", f"shape {eigs.shape}", "hold at least one eigenvalue", "pass a spectrum")
    rounding = 10 * eigs.shape[-1] * float(jnp.finfo(eigs.dtype).eps)

    def sound(values: Any) -> Any:
        size = abs(values).max(axis=-1, keepdims=True)
        return (values >= -rounding * size) & (abs(values) < jnp.inf)

    eigs = constrain("eigs", eigs, sound, "be >= 0 and finite", "pass the eigenvalues of a covariance")
    return jnp.where(eigs < 0, jnp.zeros_like(eigs), eigs)


@boundary
def empirical_spectrum(gram: Float[Array, "n n"]) -> Float[Array, " n"]:
    r"""Eigenvalues of K/n, descending: estimates of the eigenvalues of the kernel's integral operator.

    They differ from the operator's by O(n^(−1/2)) in ℓ². Derivatives of repeated eigenvalues are those of some order of
    them: only functions symmetric in these have one. NaN for an asymmetric matrix.

    Raises ValueError for a matrix that is not square or has no rows. Cost: ≈ 4 n³/3 flops, 2 n² memory.
    Source: Koltchinskii and Giné (2000), Theorem 3.1.

    >>> f"{empirical_spectrum(jnp.ones((2, 2)))[0]:.4f}"
    '1.0000'
    """
    square = gram.shape[0] == gram.shape[1] >= 1
    require(square, "gram", f"shape {gram.shape}", "be square with at least one row", "pass K(x, x)")
    return _spectrum(gram)


@jax.jit
def _spectrum(gram: Array) -> Array:
    unit = power_of_two(gram)
    scaled = gram / unit
    scaled = jnp.where(asymmetric(scaled, scaled.T), jnp.full_like(scaled, jnp.nan), scaled)
    return jnp.linalg.eigvalsh((scaled + scaled.T) / 2)[::-1] / gram.shape[0] * unit


@boundary(static=("order", "probes", "block"))
def lanczos_density(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."] | None,
    key: Key[Array, ""],
    *,
    order: int = 30,
    probes: int = 8,
    block: int = 2048,
) -> SpectralDensity:
    r"""Stochastic Lanczos quadrature of K = kernel(x, x), which is never formed.

    A probe of ±1 entries starts `order` steps of Lanczos with full reorthogonalization; the eigenpairs (θ, v) of K in
    their basis give nodes θ and weights n v_1²: exact for polynomials of degree 2 order − 1 in the probe's measure, and
    for all functions where K has fewer distinct eigenvalues than `order`. `spectra.spectral_density` is the same of any
    operator, with weights that sum to one.

    Args:
        kernel, x: a kernel function and n points, or a Gram matrix and None.
        order: Lanczos steps, 1 ≤ order ≤ n.
        probes: independent starts.

    Returns:
        `SpectralDensity`, for `spectral_sum`; NaN for a Gram matrix that is asymmetric or not finite. In forward mode
        and reverse its derivatives are those of the iteration.

    Raises:
        ValueError: order or probes out of range, no kernel, no points.

    Cost: probes · order products with K (n²/2 kernel evaluations each), memory 2 n order + block².
    Source: Ubaru, Chen, Saad (2017), Algorithm 1.

    >>> density = lanczos_density(jnp.diag(jnp.arange(1.0, 9.0)), None, jax.random.key(0), order=3)
    >>> f"{spectral_sum(density, lambda v: v).value:.1f}"
    '36.0'
    """
    wrapped, x = as_kernel(kernel, x)
    n = x.shape[0]
    require(1 <= order <= n, "order", order, f"lie in 1..{n}, the number of points", "use a smaller order")
    require(probes >= 1, "probes", probes, "be at least 1", "use 8 for a standard error")
    # a Gram matrix is multiplied as it is: gathering its entries block by block would cost more than the product
    matrix = None if callable(kernel) else wrapped(x, x)
    return _density(wrapped, x, matrix, key, order, probes, block=block)


@boundary
def spectral_sum(density: SpectralDensity, function: Callable[[Array], Array]) -> Estimate:
    """tr f(K) = Σ f(λ_i) from a density: mean over probes and its standard error (NaN for one probe).

    Args:
        density: of `lanczos_density`, or nodes and weights [probes order]. function: f, elementwise.

    Raises ValueError for what is no density or no function. Cost: probes · order.

    >>> density = SpectralDensity(jnp.ones((2, 1)), jnp.full((2, 1), 3.0))
    >>> f"{spectral_sum(density, jnp.exp).value:.3f}"
    '8.155'
    """
    nodes, weights = (jnp.asarray(quantity(name, values)) for name, values in density._asdict().items())
    require(nodes.ndim == 2, "nodes", f"shape {nodes.shape}", "be of shape [probes order]", "pass a row for each probe")
    alike = weights.shape == nodes.shape
    require(alike, "weights", f"shape {weights.shape}", f"have the shape of nodes, {nodes.shape}", "pass one each")
    values = returned("function", function(nodes), nodes.shape, whole=nodes.dtype)
    sums = jnp.where(jnp.isfinite(nodes).all(axis=1), jnp.sum(weights * values, axis=1), jnp.nan)
    spread = standard_error(sums) if sums.shape[0] > 1 else jnp.full((), jnp.nan, sums.dtype)
    return Estimate(sums.mean(), spread)


@partial(jax.jit, static_argnames=("order", "probes", "block"))
def _density(
    kernel: Kernel, x: Array, matrix: Array | None, key: Key[Array, ""], order: int, probes: int, *, block: int
) -> SpectralDensity:
    n, dtype = x.shape[0], jax.eval_shape(kernel, x[:1], x[:1]).dtype
    unit = power_of_two(diagonal(kernel, x))
    if matrix is not None:
        matrix = jnp.where(asymmetric(matrix / unit, matrix.T / unit), jnp.full_like(matrix, jnp.nan), matrix)

    def product(v: Array) -> Array:
        found = matvec(kernel, x, v, block) if matrix is None else jnp.matmul(matrix, v, precision="highest")
        return found / unit

    density = quadrature(product, n, dtype, key, probes, order)
    return SpectralDensity(density.nodes * unit, n * density.weights)
