r"""Random functions with jumps, and Gaussian ones of the same covariance: what no linear estimator can tell apart.

The mean squared error of a linear estimator, over the draws of the function and of the noise, depends on the mean and
the covariance of the function alone. The best one has the risk of the Gaussian field with that covariance, where no
estimator at all does better; on functions with few jumps adaptive ones do.

| jumps | Gaussian field | best linear risk of n samples |
| --- | --- | --- |
| `half_spaces` in the unit ball of R^d | `half_space_covariance`: Lévy's Brownian motion | n^{−1/(d + 1)} |
| `jump_loop` on the circle | `gaussian_loop`: a Brownian loop of mean 0 | `loop_linear_risk`, n^{−1/2} |
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, nonnegative, positive, require

Number = float | Float[Array, ""]


@boundary(static=("count",))
def half_spaces(key: Key[Array, ""], x: Float[Array, "n d"], count: int = 1) -> Float[Array, " n"]:
    r"""m^{−1/2} Σ_i ε_i sgn(u_i·x − b_i), m = `count`: jumps of ±2 m^{−1/2} across random hyperplanes.

    Directions u_i are uniform on the sphere, offsets b_i uniform in [−1, 1], signs ε_i uniform. In the unit ball it has
    mean 0, variance 1 and the covariance `half_space_covariance`, for every m; as m → ∞ it becomes Gaussian.

    Args:
        key, x: points. count: m ≥ 1.

    Raises:
        ValueError: count < 1. Cost: O(n m d). Source: Chentsov (1957), with half-spaces in the place of white noise.

    >>> half_spaces(jax.random.key(0), jnp.zeros((1, 3)) + 0.1).tolist() in ([-1.0], [1.0])
    True
    """
    require(count >= 1, "count", count, "be >= 1", "use 1 for a single jump")
    direction_key, offset_key, sign_key = jax.random.split(key, 3)
    u = jax.random.normal(direction_key, (count, x.shape[1]), x.dtype)
    b = jax.random.uniform(offset_key, (count,), x.dtype, minval=-1.0)
    signs = jax.random.rademacher(sign_key, (count,), x.dtype)
    side = jnp.sign(jnp.matmul(x, u.T, precision="highest") - (b * guarded.norm(u, axis=1))[None, :])
    return jnp.sum(side * signs[None, :], axis=1) / math.sqrt(count)


@boundary
def half_space_covariance(x1: Float[Array, "n d"], x2: Float[Array, "m d"]) -> Float[Array, "n m"]:
    r"""1 − c_d |x − x'|, c_d = E|u_1| = Γ(d/2)/(√π Γ((d+1)/2)), in the unit ball: the covariance of `half_spaces`.

    A random hyperplane separates x from x' with probability c_d |x − x'|/2. It is a kernel: regression with it, the
    noise variance as ridge, is the best linear estimator of half-spaces.

    Args:
        x1, x2: points of the unit ball.

    Returns:
        The matrix; derivatives at coincident points are 0.

    Raises:
        ValueError: points outside the ball (outside jit; NaN inside). Cost: O(n m d).

    Source: Chentsov (1957); Santaló (2004), for the measure of the hyperplanes that meet a segment.

    >>> half_space_covariance(jnp.array([[0.0], [0.5]]), jnp.array([[0.0]])).ravel().tolist()
    [1.0, 0.5]
    """
    d = x1.shape[1]
    require(x2.shape[1] == d >= 1, "x2", x2.shape, f"have {d} columns, as x1 has, at least 1", "pass points as rows")
    first, second = _in_ball("x1", x1), _in_ball("x2", x2)
    scale = jnp.asarray(math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi), x1.dtype)
    return _affine_distances(first, second, scale)


@jax.jit
def _affine_distances(x1: Array, x2: Array, scale: Array) -> Array:
    return 1 - scale * guarded.norm(x1.T[:, :, None] - x2.T[:, None, :], axis=0)


def _in_ball(name: str, x: Array) -> Array:
    """The points; rounding may put one on the sphere just outside."""
    limit, hint = 1 + 8 * float(jnp.finfo(x.dtype).eps), "scale them into the unit ball"

    def near(v: Any) -> Any:
        library = np if isinstance(v, np.ndarray) else jnp
        largest = library.abs(v) <= limit  # before squares, which overflow
        inside = library.where(largest, v, 0.0 * library.ones_like(v))
        return largest & ((inside**2).sum(axis=1, keepdims=True) <= limit**2)

    return constrain(name, x, near, "lie in the unit ball", hint)


@boundary
def jump_loop(key: Key[Array, ""], t: Float[Array, " n"], heights: Float[Array, " m"]) -> Float[Array, " n"]:
    r"""Σ_i ε_i h_i B(t − t_i), B(u) = 1/2 − (u mod 1): jumps of ±h_i at uniform places, of mean 0, on the circle.

    Heights h_i = i^{−1/p}, p < 2, put it in the weak ball of B^s_{p,∞}, s = 1/p: adaptive estimators reach
    n^{−2s/(2s+1)}, and every linear one n^{−1/2}.

    Args:
        key, t: points of the circle, read modulo 1. heights: h ≥ 0.

    Raises:
        ValueError: no heights, or heights < 0 (outside jit; NaN inside). Cost: O((n + m) log m).

    Source: DeVore (1998), on approximation with free knots.

    >>> jump_loop(jax.random.key(0), jnp.arange(4) / 4, jnp.array([2.0, 1.0])).shape
    (4,)
    """
    require(len(heights) >= 1, "heights", heights.shape, "hold a jump", "pass at least one height")
    place_key, sign_key = jax.random.split(key)
    sizes = nonnegative("heights", heights, "pass sizes; signs are drawn").astype(t.dtype)
    place = jax.random.uniform(place_key, sizes.shape, t.dtype)
    jumps = sizes * jax.random.rademacher(sign_key, sizes.shape, t.dtype)
    order = jnp.argsort(place)
    beyond = jnp.append(jnp.cumsum(jumps[order][::-1])[::-1], jnp.zeros_like(place[:1]))
    u = t - jnp.floor(t)
    later = beyond[jnp.searchsorted(place[order], u, side="right")]
    found = jnp.sum(jumps * (0.5 + place)) - jnp.sum(jumps) * u - later
    return jnp.where(jnp.isfinite(u), found, jnp.nan)


@boundary(static=("samples", "dtype"))
def gaussian_loop(key: Key[Array, ""], samples: int, energy: Number, *, dtype: Any = jnp.float32) -> Float[Array, " n"]:
    r"""The Gaussian function with the covariance of `jump_loop`, Σh_i² = `energy`, at n equidistant points.

    A stationary Brownian loop of mean 0 and variance energy/12: its Fourier coefficients are independent with
    E|f_k|² = energy/(2πk)², which the n points alias to E|F_k|² = energy/(4n² sin²(πk/n)), E F_0² = energy/(12n²).

    Args:
        key, samples: n ≥ 1. energy: ≥ 0. dtype: of the samples.

    Raises:
        ValueError: samples < 1, energy < 0 (outside jit; NaN inside). Cost: O(n log n).

    Source: Watson (1961), for the process.

    >>> gaussian_loop(jax.random.key(0), 8, 12.0).shape
    (8,)
    """
    _check_samples(samples)
    level = jnp.asarray(nonnegative("energy", energy, "pass the sum of squared heights"), dtype)
    spectrum = jnp.asarray(_spectrum(samples)[: samples // 2 + 1] * samples, dtype)
    white = jnp.fft.rfft(jax.random.normal(key, (samples,), dtype))
    shaped = jnp.fft.irfft(white * jnp.sqrt(spectrum).astype(white.dtype), n=samples).astype(dtype)
    return guarded.root(level) * shaped + jnp.where(jnp.isnan(level), level, jnp.zeros_like(level))


@boundary(static=("samples",))
def loop_linear_risk(samples: int, energy: Number, sigma: Number) -> Float[Array, ""]:
    r"""The least mean squared error of a linear estimator of either loop: Σ_k e_k v/(e_k + v), v = σ²/n.

    e_k = E|F_k|² are the energies in `gaussian_loop`. Attained by the Wiener filter e_k/(e_k + v) of the samples'
    Fourier coefficients, whatever the functions beyond their covariance; of Gaussian ones it is the Bayes risk of all
    estimators. As n → ∞ it falls as σ energy^{1/2}/(2√n).

    Args:
        samples: n ≥ 1. energy: Σh_i² > 0. sigma: σ ≥ 0 of the noise in each sample.

    Returns:
        The mean over the n points.

    Raises:
        ValueError: samples < 1, energy ≤ 0, σ < 0 (outside jit; NaN inside).

    Cost: O(n). Source: Pinsker (1980); Wahba (1990), on best linear prediction.

    >>> f"{loop_linear_risk(4096, 12.0, 0.3) / (0.3 * 12**0.5 / 2 / 64):.2f}"
    '0.99'
    """
    _check_samples(samples)
    level = jnp.asarray(positive("energy", energy, "pass the sum of squared heights"))
    noise = jnp.asarray(nonnegative("sigma", sigma, "pass a standard deviation"))
    dtype = np.result_type(level.dtype, noise.dtype)
    share = jnp.asarray(_spectrum(samples) * samples, dtype)
    return _wiener_risk(share, level.astype(dtype), noise.astype(dtype))


@jax.jit
def _wiener_risk(share: Array, energy: Array, sigma: Array) -> Array:
    """(1/n) Σ_k n e_k σ²/(n e_k + σ²), from the ratio of the standard deviations, which is at most 1."""
    signal = jnp.sqrt(share) * jnp.sqrt(energy)
    small = jnp.minimum(signal, sigma)
    ratio = guarded.over(small, jnp.maximum(signal, sigma))
    return jnp.mean(small**2 / (1 + ratio**2))


def _check_samples(samples: int) -> None:
    require(samples >= 1, "samples", samples, "be >= 1", "name the number of points")


def _spectrum(samples: int) -> np.ndarray:
    """E|F_k|²/energy at k = 0, …, n − 1."""
    k = np.arange(1, samples)
    return np.append(1 / (12 * samples**2), 1 / (2 * samples * np.sin(np.pi * k / samples)) ** 2)
