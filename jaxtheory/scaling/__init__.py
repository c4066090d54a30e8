r"""Scaling laws that can be solved: the risk of one-pass SGD as a function of model size and data, without sampling."""

from jaxtheory.scaling.equivalent import one_pass_equivalent
from jaxtheory.scaling.one_pass import OnePassRisk, one_pass_risk

__all__ = ["OnePassRisk", "one_pass_equivalent", "one_pass_risk"]
