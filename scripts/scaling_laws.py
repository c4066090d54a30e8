"""Scaling laws: one-pass SGD solved, its compute-optimal frontier and phases, fits with intervals, the four regimes."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.scaling_laws import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
