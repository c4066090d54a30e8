r"""Explicit ReLU networks: the gadgets that approximation theory is made of, with the algebra that they are built by.

Nothing here is trained and nothing is computed but through ReLU layers: what `audit` counts is what `evaluate` runs.

>>> audit(product(4)).depth, evaluate(product(4), [[0.5, -0.25]]).tolist()
(6, [[-0.125]])
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtheory.checks import boundary, host_numbers, require
from jaxtheory.expressivity.algebra import (
    Audit,
    Layer,
    Network,
    affine,
    audit,
    compose,
    concatenate,
    deepen,
    entrywise,
    evaluate,
    identity,
    network,
    parallel,
    restrict,
    side_by_side,
    skip,
)

__all__ = [
    "Audit",
    "Layer",
    "Network",
    "affine",
    "audit",
    "clip",
    "compose",
    "concatenate",
    "deepen",
    "entrywise",
    "evaluate",
    "identity",
    "network",
    "parallel",
    "partition_of_unity",
    "product",
    "product_tree",
    "restrict",
    "sawtooth",
    "side_by_side",
    "skip",
    "spline",
    "square",
    "tensor_product",
    "tent",
]


@boundary
def spline(knots: Any, values: Any) -> Network:
    """The piecewise linear interpolant of one variable, constant beyond its knots: one neuron a knot.

    Far beyond them the neurons cancel: at x the rounding is ε |x| times the sum of the changes of slope.

    Args:
        knots: increasing, ≥ 2. values: as many.

    Raises:
        ValueError: other knots, numbers that are not finite.

    >>> evaluate(spline([0.0, 1.0, 2.0], [0.0, 3.0, 1.0]), [[-1.0], [0.5], [1.5], [9.0]]).ravel().tolist()
    [0.0, 1.5, 2.0, 1.0]
    """
    t, v = host_numbers("knots", knots), host_numbers("values", values)
    grid = t.ndim == 1 and len(t) >= 2 and t.shape == v.shape and bool((np.diff(t) > 0).all())
    require(grid, "knots", t.tolist(), "be >= 2, increasing, one a value", "sort the knots and drop equal ones")
    slopes = np.concatenate([[0.0], np.diff(v) / np.diff(t), [0.0]])
    return network([(np.ones((1, len(t))), -t), (np.diff(slopes)[:, None], v[:1])])


def tent() -> Network:
    """The tent: 2x on [0, 1/2], 2 − 2x on [1/2, 1], 0 elsewhere, by three neurons.

    >>> audit(tent()).neurons
    3
    """
    return spline([0.0, 0.5, 1.0], [0.0, 1.0, 0.0])


@boundary(static=("low", "high"))
def clip(low: float, high: float) -> Network:
    """min(max(x, low), high) by two neurons.

    Args:
        low, high: finite, low < high.

    Raises:
        ValueError: other ends.

    >>> evaluate(clip(0.0, 1.0), [[-3.0], [0.25], [7.0]]).ravel().tolist()
    [0.0, 0.25, 1.0]
    """
    require(-np.inf < low < high < np.inf, "low", low, f"be finite and below high = {high}", "exchange them")
    return spline([low, high], [low, high])


@boundary(static=("k",))
def sawtooth(k: int) -> Network:
    """Telgarsky's sawtooth: the tent composed k times, with 2^k pieces on [0, 1] from 3k neurons.

    Args:
        k: ≥ 1. In floating point every orbit of the tent ends at 0 once the digits are used up: after 24 (float32) or
            53 (float64) doublings of a number in [1/2, 1].

    Raises:
        ValueError: k < 1. Source: Telgarsky (2016), Lemma 3.10.

    >>> evaluate(sawtooth(3), [[0.0625]]).item()
    0.5
    """
    require(k >= 1, "k", k, "be >= 1", "use identity(1) for no tooth")
    return compose(*[tent()] * k)


@boundary(static=("m",))
def square(m: int) -> Network:
    r"""Yarotsky's x² on [0, 1], the piecewise linear interpolant on 2^m cells:

        f_m(x) = x − Σ_{s=1}^m tent∘s(x) / 4^s,   f_m ≥ x²,   sup |f_m − x²| = 2^(−2m−2),   ‖f_m − x²‖₂ = 2^(−2m)/√30.

    Args:
        m: ≥ 1, the number of hidden layers, of 3 neurons each (2 in the first). Valid on [0, 1] only.

    Raises:
        ValueError: m < 1.

    Source: Yarotsky (2017), Proposition 2.

    >>> (evaluate(square(3), [[0.0625]]) - 0.0625**2).item() == 2.0**-8
    True
    """
    require(m >= 1, "m", m, "be >= 1", "the error is 2^(−2m−2)")
    # neurons of layer s: relu(T_{s−1}), relu(T_{s−1} − 1/2), and x − Σ_{i<s} T_i/4^i ≥ 0; T_0 = x is its own sum
    layers = [(np.array([[1.0, 1.0]]), np.array([0.0, -0.5]))]
    tooth = np.array([2.0, -4.0, 0.0])
    for s in range(1, m):
        rest = np.array([0.0, 0.0, 1.0]) - tooth * 0.25**s
        following = np.stack([tooth, tooth, rest], axis=1)
        layers.append((_merge_first(following) if s == 1 else following, np.array([0.0, -0.5, 0.0])))
    last = (np.array([0.0, 0.0, 1.0]) - tooth * 0.25**m)[:, None]
    return network([*layers, (_merge_first(last) if m == 1 else last, np.zeros(1))])


def _merge_first(weight: np.ndarray) -> np.ndarray:
    """In the first layer the running sum is relu(x), which is there already."""
    return np.stack([weight[0] + weight[2], weight[1]])


@boundary(static=("m",))
def product(m: int) -> Network:
    r"""x·y on [−1, 1]² as f_m(|x + y|/2) − f_m(|x − y|/2), with f_m = `square(m)`.

    The sup error is exactly 2^(−2m−2), the result lies in [−1, 1], and it is exactly 0 where a factor is 0, in
    floating point too: both halves are computed by equal sums of equal numbers.

    Args:
        m: ≥ 1; m + 1 hidden layers of 6 neurons (4 in the first two).

    Raises:
        ValueError: m < 1.

    Source: Yarotsky (2017), Proposition 3.

    >>> evaluate(product(4), [[0.5, -0.25], [0.3, 0.0]]).ravel().tolist()
    [-0.125, 0.0]
    """
    halves = np.array([[0.5, 0.5], [0.5, -0.5]])
    signed = np.concatenate([halves, -halves], axis=1)
    absolute = network([(signed, np.zeros(4)), (np.tile(np.eye(2), (2, 1)), np.zeros(2))])
    return compose(absolute, entrywise(square(m), 2), affine([[1.0], [-1.0]]))


@boundary(static=("factors", "m"))
def product_tree(factors: int, m: int) -> Network:
    """x_1 ⋯ x_n on [−1, 1]^n by a tree of `product(m)`: ⌈log2 n⌉ (m + 1) hidden layers, error ≤ (n − 1) 2^(−2m−2).

    Args:
        factors: n ≥ 1. m: ≥ 1.

    Raises:
        ValueError: numbers out of range. Source: Schmidt-Hieber (2020), Lemma A.3.

    >>> evaluate(product_tree(3, 8), [[0.5, 0.5, -0.5]]).item()
    -0.125
    """
    require(factors >= 1, "factors", factors, "be >= 1", "name the number of inputs")
    levels = [identity(factors)]
    while factors > 1:
        pairs, odd = divmod(factors, 2)
        levels.append(side_by_side([product(m)] * pairs + [identity(1)] * odd))
        factors = pairs + odd
    return compose(*levels)


def tensor_product(nets: Sequence[Network], m: int) -> Network:
    """f_1(x_1) ⋯ f_d(x_d) for networks with one output in [−1, 1] each, by `product_tree`.

    Raises:
        ValueError: no network, more outputs than one, m < 1.

    >>> evaluate(tensor_product([tent(), tent()], 6), [[0.5, 0.25], [0.5, 2.0]]).ravel().tolist()
    [0.5, 0.0]
    """
    return compose(side_by_side(nets), product_tree(len(nets), m))


@boundary(static=("cells",))
def partition_of_unity(cells: int) -> Network:
    """x ↦ the cells + 1 hats at the nodes k/cells: nonnegative, supported on two cells, of sum 1 on [0, 1].

    One hidden layer of cells + 3 neurons, shared by the hats.

    Args:
        cells: ≥ 1.

    Raises:
        ValueError: cells < 1. Source: Yarotsky (2017), proof of Theorem 1.

    >>> evaluate(partition_of_unity(2), [[0.25]]).tolist()
    [[0.5, 0.5, 0.0]]
    """
    require(cells >= 1, "cells", cells, "be >= 1", "name the number of intervals")
    nodes = np.arange(-1, cells + 2, dtype=float)
    second = np.diff(np.eye(cells + 3), n=2, axis=0).T
    return network([(np.full((1, cells + 3), float(cells)), -nodes), (second, np.zeros(cells + 1))])
