"""How the axes of an array in the user's program are made of index axes and channels of a node."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite import views
from jaxtheory.infinite.determined import Det, derived, full, groups, known, reshaped, size, spread
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.nodes import Fixed, Graph, Lifted, Node, Split, Sum, Vector, combination, scaled
from jaxtheory.infinite.views import Key, Param


class Factor(NamedTuple):
    """Part of an axis: index axis or channel factor number `place`, or a broadcast (kind i, c or b)."""

    kind: str
    place: int
    size: int


Axes = tuple[tuple[Factor, ...], ...]


class Rand(NamedTuple):
    """A random array: nodes and their numbers of channels, one after another; its axes; sizes of channel factors."""

    pieces: tuple[tuple[Node, int], ...]
    axes: Axes
    channels: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size(tuple(f.size for f in factors)) for factors in self.axes)

    @property
    def node(self) -> Node:
        return self.pieces[0][0]


class Layout(NamedTuple):
    """Where operands meet: axes, channel factors, and number of index axes."""

    axes: Axes
    channels: tuple[int, ...]
    rank: int


Value = Det | Param | Rand


def meeting(where: Site, values: Sequence[Value], shape: tuple[int, ...]) -> Layout:
    """The layout of an elementwise operation's result."""
    rands = [v for v in values if isinstance(v, Rand)]
    rank = max((len(r.node.index) for r in rands), default=0)
    axes = [_agreed(where, [r.axes[a] for r in rands], shape[a]) for a in range(len(shape))]
    channels = rands[0].channels if rands else ()
    if not rands:
        channel = _channel_axis(where, values, shape)
        axes[channel], channels = (Factor("c", 0, shape[channel]),), (shape[channel],)
    if any(r.channels != channels for r in rands):
        refuse(where, "its operands group channels differently", "reshape both in the same way")
    taken = {f.place for factors in axes for f in factors if f.kind == "i"}
    for a, factors in enumerate(axes):
        bare = shape[a] > 1 and all(f.kind == "b" for f in factors)
        if bare and any(_varies(v, a, len(shape)) for v in values):
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


def _agreed(where: Site, found: list[tuple[Factor, ...]], extent: int) -> tuple[Factor, ...]:
    real = {factors for factors in found if factors and any(f.kind != "b" for f in factors)}
    if len(real) > 1:
        refuse(
            where, "its operands have axes of different origin in one place", "bring their axes into one order first"
        )
    return next(iter(real), () if extent == 1 else (Factor("b", 0, extent),))


def _thin(rand: Rand, axis: int) -> bool:
    return axis >= len(rand.node.index) or rand.node.index[axis] == 1


def _varies(value: Value, axis: int, rank: int) -> bool:
    if isinstance(value, Det):
        return len(value.shape) == rank and not value.uniform[axis]
    if isinstance(value, Param):
        scale = value.scale is not None and len(value.scale.shape) == rank and not value.scale.uniform[axis]
        return scale or bool(real_parts(value.axes[axis]))
    return False


def real_parts(parts: views.Parts) -> bool:
    """Whether an axis of a view is more than a broadcast."""
    return any(stride for _, stride in parts)


def _channel_axis(where: Site, values: Sequence[Value], shape: tuple[int, ...]) -> int:
    params = [v for v in values if isinstance(v, Param)]
    candidates = [a for a in range(len(shape)) if any(real_parts(p.axes[a]) for p in params)]
    if not candidates:
        refuse(where, "a scalar parameter has no average over channels", "give it variance 0 and weight 0 in the prior")
    return candidates[-1]


def placed(graph: Graph, where: Site, value: Value, layout: Layout, segment: tuple[int, int]) -> Node | Det:
    """A value where operands meet, for a segment of the channels: a node, or a coefficient over the index axes."""
    if isinstance(value, Det):
        return _placed_det(where, value, layout, segment)
    if isinstance(value, Param):
        return _placed_param(graph, where, value, layout, segment)
    start = 0
    for node, count in value.pieces:
        if start <= segment[0] < start + count:
            inside = (segment[0] - start, segment[1])
            node = node if inside == (0, count) else restricted(graph, where, node, (count,), 0, (*inside, 1))
            return lifted(where, node, layout.rank)
        start += count
    raise AssertionError("segments cover the channels")


