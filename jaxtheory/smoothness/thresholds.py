r"""Thresholds that read the data: the noise from the finest details, minimax thresholds, blocks, and a choice per band.

`estimation` holds the thresholds at a known σ and their risks; here are the choices that practice needs on top.
"""

import math
from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory import guarded
from jaxtheory.checks import boundary, nonnegative, positive, require
from jaxtheory.smoothness.estimation import sure, threshold, universal
from jaxtheory.smoothness.wavelets import Coefficients, floating, level

Choice = Literal["universal", "minimax", "sure", "block"]
_QUARTILE = 0.6744897501960817  # Φ^{-1}(3/4)
_BLOCK_LEVEL = 4.505241495792885  # λ − log λ = 3


@boundary
def mad(y: Float[Array, "..."]) -> Float[Array, ""]:
    r"""The standard deviation of Gaussian noise from a median: σ̂ = median |y_i| / Φ^{−1}(3/4).

    Of the finest details of a wavelet transform, most of which hold noise alone, it is σ up to the few that do not. Its
    standard error for m entries of noise is 1.17 σ/√m.

    Args:
        y: m ≥ 1 entries, e.g. `coefficients.details[-1]`.

    Returns:
        σ̂; NaN where an entry is not finite. The derivative is that of the middle entries.

    Raises:
        ValueError: no entries. Cost: one sort. Source: Hampel (1974); Donoho and Johnstone (1994), section 4.

    >>> f"{mad(jnp.array([0.6745, -0.6745, 100.0, 0.1, -0.7])):.3f}"
    '1.000'
    """
    require(y.size >= 1, "y", y.shape, "hold an entry", "pass the finest details")
    return _mad(y)


