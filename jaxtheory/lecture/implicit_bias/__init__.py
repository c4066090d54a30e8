"""Implicit bias: of all solutions, descent finds a particular one, and theory says which before the run.

Five laws, each as a line with its run as points: early stopping against ridge, the margin's logarithm, the hyperbolic
entropy of diagonal networks, singular values learned one after another, and the stationary covariance of SGD.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.implicit_bias import deep_linear, diagonal, margins, stationary, stopping
from jaxtheory.lecture.study import BaseConfig, of_studies


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the five panels."""

    out: Path = field(default=Path("runs/implicit_bias"), compare=False)
    doublings: int = 17
    """gradient descent on the separable data runs for 2^doublings steps"""
    scales: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """α, the size of the diagonal network's start"""
    features: int = 40
    """of the diagonal network, with a quarter as many samples"""
    steps: int = 20_000
    """of the diagonal network"""
    depths: tuple[int, ...] = (2, 3)
    """of the deep linear networks"""
    step_size: float = 2e-3
    """of the deep linear networks"""
    walkers: int = 20_000
    """independent runs of SGD"""
    rates: tuple[float, ...] = (0.1, 0.5, 1.0, 1.5)
    """step sizes of SGD"""

    PAPER: ClassVar = {
        "doublings": 22, "features": 100, "steps": 200_000, "step_size": 2e-4, "walkers": 1_000_000,
    }  # fmt: skip


STUDIES = (
    stopping.STUDY,
    margins.STUDY,
    diagonal.STUDY,
    deep_linear.STUDY,
    deep_linear.THREE_LAYERS,
    stationary.STUDY,
)

TOPIC = of_studies("implicit-bias", Config, STUDIES)
