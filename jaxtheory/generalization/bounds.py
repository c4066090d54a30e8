r"""Generalization bounds of multiclass ReLU networks with all their constants.

Margin bounds read: with probability 1 − δ over n samples, for every network and every margin γ,

    P(wrong) ≤ (share of the sample with margin ≤ γ) + 2 R_γ + 3 √(ln(2/δ') / 2n)

with R_γ the Rademacher complexity of the ramp loss over networks whose norms are below those of this one, rounded up
on a grid; δ' = δ times the weights that the grid gives to those cells, which sum to at most one. Nothing is hidden
in O( ), so most of these bounds exceed 1 at any size one can train: that is a finding, not a fault.
"""

from typing import NamedTuple

import numpy as np

from jaxtheory.checks import require

_FINE = 2**0.25  # ratio of neighbouring cells of a scale


class Sample(NamedTuple):
    """What the margin bounds need to know of the data: sorted margins of the sample, Σ‖x‖², max‖x‖, max|x_i|."""

    margins: np.ndarray
    square: float
    radius: float
    largest: float
    inputs: int
    classes: int


def margin_bound(sample: Sample, complexity_at: float, cells: float, delta: float) -> float:
    r"""min over γ of the bound above, where 2 R_γ = complexity_at / γ and ln(1/weights) = `cells`.

    Args:
        sample: of margins; γ runs over the powers of 2^{1/4} below the largest.
        complexity_at: 2γR_γ.
        cells: the price of the norms' grid cells, in nats; that of γ is added here.
        delta: δ.

    Returns:
        The bound; may exceed 1.

    Source: Bartlett, Foster, Telgarsky (2017), Lemma 3.1, with a union bound over γ.

    >>> easy = Sample(np.full(10_000, 64.0), 1.0, 1.0, 1.0, 1, 2)
    >>> f"{margin_bound(easy, 0.1, 0.0, 0.05):.3f}"
    '0.071'
    """
    n = len(sample.margins)
    top = sample.margins.max()
    if not (top > 0 and np.isfinite(complexity_at)):
        return float("inf")
    exponents = np.floor(np.log(top) / np.log(_FINE)) - np.arange(80)
    gammas = _FINE**exponents
    empirical = (sample.margins[None, :] <= gammas[:, None]).mean(1)
    price = cells + np.log(2 * (np.abs(exponents) + 1) * (np.abs(exponents) + 2))
    return float((empirical + complexity_at / gammas + 3 * np.sqrt((np.log(2 / delta) + price) / (2 * n))).min())


def spectral(sample: Sample, spectral_norms: np.ndarray, group_norms: np.ndarray, width: int, delta: float) -> float:
    r"""Bartlett-Foster-Telgarsky: 2R_γ = 8/n^{3/2} + 72 ‖X‖_F √ln(2W²) ln(n) R / (γ n).

    R is the spectral complexity of norms rounded up to multiples of 1/L, W the largest width. From the covering
    numbers of their Theorem 3.3 at scale γ/2, and Dudley's integral of their Lemma A.5 at α = 1/n.

    Source: Bartlett, Foster, Telgarsky (2017), Theorem 3.3, Lemmas A.5 and A.8.
    """
    n, layers = len(sample.margins), len(spectral_norms)
    s, price_s = _rounded(spectral_norms, layers)
    b, price_b = _rounded(group_norms, layers)
    complexity = s.prod() * ((b / s) ** (2 / 3)).sum() ** 1.5
    scale = 72 * np.sqrt(sample.square) * np.sqrt(np.log(2 * width**2)) * np.log(n) / n
    return 8 / n**1.5 + margin_bound(sample, scale * complexity, price_s + price_b, delta)


def frobenius(sample: Sample, frobenius_norms: np.ndarray, delta: float) -> float:
    r"""Golowich-Rakhlin-Shamir: R = √(Σ‖x‖²)(√(2 ln 2 · L) + 1) Π‖A_l‖_F / n for one output; with K classes

        R_γ ≤ (2K/γ) R by vector contraction (the ramp of the margin is √2/γ-Lipschitz, times √2).

    Source: Golowich, Rakhlin, Shamir (2018), Theorem 1; Maurer (2016), Corollary 4.
    """
    depth, n = len(frobenius_norms), len(sample.margins)
    product, price = _scaled(float(np.prod(frobenius_norms)))
    single = np.sqrt(sample.square) * (np.sqrt(2 * np.log(2) * depth) + 1) * product / n
    return margin_bound(sample, 4 * sample.classes * single, price, delta)


