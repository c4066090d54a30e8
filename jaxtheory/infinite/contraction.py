"""Where weights meet channels: matrix products and convolutions, and averages of products of channels."""

import math
from dataclasses import replace
from typing import Any, NoReturn

import jax.numpy as jnp

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite import views
from jaxtheory.infinite.determined import Det, full, reshaped, spread
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.filters import filtered
from jaxtheory.infinite.layout import Factor, Layout, Rand, Value, canonical, fixed, reshape, times
from jaxtheory.infinite.nodes import AxisMap, Graph, Node, Use, Window
from jaxtheory.infinite.reductions import inner, move, require_all_heads
from jaxtheory.infinite.rewriting import multiplied_and_summed
from jaxtheory.infinite.views import Key, Param


def dot(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    """dot_general: with a weight, of two random arrays over channels, or with a deterministic matrix over places."""
    (lc, rc), (lb, rb) = equation.params["dimension_numbers"]
    left, right = values
    if isinstance(right, Param) and not isinstance(left, Param):
        return [_weighted(graph, where, left, right, (lb, lc), (rb, rc), False)]
    if isinstance(left, Param) and not isinstance(right, Param):
        return [_weighted(graph, where, right, left, (rb, rc), (lb, lc), True)]
    if isinstance(left, Rand) and isinstance(right, Rand):
        return [inner(graph, where, left, right, (lb, lc), (rb, rc))]
    if isinstance(left, Det) and isinstance(right, Rand):
        return [_times_matrix(graph, where, equation, (left, right), (lb, lc), (rb, rc), False)]
    if isinstance(left, Rand) and isinstance(right, Det):
        return [_times_matrix(graph, where, equation, (right, left), (rb, rc), (lb, lc), True)]
    refuse(where, "it multiplies two parameters", "apply them to the input one after the other")


def _frees(shape: tuple[int, ...], used: tuple[int, ...]) -> list[int]:
    return [d for d in range(len(shape)) if d not in used]


def _weighted(
    graph: Graph, where: Site, value: Det | Rand, weight: Param, dims: Any, wdims: Any, weight_first: bool
) -> Rand:
    """Σ over contracted axes of value · weight."""
    _require_plain(where, weight)
    (batch, contract), (wbatch, wcontract) = dims, wdims
    free = _frees(value.shape, (*batch, *contract))
    wfree = _frees(weight.shape, (*wbatch, *wcontract))
    rand, roles, axis_factors, contracted = _entering(where, value, batch, contract, free)
    own_channels, own_parts, batch_parts = _batched(where, rand, batch, axis_factors, weight, wbatch, roles)
    free_parts = [weight.axes[d] for d in wfree]
    rest = (*own_parts, *(weight.axes[d] for d in wcontract))
    key = Key(weight.leaf.number, weight.offset, weight.loops, views.joined((*batch_parts, *free_parts)), rest)
    channels = (*own_channels, *(weight.shape[d] for d in wfree if weight.shape[d] > 1))
    wide = [d for d in wfree if weight.shape[d] > 1]
    fresh = {d: (Factor("c", len(own_channels) + wide.index(d), weight.shape[d]),) if d in wide else () for d in wfree}
    kept = [axis_factors[d] for d in free]
    out = [
        *(axis_factors[d] for d in batch),
        *([fresh[d] for d in wfree] + kept if weight_first else kept + [fresh[d] for d in wfree]),
    ]
    node = use(graph, where, weight, key, contracted, tuple(roles))
    return finished(where, node, weight, tuple(out), channels)


def _require_plain(where: Site, weight: Param) -> None:
    leaf = weight.leaf
    if not views.is_zero(leaf.mean):
        refuse(
            where,
            f"weight {leaf.path} has mean {leaf.mean}, which adds up over channels",
            "give it mean 0 in the prior",
        )
    if weight.scale is not None and not weight.scale.scalar:
        refuse(
            where,
            f"weight {leaf.path} is masked or scaled entry by entry",
            "leave out the mask, or scale its input or output",
        )


def _entering(where: Site, value: Det | Rand, batch: Any, contract: Any, free: list[int]) -> Any:
    """The operand as random vectors: itself, roles of its index axes, factors of each axis, contracted pieces."""
    if isinstance(value, Det):
        return _entering_det(where, value, batch, contract, free)
    roles: list[Any] = ["keep"] * len(value.node.index)
    channels, repeats = [], 1
    for d in contract:
        for f in value.axes[d]:
            if f.kind == "i":
                roles[f.place] = "sum"
            elif f.kind == "c":
                channels.append(f.place)
            else:
                repeats *= f.size
    if any(f.kind == "c" for d in free for f in value.axes[d]) or not channels:
        refuse(
            where, "its weights are shared between channels, or contracted with no channels", "contract whole channels"
        )
    require_all_heads(where, value, len(channels))
    if len(value.pieces) > 1:
        return value, roles, value.axes, [(node, count * repeats) for node, count in value.pieces]
    count = math.prod(value.channels[c] for c in channels)
    if math.prod(value.channels) == 1:
        _narrow(where)
    return value, roles, value.axes, [(value.node, count * repeats)]


def _narrow(where: Site) -> NoReturn:
    refuse(where, "it contracts a single random channel, which no average determines", "make the layer before it wide")


def _entering_det(where: Site, value: Det, batch: Any, contract: Any, free: list[int]) -> Any:
    if any(value.copies):
        refuse(where, "its scores are drawn and do more than mix tokens", "use them as attention weights")
    kept = sorted([d for d in (*batch, *free) if value.shape[d] > 1])
    factors: list[tuple[Factor, ...]] = [()] * len(value.shape)
    for k, d in enumerate(kept):
        factors[d] = (Factor("i", k, value.shape[d]),)
    channels = tuple(value.shape[d] for d in contract)
    for c, d in enumerate(contract):
        factors[d] = (Factor("c", c, value.shape[d]),)
    layout = Layout(tuple(factors), channels, len(kept))
    total = math.prod(channels)
    node = fixed(where, canonical(value, layout), len(kept), (0, total))
    index = tuple(value.shape[d] for d in kept)
    node = node if node.index == index else _spread(where, node, index)
    rand = Rand(((node, total),), tuple(factors), channels)
    return rand, ["keep"] * len(kept), tuple(factors), [(node, total)]


def _spread(where: Site, node: Node, index: tuple[int, ...]) -> Node:
    det = node.det  # type: ignore[attr-defined]
    shape = (*index, det.shape[-1])
    wide = spread((det,), shape, lambda v: full(v[0], shape))
    return n.Fixed(where, index, 1, False, False, det=wide)


def _batched(where: Site, rand: Rand, batch: Any, factors: Any, weight: Param, wbatch: Any, roles: list[Any]) -> Any:
    """Axes on which value and weight run together: places with their own weights, or groups of channels."""
    channels: list[int] = []
    own: list[views.Parts] = []
    parts: list[views.Parts] = []
    for d, wd in zip(batch, wbatch, strict=True):
        pieces = views.split(weight.axes[wd], tuple(f.size for f in factors[d]))
        if pieces is None:
            refuse(where, "its weights do not divide like the axis that they share", "reshape them alike")
        for f, piece in zip(factors[d], pieces, strict=True):
            if f.kind == "i":
                roles[f.place] = "own"
                own.append(piece)
            elif f.kind == "c":
                if f.place != len(channels):  # what is contracted is slower: copies, too few for a Gaussian sum
                    refuse(where, "each channel has weights of its own over copies of it", "multiply and add them")
                channels.append(f.size)
                parts.append(piece)
            else:
                refuse(where, "each copy of a broadcast axis has its own weights", "leave out the broadcast")
    return tuple(channels), own, parts


def use(
    graph: Graph, where: Site, weight: Param, key: Key, pieces: list[tuple[Node, int]], roles: tuple[Any, ...]
) -> Node:
    """The Gaussian vector that weights make of their input."""
    index = tuple(
        1 if r == "sum" else r.out if isinstance(r, Window) else size
        for r, size in zip(roles, _joint(pieces), strict=True)
    )
    leaf = weight.leaf
    zero = views.is_zero(leaf.variance)
    return Use(
        where, index, graph.bit(key), True, True, zero,
        key=key, variance=leaf.variance, weight=leaf.weight, pieces=tuple(pieces), roles=roles,
    )  # fmt: skip


def _joint(pieces: list[tuple[Node, int]]) -> tuple[int, ...]:
    return n.joint_index(tuple(node for node, _ in pieces))


def finished(where: Site, node: Node, weight: Param, axes: Any, channels: tuple[int, ...]) -> Rand:
    """The output of a layer, times the factor of its weight; broadcast axes that were contracted are gone."""
    if weight.scale is not None:
        scale = reshaped(weight.scale, (1,) * len(node.index))
        node = n.scaled(where, scale, node, node.index)
    return Rand(((node, math.prod(channels)),), tuple(axes), channels)


def _times_matrix(
    graph: Graph, where: Site, equation: Any, values: tuple[Det, Rand], mdims: Any, dims: Any, rand_first: bool
) -> Value:
    """A product with one number scales, a matrix mixes places, any other array multiplies entries that are summed."""
    matrix, rand = values
    if math.prod(matrix.shape) > 1 and not any(matrix.copies) and not _mixes(matrix, rand, mdims, dims):
        return multiplied_and_summed(graph, where, equation, [rand, matrix] if rand_first else [matrix, rand])
    if math.prod(matrix.shape) > 1 or any(matrix.copies):
        return _mixed(where, matrix, rand, mdims, dims, rand_first)
    number = reshaped(matrix, (1,) * len(rand.node.index))
    pieces = tuple((n.scaled(where, number, node, node.index), count) for node, count in rand.pieces)
    return reshape(where, rand._replace(pieces=pieces), equation.outvars[0].aval.shape)


def _mixes(matrix: Det, rand: Rand, mdims: Any, dims: Any) -> bool:
    """Whether a matrix, the same for all batch axes, acts along one axis of places, or has free axes of its own."""
    (mbatch, mcontract), (batch, contract) = mdims, dims
    same = all(matrix.uniform[md] or rand.shape[d] == 1 for md, d in zip(mbatch, batch, strict=True))
    one = len(contract) == 1 and [f.kind for f in rand.axes[contract[0]]] == ["i"]
    free = any(matrix.shape[d] > 1 for d in _frees(matrix.shape, (*mbatch, *mcontract)))
    return bool(contract) and (free or (same and one))


def _mixed(where: Site, matrix: Det, rand: Rand, mdims: Any, dims: Any, rand_first: bool) -> Rand:
    """Σ_s matrix[..., t, s] · rand[..., s, ...] over one index axis, as attention and fixed filters do."""
    (mbatch, mcontract), (batch, contract) = mdims, dims
    if len(contract) != 1 or [f.kind for f in rand.axes[contract[0]]] != ["i"]:
        refuse(
            where, "a fixed matrix mixes channels, or several axes at once", "use it on one axis of places at a time"
        )
    heads = matrix.copies or (False,) * len(matrix.shape)
    alike = all(rand.axes[d] and rand.axes[d][0].kind == "c" for md, d in zip(mbatch, batch, strict=True) if heads[md])
    if any(heads[d] for d in range(len(heads)) if d not in mbatch) or not alike:
        refuse(where, "heads whose scores are drawn mix values that are not theirs", "give each head values of its own")
    for md, d in zip(mbatch, batch, strict=True):
        if not matrix.uniform[md] and rand.shape[d] > 1:
            refuse(where, "the matrix that mixes places differs between heads or places", "use one for all of them")
    mfree = [d for d in _frees(matrix.shape, (*mbatch, *mcontract)) if matrix.shape[d] > 1]
    if len(mfree) > 1:
        refuse(where, "the matrix that mixes places has several free axes", "flatten them first")
    place = rand.axes[contract[0]][0].place
    out = matrix.shape[mfree[0]] if mfree else 1
    source = matrix.shape[mcontract[0]]
    order = (*mbatch, *_frees(matrix.shape, (*mbatch, *mcontract)), *mcontract)

    def make(v: list[Any]) -> Any:
        shape = tuple(
            1 if u and i in mbatch else m for i, (u, m) in enumerate(zip(matrix.uniform, matrix.shape, strict=True))
        )
        return full(jnp.asarray(v[0]), shape).transpose(order).reshape(out, source)

    det = spread((matrix,), (out, source), make)
    det = replace(det, copies=(any(matrix.copies),) * 2)  # one of those of all heads
    mixing = AxisMap(("mix", det.number), _mix, out, False, det)
    pieces = tuple((move(where, node, place, mixing), count) for node, count in rand.pieces)
    fresh = {d: (Factor("i", place, out),) if d in mfree else () for d in _frees(matrix.shape, (*mbatch, *mcontract))}
    kept = [rand.axes[d] for d in _frees(rand.shape, (*batch, *contract))]
    rest = [*kept, *fresh.values()] if rand_first else [*fresh.values(), *kept]
    return Rand(pieces, (*(rand.axes[d] for d in batch), *rest), rand.channels)


def _mix(array: Any, axis: int, matrix: Any) -> Any:
    moved = jnp.tensordot(matrix.astype(array.dtype), array, (1, axis), precision="highest")
    return jnp.moveaxis(moved, 0, axis)


def convolution(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    """conv_general_dilated of a deterministic or random image with a weight."""
    image, kernel = values
    p = equation.params
    if isinstance(image, Rand) and isinstance(kernel, Det):
        return [filtered(where, equation, image, kernel)]
    if isinstance(image, Param) or not isinstance(kernel, Param) or p["batch_group_count"] != 1:
        refuse(where, "only an image is convolved with a weight here", "use a parameter for the kernel")
    _require_plain(where, kernel)
    (_, channel, *space), (kout, kin, *kspace), outs = p["dimension_numbers"]
    groups, inputs = p["feature_group_count"], kernel.shape[kin]
    rand, roles, factors, counted, group = _image(where, image, channel, space, groups)
    taps = 1
    for j, (d, kd) in enumerate(zip(space, kspace, strict=True)):
        window = _window(p, j, kernel.shape[kd], equation.outvars[0].aval.shape[outs[2 + j]])
        taps = _open(where, rand, factors, roles, d, window) and taps
    out_groups = views.split(kernel.axes[kout], (groups, kernel.shape[kout] // groups))
    assert out_groups is not None
    rest = (*(kernel.axes[d] for d in kspace), kernel.axes[kin])
    free = out_groups[1] if group == "own" else kernel.axes[kout]
    own = (out_groups[0],) if group == "own" else ()
    key = Key(kernel.leaf.number, kernel.offset, kernel.loops, free, (*own, *rest))
    pieces = [(node, inputs) for node, _ in counted] if groups > 1 else list(counted)
    if group == "depthwise":
        node = _depthwise(graph, where, kernel, key, rand, kernel.shape[kout] // groups, tuple(roles))
    else:
        node = use(graph, where, kernel, key, pieces, tuple(roles))
    width = kernel.shape[kout] // groups if group == "own" else kernel.shape[kout]
    axes: list[Any] = [()] * len(image.shape)
    axes[outs[1]] = tuple(f for f in (*_groups(factors[channel], group), Factor("c", 0, width)) if f.size > 1)
    for j, d in enumerate(space):
        axes[outs[2 + j]] = tuple(f._replace(size=node.index[f.place]) for f in factors[d])
        if factors[d] and node.index[factors[d][0].place] == 1:
            axes[outs[2 + j]] = ()
    return [finished(where, node, kernel, axes, (width,) if width > 1 else ())]


def _groups(factors: tuple[Factor, ...], group: str) -> tuple[Factor, ...]:
    return factors[:1] if group == "own" else ()


def _image(where: Site, image: Det | Rand, channel: int, space: list[int], groups: int) -> Any:
    """The input of a convolution: random vectors, roles, factors, pieces and what a group is."""
    if isinstance(image, Rand):
        return _random_image(where, image, channel, groups)
    if groups == 1:
        rand, roles, factors, counted = _entering_det(where, image, (), (channel,), list(space))
        return rand, roles, list(factors), counted, "one"
    shape = (*image.shape[:channel], groups, image.shape[channel] // groups, *image.shape[channel + 1 :])
    places = [d if d < channel else d + 1 for d in space]
    rand, roles, factors, counted = _entering_det(where, reshaped(image, shape), (channel,), (channel + 1,), places)
    roles[factors[channel][0].place] = "own"
    merged = [*factors[:channel], factors[channel], *factors[channel + 2 :]]
    return rand, roles, merged, counted, "own"


def _random_image(where: Site, image: Rand, channel: int, groups: int) -> Any:
    total, roles = math.prod(image.channels), ["keep"] * len(image.node.index)
    places = [f for f in image.axes[channel] if f.kind == "i"]
    if total == 1 or any(f.kind == "b" for f in image.axes[channel]):
        _narrow(where)
    if len(image.pieces) > 1 and groups > 1:
        refuse(where, "it convolves concatenated channels in groups", "convolve before concatenating")
    require_all_heads(where, image, 0 if groups > 1 else len(image.channels))
    own = groups > 1 and len(places) == 1 and places[0] == image.axes[channel][0] and places[0].size == groups
    if places and groups > 1 and not own:
        refuse(where, "its groups are not those of its input", "use as many groups as before")
    for f in places:
        roles[f.place] = "own" if own else "sum"
    factors = list(image.axes)
    if own:
        factors[channel] = (places[0],)
    kind = "own" if own else "depthwise" if groups > 1 and groups == total else "one"
    return image, roles, factors, list(image.pieces), kind


def _window(p: Any, j: int, taps: int, out: int) -> Window:
    low, high = p["padding"][j]
    return Window(taps, p["window_strides"][j], low, high, p["lhs_dilation"][j], p["rhs_dilation"][j], out)


def _open(where: Site, rand: Rand, factors: Any, roles: list[Any], d: int, window: Window) -> int:
    """Let a window run along an axis."""
    here = factors[d]
    if len(here) == 1 and here[0].kind == "i":
        roles[here[0].place] = window
    elif here:
        refuse(where, "it convolves over a broadcast or a merged axis", "convolve before reshaping")
    elif window.out != 1 or not _hits(window):
        refuse(where, "it convolves over an axis of size one into a larger one", "tile the input first")
    return 1


def _hits(window: Window) -> bool:
    """Whether a window over a single place sees it."""
    return window.low % window.dilation == 0 and window.low // window.dilation < window.size


def _depthwise(
    graph: Graph, where: Site, kernel: Param, key: Key, rand: Rand, copies: int, roles: tuple[Any, ...]
) -> Node:
    """Each channel times weights of its own: a product, not a sum over channels."""
    base = rand.node
    node = use(graph, where, kernel, key, [(base, 1)], roles)
    leaves = node.leaves | base.leaves
    del copies
    return Use(
        where, node.index, leaves, True, False, node.zero,
        key=key, variance=kernel.leaf.variance, weight=kernel.leaf.weight, pieces=((base, 1),), roles=roles,
    )  # fmt: skip


__all__ = ["convolution", "dot", "times"]
