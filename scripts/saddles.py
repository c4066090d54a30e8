"""Saddles: how long descent waits at each, with and without noise, and when no bad minimum is left."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.saddles import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
