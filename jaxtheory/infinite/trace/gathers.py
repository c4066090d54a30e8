"""Gathers: rows of an embedding, and known places of a random array."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ONE,
    ChannelArray,
    Factor,
    Graph,
    Param,
    Value,
    derive,
    flatten_axis,
    linear_map,
    reshape,
    spread,
    views,
)
from jaxtheory.infinite.graph.nodes import AxisMap, Deterministic, Embedding
from jaxtheory.infinite.graph.views import Key
from jaxtheory.programs.calls import Equation

REORDERED = "; leave out an order of channels that only layers of weights follow, which are independent in any order"


def gather(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    """Rows of a table for tokens; places of a random array, at known indices along one axis."""
    value, where_from = values
    if not isinstance(where_from, Deterministic):
        refuse(where, "which entries it takes is random", "use indices that the input determines")
    if isinstance(value, Param):
        return [_lookup(graph, where, equation, value, where_from)]
    assert isinstance(value, ChannelArray)
    return [_take(where, equation, value, where_from)]


def _take(where: Site, equation: Equation, value: ChannelArray, indices: Deterministic) -> ChannelArray:
    """Places at known indices along one axis, as nearest-neighbour resizing takes them."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axis = int(numbers.start_index_map[0])
    value = flatten_axis(where, value, axis)
    whole = tuple(1 if d == axis else m for d, m in enumerate(value.shape))
    plain = numbers.collapsed_slice_dims == numbers.start_index_map == (axis,) and tuple(sizes) == whole
    if not plain or len(indices.shape) > 2 or indices.value is None or [f.kind for f in value.axes[axis]] != ["i"]:
        reason = "it gathers random values at places that depend on the example, of channels, or along several axes"
        hint = "take known places along one axis of places, or multiply by a 0-1 matrix"
        refuse(where, reason, hint + (REORDERED if any(f.kind == "c" for f in value.axes[axis]) else ""))
    chosen = np.broadcast_to(np.asarray(indices.value), indices.shape).ravel()
    if chosen.min() < 0 or chosen.max() >= value.shape[axis]:
        refuse(where, "it gathers places that are not there", "clip the indices")
    f = value.axes[axis][0]
    how = AxisMap(("take", tuple(chosen.tolist())), partial(_take_places, places=chosen), len(chosen), True)
    pieces = tuple((linear_map(where, node, f.place, how), count) for node, count in value.pieces)
    axes = [factors for d, factors in enumerate(value.axes) if d != axis]
    out = range(len(equation.outvars[0].aval.shape))
    for d in (d for d in out if d not in numbers.offset_dims):
        axes.insert(d, (f._replace(size=len(chosen)),) if len(chosen) > 1 else ())
    return ChannelArray(pieces, tuple(axes), value.channels)


def _take_places(array: Numbers, axis: int, _: Numbers | None, *, places: np.ndarray) -> jax.Array:
    return jnp.take(jnp.asarray(array), places, axis)


def _lookup(graph: Graph, where: Site, equation: Equation, table: Param, indices: Deterministic) -> ChannelArray:
    """Rows of a table, one for each token, also as slices of one row (as `vmap` makes them of `table[token]`)."""
    p = equation.params
    numbers, shape = p["dimension_numbers"], equation.outvars[0].aval.shape
    rank, rows = len(shape), numbers.start_index_map
    row_axes = () if numbers.collapsed_slice_dims == (0,) else (rank - 2,)
    plain = len(table.shape) == 2 and p["slice_sizes"] == (1, *table.shape[1:]) and numbers.offset_dims[-1] == rank - 1
    plain = plain and 0 in rows and not numbers.operand_batching_dims and len(numbers.offset_dims) == 1 + len(row_axes)
    if not plain or table.scale is not ONE or not views.is_zero(table.leaf.mean):
        refuse(
            where, "only rows of a plain, centered table are looked up", "use table[tokens] with a table of two axes"
        )
    places = [d for d in range(rank - 1) if shape[d] > 1]
    index = tuple(shape[d] for d in places)
    tokens = reshape(_component(indices, rows.index(0)), index)
    tokens = spread((tokens,), index, lambda v: jnp.broadcast_to(v[0], index))
    key = Key(table.leaf.number, table.offset, table.loops, table.axes[1], (table.axes[0],))
    leaf = table.leaf
    node = Embedding(
        where, index, graph.bit(key), True, True, key=key, variance=leaf.variance, weight=leaf.weight, tokens=tokens
    )
    axes = [(Factor("i", places.index(d), shape[d]),) if d in places else () for d in range(rank - 1)]
    return ChannelArray(((node, shape[-1]),), (*axes, (Factor("c", 0, shape[-1]),)), (shape[-1],))


def _component(indices: Deterministic, place: int) -> Deterministic:
    """One of the numbers that an index is made of, along the last axis."""
    at = 0 if indices.uniform[-1] else place
    return derive((indices,), indices.shape[:-1], indices.uniform[:-1], lambda v: jnp.asarray(v[0])[..., at])
