"""The calculus: how each average over channels follows from others.

For nodes a and b on two examples, with φ elementwise, W a weight of variance σ² and learning-rate weight w,

    E[φ(g) ψ(g')] and E[φ'(g) ψ'(g')] ⟨∂g, ∂g'⟩   from the covariance of the Gaussians g and g',
    E[(Wa)(Wb)'] = σ² Σ E[a b'],   ⟨∂Wa, ∂Wb'⟩ = w Σ E[a b'] + σ² Σ ⟨∂a, ∂b'⟩,

sums and linear maps go through, and a product of independent factors is the product of their averages.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxtheory.activations.duals import unchecked_dual, unchecked_pair
from jaxtheory.infinite import coordinates, fields, scores
from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import as_left, as_right, left, product, right, total
from jaxtheory.infinite.atoms import ATOMS
from jaxtheory.infinite.demand import Item, Mean, Pair, Plan, det_item
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.expressions import IDENTITY, as_function
from jaxtheory.infinite.linear import LINEAR
from jaxtheory.infinite.means import MEANS
from jaxtheory.infinite.nodes import Graph, Node
from jaxtheory.infinite.products import factored

Entry = tuple[Any, Any]
ZERO: Entry = (None, None)


class Calculus:
    """Plans for requests between examples `sides`: with ⟨∂a, ∂b'⟩ if `tangent`; precision; scale; draws of scores."""

    def __init__(
        self, graph: Graph, sides: tuple[int, int], tangent: bool, dtype: Any, scale: float, sampling: Any = None
    ) -> None:
        self.graph, self.sides, self.tangent, self.dtype, self.scale = graph, sides, tangent, dtype, scale
        self.sampling = sampling
        self.visited: list[Node] = []

    def moving(self, sides: tuple[int, int]) -> bool:
        """Whether ⟨∂a, ∂b'⟩ is wanted between two examples: where scores are drawn, on either side too."""
        return self.tangent and (sides == self.sides or self.graph.scores > 0)

    def plan(self, item: Item, mask: Any) -> Plan:
        """What a request needs, and how it is computed."""
        if item.kind == "det":
            return self._det(item.a, item.sides[0])
        if item.kind == "mean":
            return self._mean(item.a, item.sides[0])
        if item.kind == "scores":
            return scores.plan(self, item)
        if item.kind == "loop":
            return item.a.plan(self, mask)
        if item.kind == "kernel":
            asked = self.ask(item.a, item.b, item.sides, mask)
            return Plan([asked], lambda values: values[0][0]) if asked else Plan([], lambda _: None)
        self.visited += [item.a, item.b]
        return self._pair(item.a, item.b, item.sides, mask)

    def number(self, value: Any) -> Any:
        """A moment of a prior in the precision of the computation."""
        return jnp.asarray(value, self.dtype)

    def array(self, value: Any) -> Any:
        """A deterministic value as a number to compute with."""
        return jnp.asarray(value).astype(self.dtype)

    # deterministic quantities and means

    def _det(self, det: Det, side: int) -> Plan:
        if det.value is not None:
            return Plan([], lambda _: det.value)
        if det.make is None:
            return det.needs[0].outcome(det_item(det, side), None)
        make = scores.derivative(det.make) if any(det.copies) else det.make
        if det.needs and isinstance(det.needs[0], scores.Scores):
            return Plan([(Item("scores", det, None, self.sides), None)], lambda values: make([values[0][side]]))
        return Plan([self._need(need, side) for need in det.needs], make)

    def _need(self, need: Any, side: int) -> tuple[Item, Any]:
        if isinstance(need, Det):
            return det_item(need, side), None
        if isinstance(need, Mean):
            return self.mean_item(need.node, side), None
        assert isinstance(need, Pair)
        return Item("kernel", need.a, need.b, (side, side)), need.mask

    def mean_item(self, node: Node, side: int) -> Item:
        return Item("mean", node, None, (side, side))

    def _mean(self, node: Node, side: int) -> Plan:
        if node.centred:
            return Plan([], lambda _: None)
        if isinstance(node, n.Carried):
            return node.loop.outcome(Item("mean", node, None, (side, side)), None)
        rule = MEANS.get(type(node))
        if rule is None:
            refuse(node.site, "its average over channels is not known", "keep loops free of it")
        return rule(self, node, side)

    # pairs

    def ask(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> tuple[Item, Any] | None:
        """A request for a pair, or None where it is zero for want of common parameters."""
        if self.graph.independent(a, b) and (a.centred or b.centred):
            return None
        return Item("pair", a, b, sides), mask

    def linear(
        self, asked: list[tuple[Item, Any] | None], extra: list[tuple[Item, Any]], make: Callable[..., Entry]
    ) -> Plan:
        """make(entries with (None, None) for zeros, values of extra needs)."""
        needs = [a for a in asked if a is not None]

        def assemble(values: list[Any]) -> Entry:
            given = iter(values)
            entries = [ZERO if a is None else next(given) for a in asked]
            return make(entries, list(given))

        return Plan([*needs, *extra], assemble)

    def _pair(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        if self.graph.independent(a, b):
            return self._apart(a, b, sides, mask)
        if isinstance(a, n.Function | n.Product) or isinstance(b, n.Function | n.Product):
            for x in (a, b):
                if x.drawn and isinstance(x, n.Function | n.Product):
                    refuse(
                        x.site, "it is between values that drawn scores mix and their weights", "apply it after them"
                    )
            simple = all(isinstance(x, n.Function) or (x.gaussian and not x.zero) for x in (a, b))
            if simple:
                return self._dual(a, b, sides, mask)
        functions = coordinates.joined(self.graph, a, b)
        if functions is not None and not coordinates.separate(self.graph, *functions):
            return fields.pair(self, *functions, sides, mask)
        if functions is not None:
            return coordinates.pair(self, *functions, sides, mask)
        for kind in (n.Sum, n.Moved, n.Joined, n.Split, n.Flattened, n.Stopped, n.Lifted):
            if isinstance(a, kind) and not (isinstance(b, kind) and b.number > a.number):
                return LINEAR[kind](self, a, b, sides, mask, True)
            if isinstance(b, kind):
                return LINEAR[kind](self, b, a, sides, mask, False)
        if isinstance(a, n.Product) or isinstance(b, n.Product):
            return self._products(a, b, sides, mask)
        if isinstance(a, fields.Field) or isinstance(b, fields.Field):
            return fields.pair(self, a, b, sides, mask)
        for x, y in ((a, b), (b, a)):
            if (
                isinstance(x, n.Carried)
                and x.out
                and (y.number < x.loop.number or (isinstance(y, n.Carried) and y.loop is x.loop))
            ):
                return x.loop.outcome(Item("pair", a, b, sides), mask)
        rule = ATOMS.get(type(a)) if type(a) is type(b) else None
        if rule is None and self.graph.draws and any(isinstance(x, n.Function | n.Joint) for x in (a, b)):
            return fields.pair(self, a, b, sides, mask)
        if rule is None:
            refuse(a.site, f"what it shares with {b.site.operation} at {b.site.place} is not known", "untie them")
        return rule(self, a, b, sides, mask)

    def _apart(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        if a.centred or b.centred:
            return Plan([], lambda _: ZERO)
        needs = [(self.mean_item(a, sides[0]), None), (self.mean_item(b, sides[1]), None)]
        return Plan(needs, lambda v: (product([left(v[0], mask), right(v[1], mask)]), None))

    def _dual(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        """Elementwise functions of Gaussians; a Gaussian is the identity of itself."""
        (phi, g), (psi, h) = ((x.expression, x.root) if isinstance(x, n.Function) else (IDENTITY, x) for x in (a, b))
        diagonal = (False,) * len(mask)
        own = [(Item("pair", g, g, (sides[0],) * 2), diagonal), (Item("pair", h, h, (sides[1],) * 2), diagonal)]
        wanted = self.moving(sides)
        functions = as_function(phi), as_function(psi)
        try:
            both_duals, value = (make(*functions, self.scale) for make in (unchecked_pair, unchecked_dual))
        except ValueError as error:
            at = a.site if isinstance(a, n.Function) else b.site
            refuse(at, f"the averages of its function are not known ({error})", "use a smoother activation")

        def make(entries: list[Entry], rest: list[Entry]) -> Entry:
            (q12, slope), ((q11, _), (q22, _)) = entries[0], rest
            zero = jnp.zeros((1,) * (len(mask) + sum(mask)), self.dtype)
            first = zero if q11 is None else as_left(q11, mask)
            second = zero if q22 is None else as_right(q22, mask)
            q12 = zero if q12 is None else q12
            if not wanted or slope is None:
                return value(first, q12, second), None
            kernel, derivative = both_duals(first, q12, second)
            return kernel, derivative * slope

        return self.linear([self.ask(g, h, sides, mask)], own, make)

    def _products(self, a: Node, b: Node, sides: tuple[int, int], mask: Any) -> Plan:
        groups = factored(self.graph, a, b)
        asked = [self.ask(x[0], y[0], sides, mask) for x, y in groups if x and y]
        means = [(self.mean_item((x or y)[0], sides[0] if x else sides[1]), None) for x, y in groups if not (x and y)]
        lefts = [bool(x) for x, y in groups if not (x and y)]

        def make(entries: list[Entry], values: list[Any]) -> Entry:
            outer = [left(v, mask) if is_left else right(v, mask) for v, is_left in zip(values, lefts, strict=True)]
            kernels = [k for k, _ in entries] + outer
            tangents = [product([t, *(k for j, k in enumerate(kernels) if j != i)]) for i, (_, t) in enumerate(entries)]
            return product(kernels), total(tangents)

        return self.linear(asked, means, make)
