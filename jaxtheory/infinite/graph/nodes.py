"""The vocabulary of the calculus: deterministic quantities, random channel vectors, and sums that average to zero.

A node stands for a vector over channels at every place of its index axes (pixels, tokens), known by averages over them:
E[h], E[h h'] and ⟨∂h, ∂h'⟩. What is summed over keeps size one; nodes of a pair have the same index axes in one order.
"""

import itertools
from collections.abc import Callable, Hashable
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, NamedTuple, Protocol, Union, runtime_checkable

import jax
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.graph.bits import Source
from jaxtheory.infinite.graph.expressions import Expression
from jaxtheory.infinite.graph.views import Channels, Key, Moment
from jaxtheory.infinite.graph.windows import Window
from jaxtheory.programs.sites import Site

COUNTER = itertools.count()
Shape = tuple[int, ...]
Flags = tuple[bool, ...]


class Bundle(NamedTuple):
    """Several arrays that one operation gives."""

    arrays: list[jax.Array]


Made = Numbers | Bundle


class Mean(NamedTuple):
    """E h over the index axes."""

    node: "Node"


class Pair(NamedTuple):
    """E[a b'] on the places of the index axes: all pairs where `mask` says so, equal places elsewhere."""

    a: "Node"
    b: "Node"
    mask: Flags


class Scores(NamedTuple):
    """Drawn sums over channels, and the index axes marked `places`, of a b; `number` tells layers apart."""

    a: "Node"
    b: "Node"
    channels: float
    number: int
    places: Flags
    axes: tuple[Channels, Channels]


class HeadValues(NamedTuple):
    """Drawn channels of a node of which every head has its own, as a position bias; `number` tells draws apart."""

    node: "Node"
    number: int


class HeadNumbers(NamedTuple):
    """Numbers that differ along `axes` of heads, each draw with those of one head."""

    det: "Deterministic"
    axes: tuple[int, ...]


@runtime_checkable
class Loop(Protocol):
    """A scan that stays a scan; `number` orders it among the nodes."""

    number: int


Need = Union["Deterministic", Mean, Pair, Scores, HeadValues, HeadNumbers, Loop]


@dataclass(frozen=True, eq=False)
class Deterministic:
    """A deterministic array of `shape`; `make(values of needs)` gives it, of size one on uniform axes.

    `value` is the array where it is known beforehand; `noise` tells of zeros that are averages, and `drawn` is the same
    quantity with draws in their place, where Monte Carlo is asked for. `copies` marks the axes (of heads) along which
    a quantity made of draws has independent copies; its array has size one there. `random` marks what the program draws
    itself, `source` tells how entries follow from its bits. Without `make` it is an example, or what a loop carries.
    """

    shape: Shape
    uniform: Flags
    needs: tuple[Need, ...] = ()
    make: Callable[[list[Made]], Made] | None = None
    value: Numbers | None = None
    _: KW_ONLY
    noise: "Noise | None" = None
    drawn: "Deterministic | None" = None
    copies: Flags = ()
    random: bool = False
    source: Source | None = None
    number: int = field(default_factory=COUNTER.__next__)

    @property
    def scalar(self) -> bool:
        """Whether it is one number."""
        return all(self.uniform)

    @property
    def zero(self) -> bool:
        """Whether it is known to be zero."""
        return self.value is not None and not np.any(np.asarray(self.value))

    @property
    def order(self) -> tuple[int, int]:
        """After everything that it is made of."""
        return self.number, 1


@dataclass(frozen=True, eq=False)
class Node:
    """Sizes of index axes; bits of the parameters it depends on; whether E h = 0, h is Gaussian, h = 0 (but not ∂h).

    A node is `drawn` where its channels are independent copies only given the scores of their head, which are drawn.
    One that stands `before` a node is computed before it, although it was made later.
    """

    site: Site
    index: Shape
    leaves: int
    centered: bool
    gaussian: bool
    zero: bool = False
    _: KW_ONLY
    before: "Node | None" = None
    number: int = field(default_factory=COUNTER.__next__)
    drawn: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawn", any(x.drawn for x in self.parts))

    @property
    def parts(self) -> tuple["Node", ...]:
        """The nodes that it is made of channel by channel, none where weights mix channels."""
        return ()

    @property
    def order(self) -> tuple[int, int]:
        """After the nodes that it is made of."""
        return (self.number, 1) if self.before is None else (self.before.number, 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class DeterministicVector(Node):
    """A deterministic vector: values of shape index + (channels,)."""

    det: Deterministic


@dataclass(frozen=True, eq=False, kw_only=True)
class Random(Node):
    """A vector of random numbers: which ones, and their variance and weight."""

    key: Key
    variance: Moment
    weight: Moment


@dataclass(frozen=True, eq=False, kw_only=True)
class ParameterVector(Random):
    """A parameter with one number a channel, at each place of the index axes marked `own`."""

    own: Flags


AxisRole = Literal["keep", "sum", "own"] | Window


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearLayer(Random):
    """A weight contracted with channels (and the index axes of role `sum`): pieces are (node, channels).

    Roles of index axes: keep, sum, own (each place has its own weights), or a `Window`. `taps`: weights of a channel.
    """

    pieces: tuple[tuple[Node, int], ...]
    roles: tuple[AxisRole, ...]
    taps: ParameterVector | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedding(Random):
    """Rows of an embedding: `tokens` are integers over the index axes."""

    tokens: Deterministic


@dataclass(frozen=True, eq=False, kw_only=True)
class Mask(Node):
    """Drawn entries, independent over channels and along the index axes marked `own`, as a function of their bits."""

    key: Key
    own: Flags
    source: Source


Term = tuple[Deterministic, Node]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Node):
    """Σ coefficient · node + Σ constants."""

    terms: tuple[Term, ...]
    constants: tuple[Deterministic, ...] = ()

    @property
    def parts(self) -> tuple[Node, ...]:
        return tuple(x for _, x in self.terms)


