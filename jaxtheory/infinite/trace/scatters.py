"""Scatters: sums of positions into known places, as messages along the edges of a graph are summed up."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import GatherScatterMode

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Graph, Value, flatten_axis, linear_map
from jaxtheory.infinite.graph.nodes import AxisMap, Deterministic
from jaxtheory.infinite.trace.rules import Rule
from jaxtheory.programs.calls import Equation


def _scatter(graph: Graph, where: Site, equation: Equation, values: list[Value], adds: bool = True) -> list[Value]:
    """Out of zeros, u at positions s becomes Σ_{s: place(s) = i} u_s at position i; a linear map along one axis."""
    operand, indices, updates = values
    numbers, shape = equation.params["dimension_numbers"], equation.outvars[0].aval.shape
    if not isinstance(updates, ChannelArray) or not (isinstance(operand, Deterministic) and operand.zero):
        refuse(where, "it changes random values in place", "scatter into zeros and add")
    if not isinstance(indices, Deterministic) or indices.value is None:
        refuse(where, "where it adds depends on the example or is random", "use known edges")
    axis = int(numbers.inserted_window_dims[0]) if numbers.inserted_window_dims else -1
    plain = numbers.inserted_window_dims == numbers.scatter_dims_to_operand_dims == (axis,)
    scattered = [d for d in range(len(updates.shape)) if d not in numbers.update_window_dims]
    if not plain or len(scattered) != 1:
        refuse(where, "it scatters along several axes, or to one position", "scatter along one axis of positions")
    own = flatten_axis(where, updates, scattered[0])
    if [f.kind for f in own.axes[scattered[0]]] != ["i"]:
        refuse(where, "it scatters channels", "multiply by a 0-1 matrix")
    f, places = own.axes[scattered[0]][0], np.broadcast_to(np.asarray(indices.value), indices.shape).ravel()
    if equation.params["mode"] == GatherScatterMode.CLIP:
        places = places.clip(0, shape[axis] - 1)
    places = np.where((places >= 0) & (places < shape[axis]), places, shape[axis])  # what is outside is dropped
    unique = len(np.unique(places)) == len(places)
    if not (adds or unique):
        refuse(where, "it sets a position twice", "add, or set each position once")
    name = ("scatter", tuple(places.tolist()), shape[axis])
    how = AxisMap(name, partial(_scatter_places, places=places, size=shape[axis]), shape[axis], unique)
    pieces = tuple((linear_map(where, node, f.place, how), count) for node, count in own.pieces)
    axes = [own.axes[d] for d in numbers.update_window_dims]
    axes.insert(axis, (f._replace(size=shape[axis]),))
    return [ChannelArray(pieces, tuple(axes), own.channels)]


def _scatter_places(array: Numbers, axis: int, _: Numbers | None, *, places: np.ndarray, size: int) -> jax.Array:
    moved = jnp.moveaxis(jnp.asarray(array), axis, 0)
    zeros = jnp.zeros((size, *moved.shape[1:]), array.dtype)
    return jnp.moveaxis(zeros.at[places].add(moved, mode="drop"), 0, axis)


RULES: dict[str, Rule] = {"scatter-add": _scatter, "scatter": partial(_scatter, adds=False)}
