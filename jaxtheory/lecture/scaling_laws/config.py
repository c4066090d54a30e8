"""Sizes of the topic of scaling laws."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.study import BaseConfig


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the six studies."""

    out: Path = field(default=Path("runs/scaling_laws"), compare=False)
    features: int = 50
    """d of the model that SGD trains, on four times as many modes"""
    streams: int = 400
    """independent runs of SGD, each on its own data"""
    modes: int = 2048
    """v of the models on the frontier"""
    widest: int = 256
    """features of the widest model on the frontier; the narrowest has 8"""
    steps: int = 6000
    """of the models on the frontier"""
    repetitions: int = 60
    """noisy tables of runs, each fitted with its intervals"""
    resamples: int = 100
    """bootstrap samples of a fit"""
    draws: int = 900
    """of data and features in each of the four regimes"""

    PAPER: ClassVar = {
        "features": 200, "streams": 4000, "modes": 8192, "widest": 1024, "steps": 24_000, "repetitions": 400,
        "resamples": 400, "draws": 4000,
    }  # fmt: skip
