r"""Regression with noise, in the sequence model y = β + σ z: thresholds, linear oracles, and minimax risks.

The wavelet transform of n noisy samples is such a sequence. Linear estimators shrink whole levels; thresholds look at
each coefficient. Where a level's energy sits in a few coefficients (p < 2) the second have the better exponent.
"""

import math
from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, ScalarLike

from jaxtheory.checks import holds, require
from jaxtheory.smoothness.wavelets import Coefficients, level

Method = Literal["hard", "soft", "sure"]
Estimator = Literal["linear", "soft", "adaptive"]
_LEVELS = 100  # the rest of the sum is below 2^{−100 · 2s'}


def threshold(y: Float[Array, "..."], at: ScalarLike, kind: Literal["hard", "soft"] = "soft") -> Float[Array, "..."]:
    r"""sgn(y)(|y| − t)_+ (soft) or y 1[|y| > t] (hard), entrywise.

    Args:
        y: any shape. at: t ≥ 0, a number or an array that broadcasts. kind: "soft" or "hard".

    Raises:
        ValueError: another kind, or t < 0 (outside jit). Cost: one pass.

    Source: Donoho and Johnstone (1994), equations (10) and (11).

    >>> threshold(jnp.array([-3.0, 0.5]), 1.0).tolist(), threshold(jnp.array([-3.0, 0.5]), 1.0, "hard").tolist()
    ([-2.0, 0.0], [-3.0, 0.0])
    """
    require(kind in ("hard", "soft"), "kind", kind, "be hard or soft", "choose one")
    require(holds(lambda t: t >= 0, at), "at", at, "be >= 0", "a threshold is a size")
    t = jnp.asarray(at, y.dtype)
    kept = y if kind == "hard" else jnp.sign(y) * (jnp.abs(y) - t)
    return jnp.where(jnp.abs(y) > t, kept, jnp.zeros_like(y))


def universal(size: int, sigma: ScalarLike) -> Float[Array, ""]:
    """σ √(2 log n), which n noises stay below with probability tending to 1.

    >>> f"{universal(1024, 1.0):.4f}"
    '3.7233'
    """
    return jnp.sqrt(2 * jnp.log(float(size))) * sigma


@jax.jit
def sure(y: Float[Array, "..."], sigma: ScalarLike) -> Float[Array, ""]:
    r"""The soft threshold that minimizes Stein's unbiased estimate of the risk, among 0 and the |y_i|:

        SURE(t) = σ² (m − 2 #{|y_i| ≤ t}) + Σ min(|y_i|, t)².

    Capped at the universal threshold, and equal to it where the level looks empty,
    Σ(y_i²/σ² − 1) ≤ √m (log2 m)^{3/2}, for there SURE's own noise decides.

    Args: y: one level. sigma: σ > 0 of each entry.

    Cost: one sort. Source: Donoho and Johnstone (1995), sections 2.2 and 2.4.

    >>> f"{sure(jnp.array([9.0, -8.0, 7.0, 6.0]), 1.0):.1f}"
    '0.0'
    """
    m = y.size
    noise = jnp.asarray(sigma, y.dtype)
    size = jnp.concatenate([jnp.zeros(1, y.dtype), jnp.sort(jnp.abs(y.ravel()))])
    rank = jnp.arange(m + 1, dtype=y.dtype)
    estimate = noise**2 * (m - 2 * rank) + jnp.cumsum(size**2) + (m - rank) * size**2
    at = universal(max(m, 2), noise)
    sparse = jnp.sum(y**2) / noise**2 - m <= math.sqrt(m) * math.log2(max(m, 2)) ** 1.5
    return jnp.where(sparse, at, jnp.minimum(size[jnp.argmin(estimate)], at))


def denoise(coefficients: Coefficients, sigma: ScalarLike, method: Method = "sure", *, coarse: int = 3) -> Coefficients:
    """Thresholded details, level by level; levels below `coarse`, and the averages, are kept as they are.

    Args:
        coefficients: noisy, each with noise of standard deviation `sigma`.
        sigma: σ > 0; of samples/√n it is σ_noise/√n.
        method: "hard" and "soft" at the universal threshold of all n, or "sure", soft at each level's own.

    Raises:
        ValueError: another method, or sigma that is not > 0 (outside jit). Cost: one sort of each level.

    Source: Donoho and Johnstone (1994), section 2.3, (1995), section 2.4.

    >>> noisy = Coefficients(jnp.ones(1), (jnp.ones((1, 1)), jnp.full((1, 2), 0.1)))
    >>> denoise(noisy, 1.0, "soft", coarse=0).details[1].tolist()
    [[0.0, 0.0]]
    """
    require(method in ("hard", "soft", "sure"), "method", method, "be hard, soft or sure", "choose one")
    require(holds(lambda s: s > 0, sigma), "sigma", sigma, "be > 0", "pass a standard deviation")
    return _denoised(coefficients, sigma, method, coarse)


