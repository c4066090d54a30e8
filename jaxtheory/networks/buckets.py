"""Which widths are padded to one size: few programs to compile, little work on padding."""

import math
from collections.abc import Callable, Sequence

import numpy as np

WASTE = 0.3
"""A step of all networks may take longer than with the best groups by less than this fraction."""


def buckets(
    widths: Sequence[int], cost: Callable[[int], float] = float, program: float = 0.0, excess: float = WASTE
) -> list[tuple[int, ...]]:
    r"""The fewest groups of neighbouring widths, each padded to its largest, whose steps take less than 30% too long.

    A step of k groups costs Σ |group| · cost(largest) + k · program. Of all partitions into k groups the one of least
    cost is found by dynamic programming, and the smallest k is taken for which it is below 1 + `excess` times the least
    of all k; without `program` that is Σ cost(width), so that padding wastes less than 30%. Widths in a ratio below 1.3
    would do at a cost linear in width, so k ≤ ⌈log_1.3(max/min)⌉ + 1; at a steeper cost k stops there, with the least
    waste it has.

    Args:
        widths: ≥ 1; repeated ones count once.
        cost: of one step of one network of a width, in any unit, increasing.
        program: of one step of a compiled program beside its networks, in the same unit: of its calls and small arrays,
            and its share of what compilation costs.
        excess: the fraction of the least cost that fewer groups may cost more.

    Returns:
        The groups, each sorted, in increasing order.

    Cost: O(m² k) for m widths.

    >>> buckets([1, 2, 100, 110, 120])
    [(1, 2), (100, 110, 120)]
    >>> buckets([1, 2, 100, 110, 120], program=1000.0)
    [(1, 2, 100, 110, 120)]
    """
    ordered = sorted(set(widths))
    costs = np.array([cost(width) for width in ordered], float)
    most = math.ceil(math.log(ordered[-1] / ordered[0]) / math.log(1 + WASTE)) + 1
    # least[j]: the least cost of the first j widths in k groups; cuts[k][j]: where the last group begins
    least, cuts = np.r_[0.0, np.full(len(ordered), np.inf)], []
    enough = (1 + excess) * _least_cost(costs, program)
    for count in range(1, min(most, len(ordered)) + 1):
        least, begin = _one_more(least, costs)
        cuts.append(begin)
        if least[-1] + count * program < enough:
            break
    groups, end = [], len(ordered)
    for begin in reversed(cuts):
        groups.append(tuple(ordered[begin[end] : end]))
        end = begin[end]
    return groups[::-1]


def ending(widths: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """The groups of widths up to the first size, from there to the second, and so on.

    >>> ending([4, 2, 8, 6], [5, 8, 9])
    [(2, 4), (6, 8)]
    """
    places = np.searchsorted(np.unique(sizes), sorted(widths))
    return [
        tuple(width for width, at in zip(sorted(widths), places, strict=True) if at == k) for k in np.unique(places)
    ]


def waste(groups: Sequence[Sequence[int]], cost: Callable[[int], float] = float) -> float:
    """Padded cost over true cost, minus one.

    >>> f"{waste([(1, 2), (100, 110, 120)]):.3f}"
    '0.093'
    """
    return sum(len(group) * cost(max(group)) for group in groups) / sum(cost(w) for g in groups for w in g) - 1


def _least_cost(costs: np.ndarray, program: float) -> float:
    """Of any number of groups."""
    least = np.zeros(len(costs) + 1)
    for end in range(1, len(costs) + 1):
        least[end] = (least[:end] + (end - np.arange(end)) * costs[end - 1]).min() + program
    return float(least[-1])


def _one_more(least: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least cost of each prefix with one more group, and where that group begins."""
    count = len(costs)
    begin, result = np.zeros(count + 1, int), np.full(count + 1, np.inf)
    for end in range(1, count + 1):
        totals = least[:end] + (end - np.arange(end)) * costs[end - 1]
        begin[end] = totals.argmin()
        result[end] = totals[begin[end]]
    return result, begin
