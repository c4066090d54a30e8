"""Sizes of the topic of the sources of error."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.study import BaseConfig


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the four studies."""

    out: Path = field(default=Path("runs/double_descent_sources"), compare=False)
    samples: int = 100
    """n of the random features, with three times as many modes"""
    crossings: int = 40
    """of two data sets with two draws of features"""
    points: int = 150
    """n of the classifiers"""
    classifiers: int = 40
    """independent data sets of each shape"""
    flows: int = 300
    """independent runs of gradient flow"""
    images: int = 200
    """training images n, of scikit-learn's 1,797 digits; the rest is for testing"""
    seeds: int = 32
    """independent draws of images, wrong labels and features"""

    PAPER: ClassVar = {
        "samples": 400, "crossings": 100, "points": 600, "classifiers": 200, "flows": 1000, "images": 500, "seeds": 100,
    }  # fmt: skip
