"""Tiles: an array repeated along its axes, end to end."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Factor, Graph, Param, Value, flatten_axis, linear_map
from jaxtheory.infinite.graph.nodes import AxisMap, Shape
from jaxtheory.infinite.trace.rules import Rewriting, random_array
from jaxtheory.programs.calls import Equation


def tile(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value] | Rewriting:
    """Repeated places are a longer axis of places, repeated channels more pieces with the same averages."""
    value = values[0]
    if isinstance(value, Param):
        return Rewriting(
            jax.make_jaxpr(partial(_end_to_end, reps=equation.params["reps"]))(equation.invars[0].aval), values
        )
    value = random_array(where, value, "it repeats concatenated parameters", "repeat them one by one")
    for axis, times in enumerate(equation.params["reps"]):
        if times > 1:
            value = _along(where, value, axis, times)
    return [value]


def _end_to_end(array: jax.Array, *, reps: Shape) -> jax.Array:
    """A parameter repeated: broadcast where its axis has size one, concatenated elsewhere."""
    for axis, times in enumerate(reps):
        if array.shape[axis] == 1:
            array = jax.lax.broadcast_in_dim(array, _longer(array.shape, axis, times), range(array.ndim))
        elif times > 1:
            array = jax.lax.concatenate([array] * times, axis)
    return array


def _longer(shape: Shape, axis: int, times: int) -> Shape:
    return (*shape[:axis], shape[axis] * times, *shape[axis + 1 :])


def _along(where: Site, rand: ChannelArray, axis: int, times: int) -> ChannelArray:
    rand = flatten_axis(where, rand, axis)
    factors = rand.axes[axis]
    kinds = [f.kind for f in factors]
    if kinds in ([], ["b"]):
        return _with(rand, axis, Factor("b", 0, rand.shape[axis] * times))
    if kinds == ["i"]:
        f = factors[0]
        how = AxisMap(("repeat", False), partial(_repeat_places, times=times), f.size * times, True)
        pieces = tuple((linear_map(where, node, f.place, how), count) for node, count in rand.pieces)
        return _with(rand._replace(pieces=pieces), axis, f._replace(size=f.size * times))
    if kinds == ["c"] and len(rand.channels) == 1:
        total = rand.channels[0] * times
        return _with(ChannelArray(rand.pieces * times, rand.axes, (total,)), axis, Factor("c", 0, total))
    refuse(where, "it repeats a merged axis, or one of several axes of channels", "repeat before reshaping")


def _with(rand: ChannelArray, axis: int, factor: Factor) -> ChannelArray:
    """The array with another factor on one axis."""
    return rand._replace(axes=(*rand.axes[:axis], (factor,), *rand.axes[axis + 1 :]))


def _repeat_places(array: Numbers, axis: int, _: Numbers | None, *, times: int) -> jax.Array:
    return jnp.concatenate([array] * times, axis)
