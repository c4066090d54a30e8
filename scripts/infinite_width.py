"""Infinite width: drawn kernels converge on the limit of the program, depth has a phase, and the limit classifies."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.infinite_width import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
