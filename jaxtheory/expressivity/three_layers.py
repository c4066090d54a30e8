r"""Explicit networks of three layers for the targets that two layers cannot reach.

    radial:         g(|x|),      first layer Σ_i x_i²,             second layer u ↦ g(√u)
    inner product:  p(⟨x, x'⟩),  first layer Σ_i (x_i + x'_i)²/2 − 1,  second layer p

Both layers are piecewise linear interpolants whose knots are dense where curvature and probability are: the density
(p · h''²)^(1/5) that minimizes the error in L²(p). So the first layer has d · `inner` neurons, the second `outer`.
"""

import math
from collections.abc import Callable

import numpy as np

from jaxtheory.checks import require
from jaxtheory.expressivity.depth import harmonics, legendre
from jaxtheory.expressivity.relu_network import Network, affine, compose, entrywise, spline

Function = Callable[[np.ndarray], np.ndarray]
_GRID = 40_001


def radial(profile: Function, dim: int, *, inner: int = 24, outer: int = 96) -> Network:
    """g(|x|) for x ~ N(0, I_d) as a network of three layers with d · inner + outer neurons.

    Args: profile: g, elementwise on numpy radii. dim: d ≥ 2. inner, outer: knots of one square and of the profile, ≥ 3.

    Raises: ValueError: sizes too small. Cost: 1e5 evaluations of g.

    >>> from jaxtheory.expressivity.relu_network import audit
    >>> audit(radial(np.cos, 10)).neurons
    336
    """
    _require_sizes(dim, inner, outer)
    low, high = (max(0.0, dim**0.5 - 6.0) ** 2, (dim**0.5 + 6.0) ** 2)

    def density(u: np.ndarray) -> np.ndarray:  # χ² with d degrees of freedom
        logarithm = (dim / 2 - 1) * np.log(np.maximum(u, 1e-9)) - u / 2 - dim / 2 * math.log(2) - math.lgamma(dim / 2)
        return np.exp(logarithm)

    squares, bias = _square(inner, 1.0)
    total = affine(np.ones((dim, 1)), [-dim * bias])
    last = _interpolant(lambda u: profile(np.sqrt(u)), density, low, high, outer)
    return compose(entrywise(squares, dim), total, last)


def inner_product(dim: int, degree: int, *, inner: int = 24, outer: int = 48) -> Network:
    """√D P_n(⟨x, x'⟩) for x, x' uniform on S^(d−1) as a network of three layers with d · inner + outer neurons.

    Args: dim: d ≥ 3. degree: n ≥ 1. inner, outer: knots of one square and of the polynomial, ≥ 3.

    Returns: a network of 2d inputs (x, x'). Raises: ValueError: sizes too small.

    >>> from jaxtheory.expressivity.relu_network import audit
    >>> audit(inner_product(10, 5)).neurons
    288
    """
    _require_sizes(dim, inner, outer)
    require(dim >= 3, "dim", dim, "be >= 3", "on the circle two layers are enough")
    sums = affine(np.concatenate([np.eye(dim), np.eye(dim)]))
    squares, bias = _square(inner, (2 / dim) ** 0.5)
    total = affine(np.full((dim, 1), 0.5), [-1 - dim * bias / 2])
    scale = math.sqrt(harmonics(dim, degree))
    last = _interpolant(
        lambda s: scale * legendre(s, degree, dim), lambda s: (1 - s**2) ** ((dim - 3) / 2), -1.0, 1.0, outer
    )  # fmt: skip
    return compose(sums, entrywise(squares, dim), total, last)


def _square(knots: int, deviation: float) -> tuple[Network, float]:
    """t² for t ~ N(0, σ²), and the mean of its error, which the next layer's bias removes."""

    def density(t: np.ndarray) -> np.ndarray:
        return np.exp(-((t / deviation) ** 2) / 2)

    places = _knots(np.square, density, -7 * deviation, 7 * deviation, knots)
    grid = np.linspace(-7 * deviation, 7 * deviation, _GRID)
    error = np.interp(grid, places, places**2) - grid**2
    return spline(places, places**2), float(np.average(error, weights=density(grid)))


def _interpolant(function: Function, density: Function, low: float, high: float, knots: int) -> Network:
    places = _knots(function, density, low, high, knots)
    return spline(places, function(places))


def _knots(function: Function, density: Function, low: float, high: float, count: int) -> np.ndarray:
    """Knots of density ∝ (p h''²)^(1/5): the best for piecewise linear functions in L²(p), up to lower order.

    Source: de Boor (1978), chapter XII.
    """
    grid = np.linspace(low, high, _GRID)
    bend = np.gradient(np.gradient(function(grid), grid), grid)
    monitor = (density(grid) * bend**2) ** 0.2
    monitor = monitor + 1e-3 * monitor.mean()  # no cell is without a knot
    mass = np.concatenate([[0.0], np.cumsum(monitor[1:] + monitor[:-1])])
    return np.interp((np.arange(count) + 0.5) / count, mass / mass[-1], grid)


def _require_sizes(dim: int, inner: int, outer: int) -> None:
    for name, size, least in (("dim", dim, 2), ("inner", inner, 3), ("outer", outer, 3)):
        require(size >= least, name, size, f"be >= {least}", "use a larger size")
