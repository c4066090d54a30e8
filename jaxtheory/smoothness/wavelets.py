r"""Orthonormal discrete wavelet transforms: Haar and Daubechies, in any dimension, periodic, jitted.

A step of the pyramid turns n samples into n/2 averages and n/2 details, with filters h and g of length 2N:

    a_k = Σ_i h_i x_{2k+i+1−N},   d_k = Σ_i g_i x_{2k+i+1−N},   g_i = (−1)^i h_{2N−1−i},   indices modulo n.

The map is orthogonal, so its inverse is its transpose and sums of squares are kept. With x_i = f(i/n)/√n the details
are, up to aliasing, the inner products of f with the L²-normalized wavelets ψ_{jk}.
"""

import math
import operator
from collections.abc import Callable
from functools import lru_cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, quantity, require

WAVELETS = ("haar", *(f"db{order}" for order in range(2, 11)))


class Coefficients(NamedTuple):
    """A pyramid: the coarsest averages, and details from coarse to fine, 2^d − 1 bands each.

    Bands are ordered by which axes are high-pass, the last axis first: in two dimensions ad, da, dd.
    """

    approximation: Float[Array, "..."]
    details: tuple[Float[Array, "bands ..."], ...]


@boundary
@lru_cache
def filters(wavelet: str) -> tuple[np.ndarray, np.ndarray]:
    r"""Low- and high-pass filters h and g, each of length 2N, in float64, read-only.

    h has the least phase among the factors of |m_0|² = cos^{2N}(ω/2) Σ_{k<N} C(N−1+k, k) sin^{2k}(ω/2): for every root
    y of the sum, of the two z with z + 1/z = 2 − 4y the one in the unit disc is taken. Σh = √2, Σh² = 1.

    Args:
        wavelet: "haar", or "db2" … "db10" for N = 2 … 10 vanishing moments.

    Raises:
        ValueError: another name. Source: Daubechies (1992), section 6.1. Errors are below 5e−15.

    >>> f"{filters('db2')[0][0]:.6f}"
    '0.482963'
    """
    moments = vanishing_moments(wavelet)
    roots = np.roots([math.comb(moments - 1 + k, k) for k in reversed(range(moments))])
    half = 1 - 2 * roots
    outer = half + np.sqrt(half**2 - 1 + 0j)
    inside = np.where(np.abs(outer) < 1, outer, 1 / outer)
    low = np.real(np.poly(np.concatenate([-np.ones(moments), inside])))
    low *= np.sqrt(2) / low.sum()
    both = low, low[::-1] * (-1.0) ** np.arange(2 * moments)
    for taps in both:
        taps.flags.writeable = False  # they are kept
    return both


@boundary
def vanishing_moments(wavelet: str) -> int:
    """N: the wavelet is orthogonal to polynomials of degree < N.

    Raises:
        ValueError: an unknown name. Source: Daubechies (1992), section 6.1.

    >>> vanishing_moments("db4")
    4
    """
    known = wavelet in WAVELETS
    require(known, "wavelet", repr(wavelet), "be one of " + ", ".join(WAVELETS), "name an orthonormal wavelet")
    return WAVELETS.index(wavelet) + 1


@boundary(static=("p",))
@lru_cache
def smoothness(wavelet: str, p: float = 2.0) -> float:
    r"""Largest s for which the coefficients are known to characterize B^s_{p,q}.

    In L², exactly: s_2 = N − ½ log2 ρ(T), where T_{kl} = 2 w_{2k−l} is the transfer operator of the trigonometric
    polynomial w that is left of |m_0|² without cos^{2N}. For p > 2, s_2 − (1/2 − 1/p) is what the embedding leaves; for
    p < 2, s_2. Haar's is known for all p: min(1, 1/p).

    Args:
        wavelet: one of `WAVELETS`. p: in (0, ∞].

    Raises:
        ValueError: an unknown name, or p ≤ 0. Cost: eigenvalues of a matrix of size 2N − 1, kept.

    Source: Eirola (1992), Theorem 4.1; Villemoes (1992); Triebel (2010), section 2.2 (Haar).

    >>> [round(smoothness(name), 3) for name in ("haar", "db2", "db3", "db4")]
    [0.5, 1.0, 1.415, 1.776]
    """
    moments = vanishing_moments(wavelet)
    require(p > 0, "p", p, "lie in (0, inf]", "use math.inf for the sup norm")
    if moments == 1:
        return min(1.0, 1.0 / p)
    sine = np.array([-0.25, 0.5, -0.25])  # sin²(ω/2) as a Laurent polynomial in e^{iω}
    weight = np.zeros(2 * moments - 1)
    power = np.ones(1)
    for k in range(moments):
        weight[moments - 1 - k : moments + k] += math.comb(moments - 1 + k, k) * power
        power = np.convolve(power, sine)
    index = np.arange(-moments + 1, moments)
    shift = 2 * index[:, None] - index[None, :]
    transfer = np.where(np.abs(shift) < moments, 2 * weight[(shift + moments - 1).clip(0, 2 * moments - 2)], 0.0)
    radius = np.abs(np.linalg.eigvals(transfer)).max()
    return float(moments - 0.5 * np.log2(radius) - max(0.0, 0.5 - 1.0 / p))


