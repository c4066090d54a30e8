"""From a program to its graph: a jaxpr is read with Gaussian parameters, by a rule for each family of primitives."""

from jaxtheory.infinite.trace.fluctuations import estimated_power, nominal_sizes, relative_deviation
from jaxtheory.infinite.trace.program import BATCH, draws_together, require_apart
from jaxtheory.infinite.trace.sources import Step, law
from jaxtheory.infinite.trace.walk import Context

__all__ = [
    "BATCH",
    "Context",
    "Step",
    "draws_together",
    "estimated_power",
    "law",
    "nominal_sizes",
    "relative_deviation",
    "require_apart",
]
