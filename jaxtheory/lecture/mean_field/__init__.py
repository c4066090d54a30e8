"""Mean field: networks as flows of particles, their limits, their noise, and the distance between measures.

(a) SGD against the radial limit of two Gaussians; (b) a planted teacher found by many particles; (c) Langevin: free
energy, fixed point, propagation of chaos; (d) lazy against mean-field scaling; (e) rates of empirical measures.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jaxtheory.lecture.mean_field import langevin, lazy, matchings, planted, two_gaussians
from jaxtheory.lecture.study import BaseConfig, of_studies, panel


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the five studies."""

    out: Path = field(default=Path("runs/mean_field"), compare=False)
    x64: bool = False
    dimension: int = 40
    """(a) of the two Gaussians"""
    particles: int = 800
    """(a) neurons N of the network that SGD trains"""
    delta: float = 0.8
    """(a) Δ: the labels' standard deviations are 1 ± Δ"""
    horizon: float = 10.0
    """(a) time, steps × step size"""
    sgd_step: float = 2e-3
    """(a) step size"""
    sgd_batch: int = 200
    """(a) fresh points a step"""
    many: int = 100
    """(b, d) particles of the student"""
    few: int = 5
    """(b) particles of the student that is too small"""
    teacher_steps: int = 6000
    """(b) steps of size 0.1; (d) takes half of them"""
    teacher_seeds: int = 12
    """(b) independent starts"""
    frames: int = 25
    """(b) moments that are recorded and animated"""
    gap_particles: int = 40_000
    """(c) of a cloud whose free energy is measured"""
    gap_seeds: int = 4
    """(c) independent clouds of them"""
    clouds: tuple[int, ...] = (50, 100, 200, 400)
    """(c) particles N at which the fluctuations are measured"""
    chaos_seeds: int = 400
    """(c) independent clouds of each N"""
    matchings: int = 480
    """(e) exact matchings of each size in the plane; a third of them in 3 and 5 dimensions"""

    PAPER: ClassVar = {
        "sgd_step": 2e-4, "sgd_batch": 100, "teacher_steps": 40_000, "many": 400, "teacher_seeds": 40, "gap_seeds": 16,
        "chaos_seeds": 4000, "matchings": 4000,
    }  # fmt: skip


STUDIES = (
    two_gaussians.STUDY,
    panel("norms", two_gaussians.draw_norms),
    lazy.STUDY,
    planted.STUDY,
    panel("neurons", planted.draw_neurons),
    matchings.STUDY,
    langevin.STUDY,
    panel("chaos", langevin.draw_chaos),
    panel("stationary law", langevin.draw_law),
)

TOPIC = of_studies("mean-field", Config, STUDIES, size=(6.2, 4.9))