@boundary(static=("levels",))
@partial(jax.jit, static_argnames=("wavelet", "levels"))
def dwt(x: Float[Array, "..."], wavelet: str = "db4", levels: int | None = None) -> Coefficients:
    """Periodic orthonormal wavelet transform over all axes of x; `jax.vmap` it over a batch.

    In d dimensions each step acts on every axis of the averages, which gives 2^d − 1 bands of details (the isotropic
    pyramid). For the tensor basis of mixed smoothness see `tensor_dwt`.

    Args:
        x: samples [n_1, …, n_d], each n_i a multiple of 2^levels.
        wavelet: one of `WAVELETS`.
        levels: steps; by default as many as the shortest axis, a power of two, allows.

    Returns:
        `Coefficients`, in the dtype of x. The convention is that of PyWavelets' mode "periodization".

    Raises:
        ValueError: lengths that cannot be halved so often, or an unknown wavelet.

    Cost: O(N · size) flops, 4 passes over memory at most. Source: Mallat (1989), sections 3 and 4.

    >>> dwt(jnp.array([1.0, 3.0, 2.0, 2.0]), "haar").approximation.round(4).tolist()
    [4.0]
    """
    low, details = x, []
    for _ in range(_steps(x.shape, levels)):
        bands = [low]
        for axis in range(x.ndim):
            bands = [part for band in bands for part in _along(_halve, band, axis, wavelet)]
        low = bands[0]
        details.append(jnp.stack(bands[1:]))
    return Coefficients(low, tuple(reversed(details)))


@boundary
@partial(jax.jit, static_argnames="wavelet")
def idwt(coefficients: Coefficients, wavelet: str = "db4") -> Float[Array, "..."]:
    """The samples whose `dwt` these coefficients are: the transpose of an orthogonal map.

    Args:
        coefficients: from `dwt`. wavelet: that of the transform.

    Raises:
        ValueError: details whose shapes do not double, or an unknown wavelet.

    Cost: that of `dwt`. Source: Mallat (1989), section 3.3.

    >>> x = jnp.arange(8.0)
    >>> bool(jnp.allclose(idwt(dwt(x, "db2"), "db2"), x, atol=1e-5))
    True
    """
    low, details = floating(coefficients)
    for detail in details:
        wanted = (2**low.ndim - 1, *low.shape)
        require(detail.shape == wanted, "details", detail.shape, f"have shape {wanted} here", "take them from dwt")
        bands = [low, *detail]
        for axis in reversed(range(low.ndim)):
            bands = [_along(_double, pair, axis, wavelet) for pair in zip(bands[::2], bands[1::2], strict=True)]
        low = bands[0]
    return low


@boundary(static=("levels",))
@partial(jax.jit, static_argnames=("wavelet", "levels"))
def tensor_dwt(x: Float[Array, "..."], wavelet: str = "db4", levels: int | None = None) -> Float[Array, "..."]:
    """Coefficients in the tensor-product basis ψ_{j_1 k_1} ⊗ … ⊗ ψ_{j_d k_d}, the basis of mixed smoothness.

    The 1-D transform along each axis in turn, each axis ordered coarse to fine as `ravel` orders it: with full levels,
    entry 0 is the average and entries 2^j … 2^{j+1} − 1 are the details of level j.

    Args:
        x, wavelet, levels: as in `dwt`.

    Raises:
        ValueError: as `dwt`. Cost: d passes of the 1-D transform. Source: DeVore, Konyagin, Temlyakov (1998).

    >>> tensor_dwt(jnp.ones((4, 4)), "haar")[0, :2].round(4).tolist()
    [4.0, 0.0]
    """
    one = jnp.vectorize(lambda row: ravel(dwt(row, wavelet, levels)), signature="(n)->(n)")
    for axis in range(x.ndim):
        x = jnp.moveaxis(one(jnp.moveaxis(x, axis, -1)), -1, axis)
    return x


