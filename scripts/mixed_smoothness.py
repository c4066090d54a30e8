"""Mixed smoothness: hyperbolic crosses and sparse grids up to dimension 10, beside isotropic grids."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.mixed_smoothness import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
