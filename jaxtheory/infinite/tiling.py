"""Tiles: an array repeated along its axes, end to end."""

from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.flattening import flattened
from jaxtheory.infinite.layout import Factor, Rand, Value
from jaxtheory.infinite.nodes import AxisMap, Graph
from jaxtheory.infinite.reductions import move


def tile(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    """Repeated places are a longer axis of places, repeated channels more pieces with the same averages."""
    value = values[0]
    if not isinstance(value, Rand):
        refuse(where, "it repeats a parameter", "add or contract the parameter first")
    for axis, times in enumerate(equation.params["reps"]):
        if times > 1:
            value = _along(where, value, axis, times)
    return [value]


def _along(where: Site, rand: Rand, axis: int, times: int) -> Rand:
    rand = flattened(where, rand, axis)
    factors = rand.axes[axis]
    kinds = [f.kind for f in factors]
    if kinds in ([], ["b"]):
        return _with(rand, axis, Factor("b", 0, rand.shape[axis] * times))
    if kinds == ["i"]:
        f = factors[0]
        how = AxisMap(("repeat", False), partial(_repeated, times=times), f.size * times, True)
        pieces = tuple((move(where, node, f.place, how), count) for node, count in rand.pieces)
        return _with(rand._replace(pieces=pieces), axis, f._replace(size=f.size * times))
    if kinds == ["c"] and len(rand.channels) == 1:
        total = rand.channels[0] * times
        return _with(Rand(rand.pieces * times, rand.axes, (total,)), axis, Factor("c", 0, total))
    refuse(where, "it repeats a merged axis, or one of several axes of channels", "repeat before reshaping")


def _with(rand: Rand, axis: int, factor: Factor) -> Rand:
    """The array with another factor on one axis."""
    return rand._replace(axes=(*rand.axes[:axis], (factor,), *rand.axes[axis + 1 :]))


def _repeated(array: Any, axis: int, _: Any, *, times: int) -> Any:
    return jnp.concatenate([array] * times, axis)
