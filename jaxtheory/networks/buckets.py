"""Which widths are padded to one size: few programs to compile, little work on padding."""

import math
from collections.abc import Callable, Sequence

import numpy as np

WASTE = 0.3
"""Padded work may exceed the work of the true widths by less than this fraction."""


def buckets(widths: Sequence[int], cost: Callable[[int], float] = float) -> list[tuple[int, ...]]:
    r"""The fewest groups of neighbouring widths, each padded to its largest, that waste less than 30%.

    Of all partitions into k groups the one with the least Σ |group| · cost(largest) is found by dynamic programming,
    and the smallest k is taken for which that is below 1.3 Σ cost(width). Widths in a ratio below 1.3 would do at a
    cost linear in width, so k ≤ ⌈log_1.3(max/min)⌉ + 1; at a steeper cost k stops there, with the least waste it has.

    Args:
        widths: ≥ 1; repeated ones count once.
        cost: of training one network of a width, in any unit, increasing.

    Returns:
        The groups, each sorted, in increasing order.

    Cost: O(m² k) for m widths.

    >>> buckets([1, 2, 100, 110, 120])
    [(1, 2), (100, 110, 120)]
    """
    ordered = sorted(set(widths))
    costs = np.array([cost(width) for width in ordered], float)
    most = math.ceil(math.log(ordered[-1] / ordered[0]) / math.log(1 + WASTE)) + 1
    # least[j]: the least cost of the first j widths in k groups; cuts[k][j]: where the last group begins
    least, cuts = np.r_[0.0, np.full(len(ordered), np.inf)], []
    for _ in range(min(most, len(ordered))):
        least, begin = _one_more(least, costs)
        cuts.append(begin)
        if least[-1] < (1 + WASTE) * costs.sum():
            break
    groups, end = [], len(ordered)
    for begin in reversed(cuts):
        groups.append(tuple(ordered[begin[end] : end]))
        end = begin[end]
    return groups[::-1]


def waste(groups: Sequence[Sequence[int]], cost: Callable[[int], float] = float) -> float:
    """Padded cost over true cost, minus one.

    >>> f"{waste([(1, 2), (100, 110, 120)]):.3f}"
    '0.093'
    """
    return sum(len(group) * cost(max(group)) for group in groups) / sum(cost(w) for g in groups for w in g) - 1


def _one_more(least: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least cost of each prefix with one more group, and where that group begins."""
    count = len(costs)
    begin, result = np.zeros(count + 1, int), np.full(count + 1, np.inf)
    for end in range(1, count + 1):
        totals = least[:end] + (end - np.arange(end)) * costs[end - 1]
        begin[end] = totals.argmin()
        result[end] = totals[begin[end]]
    return result, begin
