"""Saddle escape: exponential time for gradient descent, linear with kicks, logarithmic with Langevin noise.

On the landscape of Du et al. every iteration is counted exactly, so the law T_{j+1}/T_j is seen without the
underflow that stops a plain run; landscapes without bad minima show when no escape is needed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.saddles import chain, global_minima, langevin_exit
from jaxtheory.lecture.study import BaseConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the four panels."""

    out: Path = field(default=Path("runs/saddles"), compare=False)
    seeds: int = 500
    """starts of each escape"""
    dim: int = 14
    """saddles that gradient descent is counted through"""
    curvatures: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """L, the curvature of the walls"""
    perturbed_dims: tuple[int, ...] = (5, 10, 20)
    """d for perturbed gradient descent"""
    noises: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    """temperatures of the Langevin exit"""
    exits: int = 4000
    """independent exits"""
    teacher: int = 15
    """neurons, and inputs, of the planted ReLU teacher"""
    surplus: tuple[int, ...] = (0, 1, 2, 4)
    """how many neurons more the student has"""
    starts: int = 48
    """of each student"""

    PAPER: ClassVar = {
        "seeds": 5000, "dim": 20, "perturbed_dims": (5, 10, 20, 40), "exits": 20_000, "teacher": 20, "starts": 512,
    }  # fmt: skip


STUDIES = (panel("tube", chain.draw_tube), chain.STUDY, langevin_exit.STUDY, global_minima.STUDY)

TOPIC = of_studies("saddles", Config, STUDIES, columns=2, size=(6.6, 4.7))