@dataclass(frozen=True, eq=False, kw_only=True)
class Product(Node):
    """The channelwise product of its factors."""

    factors: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        return self.factors


@dataclass(frozen=True, eq=False, kw_only=True)
class Function(Node):
    """An elementwise function of a Gaussian node."""

    expression: Expression
    root: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        return (self.root,)


@dataclass(frozen=True, eq=False, kw_only=True)
class JointFunction(Node):
    """An elementwise function of several independent Gaussian nodes, the named `roots`; its averages are drawn."""

    expression: Expression
    roots: tuple[tuple[str, Node], ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        return tuple(x for _, x in self.roots)


@dataclass(frozen=True, eq=False, kw_only=True)
class Several(Node):
    """A node made of several others."""

    children: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        return self.children


@dataclass(frozen=True, eq=False, kw_only=True)
class Field(Several):
    """A function of the arrays of `children` over their index axes, with index axes of its own."""

    make: Callable[[list[jax.Array]], jax.Array]


class AxisMap(NamedTuple):
    """apply(array, axis, value of `det` or None) is linear; `selects`: each output place holds one input or zero."""

    key: Hashable
    apply: Callable[[Numbers, int, Numbers | None], jax.Array]
    size: int
    selects: bool
    det: Deterministic | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Unary(Node):
    """A node made of one other."""

    child: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        return (self.child,)


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearMap(Unary):
    """A linear map along one index axis."""

    axis: int
    map: AxisMap

    def __post_init__(self) -> None:
        mixed = self.map.det is not None and any(self.map.det.copies)
        object.__setattr__(self, "drawn", mixed or self.child.drawn)


@dataclass(frozen=True, eq=False, kw_only=True)
class Concatenate(Several):
    """Nodes one after another along an index axis."""

    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Unary):
    """One index axis as several."""

    axis: int
    sizes: Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Unary):
    """Several index axes as one, the inverse of `Split`."""

    axis: int
    sizes: Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class ExpandDims(Unary):
    """A node without index axes where others have them: axes of size one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StopGradient(Unary):
    """A node whose derivative is taken to be zero."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LoopCarry(Node):
    """What a loop carries: in its body (`out` False) and after it (True)."""

    loop: Loop
    out: bool = False


class ChannelSum(NamedTuple):
    """A sum over channels: Σ count · a over `terms` (count, a, None), or of one product a b."""

    terms: tuple[tuple[float, Node, Node | None], ...]

    @property
    def channels(self) -> float:
        """How many channels are summed."""
        return sum(count for count, _, _ in self.terms)


class Noise(NamedTuple):
    """What an average that is zero leaves out: sums and their factors; whether it can be drawn; the record."""

    parts: tuple[tuple[ChannelSum, float], ...]
    drawable: bool
    record: "Record"


class Use(NamedTuple):
    """One place where such a sum is used: sums and their factors, and the nodes that it is added to."""

    parts: tuple[tuple[ChannelSum, float], ...]
    addends: tuple[Node, ...]

    @property
    def nodes(self) -> list[Node]:
        """Those whose variance decides."""
        return [*(x for s, _ in self.parts for _, a, b in s.terms for x in (a, b) if x is not None), *self.addends]

    @property
    def channels(self) -> float:
        """The fewest that are summed."""
        return min(source.channels for source, _ in self.parts)


@dataclass
class Record:
    """Every use of a sum that averages to zero, in the order of the program, and what is known of its power.

    `powers` are of the width, one for each use; without them a use is judged by its size at the width of the program.
    With `assumed` all are taken to vanish, to find the uses first.
    """

    powers: tuple[float, ...] | None = None
    assumed: bool = False
    uses: list[Use] = field(default_factory=list)
