"""Double descent on real digits and on the sphere: the whole curve over widths, its theory, and what a ridge does."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.double_descent import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
