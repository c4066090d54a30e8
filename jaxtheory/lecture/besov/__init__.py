"""Besov spaces: where smoothness is inhomogeneous, adaptive estimators leave every linear one behind by an exponent.

Wavelet thresholds, B-splines whose knots go where the function is rough, and ReLU networks that are such splines reach
n^(−2s/(2s+1)); no linear method does better than n^(−2s'/(2s'+1)), s' = s − (1/p − 1/2)_+. At p ≥ 2 they coincide.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.besov import balls, explicit_networks, one_signal, pictures, rates
from jaxtheory.lecture.study import SweptConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(SweptConfig):
    """Sizes of the simulations; what is exact needs none."""

    out: Path = field(default=Path("runs/besov"), compare=False)
    levels: int = 16
    """wavelet levels of the functions in the table of classes: 2^levels samples"""
    octaves: tuple[int, int] = (7, 14)
    """first and last log2 n of the risk curves"""
    replicates: int = 60
    """independent functions and noises of each point of the risk curves"""
    signal_octaves: tuple[int, int] = (6, 8)
    """first and last log2 n of the estimators on one signal, trained networks among them"""
    signal_replicates: int = 6
    """independent noises of each"""
    steps: int = 1200
    """of Adam, for the trained network"""
    width: int = 48
    """of its two hidden layers"""

    PAPER: ClassVar = {
        "levels": 20, "octaves": (7, 18), "replicates": 400, "signal_octaves": (6, 11), "signal_replicates": 20,
        "steps": 20000, "width": 256,
    }  # fmt: skip


STUDIES = (
    panel("signals", pictures.draw_signals),
    panel("survivors", pictures.draw_survivors),
    panel("knots", pictures.draw_knots),
    explicit_networks.STUDY,
    balls.STUDY,
    balls.HOMOGENEOUS,
    one_signal.STUDY,
    rates.STUDY,
)

TOPIC = of_studies("besov", Config, STUDIES, columns=4, size=(5.6, 4.7))
