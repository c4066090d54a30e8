"""The graph of a program: which nodes share parameters, and nodes made of others, simplified where that is possible."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxtheory.infinite.graph.bits import Draw
from jaxtheory.infinite.graph.deterministic import ONE, product
from jaxtheory.infinite.graph.expressions import ADD, IDENTITY, MULTIPLY, Expression, apply, compose, constant, fold
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import (
    AxisMap,
    Concatenate,
    Deterministic,
    Flatten,
    Function,
    LinearMap,
    Node,
    Product,
    Record,
    Shape,
    Split,
    Sum,
    Term,
)
from jaxtheory.infinite.graph.views import Key, overlap
from jaxtheory.programs.sites import Site

FIXED = 1
Form = tuple[Node, Expression]  # a Gaussian node, and a function of it


class Graph:
    """Gives each set of parameter numbers a bit, and remembers which overlap; whether to draw, scores and Gaussians.

    `record` holds sums that average to zero. `constants` are sites where known numbers differ between hidden channels,
    `arguments` deterministic quantities that enter exp, tanh and the like: both may depend on the width. `factors` are
    paths of parameters, vectors or numbers, that multiply random values.
    """

    def __init__(self, draws: bool, record: Record) -> None:
        self.record = record
        self.constants: list[Site] = []
        self.arguments: list[tuple[Site, Deterministic]] = []
        self.factors: set[str] = set()
        self.bits: dict[Key, int] = {}
        self.touched: dict[int, int] = {FIXED: FIXED}
        self.products: dict[tuple[int, ...], Node] = {}
        self.draws = draws
        self.scores = 0
        self.ordinals: dict[int, int] = {}
        self.shared_draws = False  # whether the program draws for all examples at once
        self.draws_by_key: dict[bytes, Draw] = {}

    def fresh(self) -> int:
        """A bit that overlaps with nothing but itself."""
        new = 1 << len(self.touched)
        self.touched[new] = new
        return new

    def bit(self, key: Key) -> int:
        """The bit of a set of parameter numbers."""
        if key not in self.bits:
            new = self.fresh()
            for other, bit in self.bits.items():
                if overlap(key, other):
                    self.touched[new] |= bit
                    self.touched[bit] |= new
            self.bits[key] = new
        return self.bits[key]

    def ordinal(self, node: Node) -> int:
        """The place of a Gaussian node among those that are drawn."""
        return self.ordinals.setdefault(node.number, len(self.ordinals))

    def spread(self, leaves: int) -> int:
        """All bits that share a number with one of `leaves`."""
        total, rest = 0, leaves
        while rest:
            low = rest & -rest
            total, rest = total | self.touched[low], rest ^ low
        return total

    def before(self, leaves: int, loop: int) -> int:
        """Without the bits of parameters of which each turn of a loop has its own."""
        own = sum(bit for key, bit in self.bits.items() if any(number == loop for number, _ in key.loops))
        return leaves & ~own

    def independent(self, a: Node, b: Node) -> bool:
        """Whether two nodes share no parameter."""
        return not self.spread(a.leaves) & b.leaves

    def share_numbers_alone(self, a: Node, b: Node) -> bool:
        """Whether two nodes share no parameter, though perhaps known numbers over their channels."""
        return not self.spread(a.leaves & ~FIXED) & b.leaves & ~FIXED

    def product(self, where: Site, factors: tuple[Node, ...]) -> Node:
        """The channelwise product of nodes."""
        flat = tuple(f for factor in factors for f in (factor.factors if isinstance(factor, Product) else (factor,)))
        zero = any(f.zero for f in flat)
        alone = [all(i == j or self.independent(f, g) for j, g in enumerate(flat)) for i, f in enumerate(flat)]
        centered = zero or any(f.centered and a for f, a in zip(flat, alone, strict=True))
        return Product(where, joint_index(flat), leaves_of(flat), centered, False, zero, factors=flat)

    def multiply(self, where: Site, a: Node, b: Node) -> Node:
        """The product of two nodes, their constants multiplied out."""
        index = tuple(max(n, m) for n, m in zip(a.index, b.index, strict=True))
        (ca, ra), (cb, rb) = _constants(a), _constants(b)
        terms: list[Term] = []
        if ra is not None and rb is not None:
            terms.append((ONE, self.product(where, (ra, rb))))
        terms += [(c, rb) for c in ca if rb is not None] + [(c, ra) for c in cb if ra is not None]
        return combination(where, index, terms, [product(c, d) for c in ca for d in cb])


def _constants(node: Node) -> tuple[list[Deterministic], Node | None]:
    """Terms without randomness, and the rest."""
    if not isinstance(node, Sum) or not node.constants:
        return [], node
    return list(node.constants), combination(node.site, node.index, node.terms) if node.terms else None


def leaves_of(nodes: Iterable[Node]) -> int:
    """The bits of all parameters that some nodes depend on."""
    leaves = 0
    for node in nodes:
        leaves |= node.leaves
    return leaves


def joint_index(nodes: Sequence[Node]) -> Shape:
    """Sizes of the index axes of several nodes together."""
    return tuple(max(sizes) for sizes in zip(*(node.index for node in nodes), strict=True))


def combination(where: Site, index: Shape, terms: Iterable[Term], constants: Iterable[Deterministic] = ()) -> Node:
    """Σ coefficient · node + Σ constants, without what is known to be zero; a lone node is returned as it is.

    Next to numbers or other nodes, Gaussian terms are one term, so that a function of the sum is one of a Gaussian.
    """
    expanded, numbers = _expand(terms, constants)
    if len(expanded) == 1 and not numbers and expanded[0][0] is ONE and expanded[0][1].index == index:
        return expanded[0][1]
    normal = [t for t in expanded if t[1].gaussian or t[1].zero]
    if 1 < len(normal) < len(expanded) + len(numbers):
        rest = [t for t in expanded if all(t is not g for g in normal)]
        expanded = [(ONE, _sum(where, index, normal, [])), *rest]
    return _sum(where, index, expanded, numbers)


def _expand(terms: Iterable[Term], constants: Iterable[Deterministic]) -> tuple[list[Term], list[Deterministic]]:
    """With the terms of sums that hold numbers, and without zeros."""
    out: list[Term] = []
    numbers = list(constants)
    for c, node in terms:
        if isinstance(node, Sum) and node.constants:
            out += [(product(c, d), inner) for d, inner in node.terms]
            numbers += [product(c, d) for d in node.constants]
        else:
            out.append((c, node))
    return [t for t in out if not t[0].zero], [c for c in numbers if not c.zero]


def _sum(where: Site, index: Shape, terms: list[Term], constants: list[Deterministic]) -> Node:
    nodes = [node for _, node in terms]
    centered = not constants and all(node.centered for node in nodes)
    gaussian = centered and all(node.gaussian or node.zero for node in nodes)
    zero = centered and all(node.zero for node in nodes)
    leaves = leaves_of(nodes)
    return Sum(where, index, leaves, centered, gaussian, zero, terms=tuple(terms), constants=tuple(constants))


def scale(where: Site, coefficient: Deterministic, node: Node, index: Shape) -> Node:
    """coefficient · node; the node itself where that is one."""
    one = coefficient.value is not None and bool(np.all(np.asarray(coefficient.value) == 1))
    return node if one and index == node.index else combination(where, index, [(coefficient, node)])


def linear_map(where: Site, node: Node, axis: int, how: AxisMap) -> Node:
    """A linear map along one index axis."""
    index = (*node.index[:axis], how.size, *node.index[axis + 1 :])
    return LinearMap(where, index, node.leaves, node.centered, node.gaussian, node.zero, child=node, axis=axis, map=how)


def split(where: Site, node: Node, axis: int, sizes: Shape) -> Node:
    """One index axis as several."""
    index = (*node.index[:axis], *sizes, *node.index[axis + 1 :])
    return Split(where, index, node.leaves, node.centered, node.gaussian, node.zero, child=node, axis=axis, sizes=sizes)


def flatten(where: Site, node: Node, axis: int, sizes: Shape) -> Node:
    """Several index axes as one."""
    index = (*node.index[:axis], int(np.prod(sizes)), *node.index[axis + len(sizes) :])
    facts = (node.leaves, node.centered, node.gaussian, node.zero)
    return Flatten(where, index, *facts, child=node, axis=axis, sizes=sizes)


def concatenation(where: Site, children: tuple[Node, ...], axis: int) -> Node:
    """Nodes one after another along an index axis."""
    index = list(joint_index(children))
    index[axis] = sum(c.index[axis] for c in children)
    centered, zero = all(c.centered for c in children), all(c.zero for c in children)
    gaussian = centered and all(c.gaussian or c.zero for c in children)
    leaves = leaves_of(children)
    return Concatenate(where, tuple(index), leaves, centered, gaussian, zero, children=children, axis=axis)


def forms(node: Node) -> list[Form]:
    """A node as a function of one Gaussian node: of which ones, the nearest first, and the functions."""
    found: list[Form] = []
    if isinstance(node, Function):
        found = [(node.root, node.expression)]
    elif node.gaussian:
        found = [(node, IDENTITY)]
    if isinstance(node, Product):
        found += _forms_of_product(node)
    if isinstance(node, Sum) and (len(node.terms) + len(node.constants) == 1 or not node.gaussian):
        found += _forms_of_sum(node)
    if isinstance(node, Function):
        found += [(root, compose(node.expression, e)) for root, e in forms(node.root)[1:]]
    return found


def _forms_of_product(node: Product) -> list[Form]:
    if len(node.factors) > 4:
        return []
    return [(root, fold(MULTIPLY, es)) for root, es in _common([forms(f) for f in node.factors])]


def _forms_of_sum(node: Sum) -> list[Form]:
    if len(node.terms) + len(node.constants) > 4 or not has_known_numbers(node):
        return []
    numbers = [constant(np.asarray(c.value)) for c in node.constants]

    def build(es: list[Expression]) -> Expression:
        return fold(ADD, [*(times_number(c, e) for (c, _), e in zip(node.terms, es, strict=True)), *numbers])

    return [(root, build(es)) for root, es in _common([forms(x) for _, x in node.terms])]


def has_known_numbers(node: Sum) -> bool:
    """Whether the coefficients and constants of a sum are single known numbers."""
    numbers = [*(c for c, _ in node.terms), *node.constants]
    return all(c.value is not None and c.scalar for c in numbers)


def times_number(coefficient: Deterministic, expression: Expression) -> Expression:
    """A known number times an expression."""
    if coefficient is ONE:
        return expression
    return apply(MULTIPLY, (constant(np.asarray(coefficient.value)), expression))


def _common(parts: list[list[Form]]) -> list[tuple[Node, list[Expression]]]:
    """The Gaussian nodes of which every part is a function, and the functions."""
    out = []
    for root, _ in parts[0] if parts else []:
        chosen = [e for part in parts for e in [next((e for r, e in part if r is root), None)] if e is not None]
        if len(chosen) == len(parts):
            out.append((root, chosen))
    return out


Build = Callable[[list[Expression]], Expression]


def function(where: Site, arguments: Sequence[Node | Expression], build: Build) -> Node | None:
    """build(expressions of the arguments) as a function of one Gaussian node, or None where there is no such node."""
    nodes = only(Node, arguments)
    found = _common([forms(node) for node in nodes])
    if not found:
        return None
    root, expressions = found[0]
    given = iter(expressions)
    whole = build([next(given) if isinstance(a, Node) else a for a in arguments])
    return Function(where, joint_index(nodes), root.leaves, False, False, expression=whole, root=root)
