"""Extrema and orders along positions: max-pooling, largest tokens, sorted positions. They are drawn."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.fields import field
from jaxtheory.infinite.flattening import flattened
from jaxtheory.infinite.layout import Rand, Value
from jaxtheory.infinite.nodes import Graph, Node

_REASON = "the largest of Gaussians is no function of one Gaussian"
_HINT = "replace it, e.g. by average pooling or a mean"
_DRAW = ", or draw it: pass monte_carlo=MonteCarlo(key)"


def _along(
    graph: Graph, where: Site, rand: Rand, sizes: dict[int, int], operation: Callable[..., Any], kept: bool = True
) -> Rand:
    """operation(array, index axes) along axes of the program, which get the given sizes or go."""
    for d in sizes:
        rand = flattened(where, rand, d)
    places = {}
    for d in sizes:
        if any(f.kind == "c" for f in rand.axes[d]):
            refuse(where, "it compares or orders channels, which no average over channels determines", _HINT)
        if any(f.kind == "b" for f in rand.axes[d]):
            refuse(where, "it compares copies of one position", "compare before broadcasting")
        if rand.axes[d]:
            places[rand.axes[d][0].place] = sizes[d]
    pieces = tuple((_node(graph, where, node, places, operation), count) for node, count in rand.pieces)
    axes = [
        tuple(f._replace(size=sizes[d]) for f in factors if sizes[d] > 1) if d in sizes else factors
        for d, factors in enumerate(rand.axes)
    ]
    return Rand(pieces, tuple(f for d, f in enumerate(axes) if kept or d not in sizes), rand.channels)


def _node(graph: Graph, where: Site, node: Node, places: dict[int, int], operation: Callable[..., Any]) -> Node:
    if not places:
        return node
    index = tuple(places.get(k, m) for k, m in enumerate(node.index))
    made = field(graph, where, (node,), index, lambda arrays: operation(arrays[0], tuple(places)))
    if made is None:
        refuse(where, _REASON, _HINT + ("" if graph.draws else _DRAW))
    return made


def _reduced(graph: Graph, where: Site, equation: Any, values: list[Value], largest: bool) -> list[Value]:
    rand = _random(where, values[0])
    operation = lambda array, axes: (jnp.max if largest else jnp.min)(array, axes, keepdims=True)  # noqa: E731
    return [_along(graph, where, rand, dict.fromkeys(equation.params["axes"], 1), operation, kept=False)]


def _pooled(graph: Graph, where: Site, equation: Any, values: list[Value], largest: bool) -> list[Value]:
    rand, p, out = _random(where, values[0]), equation.params, equation.outvars[0].aval.shape
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    windows = list(zip(*(p[name] for name in names), strict=True))
    plain = (1, 1, (0, 0), 1, 1)
    moving = {d: out[d] for d, w in enumerate(windows) if (*w[:2], tuple(w[2]), *w[3:]) != plain}
    for d in moving:
        rand = flattened(where, rand, d)
    by_place = {rand.axes[d][0].place: windows[d] for d in moving if rand.axes[d]}
    return [_along(graph, where, rand, moving, partial(_window, by_place=by_place, largest=largest))]


def _window(array: Any, axes: tuple[int, ...], *, by_place: dict[int, Any], largest: bool) -> Any:
    chosen = [by_place.get(k, (1, 1, (0, 0), 1, 1)) for k in range(array.ndim)]
    size, stride, padding, base, dilation = zip(*chosen, strict=True)
    start, compare = (-jnp.inf, jax.lax.max) if largest else (jnp.inf, jax.lax.min)
    return jax.lax.reduce_window(array, jnp.asarray(start, array.dtype), compare, size, stride, padding, base, dilation)


def _sorted(graph: Graph, where: Site, equation: Any, values: list[Value]) -> list[Value]:
    if len(values) > 1:
        refuse(where, "it sorts one array by another", "use sorted values alone")
    rand, d = _random(where, values[0]), equation.params["dimension"]
    return [_along(graph, where, rand, {d: rand.shape[d]}, lambda array, axes: jnp.sort(array, axes[0]))]


def _running(graph: Graph, where: Site, equation: Any, values: list[Value], run: Any) -> list[Value]:
    rand, d, reverse = _random(where, values[0]), equation.params["axis"], equation.params["reverse"]
    return [_along(graph, where, rand, {d: rand.shape[d]}, lambda array, axes: run(array, axes[0], reverse=reverse))]


def _random(where: Site, value: Value) -> Rand:
    if not isinstance(value, Rand):
        refuse(where, "it compares the entries of a parameter", "compare activations instead")
    return value


RULES: dict[str, Callable[..., list[Value]]] = {
    "reduce_max": partial(_reduced, largest=True),
    "reduce_min": partial(_reduced, largest=False),
    "reduce_window_max": partial(_pooled, largest=True),
    "reduce_window_min": partial(_pooled, largest=False),
    "sort": _sorted,
    "cummax": partial(_running, run=jax.lax.cummax),
    "cummin": partial(_running, run=jax.lax.cummin),
}
