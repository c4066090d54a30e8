"""Infinite width: empirical tangent kernels of four architectures converge on their limits, and depth has a phase.

The limit is taken of the network that is drawn, by program transformation; the phase diagram says how deep a signal
travels; and a Gaussian process with the limit of a Flax CNN classifies digits.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from jaxtheory.lecture.infinite_width import convergence, depth, digits
from jaxtheory.lecture.study import BaseConfig, of_studies, panel

_Architecture = Literal["tanh MLP", "residual MLP", "ReLU CNN", "tanh RNN"]


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the three parts."""

    out: Path = field(default=Path("runs/infinite_width"), compare=False)
    x64: bool = False
    architectures: tuple[_Architecture, ...] = ("tanh MLP", "residual MLP", "ReLU CNN", "tanh RNN")
    """networks whose kernels are drawn"""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """widths at which empirical kernels are drawn"""
    draws: int = 400
    """networks a width; squared distances scatter by 1 to 2 times their mean, which leaves .02 in the exponent"""
    deep_width: int = 512
    """width of the deep networks"""
    deep_draws: int = 24
    """deep networks"""
    images: int = 400
    """digits that the Gaussian process is trained on"""
    splits: int = 12
    """random choices of them"""

    PAPER: ClassVar = {
        "widths": (64, 128, 256, 512, 1024, 2048), "deep_width": 4096, "deep_draws": 50, "images": 1200,
    }  # fmt: skip


STUDIES = (convergence.STUDY, panel("phases", depth.draw_phases), depth.STUDY, digits.STUDY)

TOPIC = of_studies("infinite-width", Config, STUDIES, columns=2, size=(5.6, 4.8))