def lifted(where: Site, node: Node, rank: int) -> Node:
    """A node among others of more index axes."""
    if len(node.index) == rank:
        return node
    if node.index:
        refuse(where, "its operands have different numbers of index axes", "keep reduced axes (keepdims=True)")
    if isinstance(node, Sum):  # numbers in it stay numbers
        terms = [(_raised(c, rank), x if x is None else lifted(where, x, rank)) for c, x in node.terms]
        return combination(where, (1,) * rank, terms)
    return Lifted(where, (1,) * rank, node.leaves, node.centred, node.gaussian, node.zero, child=node)


def _raised(coefficient: Det | None, rank: int) -> Det | None:
    return coefficient if coefficient is None else reshaped(coefficient, (1,) * rank)


def canonical(det: Det, layout: Layout) -> Det:
    """A deterministic array in the order index axes, then channel factors; of size one where it is uniform."""
    if not det.shape:
        shape = (1,) * (layout.rank + len(layout.channels))
        return derived((det,), shape, (True,) * len(shape), lambda v: jnp.asarray(v[0]).reshape(shape))
    sizes, places, flags = [], [], []
    for factors, uniform in zip(layout.axes, det.uniform, strict=True):
        for f in factors:
            sizes.append(f.size)
            flags.append(uniform)
            places.append(f.place if f.kind == "i" else layout.rank + f.place if f.kind == "c" else -1)
    order = sorted((p, i) for i, p in enumerate(places) if p >= 0)
    target, uniforms = [1] * (layout.rank + len(layout.channels)), [True] * (layout.rank + len(layout.channels))
    for place, i in order:
        target[place], uniforms[place] = sizes[i], flags[i]
    short = [1 if u else n for n, u in zip(sizes, flags, strict=True)]
    permutation = [i for i, p in enumerate(places) if p < 0] + [i for _, i in order]
    final = tuple(1 if u else n for n, u in zip(target, uniforms, strict=True))
    out = derived(
        (det,),
        tuple(target),
        tuple(uniforms),
        lambda v: jnp.asarray(v[0]).reshape(short).transpose(permutation).reshape(final),
    )
    return out


def _placed_det(where: Site, det: Det, layout: Layout, segment: tuple[int, int]) -> Node | Det:
    whole = canonical(det, layout)
    rank = layout.rank
    if all(whole.uniform[rank:]):
        shape, index = whole.shape[:rank], whole.uniform[:rank]
        short = tuple(1 if u else n for n, u in zip(shape, index, strict=True))
        return derived((whole,), short, tuple(n == 1 for n in short), lambda v: v[0].reshape(short))
    return fixed(where, whole, rank, segment)


def fixed(where: Site, det: Det, rank: int, segment: tuple[int, int]) -> Node:
    """A deterministic vector from an array of index axes and channel factors."""
    index = tuple(1 if u else n for n, u in zip(det.shape[:rank], det.uniform[:rank], strict=True))
    flat = (*index, size(det.shape[rank:]))
    shape = (*index, segment[1])

    def make(v: list[Any]) -> Any:
        spread = full(jnp.asarray(v[0]), (*index, *det.shape[rank:])).reshape(flat)
        return spread[..., segment[0] : sum(segment)]

    values = spread((det,), shape, make)
    return Fixed(where, index, 1, False, False, det=values)


