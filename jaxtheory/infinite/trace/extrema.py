"""Extrema and orders along positions: max-pooling, largest tokens, sorted positions. They are drawn."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Graph, Value, field_of, flatten_axis
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.graph.windows import Window, window_of
from jaxtheory.infinite.trace.rules import Rule, random_array
from jaxtheory.programs.calls import Equation

_REASON = "the largest of Gaussians is no function of one Gaussian"
_HINT = "replace it, e.g. by average pooling or a mean"
Operation = Callable[[jax.Array, tuple[int, ...]], jax.Array]  # of an array and its index axes
Running = Callable[..., jax.Array]  # as jax.lax.cummax
_OF_CHANNELS = (
    "replace it, e.g. by a mean; gates of a few experts, softmax over channels, stay random at any width: compute them"
    " from the input with known numbers, or give each channel a gate, sigmoid(h @ w)"
)
_DRAW = ", or draw it: pass monte_carlo=MonteCarlo(key)"


def _along(
    graph: Graph,
    where: Site,
    rand: ChannelArray,
    sizes: dict[int, int],
    operation: Operation,
    kept: bool = True,
) -> ChannelArray:
    """operation(array, index axes) along axes of the program, which get the given sizes or go."""
    for d in sizes:
        rand = flatten_axis(where, rand, d)
    places = {}
    for d in sizes:
        if any(f.kind == "c" for f in rand.axes[d]):
            refuse(where, "it compares or orders channels, which no average over channels determines", _OF_CHANNELS)
        if any(f.kind == "b" for f in rand.axes[d]):
            refuse(where, "it compares copies of one position", "compare before broadcasting")
        if rand.axes[d]:
            places[rand.axes[d][0].place] = sizes[d]
    pieces = tuple((_node(graph, where, node, places, operation), count) for node, count in rand.pieces)
    axes = [
        tuple(f._replace(size=sizes[d]) for f in factors if sizes[d] > 1) if d in sizes else factors
        for d, factors in enumerate(rand.axes)
    ]
    return ChannelArray(pieces, tuple(f for d, f in enumerate(axes) if kept or d not in sizes), rand.channels)


def _node(graph: Graph, where: Site, node: Node, places: dict[int, int], operation: Operation) -> Node:
    if not places:
        return node
    index = tuple(places.get(k, m) for k, m in enumerate(node.index))
    made = field_of(graph, where, (node,), index, lambda arrays: operation(arrays[0], tuple(places)))
    if made is None or not graph.draws:
        refuse(where, _REASON, _HINT + ("" if made is None else _DRAW))
    return made


def _reduce(graph: Graph, where: Site, equation: Equation, values: list[Value], largest: bool) -> list[Value]:
    rand = _random(where, values[0])
    operation = lambda array, axes: (jnp.max if largest else jnp.min)(array, axes, keepdims=True)  # noqa: E731
    return [_along(graph, where, rand, dict.fromkeys(equation.params["axes"], 1), operation, kept=False)]


def _pool(graph: Graph, where: Site, equation: Equation, values: list[Value], largest: bool) -> list[Value]:
    rand, p, out = _random(where, values[0]), equation.params, equation.outvars[0].aval.shape
    windows = [window_of(p, d, size, out[d]) for d, size in enumerate(p["window_dimensions"])]
    moving = {d: out[d] for d, window in enumerate(windows) if not window.trivial}
    for d in moving:
        rand = flatten_axis(where, rand, d)
    by_place = {rand.axes[d][0].place: windows[d] for d in moving if rand.axes[d]}
    return [_along(graph, where, rand, moving, partial(_extremum, by_place=by_place, largest=largest))]


def _extremum(array: jax.Array, axes: tuple[int, ...], *, by_place: dict[int, Window], largest: bool) -> jax.Array:
    still = Window(1, 1, 0, 0, 1, 1, 0)
    chosen = [by_place.get(k, still) for k in range(array.ndim)]
    start, compare = (-jnp.inf, jax.lax.max) if largest else (jnp.inf, jax.lax.min)
    return jax.lax.reduce_window(
        array,
        jnp.asarray(start, array.dtype),
        compare,
        [w.size for w in chosen],
        [w.stride for w in chosen],
        [(w.low, w.high) for w in chosen],
        [w.base for w in chosen],
        [w.dilation for w in chosen],
    )


def _sort(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    if len(values) > 1:
        refuse(where, "it sorts one array by another", "use sorted values alone")
    rand, d = _random(where, values[0]), equation.params["dimension"]
    return [_along(graph, where, rand, {d: rand.shape[d]}, lambda array, axes: jnp.sort(array, axes[0]))]


def _running(graph: Graph, where: Site, equation: Equation, values: list[Value], run: Running) -> list[Value]:
    rand, d, reverse = _random(where, values[0]), equation.params["axis"], equation.params["reverse"]
    return [_along(graph, where, rand, {d: rand.shape[d]}, lambda array, axes: run(array, axes[0], reverse=reverse))]


def _random(where: Site, value: Value) -> ChannelArray:
    return random_array(where, value, "it compares the entries of a parameter", "compare activations instead")


RULES: dict[str, Rule] = {
    "reduce_max": partial(_reduce, largest=True),
    "reduce_min": partial(_reduce, largest=False),
    "reduce_window_max": partial(_pool, largest=True),
    "reduce_window_min": partial(_pool, largest=False),
    "sort": _sort,
    "cummax": partial(_running, run=jax.lax.cummax),
    "cummin": partial(_running, run=jax.lax.cummin),
}
