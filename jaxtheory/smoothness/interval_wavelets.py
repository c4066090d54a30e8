r"""Daubechies wavelets on the interval [0, 1]: no wrap, N vanishing moments up to both ends, orthonormal.

Near an end, what the interior scaling functions leave of the polynomials x^0, …, x^{N−1} is orthonormalized into N edge
functions. They refine themselves, θ_k(x) = 2^{−k} θ_k(2x) + Σ_{n=1}^{2N} b_{kn} φ_n(2x), which gives their Gram matrix
without an integral, G_{kl} (1 − 2^{−k−l−1}) = ½ Σ_n b_{kn} b_{ln}, and filters of edge functions and edge wavelets.
"""

import math
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, require
from jaxtheory.smoothness.wavelets import Coefficients, filters, floating, vanishing_moments

_LARGEST = 5  # moments: beyond, Gram matrices of monomials are too ill-conditioned for float64


class Edge(NamedTuple):
    """Filters of one end, entries counted from it inwards: [N, 3N], over N edge and 2N interior functions."""

    low: np.ndarray
    high: np.ndarray
    precondition: np.ndarray
    """[N, N], from samples to coefficients of the edge functions, exact on polynomials of degree < N"""


@boundary(static=("levels",))
@partial(jax.jit, static_argnames=("wavelet", "levels"))
def interval_dwt(x: Float[Array, " n"], wavelet: str = "db2", levels: int = 1) -> Coefficients:
    """Orthonormal wavelet transform on the interval: details of polynomials of degree < N vanish, at the ends too.

    The first and last N samples are turned into coefficients of edge functions (the only part that is not
    orthogonal); each step then is an orthogonal map.

    Args:
        x: samples. wavelet: "db2" … "db5". levels: steps, after each of which at least 4N averages are left.

    Returns:
        `Coefficients`; each level begins and ends with its N edge coefficients.

    Raises:
        ValueError: another wavelet, or too few samples. Cost: that of `dwt`, and 12 N² an end and level.

    Source: Cohen, Daubechies, Vial (1993), section 4, and section 5 for the samples at the ends.

    >>> details = interval_dwt(jnp.arange(32.0), "db2", 1).details[0]
    >>> bool(jnp.abs(details).max() < 1e-4)
    True
    """
    moments = _check(len(x), wavelet, levels)
    left, right = _edges(wavelet)
    low = _ends(x, moments, left.precondition, right.precondition)
    details = []
    for _ in range(levels):
        low, high = _halve(low, wavelet)
        details.append(high[None, :])
    return Coefficients(low, tuple(reversed(details)))


@boundary
@partial(jax.jit, static_argnames="wavelet")
def interval_idwt(coefficients: Coefficients, wavelet: str = "db2") -> Float[Array, " n"]:
    """The samples whose `interval_dwt` these coefficients are.

    Args:
        coefficients: from `interval_dwt`. wavelet: that of the transform.

    Raises:
        ValueError: another wavelet, or details whose shapes do not double. Cost: that of `interval_dwt`.

    >>> x = jnp.sin(jnp.arange(32.0))
    >>> bool(jnp.allclose(interval_idwt(interval_dwt(x, "db2"), "db2"), x, atol=1e-4))
    True
    """
    low, details = floating(coefficients)
    _check(len(low) << len(details), wavelet, len(details))
    for detail in details:
        wanted = (1, len(low))
        require(
            detail.shape == wanted, "details", detail.shape, f"have shape {wanted} here", "take them from interval_dwt"
        )
        low = _double(low, detail[0], wavelet)
    left, right = _edges(wavelet)
    undo = (np.linalg.inv(edge.precondition) for edge in (left, right))
    return _ends(low, vanishing_moments(wavelet), *undo)


def _check(n: int, wavelet: str, levels: int) -> int:
    moments = vanishing_moments(wavelet)
    fits = 2 <= moments <= _LARGEST
    require(fits, "wavelet", wavelet, f"be one of db2 … db{_LARGEST}", "use the periodic dwt (Haar needs no edges)")
    enough = levels >= 0 and n % 2**levels == 0 and n >> levels >= 4 * moments
    wish = f"be a multiple of 2^levels, with at least {4 * moments} averages left"
    require(enough, "x", (n, levels), wish, "sample more finely, or take fewer levels")
    return moments


def _ends(x: Array, moments: int, left: np.ndarray, right: np.ndarray) -> Array:
    """The first and the last N entries through a matrix each, the latter counted from the end."""
    first = _apply(left, x[:moments])
    last = _apply(right, x[::-1][:moments])[::-1]
    return jnp.concatenate([first, x[moments:-moments], last])


def _apply(matrix: np.ndarray, x: Array) -> Array:
    return jnp.matmul(jnp.asarray(matrix, x.dtype), x, precision="highest")


