"""Keys times values summed over tokens, as linear attention writes it: φ(q) (φ(k)ᵀ v) is (φ(q) φ(k)ᵀ) v.

A causal sum, by `cumsum`, is a mask of those scores.

A matrix of channels by channels is no average over channels. It is kept as its two factors until it is multiplied by a
third array along the channels of one of them, which gives a sum over channels first.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax import lax

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Graph, Outer, Running, Value
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Deterministic, Shape
from jaxtheory.infinite.trace.rules import Dimensions, Rewriting, dot_dimensions
from jaxtheory.programs.calls import Equation

_SAME = ("copy", "copy_p", "convert_element_type")
_RESHAPES = ("reshape", "squeeze", "expand_dims")
_REASON = "it is given a matrix of channels by channels, which is no average over channels"
_HINT = "multiply queries by it at once, add over tokens by cumsum, or write (q @ k.T) @ v"


def outer(where: Site, equation: Equation, values: Sequence[Value]) -> Outer | None:
    """The product of two arrays summed over tokens alone, of which both keep channels; None for any other product."""
    left, right = values
    if not (isinstance(left, ChannelArray) and isinstance(right, ChannelArray)):
        return None
    dims = dot_dimensions(equation)
    sides = list(zip((left, right), dims, strict=True))
    summed = [f.kind for rand, side in sides for d in side.contracted for f in rand.axes[d]]
    kept = [any(f.kind == "c" for d in side.free(len(rand.axes)) for f in rand.axes[d]) for rand, side in sides]
    if "c" in summed or not all(kept):
        return None
    if left.node.drawn or right.node.drawn:
        refuse(where, _REASON, _HINT)
    labels, out = _labels(dims, (left.shape, right.shape))
    return Outer(left, right, labels[0], labels[1], out, ())


def outer_of_factors(where: Site, left: ChannelArray, right: ChannelArray) -> Outer | None:
    """An elementwise product of arrays whose channels are on different axes; None where they are on one."""
    own = [{d for d, fs in enumerate(rand.axes) if any(f.kind == "c" for f in fs)} for rand in (left, right)]
    if len(left.axes) != len(right.axes) or not all(own) or own[0] & own[1]:
        return None
    if left.node.drawn or right.node.drawn:
        refuse(where, _REASON, _HINT)
    rank, narrow = len(left.axes), []
    for rand in (left, right):
        axes = tuple(() if all(f.kind == "b" for f in factors) else factors for factors in rand.axes)
        narrow.append(rand._replace(axes=axes))
    labels = [
        tuple(d if m > 1 or other == 1 else (1 + side) * rank + d for d, (m, other) in enumerate(sizes))
        for side, sizes in enumerate(_pairs(narrow))
    ]
    sizes = [max(pair) for pair in zip(left.shape, right.shape, strict=True)]
    alone = [d for d, m in enumerate(sizes) if m > 1 and all(rand.shape[d] == 1 for rand in narrow)]
    if alone:
        refuse(where, _REASON, _HINT)
    return Outer(narrow[0], narrow[1], labels[0], labels[1], tuple(range(rank)), ())


def _pairs(arrays: Sequence[ChannelArray]) -> list[list[tuple[int, int]]]:
    """Sizes of each array's axes with those of the other."""
    one, two = (rand.shape for rand in arrays)
    return [list(zip(one, two, strict=True)), list(zip(two, one, strict=True))]


def _labels(dims: tuple[Dimensions, Dimensions], shapes: tuple[Shape, Shape]) -> tuple[list[tuple[int, ...]], Shape]:
    """A number for each axis of both operands, one where they run together or are summed over, and of the result."""
    (left, right), names = dims, [[-1] * len(shape) for shape in shapes]
    pairs = [*zip(left.batch, right.batch, strict=True), *zip(left.contracted, right.contracted, strict=True)]
    for label, axes in enumerate(pairs):
        names[0][axes[0]] = names[1][axes[1]] = label
    count = len(pairs)
    free: tuple[list[int], list[int]] = ([], [])
    for side, shape, own, mine in zip(dims, shapes, names, free, strict=True):
        for d in side.free(len(shape)):
            own[d] = count
            mine.append(count)
            count += 1
    batch = [names[0][d] for d in left.batch]
    return [tuple(own) for own in names], (*batch, *free[0], *free[1])


def of_outer(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value] | Rewriting:
    """An operation on such a matrix: transposed, times a number, or multiplied by queries."""
    name, place = equation.primitive.name, next(i for i, v in enumerate(values) if isinstance(v, Outer))
    given = values[place]
    assert isinstance(given, Outer)
    if name in _SAME:
        return [given]
    if name == "transpose":
        return [given._replace(out=tuple(given.out[d] for d in equation.params["permutation"]))]
    if name in _RESHAPES:
        kept = _without_ones(given, equation.outvars[0].aval.shape)
        if kept is not None:
            return [kept]
    if name == "cumsum":
        summed = _summed_along(given, equation.params["axis"], reverse=equation.params["reverse"])
        if summed is not None:
            return [summed]
    others = [v for i, v in enumerate(values) if i != place]
    if name == "mul" or (name == "div" and place == 0):
        factor = only(Deterministic, others)
        if factor and math.prod(factor[0].shape) == 1:
            return [given._replace(factors=(*given.factors, (name, factor[0])))]
    if name == "dot_general" and isinstance(others[0], ChannelArray):
        return _times(where, equation, given, others[0], place)
    refuse(where, _REASON, _HINT)


