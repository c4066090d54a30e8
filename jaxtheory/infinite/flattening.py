"""Several index axes as one, so that an operation along a merged axis of the program finds one axis of positions."""

import math

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.layout import Factor, Rand
from jaxtheory.infinite.nodes import Flattened, Node


def flattened(where: Site, rand: Rand, axis: int) -> Rand:
    """The array with one index axis where `axis` is made of several, as an image's rows and columns are as tokens."""
    factors = rand.axes[axis]
    if len(factors) < 2 or any(f.kind != "i" for f in factors):
        return rand
    first, count = factors[0].place, len(factors)
    if [f.place for f in factors] != list(range(first, first + count)):
        refuse(where, "it works along a merged axis whose parts were transposed", "transpose after it")
    sizes = tuple(f.size for f in factors)
    pieces = tuple((_flat(where, node, first, sizes), channels) for node, channels in rand.pieces)
    down = lambda f: f._replace(place=f.place - count + 1) if f.kind == "i" and f.place > first else f  # noqa: E731
    axes = [tuple(down(f) for f in fs) for fs in rand.axes]
    axes[axis] = (Factor("i", first, math.prod(sizes)),)
    return Rand(pieces, tuple(axes), rand.channels)


def _flat(where: Site, node: Node, axis: int, sizes: tuple[int, ...]) -> Node:
    index = (*node.index[:axis], math.prod(sizes), *node.index[axis + len(sizes) :])
    return Flattened(
        where, index, node.leaves, node.centred, node.gaussian, node.zero, child=node, axis=axis, sizes=sizes
    )
