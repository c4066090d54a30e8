"""Kernel regression: the learning curve of real digits from one spectrum, and the rate of a Sobolev ball.

A kernel's eigenvalues and the target's coefficients in its eigenfunctions predict test error, training error and
degrees of freedom at every sample size, before any regression is solved; on the circle, where the eigenvalues are
k^(−2s), the best ridge makes the error fall as n^(−2s/(2s+1)).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.kernel_regression import circle, digits, freedom
from jaxtheory.lecture.study import SweptConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of the digits panels and of the circle panel."""

    out: Path = field(default=Path("runs/kernel_regression"), compare=False)
    images: int = 1500
    """the population, on which the error is taken: so many of MNIST's 5,000 digits"""
    sizes: tuple[int, ...] = (10, 20, 40, 80, 150)
    """training sizes n, drawn with replacement; the claims want n ≤ images/10, as if the population were a continuum"""
    ridge: float = 0.1
    """δ, added to the unnormalized Gram of inputs of norm 1"""
    width: int = 512
    """of the two-layer network whose empirical NTK is the fourth kernel"""
    seeds: int = 16
    """independent training sets"""
    smoothness: tuple[int, ...] = (1, 2)
    """s of the Sobolev spaces on the circle: 1, 2 or both"""
    circle_sizes: tuple[int, ...] = (30, 100, 300, 1000)
    """training sizes on the circle"""
    circle_seeds: int = 48
    """independent training sets on the circle"""

    PAPER: ClassVar = {
        "images": 5000, "sizes": (20, 50, 120, 250, 500), "width": 4096, "seeds": 60, "circle_seeds": 100,
    }  # fmt: skip


STUDIES = (digits.STUDY, panel("spectra", freedom.draw_spectra), freedom.STUDY, circle.STUDY)

TOPIC = of_studies("kernel-regression", Config, STUDIES, columns=2)
