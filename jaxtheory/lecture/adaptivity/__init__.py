"""Adaptivity: what estimators that look at the data gain over every linear one, and what decides their exponents.

(a) Trained networks on half-planes and on a Gaussian field of the same covariance, beside tuned kernel regression and
the best linear estimator; (b) wavelets on half-planes; (c) wavelet shrinkage on random jumps and on a Gaussian loop of
the same covariance; (d) exponents by `smoothness.classes.rates` against measured ones, of isotropic, anisotropic,
varying and additive classes; (e) nearest neighbours on tori in a space of dimension 12; (f) a hierarchy of functions by
composed splines.
"""

from jaxtheory.lecture.adaptivity import compositions, half_planes, loops, manifolds, plane_wavelets, rate_table
from jaxtheory.lecture.adaptivity.config import Config
from jaxtheory.lecture.study import of_studies

__all__ = ["TOPIC", "Config"]

_STUDIES = (
    half_planes.STUDY,
    plane_wavelets.STUDY,
    loops.STUDY,
    rate_table.STUDY,
    manifolds.STUDY,
    compositions.STUDY,
)
TOPIC = of_studies("adaptivity", Config, _STUDIES)
