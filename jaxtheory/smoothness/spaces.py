r"""The classical spaces by their own norms, none of them through wavelets: Sobolev, Hölder, bounded variation.

B^s_{2,2} is Sobolev's H^s, B^s_{∞,∞} is Hölder's C^s for s that is no integer, and B^1_{1,1} ⊂ BV ⊂ B^1_{1,∞}.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import require


@partial(jax.jit, static_argnames="s")
def sobolev_norm(x: Float[Array, "..."], s: float) -> Float[Array, ""]:
    r"""The norm of H^s on the torus, (Σ_k (1 + |2πk|²)^s |f̂_k|²)^{1/2}, of the trigonometric interpolant of samples.

    Args:
        x: f at the points of a regular grid of [0, 1)^d. s: any real number.

    Cost: one FFT. Source: Adams and Fournier (2003), section 7.62.

    >>> f"{sobolev_norm(jnp.ones(8), 1.0):.1f}"
    '1.0'
    """
    axes = [jnp.fft.fftfreq(n, 1 / n).astype(x.dtype) for n in x.shape]
    squares = sum((2 * jnp.pi * k) ** 2 for k in jnp.meshgrid(*axes, indexing="ij"))
    energy = jnp.abs(jnp.fft.fftn(x) / x.size) ** 2
    return jnp.sqrt(jnp.sum((1 + squares) ** s * energy))


@jax.jit
def total_variation(x: Float[Array, " n"]) -> Float[Array, ""]:
    """Σ|f(t_{i+1}) − f(t_i)|, the variation of the samples on [0, 1].

    Cost: one pass. Source: Ziemer (1989), section 5.3.

    >>> f"{total_variation(jnp.array([0.0, 2.0, 1.0])):.1f}"
    '3.0'
    """
    return jnp.abs(jnp.diff(x)).sum()


def holder_norm(x: Float[Array, " n"], s: float) -> Float[Array, ""]:
    r"""sup|f| + sup |f(t) − f(u)|/|t − u|^s over the sample points i/n of the circle, 0 < s < 1.

    Raises:
        ValueError: s outside (0, 1). Cost: O(n²) flops, O(n) memory. Source: Triebel (2006), section 1.2.

    >>> f"{holder_norm(jnp.array([0.0, 0.5]), 0.5):.4f}"
    '1.2071'
    """
    require(0 < s < 1, "s", s, "lie in (0, 1)", "differentiate first for larger s")
    return _holder_norm(x, s)


@partial(jax.jit, static_argnames="s")
def _holder_norm(x: Array, s: float) -> Array:
    n = len(x)
    quotient = lambda h: jnp.abs(jnp.roll(x, -h) - x).max() * (h / n).astype(x.dtype) ** -s  # noqa: E731
    return jnp.abs(x).max() + jax.lax.map(quotient, jnp.arange(1, n // 2 + 1)).max()
