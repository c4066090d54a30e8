"""Elementwise operations: sums stay sums, products stay products, and the rest are functions of one Gaussian."""

import functools
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite import masks
from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.coordinates import joint
from jaxtheory.infinite.determined import ELEMENTWISE, Det, bind, derived, known, reshaped
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.expressions import Expression, bound, constant
from jaxtheory.infinite.fields import field
from jaxtheory.infinite.layout import Layout, Rand, Value, meeting, multiplied, placed, times
from jaxtheory.infinite.nodes import Graph, Node, combination
from jaxtheory.infinite.sources import Source
from jaxtheory.infinite.views import Param

NAMES = ELEMENTWISE
_SAME = ("copy", "copy_p", "reduce_precision", "optimization_barrier", "convert_element_type")


def elementwise(graph: Graph, where: Site, equation: Any, values: list[Value]) -> Value:
    """The output of an elementwise equation with a random or trainable operand."""
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name in _SAME and (name != "convert_element_type" or _real_to_real(equation)):
        return values[0]
    sources = [v.source if isinstance(v, Det) and v.random else None for v in values]
    if any(sources) and not any(isinstance(v, Rand) for v in values):
        refuse(where, "it draws with a key numbers for parameters", "draw them for activations, as dropout does")
    rescaled = _rescaled(name, values, out.shape)
    if rescaled is not None:
        return rescaled
    layout = meeting(where, [_as_drawn(v, s) for v, s in zip(values, sources, strict=True)], out.shape)
    pieces = []
    for segment in _segments(values, layout):
        operands = [
            masks.mask(graph, where, s, layout, segment) if s else placed(graph, where, v, layout, segment)
            for v, s in zip(values, sources, strict=True)
        ]
        if name == "select_n" and sources[0]:
            pieces.append((masks.chosen(graph, where, sources[0], operands[1:], layout, segment), segment[1]))
            continue
        if any(
            isinstance(v, Det) and v.value is not None and isinstance(x, n.Fixed)
            for v, x in zip(values, operands, strict=True)
        ):
            graph.constants.append(where)
        node = combined(graph, where, equation, operands, layout)
        pieces.append((node, segment[1]))
    return Rand(tuple(pieces), layout.axes, layout.channels)


def _as_drawn(value: Value, source: Source | None) -> Value:
    """What a program draws, as a quantity that is uniform only along axes without draws of their own."""
    if source is None or not isinstance(value, Det):
        return value
    return Det(value.shape, tuple(not own for own in source.own), (), None)


def _real_to_real(equation: Any) -> bool:
    """Whether a conversion leaves numbers what they are; comparisons that become numbers are functions."""
    kinds = (equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype)
    return all(jnp.issubdtype(kind, jnp.floating) for kind in kinds)


def _segments(values: list[Value], layout: Layout) -> list[tuple[int, int]]:
    """Start and size of each run of channels that is of one kind in every operand."""
    edges = {0}
    for value in values:
        if isinstance(value, Rand):
            edges |= set(np.cumsum([count for _, count in value.pieces]).tolist())
    total = int(np.prod(layout.channels, dtype=int))
    marks = sorted(edges | {total})
    return [(a, b - a) for a, b in itertools.pairwise(marks)]


def _rescaled(name: str, values: list[Value], shape: tuple[int, ...]) -> Value | None:
    """A parameter times something deterministic stays a parameter."""
    params = [v for v in values if isinstance(v, Param)]
    others = [v for v in values if not isinstance(v, Param)]
    if len(params) != 1 or not all(isinstance(v, Det) for v in others) or name not in ("mul", "div", "neg"):
        return None
    if name == "div" and not isinstance(values[0], Param):
        return None
    factor = known(np.float32(-1.0)) if name == "neg" else others[0]
    assert isinstance(factor, Det)
    if name == "div":
        factor = derived((factor,), factor.shape, factor.uniform, lambda v: 1 / jnp.asarray(v[0]))
    param = params[0]
    axes = (
        tuple(_widened(parts, m) for parts, m in zip(param.axes, shape, strict=True))
        if param.axes
        else ((),) * len(shape)
    )
    return param._replace(axes=axes, scale=_scale(param.scale, factor, shape))


