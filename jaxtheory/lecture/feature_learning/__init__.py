"""Feature learning: the limit of deep networks from lazy to rich, networks beside it, and maximal update in width.

(a) loss against time on digits and on a single-index teacher, theory and networks of three widths; (b) the kernel
before and after; (c) pre-activations that become non-Gaussian; (d) distance of finite networks to the limit; (e) the
coordinate check; (f) transfer of the learning rate.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.feature_learning import coordinates, features, training, transfer, width
from jaxtheory.lecture.study import BaseConfig, of_studies


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the studies; the points are the same for every seed."""

    out: Path = field(default=Path("runs/feature_learning"), compare=False)
    x64: bool = False
    samples: int = 16
    """(a-d) training points"""
    tests: int = 16
    """(a, d) test points"""
    step_size: float = 0.05
    """(a-d) η"""
    steps: int = 12
    """(a-d) of gradient descent"""
    richness: tuple[float, ...] = (0.1, 1.0, 2.0)
    """(a-d) γ0, from lazy to rich"""
    draws: int = 8192
    """(a-d) samples of the limit"""
    repeats: int = 12
    """(d) independent sets of them"""
    widths: tuple[int, ...] = (16, 64, 256)
    """(a-d) of networks: three"""
    count: int = 32
    """(a-c) networks of each width"""
    counts: tuple[int, ...] = (2048, 4096, 64)
    """(d) networks of each width"""
    batch: int = 32
    """(a-d) networks that one call trains"""
    check_widths: tuple[int, ...] = (64, 128, 256)
    """(e) of the coordinate check"""
    examples: int = 256
    """(e, f) digits, or sentences"""
    models: tuple[str, ...] = ("mlp",)
    """(f) "mlp" on digits, "transformer" on synthetic text"""
    transfer_widths: tuple[int, ...] = (32, 128, 512)
    """(f) of the models"""
    transfer_steps: int = 3
    """(f) of Adam"""
    rates: tuple[float, ...] = tuple(2.0**-k for k in range(9, 0, -1))
    """(f) learning rates, increasing by one factor"""
    seeds: int = 8
    """(e, f) starts"""

    PAPER: ClassVar = {
        "samples": 32, "tests": 256, "steps": 24, "step_size": 0.025, "draws": 65536, "widths": (64, 256, 1024),
        "count": 256, "counts": (32768, 32768, 1024), "check_widths": (64, 128, 256, 512, 1024),
        "models": ("mlp", "transformer"), "transfer_widths": (32, 64, 128, 256, 512, 1024), "seeds": 16,
        "rates": tuple(2.0 ** (-k / 2) for k in range(30, 1, -1)), "richness": (0.1, 0.5, 1.0, 1.5, 2.0),
    }  # fmt: skip


STUDIES = (
    training.DIGITS, training.TEACHER, features.KERNEL, features.FIELDS,
    width.STUDY, coordinates.STUDY, transfer.STUDY, transfer.CURVES,
)  # fmt: skip

TOPIC = of_studies("feature-learning", Config, STUDIES, columns=4)
