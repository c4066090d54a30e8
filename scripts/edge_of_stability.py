"""The edge of stability: sharpness stops at the optimizer's threshold, each law as a line and its run as points."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.edge_of_stability import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