@partial(jax.jit, static_argnames=("method", "coarse"))
def _denoised(coefficients: Coefficients, sigma: ScalarLike, method: Method, coarse: int) -> Coefficients:
    size = coefficients.approximation.size + sum(detail.size for detail in coefficients.details)

    def shrunk(detail: Array) -> Array:
        if level(detail) < coarse:
            return detail
        at = sure(detail, sigma) if method == "sure" else universal(size, sigma)
        return threshold(detail, at, "hard" if method == "hard" else "soft")

    return Coefficients(coefficients.approximation, tuple(map(shrunk, coefficients.details)))


@jax.jit
def linear_oracle(noisy: Coefficients, truth: Coefficients, sigma: ScalarLike) -> Coefficients:
    r"""The best linear shrinkage of whole levels, w_j = E_j/(E_j + m_j σ²), E_j = ‖β_j‖² of the truth.

    The fair linear arm: kernel ridge, splines, projections and any other method whose weights depend on the scale
    alone have at least its risk. Weights for single coefficients would be an oracle that knows where the jumps are.

    Cost: one pass. Source: Pinsker (1980); Donoho, Liu, MacGibbon (1990), section 2.

    >>> ones = Coefficients(jnp.ones(1), (jnp.ones((1, 1)),))
    >>> linear_oracle(ones, ones, 1.0).details[0].tolist()
    [[0.5]]
    """
    variance = jnp.asarray(sigma, noisy.approximation.dtype) ** 2

    def shrunk(y: Array, beta: Array) -> Array:
        energy = jnp.sum(beta**2)
        return y * energy / (energy + beta.size * variance)

    return jax.tree.map(shrunk, noisy, truth)


@jax.jit
def linear_oracle_risk(truth: Coefficients, sigma: ScalarLike) -> Float[Array, ""]:
    """E‖`linear_oracle` − β‖² = Σ_j E_j m_j σ²/(E_j + m_j σ²), exactly.

    >>> float(linear_oracle_risk(Coefficients(jnp.ones(1), ()), 1.0))
    0.5
    """
    parts = jax.tree.leaves(truth)
    energy = jnp.stack([jnp.sum(beta**2) for beta in parts])
    noise = jnp.asarray([beta.size for beta in parts], energy.dtype) * jnp.asarray(sigma, energy.dtype) ** 2
    return jnp.sum(energy * noise / (energy + noise))


@jax.jit
def ideal_risk(truth: Coefficients, sigma: ScalarLike) -> Float[Array, ""]:
    """Σ min(β², σ²), the risk of keeping exactly the coefficients above the noise: what thresholds come close to.

    Source: Donoho and Johnstone (1994), equation (8).

    >>> float(ideal_risk(Coefficients(jnp.array([3.0, 0.5]), ()), 1.0))
    1.25
    """
    parts = jax.tree.leaves(truth)
    return jnp.sum(jnp.stack([jnp.sum(jnp.minimum(b**2, jnp.asarray(sigma, b.dtype) ** 2)) for b in parts]))


@jax.jit
def ridge_risks(
    gram: Float[Array, "n n"], signal: Float[Array, " n"], sigma: ScalarLike, ridges: Float[Array, " r"]
) -> Float[Array, " r"]:
    r"""Exact risks E‖f̂ − f‖²/n at the design of kernel ridge regression, for every ridge from one eigendecomposition.

    With K = U diag(κ) Uᵀ and c = Uᵀ f:  n · risk = Σ (λ/(κ + λ))² c² + σ² Σ (κ/(κ + λ))².

    Args:
        gram: K. signal: f at the design, without noise. sigma: σ of the noise. ridges: λ > 0, added to K.

    Cost: ≈ 9 n³ flops. Source: Wahba (1990), section 4.4.

    >>> float(ridge_risks(jnp.eye(2), jnp.ones(2), 1.0, jnp.ones(1))[0])
    0.5
    """
    kappa, u = jnp.linalg.eigh((gram + gram.T) / 2)
    c = jnp.matmul(u.T, signal, precision="highest")
    kept = kappa[None, :] / (kappa[None, :] + ridges[:, None])
    variance = jnp.asarray(sigma, gram.dtype) ** 2
    return jnp.mean((1 - kept) ** 2 * (c**2)[None, :] + variance * kept**2, axis=1)


