"""Double descent in trained networks: over widths, over samples and over training time, and what removes it.

One-hidden-layer networks on digits, a bucket of widths in each compiled program. Beside them the exact law of gradient
flow, in which a weak fast group of features and a strong slow one give two descents in one run.
"""

from jaxtheory.lecture.double_descent_networks import descents, digits, panels
from jaxtheory.lecture.double_descent_networks.config import Config
from jaxtheory.lecture.study import of_studies

__all__ = ["TOPIC", "Config"]

STUDIES = (
    digits.STUDY, panels.WIDTHS_AND_TIME, panels.TIME, panels.WIDTHS_AND_SAMPLES, panels.SAMPLES, descents.STUDY,
)  # fmt: skip

TOPIC = of_studies("double-descent-networks", Config, STUDIES, size=(5.8, 4.8))
