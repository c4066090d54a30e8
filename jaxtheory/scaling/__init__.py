r"""Scaling laws that can be solved, and laws fitted to training runs.

`one_pass_risk` is the exact mean risk of one-pass SGD on drawn random features, `one_pass_equivalent` its limit without
drawing them. `compute_optimal` finds the best width for each budget of compute from such curves, and
`frontier_exponents` what theory says of it in each phase of (α, β). `four_regimes` are the laws of data and of width
alone, limited by resolution or by variance. `fit_scaling_law` fits E + A/N^α + B/D^β to a table
of runs, `allocate` spends a budget by it.

>>> f"{frontier_exponents(1.0, 1.5).width:.1f}"
'0.5'
"""

from jaxtheory.scaling.allocation import Allocation, Spending, allocate
from jaxtheory.scaling.equivalent import one_pass_equivalent
from jaxtheory.scaling.frontier import Exponents, Frontier, compute_optimal, frontier_exponents
from jaxtheory.scaling.law import Coefficients, ScalingLaw, fit_scaling_law
from jaxtheory.scaling.one_pass import OnePassRisk, one_pass_risk
from jaxtheory.scaling.regimes import Regimes, four_regimes

__all__ = [
    "Allocation",
    "Coefficients",
    "Exponents",
    "Frontier",
    "OnePassRisk",
    "Regimes",
    "ScalingLaw",
    "Spending",
    "allocate",
    "compute_optimal",
    "fit_scaling_law",
    "four_regimes",
    "frontier_exponents",
    "one_pass_equivalent",
    "one_pass_risk",
]
