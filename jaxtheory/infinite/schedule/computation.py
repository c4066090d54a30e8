"""What the rules of averages have in common: the computation that they are part of, and how they state a plan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.graph import Graph
from jaxtheory.infinite.graph.arrays import ZERO, Average, Entry, Mask
from jaxtheory.infinite.graph.nodes import Deterministic, Node
from jaxtheory.infinite.graph.views import Moment
from jaxtheory.infinite.schedule.requests import (
    Answer,
    Drawn,
    Item,
    Need,
    Plan,
    Sides,
    array,
    average,
    det_item,
    entry,
    pair_item,
)

Side = int


class Given(NamedTuple):
    """The answers that a plan is made of: pairs, averages and deterministic quantities, each as they were asked for."""

    entries: list[Entry]
    averages: list[Average]
    dets: list[Numbers | Drawn]

    def array(self, place: int) -> Numbers:
        """A deterministic quantity that is no draw."""
        found = self.dets[place]
        assert not isinstance(found, Drawn)
        return found


class Sampling(NamedTuple):
    """How a computation draws: the quantity that is the key of a group, and the number of samples."""

    key: Deterministic
    samples: int


@dataclass
class Computation:
    """Averages between examples `sides`: with ⟨∂a, ∂b'⟩ if `tangent`; precision; scale of activations; draws.

    `visited` are the nodes of all pairs that have been asked for.
    """

    graph: Graph
    sides: Sides
    tangent: bool
    dtype: np.dtype
    scale: float
    sampling: Sampling | None = None
    visited: list[Node] = field(default_factory=list)

    def moving(self, sides: Sides) -> bool:
        """Whether ⟨∂a, ∂b'⟩ is wanted between two examples: where scores are drawn, on either side too."""
        return self.tangent and (sides == self.sides or self.graph.scores > 0)

    def number(self, value: Moment) -> jax.Array:
        """A moment of a prior in the precision of the computation."""
        return jnp.asarray(value, self.dtype)

    def array(self, value: Numbers) -> jax.Array:
        """A deterministic value as a number to compute with."""
        return jnp.asarray(value).astype(self.dtype)

    def zeros(self, mask: Mask) -> jax.Array:
        """Zero over pairs of places."""
        return jnp.zeros((1,) * (len(mask) + sum(mask)), self.dtype)

    @property
    def draws(self) -> Sampling:
        """How draws are made, where they are."""
        assert self.sampling is not None
        return self.sampling

    def ask(self, a: Node, b: Node, sides: Sides, mask: Mask) -> Need | None:
        """A request for a pair, or None where it is zero for want of common parameters."""
        if self.graph.independent(a, b) and (a.centered or b.centered):
            return None
        return pair_item(a, b, sides), mask


def variance(node: Node, side: Side) -> Need:
    """A request for the pair of a node with itself at equal places of one example."""
    return pair_item(node, node, (side, side)), (False,) * len(node.index)


def mean_of(node: Node, side: Side) -> Item:
    """A request for E h of one example."""
    return Item("mean", node, None, (side, side))


def quantity(det: Deterministic, side: Side) -> Item:
    """A request for a deterministic quantity of one example."""
    return det_item(det, side)


def plan_of(
    make: Callable[[Given], Answer],
    *,
    pairs: Sequence[Need | None] = (),
    averages: Sequence[Need | Item] = (),
    dets: Sequence[Item] = (),
) -> Plan:
    """make(answers), where a pair that was not asked for is zero."""
    asked = [pair for pair in pairs if pair is not None]
    others = [(one, None) if isinstance(one, Item) else one for one in averages]
    first, second = len(asked), len(asked) + len(others)

    def assemble(values: list[Answer]) -> Answer:
        found = iter(values[:first])
        entries = [ZERO if pair is None else entry(next(found)) for pair in pairs]
        quantities = [v if isinstance(v, Drawn) else array(v) for v in values[second:]]
        return make(Given(entries, [average(v) for v in values[first:second]], quantities))

    return Plan([*asked, *others, *((item, None) for item in dets)], assemble)
