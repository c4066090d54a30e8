"""Feature learning: the limit from lazy to rich, networks beside it, coordinate check, transfer of learning rates."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.feature_learning import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
