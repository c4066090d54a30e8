"""The topics, in the order of the lecture. A new topic is one import and one entry here."""

from jaxtheory.lecture import depth, double_descent, double_descent_networks, expressivity
from jaxtheory.lecture.topic import Topic

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (double_descent.TOPIC, double_descent_networks.TOPIC, expressivity.TOPIC, depth.TOPIC)
}
