"""Scatters: sums of positions into known places, as messages along the edges of a graph are summed up."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.lax import GatherScatterMode

from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.flattening import flattened
from jaxtheory.infinite.layout import Rand, Value
from jaxtheory.infinite.nodes import AxisMap, Graph
from jaxtheory.infinite.reductions import move


def _scatter(graph: Graph, where: Site, equation: Any, values: list[Value], adds: bool = True) -> list[Value]:
    """Out of zeros, u at positions s becomes Σ_{s: place(s) = i} u_s at position i; a linear map along one axis."""
    operand, indices, updates = values
    numbers, shape = equation.params["dimension_numbers"], equation.outvars[0].aval.shape
    if not isinstance(updates, Rand) or not (isinstance(operand, Det) and _is_zero(operand)):
        refuse(where, "it changes random values in place", "scatter into zeros and add")
    if not isinstance(indices, Det) or indices.value is None:
        refuse(where, "where it adds depends on the example or is random", "use known edges")
    axis = int(numbers.inserted_window_dims[0]) if numbers.inserted_window_dims else -1
    plain = numbers.inserted_window_dims == numbers.scatter_dims_to_operand_dims == (axis,)
    scattered = [d for d in range(len(updates.shape)) if d not in numbers.update_window_dims]
    if not plain or len(scattered) != 1:
        refuse(where, "it scatters along several axes, or to one position", "scatter along one axis of positions")
    own = flattened(where, updates, scattered[0])
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
    how = AxisMap(name, partial(_summed, places=places, size=shape[axis]), shape[axis], unique)
    pieces = tuple((move(where, node, f.place, how), count) for node, count in own.pieces)
    axes = [own.axes[d] for d in numbers.update_window_dims]
    axes.insert(axis, (f._replace(size=shape[axis]),))
    return [Rand(pieces, tuple(axes), own.channels)]


def _is_zero(det: Det) -> bool:
    return det.value is not None and not np.any(np.asarray(det.value))


def _summed(array: Any, axis: int, _: Any, *, places: Any, size: int) -> Any:
    moved = jnp.moveaxis(array, axis, 0)
    zeros = jnp.zeros((size, *moved.shape[1:]), array.dtype)
    return jnp.moveaxis(zeros.at[places].add(moved, mode="drop"), 0, axis)


RULES: dict[str, Callable[..., list[Value]]] = {"scatter-add": _scatter, "scatter": partial(_scatter, adds=False)}
