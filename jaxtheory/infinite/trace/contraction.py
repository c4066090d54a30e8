"""Where weights meet channels: matrix products and convolutions, and averages of products of channels."""

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ChannelArray,
    Factor,
    Graph,
    Param,
    Value,
    full,
    linear_map,
    regroup,
    reshape,
    scale,
    spread,
)
from jaxtheory.infinite.graph.nodes import AxisMap, Deterministic
from jaxtheory.infinite.trace.grouped import with_heads_of_both
from jaxtheory.infinite.trace.inner_products import inner
from jaxtheory.infinite.trace.kinks import differentiable_once
from jaxtheory.infinite.trace.layers import dense
from jaxtheory.infinite.trace.outer import outer
from jaxtheory.infinite.trace.rewriting import product_and_sum
from jaxtheory.infinite.trace.rules import Dimensions, Rewriting, dot_dimensions
from jaxtheory.programs.calls import Equation


def dot(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value] | Rewriting:
    """dot_general: with a weight, of two random arrays over channels, or with a deterministic matrix over places."""
    (left, right), (of_left, of_right) = values, dot_dimensions(equation)
    if _each_channel_alone(left, of_left, right) or _each_channel_alone(right, of_right, left):
        return product_and_sum(equation, values, one_by_one=True)
    if isinstance(right, Param) and isinstance(left, Deterministic | ChannelArray):
        return [dense(graph, where, left, right, of_left, of_right, weight_first=False)]
    if isinstance(left, Param) and isinstance(right, Deterministic | ChannelArray):
        return [dense(graph, where, right, left, of_right, of_left, weight_first=True)]
    kept = outer(where, equation, values)
    if kept is not None:
        return [kept]
    repeated = with_heads_of_both(graph, equation, values)
    if repeated is not None:
        return repeated
    if isinstance(left, ChannelArray) and isinstance(right, ChannelArray):
        return [inner(graph, where, left, right, of_left, of_right)]
    if isinstance(left, Deterministic) and isinstance(right, ChannelArray):
        return _times_matrix(where, equation, _Matrix(left, of_left, True), right, of_right)
    if isinstance(left, ChannelArray) and isinstance(right, Deterministic):
        return _times_matrix(where, equation, _Matrix(right, of_right, False), left, of_left)
    hint = (
        "apply them to the input one after the other; leave a normalization of weights out, with the variance that it"
    )
    refuse(where, "it multiplies two parameters", hint + " makes in the prior")


def _each_channel_alone(value: Value, dims: Dimensions, weight: Value) -> bool:
    """Whether all channels of a random array run along with a parameter: sums over places, in each channel its own."""
    if not (isinstance(value, ChannelArray) and isinstance(weight, Param)):
        return False
    summed = [f.kind for d in dims.contracted for f in value.axes[d]]
    free = [f.kind for d in dims.free(len(value.axes)) for f in value.axes[d]]
    return "c" not in (*summed, *free) and any(f.kind == "c" for d in dims.batch for f in value.axes[d])


class _Matrix(NamedTuple):
    """A deterministic operand of a product, and whether it is the left one."""

    det: Deterministic
    dims: Dimensions
    first: bool

    @property
    def free(self) -> list[int]:
        """Its axes that the other operand does not have."""
        return self.dims.free(len(self.det.shape))


def _times_matrix(
    where: Site, equation: Equation, matrix: _Matrix, rand: ChannelArray, dims: Dimensions
) -> list[Value] | Rewriting:
    """A product with one number scales, a matrix mixes places, any other array multiplies entries that are summed."""
    det = matrix.det
    if math.prod(det.shape) == 1 and not any(det.copies):
        number = reshape(det, (1,) * len(rand.node.index))
        pieces = tuple((scale(where, number, node, node.index), count) for node, count in rand.pieces)
        return [regroup(where, rand._replace(pieces=pieces), equation.outvars[0].aval.shape)]
    if any(det.copies) or _mixes(matrix, rand, dims):
        return [_mixture(where, matrix, rand, dims)]
    return product_and_sum(equation, [det, rand] if matrix.first else [rand, det])


