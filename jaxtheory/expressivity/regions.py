"""Linear regions of a ReLU network: exact counts in one and two dimensions, and the bounds of the theorems.

Cells are split by the zero line of each neuron, layer after layer, in rational arithmetic by default: no grid is laid
and no region is missed, however small. A slice of any network, by `relu_network.restrict`, is a network of one or two
inputs.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxtheory._host import is_masked
from jaxtheory.checks import boundary, require
from jaxtheory.expressivity.relu_network import Network, network


class Regions(NamedTuple):
    """The cells of a domain on which every neuron keeps its sign; `len(regions.cells)` counts them."""

    cells: list[np.ndarray]
    """[vertices, dim] float64: the two ends of an interval, or a convex polygon in order"""
    slopes: np.ndarray
    """[cells, dim, outputs]: the gradient of the network in each cell"""


class _Cell(NamedTuple):
    """Vertices, and the affine map x ↦ x slope + shift that the layers so far are on them."""

    vertices: np.ndarray
    slope: np.ndarray
    shift: np.ndarray


@boundary
def linear_regions(
    net: Network, low: Any, high: Any, *, arithmetic: Literal["exact", "float64"] = "exact"
) -> Regions:  # fmt: skip
    """All activation regions of a network of one or two inputs in the box [low, high].

    Args:
        net: of 1 or 2 inputs; `relu_network.restrict` makes one from any network.
        low, high: the box, one number an input or one for all, finite, low < high.
        arithmetic: "exact" rationals (the weights are dyadic rationals, so nothing is rounded), or "float64", about 30
            times faster, which can misjudge zero lines that meet in a point or a cell below round-off.

    Raises:
        ValueError: more than two inputs, an empty or infinite box, weights that are not finite.

    Cost: regions · layers · width products, of rationals whose length grows with depth: seconds for 1,000 regions.

    >>> from jaxtheory.expressivity.relu_network import sawtooth
    >>> len(linear_regions(sawtooth(4), 0.0, 1.0).cells)
    16
    """
    cells = _propagate(net, low, high, arithmetic)
    slopes = np.array([_floats(cell.slope) for cell in cells])
    return Regions([np.asarray(cell.vertices, float) for cell in cells], slopes)


def _floats(slope: np.ndarray) -> np.ndarray:
    try:
        numbers = np.asarray(slope, float)
    except OverflowError:
        numbers = np.array(np.inf)
    sound = bool(np.isfinite(numbers).all())
    require(sound, "net", "a slope beyond float64", "have slopes that are finite", "scale its weights down")
    return numbers


@boundary(static=("low", "high"))
def breakpoints(net: Network, low: float, high: float) -> list[Fraction]:
    """Where a network of one input bends in (low, high), exactly; its pieces are one more.

    Args:
        net: of 1 input, any number of outputs. low, high: finite, low < high.

    Raises:
        ValueError: more inputs, or an empty interval. Cost: that of `linear_regions`.

    >>> from jaxtheory.expressivity.relu_network import sawtooth
    >>> [str(point) for point in breakpoints(sawtooth(2), 0.0, 1.0)]
    ['1/4', '1/2', '3/4']
    """
    net = network(net)
    require(net[0].weight.shape[0] == 1, "net", net[0].weight.shape, "have one input", "restrict it to a line")
    cells = sorted(_propagate(net, low, high, "exact"), key=lambda cell: cell.vertices.min())
    pairs = itertools.pairwise(cells)
    return [right.vertices.min() for left, right in pairs if (left.slope != right.slope).any()]


def _propagate(net: Network, low: Any, high: Any, arithmetic: str) -> list[_Cell]:
    net = network(net)
    dim = net[0].weight.shape[0]
    require(dim in (1, 2), "net", f"{dim} inputs", "have 1 or 2 inputs", "take a slice by relu_network.restrict")
    number = _rational if arithmetic == "exact" else functools.partial(np.asarray, dtype=float)
    ends = _corner("low", low, dim), _corner("high", high, dim)
    require(bool((ends[0] < ends[1]).all()), "low", low, f"be below high = {high}", "pass a box that is not empty")
    (a, *rest), (b, *more) = ends
    corners = [[a], [b]] if dim == 1 else [[a, *rest], [b, *rest], [b, *more], [a, *more]]
    cells = [_Cell(number(corners), number(np.eye(dim)), number(np.zeros(dim)))]
    for depth, layer in enumerate(net):
        weight, bias = number(layer.weight), number(layer.bias)
        cells = [_Cell(c.vertices, c.slope @ weight, c.shift @ weight + bias) for c in cells]
        if depth < len(net) - 1:
            cells = [part for cell in cells for part in _bend(cell)]
    return cells


def _corner(name: str, numbers: Any, dim: int) -> np.ndarray:
    try:
        corner = np.asarray(np.nan if any(map(is_masked, jax.tree.leaves(numbers))) else numbers, float)
    except (TypeError, ValueError):
        corner = np.array(np.nan)
    fits = corner.shape in ((), (dim,)) and bool(np.isfinite(corner).all())
    require(fits, name, numbers, f"be a finite number, or one for each of {dim} inputs", "pass a corner of the box")
    return np.broadcast_to(corner, dim)


def _bend(cell: _Cell) -> list[_Cell]:
    """The cell cut along the zero line of every neuron, and the ReLU applied in each part."""
    parts = [(cell.vertices, cell.vertices @ cell.slope + cell.shift)]
    for neuron in range(len(cell.shift)):
        parts = [half for part in parts for half in _cut(*part, neuron)]
    bent = []
    for vertices, values in parts:
        alive = values.sum(axis=0) > 0  # a sign is constant on a part, and 0 at some vertices at most
        bent.append(_Cell(vertices, cell.slope * alive, cell.shift * alive))
    return bent


def _cut(vertices: np.ndarray, values: np.ndarray, neuron: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two sides of {value = 0}, or the part itself where the sign does not change; values go along."""
    heights = values[:, neuron]
    if not ((heights > 0).any() and (heights < 0).any()):
        return [(vertices, values)]
    above: list[Any] = []
    below: list[Any] = []
    count = len(heights)
    for i in range(count):
        j = (i + 1) % count
        if heights[i] >= 0:
            above.append((vertices[i], values[i]))
        if heights[i] <= 0:
            below.append((vertices[i], values[i]))
        if (heights[i] < 0 < heights[j] or heights[j] < 0 < heights[i]) and (count > 2 or i == 0):
            share = heights[i] / (heights[i] - heights[j])
            crossing = values[i] + share * (values[j] - values[i])
            crossing[neuron] = 0 * share
            point = (vertices[i] + share * (vertices[j] - vertices[i]), crossing)
            above.append(point)
            below.append(point)
    return [(np.array([p for p, _ in side]), np.array([v for _, v in side])) for side in (above, below)]


