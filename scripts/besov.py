"""Besov spaces: adaptive estimators, splines and networks against the best linear ones; the rates of every class."""

import sys

from jaxtheory.lecture.besov import TOPIC
from jaxtheory.lecture.command import main

if __name__ == "__main__":
    sys.exit(main(TOPIC))
