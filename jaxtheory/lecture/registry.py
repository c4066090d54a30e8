"""The topics, in the order of the lecture. A new topic is one import and one entry here."""

from jaxtheory.lecture import (
    adaptivity,
    besov,
    depth,
    double_descent,
    double_descent_networks,
    double_descent_sources,
    edge_of_stability,
    expressivity,
    feature_learning,
    generalization,
    implicit_bias,
    infinite_width,
    kernel_regression,
    mean_field,
    mixed_smoothness,
    ntk,
    saddles,
    scaling_laws,
    teacher_student,
)
from jaxtheory.lecture.topic import Topic

_ORDER = (
    expressivity.TOPIC,
    depth.TOPIC,
    besov.TOPIC,
    mixed_smoothness.TOPIC,
    adaptivity.TOPIC,
    kernel_regression.TOPIC,
    double_descent.TOPIC,
    double_descent_networks.TOPIC,
    double_descent_sources.TOPIC,
    scaling_laws.TOPIC,
    ntk.TOPIC,
    infinite_width.TOPIC,
    mean_field.TOPIC,
    feature_learning.TOPIC,
    saddles.TOPIC,
    implicit_bias.TOPIC,
    edge_of_stability.TOPIC,
    teacher_student.TOPIC,
    generalization.TOPIC,
)

TOPICS: dict[str, Topic] = {topic.name: topic for topic in _ORDER}
