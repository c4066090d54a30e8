"""Elementwise operations: sums stay sums, products stay products, and the rest are functions of one Gaussian."""

import itertools
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ONE,
    ChannelArray,
    Factors,
    Graph,
    Layout,
    Param,
    Segment,
    Value,
    combination,
    derive,
    field_of,
    function,
    inverse,
    joint,
    known,
    meeting,
    number,
    ones,
    product,
    scale,
)
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.bits import Source
from jaxtheory.infinite.graph.expressions import Expression, apply, constant, operation_of
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Deterministic, Node, Shape, Term
from jaxtheory.infinite.graph.views import Parts
from jaxtheory.infinite.trace import masks
from jaxtheory.infinite.trace.alignment import aligned, with_room
from jaxtheory.infinite.trace.arithmetic import ELEMENTWISE
from jaxtheory.infinite.trace.binding import bind_broadcast
from jaxtheory.infinite.trace.operands import Operand, place_value, refuse_weights
from jaxtheory.infinite.trace.outer import outer_of_factors
from jaxtheory.infinite.trace.rules import Rewriting, Rule
from jaxtheory.programs.calls import Equation

_OPT_IN = ", or draw its channels: pass monte_carlo=MonteCarlo(key)"
_SAME = ("copy", "copy_p", "reduce_precision", "optimization_barrier", "convert_element_type")


def elementwise(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value] | Rewriting:
    """The output of an elementwise equation with a random or trainable operand."""
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name in _SAME and (name != "convert_element_type" or _real_to_real(equation)):
        return values[:1]
    sources = [v.source if isinstance(v, Deterministic) and v.random else None for v in values]
    if any(sources) and not only(ChannelArray, values):
        refuse(where, "it draws with a key numbers for parameters", "draw them for activations, as dropout does")
    if name == "mul" and only(ChannelArray, values):
        graph.factors |= {v.leaf.path for v in only(Param, values) if sum(m > 1 for m in v.leaf.shape) < 2}
    rescaled = _scale_parameter(name, values, out.shape)
    if rescaled is not None:
        return [rescaled]
    rands = only(ChannelArray, values)
    matrix = outer_of_factors(where, *rands) if name == "mul" and len(rands) == 2 else None
    if matrix is not None:
        return [matrix]
    if name == "select_n" and _chosen_by_channel(values):
        return _choice(equation, values)
    values = with_room(graph, where, aligned(graph, where, values), out.shape)
    layout = meeting(where, [_along_draws(v, s) for v, s in zip(values, sources, strict=True)], out.shape)
    pieces = []
    for segment in _segments(values, layout):
        operands = [
            masks.mask(graph, where, s, layout, segment) if s else place_value(graph, where, v, layout, segment)
            for v, s in zip(values, sources, strict=True)
        ]
        if name == "select_n" and sources[0]:
            pieces.append((masks.choice(graph, where, sources[0], operands[1:], layout, segment), segment.size))
            continue
        if any(
            isinstance(v, Deterministic) and v.value is not None and isinstance(x, n.DeterministicVector)
            for v, x in zip(values, operands, strict=True)
        ):
            graph.constants.append(where)
        node = combine(graph, where, equation, operands, layout)
        pieces.append((node, segment.size))
    return [ChannelArray(tuple(pieces), layout.axes, layout.channels)]


def _chosen_by_channel(values: list[Value]) -> bool:
    """Whether known flags that differ between channels choose between two finite arrays."""
    flags, *cases = values
    if not isinstance(flags, Deterministic) or flags.value is None or flags.random or len(cases) != 2:
        return False
    numbers = [np.asarray(v.value) for v in only(Deterministic, cases) if v.value is not None]
    rands = only(ChannelArray, cases)
    channels = {d for r in rands if len(r.axes) == len(flags.shape) for d, fs in enumerate(r.axes) if _has_channels(fs)}
    return all(np.isfinite(v).all() for v in numbers) and any(not flags.uniform[d] for d in channels)


def _has_channels(factors: Factors) -> bool:
    return any(f.kind == "c" for f in factors)


def _choice(equation: Equation, values: list[Value]) -> Rewriting:
    """A choice by flags as the sum of what each multiplies."""
    shape, dtype = equation.outvars[0].aval.shape, equation.outvars[0].aval.dtype
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]

    def program(flags: jax.Array, no: jax.Array, yes: jax.Array) -> jax.Array:
        one = jnp.broadcast_to(flags, shape).astype(dtype)
        return no * (1 - one) + yes * one

    return Rewriting(jax.make_jaxpr(program)(*avals), values)


