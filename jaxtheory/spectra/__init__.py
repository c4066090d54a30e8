"""Spectra of symmetric operators from any source, by products with vectors; and matrices compared as kernels.

An operator is a function from arrays of some shape to arrays of that shape: `empirical.ntk_operator`, a Hessian-vector
product, or `lambda v: gram @ v`.

- numbers: `trace` and `diagonal` by random signs, with standard errors
- eigenvalues: `top_eigenpairs` by Lanczos with bands, `spectral_density` by Lanczos quadrature
- kernels beside each other: `alignment`, `centered_alignment`, `target_alignment`, `effective_rank`

>>> import jax, jax.numpy as jnp
>>> pairs = top_eigenpairs(lambda v: jnp.array([1.0, 4.0, 9.0]) * v, (3,), 1, jax.random.key(0))
>>> print(pairs.values.round(4))
[9.]
"""

from jaxtheory.results import Estimate
from jaxtheory.spectra.alignment import alignment, centered_alignment, effective_rank, target_alignment
from jaxtheory.spectra.operators import (
    Density,
    Eigenpairs,
    Operator,
    diagonal,
    spectral_density,
    top_eigenpairs,
    trace,
)

__all__ = [
    "Density",
    "Eigenpairs",
    "Estimate",
    "Operator",
    "alignment",
    "centered_alignment",
    "diagonal",
    "effective_rank",
    "spectral_density",
    "target_alignment",
    "top_eigenpairs",
    "trace",
]
