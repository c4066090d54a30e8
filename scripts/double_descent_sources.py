"""Double descent, taken apart: sources of the error, classifiers and separability, training time, real digits."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.double_descent_sources import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
