"""Transport between weighted clouds of points. Every cost is a p-th power W_p^p (p = 2 unless said), in cost units.

- exact: `w1d` on the line, `bures` between Gaussians, `exact` between clouds, certified by a dual (`certified`)
- regularized: `entropic` (OT_ε and its potentials) and `sinkhorn` (the divergence S_ε, without its entropic bias), for
  any cost, in blocks; with a penalty in place of the marginals, unbalanced
- averaged: `sliced`
- barycenters: `line_barycenter`, `gaussian_barycenter`; for any costs on a given support, `fixed_support_barycenter`

Points are arrays [n, d], weights are [n]. `meanfield.wasserstein` is the same for clouds of particles.

>>> import jax, jax.numpy as jnp
>>> from jaxtheory import transport
>>> x, y = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[1.0], [3.0]])
>>> found = transport.entropic(x, y, epsilon=0.1, y_weights=jnp.array([2.0, 1.0]))
>>> bool(found.residual < 1e-3), found.potentials.g.shape
(True, (2,))
"""

from jaxtheory.transport.barycenters import GaussianBarycenter, LineBarycenter, gaussian_barycenter, line_barycenter
from jaxtheory.transport.costs import Estimate, Transport, squared_distances
from jaxtheory.transport.entropic import (
    Divergence,
    DivergencePotentials,
    Entropic,
    Potentials,
    entropic,
    sinkhorn,
)
from jaxtheory.transport.fixed_support import FixedSupportBarycenter, fixed_support_barycenter
from jaxtheory.transport.gaussian import bures
from jaxtheory.transport.line import sliced, w1d
from jaxtheory.transport.matching import certified, exact

__all__ = [
    "Divergence",
    "DivergencePotentials",
    "Entropic",
    "Estimate",
    "FixedSupportBarycenter",
    "GaussianBarycenter",
    "LineBarycenter",
    "Potentials",
    "Transport",
    "bures",
    "certified",
    "entropic",
    "exact",
    "fixed_support_barycenter",
    "gaussian_barycenter",
    "line_barycenter",
    "sinkhorn",
    "sliced",
    "squared_distances",
    "w1d",
]