def l1_path(sample: Sample, norm: float, depth: int, delta: float) -> float:
    r"""Networks with ℓ₁ path norm ≤ ψ at each output: R = 2^{L−1} ψ max|x_i| √(2 ln(2d)/n), one factor 2 a ReLU layer.

    Source: Bartlett and Mendelson (2002), Theorem 18; Neyshabur, Tomioka, Srebro (2015), Corollary 2, vector
    contraction as in `frobenius`.
    """
    rounded, price = _scaled(norm)
    spread = np.sqrt(2 * np.log(2 * sample.inputs) / len(sample.margins))
    single = 2.0 ** (depth - 1) * rounded * sample.largest * spread
    return margin_bound(sample, 4 * sample.classes * single, price, delta)


def kernel_ball(complexity: float, trace: float, samples: int, classes: int, delta: float) -> float:
    r"""The interpolant of one-hot labels in the Hilbert space of a kernel H: all margins are 1, B² = tr(YᵀH⁻¹Y), and

        P(wrong) ≤ 4 B √(K tr H) / n + 3 √(ln(2/δ') / 2n)

    by vector contraction over the ball Σ_k ‖f_k‖² ≤ B²; for the wide network that is trained to it, in the limit.

    Args:
        complexity: √(2 B²/n) (`capacity.ntk_complexity`).
        trace: tr H.
        samples, classes: n and K.
        delta: δ; B is rounded up on a grid of ratio 2^{1/4}.

    Source: Arora, Du, Hu, Li, Wang (2019), section 5, for K classes; Maurer (2016), Corollary 4.

    >>> f"{kernel_ball(0.01, 1.0, 10_000, 2, 0.05):.3f}"
    '0.056'
    """
    radius, price = _scaled(complexity * np.sqrt(samples / 2))
    spread = 4 * radius * np.sqrt(classes * trace) / samples
    return float(spread + 3 * np.sqrt((np.log(2 / delta) + price) / (2 * samples)))


def pac_bayes_spectral(sample: Sample, weight_ratio: float, width: int, depth: int, delta: float) -> float:
    r"""Neyshabur-Bhojanapalli-Srebro: share with margin ≤ γ, plus 4√((KL + ln(6n/δ'))/(n − 1)) with

        KL ≤ (42 e L B)² h ln(4hL) · Π‖A_l‖_σ² Σ ‖A_l‖_F²/‖A_l‖_σ² / (2γ²),  δ' = δ / (L n^{1/2L})

    from Gaussian noise of the size that moves outputs by γ/4, with their grid of L n^{1/2L} sizes.

    Source: Neyshabur, Bhojanapalli, Srebro (2018), proof of Theorem 1.
    """
    n = len(sample.margins)
    top = sample.margins.max()
    if top <= 0:
        return float("inf")
    exponents = np.floor(np.log(top) / np.log(_FINE)) - np.arange(80)
    gammas = _FINE**exponents
    empirical = (sample.margins[None, :] <= gammas[:, None]).mean(1)
    noise = (42 * np.e * depth * sample.radius) ** 2 * width * np.log(4 * width * depth)
    divergence = noise * weight_ratio / (2 * gammas**2)
    cells = depth * n ** (1 / (2 * depth)) * 2 * (np.abs(exponents) + 1) * (np.abs(exponents) + 2)
    return float((empirical + 4 * np.sqrt((divergence + np.log(6 * n * cells / delta)) / (n - 1))).min())


def uniform(empirical: float, log_growth: float, samples: int, delta: float) -> float:
    r"""Vapnik-Chervonenkis: error on the sample + √(8 (ln Π(2n) + ln(4/δ)) / n), Π the growth function.

    Args:
        empirical: error on the sample.
        log_growth: ln Π at 2n points (`capacity.log_growth`).
        samples: n.
        delta: δ.

    Source: Vapnik (1998), Theorem 4.4, from P(sup |R − R̂| > ε) ≤ 4 Π(2n) e^{−nε²/8}.

    >>> f"{uniform(0.1, 10.0, 10_000, 0.05):.3f}"
    '0.207'
    """
    require(0 < delta < 1, "delta", delta, "be within (0, 1)", "0.05 for 95% confidence")
    return float(empirical + np.sqrt(8 * (log_growth + np.log(4 / delta)) / samples))


def _rounded(norms: np.ndarray, layers: int) -> tuple[np.ndarray, float]:
    """Norms up to multiples of 1/L, and the price ln Π k(k + 1) of those cells, whose weights sum to one."""
    cells = np.maximum(np.ceil(np.asarray(norms, float) * layers), 1)
    return cells / layers, float(np.log(cells * (cells + 1)).sum())


def _scaled(value: float) -> tuple[float, float]:
    """A positive scale up to a power of 2^{1/4}, and the price of its cell: weights 1/(2(|j|+1)(|j|+2))."""
    cell = np.ceil(np.log(max(value, 1e-300)) / np.log(_FINE))
    return float(_FINE**cell), float(np.log(2 * (abs(cell) + 1) * (abs(cell) + 2)))
