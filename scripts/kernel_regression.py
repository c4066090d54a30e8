"""Kernel regression on real digits: learning curves, spectra and the Sobolev rate, predicted before measured."""

import sys

from jaxtheory.lecture.command import main
from jaxtheory.lecture.kernel_regression import TOPIC

if __name__ == "__main__":
    sys.exit(main(TOPIC))
