r"""Depth separation, proved: lower bounds on the error of every two-layer network, whatever its weights.

A two-layer network is f_N(x) = c_0 + Σ_{i≤N} c_i σ_i(⟨w_i, x⟩ + b_i), with any activations σ_i, even a different one in
every neuron. Projected on harmonics (or Hermite polynomials) of one degree, each neuron has rank one; the targets below
have a high rank with nearly equal singular values, and Eckart-Young does the rest. `three_layers` builds the deeper
networks that these bounds are held against.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, constrain, host_numbers, nonnegative, quantity, require
from jaxtheory.guarded import root

_DEGREES = 160  # radial Hermite degrees 0, 2, …, 318; what lies beyond counts as approximated, so the bound stays valid
_PANELS, _ORDER, _BEYOND = 96, 32, 14.0  # nodes in the radius, to √d + 14: χ mass under 1e-40 beyond


@boundary(static=("dim", "degree"))
def harmonics(dim: int, degree: int) -> int:
    """Dimension of the spherical harmonics of one degree on S^(d−1): C(n+d−1, d−1) − C(n+d−3, d−1), an exact integer.

    Args:
        dim: d ≥ 2. degree: n ≥ 0.

    Raises:
        ValueError: numbers out of range. Source: Müller (1966), Lemma 3.

    >>> harmonics(3, 5), harmonics(10, 5)
    (11, 1782)
    """
    _require_dim(dim)
    require(degree >= 0, "degree", degree, "be >= 0", "constants have degree 0")
    return math.comb(degree + dim - 1, dim - 1) - (math.comb(degree + dim - 3, dim - 1) if degree >= 2 else 0)


@boundary(static=("degree", "dim"))
def legendre(t: Any, degree: int, dim: int) -> Any:
    """The Legendre polynomial P_n of S^(d−1) with P_n(1) = 1: (n + d − 2) P_{n+1} = (2n + d − 2) t P_n − n P_{n−1}.

    Args:
        t: a JAX array, or numbers for NumPy, which are computed in float64. degree: n ≥ 0. dim: d ≥ 2.

    Raises:
        ValueError: degree or dim out of range or traced, t that is no number. Cost: O(n) passes.

    Source: Müller (1966), Lemma 3.

    >>> legendre(np.array([0.5]), 2, 3).tolist()
    [-0.125]
    """
    _require_dim(dim)
    require(degree >= 0, "degree", degree, "be >= 0", "constants have degree 0")
    numbers = jnp.asarray(quantity("t", t))
    t = numbers if isinstance(t, jax.Array) else np.asarray(t, float)
    before, now = 0 * t, 1 + 0 * t
    for n in range(degree):
        before, now = now, ((2 * n + dim - 2) * t * now - n * before) / (n + dim - 2) if n else t
    return now


@boundary(static=("dim", "degree", "neurons"))
def inner_product_certificate(dim: int, degree: int, neurons: int) -> float:
    r"""Lower bound on E(f − f_N)² / E f² for f(x, x') = √D P_n(⟨x, x'⟩), x and x' uniform on S^(d−1), D = `harmonics`.

    The projection of a neuron σ(⟨w, x⟩ + ⟨w', x'⟩ + b) on H_n ⊗ H_n is a multiple of P_n(⟨ŵ, x⟩) P_n(⟨ŵ', x'⟩), of rank
    one, while f is D^(−1/2) times the identity of H_n. So, for all weights and activations,

        E(f − f_N)² / E f² ≥ 1 − N / D.

    Args:
        dim: d ≥ 2. degree: n ≥ 1. neurons: N ≥ 0.

    Raises:
        ValueError: numbers out of range.

    Source: Eckart and Young (1936) with Funk-Hecke; the targets are those of Daniely (2017), Theorem 1.

    >>> f"{inner_product_certificate(10, 5, 288):.3f}"
    '0.838'
    """
    require(degree >= 1, "degree", degree, "be >= 1", "constants need no neuron")
    _require_neurons(neurons)
    rank = harmonics(dim, degree)
    return (rank - neurons) / rank if neurons < rank else 0.0


@boundary(static=("dim", "neurons"))
def radial_certificate(profile: Callable[[Any], Any], dim: int, neurons: int) -> float:
    r"""Lower bound on E(f − f_N)² / E f² for f(x) = g(|x|), x ~ N(0, I_d).

    The Hermite part of degree 2k of f is a multiple of the tensor E[w^{⊗2k}], w uniform on the sphere. As an operator
    on symmetric k-tensors it has the eigenvalues

        λ_ℓ = E[t^k P_ℓ(t)] = k! Γ(d/2) / (2^k ((k−ℓ)/2)! Γ((k+ℓ+d)/2)),   ℓ = k, k − 2, …, with multiplicity dim H_ℓ,

    and the part of degree 2k of a neuron is a multiple of w^{⊗2k}, of rank one. N neurons remove at most the N largest
    eigenvalues of each degree:

        E(f − f_N)² ≥ Σ_k ‖f_2k‖² (1 − Σ_{N largest} λ² / Σ λ²).

    Degrees above 318 are counted as approximated, so the bound holds whatever the profile. It is 0 for targets of low
    frequency, which do not separate depths (Safran, Eldan, Shamir 2019).

    Args:
        profile: g, elementwise on an array of radii; resolved if it varies over no less than about 0.02.
        dim: d ≥ 2. neurons: N ≥ 0.

    Raises:
        ValueError: a profile that is not finite, vanishes, or varies too fast to be integrated to a percent.

    Cost: 9000 evaluations of g and 2e6 flops.

    >>> f"{radial_certificate(lambda r: np.cos(6 * (r - 9.5**0.5) + 0.7), 10, 1000):.3f}"
    '0.591'
    """
    _require_neurons(neurons)
    parts, total = _radial_parts(profile, dim)
    finer, whole = _radial_parts(profile, dim, 2 * _PANELS)
    change = float(np.abs(parts - finer).sum() + abs(total - whole)) / whole
    require(change < 0.01, "profile", f"parts that change by {change:.2g}", "be resolved by 3000 radii", "smooth it")
    parts, total = finer, whole
    left = np.array([1 - _captured(dim, k, neurons) for k in range(_DEGREES)])
    return float(np.clip((parts * left).sum() / total, 0.0, 1.0))


def _radial_parts(profile: Callable[[Any], Any], dim: int, panels: int = _PANELS) -> tuple[np.ndarray, float]:
    """Squared norms of the Hermite parts of degree 2k of g(|x|), and of g itself, by Laguerre polynomials in r²/2."""
    require(dim >= 2, "dim", dim, "be >= 2", "in one dimension two layers are enough")
    node, weight = np.polynomial.legendre.leggauss(_ORDER)
    edges = np.linspace(max(0.0, dim**0.5 - _BEYOND), dim**0.5 + _BEYOND, panels + 1)
    half = np.diff(edges)[:, None] / 2
    r = (edges[:-1, None] + half * (node + 1)).ravel()
    measure = (half * weight).ravel() * np.exp(_log_chi(r, dim))
    values = host_numbers("profile", profile(r))
    require(values.shape == r.shape, "profile", values.shape, f"return shape {r.shape}", "make it elementwise")
    energy = float(measure @ values**2)
    require(0 < energy < math.inf, "profile", energy, "have a finite norm above 0", "pass g(r), elementwise")
    alpha, t, before, now, parts = dim / 2 - 1, r**2 / 2, np.zeros_like(r), np.sqrt(measure), []
    weighted = np.sqrt(measure) * values
    for k in range(_DEGREES):  # the recurrence runs on polynomials times √measure, which do not overflow
        parts.append((weighted @ now) ** 2)
        after = (2 * k + 1 + alpha - t) * now - math.sqrt(k * (k + alpha)) * before
        before, now = now, after / math.sqrt((k + 1) * (k + 1 + alpha))
    return np.array(parts), energy


def _log_chi(r: np.ndarray, dim: int) -> np.ndarray:
    """Logarithm of the density of |x|, x ~ N(0, I_d); far up, by Stirling's formula around √d, where terms cancel."""
    if dim < 1000:
        return (dim - 1) * np.log(r) - r**2 / 2 - (dim / 2 - 1) * math.log(2) - math.lgamma(dim / 2)
    away = r - dim**0.5
    return (dim - 1) * np.log1p(away / dim**0.5) - away * dim**0.5 - away**2 / 2 - math.log(math.pi) / 2 - 1 / (6 * dim)


