"""Mixed smoothness: hyperbolic crosses and sparse grids take the dimension out of the exponent and into logarithms.

With N terms a function of mixed smoothness s is approximated to N^(−s) (log N)^((d−1)(s+u)), where isotropic methods
have N^(−s/d); and its regression has the same two exponents, 2s/(2s+1) and 2s/(2s+d). Explicit ReLU networks of
sparse grids have the first of them in their nonzero parameters, up to one more logarithm.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.mixed_smoothness import crosses, interpolation, networks, risks
from jaxtheory.lecture.study import SweptConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of what is computed at points; the closed forms need none."""

    out: Path = field(default=Path("runs/mixed_smoothness"), compare=False)
    levels: tuple[int, ...] = (9, 8, 7, 6, 5)
    """finest sparse grid in dimension 1, 2, 3, 5, 10"""
    points: int = 1000
    """random points where interpolants are compared with their function"""
    octaves: tuple[int, int] = (8, 22)
    """first and last log2 n of the risk curves"""
    replicates: int = 100
    """independent noises of each"""
    networks: tuple[int, ...] = (12, 10, 9, 8)
    """finest level of the explicit networks in dimension 2, 3, 4, 5"""
    network_points: int = 2048
    """independent points where their errors are measured, a multiple of 64"""

    PAPER: ClassVar = {
        "levels": (14, 12, 10, 8, 6), "points": 20000, "replicates": 2000, "networks": (16, 13, 11, 9),
        "network_points": 2**15,
    }  # fmt: skip


APPROXIMATION = (
    panel("cross", crosses.draw_cross),
    panel("grid", interpolation.draw_points),
    crosses.STUDY,
    panel("logarithms", crosses.draw_scaled),
    interpolation.STUDY,
    risks.STUDY,
)
NETWORKS = (networks.STUDY, panel("exponents", networks.draw_exponents))

TOPIC = of_studies("mixed-smoothness", Config, APPROXIMATION, NETWORKS, size=(5.8, 4.6))
