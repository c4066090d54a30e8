r"""Regression with noise, in the sequence model y = β + σ z: thresholds, linear oracles, and minimax risks.

The wavelet transform of n noisy samples is such a sequence. Where signs and places within a level are not known, the
best linear estimators shrink whole levels; thresholds look at each coefficient. Where the energy of a level sits in a
few coefficients (p < 2) the second have the better exponent.
"""

import math
from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, nonnegative, positive, require
from jaxtheory.smoothness.wavelets import Coefficients, floating, level, ravel

Method = Literal["hard", "soft", "sure"]
Estimator = Literal["linear", "soft", "adaptive"]
Number = float | Float[Array, ""]


@boundary
def threshold(
    y: Float[Array, "..."], at: float | Float[Array, "..."], kind: Literal["hard", "soft"] = "soft"
) -> Float[Array, "..."]:
    r"""sgn(y)(|y| − t)_+ (soft) or y 1[|y| > t] (hard), entrywise.

    Args:
        y: any shape. at: t ≥ 0, a number or an array that broadcasts; ∞ leaves nothing. kind: "soft" or "hard".

    Raises:
        ValueError: another kind, or t < 0 (outside jit; NaN inside). Cost: one pass.

    Source: Donoho and Johnstone (1994), equations (10) and (11).

    >>> threshold(jnp.array([-3.0, 0.5]), 1.0).tolist(), threshold(jnp.array([-3.0, 0.5]), 1.0, "hard").tolist()
    ([-2.0, 0.0], [-3.0, 0.0])
    """
    t = jnp.asarray(constrain("at", at, lambda t: t >= 0, "be >= 0", "pass the size of a threshold"), y.dtype)
    kept = y if kind == "hard" else jnp.sign(y) * (jnp.abs(y) - t)
    small = jnp.abs(y) <= t  # false for NaN, which is kept
    return jnp.where(jnp.isnan(t), t, jnp.where(small, jnp.zeros_like(kept), kept))


@boundary(static=("size",))
def universal(size: int, sigma: Number) -> Float[Array, ""]:
    """σ √(2 log n), which n noises stay below with probability tending to 1.

    Args:
        size: n ≥ 1. sigma: σ ≥ 0.

    Raises:
        ValueError: n < 1, or σ < 0 (outside jit; NaN inside). Source: Donoho and Johnstone (1994), equation (13).

    >>> f"{universal(1024, 1.0):.4f}"
    '3.7233'
    """
    require(size >= 1, "size", size, "be >= 1", "pass the number of coefficients")
    return jnp.asarray(math.sqrt(2 * math.log(size)) * nonnegative("sigma", sigma, "pass a standard deviation"))


@boundary
def sure(y: Float[Array, "..."], sigma: Number) -> Float[Array, ""]:
    r"""The soft threshold that minimizes Stein's unbiased estimate of the risk, among 0 and the |y_i|:

        SURE(t) = σ² (m − 2 #{|y_i| ≤ t}) + Σ min(|y_i|, t)².

    Capped at the universal threshold, and equal to it where the level looks empty,
    Σ(y_i²/σ² − 1) ≤ √m (log2 m)^{3/2}, since there the noise of the estimate decides.

    Args:
        y: one level, m ≥ 1 entries. sigma: σ > 0 of each entry.

    Raises:
        ValueError: no entries, or σ ≤ 0 (outside jit; NaN inside). Entries that are not finite give NaN.

    Cost: one sort. Source: Donoho and Johnstone (1995), sections 2.2 and 2.4.

    >>> f"{sure(jnp.array([9.0, -8.0, 7.0, 6.0]), 1.0):.1f}"
    '0.0'
    """
    m = y.size
    require(m >= 1, "y", y.shape, "hold an entry", "pass the coefficients of a level")
    return _sure(y, jnp.asarray(positive("sigma", sigma, "pass a standard deviation"), y.dtype))


