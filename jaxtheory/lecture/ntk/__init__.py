"""The tangent kernel: its law at initialization, how far training moves it, and training as learning it.

At finite width the kernel fluctuates as width^(−1/2) around its limit, and the wider the network the less it moves, so
that wide networks train as linear models whose largest eigendirections are learned first. Networks that do learn
features end as a kernel machine too: that of the kernel they have learned.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.ntk import drift, lazy, rich, start
from jaxtheory.lecture.study import SweptConfig, of_studies


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of the four experiments."""

    out: Path = field(default=Path("runs/ntk"), compare=False)
    x64: bool = False
    widths: tuple[int, ...] = (64, 256, 1024, 4096)
    """hidden units of the networks drawn at initialization"""
    draws: int = 1500
    """networks of each width"""
    drift_widths: tuple[int, ...] = (1024, 4096, 16384)
    """hidden units of the networks trained to see how far their kernel moves"""
    drift_seeds: int = 128
    """trained networks of each width and activation"""
    lazy_widths: tuple[int, ...] = (256, 1024, 4096)
    """hidden units of the networks trained beside their linearization"""
    lazy_seeds: int = 16
    """networks of each width; each its own digits"""
    lazy_samples: int = 64
    """digits that they train on"""
    lazy_steps: int = 400
    """of gradient descent"""
    samples: int = 500
    """digits that the feature-learning network trains on"""
    noise_pixels: int = 192
    """pixels of pure noise beside the 64 of a digit"""
    rich_width: int = 256
    """hidden units of its two layers"""
    rich_steps: int = 240
    """of gradient descent, a multiple of 6"""
    rich_seeds: int = 10
    """independent digits, noise and networks"""

    PAPER: ClassVar = {
        "widths": (64, 256, 1024, 4096, 16384), "draws": 10000, "drift_widths": (1024, 4096, 16384, 65536),
        "drift_seeds": 256, "lazy_widths": (256, 1024, 4096, 16384), "samples": 1000, "rich_width": 1024,
        "rich_seeds": 20,
    }  # fmt: skip


TOPIC = of_studies("ntk", Config, (start.STUDY, drift.STUDY, lazy.GAP, lazy.COMPONENTS, rich.ERRORS, rich.ALIGNMENT))
