"""How fast this device is: `python scripts/benchmark.py [--preset large]` is the command `jaxtheory benchmark`."""

from jaxtheory.benchmark.command import main

if __name__ == "__main__":
    raise SystemExit(main())
