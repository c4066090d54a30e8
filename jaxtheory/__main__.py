"""`python -m jaxtheory` is the command `jaxtheory`."""

import sys

from jaxtheory.cli import main

if __name__ == "__main__":
    sys.exit(main())
