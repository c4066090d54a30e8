"""Expressivity: random and greedy networks, Kolmogorov's superposition, and the ridgelet transform.

Three answers to what a network of one hidden layer can be: enough random neurons, a fixed inner function with exact
integers, and an integral whose constant is known before anything is fitted.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.expressivity import digit, networks, ridgelets, superposition
from jaxtheory.lecture.study import BaseConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the three parts."""

    out: Path = field(default=Path("runs/expressivity"), compare=False)
    dims: tuple[int, ...] = (2, 10)
    """dimensions of the Gaussian that random cosines approximate"""
    draws: int = 100
    """random networks of each size"""
    greedy: int = 64
    """neurons of the greedy networks"""
    grid: int = 32
    """points a side of the greedy approximation in two dimensions"""
    terms: tuple[int, ...] = (5, 7, 9, 11)
    """outer functions m + 1 of the superposition"""
    scales: tuple[float, ...] = (10.0, 20.0, 40.0)
    """A: the ridgelet integral is cut at |a| ≤ A"""
    neurons: int = 200
    """of the trained network, and of the sampled one"""
    seeds: int = 4
    """trained networks"""
    training: int = 1500
    """steps of training"""

    PAPER: ClassVar = {"draws": 2000, "greedy": 256, "grid": 64, "seeds": 16, "training": 20_000}


NETWORKS = (
    networks.STUDY,
    panel("greedy", networks.draw_greedy),
    superposition.STUDY,
    panel("cubes", superposition.draw_cubes),
    panel("step", superposition.draw_step),
)
RIDGELETS = (
    ridgelets.STUDY,
    panel("weights", ridgelets.draw_weights),
    digit.STUDY,
    panel("target", digit.draw_target),
    panel("sum", digit.draw_sum),
)

TOPIC = of_studies("expressivity", Config, NETWORKS, RIDGELETS, size=(6.0, 4.6))
