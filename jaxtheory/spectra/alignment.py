"""Kernels compared with one another and with targets: cosines of matrices, and the entropy of a spectrum."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, require
from jaxtheory.guarded import norm, power_of_two


@boundary
def effective_rank(eigenvalues: Float[Array, " n"]) -> Float[Array, ""]:
    """exp of the entropy of λ/Σλ: n for a flat spectrum, 1 for a single direction.

    Args:
        eigenvalues: λ ≥ 0, one at least; negative ones, which are rounding, count as 0.

    Returns:
        A number within 1..n; NaN where all eigenvalues are 0 or one is not finite. Eigenvalues that are 0 have no
        derivative (it is infinite), and 0 is returned for it.

    Cost: O(n). Source: Roy and Vetterli (2007).

    >>> f"{effective_rank(jnp.array([2.0, 2.0, 0.0])):.4f}"
    '2.0000'
    """
    require(len(eigenvalues) >= 1, "eigenvalues", len(eigenvalues), "hold at least one", "pass a spectrum")
    units = eigenvalues / power_of_two(eigenvalues)
    # −∞ is not a rounding error
    positive = jnp.where(units > 0, units, jnp.where(jnp.isfinite(units), jnp.zeros_like(units), jnp.nan))
    share = positive / positive.sum()
    return jnp.exp(-jnp.where(share == 0, 0, share * jnp.log(jnp.where(share == 0, 1, share))).sum())


@boundary
def alignment(kernel1: Float[Array, "n n"], kernel2: Float[Array, "n n"]) -> Float[Array, ""]:
    """Cosine ⟨K1, K2⟩ / (‖K1‖ ‖K2‖) of two matrices, of any scales.

    Returns:
        A number within −1..1 up to rounding; NaN where a kernel is 0.

    Raises:
        ValueError: shapes that differ.

    Cost: O(n²). Source: Cristianini, Shawe-Taylor, Elisseeff, Kandola (2001).

    >>> f"{alignment(jnp.eye(2), jnp.ones((2, 2))):.4f}"
    '0.7071'
    """
    told = f"have the shape of kernel1, {kernel1.shape}"
    require(kernel1.shape == kernel2.shape, "kernel2", kernel2.shape, told, "evaluate both at the same points")
    return _cosine(kernel1, kernel2)


@boundary
def target_alignment(kernel: Float[Array, "n n"], targets: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Alignment of a kernel with the targets' own, YYᵀ: Σ_k y_kᵀ K y_k / (‖K‖ ‖YᵀY‖).

    Args:
        kernel: K.
        targets: real targets, or one-hot labels; further axes are outputs k.

    Returns:
        A number within −1..1; NaN where the kernel or all targets are 0.

    Raises:
        ValueError: another number of targets than of rows.

    Cost: O(n² outputs). Source: Cristianini, Shawe-Taylor, Elisseeff, Kandola (2001).

    >>> f"{target_alignment(jnp.eye(2), jnp.array([1.0, 1.0])):.4f}"
    '0.7071'
    """
    pairs = kernel.shape == (len(targets), len(targets))
    require(pairs, "targets", len(targets), f"pair with a kernel of shape {kernel.shape}", "pass one target a point")
    flat = targets.reshape(len(targets), -1) / power_of_two(targets)
    return _cosine(kernel, jnp.matmul(flat, flat.T, precision="highest"))


@boundary
def centered_alignment(kernel1: Float[Array, "n n"], kernel2: Float[Array, "n n"]) -> Float[Array, ""]:
    """Alignment of HK1H and HK2H, H = I − 11ᵀ/n: 1 for the same kernel up to scale and offset.

    Returns:
        A number within −1..1; NaN where a centered kernel is 0.

    Raises:
        ValueError: shapes that differ, or fewer than two points.

    Cost: O(n²). Source: Cortes, Mohri, Rostamizadeh (2012); Kornblith et al. (2019).

    >>> kernel = jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    >>> f"{centered_alignment(kernel, 2 * kernel + 5):.4f}"
    '1.0000'
    """
    require(len(kernel1) >= 2, "kernel1", kernel1.shape, "have at least two rows", "pass more points")
    return alignment(_centered(kernel1), _centered(kernel2))


def _cosine(kernel1: Array, kernel2: Array) -> Array:
    first, second = (kernel / power_of_two(kernel) for kernel in (kernel1, kernel2))
    return jnp.vdot(first, second, precision="highest") / (norm(first) * norm(second))


def _centered(kernel: Array) -> Array:
    # one entry first: the difference of near numbers is exact
    near = kernel / power_of_two(kernel)
    near = near - near[0, 0]
    rows = near - near.mean(0, keepdims=True)
    return rows - rows.mean(1, keepdims=True)
