r"""Scaling laws that can be solved, and laws fitted to training runs.

`one_pass_risk` is the exact mean risk of one-pass SGD on drawn random features, `one_pass_equivalent` its limit without
drawing them. `fit_scaling_law` fits E + A/N^α + B/D^β to a table of runs, `allocate` spends a budget by it.
"""

from jaxtheory.scaling.allocation import Allocation, Spending, allocate
from jaxtheory.scaling.equivalent import one_pass_equivalent
from jaxtheory.scaling.law import Coefficients, ScalingLaw, fit_scaling_law
from jaxtheory.scaling.one_pass import OnePassRisk, one_pass_risk

__all__ = [
    "Allocation",
    "Coefficients",
    "OnePassRisk",
    "ScalingLaw",
    "Spending",
    "allocate",
    "fit_scaling_law",
    "one_pass_equivalent",
    "one_pass_risk",
]
