"""Students and teachers: plateaus, the samples of an exponent, collapse, grokking, each law beside its run."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.teacher_student import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
