r"""The mean of an exponential decay, ∫_0^1 e^{−xu} du, used in the laws of linear flows."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

_TERMS = 20  # of the series on |x| < 1: the next one is below 1e-19


def mean_decay(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """(1 − e^{−x})/x, and 1 at x = 0, with all derivatives.

    >>> [f"{v:.4f}" for v in mean_decay(jnp.array([0.0, 1.0, 50.0]))]
    ['1.0000', '0.6321', '0.0200']
    """
    near = jnp.abs(x) < 1
    small, large = jnp.where(near, x, jnp.zeros_like(x)), jnp.where(near, jnp.ones_like(x), x)
    coefficients = [(-1) ** k / math.factorial(k + 1) for k in reversed(range(_TERMS))]
    return jnp.where(near, jnp.polyval(jnp.asarray(coefficients, x.dtype), small), -jnp.expm1(-large) / large)
