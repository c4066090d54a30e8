"""Mean field: SGD and its radial limit, a planted teacher, Langevin and its laws, lazy scaling, Wasserstein rates."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.mean_field import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