def _widened(parts: Any, extent: int) -> Any:
    return ((extent, 0),) if not parts and extent > 1 else parts


def _scale(scale: Det | None, factor: Det, shape: tuple[int, ...]) -> Det:
    if factor.scalar and (scale is None or scale.scalar):
        one = reshaped(
            Det((1,) * len(factor.shape), (True,) * len(factor.shape), factor.needs, factor.make, factor.value), ()
        )
        return one if scale is None else times_scalar(scale, one)
    wide = factor if factor.shape else _filled(factor, shape)
    if scale is None:
        return wide
    other = scale if scale.shape else _filled(scale, shape)
    both = tuple(a and b for a, b in zip(wide.uniform, other.uniform, strict=True))
    return derived((wide, other), shape, both, lambda v: jnp.asarray(v[0]) * jnp.asarray(v[1]))


def _filled(det: Det, shape: tuple[int, ...]) -> Det:
    return derived((det,), shape, (True,) * len(shape), lambda v: jnp.asarray(v[0]).reshape((1,) * len(shape)))


def times_scalar(a: Det, b: Det) -> Det:
    """The product of two scalars."""
    return derived((a, b), (), (), lambda v: jnp.asarray(v[0]).reshape(()) * jnp.asarray(v[1]).reshape(()))


def combined(graph: Graph, where: Site, equation: Any, operands: list[Node | Det], layout: Layout) -> Node:
    """One run of channels of the output."""
    name = equation.primitive.name
    index = _index(operands, layout.rank)
    operands = [_settled(x) for x in operands]
    if all(isinstance(x, Det) for x in operands):
        number = derived(tuple(operands), index, tuple(m == 1 for m in index), lambda v: _bound(equation, v))
        return combination(where, index, [(number, None)])
    if name in ("add", "add_any", "sub", "neg"):
        signs = [1.0, -1.0] if name == "sub" else [-1.0] if name == "neg" else [1.0, 1.0]
        return combination(where, index, [_term(s, x) for s, x in zip(signs, operands, strict=True)])
    if name == "mul":
        return _multiplied(graph, where, operands)
    if name == "div" and isinstance(operands[1], Det):
        d = operands[1]
        return _multiplied(
            graph, where, [operands[0], derived((d,), d.shape, d.uniform, lambda v: 1 / jnp.asarray(v[0]))]
        )
    if name == "square" or (name == "integer_pow" and equation.params["y"] == 2):
        assert isinstance(operands[0], Node)
        return multiplied(graph, where, operands[0], operands[0])
    if name == "stop_gradient":
        x = operands[0]
        assert isinstance(x, Node)
        return n.Stopped(where, x.index, x.leaves, x.centred, x.gaussian, x.zero, child=x)
    if name == "select_n" and isinstance(operands[0], Det):
        return _selected(where, index, operands)
    return _function(graph, where, equation, operands)


def _settled(x: Node | Det) -> Node | Det:
    """Parameters that do not vary, such as running averages, as the numbers that they are."""
    if not (isinstance(x, n.Sum) and all(node is None for _, node in x.terms)):
        return x
    numbers = (known(np.zeros((1,) * len(x.index), np.float32)), *(c for c, _ in x.terms if c is not None))
    return derived(numbers, x.index, tuple(m == 1 for m in x.index), lambda v: functools.reduce(jnp.add, v))


def _bound(equation: Any, values: list[Any]) -> Any:
    """An elementwise equation on numbers of one rank, whose axes of size one are broadcast."""
    arrays = [jnp.asarray(v) for v in values]
    shape = jnp.broadcast_shapes(*(a.shape for a in arrays))
    return bind(equation, [jnp.broadcast_to(a, shape) for a in arrays])[0]


def _index(operands: list[Node | Det], rank: int) -> tuple[int, ...]:
    shapes = [x.index if isinstance(x, Node) else x.shape for x in operands]
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True)) if rank else ()


