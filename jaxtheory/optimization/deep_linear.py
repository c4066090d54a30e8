r"""Singular values of deep linear networks under gradient flow: closed at depth 1 and 2, one quadrature beyond.

The gap σ − s = (σ(0) − s) e^{−τ} defines a clock τ of the mode, with τ̇ = N σ^{2 − 2/N}. It runs at a smooth positive
rate whether σ grows towards s, decays towards it, or s is 0.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, nonnegative, positive, require
from jaxtheory.optimization.decay import mean_decay

_PANELS, _NODES, _HALVINGS = 24, 16, 64


@boundary(static=("depth",))
def deep_linear_modes(
    singular_values: Float[Array, " d"], depth: int, start: float | Float[Array, ""], times: Float[Array, " t"]
) -> Float[Array, "t d"]:
    r"""Singular values of W_N ⋯ W_1 under gradient flow on ½‖W_N ⋯ W_1 − Y‖² from a balanced, aligned start.

        σ̇ = N σ^{2 − 2/N} (s − σ),  σ(0) = start

    N = 1: s + (σ₀ − s)e^{−t}. N = 2: 1/(e^{−2st}/σ₀ + (1 − e^{−2st})/s), which at s = 0 is 1/(1/σ₀ + 2t). Deeper, the
    time at which the gap s − σ has shrunk by e^{−τ} is a quadrature; its inverse is found by bisection and has
    implicit derivatives of every order, in all of s, σ(0) and t.

    Args:
        singular_values: s ≥ 0 of Y; 0 and values below `start` decay.
        depth: N ≥ 1.
        start: σ(0) > 0.
        times: t ≥ 0.

    Returns:
        σ at each time, for each singular value.

    Raises:
        ValueError: depth < 1 or traced; negative values or times, start ≤ 0 (outside jit; NaN inside).

    Cost: t · d · 25,000 powers for N ≥ 3. Accuracy: 1e-12 relative in float64, for s/start up to 1e30.
    Source: Saxe, McClelland, Ganguli (2014), equation 12; Arora, Cohen, Hu, Luo (2019), Theorem 3.

    >>> modes = deep_linear_modes(jnp.array([2.0, 1.0]), 2, 1e-3, jnp.array([2.0]))
    >>> [f"{value:.3f}" for value in modes[0]]
    ['1.197', '0.052']
    """
    require(depth >= 1, "depth", depth, "be >= 1", "count the layers")
    s = nonnegative("singular_values", singular_values, "pass singular values, e.g. of jnp.linalg.svd")
    begin = jnp.asarray(positive("start", start, "start off the origin, a critical point"), s.dtype)
    t = nonnegative("times", times, "pass times from the start on").astype(s.dtype)
    each = jax.vmap(jax.vmap(partial(_mode, depth), (None, 0, None)), (0, None, None))
    return each(t, s, begin)


@partial(jax.jit, static_argnums=0)
def _mode(depth: int, t: Array, s: Array, start: Array) -> Array:
    if depth == 1:
        return s + (start - s) * jnp.exp(-t)
    if depth == 2:
        return _two_layers(t, s, start)
    share, log_share = start / (start + s), jnp.log(start) - jnp.log(start + s)
    last = 4 - math.log(jnp.finfo(s.dtype).eps)  # of τ: the gap is then below round-off
    top = jnp.minimum(depth * jnp.maximum(s, start) ** (2 - 2 / depth) * t, last) - log_share

    def excess(z: Array) -> Array:
        return _elapsed(z, s, start, share, log_share, depth) - t

    def bisect(function: Callable[[Array], Array], _: Array) -> Array:
        def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (ends[0] + ends[1]) / 2
            late = function(middle) > 0
            return jnp.where(late, ends[0], middle), jnp.where(late, middle, ends[1])

        return lax.fori_loop(0, _HALVINGS, halve, (0 * top, top))[0]

    z = lax.custom_root(excess, 0 * top, bisect, lambda slope, y: y / slope(jnp.ones_like(y)))
    return _value(z, s, start, share, log_share)


def _two_layers(t: Array, s: Array, start: Array) -> Array:
    """σ = s/(1 − e + e s/σ₀) late, e = e^(−2st), and σ₀/(e + c σ₀) or 1/(e/σ₀ + c) early: no derivative cancels."""
    late, zero, one = 2 * s * t > 1, jnp.zeros_like(s), jnp.ones_like(s)
    early_s, early_t = jnp.where(late, zero, s), jnp.where(late, zero, t)
    e, c = jnp.exp(-2 * early_s * early_t), 2 * early_t * mean_decay(2 * early_s * early_t)
    forgets = (c * start > 1) & (c < 1e15)  # c² is to be a number
    divisor = jnp.where(forgets, start, one)
    early = jnp.where(forgets, 1 / (e / divisor + jnp.where(forgets, c, one)), start / (e + c * start))
    last, end, first = jnp.where(late, t, one), jnp.where(late, s, one), jnp.where(late, start, one)
    ratio = jnp.exp(jnp.log(end) - jnp.log(first) - 2 * end * last)
    return jnp.where(late, end / (ratio + (1 - jnp.exp(-2 * end * last))), early)


def _value(z: Array, s: Array, start: Array, share: Array, log_share: Array) -> Array:
    """σ = (σ₀ + s g)/(1 + g), g = e^τ − 1."""
    grown = _grown(z, share, log_share)
    return start / (1 + grown) + s * (grown / (1 + grown))


def _grown(z: Array, share: Array, log_share: Array) -> Array:
    """e^τ − 1 = κ(e^z − 1), κ = σ₀/(σ₀ + s): z is τ where s = 0 and the logarithm of σ/σ₀ where σ₀ is small."""
    near = z < 1
    close = share * jnp.expm1(jnp.where(near, z, jnp.zeros_like(z)))
    return jnp.where(near, close, jnp.exp(jnp.where(near, jnp.zeros_like(z), z) + log_share) - share)


def _elapsed(z: Array, s: Array, start: Array, share: Array, log_share: Array, depth: int) -> Array:
    """t = (1/N) ∫ σ^{2/N − 2} dτ up to z, by Gauss-Legendre panels on which the integrand is a smooth exponential."""
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    places = (np.arange(_PANELS)[:, None] + (node[None, :] + 1) / 2).ravel() / _PANELS
    at = z * jnp.asarray(places, z.dtype)
    rate = jnp.exp(at + log_share) / (1 + _grown(at, share, log_share))  # dτ/dz
    inverse = _value(at, s, start, share, log_share) ** (2 / depth - 2)
    panel = jnp.asarray(np.tile(weight, _PANELS) / (2 * _PANELS), z.dtype)
    return z * jnp.dot(panel, rate * inverse, precision="highest") / depth