def viewed(
    where: Site, param: Param, layout: Layout, segment: tuple[int, int]
) -> tuple[Key, tuple[int, ...], tuple[bool, ...]] | None:
    """Key, sizes of index axes and which of them have numbers of their own; None for one number for all channels."""
    own = [False] * layout.rank
    index_parts: list[views.Parts] = [()] * layout.rank
    channel_parts: list[views.Parts] = [()] * len(layout.channels)
    for parts, factors in zip(param.axes or ((),) * len(layout.axes), layout.axes, strict=True):
        pieces = _shared_out(where, parts, factors)
        for f, piece in zip(factors, pieces, strict=True):
            if f.kind == "i" and real_parts(piece):
                own[f.place], index_parts[f.place] = True, piece
            if f.kind == "c":
                channel_parts[f.place] = piece
    real = [real_parts(p) for p, n in zip(channel_parts, layout.channels, strict=True) if n > 1]
    if size(layout.channels) > 1 and not all(real):
        return None
    cut = views.cut(views.joined(tuple(channel_parts)), segment[0], segment[1], 1)
    if cut is None:
        refuse(where, "it cuts a parameter across its axes", "concatenate along whole axes")
    key = Key(param.leaf.number, param.offset + cut[0], param.loops, cut[1], tuple(index_parts))
    index = tuple(
        next((f.size for factors in layout.axes for f in factors if f.kind == "i" and f.place == k and o), 1)
        for k, o in enumerate(own)
    )
    return key, index, tuple(own)


def _placed_param(graph: Graph, where: Site, param: Param, layout: Layout, segment: tuple[int, int]) -> Node | Det:
    scale = None if param.scale is None else _placed_det(where, param.scale, layout, segment)
    seen = viewed(where, param, layout, segment)
    if seen is None:
        return _number(where, param, scale, layout.rank)
    return _distributed(graph, where, param, *seen, scale)


def _shared_out(where: Site, parts: views.Parts, factors: tuple[Factor, ...]) -> tuple[views.Parts, ...]:
    if not real_parts(parts):
        return ((),) * len(factors)
    pieces = views.split(parts, tuple(f.size for f in factors))
    if pieces is None:
        refuse(where, "a parameter does not divide like the axes that it meets", "reshape it like them")
    return pieces


def _number(where: Site, param: Param, scale: Any, rank: int) -> Node | Det:
    leaf = param.leaf
    if not (views.is_zero(leaf.variance) and views.is_zero(leaf.weight)):
        reason = f"parameter {leaf.path} has no channel axis, so that no average over channels determines its effect"
        refuse(where, reason, "give it variance 0 and weight 0 in the prior, which makes it the constant `mean`")
    mean = known(np.full((1,) * rank, leaf.mean))
    return mean if scale is None else times(where, mean, scale)


def times(where: Site, a: Det, b: Node | Det) -> Node | Det:
    """The product of a coefficient with another, or with a node."""
    if isinstance(b, Node):
        return scaled(where, a, b, b.index)
    shape = tuple(max(n, m) for n, m in zip(a.shape, b.shape, strict=True))
    return derived((a, b), shape, tuple(n == 1 for n in shape), lambda v: _product(v[0], v[1]))


def _product(a: Any, b: Any) -> Any:
    a, b = jnp.asarray(a), jnp.asarray(b)
    dtype = a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else b.dtype
    return a.astype(dtype) * b.astype(dtype)


def _distributed(graph: Graph, where: Site, param: Param, key: Key, index: Any, own: Any, scale: Any) -> Node:
    leaf = param.leaf
    zero = views.is_zero(leaf.variance)
    noise = Vector(
        where, index, graph.bit(key), True, True, zero, key=key, variance=leaf.variance, weight=leaf.weight, own=own
    )
    terms: list[tuple[Det | None, Node | None]] = []
    if not (zero and views.is_zero(leaf.weight)):
        terms.append((None, noise))
    if not views.is_zero(leaf.mean):
        terms.append((known(np.full((1,) * len(index), leaf.mean)), None))
    if isinstance(scale, Node):
        return multiplied(graph, where, combination(where, index, terms), scale)
    if scale is not None:
        index = tuple(max(n, m) for n, m in zip(index, scale.shape, strict=True))
        terms = [(scale if c is None else _coefficient(where, c, scale), n) for c, n in terms]
    return combination(where, index, terms)


