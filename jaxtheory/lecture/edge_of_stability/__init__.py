"""The edge of stability: what descent does when its step is too large for the curvature.

(a) sharpness rises to 2(1 + β)/η and stays; (b) Adam's preconditioned sharpness to 38/η; (c) the central flow predicts
the averages of an oscillating run; (d) thresholds of optimizers on a quadratic; (e, f) the catapult and its phases.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.edge_of_stability.catapults import CATAPULT, PHASES, QUADRATIC
from jaxtheory.lecture.edge_of_stability.central import CENTRAL
from jaxtheory.lecture.edge_of_stability.hovering import ADAM, MOMENTUM
from jaxtheory.lecture.study import BaseConfig, of_studies


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the studies."""

    out: Path = field(default=Path("runs/edge_of_stability"), compare=False)
    samples: int = 60
    """digits that the network is trained on"""
    starts: int = 8
    """random starts of momentum and Adam"""
    steps: int = 1000
    """of momentum; Adam takes twice as many"""
    flow_steps: int = 500
    """steps that the central flow follows"""
    window: int = 200
    """of them, at the edge and the last that are, which are compared with descent"""
    width: int = 500
    """hidden units of the network that is thrown"""

    PAPER: ClassVar = {"starts": 32, "flow_steps": 2000, "window": 500, "width": 10_000}


TOPIC = of_studies("edge-of-stability", Config, (MOMENTUM, ADAM, CENTRAL, QUADRATIC, CATAPULT, PHASES))
