"""Adaptivity: trained networks and wavelets against every linear estimator, and the exponents of many classes."""

import sys

from jaxtheory.lecture.adaptivity import TOPIC
from jaxtheory.lecture.command import main

if __name__ == "__main__":
    sys.exit(main(TOPIC))
