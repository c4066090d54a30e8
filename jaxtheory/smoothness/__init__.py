"""Function classes and their rates: what smoothness allows linear methods, adaptive ones and deep networks to do.

- bases: `wavelets` (periodic, any dimension), `interval_wavelets` (no wrap), `bspline` (and the ReLU networks that are
  B-splines), `sparse_grid` (and `boundary_grid`, for functions that are not 0 on the boundary, `adaptive_grid`, which
  finds the variables that matter, and `sparse_network`, their ReLU networks), `hyperbolic_cross`, `mixed` (tensor
  wavelets up to dimension 10)
- classes: `besov` (norms, points of the ball), `anisotropic` (norms, sums of splines), `spaces` (Sobolev, Hölder, BV by
  their own norms), `signals`, `jumps` (and Gaussian functions of the same covariance)
- rates: `classes` (of each class, for linear estimators and networks)
- what reaches them: `approximation` (linear, n-term, splines), `estimation` (thresholds, oracles, minimax risks),
  `thresholds` (that read the data)
- sparsity: `lasso` (and basis pursuit), `group_lasso`, `phase_transitions` (what they recover, and their risk)

>>> import jax.numpy as jnp
>>> from jaxtheory import results, smoothness
>>> n = 2.0 ** jnp.arange(12, 24)
>>> risks = [smoothness.estimation.minimax_risk(1.0, 1.0, n, estimator=arm) for arm in ("linear", "adaptive")]
>>> [f"{results.fit_slope(n, risk).slope:.2f}" for risk in risks]
['-0.50', '-0.66']
"""

from jaxtheory.smoothness import (
    adaptive_grid,
    anisotropic,
    approximation,
    besov,
    boundary_grid,
    bspline,
    classes,
    estimation,
    group_lasso,
    hyperbolic_cross,
    interval_wavelets,
    jumps,
    lasso,
    mixed,
    phase_transitions,
    signals,
    spaces,
    sparse_grid,
    sparse_network,
    thresholds,
    wavelets,
)

__all__ = [
    "adaptive_grid",
    "anisotropic",
    "approximation",
    "besov",
    "boundary_grid",
    "bspline",
    "classes",
    "estimation",
    "group_lasso",
    "hyperbolic_cross",
    "interval_wavelets",
    "jumps",
    "lasso",
    "mixed",
    "phase_transitions",
    "signals",
    "spaces",
    "sparse_grid",
    "sparse_network",
    "thresholds",
    "wavelets",
]
