"""A limit as arrays: plans that are compiled once for a shape, and what is decided before one is made."""

from jaxtheory.infinite.evaluation.decisions import decide
from jaxtheory.infinite.evaluation.outputs import structure, swap_examples
from jaxtheory.infinite.evaluation.plans import Compiled, Settings, compile_plans, outside
from jaxtheory.infinite.evaluation.roles import moments

__all__ = ["Compiled", "Settings", "compile_plans", "decide", "moments", "outside", "structure", "swap_examples"]