def _captured(dim: int, k: int, neurons: int) -> float:
    """The share of Σ λ² that the `neurons` largest eigenvalues of degree 2k hold."""
    counts, weights = _spectrum(dim, k)
    shares, before = [], 0
    for count in counts:
        shares.append(min(max(neurons - before, 0), count) / count)  # of exact integers, however large
        before += count
    return float(np.array(shares) @ weights)


@functools.cache
def _spectrum(dim: int, k: int) -> tuple[list[int], np.ndarray]:
    """Multiplicities of the eigenvalues λ_ℓ, which fall with ℓ, and the share of Σ λ² of each."""
    ells = range(k % 2, k + 1, 2)
    counts = [harmonics(dim, ell) for ell in ells]
    rising = np.append(0.0, np.cumsum(np.log(dim / 2 + np.arange(k))))  # log Γ(j + d/2) without that of d/2
    logs = [-math.lgamma((k - ell) / 2 + 1) - rising[(k + ell) // 2] for ell in ells]
    squares = np.array([2 * log + math.log(count) for log, count in zip(logs, counts, strict=True)])
    weights = np.exp(squares - squares.max())
    return counts, weights / weights.sum()


@boundary
def tube_certificate(
    dim: Float[Array, " n"], neurons: Float[Array, " n"], ratio: Float[Array, " n"]
) -> Float[Array, " n"]:
    r"""Eldan and Shamir's bound: the share of a radial Fourier mass that N tubes cannot hold.

    For the measure φ² with φ̂ the indicator of a ball of radius R, a neuron times φ has its Fourier transform in a tube
    of radius R about the line of w. On the sphere of radius ρ a tube covers the share P(1 − ⟨θ, v⟩² ≤ (R/ρ)²), so for a
    radial f whose (fφ)^ lives at radii ≥ ρ

        ‖f − f_N‖² / ‖f‖² ≥ 1 − N I_{(R/ρ)²}((d − 1)/2, 1/2),   I the regularized incomplete beta function.

    Args:
        dim: d ≥ 2. neurons: N ≥ 0. ratio: ρ/R ≥ 1, finite. All of one shape.

    Returns:
        The bounds, differentiable in N and ρ/R > 1 but not in d.

    Raises:
        ValueError: shapes that differ; numbers out of range (outside jit; NaN inside).

    Valid for any activations. Cost: O(n). Source: Eldan and Shamir (2016), Lemma 12 and its proof.

    >>> bound = tube_certificate(jnp.array([10.0, 20.0]), jnp.full(2, 100.0), jnp.full(2, 2.0))
    >>> [f"{share:.4f}" for share in bound.tolist()]
    ['0.9433', '1.0000']
    """
    shapes = (dim.shape, neurons.shape, ratio.shape)
    require(len(set(shapes)) == 1, "dim", shapes, "have the shape of neurons and ratio", "broadcast them first")
    d = constrain("dim", dim, lambda v: (v >= 2) & (v < np.inf), "be >= 2 and finite", "the circle is dim=2")
    count = nonnegative("neurons", neurons, "pass the number of hidden units")
    radius = constrain("ratio", ratio, lambda v: (v >= 1) & (v < np.inf), "be >= 1 and finite", "pass ρ/R")
    return _tube_certificate(d, count, radius)


@jax.jit
def _tube_certificate(dim: Array, neurons: Array, ratio: Array) -> Array:
    size, rest = _cap(dim, ratio)
    bounds = jnp.clip(1 - neurons * size * rest, 0.0, 1.0)
    return jnp.where(jnp.isnan(dim + neurons + ratio), jnp.full_like(bounds, jnp.nan), bounds)


def _cap(dim: Array, ratio: Array) -> tuple[Array, Array]:
    """I_{1/ρ²}((d−1)/2, 1/2) = 2Γ(d/2)/(√π Γ((d−1)/2)) ∫ cos^(d−2) θ dθ over cos θ ≤ 1/ρ, θ ≤ π/2.

    As ρ^(2−d), the largest value of the integrand, and the rest: the logarithms of the incomplete beta function cancel
    in float32 from d = 1000 on.
    """
    power, tangent = dim - 2, root((ratio - 1) * (ratio + 1))
    falls = 80 / jnp.maximum(power, 1e-3)  # at the end of the range to e^(−40) of its largest value
    end = jnp.minimum(jnp.arctan2(jnp.ones_like(tangent), tangent), falls / (tangent + jnp.sqrt(tangent**2 + falls)))
    nodes, weights = (jnp.asarray(part, dim.dtype) for part in np.polynomial.legendre.leggauss(64))
    angle = end[:, None] * (1 + nodes[None, :]) / 2
    less = 2 * jnp.sin(angle / 2) ** 2 + tangent[:, None] * jnp.sin(angle)
    inner = jnp.exp(power[:, None] * jnp.log1p(-less))
    half = (dim - 1) / 2  # Γ(d/2)/Γ((d−1)/2), far up by its expansion
    few = jnp.exp(
        jax.scipy.special.gammaln(jnp.minimum(half, 20) + 0.5) - jax.scipy.special.gammaln(jnp.minimum(half, 20))
    )
    many = jnp.sqrt(half) * (1 - 1 / (8 * half) + 1 / (128 * half**2) + 5 / (1024 * half**3))
    front = 2 / math.sqrt(math.pi) * jnp.where(half < 20, few, many)
    rest = front * end / 2 * jnp.sum(weights[None, :] * inner, axis=1)
    return jnp.exp(-power * jnp.log1p(ratio - 1)), rest


@boundary(static=("error",))
def neurons_needed(certificate: Callable[[int], float], error: float) -> int:
    """The least N whose certificate allows the relative squared error: no smaller network of two layers reaches it.

    Args:
        certificate: N ↦ a lower bound that falls with N, as `lambda n: inner_product_certificate(10, 5, n)`.
        error: in (0, 1).

    Raises:
        ValueError: an error out of range; a certificate that is NaN, or still above the error at 2^200 neurons.

    Cost: about 2 log2 N evaluations.

    >>> neurons_needed(lambda n: inner_product_certificate(10, 5, n), 0.01)
    1765
    """
    require(0 < error < 1, "error", error, "lie in (0, 1)", "pass a relative squared error")

    def above(neurons: int) -> bool:
        bound = float(host_numbers("certificate", certificate(neurons), axes=0))
        require(bound == bound, "certificate", bound, "be a number", "pass a lower bound on the error")
        return bound > error

    high = 1
    while above(high):
        high *= 2
        require(high <= 2**200, "certificate", certificate(high), f"fall to {error} with neurons", "use another bound")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high if above(0) else 0


def _require_dim(dim: int) -> None:
    require(dim >= 2, "dim", dim, "be >= 2", "the circle is dim=2")


def _require_neurons(neurons: int) -> None:
    require(neurons >= 0, "neurons", neurons, "be >= 0", "pass the number of hidden units")
