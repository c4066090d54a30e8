"""Where double descent comes from: sources of the error, classifiers, training time, and digits.

The shares of data, features and label noise in the error of random features over the width; the errors of largest
margins and of logistic regression across the threshold of separability; two descents in one run of gradient flow; the
classification error of random features on real digits.
"""

from jaxtheory.lecture.double_descent_sources import classifiers, components, digits, epochs
from jaxtheory.lecture.double_descent_sources.config import Config
from jaxtheory.lecture.study import of_studies

__all__ = ["TOPIC", "Config"]

STUDIES = (components.STUDY, classifiers.STUDY, epochs.STUDY, digits.STUDY)

TOPIC = of_studies("double-descent-sources", Config, STUDIES, columns=2)