def _halve(x: Array, wavelet: str) -> tuple[Array, Array]:
    taps, moments = filters(wavelet), vanishing_moments(wavelet)
    left, right = _edges(wavelet)
    inner, count = x[moments:-moments], len(x) // 2 - 2 * moments
    slices = jnp.stack([inner[1 + i : 1 + i + 2 * count : 2] for i in range(2 * moments)])
    both = []
    for band, tap in zip(("low", "high"), taps, strict=True):
        first = _apply(getattr(left, band), x[: 3 * moments])
        last = _apply(getattr(right, band), x[::-1][: 3 * moments])[::-1]
        both.append(jnp.concatenate([first, _apply(tap, slices), last]))
    return both[0], both[1]


def _double(low: Array, high: Array, wavelet: str) -> Array:
    """The transpose of `_halve`."""
    moments, half = vanishing_moments(wavelet), len(low)
    left, right = _edges(wavelet)
    x = jnp.zeros(2 * half, low.dtype)
    for band, coefficients, tap in zip(("low", "high"), (low, high), filters(wavelet), strict=True):
        x = x.at[: 3 * moments].add(_apply(getattr(left, band).T, coefficients[:moments]))
        last = _apply(getattr(right, band).T, coefficients[::-1][:moments])
        x = x.at[-3 * moments :].add(last[::-1])
        inner = coefficients[moments:-moments]
        start = moments + 1
        for i, weight in enumerate(tap.tolist()):
            x = x.at[start + i : start + i + 2 * len(inner) : 2].add(weight * inner)
    return x


@lru_cache
def _edges(wavelet: str) -> tuple[Edge, Edge]:
    low, high = filters(wavelet)
    return _edge(low, high), _edge(low[::-1], high[::-1])


def _edge(low: np.ndarray, high: np.ndarray) -> Edge:
    """The left end of the half-line for filters h and g; interior functions are those with support in [1, ∞)."""
    moments = len(low) // 2
    powers = _coefficients_of_powers(low, np.arange(1, 4 * moments))
    refined = np.zeros((moments, 2 * moments))
    for k, n in np.ndindex(moments, 2 * moments):
        inside = range(1, (n + 1) // 2 + 1)  # φ_m reaches the fine function n + 1 = 1 … 2N from these m ≥ 1
        overlap = sum(powers[k, m - 1] * low[n + 1 - 2 * m] for m in inside)
        refined[k, n] = 2.0**-k * powers[k, n] - math.sqrt(2) * overlap
    degree = np.arange(moments)
    gram = refined @ refined.T / 2 / (1 - 2.0 ** -(degree[:, None] + degree[None, :] + 1))
    root = np.linalg.cholesky(gram)
    own = np.linalg.solve(root, 2.0 ** -degree[:, None] * root)
    rows = np.concatenate([own, np.linalg.solve(root, refined)], axis=1) / math.sqrt(2)
    return Edge(rows, _complement(rows, low, high), _preconditioner(root, low))


def _coefficients_of_powers(low: np.ndarray, places: np.ndarray) -> np.ndarray:
    """∫ x^k φ(x − m) dx for k < N and the m given, from the moments of φ, which its refinement equation gives."""
    count = len(low) // 2
    discrete = [(low * np.arange(len(low), dtype=float) ** k).sum() / math.sqrt(2) for k in range(count)]
    moments = [1.0]
    for k in range(1, count):
        mixed = sum(math.comb(k, i) * discrete[k - i] * moments[i] for i in range(k))
        moments.append(mixed / (2.0**k - 1))
    m = places.astype(float)
    return np.array([sum(math.comb(k, i) * m ** (k - i) * moments[i] for i in range(k + 1)) for k in range(count)])


def _complement(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Edge wavelets: an orthonormal basis of what edge rows and interior filters leave of the first 3N entries."""
    moments = len(rows)
    window = 9 * moments
    inner = [np.zeros(window) for _ in range(2 * (2 * moments + 1))]
    for i, row in enumerate(inner):
        start = moments - 1 + 2 * (i // 2 + 1)
        row[start : start + 2 * moments] = (low, high)[i % 2]
    basis = np.concatenate([np.pad(rows, ((0, 0), (0, window - 3 * moments))), np.array(inner)])
    left = np.eye(3 * moments, window) - basis[:, : 3 * moments].T @ basis
    return np.linalg.svd(left)[2][:moments, : 3 * moments]


def _preconditioner(root: np.ndarray, low: np.ndarray) -> np.ndarray:
    """A with A p = the edge coefficients of the polynomial whose interior coefficients are p(m), at m = 1 − N … 0."""
    moments = len(root)
    m = np.arange(1 - moments, 1)
    vandermonde = m[:, None].astype(float) ** np.arange(moments)[None, :]
    table = _coefficients_of_powers(low, m)  # of x^k at each m, so that q_k = Σ T^{-1}_{kl} x^l has coefficients m^k
    triangle = np.linalg.solve(vandermonde, table.T).T
    return np.linalg.solve(triangle, root).T @ np.linalg.inv(vandermonde)