def multiplied(graph: Graph, where: Site, a: Node, b: Node) -> Node:
    """The product of two nodes, their constants multiplied out."""
    index = tuple(max(n, m) for n, m in zip(a.index, b.index, strict=True))
    (ca, ra), (cb, rb) = _constants(a), _constants(b)
    terms: list[tuple[Det | None, Node | None]] = []
    if ra is not None and rb is not None:
        terms.append((None, graph.product(where, (ra, rb))))
    terms += [(c, rb) for c in ca if rb is not None] + [(c, ra) for c in cb if ra is not None]
    terms += [(_coefficient(where, c, d), None) for c in ca for d in cb]
    return combination(where, index, terms)


def _coefficient(where: Site, a: Det, b: Det) -> Det:
    both = times(where, a, b)
    assert isinstance(both, Det)
    return both


def _constants(node: Node) -> tuple[list[Det], Node | None]:
    """Terms without randomness, and the rest."""
    if not isinstance(node, Sum) or all(n is not None for _, n in node.terms):
        return [], node
    constants = [c for c, n in node.terms if n is None and c is not None]
    rest: list[tuple[Det | None, Node | None]] = [(c, n) for c, n in node.terms if n is not None]
    return constants, combination(node.site, node.index, rest) if rest else None


def restricted(
    graph: Graph, where: Site, node: Node, shape: tuple[int, ...], axis: int, cut: tuple[int, int, int]
) -> Node:
    """A node with a slice (start, size, step) of one factor of its channels, whose sizes are `shape`."""
    from jaxtheory.infinite.restriction import restrict

    return restrict(graph, where, node, shape, axis, cut)


def reshape(where: Site, rand: Rand, shape: tuple[int, ...]) -> Rand:
    """Another shape: channel factors and index axes are regrouped, and split where they must be."""
    axes: list[tuple[Factor, ...]] = [()] * len(shape)
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
                    rand, axes, flow, first, rest = _divided(where, rand, axes, flow, f, wanted)
                    taken.append(first)
                    flow.insert(0, rest)
                    wanted = 1
                else:
                    refuse(where, "an axis does not divide like the new shape", "reshape in steps that divide")
            axes[a] = tuple(taken)
    return merged(Rand(rand.pieces, tuple(axes), rand.channels))


def _divided(where: Site, rand: Rand, axes: Any, flow: Any, f: Factor, first: int) -> Any:
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
        pieces = tuple((_split(where, node, f.place, (first, rest)), count) for node, count in pieces)
    rand = Rand(pieces, tuple(shift(rand.axes)), channels)
    second = Factor(f.kind, f.place + (f.kind != "b"), rest)
    return rand, shift(axes), [up(g) for g in flow], Factor(f.kind, f.place, first), second


def _split(where: Site, node: Node, axis: int, sizes: tuple[int, ...]) -> Node:
    index = (*node.index[:axis], *sizes, *node.index[axis + 1 :])
    return Split(where, index, node.leaves, node.centred, node.gaussian, node.zero, child=node, axis=axis, sizes=sizes)


def merged(rand: Rand) -> Rand:
    """Adjacent channel factors of one axis become one again."""
    for a, factors in enumerate(rand.axes):
        for i, (f, g) in enumerate(itertools.pairwise(factors)):
            if f.kind == g.kind == "c" and g.place == f.place + 1:
                both = Factor("c", f.place, f.size * g.size)
                down = lambda h, p=f.place: h._replace(place=h.place - 1) if h.kind == "c" and h.place > p else h  # noqa: E731
                axes = [tuple(down(h) for h in fs) for fs in rand.axes]
                axes[a] = (*axes[a][:i], both, *axes[a][i + 2 :])
                channels = (*rand.channels[: f.place], both.size, *rand.channels[g.place + 1 :])
                return merged(Rand(rand.pieces, tuple(axes), channels))
    return rand