@jax.jit
def _mad(y: Array) -> Array:
    size = jnp.sort(jnp.abs(y).ravel())
    middle = (size[(y.size - 1) // 2] / 2 + size[y.size // 2] / 2) / _QUARTILE
    return jnp.where(jnp.isfinite(y).all(), middle, jnp.full_like(middle, jnp.nan))


@boundary(static=("size",))
def minimax(size: int, sigma: float | Float[Array, ""]) -> Float[Array, ""]:
    r"""The soft threshold λ*σ that is minimax against the oracle that knows which of n coefficients exceed the noise.

        λ* minimizes sup_μ r(μ; λ)/(1/n + min(μ², 1)),   r(μ; λ) = E(soft_λ(μ + z) − μ)²

    The supremum is taken at 0 or at ∞, so that (n + 1) r(0; λ*) = 1 + λ*². It is below √(2 log n), and its risk too:

    | n | 64 | 128 | 256 | 512 | 1024 | 2048 | 4096 | 8192 | 16384 | 32768 | 65536 |
    | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
    | λ* | 1.474 | 1.669 | 1.859 | 2.045 | 2.226 | 2.403 | 2.575 | 2.743 | 2.906 | 3.066 | 3.221 |

    Args:
        size: n ≥ 1. sigma: σ ≥ 0.

    Raises:
        ValueError: size < 1 or traced, σ < 0 (outside jit; NaN inside).

    Cost: a root on the host, kept. Source: Donoho and Johnstone (1994), section 2.2 and Table 2.

    >>> f"{minimax(1024, 1.0):.3f}"
    '2.226'
    """
    require(size >= 1, "size", size, "be >= 1", "pass the number of coefficients")
    return jnp.asarray(_minimax(size) * nonnegative("sigma", sigma, "pass a standard deviation"))


@lru_cache
def _minimax(size: int) -> float:
    from scipy.optimize import brentq  # here, so that smoothness can be imported without it

    node, weight = np.polynomial.legendre.leggauss(80)
    u = 5 * (node + 1)

    def excess(t: float) -> float:
        # r(0; t) = 2 φ(t) ∫_0^∞ u² e^{−tu − u²/2} du, which does not cancel
        null = 2 * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi) * np.sum(5 * weight * u**2 * np.exp(-t * u - u**2 / 2))
        return float((size + 1) * null - (1 + t**2))

    return float(brentq(excess, 0.0, math.sqrt(2 * math.log(size + 1)) + 1, xtol=1e-13))


@boundary(static=("block",))
def block_js(
    y: Float[Array, "..."], sigma: float | Float[Array, ""], *, block: int | None = None
) -> Float[Array, "..."]:
    r"""James-Stein shrinkage of blocks of neighbours: y_b (1 − λ* m_b σ²/‖y_b‖²)_+, λ* − log λ* = 3, λ* ≈ 4.505.

    A block is kept or killed as a whole, by the energy of its m_b entries: it attains the minimax rates without the
    logarithm that thresholds of single coefficients pay, globally and at a point.

    Args:
        y: one level; its entries in C order are cut into blocks, the last one shorter where they do not fit.
        sigma: σ > 0 of each entry. block: L ≥ 1; by default ⌊log n⌋ of the n entries of y, at least 1. Cai's choice
            is the logarithm of the number of all coefficients.

    Returns:
        The estimate, of the shape of y; NaN in a block whose energy is not finite.

    Raises:
        ValueError: no entries, block < 1, σ ≤ 0 (outside jit; NaN inside).

    Cost: one pass. Source: Cai (1999), section 3 and Theorem 4.

    >>> [f"{value:.2f}" for value in block_js(jnp.array([10.0, 0.0, 1.0, 1.0]), 1.0, block=2)]
    ['9.10', '0.00', '0.00', '0.00']
    """
    require(y.size >= 1, "y", y.shape, "hold an entry", "pass the coefficients of a level")
    length = max(1, int(math.log(y.size))) if block is None else block
    require(length >= 1, "block", length, "be >= 1", "leave it out for log n")
    noise = positive("sigma", sigma, "pass a standard deviation")
    return _block_js(y, jnp.asarray(noise, y.dtype), length)


@partial(jax.jit, static_argnames="length")
def _block_js(y: Array, sigma: Array, length: int) -> Array:
    blocks = jnp.pad(y.ravel(), (0, -y.size % length)).reshape(-1, length)
    counts = np.full(len(blocks), float(length))
    counts[-1] = y.size - length * (len(blocks) - 1)
    energy = guarded.norm(blocks, axis=1)
    # below σ a block is killed in any case, and its quotient need not overflow
    ratio = sigma / jnp.maximum(energy, sigma)
    kept = jnp.maximum(1 - jnp.asarray(_BLOCK_LEVEL * counts, y.dtype) * ratio**2, 0)
    kept = jnp.where(jnp.isfinite(energy), kept, jnp.full_like(kept, jnp.nan))
    return (blocks * kept[:, None]).ravel()[: y.size].reshape(y.shape)


@boundary(static=("coarse",))
def denoise_bands(
    coefficients: Coefficients,
    sigma: float | Float[Array, ""] | None = None,
    method: Choice = "sure",
    *,
    coarse: int = 3,
) -> Coefficients:
    r"""Details shrunk band by band, each with its own noise and its own threshold; levels below `coarse` are kept.

    In d dimensions a level has 2^d − 1 bands. Without `sigma` the noise of each band is its `mad`: where the noise is
    correlated, its level differs from band to band, and a single σ leaves noise in some and kills signal in others.

    Args:
        coefficients: noisy. sigma: σ > 0 of each coefficient; None to estimate it in each band, which needs bands most
            of whose entries hold noise alone; a band that is 0 for the most part then has σ = 0 and is kept.
        method: "universal", "minimax" and "sure" are soft thresholds of the m entries of the band; "block" is
            `block_js` with blocks of ⌊log n⌋, n the number of all coefficients.

    Raises:
        ValueError: another method, σ ≤ 0 (outside jit; NaN inside). Cost: two sorts of each band.

    Source: Johnstone and Silverman (1997), section 2; Donoho and Johnstone (1994, 1995); Cai (1999).

    >>> noisy = Coefficients(jnp.ones(1), (jnp.ones((1, 1)), jnp.array([[9.0, 0.1]])))
    >>> [f"{value:.3f}" for value in denoise_bands(noisy, 1.0, "universal", coarse=1).details[1][0]]
    ['7.823', '0.000']
    """
    noise = None if sigma is None else positive("sigma", sigma, "pass a standard deviation, or None")
    return _denoised(floating(coefficients), noise, method, coarse)


@partial(jax.jit, static_argnames=("method", "coarse"))
def _denoised(coefficients: Coefficients, sigma: Array | float | None, method: Choice, coarse: int) -> Coefficients:
    total = coefficients.approximation.size + sum(detail.size for detail in coefficients.details)
    length = max(1, int(math.log(total)))

    def shrunk(band: Array) -> Array:
        noise = _mad(band) if sigma is None else jnp.asarray(sigma, band.dtype)
        none = noise == 0
        usual = jnp.where(none, jnp.ones_like(noise), noise)
        if method == "block":
            found = _block_js(band, usual, length)
        elif method == "sure":
            found = threshold(band, sure(band, usual), "soft")
        else:
            rule = universal if method == "universal" else minimax
            found = threshold(band, rule(band.size, usual), "soft")
        return jnp.where(none, band, found)

    parts = [d if level(d) < coarse else jnp.stack([shrunk(band) for band in d]) for d in coefficients.details]
    return Coefficients(coefficients.approximation, tuple(parts))
