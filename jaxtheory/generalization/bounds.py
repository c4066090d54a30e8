r"""Generalization bounds of multiclass ReLU networks with all their constants.

Margin bounds read: with probability 1 − δ over n samples, for every network and every margin γ,

    P(wrong) ≤ (share of the sample with margin ≤ γ) + 2 R_γ + 3 √(ln(2/δ') / 2n)

with R_γ the Rademacher complexity of the ramp loss over networks whose norms are below those of this one, rounded up
on a grid; δ' = δ times the weights that the grid gives to those cells, which sum to at most one. Nothing is hidden
in O( ), so most of these bounds exceed 1 at any size one can train: that is a finding, not a fault.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import require

_FINE = 2**0.25  # ratio of neighbouring cells of a scale


class Sample(NamedTuple):
    """What the margin bounds need to know of the data: margins of the sample, Σ‖x‖², max‖x‖, max|x_i|, and counts."""

    margins: Float[Array, " n"]
    square: Float[Array, ""]
    radius: Float[Array, ""]
    largest: Float[Array, ""]
    inputs: int
    classes: int


def margin_bound(
    sample: Sample, complexity_at: Float[Array, ""], cells: Float[Array, ""], delta: float
) -> Float[Array, ""]:
    r"""min over γ of the bound above, where 2 R_γ = complexity_at / γ and ln(1/weights) = `cells`.

    Args:
        sample: of margins; γ runs over the powers of 2^{1/4} below the largest.
        complexity_at: 2γR_γ.
        cells: the price of the norms' grid cells, in nats; that of γ is added here.
        delta: δ.

    Returns:
        The bound; may exceed 1, and is infinite where no margin is positive.

    Source: Bartlett, Foster, Telgarsky (2017), Lemma 3.1, with a union bound over γ.

    >>> one = jnp.array(1.0)
    >>> easy = Sample(jnp.full(10_000, 64.0), one, one, one, 1, 2)
    >>> f"{margin_bound(easy, 0.1 * one, 0.0 * one, 0.05):.3f}"
    '0.071'
    """
    gammas, empirical, price = _over_margins(sample)
    slack = 3 * jnp.sqrt((np.log(2 / delta) + cells + price) / (2 * len(sample.margins)))
    return _least(sample, empirical + complexity_at / gammas + slack)


def _over_margins(sample: Sample) -> tuple[Array, Array, Array]:
    """γ, the share of the sample with a margin no larger, and ln(1/weight) of each; 80 of them below the largest."""
    top = sample.margins.max(initial=-jnp.inf)
    exponents = jnp.floor(jnp.log(jnp.where(top > 0, top, 1)) / np.log(_FINE)) - jnp.arange(80, dtype=top.dtype)
    gammas = _FINE**exponents
    empirical = (sample.margins[None, :] <= gammas[:, None]).astype(top.dtype).mean(1)
    return gammas, empirical, jnp.log(2 * (jnp.abs(exponents) + 1) * (jnp.abs(exponents) + 2))


def _least(sample: Sample, bounds: Array) -> Array:
    top = sample.margins.max(initial=-jnp.inf)
    return jnp.where(jnp.isnan(top), jnp.nan, jnp.where(top > 0, bounds.min(), jnp.inf))


def spectral(
    sample: Sample, spectral_norms: Float[Array, " layers"], group_norms: Float[Array, " layers"], width: int,
    delta: float,
) -> Float[Array, ""]:  # fmt: skip
    r"""Bartlett-Foster-Telgarsky: 2R_γ = 8/n^{3/2} + 72 ‖X‖_F √ln(2W²) ln(n) R / (γ n).

    R is the spectral complexity of norms rounded up to multiples of 1/L, W the largest width. From the covering
    numbers of their Theorem 3.3 at scale γ/2, and Dudley's integral of their Lemma A.5 at α = 1/n.

    Source: Bartlett, Foster, Telgarsky (2017), Theorem 3.3, Lemmas A.5 and A.8.
    """
    n, layers = len(sample.margins), len(spectral_norms)
    s, price_s = _rounded(spectral_norms, layers)
    b, price_b = _rounded(group_norms, layers)
    complexity = s.prod() * ((b / s) ** (2 / 3)).sum() ** 1.5
    scale = 72 * jnp.sqrt(sample.square * np.log(2 * width**2)) * np.log(n) / n
    return 8 / n**1.5 + margin_bound(sample, scale * complexity, price_s + price_b, delta)


def frobenius(sample: Sample, frobenius_norms: Float[Array, " layers"], delta: float) -> Float[Array, ""]:
    r"""Golowich-Rakhlin-Shamir: R = √(Σ‖x‖²)(√(2 ln 2 · L) + 1) Π‖A_l‖_F / n for one output; with K classes

        R_γ ≤ (2K/γ) R by vector contraction (the ramp of the margin is √2/γ-Lipschitz, times √2).

    Source: Golowich, Rakhlin, Shamir (2018), Theorem 1; Maurer (2016), Corollary 4.
    """
    depth, n = len(frobenius_norms), len(sample.margins)
    product, price = _scaled(frobenius_norms.prod())
    single = jnp.sqrt(sample.square) * (np.sqrt(2 * np.log(2) * depth) + 1) * product / n
    return margin_bound(sample, 4 * sample.classes * single, price, delta)


def l1_path(sample: Sample, norm: Float[Array, ""], depth: int, delta: float) -> Float[Array, ""]:
    r"""Networks with ℓ₁ path norm ≤ ψ at each output: R = 2^{L−1} ψ max|x_i| √(2 ln(2d)/n), one factor 2 a ReLU layer.

    Source: Bartlett and Mendelson (2002), Theorem 18; Neyshabur, Tomioka, Srebro (2015), Corollary 2, vector
    contraction as in `frobenius`.
    """
    rounded, price = _scaled(norm)
    spread = np.sqrt(2 * np.log(2 * sample.inputs) / len(sample.margins))
    single = 2.0 ** (depth - 1) * rounded * sample.largest * spread
    return margin_bound(sample, 4 * sample.classes * single, price, delta)


def kernel_ball(
    complexity: Float[Array, ""], trace: Float[Array, ""], samples: int, classes: int, delta: float
) -> Float[Array, ""]:
    r"""The interpolant of one-hot labels in the Hilbert space of a kernel H: all margins are 1, B² = tr(YᵀH⁻¹Y), and

        P(wrong) ≤ 4 B √(K tr H) / n + 3 √(ln(2/δ') / 2n)

    by vector contraction over the ball Σ_k ‖f_k‖² ≤ B²; for the wide network that is trained to it, in the limit.

    Args:
        complexity: √(2 B²/n) (`capacity.ntk_complexity`).
        trace: tr H.
        samples, classes: n and K.
        delta: δ; B is rounded up on a grid of ratio 2^{1/4}.

    Source: Arora, Du, Hu, Li, Wang (2019), section 5, for K classes; Maurer (2016), Corollary 4.

    >>> f"{kernel_ball(jnp.array(0.01), jnp.array(1.0), 10_000, 2, 0.05):.3f}"
    '0.056'
    """
    radius, price = _scaled(complexity * np.sqrt(samples / 2))
    spread = 4 * radius * jnp.sqrt(classes * trace) / samples
    return spread + 3 * jnp.sqrt((np.log(2 / delta) + price) / (2 * samples))


def pac_bayes_spectral(
    sample: Sample, spectral_norms: Float[Array, " layers"], distances: Float[Array, " layers"], width: int,
    delta: float,
) -> Float[Array, ""]:  # fmt: skip
    r"""PAC-Bayes with margins, from any reference M: share with margin ≤ γ, plus 4√((KL + ln(6n/δ'))/(n − 1)) with

        KL = (4 e L B)² h ln(4hL) · Π s̄_l² Σ ‖A_l − M_l‖_F²/s_l² / γ²,   s_l ≤ ‖A_l‖_σ ≤ s̄_l = 2^{1/L} s_l

    B is an assumption: no input of the distribution is longer. h is the largest width.

    Neyshabur, Bhojanapalli and Srebro (2018) first scale all layers to one norm, which M = 0 allows and another M does
    not. Instead each layer has noise of its own size. Proof. Let U_l have independent entries N(0, s_l² τ²). With
    probability ≥ 1/2 all ‖U_l‖_σ ≤ s_l τ √(2h ln(4hL)) (their section 3), and by their Lemma 2 outputs then move by at
    most e B Π‖A_l‖_σ Σ ‖U_l‖_σ/‖A_l‖_σ ≤ e L B Π s̄_l · τ √(2h ln(4hL)), which is γ/4 for one τ. The lemma asks for
    ‖U_l‖_σ ≤ ‖A_l‖_σ/L, which holds for γ ≤ 4 e B Π s̄_l, and no margin is larger. So their Lemma 1 applies to A + U
    with the prior N(M_l, s_l² τ²), KL = Σ ‖A_l − M_l‖_F² / (2 s_l² τ²): it depends on A through the grid cells of
    ‖A_l‖_σ (ratio 2^{1/L}) and of γ alone, over which δ is shared: δ' = δ times their weights.

    Source: Neyshabur, Bhojanapalli, Srebro (2018), Lemmas 1 and 2.
    """
    n, depth = len(sample.margins), len(spectral_norms)
    gammas, empirical, price = _over_margins(sample)
    upper, cells = _scaled(spectral_norms, 2 ** (1 / depth))
    noise = (4 * np.e * depth * sample.radius) ** 2 * (width * np.log(4 * width * depth))
    shares = (2 ** (1 / depth) * distances / upper) ** 2
    divergence = noise * (upper.prod() / gammas) ** 2 * shares.sum()
    spread = divergence + np.log(6 * n / delta) + cells.sum() + price
    return _least(sample, empirical + 4 * jnp.sqrt(spread / max(n - 1, 1)) + (jnp.inf if n < 2 else 0))


def uniform(empirical: Float[Array, ""], log_growth: float, samples: int, delta: float) -> Float[Array, ""]:
    r"""Vapnik-Chervonenkis: error on the sample + √(8 (ln Π(2n) + ln(4/δ)) / n), Π the growth function.

    Args:
        empirical: error on the sample.
        log_growth: ln Π at 2n points (`capacity.log_growth`).
        samples: n.
        delta: δ.

    Source: Vapnik (1998), Theorem 4.4, from P(sup |R − R̂| > ε) ≤ 4 Π(2n) e^{−nε²/8}.

    >>> f"{uniform(jnp.array(0.1), 10.0, 10_000, 0.05):.3f}"
    '0.207'
    """
    require(0 < delta < 1, "delta", delta, "lie within (0, 1)", "pass e.g. delta=0.05")
    return empirical + float(np.sqrt(8 * (log_growth + np.log(4 / delta)) / samples))


def _rounded(norms: Array, layers: int) -> tuple[Array, Array]:
    """Norms up to multiples of 1/L, and the price ln Π k(k + 1) of those cells, whose weights sum to one."""
    cells = jnp.maximum(jnp.ceil(norms * layers), 1)
    return cells / layers, jnp.log(cells * (cells + 1)).sum()


def _scaled(value: Array, ratio: float = _FINE) -> tuple[Array, Array]:
    """A positive scale up to a power of `ratio`, and the price of its cell: weights 1/(2(|j|+1)(|j|+2))."""
    cell = jnp.ceil(jnp.log(jnp.maximum(value, jnp.finfo(value.dtype).tiny)) / np.log(ratio))
    return ratio**cell, jnp.log(2 * (jnp.abs(cell) + 1) * (jnp.abs(cell) + 2))
