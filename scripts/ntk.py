"""The tangent kernel: its law at initialization, its motion in training, and training as learning the kernel."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.ntk import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