def _rational(numbers: Any) -> np.ndarray:
    array = np.asarray(numbers, float)
    return np.array([Fraction(x) for x in array.ravel()] + [None], object)[:-1].reshape(array.shape)


@boundary(static=("neurons", "dim"))
def arrangement(neurons: int, dim: int) -> int:
    """Most regions of one layer: Σ_{j ≤ d} C(n, j), attained in general position.

    Args:
        neurons: n ≥ 0. dim: d ≥ 0.

    Raises:
        ValueError: negative numbers. An exact integer. Source: Zaslavsky (1975).

    >>> arrangement(8, 2)
    37
    """
    require(neurons >= 0, "neurons", neurons, "be >= 0", "pass the number of hidden units")
    require(dim >= 0, "dim", dim, "be >= 0", "pass the number of inputs")
    return sum(math.comb(neurons, j) for j in range(min(dim, neurons) + 1))


@boundary(static=("inputs",))
def montufar_lower(inputs: int, widths: Sequence[int]) -> int:
    r"""Regions that some network of these widths has: (∏_{l<L} ⌊n_l/n_0⌋^{n_0}) Σ_{j ≤ n_0} C(n_L, j).

    Args:
        inputs: n_0 ≥ 1. widths: n_1, …, n_L.

    Raises:
        ValueError: a hidden width below the number of inputs. An exact integer.

    Source: Montúfar et al. (2014), Theorem 4.

    >>> montufar_lower(2, [4, 4])
    44
    """
    sizes = _widths(inputs, widths)
    require(min(sizes) >= inputs, "widths", sizes, f"be >= the {inputs} inputs", "use wider layers")
    return math.prod((n // inputs) ** inputs for n in sizes[:-1]) * arrangement(sizes[-1], inputs)


@boundary(static=("inputs",))
def serra_upper(inputs: int, widths: Sequence[int]) -> int:
    r"""Regions that no network of these widths exceeds: Σ_J ∏_l C(n_l, j_l), j_l ≤ min(n_0, n_1 − j_1, …, n_l).

    Args:
        inputs: n_0 ≥ 1. widths: n_1, …, n_L.

    Raises:
        ValueError: no layer, or a width below 1. An exact integer.

    Source: Serra, Tjandraatmadja, Ramalingam (2018), Theorem 1. Cost: L n_0² binomials.

    >>> serra_upper(2, [4, 4])
    121
    """
    counts = [1] * (inputs + 1)  # by the bound that earlier layers leave, from the last layer backwards
    for n in reversed(_widths(inputs, widths)):
        reach = [min(rank, n) for rank in range(inputs + 1)]
        counts = [
            sum(math.comb(n, j) * counts[min(rank, n - j)] for j in range(reach[rank] + 1))
            for rank in range(inputs + 1)
        ]
    return counts[inputs]


def _widths(inputs: int, widths: Any) -> list[int]:
    """Python integers, which do not overflow."""
    require(inputs >= 1, "inputs", inputs, "be >= 1", "pass n_0")
    try:
        listed = [int(n) for n in widths]
        whole = (
            len(listed) >= 1 and min(listed) >= 1 and all(n == given for n, given in zip(listed, widths, strict=True))
        )
    except (TypeError, ValueError, OverflowError, np.ma.MaskError):  # no sequence, or no numbers
        listed, whole = [], False
    require(whole, "widths", widths, "be >= 1 and whole, one a layer", "pass n_1, …, n_L")
    return listed
