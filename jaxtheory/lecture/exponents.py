"""Exponents of mean risks over functions that are the same at every sample size, with their standard errors."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxtheory.lecture.claims import estimated


class Estimated(NamedTuple):
    """A function of mean risks, and to first order what each function contributes to it: numbers of mean 0."""

    value: float
    contributions: np.ndarray

    @property
    def error(self) -> float:
        """The standard error, by the delta method."""
        return float(self.contributions.std(ddof=1) / math.sqrt(len(self.contributions)))


def slope(sizes: Sequence[Any] | np.ndarray, risks: Sequence[Any] | np.ndarray) -> float:
    """The least-squares slope of log risk over log n."""
    return float(_weights(sizes) @ np.log(np.asarray(risks, float)))


def exponents(sizes: Sequence[Any] | np.ndarray, risks: np.ndarray) -> Estimated:
    """Of `risks` [function, size]: the slope of the mean over functions.

    >>> found = exponents([1.0, 2.0, 4.0], np.array([[4.0, 2.0, 1.0], [8.0, 4.0, 2.0]]))
    >>> f"{found.value:.3f} {found.error:.3f}"
    '-1.000 0.000'
    """
    mean = risks.mean(axis=0)
    return Estimated(slope(sizes, mean), (risks / mean[None, :] - 1) @ _weights(sizes))


def minus(one: Estimated, other: Estimated) -> Estimated:
    """The difference of two numbers of the same functions."""
    return Estimated(one.value - other.value, one.contributions - other.contributions)


def log_ratio(risks: np.ndarray, law: float) -> Estimated:
    """The logarithm of the mean of `risks` [function] over a law."""
    return Estimated(math.log(risks.mean() / law), risks / risks.mean() - 1)


def named(name: str, found: Estimated) -> dict[str, float]:
    """A number, its standard error and its draws, as a claim wants them."""
    return estimated(name, found.value, found.error, len(found.contributions))


def named_apart(name: str, one: Estimated, other: Estimated) -> dict[str, float]:
    """The difference of two numbers of independent functions; its draws are those of the smaller set."""
    draws = min(len(one.contributions), len(other.contributions))
    return estimated(name, one.value - other.value, math.hypot(one.error, other.error), draws)


def _weights(sizes: Sequence[Any] | np.ndarray) -> np.ndarray:
    u = np.log(np.asarray(sizes, float))
    return (u - u.mean()) / ((u - u.mean()) ** 2).sum()
