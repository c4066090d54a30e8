r"""The classical spaces by their own norms, none of them through wavelets: Sobolev, Hölder, bounded variation.

B^s_{2,2} is Sobolev's H^s, B^s_{∞,∞} is Hölder's C^s for s that is no integer, and B^1_{1,1} ⊂ BV ⊂ B^1_{1,∞}.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, require

Number = float | Float[Array, ""]


@boundary
def sobolev_norm(x: Float[Array, "..."], s: Number) -> Float[Array, ""]:
    r"""The norm of H^s on the torus, (Σ_k (1 + |2πk|²)^s |f̂_k|²)^{1/2}, of the trigonometric interpolant of samples.

    On an axis of even length n the interpolant holds the frequency n/2 as a cosine: half of the sample coefficient at
    each of k = ±n/2, so half of its square.

    Args:
        x: f at the points of a regular grid of [0, 1)^d, d ≥ 1. s: any real number.

    Returns:
        The norm. Rounding of the samples, ε at every frequency, counts too: in float32 an s for which ε (πn)^s is not
        far below 1 measures noise.

    Raises:
        ValueError: no samples, s not finite (outside jit; NaN inside).

    Cost: one FFT. Source: Adams and Fournier (2003), section 7.62.

    >>> f"{sobolev_norm(jnp.ones(8), 1.0):.1f}"
    '1.0'
    """
    require(x.ndim >= 1 and x.size >= 1, "x", x.shape, "hold samples on a grid", "pass an array of samples")
    order = constrain("s", s, lambda v: abs(v) < np.inf, "be finite", "pass a smoothness, e.g. 1.0")
    return _sobolev_norm(x, jnp.asarray(order, x.dtype))


@jax.jit
def _sobolev_norm(x: Array, order: Array) -> Array:
    axes = [np.fft.fftfreq(n, 1 / n) for n in x.shape]
    squares = sum((2 * np.pi * k) ** 2 for k in np.meshgrid(*axes, indexing="ij"))
    halves = np.meshgrid(*(np.where(2 * np.abs(k) == len(k), 0.5**0.5, 1.0) for k in axes), indexing="ij")
    amplitude = jnp.asarray(np.prod(np.stack(halves), axis=0), x.dtype)
    weight = amplitude * jnp.exp(order / 2 * jnp.asarray(np.log1p(squares), x.dtype))
    unit = guarded.power_of_two(x)
    spectrum = jnp.fft.fftn(x / unit) / x.size
    parts = jnp.stack([spectrum.real, spectrum.imag]).astype(x.dtype)
    # a weight beyond the dtype counts where there is something to weigh
    unseen = jnp.isinf(weight)[None] & (parts == 0)
    return unit * guarded.norm(jnp.where(unseen, jnp.zeros_like(parts), weight[None] * parts))


@boundary
@jax.jit
def total_variation(x: Float[Array, " n"]) -> Float[Array, ""]:
    """Σ|f(t_{i+1}) − f(t_i)|, the variation of the samples on [0, 1].

    Cost: one pass. Source: Ziemer (1989), section 5.3.

    >>> f"{total_variation(jnp.array([0.0, 2.0, 1.0])):.1f}"
    '3.0'
    """
    step = jnp.diff(x)
    return jnp.sum(step * jnp.sign(step))  # |·| with derivative 0 at 0


@boundary
def holder_norm(x: Float[Array, " n"], s: Number) -> Float[Array, ""]:
    r"""sup|f| + sup |f(t) − f(u)|/|t − u|^s over the sample points i/n of the circle, 0 < s < 1.

    Args:
        x: f(i/n), n ≥ 1. s: the exponent.

    Raises:
        ValueError: no samples, or s outside (0, 1) (outside jit; NaN inside).

    Cost: O(n²) flops, O(n) memory. Source: Triebel (2006), section 1.2.

    >>> f"{holder_norm(jnp.array([0.0, 0.5]), 0.5):.4f}"
    '1.2071'
    """
    require(len(x) >= 1, "x", x.shape, "hold samples", "pass f at i/n")
    wish, hint = "lie in (0, 1)", "differentiate first for larger s"
    return _holder_norm(x, jnp.asarray(constrain("s", s, lambda v: (v > 0) & (v < 1), wish, hint), x.dtype))


@jax.jit
def _holder_norm(x: Array, s: Array) -> Array:
    n = len(x)

    @jax.checkpoint
    def quotient(h: Array) -> Array:
        return jnp.abs(jnp.roll(x, -h) - x).max() * (h.astype(x.dtype) / n) ** -s

    steps = jnp.arange(1, n // 2 + 1)
    # s enters also where there is no pair of points
    return jnp.abs(x).max() + jax.lax.map(quotient, steps).max(initial=0) + 0 * s
