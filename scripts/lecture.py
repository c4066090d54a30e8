"""Every topic of the lecture: the table of all claims, and index.html with every figure beside them."""

import sys

from jaxtheory.lecture.command import main_all

if __name__ == "__main__":
    sys.exit(main_all())