@jax.jit
def _sure(y: Array, noise: Array) -> Array:
    m, scaled = y.size, y.ravel() / noise
    # candidates far above the cap never win, and their squares would overflow
    size = jnp.concatenate([jnp.zeros(1, y.dtype), jnp.sort(jnp.minimum(jnp.abs(scaled), 1e6))])
    rank = jnp.arange(m + 1, dtype=y.dtype)
    estimate = (m - 2 * rank) + jnp.cumsum(size**2) + (m - rank) * size**2
    most = jnp.asarray(universal(max(m, 2), 1.0), y.dtype)
    sparse = jnp.sum(size**2) - m <= math.sqrt(m) * math.log2(max(m, 2)) ** 1.5
    best = noise * jnp.where(sparse, most, jnp.minimum(size[jnp.argmin(estimate)], most))
    return jnp.where(jnp.isfinite(scaled).all(), best, jnp.full_like(best, jnp.nan))


@boundary(static=("coarse",))
def denoise(coefficients: Coefficients, sigma: Number, method: Method = "sure", *, coarse: int = 3) -> Coefficients:
    """Thresholded details, level by level; levels below `coarse`, and the averages, are kept as they are.

    Args:
        coefficients: noisy, each with noise of standard deviation `sigma`.
        sigma: σ > 0; of samples/√n it is σ_noise/√n.
        method: "hard" and "soft" at the universal threshold of all n, or "sure", soft at each level's own.

    Raises:
        ValueError: another method, or sigma that is not > 0 (outside jit; NaN inside). Cost: one sort of each level.

    Source: Donoho and Johnstone (1994), section 2.3, (1995), section 2.4.

    >>> noisy = Coefficients(jnp.ones(1), (jnp.ones((1, 1)), jnp.full((1, 2), 0.1)))
    >>> denoise(noisy, 1.0, "soft", coarse=0).details[1].tolist()
    [[0.0, 0.0]]
    """
    noise = constrain("sigma", sigma, lambda s: (s > 0) & (s < math.inf), "be > 0", "pass a standard deviation")
    return _denoised(floating(coefficients), noise, method, coarse)


@partial(jax.jit, static_argnames=("method", "coarse"))
def _denoised(coefficients: Coefficients, sigma: Number, method: Method, coarse: int) -> Coefficients:
    size = coefficients.approximation.size + sum(detail.size for detail in coefficients.details)

    def shrunk(detail: Array) -> Array:
        if level(detail) < coarse:
            return detail
        at = sure(detail, sigma) if method == "sure" else universal(size, sigma)
        return threshold(detail, at, "hard" if method == "hard" else "soft")

    return Coefficients(coefficients.approximation, tuple(map(shrunk, coefficients.details)))


@boundary
def linear_oracle(noisy: Coefficients, truth: Coefficients, sigma: Number) -> Coefficients:
    r"""The best shrinkage of whole levels, w_j = E_j/(E_j + m_j σ²), E_j = ‖β_j‖² of the m_j coefficients of level j.

    Among ALL linear estimators it has the least risk on average over the functions whose coefficients are those of the
    truth with signs and places drawn at random within each level: their covariance is E_j/m_j on level j, and the
    Wiener filter of it is this one. So it is minimax linear over that class (see `linear_oracle_risk`). For one fixed
    function it bounds only the estimators that multiply each level by a number: Fourier projections or kernel ridge
    regression, which are not diagonal in the wavelet basis, may have a smaller risk there.

    Args:
        noisy: y. truth: β, of the same shapes. sigma: σ ≥ 0 of each coefficient.

    Raises:
        ValueError: shapes that differ, or σ < 0 (outside jit; NaN inside).

    Cost: one pass. Source: Pinsker (1980); Donoho, Liu, MacGibbon (1990), section 2.

    >>> ones = Coefficients(jnp.ones(1), (jnp.ones((1, 1)),))
    >>> linear_oracle(ones, ones, 1.0).details[0].tolist()
    [[0.5]]
    """
    y, beta = floating(noisy), floating(truth)
    shapes = [[part.shape for part in jax.tree.leaves(c)] for c in (y, beta)]
    require(
        shapes[0] == shapes[1], "truth", shapes[1], f"have the shapes of noisy, {shapes[0]}", "transform both alike"
    )
    return _shrunk(y, beta, nonnegative("sigma", sigma, "pass a standard deviation"))


@jax.jit
def _shrunk(y: Coefficients, beta: Coefficients, noise: Number) -> Coefficients:
    return jax.tree.map(lambda part, b: part * _kept(b, noise), y, beta)


