r"""Sums over channels that average to zero: whether they vanish with the width, or keep fluctuating.

The standard deviation of a sum over n channels of a, or of a product a b of independent ones, is

    √(n E a²)   or   √(n E a² E b²),

times the known factors that it is multiplied by before it is used. How that grows from one width to twice the width
decides: a power of −1/2 vanishes (attention scores over d), a power of 0 does not (scores over √d). What a sum is added
to sets the scale: a mean over channels that is subtracted from them need only be small next to them.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxtheory.activations.quadrature import evaluate_on_host
from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.expressions import as_function
from jaxtheory.infinite.nodes import Node

_HALF = 0.25  # between the powers 0 and ±1/2


class Source(NamedTuple):
    """A sum over channels: Σ count · a over `terms` (count, a, None), or of one product a b."""

    terms: tuple[tuple[float, Node, Node | None], ...]

    @property
    def channels(self) -> float:
        """How many channels are summed."""
        return sum(count for count, _, _ in self.terms)

    def deviation(self, size: Any) -> Any:
        """The standard deviation, from `size(node)`, the root mean square of a channel."""
        squares = [count * size(a) ** 2 * (1.0 if b is None else size(b) ** 2) for count, a, b in self.terms]
        return sum(squares) ** 0.5


class Noise(NamedTuple):
    """What an average that is zero leaves out: sources and their factors; whether it can be drawn; the record."""

    parts: tuple[tuple[Source, float], ...]
    drawable: bool
    record: "Record"

    def scaled(self, factor: float) -> "Noise":
        """Multiplied by a number."""
        return self._replace(parts=tuple((source, own * factor) for source, own in self.parts))

    def joined(self, other: "Noise") -> "Noise":
        """Together with another; of one source the larger factor, as in scores less their maximum."""
        factors = {id(source): (source, factor) for source, factor in self.parts}
        for source, factor in other.parts:
            factors[id(source)] = (source, max(factor, factors.get(id(source), (source, 0.0))[1]))
        return self._replace(parts=tuple(factors.values()), drawable=self.drawable and other.drawable)


class Use(NamedTuple):
    """One place where such a sum is used: its sources and factors, and what it is added to."""

    parts: tuple[tuple[Source, float], ...]
    beside: tuple[Node, ...]

    @property
    def nodes(self) -> list[Node]:
        """Those whose variance decides."""
        ends = [x for source, _ in self.parts for _, a, b in source.terms for x in (a, b) if x is not None]
        return [*ends, *self.beside]

    def size(self, size: Any) -> Any:
        """Standard deviation next to what it is added to, from `size(node)`."""
        total = sum(factor * source.deviation(size) for source, factor in self.parts)
        scales = [size(x) for x in self.beside]
        if not scales:
            return total
        scale = sum(s**2 for s in scales) ** 0.5
        return total / jnp.where(scale > 0, scale, 1.0)

    @property
    def channels(self) -> float:
        """The fewest that are summed."""
        return min(source.channels for source, _ in self.parts)


class Record:
    """Every use of a sum that averages to zero, in the order of the program, and what is known of its power.

    `powers` are of the width, one for each use; without them a use is judged by its size at the width of the program.
    With `assumed` all are taken to vanish, to find the uses first.
    """

    def __init__(self, powers: tuple[float, ...] | None = None, assumed: bool = False) -> None:
        self.powers, self.assumed = powers, assumed
        self.uses: list[Use] = []

    def verdict(self, noise: Noise, beside: tuple[Node, ...]) -> str:
        """Whether a use of a sum "vanishes", "fluctuates" or "grows" with the width; the use is entered."""
        use = Use(noise.parts, beside)
        place = len(self.uses)
        self.uses.append(use)
        if self.assumed:
            return "vanishes"
        measured = self.powers is not None and place < len(self.powers)
        power = self.powers[place] if self.powers is not None and measured else estimated_power(use)
        return "vanishes" if power < -_HALF else "grows" if power > _HALF else "fluctuates"


def estimated_power(use: Use) -> float:
    """From one width alone: a size near 1 has power 0, one near channels^(−1/2) the power −1/2.

    Weights whose variance is of the order of 1/fan_in count as 1/fan_in, so that their standard deviations do not
    matter; weights of order one count as they are.
    """
    sizes = nominal_sizes(use.nodes, rounded=True)
    size = float(use.size(lambda node: sizes[node.number]))
    if use.channels <= 1 or size <= 0:
        return -0.5
    return -0.5 if math.log(size) < -_HALF * math.log(use.channels) else 0.0


def nominal_sizes(nodes: list[Node], rounded: bool = False) -> dict[int | float, float]:
    """Typical sizes of channels by node number, from counts and variances, as if inputs were of order one."""
    sizes: dict[int | float, float] = {}
    stack = list(nodes)
    while stack:  # no recursion, so that depth is no limit
        node = stack[-1]
        children = _children(node)
        missing = [c for c in children if c.number not in sizes]
        stack += missing
        if not missing:
            sizes[node.number] = _nominal(node, [sizes[c.number] for c in children], rounded)
            stack.pop()
    return sizes


def _children(node: Node) -> list[Node]:
    return [x for x, _ in node.pieces] if isinstance(node, n.Use) else list(node.parts)


def _nominal(node: Node, inside: list[float], rounded: bool) -> float:
    if isinstance(node, n.Use):
        return _layer(node, inside, rounded)
    if isinstance(node, n.Vector | n.Lookup):
        return _number(node.variance, 1.0) ** 0.5
    if isinstance(node, n.Sum):
        given = iter(inside)
        terms = [_term(c, 1.0 if x is None else next(given)) for c, x in node.terms]
        return math.sqrt(sum(t * t for t in terms))
    if isinstance(node, n.Product):
        return math.prod(inside)
    if isinstance(node, n.Function):
        values = evaluate_on_host(as_function(node.expression), inside[0] * np.array([1.0, -1.0]))
        size = float(np.sqrt((values**2).mean()))
        return size if math.isfinite(size) else 1.0
    return inside[0] if len(inside) == 1 else max(inside, default=1.0)


def _layer(node: n.Use, inside: list[float], rounded: bool) -> float:
    total = 0.0
    for (_, count), size in zip(node.pieces, inside, strict=True):
        share = count * _number(node.variance, 1 / count)
        total += size**2 * (1.0 if rounded and count**-0.5 < share < count**0.5 else share)
    return math.sqrt(total)


def _number(value: Any, otherwise: float) -> float:
    """A known number; what stands for one that is traced."""
    try:
        return float(value)
    except TypeError:
        return otherwise


def _term(coefficient: Any, size: float) -> float:
    """A coefficient times a node; what is divided by an average over channels is taken to be normalized by it."""
    if coefficient is None:
        return size
    if coefficient.value is not None:
        return size * float(np.sqrt(np.mean(np.square(np.asarray(coefficient.value, np.float64)))))
    return 1.0 if _of_averages(coefficient) else size


def _of_averages(det: Det) -> bool:
    """Whether a quantity is made of averages over channels."""
    stack: list[Any] = [det]
    seen: set[int] = set()
    while stack:
        need = stack.pop()
        if not isinstance(need, Det):
            return True
        if need.number not in seen:
            seen.add(need.number)
            stack += need.needs
    return False
