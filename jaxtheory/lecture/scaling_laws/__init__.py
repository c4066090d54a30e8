"""Scaling laws that can be solved: one-pass SGD, its compute-optimal frontier, its phases, and fits of such laws.

The exact mean risk of one-pass SGD on random features beside runs; the best width for each budget of compute and its
exponents, in the plane of (α, β) too; bootstrap intervals of the parametric form E + A/N^α + B/D^β, and the form fitted
to risks that are known exactly; the four regimes of data and width.
"""

from jaxtheory.lecture.scaling_laws import fits, frontier, one_pass, regimes
from jaxtheory.lecture.scaling_laws.config import Config
from jaxtheory.lecture.study import of_studies

__all__ = ["TOPIC", "Config"]

STUDIES = (one_pass.STUDY, frontier.FRONTIER, frontier.PHASES, fits.SOLVED, fits.COVERAGE, regimes.STUDY)

TOPIC = of_studies("scaling-laws", Config, STUDIES)