def _kept(beta: Array, sigma: Number) -> Array:
    """E/(E + m σ²), from the ratio σ/‖β‖ so that no square leaves the range of the dtype."""
    size = guarded.norm(beta)
    ratio = jnp.asarray(sigma, beta.dtype) / jnp.where(size == 0, jnp.ones_like(size), size)
    share = jnp.where((size == 0) & ~jnp.isnan(ratio), jnp.zeros_like(size), 1 / (1 + beta.size * ratio**2))
    return jnp.where(jnp.isfinite(size), share, jnp.full_like(share, jnp.nan))


@boundary
def linear_oracle_risk(truth: Coefficients, sigma: Number) -> Float[Array, ""]:
    r"""The least risk of a linear estimator over signs and places within each level: Σ_j E_j m_j σ²/(E_j + m_j σ²).

    It is exact for `linear_oracle` at the truth itself, and no linear estimator at all has a smaller one on average, or
    at worst, over the functions that arise from the truth by changes of sign and permutations within each level.

    Args:
        truth, sigma: as in `linear_oracle`.

    Raises:
        ValueError: σ < 0 (outside jit; NaN inside). Cost: one pass.

    Source: averages over the group; Donoho, Liu, MacGibbon (1990), Theorem 6.

    >>> float(linear_oracle_risk(Coefficients(jnp.ones(1), ()), 1.0))
    0.5
    """
    return _linear_risk(floating(truth), nonnegative("sigma", sigma, "pass a standard deviation"))


@jax.jit
def _linear_risk(truth: Coefficients, noise: Number) -> Array:
    return jnp.sum(jnp.stack([_level_risk(b, jnp.asarray(noise, b.dtype)) for b in jax.tree.leaves(truth)]))


def _level_risk(beta: Array, sigma: Array) -> Array:
    """E T/(E + T), T = m σ², from the smaller of both, whose square alone must be in the range of the dtype."""
    size, total = guarded.norm(beta), math.sqrt(beta.size) * sigma
    small = jnp.minimum(size, total)
    ratio = guarded.over(small, jnp.maximum(size, total))
    return jnp.where(jnp.isfinite(size), small**2 / (1 + ratio**2), jnp.full_like(size, jnp.nan))


@boundary
def ideal_risk(truth: Coefficients, sigma: Number) -> Float[Array, ""]:
    """Σ min(β², σ²), the risk of keeping exactly the coefficients above the noise: what thresholds come close to.

    Args:
        truth: β. sigma: σ ≥ 0.

    Raises:
        ValueError: σ < 0 (outside jit; NaN inside). Coefficients that are not finite give NaN. Cost: one pass.

    Source: Donoho and Johnstone (1994), equation (8).

    >>> float(ideal_risk(Coefficients(jnp.array([3.0, 0.5]), ()), 1.0))
    1.25
    """
    beta = ravel(truth)
    noise = jnp.asarray(nonnegative("sigma", sigma, "pass a standard deviation"), beta.dtype)
    risk = jnp.sum(jnp.minimum(jnp.abs(beta), noise) ** 2)
    return jnp.where(jnp.isfinite(beta).all(), risk, jnp.full_like(risk, jnp.nan))


@boundary
def ridge_risks(
    gram: Float[Array, "n n"], signal: Float[Array, " n"], sigma: Number, ridges: Float[Array, " r"]
) -> Float[Array, " r"]:
    r"""Exact risks E‖f̂ − f‖²/n at the design of kernel ridge regression, for every ridge from one eigendecomposition.

    With K = U diag(κ) Uᵀ and c = Uᵀ f:  n · risk = Σ (λ/(κ + λ))² c² + σ² Σ (κ/(κ + λ))².

    Args:
        gram: K, symmetric and positive semidefinite. signal: f at the design, without noise. sigma: σ ≥ 0 of the noise.
        ridges: λ > 0, added to K.

    Returns:
        The risks; NaN where rounding of K decides: a ridge and an eigenvalue are both below n ε κ_max.

    Raises:
        ValueError: shapes that differ, σ < 0 or λ ≤ 0 (outside jit; NaN inside).

    Cost: ≈ 9 n³ flops. Source: Wahba (1990), section 4.4.

    >>> float(ridge_risks(jnp.eye(2), jnp.ones(2), 1.0, jnp.ones(1))[0])
    0.5
    """
    n = len(signal)
    require(gram.shape == (n, n), "gram", gram.shape, f"be [n, n] for the {n} entries of signal", "pass kernel(x, x)")
    noise = nonnegative("sigma", sigma, "pass a standard deviation")
    return _ridge_risks(gram, signal, noise, positive("ridges", ridges, "pass ridges, e.g. jnp.logspace(-3, 3, 20)"))


