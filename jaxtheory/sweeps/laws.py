"""Random search: axes whose values are drawn from laws, the same in every run and in every longer one."""

import hashlib
import math
from collections.abc import Callable

import numpy as np

from jaxtheory.checks import boundary, require
from jaxtheory.sweeps.axes import MOST_VALUES, Zipped

Law = Callable[[float], float]


def random(count: int, seed: int = 0, /, **laws: Law) -> Zipped:
    """Axes that vary together, at `count` independent places drawn from a law each; more places begin with the same.

    The i-th value of an axis is law(u), u in (0, 1) from SHA-256 of the seed, the axis' name and i.

    Args:
        count: places, ≥ 1; raise it to extend the search.
        seed: another seed gives other places.
        laws: the inverse distribution function of each axis, from u in (0, 1): `uniform(0.0, 1.0)`,
            `log_uniform(1e-4, 1e-1)`, or any function, as `lambda u: 2 ** int(4 + 6 * u)`.

    Raises:
        ValueError: no law, count < 1, or what is no integer.

    Source: Bergstra and Bengio (2012), Random search for hyper-parameter optimization.

    >>> made = random(3, rate=log_uniform(1e-4, 1e-1), decay=uniform(0.0, 0.1))
    >>> [f"{rate:.1e}" for rate in made.axes["rate"]], random(2, rate=log_uniform(1e-4, 1e-1)).axes["rate"][1]
    (['1.5e-03', '1.1e-03', '1.7e-02'], 0.001121...)
    """
    for name, number, least in (("count", count, 1), ("seed", seed, 0)):
        whole = isinstance(number, int | np.integer) and not isinstance(number, bool) and bool(number >= least)
        require(whole, name, repr(number), f"be an integer >= {least}", "write random(20, rate=uniform(0.0, 1.0))")
    require(count <= MOST_VALUES, "count", count, "be at most 2**32", "run several sweeps")
    require(len(laws) > 0, "laws", laws, "name at least one axis", "write random(20, rate=log_uniform(1e-4, 1e-1))")
    for name, law in laws.items():
        require(callable(law), name, law, "be a law, a function of u in (0, 1)", "use uniform or log_uniform")
    return Zipped({name: [law(_uniform(seed, name, i)) for i in range(count)] for name, law in laws.items()})


@boundary
def uniform(low: float, high: float) -> Law:
    """The law of uniform numbers between `low` and `high`.

    >>> uniform(2.0, 4.0)(0.5)
    3.0
    """
    require(
        -math.inf < low < high < math.inf, "low", (low, high), "be below high, both finite", "write uniform(0.0, 1.0)"
    )
    return lambda u: low + (high - low) * u


@boundary
def log_uniform(low: float, high: float) -> Law:
    """The law of numbers whose logarithm is uniform between those of `low` and `high`.

    >>> f"{log_uniform(1e-4, 1.0)(0.5):.4f}"
    '0.0100'
    """
    ordered = 0 < low < high < math.inf
    require(ordered, "low", (low, high), "be positive and below high", "write log_uniform(1e-4, 1.0)")
    return lambda u: math.exp(math.log(low) + (math.log(high) - math.log(low)) * u)


def _uniform(seed: int, name: str, index: int) -> float:
    """52 bits of a hash, as a number in the open interval (0, 1)."""
    raw = hashlib.sha256(f"{seed}\0{name}\0{index}".encode()).digest()
    return ((int.from_bytes(raw[:8], "little") >> 12) + 0.5) / 2**52
