r"""Functions to test adaptivity on: the four classic signals, and random piecewise smooth functions and images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, constrain, positive, require

Number = float | Float[Array, ""]

_PLACES = (0.1, 0.13, 0.15, 0.23, 0.25, 0.40, 0.44, 0.65, 0.76, 0.78, 0.81)
_STEPS = (4.0, -5.0, 3.0, -4.0, 5.0, -4.2, 2.1, 4.3, -3.1, 2.1, -4.2)
_PEAKS = (4.0, 5.0, 3.0, 4.0, 5.0, 4.2, 2.1, 4.3, 3.1, 5.1, 4.2)
_WIDTHS = (0.005, 0.005, 0.006, 0.01, 0.01, 0.03, 0.01, 0.01, 0.005, 0.008, 0.005)


@boundary
def blocks(t: Float[Array, " n"]) -> Float[Array, " n"]:
    """Σ h_i (1 + sgn(t − t_i))/2: eleven jumps, constant outside [0, 1]. Cost: O(n).

    Source: Donoho and Johnstone (1994), Table 1.

    >>> blocks(jnp.array([0.05, 0.12])).tolist()
    [0.0, 4.0]
    """
    places, heights = (jnp.asarray(part, t.dtype) for part in (_PLACES, _STEPS))
    return jnp.sum(heights[:, None] * (1 + jnp.sign(t[None, :] - places[:, None])) / 2, axis=0)


@boundary
def bumps(t: Float[Array, " n"]) -> Float[Array, " n"]:
    """Σ h_i (1 + |t − t_i|/w_i)^{−4}: eleven peaks with kinks, 0 far away. Cost: O(n).

    Source: Donoho and Johnstone (1994), Table 1.

    >>> f"{bumps(jnp.array([0.4]))[0]:.2f}"
    '4.20'
    """
    places, heights, widths = (jnp.asarray(part, t.dtype)[:, None] for part in (_PLACES, _PEAKS, _WIDTHS))
    return jnp.sum(heights * (1 + jnp.abs(t[None, :] - places) / widths) ** -4, axis=0)


@boundary
def heavisine(t: Float[Array, " n"]) -> Float[Array, " n"]:
    """4 sin 4πt − sgn(t − 0.3) − sgn(0.72 − t): smooth but for two jumps. Cost: O(n).

    Source: Donoho and Johnstone (1994), Table 1.

    >>> heavisine(jnp.array([0.0])).tolist()
    [0.0]
    """
    return 4 * jnp.sin(4 * jnp.pi * t) - jnp.sign(t - 0.3) - jnp.sign(0.72 - t)


@boundary
def doppler(t: Float[Array, " n"], epsilon: Number = 0.05) -> Float[Array, " n"]:
    """√(t(1 − t)) sin(2π(1 + ε)/(t + ε)): a frequency that grows without bound as ε → 0. Cost: O(n).

    Args:
        t: in [0, 1]; NaN outside. epsilon: ε > 0.

    Raises:
        ValueError: ε ≤ 0 (outside jit; NaN inside). Source: Donoho and Johnstone (1994), Table 1.

    >>> f"{doppler(jnp.array([0.5]))[0]:.4f}"
    '-0.2703'
    """
    shift = jnp.asarray(positive("epsilon", epsilon, "use the published 0.05"), t.dtype)
    return jnp.sqrt(t * (1 - t)) * jnp.sin(2 * jnp.pi * (1 + shift) / (t + shift))


@boundary(static=("frequencies",))
def smooth(key: Key[Array, ""], t: Float[Array, "..."], beta: Number, frequencies: int = 200) -> Float[Array, "..."]:
    r"""A random β-Hölder function: Σ_k k^{−β−1/2} (a_k cos 2πkt + b_k sin 2πkt), standard Gaussian a and b.

    It is in C^{β'} for every β' < β, almost surely.

    Args:
        t: any shape; the function has period 1. beta: > 0. frequencies: of the series, ≥ 1.

    Raises:
        ValueError: beta ≤ 0 (outside jit; NaN inside), no frequency.

    Cost: O(frequencies · size of t). Source: Kahane (1985), chapter 7.

    >>> smooth(jax.random.key(0), jnp.zeros((2, 3)), 1.5).shape
    (2, 3)
    """
    require(frequencies >= 1, "frequencies", frequencies, "be >= 1", "use the default")
    wish, hint = "be > 0 and finite", "pass a smoothness, e.g. 1.5"
    decay = -jnp.asarray(constrain("beta", beta, lambda v: (v > 0) & (v < np.inf), wish, hint), t.dtype) - 0.5
    k = jnp.arange(1, frequencies + 1, dtype=t.dtype)
    a, b = jax.random.normal(key, (2, frequencies), t.dtype) * k[None, :] ** decay
    angle = 2 * jnp.pi * (t - jnp.floor(t)).ravel()[:, None] * k[None, :]
    series = jnp.matmul(jnp.cos(angle), a, precision="highest") + jnp.matmul(jnp.sin(angle), b, precision="highest")
    return series.reshape(t.shape)


@boundary(static=("jumps",))
def piecewise_smooth(key: Key[Array, ""], t: Float[Array, " n"], jumps: int, beta: Number) -> Float[Array, " n"]:
    r"""β-Hölder pieces between `jumps` jumps of ±1 at uniformly random places.

    The places are random because a jump at a dyadic point is exactly sparse in the Haar basis.

    Args:
        key, t: points of [0, 1]. jumps: ≥ 0. beta: > 0.

    Raises:
        ValueError: jumps < 0, or beta ≤ 0 (outside jit; NaN inside). Cost: that of `smooth`.

    Source: Korostelev and Tsybakov (1993), chapter 2; Imaizumi and Fukumizu (2019), section 2.

    >>> piecewise_smooth(jax.random.key(0), jnp.linspace(0, 1, 8), 2, 2.0).shape
    (8,)
    """
    require(jumps >= 0, "jumps", jumps, "be >= 0", "use 0 for a smooth function")
    place_key, sign_key, smooth_key = jax.random.split(key, 3)
    places = jax.random.uniform(place_key, (jumps,), t.dtype)
    signs = jax.random.rademacher(sign_key, (jumps,), t.dtype)
    after = (t[None, :] >= places[:, None]).astype(t.dtype)
    steps = jnp.sum(signs[:, None] * after, axis=0)
    return steps + smooth(smooth_key, t, beta)


@boundary(static=("size",))
def horizon(
    key: Key[Array, ""], size: int, alpha: Number, beta: Number, *, dtype: Any = jnp.float32
) -> Float[Array, "n n"]:
    r"""An image with a random α-Hölder boundary between two β-Hölder pieces, at the midpoints of a size² grid.

        f(x, y) = g_1(x) + 1[y > 1/2 + b(x)] (1 + g_2(y)),   |b| ≤ 1/4.

    Args:
        key, size: pixels a side, ≥ 1. alpha, beta: > 0. dtype: of the image.

    Raises:
        ValueError: size < 1, or alpha, beta ≤ 0 (outside jit; NaN inside).

    Cost: O(frequencies · size + size²). Source: Donoho (1999), section 3 (the horizon model).

    >>> horizon(jax.random.key(0), 16, 2.0, 2.0).shape
    (16, 16)
    """
    require(size >= 1, "size", size, "be >= 1", "name the pixels on a side")
    t = (jnp.arange(size, dtype=dtype) + 0.5) / size
    edge, left, right = (smooth(k, t, r) for k, r in zip(jax.random.split(key, 3), (alpha, beta, beta), strict=True))
    # a border that is NaN would leave a finite image
    border = 0.5 + edge / (4 * jnp.maximum(jnp.abs(edge).max(), 1.0))
    above = jnp.where(jnp.isnan(border)[:, None], jnp.nan, (t[None, :] > border[:, None]).astype(t.dtype))
    return left[:, None] + above * (1 + right)[None, :]


@boundary(static=("size", "radius", "oversample"))
def disc(
    size: int, radius: float = 0.3, *, center: tuple[float, float] = (0.5, 0.5), oversample: int = 16
) -> np.ndarray:
    r"""The indicator of a disc, averaged over each of size² pixels of the unit square, in float64 on the host.

    Column by column in closed form, with `oversample` midpoints across a pixel in the other direction.

    Args:
        size: pixels a side, ≥ 1. radius: > 0. center: of the disc; parts outside the square are cut off.
        oversample: ≥ 1; the error of a boundary pixel is its inverse square.

    Raises:
        ValueError: numbers out of range. Cost: size² · oversample.

    >>> f"{disc(64).mean() / (np.pi * 0.09):.4f}"
    '1.0000'
    """
    for name, value in (("size", size), ("radius", radius), ("oversample", oversample)):
        require(0 < value < np.inf, name, value, "be > 0 and finite", "pass a larger number")
    require(bool(np.isfinite(center).all()), "center", center, "be finite", "use the default (0.5, 0.5)")
    x = (np.arange(size * oversample) + 0.5) / (size * oversample) - center[0]
    with np.errstate(over="ignore"):
        half = np.sqrt(np.maximum((radius - x) * (radius + x), 0.0))
    edges = np.arange(size + 1) / size - center[1]
    length = np.minimum(edges[None, 1:], half[:, None]) - np.maximum(edges[None, :-1], -half[:, None])
    return np.maximum(length, 0.0).reshape(size, oversample, size).mean(axis=1) * size
