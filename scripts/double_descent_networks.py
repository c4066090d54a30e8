"""Double descent in trained networks: over widths, samples and time, and what label noise, decay and ensembles do."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.double_descent_networks import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