def minimax_risk(
    s: float, p: float, n: Float[Array, " sizes"], *, estimator: Estimator = "adaptive"
) -> Float[Array, " sizes"]:
    r"""Worst risk over the unit ball of B^s_{p,∞} (d = 1) with noise ε² = 1/n, level by level, without simulation.

    Level j has m = 2^j coefficients and the ball ‖β_j‖_p ≤ r = 2^{−j(s + 1/2 − 1/p)}; with R² = r² m^{(1 − 2/p)_+}:

    - "linear", the exact linear minimax risk: Σ_j m ε² R²/(m ε² + R²)
    - "soft", the best soft threshold of each level, worst case over the ball (in the mean, as m → ∞):
      Σ_j m ε² min_t sup_{μ ≥ η} [ρ_t(0) + (η/μ)^p (ρ_t(μ) − ρ_t(0))], η = r m^{−1/p}/ε, ρ_t the risk at N(μ, 1)
    - "adaptive", the benchmark sup Σ min(β², ε²): Σ_j min(m ε², r^p ε^{2−p}, r²) for p < 2, min(m ε², R²) for p ≥ 2

    Args:
        s: > (1/p − 1/2)_+. p: in (0, ∞]. n: sample sizes, ≥ 1; exponents are for large ones. estimator: above.

    Raises:
        ValueError: s or p out of range, another estimator. Cost: O(levels) a size; "soft" a grid of 49 × 200.

    Source: Donoho, Liu, MacGibbon (1990), Theorems 6-7 (linear); Donoho and Johnstone (1994, 1998), Theorem 1 (others).

    >>> risk = minimax_risk(1.0, 1.0, 2.0 ** jnp.array([20.0, 21.0]), estimator="linear")
    >>> f"{jnp.log2(risk[1] / risk[0]):.2f}"
    '-0.50'
    """
    lost = max(0.0, 1 / p - 0.5) if p > 0 else math.nan
    require(p > 0, "p", p, "lie in (0, inf]", "use math.inf for the sup norm")
    require(s > lost, "s", s, f"be > (1/p − 1/2)_+ = {lost:g}", "ask for more smoothness or a larger p")
    known = estimator in ("linear", "soft", "adaptive")
    require(known, "estimator", estimator, "be linear, soft or adaptive", "choose one")
    return _minimax_risk(s, p, n, estimator)


@partial(jax.jit, static_argnames=("s", "p", "estimator"))
def _minimax_risk(s: float, p: float, n: Array, estimator: Estimator) -> Array:
    """Sums over levels in logarithms of base 2: sizes reach 2^{100}."""
    j = jnp.arange(_LEVELS, dtype=n.dtype)[None, :]
    noise = -jnp.log2(n)[:, None]
    radius = -j * (s + 0.5 - 1 / p)
    spread = 2 * radius + j * max(0.0, 1 - 2 / p)
    if estimator == "linear":
        return jnp.sum(1 / (2 ** -(j + noise) + 2**-spread), axis=1)
    if estimator == "adaptive":
        sparse = jnp.minimum(p * radius + (1 - p / 2) * noise, 2 * radius) if p < 2 else spread
        return jnp.sum(2 ** jnp.minimum(j + noise, sparse), axis=1)
    eta, single = radius - j / p - noise / 2, radius - noise / 2
    return jax.lax.map(lambda row: jnp.sum(_soft_level(p, j[0], *row)), (noise, eta, single))


def _soft_level(p: float, j: Array, noise: Array, eta: Array, single: Array) -> Array:
    """The soft-threshold term of every level: [levels] from log2 of m, ε², η and r/ε."""
    low = 2**eta
    high = jnp.minimum(2**single, jnp.maximum(low, jnp.full_like(low, 30.0)))
    bottom = jnp.maximum(low, high * 1e-3)
    fractions = jnp.linspace(0, 1, 200, dtype=j.dtype)
    mu = bottom[:, None] * (high / bottom)[:, None] ** fractions[None, :]
    t, at_zero = (jnp.asarray(part, j.dtype)[:, None, None] for part in _at_zero())
    rise = jnp.maximum(_soft_risk(t, mu[None]) - at_zero, 0)
    chord = at_zero + (low[:, None] / mu)[None] ** p * rise
    worst = jnp.min(jnp.max(chord, axis=2), axis=0)
    nothing = 2.0 ** (2 * single if p < 2 else j + 2 * eta)  # t = ∞: the ball's largest ‖μ‖²
    return 2**noise * jnp.minimum(2**j * worst, nothing)


@lru_cache
def _at_zero() -> tuple[np.ndarray, np.ndarray]:
    """Thresholds t, and ρ_t(0) = 2 φ(t) ∫_0^∞ u² e^{−tu − u²/2} du by quadrature: the closed form cancels."""
    node, weight = np.polynomial.legendre.leggauss(80)
    u = 5 * (node + 1)
    t = np.linspace(0, 12, 49)
    integral = (5 * weight * u**2 * np.exp(-t[:, None] * u - u**2 / 2)).sum(axis=1)
    return t, 2 * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi) * integral


def _soft_risk(t: Array, mu: Array) -> Array:
    """ρ_t(μ) = E(soft_t(μ + z) − μ)². Source: Donoho and Johnstone (1994), appendix 2."""
    cdf, pdf = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm.pdf
    inside = cdf(t - mu) - cdf(-t - mu)
    return 1 + t**2 + (mu**2 - t**2 - 1) * inside - (t - mu) * pdf(t + mu) - (t + mu) * pdf(t - mu)
