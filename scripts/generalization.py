"""Generalization bounds of trained networks, with all their constants, against the gaps they bound."""

import sys

from jaxtheory.lecture.generalization import TOPIC

from jaxtheory.lecture.command import main

if __name__ == "__main__":
    sys.exit(main(TOPIC))
