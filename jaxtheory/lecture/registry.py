"""The topics, in the order of the lecture. A new topic is one import and one entry here."""

from jaxtheory.lecture import double_descent, infinite_width
from jaxtheory.lecture.topic import Topic

TOPICS: dict[str, Topic] = {topic.name: topic for topic in (double_descent.TOPIC, infinite_width.TOPIC)}
