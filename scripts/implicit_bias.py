"""Implicit bias: which of many solutions descent finds, each law as a line and its run as points."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.implicit_bias import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
