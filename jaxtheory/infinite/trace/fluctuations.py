r"""Sums over channels that average to zero: whether they vanish with the width, or keep fluctuating.

The standard deviation of a sum over n channels of a, or of a product a b of independent ones, is

    √(n E a²)   or   √(n E a² E b²),

times the known factors that it is multiplied by before it is used. How that grows from one width to twice the width
decides: a power of −1/2 vanishes (attention scores over d), a power of 0 does not (scores over √d). What a sum is added
to sets the scale: a mean over channels that is subtracted from them need only be small next to them.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.activations.quadrature import evaluate_on_host
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.expressions import as_function
from jaxtheory.infinite.graph.nodes import ChannelSum, Deterministic, Node, Noise, Use
from jaxtheory.infinite.graph.views import Moment

_HALF = 0.25  # between the powers 0 and ±1/2
Size = Callable[[Node], float | jax.Array]  # the root mean square of a node's channels


def deviation(source: ChannelSum, size: Size) -> float | jax.Array:
    """The standard deviation of a sum."""
    squares = [count * size(a) ** 2 * (1.0 if b is None else size(b) ** 2) for count, a, b in source.terms]
    return sum(squares) ** 0.5


def relative_deviation(use: Use, size: Size) -> float | jax.Array:
    """Standard deviation of what is used, next to what it is added to."""
    total = sum(factor * deviation(source, size) for source, factor in use.parts)
    scales = [size(x) for x in use.addends]
    if not scales:
        return total
    scale = sum(s**2 for s in scales) ** 0.5
    return total / jnp.where(scale > 0, scale, 1.0)


def scale_noise(noise: Noise, factor: float) -> Noise:
    """Multiplied by a number."""
    return noise._replace(parts=tuple((source, own * factor) for source, own in noise.parts))


def merge_noise(one: Noise, other: Noise) -> Noise:
    """Both together; of one sum the larger factor, as in scores less their maximum."""
    factors = {id(source): (source, factor) for source, factor in one.parts}
    for source, factor in other.parts:
        factors[id(source)] = (source, max(factor, factors.get(id(source), (source, 0.0))[1]))
    return one._replace(parts=tuple(factors.values()), drawable=one.drawable and other.drawable)


def verdict(noise: Noise, addends: tuple[Node, ...]) -> Literal["vanishes", "fluctuates", "grows"]:
    """What a use of a sum does with the width; the use is entered into the record."""
    use, record = Use(noise.parts, addends), noise.record
    place = len(record.uses)
    record.uses.append(use)
    if record.assumed:
        return "vanishes"
    powers = record.powers or ()
    power = powers[place] if place < len(powers) else estimated_power(use)
    return "vanishes" if power < -_HALF else "grows" if power > _HALF else "fluctuates"


def estimated_power(use: Use) -> float:
    """From one width alone: a size near 1 has power 0, one near channels^(−1/2) the power −1/2.

    Weights whose variance is of the order of 1/fan_in count as 1/fan_in, so that their standard deviations do not
    matter; weights of order one count as they are.
    """
    sizes = nominal_sizes(use.nodes, rounded=True)
    size = float(relative_deviation(use, lambda node: sizes[node.number]))
    if use.channels <= 1 or size <= 0:
        return -0.5
    return -0.5 if math.log(size) < -_HALF * math.log(use.channels) else 0.0


def nominal_sizes(nodes: list[Node], rounded: bool = False) -> dict[int, float]:
    """Typical sizes of channels by node number, from counts and variances, as if inputs were of order one."""
    sizes: dict[int, float] = {}
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
    return [x for x, _ in node.pieces] if isinstance(node, n.LinearLayer) else list(node.parts)


def _nominal(node: Node, inside: list[float], rounded: bool) -> float:
    if isinstance(node, n.LinearLayer):
        return _layer(node, inside, rounded)
    rule = next((_SIZES[kind] for kind in type(node).__mro__ if kind in _SIZES), None)
    if rule is not None:
        return rule(node, inside)
    return inside[0] if len(inside) == 1 else max(inside, default=1.0)


def _sum(node: n.Sum, inside: list[float]) -> float:
    terms = [_term(c, size) for (c, _), size in zip(node.terms, inside, strict=True)]
    return math.sqrt(sum(t * t for t in (*terms, *map(_smallest, node.constants))))


def _smallest(constant: Deterministic) -> float:
    """A constant where it is smallest: what is added to a mask of large negative numbers counts where these are not."""
    return 1.0 if constant.value is None else float(np.abs(np.asarray(constant.value, np.float64)).min())


def _function(node: n.Function, inside: list[float]) -> float:
    values = evaluate_on_host(as_function(node.expression), inside[0] * np.array([1.0, -1.0]))
    size = float(np.sqrt((values**2).mean()))
    return size if math.isfinite(size) else 1.0


_SIZES: dict[type, Callable[..., float]] = {
    n.Random: lambda node, _: _number(node.variance, 1.0) ** 0.5,
    n.Sum: _sum,
    n.Product: lambda _, inside: math.prod(inside),
    n.Function: _function,
}


def _layer(node: n.LinearLayer, inside: list[float], rounded: bool) -> float:
    total = 0.0
    for (_, count), size in zip(node.pieces, inside, strict=True):
        share = count * _number(node.variance, 1 / count)
        total += size**2 * (1.0 if rounded and count**-0.5 < share < count**0.5 else share)
    return math.sqrt(total)


def _number(value: Moment, otherwise: float) -> float:
    """A known number; what stands for one that is traced."""
    return otherwise if isinstance(value, jax.core.Tracer) else float(value)


def _term(coefficient: Deterministic, size: float) -> float:
    """A coefficient times a node; what is divided by an average over channels is taken to be normalized by it."""
    if coefficient.value is not None:
        return size * float(np.sqrt(np.mean(np.square(np.asarray(coefficient.value, np.float64)))))
    return 1.0 if _of_averages(coefficient) else size


def _of_averages(det: Deterministic) -> bool:
    """Whether a quantity is made of averages over channels."""
    stack: list[n.Need] = [det]
    seen: set[int] = set()
    while stack:
        need = stack.pop()
        if not isinstance(need, Deterministic):
            return True
        if need.number not in seen:
            seen.add(need.number)
            stack += need.needs
    return False
