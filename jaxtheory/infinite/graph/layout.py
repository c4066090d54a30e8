"""How the axes of an array in the user's program are made of index axes and channels of a node."""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import graph, views
from jaxtheory.infinite.graph.deterministic import ONE, groups, size
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Deterministic, Node, Shape
from jaxtheory.infinite.graph.views import Leaf, Parts

Kind = Literal["i", "c", "b"]


class Factor(NamedTuple):
    """Part of an axis: index axis or channel factor number `place`, or a broadcast (kind i, c or b)."""

    kind: Kind
    place: int
    size: int


Factors = tuple[Factor, ...]
Axes = tuple[Factors, ...]
Piece = tuple[Node, int]  # a node and its number of channels


class ChannelArray(NamedTuple):
    """A random array: nodes and their numbers of channels, one after another; its axes; sizes of channel factors."""

    pieces: tuple[Piece, ...]
    axes: Axes
    channels: Shape

    @property
    def shape(self) -> Shape:
        return tuple(size(tuple(f.size for f in factors)) for factors in self.axes)

    @property
    def node(self) -> Node:
        return self.pieces[0][0]


class Param(NamedTuple):
    """A view of a leaf, times a deterministic factor; `loops` names scans over it."""

    leaf: Leaf
    offset: int
    axes: tuple[Parts, ...]
    scale: Deterministic = ONE
    loops: tuple[tuple[int, int], ...] = ()

    @property
    def shape(self) -> Shape:
        return tuple(views.extent(parts) for parts in self.axes)


def whole(leaf: Leaf) -> Param:
    """A leaf as it is."""
    return Param(leaf, 0, views.strided(leaf.shape))


class Layout(NamedTuple):
    """Where operands meet: axes, channel factors, and number of index axes."""

    axes: Axes
    channels: Shape
    rank: int


class Segment(NamedTuple):
    """A run of channels."""

    start: int
    size: int


class Cut(NamedTuple):
    """A slice of an axis."""

    start: int
    size: int
    step: int


class Blocks(NamedTuple):
    """Parameters one after another along an axis."""

    parts: tuple[Param, ...]
    axis: int

    @property
    def shape(self) -> Shape:
        first = self.parts[0].shape
        total = sum(p.shape[self.axis] for p in self.parts)
        return (*first[: self.axis], total, *first[self.axis + 1 :])


class Running(NamedTuple):
    """Labels of a running sum, of its axis and of what it sums, and whether it starts from the end."""

    out: int
    summed: int
    reverse: bool


class Outer(NamedTuple):
    """A product of two random arrays that is not summed over channels, times and over numbers.

    Labels tell which axes of the two run together; those in `out` are the axes of the product (of size one where they
    are negative), others are summed over. Each of `running` is an axis of the product over whose earlier places (or
    later, in reverse) an axis of both is summed.
    """

    left: ChannelArray
    right: ChannelArray
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]
    out: tuple[int, ...]
    factors: tuple[tuple[str, Deterministic], ...]
    running: tuple[Running, ...] = ()

    @property
    def shape(self) -> Shape:
        sizes = dict(zip((*self.left_axes, *self.right_axes), (*self.left.shape, *self.right.shape), strict=True))
        sizes |= {run.out: sizes[run.summed] for run in self.running}
        return tuple(sizes.get(label, 1) for label in self.out)


class Complex(NamedTuple):
    """A complex array as its real and its imaginary part."""

    real: ChannelArray
    imag: ChannelArray

    @property
    def shape(self) -> Shape:
        return self.real.shape


Value = Deterministic | Param | ChannelArray | Blocks | Outer | Complex


def meeting(where: Site, values: Sequence[Value], shape: Shape) -> Layout:
    """The layout of an elementwise operation's result."""
    rands = only(ChannelArray, values)
    rank = max((len(r.node.index) for r in rands), default=0)
    axes = [_common_factors(where, [r.axes[a] for r in rands], shape[a]) for a in range(len(shape))]
    channels = rands[0].channels if rands else ()
    if not rands:
        channel = _channel_axis(where, values, shape)
        axes[channel], channels = (Factor("c", 0, shape[channel]),), (shape[channel],)
    if any(r.channels != channels for r in rands):
        refuse(where, "its operands group channels differently", "reshape both in the same way")
    along = [f.place for factors in axes for f in factors if f.kind == "c"]
    if len(along) > len({*along}):
        reason = "it makes a matrix of channels by channels, which is no average over channels"
        refuse(where, reason, "multiply, or sum over one of the two first")
    taken = {f.place for factors in axes for f in factors if f.kind == "i"}
    for a, factors in enumerate(axes):
        bare = shape[a] > 1 and all(f.kind == "b" for f in factors)
        if bare and new_axis(values, a, shape[a]):
            free = next((k for k in range(rank) if k not in taken and all(_thin(r, k) for r in rands)), None)
            if free is None and rank == len(taken) and not any(len(r.node.index) for r in rands):
                free, rank = rank, rank + 1
            if free is None:
                refuse(where, "it spreads a summary over a new axis", "broadcast before the summary is taken")
            taken.add(free)
            axes[a] = (Factor("i", free, shape[a]),)
        elif bare:
            axes[a] = (Factor("b", 0, shape[a]),)
    return Layout(tuple(axes), channels, rank)


def new_axis(values: Sequence[Value], axis: int, extent: int) -> bool:
    """Whether no random array has an axis, along which parameters or known numbers differ."""
    real = any(f.kind != "b" for r in only(ChannelArray, values) for f in r.axes[axis])
    return extent > 1 and not real and any(_varies(v, axis, _rank_of(values)) for v in values)


