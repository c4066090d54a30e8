"""Which of many solutions gradient descent finds: each law as an exact prediction beside the run that obeys it."""

from jaxtheory.optimization.deep_linear import deep_linear_modes
from jaxtheory.optimization.factorized import (
    Interpolant,
    balanced_start,
    diagonal_descent,
    effective_rank,
    hyperbolic_entropy,
    hyperbolic_interpolant,
)
from jaxtheory.optimization.homogeneous import MarginKKT, OptimizerMargins, margin_kkt, optimizer_margins
from jaxtheory.optimization.least_squares import (
    Filtered,
    filtered_risk,
    flow_ratio,
    minimum_norm,
    stationary_covariance,
)
from jaxtheory.optimization.margins import MarginPath, Separator, limit_across, margin_path, max_margin
from jaxtheory.optimization.minibatches import sgd_covariance
from jaxtheory.optimization.mirror import MirrorInterpolant, MirrorRun, mirror_descent, mirror_interpolant
from jaxtheory.optimization.steepest import SignPath, SignSeparator, sign_descent, sign_margin

__all__ = [
    "Filtered",
    "Interpolant",
    "MarginKKT",
    "MarginPath",
    "MirrorInterpolant",
    "MirrorRun",
    "OptimizerMargins",
    "Separator",
    "SignPath",
    "SignSeparator",
    "balanced_start",
    "deep_linear_modes",
    "diagonal_descent",
    "effective_rank",
    "filtered_risk",
    "flow_ratio",
    "hyperbolic_entropy",
    "hyperbolic_interpolant",
    "limit_across",
    "margin_kkt",
    "margin_path",
    "max_margin",
    "minimum_norm",
    "mirror_descent",
    "mirror_interpolant",
    "optimizer_margins",
    "sgd_covariance",
    "sign_descent",
    "sign_margin",
    "stationary_covariance",
]
