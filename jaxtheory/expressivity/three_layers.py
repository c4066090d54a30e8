r"""Explicit networks of three layers for the targets that two layers cannot reach.

    radial:         g(|x|),      first layer Σ_i x_i²,             second layer u ↦ g(√u)
    inner product:  p(⟨x, x'⟩),  first layer Σ_i (x_i + x'_i)²/2 − 1,  second layer p

Both layers are piecewise linear interpolants whose knots are dense where curvature and probability are: the density
(p · h''²)^(1/5) that minimizes the error in L²(p). So the first layer has d · `inner` neurons, the second `outer`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxtheory.checks import boundary, host_numbers, require
from jaxtheory.expressivity.depth import harmonics, legendre
from jaxtheory.expressivity.relu_network import Network, affine, compose, entrywise, spline

Function = Callable[[np.ndarray], np.ndarray]
_GRID = 40_001


class _Target(NamedTuple):
    """A function h of one sum u of squares, the density of u on [low, high], and the squares that make u."""

    function: Function
    density: Function
    low: float
    high: float
    deviation: float
    """of the numbers that are squared"""
    share: float
    """of each square in u"""
    shift: float
    """u is share · (the sum of squares) + shift"""


@boundary(static=("dim", "inner", "outer"))
def radial(profile: Function, dim: int, *, inner: int = 24, outer: int = 96) -> Network:
    """g(|x|) for x ~ N(0, I_d) as a network of three layers with d · inner + outer neurons.

    Args:
        profile: g, elementwise on NumPy radii. dim: d ≥ 2. inner, outer: knots of one square and of the profile, ≥ 3.

    Raises:
        ValueError: sizes too small, a profile that is not elementwise or not finite. Cost: 1e5 evaluations of g.

    Source: de Boor (1978), chapter XII, for the knots.

    >>> from jaxtheory.expressivity.relu_network import audit
    >>> audit(radial(np.cos, 10)).neurons
    336
    """
    _require_sizes(dim, inner, outer)
    return _build(np.eye(dim), _radial(profile, dim), inner, outer)


@boundary(static=("dim", "inner", "outer"))
def radial_error(profile: Function, dim: int, *, inner: int = 24, outer: int = 96) -> float:
    r"""E(f − net)²/E f² of `radial` before it is built, by integrals of one variable:

        (E(h̃ − h)² + E h'(u)² E[(Σ_i q(z_i) − z_i² − bias)² | u]) / E h²,   h(u) = g(√u), u = Σ z_i²,

    with h̃ and q the interpolants of h and z². The two layers err independently, and h is taken as linear over the
    error of its argument: true to leading order in 1/inner and 1/outer.

    Args:
        profile, dim, inner, outer: as in `radial`.

    Raises:
        ValueError: as `radial`, or a profile that vanishes. Cost: 2e6 evaluations of q.

    >>> f"{radial_error(lambda r: np.cos(6 * (r - 9.5**0.5) + 0.7), 10):.5f}"
    '0.00096'
    """
    _require_sizes(dim, inner, outer)
    return _error(_radial(profile, dim), dim, inner, outer)


def _radial(profile: Function, dim: int) -> _Target:
    def density(u: np.ndarray) -> np.ndarray:  # χ² with d degrees of freedom
        logarithm = (dim / 2 - 1) * np.log(np.maximum(u, 1e-9)) - u / 2 - dim / 2 * math.log(2) - math.lgamma(dim / 2)
        return np.exp(logarithm)

    def function(u: np.ndarray) -> np.ndarray:
        values = host_numbers("profile", profile(np.sqrt(u)))
        require(values.shape == u.shape, "profile", values.shape, f"return shape {u.shape}", "make it elementwise")
        require(bool(np.isfinite(values).all()), "profile", "NaN or infinity", "be finite", "pass g(r) for r >= 0")
        return values

    low, high = max(0.0, dim**0.5 - 6.0) ** 2, (dim**0.5 + 6.0) ** 2
    return _Target(function, density, low, high, 1.0, 1.0, 0.0)


@boundary(static=("dim", "degree", "inner", "outer"))
def inner_product(dim: int, degree: int, *, inner: int = 24, outer: int = 48) -> Network:
    """√D P_n(⟨x, x'⟩) for x, x' uniform on S^(d−1) as a network of three layers with d · inner + outer neurons.

    Args:
        dim: d ≥ 3. degree: n ≥ 1. inner, outer: knots of one square and of the polynomial, ≥ 3.

    Returns:
        A network of 2d inputs (x, x').

    Raises:
        ValueError: sizes too small. Source: Daniely (2017), Theorem 1, for the target.

    >>> from jaxtheory.expressivity.relu_network import audit
    >>> audit(inner_product(10, 5)).neurons
    288
    """
    _require_sizes(dim, inner, outer)
    return _build(np.concatenate([np.eye(dim)] * 2), _inner_product(dim, degree), inner, outer)


@boundary(static=("dim", "degree", "inner", "outer"))
def inner_product_error(dim: int, degree: int, *, inner: int = 24, outer: int = 48) -> float:
    """E(f − net)²/E f² of `inner_product` before it is built, as `radial_error` does.

    Args:
        dim, degree, inner, outer: as in `inner_product`.

    Raises:
        ValueError: as there. Cost: 2e6 evaluations of q.

    >>> f"{inner_product_error(20, 5):.4f}"
    '0.0023'
    """
    _require_sizes(dim, inner, outer)
    return _error(_inner_product(dim, degree), dim, inner, outer)


def _inner_product(dim: int, degree: int) -> _Target:
    require(dim >= 3, "dim", dim, "be >= 3", "on the circle two layers are enough")
    require(degree >= 1, "degree", degree, "be >= 1", "constants need no neuron")
    scale = math.sqrt(harmonics(dim, degree))
    return _Target(
        lambda s: scale * legendre(s, degree, dim), lambda s: (1 - s**2) ** ((dim - 3) / 2),
        -1.0, 1.0, (2 / dim) ** 0.5, 0.5, -1.0,
    )  # fmt: skip


def _build(mixing: np.ndarray, target: _Target, inner: int, outer: int) -> Network:
    """Mix the inputs, square each, add up without the squares' mean error, and apply the interpolant of h."""
    dim = mixing.shape[1]
    places, mean = _square(inner, target.deviation)
    last = _knots(target, outer)
    return compose(
        affine(mixing),
        entrywise(spline(places, places**2), dim),
        affine(np.full((dim, 1), target.share), [target.shift - dim * target.share * mean]),
        spline(last, target.function(last)),
    )


def _error(target: _Target, dim: int, inner: int, outer: int) -> float:
    u = np.linspace(target.low, target.high, 1001)[1:-1]
    h, last, density = target.function(u), _knots(target, outer), target.density(u)
    second = (np.interp(u, last, target.function(last)) - h) ** 2
    t = np.linspace(-1, 1, 2001)[1:-1]
    coordinate = (1 - t**2) ** ((dim - 3) / 2)
    z = np.sqrt((u - target.shift) / target.share)[:, None] * t[None, :]  # a coordinate of what is squared, given u
    places, bias = _square(inner, target.deviation)
    error = np.interp(z, places, places**2) - z**2
    mean, square = (np.average(part, axis=1, weights=coordinate) for part in (error, error**2))
    first = target.share**2 * (dim * (square - mean**2) + (dim * (mean - bias)) ** 2) * np.gradient(h, u) ** 2
    energy = float(density @ h**2)
    require(energy > 0, "profile", energy, "have a norm above 0", "pass g(r), elementwise")
    return float(density @ (first + second)) / energy


def _square(knots: int, deviation: float) -> tuple[np.ndarray, float]:
    """Knots of the interpolant of t² for t ~ N(0, σ²), and its mean error, which the next layer's bias removes."""
    axis = np.linspace(-7 * deviation, 7 * deviation, _GRID)
    gaussian = _Target(np.square, lambda t: np.exp(-((t / deviation) ** 2) / 2), axis[0], axis[-1], deviation, 1.0, 0.0)
    places = _knots(gaussian, knots)
    error = np.interp(axis, places, places**2) - axis**2
    return places, float(np.average(error, weights=gaussian.density(axis)))


def _knots(target: _Target, count: int) -> np.ndarray:
    """Knots of density ∝ (p h''²)^(1/5): the best for piecewise linear functions in L²(p), up to lower order.

    Source: de Boor (1978), chapter XII.
    """
    axis = np.linspace(target.low, target.high, _GRID)
    bend = np.gradient(np.gradient(target.function(axis), axis), axis)
    monitor = (target.density(axis) * bend**2) ** 0.2
    monitor = monitor + max(1e-3 * monitor.mean(), 1e-300)  # no cell is without a knot, and none is needed for lines
    mass = np.concatenate([[0.0], np.cumsum(monitor[1:] + monitor[:-1])])
    return np.interp((np.arange(count) + 0.5) / count, mass / mass[-1], axis)


def _require_sizes(dim: int, inner: int, outer: int) -> None:
    for name, size, least in (("dim", dim, 2), ("inner", inner, 3), ("outer", outer, 3)):
        require(size >= least, name, size, f"be >= {least}", "use a larger size")
