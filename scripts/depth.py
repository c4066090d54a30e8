"""Number of layers: certificates for every two-layer network, explicit networks of three, and the pieces depth adds."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.depth import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
