"""Tiles: an array repeated along its axes, end to end."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Factor, Graph, Value, flatten_axis, linear_map
from jaxtheory.infinite.graph.nodes import AxisMap
from jaxtheory.infinite.trace.rules import random_array
from jaxtheory.programs.calls import Equation


def tile(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    """Repeated places are a longer axis of places, repeated channels more pieces with the same averages."""
    value = random_array(where, values[0], "it repeats a parameter", "add or contract the parameter first")
    for axis, times in enumerate(equation.params["reps"]):
        if times > 1:
            value = _along(where, value, axis, times)
    return [value]


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