def _along_draws(value: Value, source: Source | None) -> Value:
    """What a program draws, as a quantity that is uniform only along axes without draws of their own."""
    if source is None or not isinstance(value, Deterministic):
        return value
    return Deterministic(value.shape, tuple(not own for own in source.own))


def _real_to_real(equation: Equation) -> bool:
    """Whether a conversion leaves numbers what they are; comparisons that become numbers are functions."""
    kinds = (equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype)
    return all(jnp.issubdtype(kind, jnp.floating) for kind in kinds)


def _segments(values: list[Value], layout: Layout) -> list[Segment]:
    """Start and size of each run of channels that is of one kind in every operand."""
    edges = {0}
    for value in values:
        if isinstance(value, ChannelArray):
            edges |= set(np.cumsum([count for _, count in value.pieces]).tolist())
    total = int(np.prod(layout.channels, dtype=int))
    marks = sorted(edges | {total})
    return [Segment(a, b - a) for a, b in itertools.pairwise(marks)]


def _scale_parameter(name: str, values: list[Value], shape: Shape) -> Value | None:
    """A parameter times something deterministic stays a parameter."""
    params = only(Param, values)
    others = [v for v in values if not isinstance(v, Param)]
    if len(params) != 1 or not all(isinstance(v, Deterministic) for v in others) or name not in ("mul", "div", "neg"):
        return None
    if name == "div" and not isinstance(values[0], Param):
        return None
    factor = known(np.float32(-1.0)) if name == "neg" else only(Deterministic, others)[0]
    factor = inverse(factor) if name == "div" else factor
    param = params[0]
    axes = (
        tuple(_broadcast_parts(parts, m) for parts, m in zip(param.axes, shape, strict=True))
        if param.axes
        else ((),) * len(shape)
    )
    return param._replace(axes=axes, scale=_scale(param.scale, factor, shape))


def _broadcast_parts(parts: Parts, extent: int) -> Parts:
    return ((extent, 0),) if not parts and extent > 1 else parts


def _scale(scale: Deterministic, factor: Deterministic, shape: Shape) -> Deterministic:
    """The factor of a parameter times another; single numbers stay single numbers."""
    if factor.scalar and scale.scalar:
        one = derive((factor,), (), (), lambda v: jnp.asarray(v[0]).reshape(()))
        return one if scale is ONE else product(scale, one)
    wide = factor if factor.shape else _fill(factor, shape)
    if scale is ONE:
        return wide
    other = scale if scale.shape else _fill(scale, shape)
    both = tuple(a and b for a, b in zip(wide.uniform, other.uniform, strict=True))
    return derive((wide, other), shape, both, lambda v: jnp.asarray(v[0]) * jnp.asarray(v[1]))


def _fill(det: Deterministic, shape: Shape) -> Deterministic:
    rank = len(shape)
    return derive((det,), shape, (True,) * rank, lambda v: jnp.asarray(v[0]).reshape((1,) * rank))


def combine(graph: Graph, where: Site, equation: Equation, operands: list[Operand], layout: Layout) -> Node:
    """One run of channels of the output."""
    name = equation.primitive.name
    index = _index(operands, layout.rank)
    operands = [_without_chance(x) for x in operands]
    numbers = tuple(only(Deterministic, operands))
    if len(numbers) == len(operands):
        made = derive(numbers, index, ones(index), lambda v: bind_broadcast(equation, v))
        return combination(where, index, [], [made])
    if name in ("add", "add_any", "sub", "neg"):
        signs = [1.0, -1.0] if name == "sub" else [-1.0] if name == "neg" else [1.0, 1.0]
        return _signed_sum(where, index, list(zip(signs, operands, strict=True)))
    if name == "mul":
        return _multiply(graph, where, operands)
    if name == "div" and isinstance(operands[1], Deterministic):
        return _multiply(graph, where, [operands[0], inverse(operands[1])])
    x = operands[0]
    if isinstance(x, Node) and (name == "square" or (name == "integer_pow" and equation.params["y"] == 2)):
        return graph.multiply(where, x, x)
    if isinstance(x, Node) and name == "stop_gradient":
        return n.StopGradient(where, x.index, x.leaves, x.centered, x.gaussian, x.zero, child=x)
    if isinstance(x, Deterministic) and name == "select_n":
        return _select(where, index, x, operands[1:])
    return _function(graph, where, equation, operands)


def _without_chance(x: Operand) -> Operand:
    """Parameters that do not vary, such as running averages, as the numbers that they are."""
    if not isinstance(x, n.Sum) or x.terms:
        return x
    numbers = (known(np.zeros((1,) * len(x.index), np.float32)), *x.constants)
    return derive(numbers, x.index, ones(x.index), lambda v: reduce(jnp.add, v))


