"""Mean field: networks as flows of particles, their limits, their noise, and the distance between measures.

(a) SGD against the radial limit of two Gaussians; (b) a planted teacher found by many particles; (c) Langevin: free
energy, fixed point, propagation of chaos; (d) lazy against mean-field scaling; (e) rates of empirical measures.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr
from matplotlib.figure import Figure

from jaxtheory import figures
from jaxtheory.lecture import mean_field_flows as flows
from jaxtheory.lecture import mean_field_noise as noise
from jaxtheory.lecture.claims import Claims
from jaxtheory.lecture.study import BaseConfig, kept
from jaxtheory.lecture.topic import Topic


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the five studies."""

    out: Path = field(default=Path("runs/mean_field"), compare=False)
    """folder for predictions, each study's data, table, figure and animations; an interrupted run continues there"""
    x64: bool = False
    """compute in float64"""
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

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        published = replace(quick, preset="paper", sgd_step=2e-4, sgd_batch=100, teacher_steps=40_000, many=400)
        more = replace(published, teacher_seeds=40, gap_seeds=16, chaos_seeds=4000, matchings=4000)
        return more if preset == "paper" else quick


class Study(NamedTuple):
    """One part of the topic: what it predicts and what it measures."""

    name: str
    predict: Callable[[Any], Claims]
    measure: Callable[[Any], xr.Dataset]


STUDIES = (
    Study("gaussians", flows.mmn_claims, flows.mmn_measure),
    Study("teacher", flows.teacher_claims, flows.teacher_measure),
    Study("lazy", flows.lazy_claims, flows.lazy_measure),
    Study("langevin", noise.langevin_claims, noise.langevin_measure),
    Study("matching", noise.rate_claims, noise.rate_measure),
)


def predict(config: Config) -> Claims:
    """All claims of the five studies, and the curves of their limits."""
    parts = [study.predict(config) for study in STUDIES]
    curves = {name: curve for part in parts for name, curve in part.curves.items()}
    return Claims(tuple(claim for part in parts for claim in part.claims), curves)


def measure(config: Config) -> xr.Dataset:
    """Measure the five studies, each kept as it ends, and animate the particles."""
    parts = [kept(config.out, study.name, partial(study.measure, config)) for study in STUDIES]
    dataset = xr.merge(parts, compat="no_conflicts", join="exact")
    flows.animate(dataset, config.out)
    return dataset


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Nine panels: two of the Gaussians, two of the teacher, three of Langevin, lazy scaling, matching."""
    figure, axes = figures.canvas(3, 3, panel=(6.2, 4.9))
    flows.mmn_draw(axes[0], axes[1], dataset, claims)
    flows.lazy_draw(axes[2], dataset, claims)
    flows.teacher_draw(axes[3], axes[4], dataset, claims)
    noise.rate_draw(axes[5], dataset, claims)
    noise.langevin_draw(axes[6], axes[7], dataset, claims)
    noise.gibbs_draw(axes[8], dataset, claims)
    return figure


TOPIC = Topic("mean-field", Config, predict, measure, draw)