def _term(sign: float, x: Node | Det) -> tuple[Det | None, Node | None]:
    if isinstance(x, Node):
        return (None if sign == 1.0 else known(np.full((1,) * len(x.index), sign)), x)
    return (x if sign == 1.0 else derived((x,), x.shape, x.uniform, lambda v: -jnp.asarray(v[0])), None)


def _multiplied(graph: Graph, where: Site, operands: list[Node | Det]) -> Node:
    a, b = operands
    if isinstance(a, Node) and isinstance(b, Node):
        return multiplied(graph, where, a, b)
    if isinstance(a, Det) and isinstance(b, Node):
        a, b = b, a
    assert isinstance(a, Node)
    assert isinstance(b, Det)
    index = tuple(max(n, m) for n, m in zip(a.index, b.shape, strict=True))
    return n.scaled(where, b, a, index)


def _selected(where: Site, index: tuple[int, ...], operands: list[Node | Det]) -> Node:
    choice, *cases = operands
    assert isinstance(choice, Det)
    terms: list[tuple[Det | None, Node | None]] = []
    for i, case in enumerate(cases):
        here = derived((choice,), choice.shape, choice.uniform, lambda v, i=i: (jnp.asarray(v[0]) == i) * np.float32(1))
        if isinstance(case, Node):
            terms.append((here, case))
        elif not (case.value is not None and not np.any(np.asarray(case.value))):
            product = times(where, here, case)
            assert isinstance(product, Det)
            terms.append((product, None))
    return combination(where, index, terms)


def _function(graph: Graph, where: Site, equation: Any, operands: list[Node | Det]) -> Node:
    arguments: list[Node | Expression] = []
    for x in operands:
        if isinstance(x, Det):
            if x.value is None or not x.scalar:
                drawn = _field(graph, where, equation, operands)
                if drawn is not None:
                    return drawn
                reason = "it mixes a random value with a number that depends on the example or the place"
                refuse(where, reason, "add or multiply such numbers, which is linear, before the layer's weights")
            arguments.append(constant(np.asarray(x.value).reshape(())))
        else:
            arguments.append(x)
    build = lambda es: bound(equation.primitive, equation.params, tuple(es))  # noqa: E731
    made = n.function(where, arguments, build)
    if made is not None:
        return made
    several: Node | None = joint(graph, where, arguments, build)
    if several is None:
        several = _field(graph, where, equation, operands)
    if several is None or not graph.draws:
        if graph.constants and any(isinstance(x, Node) and _holds_numbers(x) for x in operands):
            reason = "it is given known numbers that differ between channels"
            refuse(where, reason, "leave out a mask, and make other such numbers parameters")
        reason = (
            "its operands are not functions of one Gaussian value (a nonlinearity of a product, or of a sum with one)"
        )
        opt_in = "" if several is None else ", or draw its channels: pass monte_carlo=MonteCarlo(key)"
        refuse(where, reason, "put a layer of weights between the two nonlinearities" + opt_in)
    return several


def _field(graph: Graph, where: Site, equation: Any, operands: list[Node | Det]) -> Node | None:
    """The function of nodes and known numbers, position by position, where it is drawn."""
    nodes = tuple(x for x in operands if isinstance(x, Node))
    if any(isinstance(x, Det) and x.value is None for x in operands):
        return None

    def make(arrays: list[Any]) -> Any:
        given = iter(arrays)
        values = [next(given) if isinstance(x, Node) else x.value for x in operands]
        return jnp.broadcast_to(_bound(equation, values), index)

    index = _index(operands, len(nodes[0].index))
    return field(graph, where, nodes, index, make)


def _holds_numbers(node: Node) -> bool:
    """Whether known numbers that differ between channels enter a node channel by channel."""
    stack, seen = [node], set()
    while stack:
        here = stack.pop()
        if isinstance(here, n.Fixed) and here.det.value is not None:
            return True
        if here.number not in seen:
            seen.add(here.number)
            stack += here.parts
    return False
