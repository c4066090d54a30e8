"""Sizes of the topic of adaptivity."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.study import SweptConfig


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of the studies."""

    out: Path = field(default=Path("runs/adaptivity"), compare=False)
    samples: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    """of the networks and of kernel regression, in the plane"""
    functions: int = 40
    """half-planes, each with its noise, the same at every number of samples; half as many Gaussian fields"""
    steps: int = 4000
    """of Adam"""
    width: int = 16
    """of the three hidden layers"""
    octaves: tuple[int, ...] = (8, 10, 12, 14, 16)
    """log2 of 1/ε², ε the noise of each wavelet coefficient on the circle"""
    grid: int = 4096
    """points of the circle"""
    replicates: int = 60
    """random functions on the circle"""
    noises: int = 200
    """independent noises of each projection estimator"""
    manifold_samples: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    """on each torus, and in the cube"""
    manifold_functions: int = 100
    """random functions on them"""
    composite_samples: tuple[int, ...] = (1024, 2048, 4096, 8192)
    """of the hierarchy of functions"""
    composite_functions: int = 32
    """random hierarchies"""

    PAPER: ClassVar = {
        "samples": (128, 256, 512, 1024, 2048, 4096, 8192), "functions": 64, "steps": 20_000, "width": 64,
        "octaves": tuple(range(8, 21)), "grid": 65_536, "replicates": 400, "noises": 4000,
        "manifold_samples": tuple(2**k for k in range(8, 15)), "manifold_functions": 400,
        "composite_samples": tuple(2**k for k in range(10, 16)), "composite_functions": 40,
    }  # fmt: skip