def _summed_along(given: Outer, axis: int, *, reverse: bool) -> Outer | None:
    """With a running sum along an axis of tokens, as causal linear attention has it; None for any other axis."""
    label = given.out[axis]
    if given.running or label not in given.left_axes or label not in given.right_axes:
        return None
    fresh = max((*given.left_axes, *given.right_axes)) + 1
    out = tuple(fresh if d == axis else other for d, other in enumerate(given.out))
    return given._replace(out=out, running=(Running(fresh, label, reverse),))


def _without_ones(given: Outer, shape: Shape) -> Outer | None:
    """With other axes of size one, which have negative labels that the factors do not have; None for other reshapes."""
    wide = [label for label, m in zip(given.out, given.shape, strict=True) if m > 1]
    if [m for m in given.shape if m > 1] != [m for m in shape if m > 1]:
        return None
    return given._replace(out=tuple(-1 - d if m == 1 else wide.pop(0) for d, m in enumerate(shape)))


def _times(where: Site, equation: Equation, given: Outer, rand: ChannelArray, place: int) -> Rewriting:
    """A product along the channels of one of the factors: with this one first, then with the other."""
    dims = dot_dimensions(equation)
    own, other = dims[place], dims[1 - place]
    along = {given.out[d] for d in own.contracted if given.out[d] >= 0}
    first = given.left_axes if along <= {*given.left_axes} - {*given.right_axes} else given.right_axes
    second = given.right_axes if first is given.left_axes else given.left_axes
    if not along <= {*first} - {*second}:
        refuse(where, _REASON, _HINT)
    fresh = max((*given.left_axes, *given.right_axes, *given.out)) + 1
    names = {d: fresh + k for k, d in enumerate(other.free(len(rand.shape)))}
    pairs = [*zip(other.batch, own.batch, strict=True), *zip(other.contracted, own.contracted, strict=True)]
    names |= {d: given.out[e] for d, e in pairs}
    queries = tuple(names[d] for d in range(len(rand.shape)))
    if any(run.out not in queries or run.out in along for run in given.running):
        refuse(where, _REASON, "multiply the running sum at each token by the query of that token")
    free = [[queries[d] for d in other.free(len(queries))], [given.out[d] for d in own.free(len(given.out))]]
    result = [*(given.out[d] for d in own.batch), *(free[0] + free[1] if place else free[1] + free[0])]

    def program(q: jax.Array, a: jax.Array, b: jax.Array, *factors: jax.Array) -> jax.Array:
        between = [x for x in dict.fromkeys((*queries, *first)) if x not in along]
        scores = _product(q, queries, a, first, between)
        for (kind, _), factor in zip(given.factors, factors, strict=True):
            number = lax.broadcast_in_dim(lax.reshape(factor, ()), scores.shape, ())
            scores = lax.mul(scores, number) if kind == "mul" else lax.div(scores, number)
        for run in given.running:
            scores = lax.mul(scores, _before(run, between, scores))
        return _product(scores, between, b, second, result)

    one, two = (given.left, given.right) if first is given.left_axes else (given.right, given.left)
    inputs: list[Value] = [rand, one, two, *(factor for _, factor in given.factors)]
    dtype = equation.outvars[0].aval.dtype
    return Rewriting(jax.make_jaxpr(program)(*(jax.ShapeDtypeStruct(v.shape, dtype) for v in inputs)), inputs)


def _before(run: Running, labels: Sequence[int], scores: jax.Array) -> jax.Array:
    """One where a running sum has the token, zero elsewhere."""
    axes = (labels.index(run.out), labels.index(run.summed))
    now, then = (lax.broadcasted_iota(np.int32, scores.shape, axis) for axis in axes)
    return (now <= then if run.reverse else now >= then).astype(scores.dtype)


def _product(a: jax.Array, of_a: Sequence[int], b: jax.Array, of_b: Sequence[int], out: Sequence[int]) -> jax.Array:
    """Σ a b over the labelled axes that the result has not; what only one has, and not the result, is of size one."""
    sizes = dict(zip((*of_a, *of_b), (*a.shape, *b.shape), strict=True))
    gone = [x for x in of_a if x in of_b and x not in out]
    ones = [x for x in gone if sizes[x] == 1][: max(len(gone) - 1, 0)]  # one axis is left to sum over
    a, of_a = _squeeze(a, of_a, [x for x in of_a if x in ones or x not in (*of_b, *out)])
    b, of_b = _squeeze(b, of_b, [x for x in of_b if x in ones or x not in (*of_a, *out)])
    common = [x for x in of_a if x in of_b]
    batch, summed = ([x for x in common if (x in out) is kept] for kept in (True, False))
    contracted, together = (
        ([of_a.index(x) for x in group], [of_b.index(x) for x in group]) for group in (summed, batch)
    )
    found = [*batch, *(x for x in of_a if x not in common), *(x for x in of_b if x not in common)]
    product = lax.dot_general(a, b, (contracted, together))
    new = [x for x in out if x not in found]
    product = lax.expand_dims(product, range(len(found), len(out))) if new else product
    found += new
    return product if found == [*out] else lax.transpose(product, [found.index(x) for x in out])


def _squeeze(array: jax.Array, labels: Sequence[int], gone: Sequence[int]) -> tuple[jax.Array, Sequence[int]]:
    """Without some of its axes, of size one."""
    if not gone:
        return array, labels
    return lax.squeeze(array, [labels.index(x) for x in gone]), [x for x in labels if x not in gone]
