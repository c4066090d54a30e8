"""The empirical neural tangent kernel of any differentiable function, at size.

`ntk(f, params, x1, x2)` computes it by structured derivatives, `explain` says how; `ntk_operator` never forms it;
`linearize` and `taylor` replace a network by its polynomial in the parameters; `nngp` and `mean_ntk` average over
initializations. `ntk_by_group` takes the kernel apart by layers; `projected_gradients` are features for attribution;
`ggn_operator`, `empirical_fisher_operator`, `weighted_ntk_operator` and `influence` weigh it by a loss. Modules come in
through `from_nnx`, `from_linen`, `from_equinox` and `from_haiku`.

>>> import jax.numpy as jnp
>>> f = lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"]
>>> params = {"in": jnp.eye(2), "out": jnp.ones((2, 1))}
>>> kernel_fn(f, params)(jnp.ones((3, 2))).shape
(3, 3)
"""

from jaxtheory.empirical.curvature import (
    Influence,
    empirical_fisher_operator,
    ggn_operator,
    influence,
    weighted_ntk_operator,
)
from jaxtheory.empirical.explanation import Explanation, explain
from jaxtheory.empirical.groups import ntk_by_group
from jaxtheory.empirical.kernel import kernel_fn, ntk
from jaxtheory.empirical.linearize import Drift, linearize, ntk_drift, taylor
from jaxtheory.empirical.montecarlo import Average, mean_ntk, nngp
from jaxtheory.empirical.operator import ntk_operator
from jaxtheory.empirical.projections import projected_gradients
from jaxtheory.programs.models import Frozen, filter_params, from_equinox, from_haiku, from_linen, from_nnx
from jaxtheory.spectra import (
    Density,
    Eigenpairs,
    Estimate,
    alignment,
    centered_alignment,
    diagonal,
    effective_rank,
    spectral_density,
    target_alignment,
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
    "Influence",
    "alignment",
    "centered_alignment",
    "diagonal",
    "effective_rank",
    "empirical_fisher_operator",
    "explain",
    "filter_params",
    "from_equinox",
    "from_haiku",
    "from_linen",
    "from_nnx",
    "ggn_operator",
    "influence",
    "kernel_fn",
    "linearize",
    "mean_ntk",
    "nngp",
    "ntk",
    "ntk_by_group",
    "ntk_drift",
    "ntk_operator",
    "projected_gradients",
    "spectral_density",
    "target_alignment",
    "taylor",
    "top_eigenpairs",
    "trace",
    "weighted_ntk_operator",
]
