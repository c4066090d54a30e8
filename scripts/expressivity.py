"""Expressivity: random and greedy networks, Kolmogorov superposition in exact integers, and the ridgelet transform."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.expressivity import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
