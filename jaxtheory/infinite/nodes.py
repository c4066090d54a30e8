"""Random channel vectors: what a layer's values are, as a graph of Gaussian vectors, functions, sums and products.

A node stands for a vector over channels at every place of its index axes (pixels, tokens). In the limit its channels
are independent copies, so that it is known by averages over channels: E[h], E[h h'] and ⟨∂h, ∂h'⟩. The number of index
axes never changes: what is summed over keeps size one. Two nodes of one pair have the same index axes, in the same
order.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite.determined import COUNTER, Det, derived
from jaxtheory.infinite.errors import Site
from jaxtheory.infinite.expressions import ADD, IDENTITY, MULTIPLY, Expression, bound, composed, constant
from jaxtheory.infinite.views import Key, overlap


@dataclass(frozen=True, eq=False)
class Node:
    """Sizes of index axes; bits of the parameters it depends on; whether E h = 0, h is Gaussian, h = 0 (but not ∂h).

    A node is `drawn` where its channels are independent copies only given the scores of their head, which are drawn.
    """

    site: Site
    index: tuple[int, ...]
    leaves: int
    centred: bool
    gaussian: bool
    zero: bool = False
    number: int | float = field(default_factory=COUNTER.__next__)
    drawn: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        matrix = self.map.det if isinstance(self, Moved) else None
        drawn = any(x.drawn for x in self.parts) or (matrix is not None and any(matrix.copies))
        object.__setattr__(self, "drawn", drawn)

    @property
    def parts(self) -> tuple["Node", ...]:
        """The nodes that it is made of channel by channel, none where weights mix channels."""
        several = [*getattr(self, "factors", ()), *getattr(self, "children", ())]
        several += [x for _, x in (*getattr(self, "terms", ()), *getattr(self, "roots", ()))]
        return tuple(x for x in (*several, getattr(self, "child", None), getattr(self, "root", None)) if x is not None)


@dataclass(frozen=True, eq=False)
class Fixed(Node):
    """A deterministic vector: values of shape index + (channels,)."""

    det: Any = None


@dataclass(frozen=True, eq=False)
class Vector(Node):
    """A parameter with one number a channel, at each place of the index axes marked `own`."""

    key: Any = None
    variance: Any = 0.0
    weight: Any = 0.0
    own: tuple[bool, ...] = ()


class Window(NamedTuple):
    """How a convolution or pooling moves along an axis."""

    size: int
    stride: int
    low: int
    high: int
    base: int
    dilation: int
    out: int


@dataclass(frozen=True, eq=False)
class Use(Node):
    """A weight contracted with channels (and the index axes of role `sum`): pieces are (node, channels).

    Roles of index axes: keep, sum, own (each place has its own weights), or a `Window`.
    """

    key: Any = None
    variance: Any = 0.0
    weight: Any = 0.0
    pieces: tuple[tuple[Node, int], ...] = ()
    roles: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Lookup(Node):
    """Rows of an embedding: `tokens` are integers over the index axes."""

    key: Any = None
    variance: Any = 0.0
    weight: Any = 0.0
    tokens: Any = None


@dataclass(frozen=True, eq=False)
class Sum(Node):
    """Σ coefficient · node; either may be None (1, or a plain number)."""

    terms: tuple[tuple[Det | None, Node | None], ...] = ()


@dataclass(frozen=True, eq=False)
class Product(Node):
    """The channelwise product of its factors."""

    factors: tuple[Node, ...] = ()


@dataclass(frozen=True, eq=False)
class Function(Node):
    """An elementwise function of a Gaussian node."""

    expression: Any = None
    root: Any = None


@dataclass(frozen=True, eq=False)
class Joint(Node):
    """An elementwise function of several independent Gaussian nodes, the named `roots`; its averages are drawn."""

    expression: Any = None
    roots: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True, eq=False)
class Moved(Node):
    """A linear map along one index axis."""

    child: Any = None
    axis: int = 0
    map: Any = None


@dataclass(frozen=True, eq=False)
class Joined(Node):
    """Nodes one after another along an index axis."""

    children: tuple[Node, ...] = ()
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Split(Node):
    """One index axis as several."""

    child: Any = None
    axis: int = 0
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Flattened(Node):
    """Several index axes as one, the inverse of `Split`."""

    child: Any = None
    axis: int = 0
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Lifted(Node):
    """A node without index axes where others have them: axes of size one."""

    child: Any = None


@dataclass(frozen=True, eq=False)
class Stopped(Node):
    """A node whose derivative is taken to be zero."""

    child: Any = None


@dataclass(frozen=True, eq=False)
class Carried(Node):
    """What a loop carries: in its body (`out` False) and after it (True)."""

    loop: Any = None
    place: int = 0
    out: bool = False


class AxisMap(NamedTuple):
    """apply(array, axis, value of `det` or None) is linear; `selects`: each output place holds one input or zero."""

    key: Any
    apply: Any
    size: int
    selects: bool
    det: Det | None = None


FIXED = 1


class Graph:
    """Gives each set of parameter numbers a bit, and remembers which overlap; whether to draw, scores and Gaussians.

    `record` judges sums that average to zero. `constants` are sites where known numbers differ between hidden channels,
    `bent` deterministic quantities that enter exp, tanh and the like: both may depend on the width.
    """

    def __init__(self, draws: bool = False, record: Any = None) -> None:
        self.record = record
        self.constants: list[Site] = []
        self.bent: list[tuple[Site, Det]] = []
        self.bits: dict[Key, int] = {}
        self.touched: dict[int, int] = {FIXED: FIXED}
        self.merged: dict[tuple[float, ...], Node] = {}
        self.draws = draws
        self.scores = 0
        self.variables: dict[int | float, int] = {}
        self.shared_draws = False  # whether the program draws for all examples at once
        self.draws_by_key: dict[bytes, Any] = {}

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

    def product(self, where: Site, factors: tuple[Node, ...]) -> Node:
        """The channelwise product of nodes."""
        flat = tuple(f for factor in factors for f in (factor.factors if isinstance(factor, Product) else (factor,)))
        zero = any(f.zero for f in flat)
        alone = [all(i == j or self.independent(f, g) for j, g in enumerate(flat)) for i, f in enumerate(flat)]
        centred = zero or any(f.centred and a for f, a in zip(flat, alone, strict=True))
        leaves = _union(flat)
        return Product(where, joint_index(flat), leaves, centred, False, zero, factors=flat)


def _union(nodes: tuple[Node, ...]) -> int:
    leaves = 0
    for node in nodes:
        leaves |= node.leaves
    return leaves


def joint_index(nodes: tuple[Node, ...]) -> tuple[int, ...]:
    """Sizes of the index axes of several nodes together."""
    return tuple(max(sizes) for sizes in zip(*(node.index for node in nodes), strict=True))


Term = tuple[Det | None, Node | None]


def combination(where: Site, index: tuple[int, ...], terms: list[Term]) -> Node:
    """Σ coefficient · node, without what is known to be zero; a lone node is returned as it is.

    Next to numbers or other nodes, Gaussian terms are one term, so that a function of the sum is one of a Gaussian.
    """
    kept = [t for t in _flattened(terms) if t[0] is None or t[0].value is None or np.any(np.asarray(t[0].value))]
    if len(kept) == 1 and kept[0][0] is None and kept[0][1] is not None and kept[0][1].index == index:
        return kept[0][1]
    normal = [t for t in kept if t[1] is not None and (t[1].gaussian or t[1].zero)]
    if 1 < len(normal) < len(kept):
        kept = [(None, _summed(where, index, normal)), *(t for t in kept if all(t is not g for g in normal))]
    return _summed(where, index, kept)


def _flattened(terms: list[Term]) -> list[Term]:
    """With the numbers in sums that are summed up."""
    out: list[Term] = []
    for c, node in terms:
        if isinstance(node, Sum) and any(inner is None for _, inner in node.terms):
            out += [(d if c is None else c if d is None else _multiplied(c, d), inner) for d, inner in node.terms]
        else:
            out.append((c, node))
    return out


def _multiplied(a: Det, b: Det) -> Det:
    shape = tuple(max(sizes) for sizes in zip(a.shape, b.shape, strict=True))
    uniform = tuple(m == 1 for m in shape)
    return derived((a, b), shape, uniform, lambda v: jnp.asarray(v[0]) * jnp.asarray(v[1]))


def _summed(where: Site, index: tuple[int, ...], terms: list[Term]) -> Node:
    nodes = tuple(n for _, n in terms if n is not None)
    centred = all(n is not None and n.centred for _, n in terms)
    gaussian = centred and all(n.gaussian or n.zero for n in nodes)
    zero = centred and all(n.zero for n in nodes)
    return Sum(where, index, _union(nodes), centred, gaussian, zero, terms=tuple(terms))


def scaled(where: Site, coefficient: Det, node: Node, index: tuple[int, ...]) -> Node:
    """coefficient · node; a number that is known is multiplied into a node that is already a multiple."""
    one = coefficient.value is not None and np.all(np.asarray(coefficient.value) == 1)
    return node if one and index == node.index else combination(where, index, [(coefficient, node)])


def variants(node: Node) -> list[tuple[Node, Expression]]:
    """A node as a function of one Gaussian node: of which ones, the nearest first, and the functions."""
    found: list[tuple[Node, Expression]] = []
    if isinstance(node, Function):
        found = [(node.root, node.expression)]
    elif node.gaussian:
        found = [(node, IDENTITY)]
    if isinstance(node, Product) or (isinstance(node, Sum) and (len(node.terms) == 1 or not node.gaussian)):
        found = found + _through(node)
    if isinstance(node, Function):
        found += [(root, composed(node.expression, e)) for root, e in variants(node.root)[1:]]
    return found


def _through(node: Sum | Product) -> list[tuple[Node, Expression]]:
    if isinstance(node, Product):
        parts = [variants(f) for f in node.factors]
        return _common(parts, lambda es: _fold(MULTIPLY, es)) if len(node.factors) <= 4 else []
    if len(node.terms) > 4 or any(c is not None and (c.value is None or not c.scalar) for c, _ in node.terms):
        return []
    parts = [variants(n) for _, n in node.terms if n is not None]

    def build(es: list[Expression]) -> Expression:
        given, out = iter(es), []
        for c, n in node.terms:
            number = None if c is None else constant(np.asarray(c.value).reshape(()))
            inner = None if n is None else next(given)
            both = [e for e in (number, inner) if e is not None]
            out.append(both[0] if len(both) == 1 else bound(*MULTIPLY, tuple(both)))
        return _fold(ADD, out)

    return _common(parts, build)


def _fold(operation: tuple[Any, dict[str, Any]], expressions: list[Expression]) -> Expression:
    total = expressions[0]
    for e in expressions[1:]:
        total = bound(*operation, (total, e))
    return total


def _common(parts: list[list[tuple[Node, Expression]]], build: Any) -> list[tuple[Node, Any]]:
    """The Gaussian nodes of which every part is a function."""
    if not parts:
        return []
    out = []
    for root, _ in parts[0]:
        chosen = [next((e for r, e in part if r is root), None) for part in parts]
        if all(e is not None for e in chosen):
            out.append((root, build(chosen)))
    return out


def function(where: Site, arguments: list[Node | Expression], build: Any) -> Node | None:
    """build(expressions of the arguments) as a function of one Gaussian node, or None where there is no such node."""
    nodes = [a for a in arguments if isinstance(a, Node)]
    found = _common([variants(n) for n in nodes], lambda es: es)
    if not found:
        return None
    root, expressions = found[0]
    given = iter(expressions)
    whole = build([next(given) if isinstance(a, Node) else a for a in arguments])
    return Function(where, joint_index(tuple(nodes)), root.leaves, False, False, expression=whole, root=root)
