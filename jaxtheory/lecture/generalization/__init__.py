"""Generalization: every bound with its constants against the gap it bounds, and which measures order networks rightly.

Networks are trained on the digits over width, depth, batch size and label noise up to random labels; each measure is
ranked against the true gap along one knob at a time, with intervals over seeds. Least squares over a kernel ball
shows the fast rate of a local complexity.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.generalization import digits, local
from jaxtheory.lecture.study import BaseConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """The grid of networks and the data."""

    out: Path = field(default=Path("runs/generalization"), compare=False)
    x64: bool = False
    samples: int = 300
    """training digits, of 1,797"""
    widths: tuple[int, ...] = (16, 64)
    """of the hidden layers"""
    depths: tuple[int, ...] = (1, 2)
    """hidden layers"""
    batches: tuple[int, ...] = (32, 300)
    """batch sizes"""
    noises: tuple[float, ...] = (0.0, 0.3, 0.9)
    """share of labels replaced by another class; 0.9 makes them random"""
    seeds: int = 6
    """of labels, initialization and batches, at least two"""
    steps: int = 800
    """of Adam"""

    PAPER: ClassVar = {
        "seeds": 10, "steps": 5000, "samples": 1000, "widths": (16, 64, 256, 1024), "depths": (1, 2, 4),
        "batches": (32, 128, 1000),
    }  # fmt: skip


STUDIES = (digits.STUDY, panel("ranks", digits.draw_ranks), panel("labels", digits.draw_labels), local.STUDY)

TOPIC = of_studies("generalization", Config, STUDIES, columns=2, size=(6.0, 4.8))
