r"""Local Rademacher complexity of kernel balls: the fast rate that the eigenvalues of a kernel allow."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, nonnegative, positive
from jaxtheory.guarded import power_of_two, root
from jaxtheory.kernels.spectra import as_spectrum


class LocalComplexity(NamedTuple):
    """The fixed point r*, to which the excess risk is proportional, and how many eigenvalues are above it."""

    fixed_point: Float[Array, "..."]
    modes: Int[Array, "..."]


@boundary
def local_rademacher(
    eigs: Float[Array, " modes"], n: float | Float[Array, ""], variance: float | Float[Array, ""]
) -> Float[Array, ""]:
    r"""ψ(r) = √((2/n) Σ_i min(r, λ_i)), a bound of the Rademacher complexity of {‖f‖_H ≤ 1, E f² ≤ r}.

    The complexity itself is above c ψ(r) with an absolute constant c where λ_1 ≥ 1/n and r ≥ 1/n, so it decides.

    Args:
        eigs: λ_i ≥ 0 of the integral operator of the kernel under the law of the inputs (for a Gram matrix, those of
            K/n), any order; for the ball ‖f‖_H ≤ B pass B² λ_i. n: > 0, examples. variance: r ≥ 0.

    Raises:
        ValueError: numbers out of these ranges or not finite (outside jit; NaN inside). Cost: O(modes).

    Source: Mendelson (2002), Theorem 2.1; Bartlett, Bousquet, Mendelson (2005), section 6.3.

    >>> f"{local_rademacher(jnp.array([1.0, 0.25]), 8, 0.5):.4f}"
    '0.4330'
    """
    spectrum = as_spectrum(eigs)
    size = jnp.asarray(_examples(n), spectrum.dtype)
    most = jnp.asarray(nonnegative("variance", variance, "pass a bound of the mean square"), spectrum.dtype)
    return _psi(spectrum, size, most)


@jax.jit
def _psi(eigs: Array, n: Array, variance: Array) -> Array:
    parts = jnp.minimum(variance, eigs)
    unit = power_of_two(parts)
    # roots first: small numbers over a large n underflow
    return jnp.sqrt(2 * jnp.sum(parts / unit)) / jnp.sqrt(n) * jnp.sqrt(unit)


@boundary
def local_complexity(eigs: Float[Array, " modes"], n: float | Float[Array, "..."]) -> LocalComplexity:
    r"""The fixed point r* = ψ(r*) of ψ(r) = √((2/n) Σ_i min(r, λ_i)), in closed form.

    Since Σ_i min(r, λ_i) = min_k (k r + Σ_{i>k} λ_i) with λ in decreasing order,

        r* = min_k [k + √(k² + 2n Σ_{i>k} λ_i)]/n

    which for λ_i ~ i^{−b} is of order n^{−b/(b+1)}, where the global complexity gives n^{−1/2}. By Corollary 5.3 of the
    source, empirical risk minimization over the ball with a loss that is Lipschitz and strongly convex in bounded
    predictions has, with probability 1 − e^{−x}, an excess risk below c (r* + x/n), c depending on the loss and
    on the bound.

    Args:
        eigs: λ_i ≥ 0 of the integral operator, as in `local_rademacher`; eigenvalues that are cut off lower r*.
        n: > 0, examples, any shape.

    Returns:
        `LocalComplexity` of the shape of n: r*, and k with λ_k ≥ r* > λ_{k+1}. r* is 0 only where all λ are.

    Raises:
        ValueError: numbers out of range or not finite (outside jit; NaN inside).

    Cost: one sort, and O(modes) for each n; memory modes times the number of n. Derivatives are those at the minimum.
    Source: Bartlett, Bousquet, Mendelson (2005), sections 5.2 and 6.3.

    >>> found = local_complexity(1.0 / jnp.arange(1.0, 10001.0) ** 2, jnp.array([1e3, 8e3]))
    >>> f"{jnp.log(found.fixed_point[1] / found.fixed_point[0]) / jnp.log(8.0):.2f}"
    '-0.66'
    """
    spectrum = as_spectrum(eigs)
    return LocalComplexity(*_fixed_point(spectrum, jnp.asarray(_examples(n), spectrum.dtype)))


@jax.jit
def _fixed_point(eigs: Array, n: Array) -> tuple[Array, Array]:
    ordered = jnp.sort(eigs)
    sums = jnp.cumsum(ordered)  # from the smallest, so that small tails keep their digits
    tails = jnp.append(sums[::-1], jnp.zeros_like(sums[:1]))
    k = jnp.arange(len(tails), dtype=eigs.dtype)

    def at(size: Array) -> tuple[Array, Array]:
        # √(k² + 2nT) without squares of large numbers
        left = root(2 * tails) / jnp.sqrt(size)  # the quotient of small tails and a large n underflows
        large = jax.lax.stop_gradient(jnp.maximum(k / size, left))
        usual = jnp.where(large > 0, large, jnp.ones_like(large))
        radius = k / size + usual * root((k / size / usual) ** 2 + (left / usual) ** 2)
        found = radius[jnp.argmin(radius)]
        return found, jnp.sum((eigs >= found) & (eigs > 0), dtype=jnp.int32)

    flat = jax.lax.map(at, n.ravel())
    bad = jnp.isnan(eigs).any()
    found = jnp.where(bad, jnp.full_like(flat[0], jnp.nan), flat[0])
    return found.reshape(n.shape), flat[1].reshape(n.shape)


def _examples(n: float | Array) -> float | Array:
    return positive("n", n, "pass the number of examples")