def _index(operands: list[Operand], rank: int) -> Shape:
    shapes = [x.index if isinstance(x, Node) else x.shape for x in operands]
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True)) if rank else ()


def _signed_sum(where: Site, index: Shape, operands: list[tuple[float, Operand]]) -> Node:
    terms: list[Term] = []
    constants = []
    for sign, x in operands:
        if isinstance(x, Node):
            terms.append((ONE if sign == 1.0 else number(sign, len(x.index)), x))
        else:
            constants.append(x if sign == 1.0 else _negative(x))
    return combination(where, index, terms, constants)


def _negative(x: Deterministic) -> Deterministic:
    return derive((x,), x.shape, x.uniform, lambda v: -jnp.asarray(v[0]))


def _multiply(graph: Graph, where: Site, operands: list[Operand]) -> Node:
    a, b = operands if isinstance(operands[0], Node) else operands[::-1]
    assert isinstance(a, Node)
    if isinstance(b, Node):
        return graph.multiply(where, *only(Node, operands))
    index = tuple(max(n, m) for n, m in zip(a.index, b.shape, strict=True))
    return scale(where, b, a, index)


def _select(where: Site, index: Shape, choice: Deterministic, cases: list[Operand]) -> Node:
    terms: list[Term] = []
    constants = []
    for i, case in enumerate(cases):
        here = derive((choice,), choice.shape, choice.uniform, partial(_indicator, i))
        if isinstance(case, Node):
            terms.append((here, case))
        elif not case.zero:
            constants.append(product(here, case))
    return combination(where, index, terms, constants)


def _indicator(i: int, values: list[Numbers]) -> jax.Array:
    return (jnp.asarray(values[0]) == i) * np.float32(1)


def _function(graph: Graph, where: Site, equation: Equation, operands: list[Operand]) -> Node:
    arguments: list[Node | Expression] = []
    for x in operands:
        if isinstance(x, Deterministic):
            if x.value is None or not x.scalar:
                drawn = _field(graph, where, equation, operands)
                if drawn is not None and graph.draws:
                    return drawn
                reason = "it mixes a random value with a number that depends on the example or the place"
                hint = "add or multiply such numbers, which is linear, before the layer's weights"
                refuse(where, reason, hint + ("" if drawn is None else _OPT_IN))
            arguments.append(constant(np.asarray(x.value)))
        else:
            arguments.append(x)
    build = lambda es: apply(operation_of(equation), es)  # noqa: E731
    made = function(where, arguments, build)
    if made is not None:
        return made
    several: Node | None = joint(graph, where, arguments, build)
    if several is None:
        several = _field(graph, where, equation, operands)
    if several is None or not graph.draws:
        opt_in = "" if several is None else _OPT_IN
        refuse_weights(where, *(x for x in operands if isinstance(x, Node)), otherwise=opt_in)
        if graph.constants and any(isinstance(x, Node) and _holds_numbers(x) for x in operands):
            reason = "it is given known numbers that differ between channels"
            refuse(where, reason, "leave out a mask, and make other such numbers parameters")
        reason = (
            "its operands are not functions of one Gaussian value (a nonlinearity of a product, or of a sum with one)"
        )
        refuse(where, reason, "put a layer of weights between the two nonlinearities" + opt_in)
    return several


def _field(graph: Graph, where: Site, equation: Equation, operands: list[Operand]) -> Node | None:
    """The function of nodes and known numbers, position by position, where it is drawn."""
    nodes = tuple(only(Node, operands))
    if any(isinstance(x, Deterministic) and x.value is None for x in operands):
        return None

    def make(arrays: list[jax.Array]) -> jax.Array:
        given = iter(arrays)
        values = [next(given) if isinstance(x, Node) else jnp.asarray(x.value) for x in operands]
        return jnp.broadcast_to(bind_broadcast(equation, values), index)

    index = _index(operands, len(nodes[0].index))
    return field_of(graph, where, nodes, index, make)


def _holds_numbers(node: Node) -> bool:
    """Whether known numbers that differ between channels enter a node channel by channel."""
    stack, seen = [node], set()
    while stack:
        here = stack.pop()
        if isinstance(here, n.DeterministicVector) and here.det.value is not None:
            return True
        if here.number not in seen:
            seen.add(here.number)
            stack += here.parts
    return False


RULES: dict[str, Rule] = dict.fromkeys(ELEMENTWISE, elementwise)