def _mixes(matrix: _Matrix, rand: ChannelArray, dims: Dimensions) -> bool:
    """Whether a matrix, the same for all batch axes, acts along one axis of places, or has free axes of its own."""
    det = matrix.det
    batch = zip(matrix.dims.batch, dims.batch, strict=True)
    same = all(det.uniform[md] or rand.shape[d] == 1 for md, d in batch)
    one = len(dims.contracted) == 1 and [f.kind for f in rand.axes[dims.contracted[0]]] == ["i"]
    free = any(det.shape[d] > 1 for d in matrix.free)
    return bool(dims.contracted) and (free or (same and one))


def _mixture(where: Site, matrix: _Matrix, rand: ChannelArray, dims: Dimensions) -> ChannelArray:
    """Σ_s matrix[..., t, s] · rand[..., s, ...] over one index axis, as attention and fixed filters do."""
    det = matrix.det
    _require_one_matrix(where, matrix, rand, dims)
    free = _free_places(matrix)
    place = rand.axes[dims.contracted[0]][0].place
    out, source = det.shape[free[0]] if free else 1, det.shape[matrix.dims.contracted[0]]
    order = (*matrix.dims.batch, *matrix.free, *matrix.dims.contracted)

    def make(v: list[Numbers]) -> Numbers:
        sizes = enumerate(zip(det.uniform, det.shape, strict=True))
        alike = {*matrix.dims.batch, *matrix.free} - {*free}
        shape = tuple(1 if u and i in alike else m for i, (u, m) in sizes)
        return full(jnp.asarray(v[0]), shape).transpose(order).reshape((out, source))

    weights = replace(spread((det,), (out, source), make), copies=(any(det.copies),) * 2)  # one of those of all heads
    weights = differentiable_once(weights) if any(det.copies) else weights
    mixing = AxisMap(("mix", weights.number), _mix, out, False, weights)
    pieces = tuple((linear_map(where, node, place, mixing), count) for node, count in rand.pieces)
    alike = {d: (Factor("b", 0, det.shape[d]),) for d in matrix.free if det.shape[d] > 1}
    fresh = [(Factor("i", place, out),) if d in free else alike.get(d, ()) for d in matrix.free]
    kept = [rand.axes[d] for d in dims.free(len(rand.axes))]
    rest = [*fresh, *kept] if matrix.first else [*kept, *fresh]
    return ChannelArray(pieces, (*(rand.axes[d] for d in dims.batch), *rest), rand.channels)


def _free_places(matrix: _Matrix) -> list[int]:
    """The free axes of a matrix that are places; it is the same along all others."""
    wide = [d for d in matrix.free if matrix.det.shape[d] > 1]
    return [d for d in wide if not matrix.det.uniform[d]] or wide[-1:]


def _require_one_matrix(where: Site, matrix: _Matrix, rand: ChannelArray, dims: Dimensions) -> None:
    """Raise unless one matrix, or one for each head whose scores are drawn, mixes the places of one axis."""
    det, batch = matrix.det, list(zip(matrix.dims.batch, dims.batch, strict=True))
    if len(dims.contracted) != 1 or [f.kind for f in rand.axes[dims.contracted[0]]] != ["i"]:
        refuse(
            where, "a fixed matrix mixes channels, or several axes at once", "use it on one axis of places at a time"
        )
    heads = det.copies or (False,) * len(det.shape)
    alike = all(rand.axes[d] and rand.axes[d][0].kind in "cb" for md, d in batch if heads[md])
    if any(heads[d] for d in range(len(heads)) if d not in matrix.dims.batch) or not alike:
        refuse(where, "heads whose scores are drawn mix values that are not theirs", "give each head values of its own")
    if any(not det.uniform[md] and rand.shape[d] > 1 for md, d in batch):
        refuse(where, "the matrix that mixes places differs between heads or places", "use one for all of them")
    if len(_free_places(matrix)) > 1:
        refuse(where, "the matrix that mixes places has several free axes", "flatten them first")


def _mix(array: Numbers, axis: int, matrix: Numbers | None) -> jax.Array:
    assert matrix is not None
    moved = jnp.tensordot(jnp.asarray(matrix).astype(array.dtype), array, (1, axis), precision="highest")
    return jnp.moveaxis(moved, 0, axis)
