"""Number of layers: what two layers cannot do with any weights, what three do explicitly, the pieces that depth adds.

Every bound at depth two is a certificate for all networks of a size; every error at depth three is that of a network
written down, with its neurons counted; an adversary tries to beat the certificates and must not.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jaxtheory.lecture.depth import adversary, pieces, separation
from jaxtheory.lecture.study import BaseConfig, of_studies


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Targets, sizes of the adversary, and of the network trained on digits."""

    out: Path = field(default=Path("runs/depth"), compare=False)
    x64: bool = False
    dims: tuple[int, ...] = (5, 10, 20, 30)
    """dimensions d of the target √D P_n(⟨x, x'⟩)"""
    degree: int = 5
    """n of the target"""
    samples: int = 20_000
    """points on which a three-layer network is judged"""
    starts: int = 5
    """two-layer networks that the adversary trains for each size"""
    steps: int = 150
    """of the adversary's optimizer"""
    adversary_dim: int = 3
    """dimension of the radial wave that the adversary attacks"""
    frequency: float = 3.0
    """ω of that wave, cos(ω(|x| − √(d−½)) + 0.7)"""
    neurons: tuple[int, ...] = (1, 2, 4, 6, 8, 12)
    """sizes of the adversary's networks"""
    teeth: int = 8
    """compositions k of the tent"""
    widths: tuple[int, ...] = (16, 16)
    """hidden layers of the network trained on digits, whose slice is drawn"""
    training: int = 600
    """its optimizer's steps"""

    PAPER: ClassVar = {"samples": 400_000, "starts": 64, "steps": 2000, "widths": (32, 32, 32), "training": 4000}

    def wave(self, r: Any) -> Any:
        """The profile that the adversary attacks, on numpy radii."""
        return np.cos(self.frequency * (r - (self.adversary_dim - 0.5) ** 0.5) + 0.7)


STUDIES = (separation.STUDY, adversary.STUDY, pieces.STUDY)

TOPIC = of_studies("depth", Config, STUDIES, size=(5.6, 4.8))
