"""Students that learn from teachers: plateaus and specialization, the samples that an exponent costs, and collapse.

(a, b) Saad and Solla's exact dynamics of erf and ReLU committees against SGD; (c) samples until a single-index model is
found, by information exponent; (d) the simplex of unconstrained features; (e) the delay of grokking.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.study import BaseConfig, of_studies
from jaxtheory.lecture.teacher_student.collapse import COLLAPSE
from jaxtheory.lecture.teacher_student.committees import ERF, RELU
from jaxtheory.lecture.teacher_student.exponents import EXPONENTS
from jaxtheory.lecture.teacher_student.grokking import GROKKING


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the studies."""

    out: Path = field(default=Path("runs/teacher_student"), compare=False)
    dim: int = 100
    """inputs of the smaller committee; the larger has twice as many"""
    committees: int = 48
    """independent runs of SGD in each dimension"""
    dims: tuple[int, ...] = (64, 128, 256, 512)
    """inputs of the single-index models of information exponents 1 and 2"""
    steep_dims: tuple[int, ...] = (16, 32, 64)
    """of exponent 3"""
    walkers: int = 48
    """runs in each dimension"""
    students: int = 70
    """inputs of the smaller linear regression; the larger has twice as many"""
    descents: int = 20_000
    """steps on unconstrained features"""

    PAPER: ClassVar = {
        "dim": 1000, "committees": 256, "walkers": 256, "students": 280, "dims": (64, 128, 256, 512, 1024, 2048),
        "steep_dims": (16, 32, 64, 128), "descents": 100_000,
    }  # fmt: skip


TOPIC = of_studies("teacher-student", Config, (ERF, RELU, EXPONENTS, COLLAPSE, GROKKING))
