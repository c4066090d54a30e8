"""The empirical neural tangent kernel of any differentiable function, at size.

`ntk(f, params, x1, x2)` computes it by structured derivatives, `explain` says how; `ntk_operator` never forms it;
`linearize` and `taylor` replace a network by its polynomial in the parameters; `nngp` and `mean_ntk` average over
initializations. Flax modules come in through `from_nnx` and `from_linen`.

>>> import jax.numpy as jnp
>>> f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
>>> params = {"in": jnp.eye(2), "out": jnp.ones((2, 1))}
>>> kernel_fn(f, params)(jnp.ones((3, 2))).shape
(3, 3)
"""

from jaxtheory.empirical.alignment import alignment, centered_alignment, effective_rank, target_alignment
from jaxtheory.empirical.explanation import Explanation, explain
from jaxtheory.empirical.kernel import kernel_fn, ntk
from jaxtheory.empirical.linearize import Drift, linearize, ntk_drift, taylor
from jaxtheory.empirical.models import Frozen, filter_params, from_linen, from_nnx
from jaxtheory.empirical.montecarlo import Average, mean_ntk, nngp
from jaxtheory.empirical.operator import ntk_operator
from jaxtheory.empirical.spectrum import (
    Density,
    Eigenpairs,
    Estimate,
    diagonal,
    spectral_density,
    top_eigenpairs,
    trace,
)

__all__ = [
    "Average",
    "Density",
    "Drift",
    "Eigenpairs",
    "Estimate",
    "Explanation",
    "Frozen",
    "alignment",
    "centered_alignment",
    "diagonal",
    "effective_rank",
    "explain",
    "filter_params",
    "from_linen",
    "from_nnx",
    "kernel_fn",
    "linearize",
    "mean_ntk",
    "nngp",
    "ntk",
    "ntk_drift",
    "ntk_operator",
    "spectral_density",
    "target_alignment",
    "taylor",
    "top_eigenpairs",
    "trace",
]