def _rank_of(values: Sequence[Value]) -> int:
    return max(len(v.shape) for v in values)


def _common_factors(where: Site, found: list[Factors], extent: int) -> Factors:
    real = {factors for factors in found if factors and any(f.kind != "b" for f in factors)}
    if len(real) > 1:
        refuse(
            where, "its operands have axes of different origin in one place", "bring their axes into one order first"
        )
    return next(iter(real), () if extent == 1 else (Factor("b", 0, extent),))


def _thin(rand: ChannelArray, axis: int) -> bool:
    return axis >= len(rand.node.index) or rand.node.index[axis] == 1


def _varies(value: Value, axis: int, rank: int) -> bool:
    if isinstance(value, Deterministic):
        return len(value.shape) == rank and not value.uniform[axis]
    if isinstance(value, Param):
        scale = len(value.scale.shape) == rank and not value.scale.uniform[axis]
        return scale or bool(real_parts(value.axes[axis]))
    return False


def real_parts(parts: Parts) -> bool:
    """Whether an axis of a view is more than a broadcast."""
    return any(stride for _, stride in parts)


def _channel_axis(where: Site, values: Sequence[Value], shape: Shape) -> int:
    params = only(Param, values)
    candidates = [a for a in range(len(shape)) if any(real_parts(p.axes[a]) for p in params)]
    if not candidates:
        refuse(where, "a scalar parameter has no average over channels", "give it variance 0 and weight 0 in the prior")
    return candidates[-1]


def regroup(where: Site, rand: ChannelArray, shape: Shape) -> ChannelArray:
    """Another shape: channel factors and index axes are regrouped, and split where they must be."""
    axes: list[Factors] = [()] * len(shape)
    for old, new in groups(rand.shape, shape):
        flow = [f for a in old for f in rand.axes[a]]
        for a in new:
            taken: list[Factor] = []
            wanted = shape[a]
            while wanted > 1:
                f = flow.pop(0)
                if wanted % f.size == 0:
                    taken.append(f)
                    wanted //= f.size
                elif f.size % wanted == 0:
                    rand, axes, flow, first, rest = _divide(where, rand, axes, flow, f, wanted)
                    taken.append(first)
                    flow.insert(0, rest)
                    wanted = 1
                else:
                    refuse(where, "an axis does not divide like the new shape", "reshape in steps that divide")
            axes[a] = tuple(taken)
    return merge_channels(ChannelArray(rand.pieces, tuple(axes), rand.channels))


class _Division(NamedTuple):
    """A factor split into two: the array, the axes made so far, the factors to come, and the two parts."""

    array: ChannelArray
    axes: list[Factors]
    rest: list[Factor]
    first: Factor
    second: Factor


def _divide(
    where: Site, rand: ChannelArray, axes: list[Factors], flow: list[Factor], f: Factor, first: int
) -> _Division:
    """Split factor f into two; every factor behind it moves one place up."""
    rest = f.size // first
    up = lambda g: g._replace(place=g.place + 1) if g.kind == f.kind != "b" and g.place > f.place else g  # noqa: E731
    shift = lambda all_axes: [tuple(up(g) for g in factors) for factors in all_axes]  # noqa: E731
    pieces, channels = rand.pieces, rand.channels
    if f.kind == "c":
        if len(pieces) > 1:
            refuse(where, "it splits channels that were concatenated", "split first, then concatenate")
        channels = (*channels[: f.place], first, rest, *channels[f.place + 1 :])
    if f.kind == "i":
        pieces = tuple((graph.split(where, node, f.place, (first, rest)), count) for node, count in pieces)
    second = Factor(f.kind, f.place + (f.kind != "b"), rest)
    array = ChannelArray(pieces, tuple(shift(rand.axes)), channels)
    return _Division(array, shift(axes), [up(g) for g in flow], Factor(f.kind, f.place, first), second)


def merge_channels(rand: ChannelArray) -> ChannelArray:
    """Adjacent channel factors of one axis become one again."""
    for a, factors in enumerate(rand.axes):
        for i, (f, g) in enumerate(itertools.pairwise(factors)):
            if f.kind == g.kind == "c" and g.place == f.place + 1:
                both = Factor("c", f.place, f.size * g.size)
                down = lambda h, p=f.place: h._replace(place=h.place - 1) if h.kind == "c" and h.place > p else h  # noqa: E731
                axes = [tuple(down(h) for h in fs) for fs in rand.axes]
                axes[a] = (*axes[a][:i], both, *axes[a][i + 2 :])
                channels = (*rand.channels[: f.place], both.size, *rand.channels[g.place + 1 :])
                return merge_channels(ChannelArray(rand.pieces, tuple(axes), channels))
    return rand


def flatten_axis(where: Site, rand: ChannelArray, axis: int) -> ChannelArray:
    """The array with one index axis where `axis` is made of several, as an image's rows and columns are as tokens."""
    factors = rand.axes[axis]
    if len(factors) < 2 or any(f.kind != "i" for f in factors):
        return rand
    first, count = factors[0].place, len(factors)
    if [f.place for f in factors] != list(range(first, first + count)):
        refuse(where, "it works along a merged axis whose parts were transposed", "transpose after it")
    sizes = tuple(f.size for f in factors)
    pieces = tuple((graph.flatten(where, node, first, sizes), channels) for node, channels in rand.pieces)
    down = lambda f: f._replace(place=f.place - count + 1) if f.kind == "i" and f.place > first else f  # noqa: E731
    axes = [tuple(down(f) for f in fs) for fs in rand.axes]
    axes[axis] = (Factor("i", first, size(sizes)),)
    return ChannelArray(pieces, tuple(axes), rand.channels)
