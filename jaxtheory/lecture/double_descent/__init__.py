"""Double descent: random features on real digits at every width, beside the exact law on the sphere.

The test error of least squares on p random features of n images falls, rises without bound at p = n, and falls
again below its first minimum; the right ridge removes the peak. On the sphere the same curve is a theorem, and so are
the three descents of tanh features, and what more samples and more features do to a fit of few Gaussian features.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.double_descent import digits, few_features, sphere, triple
from jaxtheory.lecture.study import SweptConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of the digits panel and of the sphere panel."""

    out: Path = field(default=Path("runs/double_descent"), compare=False)
    x64: bool = False
    samples: int = 200
    """training images n"""
    images: int = 700
    """of MNIST's 5,000, in each draw; those that do not train are for testing"""
    width: int = 600
    """largest number of random features of an image"""
    activation: str = "relu"
    """of the random features"""
    ridges: tuple[float, ...] = (1.0, 10.0, 100.0)
    """positive ridges, added to the unnormalized Gram; ridge 0, the min-norm solution, is always there"""
    seeds: int = 10
    """independent draws of images and features"""
    dimension: int = 100
    """d of the sphere panel, with n = 2d samples and up to 6d features"""
    sphere_ridges: tuple[float, ...] = (1.0, 20.0)
    """positive ridges of the sphere panel"""
    sphere_seeds: int = 16
    """independent draws of the sphere panel"""
    law_dimension: int = 48
    """d of the panels of exact laws: 10d tanh features of d dimensions; 2d Gaussian features"""
    law_seeds: int = 10
    """independent draws of the tanh features, a sixteenth of those of the Gaussian features"""

    PAPER: ClassVar = {
        "x64": True, "samples": 4000, "images": 5000, "width": 16000, "seeds": 20, "dimension": 300, "sphere_seeds": 50,
        "law_dimension": 200, "law_seeds": 50,
    }  # fmt: skip


STUDIES = (
    digits.STUDY,
    panel("errors", digits.draw_errors),
    sphere.STUDY,
    triple.STUDY,
    few_features.STUDY,
    panel("features", few_features.draw_features),
)

TOPIC = of_studies("double-descent", Config, STUDIES, size=(5.6, 4.8))