@jax.jit
def _ridge_risks(gram: Array, signal: Array, sigma: Number, ridges: Array) -> Array:
    unit = guarded.power_of_two(gram)
    eigenvalues, u = jnp.linalg.eigh((gram + gram.T) / (2 * unit))
    level = len(signal) * jnp.finfo(gram.dtype).eps * jnp.abs(eigenvalues).max(initial=0)
    definite = (eigenvalues >= -level).all()
    kappa, lam = jnp.maximum(eigenvalues, 0)[None, :], ridges[:, None] / unit
    c = jnp.matmul(u.T, signal, precision="highest")[None, :]
    kept, lost = kappa / (kappa + lam), lam / (kappa + lam)
    risks = jnp.mean((lost * c) ** 2 + (jnp.asarray(sigma, gram.dtype) * kept) ** 2, axis=1)
    doubtful = (lam[:, 0] < level) & (eigenvalues < level).any()
    return jnp.where(definite & ~doubtful, risks, jnp.full_like(risks, jnp.nan))


@boundary(static=("s", "p"))
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
        s: ≥ (1/p − 1/2)_+ + 0.001. p: in (0, ∞]. n: sample sizes, in [1, 2^60]; exponents are for large ones.
        estimator: above.

    Raises:
        ValueError: s or p out of range or traced, another estimator, n out of range (outside jit; NaN inside).

    Cost: 64 + 50/(s − (1/p − 1/2)_+) levels a size; "soft" looks at 49 thresholds and 258 means in each.
    Source: Donoho, Liu, MacGibbon (1990), Theorems 6-7 (linear); Donoho and Johnstone (1994, 1998), Theorem 1 (others).

    >>> risk = minimax_risk(1.0, 1.0, 2.0 ** jnp.array([20.0, 21.0]), estimator="linear")
    >>> f"{jnp.log2(risk[1] / risk[0]):.2f}"
    '-0.50'
    """
    require(p > 0, "p", p, "lie in (0, inf]", "use math.inf for the sup norm")
    lost = max(0.0, 1 / p - 0.5)
    wish = f"be > (1/p − 1/2)_+ = {lost:g}, by 0.001 at least, and finite"
    require(lost + 0.001 <= s < math.inf, "s", s, wish, "ask for more smoothness or a larger p")
    sizes = constrain("n", n, lambda v: (v >= 1) & (v <= 2.0**60), "lie in [1, 2^60]", "pass sample sizes")
    # beyond these levels the terms fall as 2^{−2js'} and are below 2^{−100}
    levels = 64 + math.ceil(50 / (s - lost))
    return _minimax_risk(s, p, sizes, estimator, levels)


@partial(jax.jit, static_argnames=("s", "p", "estimator", "levels"))
def _minimax_risk(s: float, p: float, n: Array, estimator: Estimator, levels: int) -> Array:
    """Sums over levels in logarithms of base 2, since sizes leave the range of the dtype."""
    j = jnp.arange(levels, dtype=n.dtype)
    noise = -jnp.log2(n)[:, None]
    radius = -j[None, :] * (s + 0.5 - 1 / p)
    spread = 2 * radius + j[None, :] * max(0.0, 1 - 2 / p)
    if estimator == "linear":
        return jnp.sum(1 / (2 ** -(j[None, :] + noise) + 2**-spread), axis=1)
    if estimator == "adaptive":
        sparse = jnp.minimum(p * radius + (1 - p / 2) * noise, 2 * radius) if p < 2 else spread
        return jnp.sum(2 ** jnp.minimum(j[None, :] + noise, sparse), axis=1)

    def total(noise: Array) -> Array:
        eta, single = radius[0] - j / p - noise / 2, radius[0] - noise / 2
        return 2**noise * jnp.sum(jax.lax.map(lambda level: _soft_level(p, *level), (j, eta, single), batch_size=64))

    return jax.lax.map(total, noise[:, 0])


def _soft_level(p: float, j: Array, eta: Array, single: Array) -> Array:
    """The soft-threshold term of a level over ε², from log2 of m, η and r/ε."""
    nothing = 2.0 ** (2 * single if p < 2 else j + 2 * eta)  # t = ∞: the largest ‖μ‖² of the ball
    low, largest = 2 ** jnp.maximum(eta, -100.0), 2 ** jnp.maximum(single, -20.0)
    high = jnp.minimum(largest, jnp.maximum(low, jnp.full_like(low, 30.0)))
    t, at_zero = (jnp.asarray(part, j.dtype) for part in _at_zero())
    mu, table = (jnp.asarray(part, j.dtype) for part in _rises())
    inside = (mu >= low) & (mu <= high)
    weight = jnp.where(inside, (low / mu) ** p, jnp.zeros_like(mu))
    between = jnp.max(weight[None, :] * table, axis=1)
    ends = jnp.maximum(_rise(t, jnp.full_like(t, low)), (low / high) ** p * _rise(t, jnp.full_like(t, high)))
    kept = 2 ** jnp.minimum(j, 100.0) * jnp.min(at_zero + jnp.maximum(between, ends))
    # far below the noise a threshold can only kill
    return jnp.where(single < -20, nothing, jnp.minimum(kept, nothing))


@lru_cache
def _at_zero() -> tuple[np.ndarray, np.ndarray]:
    """Thresholds t, and ρ_t(0) = 2 φ(t) ∫_0^∞ u² e^{−tu − u²/2} du by quadrature: the closed form cancels."""
    node, weight = np.polynomial.legendre.leggauss(80)
    u = 5 * (node + 1)
    t = np.linspace(0, 12, 49)
    integral = (5 * weight * u**2 * np.exp(-t[:, None] * u - u**2 / 2)).sum(axis=1)
    return t, 2 * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi) * integral


def _rise(t: Array, mu: Array) -> Array:
    """ρ_t(μ) − ρ_t(0), below μ = 1 as ∫_0^μ 2u P(|u + z| ≤ t) du by Gauss-Legendre, since the difference cancels."""
    cdf, above = jax.scipy.stats.norm.cdf, jnp.maximum(mu, 1.0)
    node, weight = (jnp.asarray(part, mu.dtype) for part in np.polynomial.legendre.leggauss(8))
    u = jnp.minimum(mu, 1.0)[:, None] * (node + 1)[None, :] / 2
    within = cdf(t[:, None] - u) - cdf(-t[:, None] - u)
    near = jnp.matmul(u * within, weight, precision="highest") * jnp.minimum(mu, 1.0)
    return near + jnp.where(mu > 1, _soft_risk(t, above) - _soft_risk(t, jnp.ones_like(mu)), jnp.zeros_like(mu))


@lru_cache
def _rises() -> tuple[np.ndarray, np.ndarray]:
    """Means μ, and ρ_t(μ) − ρ_t(0) at each threshold: μ^{−p} times it is monotone below the first mean."""
    from scipy.special import ndtr  # here, so that smoothness can be imported without it

    mu, t = np.geomspace(1e-3, 30, 256), _at_zero()[0]
    node, weight = np.polynomial.legendre.leggauss(120)
    u = mu[:, None] * (node + 1) / 2
    normal = np.exp(-((t[:, None, None] - u) ** 2) / 2) - np.exp(-((t[:, None, None] + u) ** 2) / 2)
    # by parts: ∫_0^μ 2u P(|u + z| ≤ t) du = μ² P(|μ + z| ≤ t) + ∫_0^μ u² (φ(t − u) − φ(t + u)) du
    within = ndtr(t[:, None] - mu) - ndtr(-t[:, None] - mu)
    return mu, mu**2 * within + mu / 2 * (normal * u**2 @ weight) / np.sqrt(2 * np.pi)


def _soft_risk(t: Array, mu: Array) -> Array:
    """ρ_t(μ) = E(soft_t(μ + z) − μ)². Source: Donoho and Johnstone (1994), appendix 2."""
    cdf, pdf = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm.pdf
    inside = cdf(t - mu) - cdf(-t - mu)
    return 1 + t**2 + (mu**2 - t**2 - 1) * inside - (t - mu) * pdf(t + mu) - (t + mu) * pdf(t - mu)
