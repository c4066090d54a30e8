r"""Anisotropic Besov spaces: a smoothness s_i along each axis, by moduli of smoothness along the axes.

What decides the rates is s̃ = (Σ_i 1/s_i)^{−1} (`classes.Anisotropic`): many rough axes cost, smooth ones are free.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, require
from jaxtheory.smoothness.besov import check_exponents, level_weights, lp_norm


@boundary(static=("p", "q"))
def modulus_norm(
    x: Float[Array, "..."], s: tuple[float, ...], p: float, q: float, *, periodic: bool = False
) -> Float[Array, ""]:
    r"""The anisotropic Besov norm: ‖f‖_p + Σ_i (Σ_j [2^{j s_i} ω_i(f, 2^{−j})_p]^q)^{1/q}, from samples on a grid.

    ω_i(f, t)_p = sup_{0<h≤t} ‖Δ^{r_i}_{h, i} f‖_p, r_i = ⌊s_i⌋ + 1, with differences along axis i alone, over the
    points for which they stay in the cube, and 2^{−j} ≥ 1/n_i. On a line it is `besov.modulus_norm`.

    Args:
        x: f at i/n on each axis, [n_1, …, n_d], each n_i a power of two above r_i. s: s_i > 0, one an axis.
        p, q: in (0, ∞]. periodic: take f on the torus.

    Returns:
        The norm; NaN where a sample is not finite.

    Raises:
        ValueError: exponents out of range or traced, another number of axes, lengths that are no powers of two.

    Cost: Σ_i r_i n_i passes over x. Source: Nikol'skii (1975), section 4.3; Suzuki and Nitanda (2021), Definition 1.

    >>> ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None] / 8, (8, 4))
    >>> f"{modulus_norm(ramp, (0.5, 2.5), math.inf, math.inf):.3f}"
    '1.582'
    """
    check_exponents(p, q)
    axes = len(s) == x.ndim >= 1
    require(axes, "s", s, f"have one smoothness for each of the {x.ndim} axes of x", "e.g. s=(1.0, 2.0)")
    for each, n in zip(s, x.shape, strict=True):
        require(0 < each < math.inf, "s", s, "be > 0 and finite", "moduli measure positive smoothness")
        power = n >= 1 and n & (n - 1) == 0
        require(power, "x", x.shape, "have a power of two of samples on each axis", "resample")
        require(n > math.floor(each) + 1, "x", x.shape, f"have more than {math.floor(each) + 1} samples", "refine")
    return _modulus_norm(x, tuple(map(float, s)), p, q, periodic)


@partial(jax.jit, static_argnames=("s", "p", "q", "periodic"))
def _modulus_norm(x: Array, s: tuple[float, ...], p: float, q: float, periodic: bool) -> Array:
    total = lp_norm(x, p) * _mean(x.size, p)
    for axis, each in enumerate(s):
        lines = jnp.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
        moduli = _moduli(lines, math.floor(each) + 1, p, periodic)
        steps = 2 ** np.arange(int(math.log2(len(moduli))) + 1)  # h = n 2^{−j} samples
        weights = jnp.asarray(level_weights(each * np.log2(len(lines) / steps), each, x.dtype), x.dtype)
        total = total + lp_norm(weights * moduli[steps - 1], q)
    return total


def _moduli(lines: Array, order: int, p: float, periodic: bool) -> Array:
    """ω(f, h/n)_p along the first axis, h = 1, 2, …"""
    n = len(lines)
    signs = [(-1.0) ** (order - i) * math.comb(order, i) for i in range(order + 1)]

    @jax.checkpoint
    def size(h: Array) -> Array:
        shifted = [c * jnp.roll(lines, -i * h, axis=0) for i, c in enumerate(signs)]
        kept = jnp.arange(n)[:, None] < (n if periodic else n - order * h)
        return lp_norm(jnp.where(kept, sum(shifted[1:], shifted[0]), jnp.zeros_like(lines)), p)

    return jax.lax.cummax(jax.lax.map(size, jnp.arange(1, (n - 1) // order + 1))) * _mean(lines.size, p)


def _mean(size: int, p: float) -> float:
    return 1.0 if math.isinf(p) else size ** (-1 / p)
