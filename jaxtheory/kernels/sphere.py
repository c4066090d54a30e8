"""Spectra of dot-product kernels on the sphere: Funk-Hecke eigenvalues, by quadrature or from a power series."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Complex, Float

from jaxtheory.checks import boundary, require

Profile = Callable[[Array], Array]
_PANELS, _ORDER = 48, 48  # Gauss-Legendre panels in the angle: 2304 nodes resolve degree 200 in dimension 1000


class SphereSpectrum(NamedTuple):
    """λ_k and multiplicity N(d, k) for k = 0..k_max; |computed − true λ_k| ≲ `error`, a bound of rounding."""

    eigenvalues: Float[Array, " k"]
    multiplicity: Float[Array, " k"]
    error: Float[Array, " k"]


@boundary(static=("dim", "k_max"))
def multiplicities(dim: int, k_max: int) -> Float[Array, " k"]:
    r"""Dimension of the spherical harmonics of degree k on S^(d−1): N(d, k) = (2k + d − 2)/k · C(k + d − 3, k − 1).

    Args: dim: d ≥ 2. k_max: ≥ 0. Needs 64-bit types. Cost: O(k_max). Source: Müller (1966), section 1.

    >>> with jax.enable_x64(True):
    ...     print(multiplicities(3, 3))
    [1. 3. 5. 7.]
    """
    _check(dim, k_max)
    k = jnp.arange(1, k_max + 1, dtype=jnp.float64)
    # C(a, b) in logarithms: 1000 dimensions at degree 200 make 1e233
    binomial = gammaln(k + dim - 2) - gammaln(k) - gammaln(jnp.asarray(dim - 1.0, jnp.float64))
    counts = jnp.exp(jnp.log(2 * k + dim - 2) - jnp.log(k) + binomial)
    return jnp.concatenate([jnp.ones(1, jnp.float64), jnp.where(counts < 2.0**50, jnp.round(counts), counts)])


@boundary(static=("dim", "k_max", "radius"))
def sphere_eigenvalues(profile: Profile, dim: int, k_max: int, *, radius: float | None = None) -> SphereSpectrum:
    r"""Eigenvalues of κ(⟨x, x'⟩) on the unit sphere S^(d−1) with its uniform probability measure.

        λ_k = ∫ κ(t) P_k(t) (1 − t²)^((d−3)/2) dt / ∫ (1 − t²)^((d−3)/2) dt,   P_k(1) = 1,   Σ N(d, k) λ_k = κ(1)

    By Gauss-Legendre panels in the angle, where arc-cosine, NTK and Laplace profiles are smooth, with the orthonormal
    recurrence. Its error is a few roundings of ‖κ‖/√N(d, k): no method that sees κ at real t alone in float64 can do
    better, and in high dimension that soon exceeds λ_k ≤ κ(1)/N(d, k). With `radius` the profile is also called at
    complex t, its power series taken from a contour, and λ_k is the sum of terms of one sign of `series_eigenvalues`,
    which keeps relative accuracy; for every k the answer with the smaller error bound is returned.

    Args:
        profile: κ, elementwise on an array; on the complex disc of `radius` too if that is given.
        dim: d ≥ 2, up to 1000. k_max: highest degree, up to 200.
        radius: of a contour on which κ is analytic (0.99 for arc-cosine and NTK profiles, larger for entire ones).

    Returns:
        `SphereSpectrum`; an eigenvalue means something where it exceeds its `error`.

    Raises:
        ValueError: without 64-bit types; dim < 2, k_max < 0; radius ≤ 0.

    Cost: 2304 k_max flops; with a radius 2^14 evaluations and 2000 k_max.
    Source: Müller (1966), Theorem 6 (Funk-Hecke).

    >>> with jax.enable_x64(True):
    ...     print(sphere_eigenvalues(lambda t: t, 3, 2).eigenvalues.round(6) + 0.0)
    [0.       0.333333 0.      ]
    """
    _check(dim, k_max)
    possible = radius is None or 0 < radius < np.inf
    require(possible, "radius", radius, "be positive and finite", "use 0.99 for a profile analytic on |t| < 1")
    counts = multiplicities(dim, k_max)
    values, error = _by_quadrature(profile, dim, counts)
    if radius is not None:
        coefficients, noise, tail = _taylor(profile, radius)
        series = series_eigenvalues(coefficients, dim, k_max)
        # the weights are exponentials of log Γ, whose rounding is relative to log Γ itself
        rounding = 4 * float(jnp.finfo(jnp.float64).eps) * gammaln(jnp.float64(coefficients.shape[0] + k_max + dim))
        bound = series_eigenvalues(noise, dim, k_max) + rounding * jnp.abs(series) + tail
        bound = jnp.where(jnp.arange(k_max + 1) < coefficients.shape[0], bound, jnp.inf)
        better = bound < error
        values, error = jnp.where(better, series, values), jnp.where(better, bound, error)
    return SphereSpectrum(values, counts, error)


@boundary(static=("dim", "k_max"))
def series_eigenvalues(coefficients: Float[Array, " j"], dim: int, k_max: int) -> Float[Array, " k"]:
    r"""Eigenvalues on S^(d−1) of κ(t) = Σ_j a_j t^j, sums of terms of one sign for a ≥ 0: no cancellation.

        λ_k = Σ_{j ≥ k, j − k even} a_j · j! Γ(d/2) / (2^j ((j−k)/2)! Γ((j + k + d)/2))

    Args: coefficients: a_0..a_J, float64. dim, k_max: as in `sphere_eigenvalues`.

    Cost: J k_max. Source: Azevedo and Menegatto (2014), Theorem 3.1; from Rodrigues' formula.

    >>> with jax.enable_x64(True):
    ...     print(series_eigenvalues(jnp.array([0.0, 1.0]), 3, 1).round(6))
    [0.       0.333333]
    """
    _check(dim, k_max)
    coefficients = coefficients.astype(jnp.float64)
    j = jnp.arange(coefficients.shape[0], dtype=jnp.float64)

    def degree(k: Array) -> Array:
        half = (j - k) / 2
        used = (j >= k) & (jnp.mod(j - k, 2) == 0)
        safe = jnp.where(used, half, 0)
        top = gammaln(j + 1) + gammaln(jnp.asarray(dim / 2, jnp.float64)) - j * jnp.log(2.0)
        weight = jnp.exp(top - gammaln(safe + 1) - gammaln((j + k + dim) / 2))
        return jnp.sum(jnp.where(used, coefficients * weight, 0))

    return jax.lax.map(degree, jnp.arange(k_max + 1, dtype=jnp.float64))


def _check(dim: int, k_max: int) -> None:
    require(jnp.zeros(0).dtype == jnp.float64, "jax_enable_x64", False, "be on: these sums need float64", "enable_x64")
    require(dim >= 2, "dim", dim, "be at least 2", "the circle is dim=2")
    require(k_max >= 0, "k_max", k_max, "be at least 0", "pass the highest degree")


def _by_quadrature(profile: Profile, dim: int, counts: Array) -> tuple[Array, Array]:
    node, weight = np.polynomial.legendre.leggauss(_ORDER)
    edges = np.linspace(0.0, np.pi, _PANELS + 1)
    theta = jnp.asarray((edges[:-1, None] + (node[None] + 1) * (edges[1] - edges[0]) / 2).ravel())
    measure = jnp.tile(jnp.asarray(weight), _PANELS) * jnp.exp((dim - 2) * jnp.log(jnp.sin(theta)))
    return _project(profile(jnp.cos(theta)), jnp.cos(theta), measure / measure.sum(), dim, counts)


@partial(jax.jit, static_argnames="dim")
def _project(values: Array, t: Array, measure: Array, dim: int, counts: Array) -> tuple[Array, Array]:
    root = jnp.sqrt(measure)  # carried with the polynomials, which alone overflow

    def squared_off_diagonal(k: Array) -> Array:  # of the Jacobi matrix of (1 − t²)^((d−3)/2)
        general = k * (k + dim - 3) / jnp.maximum((2 * k + dim - 2) * (2 * k + dim - 4), 1.0)
        return jnp.where(k == 1, 1.0 / dim, general)

    def step(state: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
        before, now = state
        back = jnp.where(k == 0, 0.0, jnp.sqrt(squared_off_diagonal(jnp.maximum(k, 1.0))))
        after = (t * now - back * before) / jnp.sqrt(squared_off_diagonal(k + 1))
        return (now, after), jnp.sum(values * root * now)

    k = jnp.arange(counts.shape[0], dtype=t.dtype)
    projections = jax.lax.scan(step, (jnp.zeros_like(t), root), k)[1]
    size = jnp.sqrt(jnp.sum(values**2 * measure))
    rounding = 16 * (k + 4) * float(jnp.finfo(t.dtype).eps) * size
    return projections / jnp.sqrt(counts), rounding / jnp.sqrt(counts)


def _taylor(profile: Profile, radius: float, count: int = 2**14) -> tuple[Array, Array, Array]:
    """Coefficients a_j and bounds of their error, ε max|κ| / radius^j, from the FFT of κ on a circle.

    And Cauchy's bound of Σ |a_j| over the terms left out, where the circle is larger than that of |t| = 1.
    """
    # in a smaller circle the errors grow with j
    terms = min(2000, int(-30 / np.log(radius))) if radius < 1 else 2000
    angle = 2 * jnp.pi * jnp.arange(count, dtype=jnp.float64) / count
    circle: Complex[Array, " count"] = radius * jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    samples = profile(circle)
    scale = jnp.exp(-jnp.log(radius) * jnp.arange(terms, dtype=jnp.float64))
    coefficients = jnp.fft.fft(samples)[:terms].real / count * scale
    largest = jnp.abs(samples).max()
    noise = 4 * float(jnp.finfo(jnp.float64).eps) * largest * scale
    beyond = radius**-terms / (1 - 1 / radius) if radius > 1 else 0.0
    return coefficients, noise, largest * beyond