@boundary
def floating(coefficients: Coefficients) -> Coefficients:
    """The coefficients as floating arrays: integers, lists and half precision are converted.

    Raises:
        ValueError: a part that is no array of numbers.

    >>> floating(Coefficients(jnp.array([1]), ())).approximation
    Array([1.], dtype=float32)
    """
    details = tuple(jnp.asarray(quantity("details", detail)) for detail in coefficients.details)
    return Coefficients(jnp.asarray(quantity("approximation", coefficients.approximation)), details)


@boundary
def ravel(coefficients: Coefficients) -> Float[Array, " n"]:
    """All coefficients in one vector, from coarse to fine. Cost: one copy.

    >>> ravel(dwt(jnp.ones(4), "haar")).round(4).tolist()
    [2.0, 0.0, 0.0, 0.0]
    """
    approximation, details = floating(coefficients)
    return jnp.concatenate([part.ravel() for part in (approximation, *details)])


@boundary
def level(detail: Float[Array, "bands ..."]) -> int:
    """j of details with 2^j positions on each axis.

    Raises:
        ValueError: another number of positions, or axes of different lengths.

    >>> level(jnp.zeros((1, 8)))
    3
    """
    size = detail.shape[1] if detail.ndim > 1 else 0
    cube = size > 0 and all(n == size for n in detail.shape[1:]) and size & (size - 1) == 0
    require(cube, "details", detail.shape, "hold 2^j positions on each axis", "transform a cube of 2^J samples")
    return size.bit_length() - 1


def _steps(shape: tuple[int, ...], levels: int | None) -> int:
    require(len(shape) >= 1 and min(shape, default=0) >= 1, "x", shape, "hold samples", "pass an array of samples")
    if levels is None:
        power = min(shape) & (min(shape) - 1) == 0
        require(power, "x", shape, "have a power of two of samples on its shortest axis", "resample, or give levels")
        levels = min(shape).bit_length() - 1
    require(levels >= 0, "levels", levels, "be >= 0", "name the number of steps")
    fits = all(n % 2**levels == 0 for n in shape)
    require(fits, "x", shape, f"have lengths that are multiples of 2^levels = {2**levels}", "resample to a power of 2")
    return levels


def _along(step: Callable[..., Any], bands: Any, axis: int, wavelet: str) -> Any:
    """`step`, which acts on last axes, along another one."""
    moved = jax.tree.map(lambda band: jnp.moveaxis(band, axis, -1), bands)
    return jax.tree.map(lambda band: jnp.moveaxis(band, -1, axis), step(moved, wavelet))


def _halve(x: Array, wavelet: str) -> tuple[Array, Array]:
    """One step along the last axis: averages and details, as sums of shifted slices of the even and odd samples."""
    half, moments = x.shape[-1] // 2, vanishing_moments(wavelet)
    wrapped = _wrapped(x, moments - 1).reshape(*x.shape[:-1], -1, 2)
    slices = [wrapped[..., i // 2 : i // 2 + half, i % 2] for i in range(2 * moments)]
    low, high = (_weighted(taps, slices) for taps in filters(wavelet))
    return low, high


def _double(pair: tuple[Array, Array], wavelet: str) -> Array:
    """The transpose of `_halve`: even and odd samples, each from every other tap of both filters."""
    half, moments = pair[0].shape[-1], vanishing_moments(wavelet)
    reach = (moments + 1) // 2
    wrapped = [_wrapped(band, reach) for band in pair]
    parities = []
    for r in (0, 1):
        taps = range((r + moments - 1) % 2, 2 * moments, 2)
        starts = [reach + (r + moments - 1 - i) // 2 for i in taps]
        slices = [band[..., start : start + half] for band in wrapped for start in starts]
        parities.append(_weighted(np.concatenate([taps_of[list(taps)] for taps_of in filters(wavelet)]), slices))
    return jnp.stack(parities, axis=-1).reshape(*pair[0].shape[:-1], 2 * half)


def _wrapped(x: Array, reach: int) -> Array:
    """x continued periodically by `reach` entries on both sides, however short it is."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(reach, reach)], mode="wrap")


def _weighted(weights: np.ndarray, parts: list[Array]) -> Array:
    return reduce(operator.add, [float(w) * part for w, part in zip(weights, parts, strict=True)])
