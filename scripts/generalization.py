"""Generalization bounds of trained networks, with all their constants, against the gaps they bound."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.generalization import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
