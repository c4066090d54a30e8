"""Which averages over channels are needed for which, in what order, and how each follows from others."""

from jaxtheory.infinite.schedule.computation import Computation, Sampling
from jaxtheory.infinite.schedule.moments import planner
from jaxtheory.infinite.schedule.requests import (
    Answers,
    Item,
    Schedule,
    Sides,
    Task,
    Want,
    array,
    demand,
    det_item,
    entry,
    pair_item,
    run,
)

__all__ = [
    "Answers",
    "Computation",
    "Item",
    "Sampling",
    "Schedule",
    "Sides",
    "Task",
    "Want",
    "array",
    "demand",
    "det_item",
    "entry",
    "pair_item",
    "planner",
    "run",
]
