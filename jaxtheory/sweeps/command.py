"""`jaxtheory sweep status PATH`: how far sweeps are."""

import argparse
import sys
from collections.abc import Sequence

from jaxtheory.sweeps.watching import Report, status


def main(arguments: Sequence[str]) -> int:
    """Print what was asked; 1 where a path holds no sweep."""
    parser = argparse.ArgumentParser(prog="jaxtheory sweep", description=__doc__)
    commands = parser.add_subparsers(required=True)
    watch = commands.add_parser("status", help="points done and failed, rate and time left, of a running store too")
    watch.add_argument("path", nargs="+", help="folder or URL of a store")
    failed = 0
    for path in parser.parse_args(arguments).path:
        try:
            print(described(path, status(path)))
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


def described(path: str, report: Report) -> str:
    """A report as lines of text.

    >>> print(described("a.zarr", Report(1000, 250, {"NOT_FINITE": 2}, 0.36, 4.0, {"width=3": "ValueError: odd"})))
    a.zarr: 250 of 1,000 points done (25.0%), 2 failed (2 NOT_FINITE)
      0.36 s a point (2.8 points/s), 4 min 30 s left at that rate; last chunk 4 s ago
      width=3: ValueError: odd
    """
    share = 100 * report.done / report.total
    kinds = ", ".join(f"{count:,} {name}" for name, count in report.failed.items())
    bad = f"{sum(report.failed.values()):,} failed ({kinds})" if report.failed else "none failed"
    lines = [f"{path}: {report.done:,} of {report.total:,} points done ({share:.1f}%), {bad}"]
    if report.seconds_per_point is not None and report.seconds_left is not None and report.idle is not None:
        rate, idle = report.seconds_per_point, duration(report.idle)
        told = f"{duration(report.seconds_left)} left at that rate" if report.seconds_left else "nothing left"
        speed = f"{rate:.2g} s a point ({1 / max(rate, 1e-12):.2g} points/s)"
        lines.append(f"  {speed}, {told}; last chunk {idle} ago")
    return "\n".join([*lines, *(f"  {name}: {text}" for name, text in report.errors.items())])


def duration(seconds: float) -> str:
    """Seconds in two units at most.

    >>> [duration(seconds) for seconds in (4.2, 75.0, 7500.0, 2e5)]
    ['4 s', '1 min 15 s', '2 h 5 min', '2 d 7 h']
    """
    units: list[str] = []
    left = round(seconds)
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (name == "s" and not units):
            units.append(f"{count} {name}")
    return " ".join(units[:2])
