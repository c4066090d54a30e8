"""Activations by name or as any function, and their integrals against the standard Gaussian.

A theory of wide networks sees an activation σ through a few Gaussian integrals. Here they are, for the named
activations and for any elementwise function: kinks and jumps are found, not told, and an integral that cannot be
had to the stated accuracy raises instead of returning a number. Moments and coefficients are Python floats and numpy
float64 arrays: constants under `jit`, the same whether 64-bit types are enabled or not. Duals, the expectations
E[φ(u)ψ(v)] of pairs, are JAX functions of the covariance, differentiable everywhere.

>>> import jax.numpy as jnp
>>> moments = gaussian_moments("relu")
>>> f"{moments.mean:.6f} {moments.linear:.6f} {moments.nonlinear:.6f}"
'0.398942 0.500000 0.090845'
>>> q = jnp.float32(1.0)
>>> f"{dual('relu')(q, 0 * q, q):.6f}"
'0.159155'
>>> f"{expectation(lambda x: jnp.clip(x, -0.3, 2.0)):.6f}"
'0.258271'
"""

from jaxtheory.activations.duals import Pair, cross_dual, derivative_dual, dual, dual_pair
from jaxtheory.activations.gaussian import Moments, expectation, gaussian_moments, hermite_coefficients
from jaxtheory.activations.named import resolve

__all__ = [
    "Moments",
    "Pair",
    "cross_dual",
    "derivative_dual",
    "dual",
    "dual_pair",
    "expectation",
    "gaussian_moments",
    "hermite_coefficients",
    "resolve",
]
