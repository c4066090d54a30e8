"""Loops: a scan over layers or time stays a scan, over the averages that its turns need of each other.

What is carried from turn to turn is not the array that the program carries but the kernel entries that are asked for
at the end and, in turn, by the body of the loop for those: the smallest set that is closed. Where there is none
(averages of different turns together), the loop is walked turn by turn instead.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import NoLimitError, Site, refuse, site
from jaxtheory.infinite.graph import (
    PASSES,
    ChannelArray,
    Cut,
    Factor,
    Graph,
    Layout,
    Param,
    RolledLoop,
    Segment,
    Value,
    combination,
    concatenation,
    derive,
    known,
)
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Deterministic, LoopCarry
from jaxtheory.infinite.trace.movement import slice_axes
from jaxtheory.infinite.trace.operands import place_value
from jaxtheory.infinite.trace.stacking import are_alike, side_by_side
from jaxtheory.programs.calls import Atom, Equation, Program, scan_sections


@runtime_checkable
class Walker(Protocol):
    """What reads a body: its graph, whether loops stay loops, and how many there have been."""

    graph: Graph
    rolled: bool
    loops: int

    def walk(self, closed: Program, inputs: list[Value]) -> list[Value]:
        """The outputs of a jaxpr."""
        ...


def scan(context: Walker, equation: Equation, values: list[Value]) -> list[Value]:
    """The outputs of a scan with random or trainable operands."""
    if context.rolled:
        context.loops += 1
        return _roll(context, equation, values)
    return _unroll(context, equation, values)


def _is_unused(variable: Atom) -> bool:
    return type(variable).__name__ == "DropVar"


# turn by turn


def _unroll(context: Walker, equation: Equation, values: list[Value]) -> list[Value]:
    where, (consts, carries) = site(equation), scan_sections(equation.params)
    constants, carry, stacked = values[:consts], values[consts : consts + carries], values[consts + carries :]
    length = equation.params["length"]
    turns = range(length)[::-1] if equation.params["reverse"] else range(length)
    rows: list[list[Value]] = []
    for turn in turns:
        here = [_turn(context.graph, where, v, turn) for v in stacked]
        outs = context.walk(equation.params["jaxpr"], [*constants, *carry, *here])
        carry = outs[:carries]
        rows.append(outs[carries:])
    if equation.params["reverse"]:
        rows.reverse()
    used = equation.outvars[carries:]
    ys = [
        known(np.zeros(0)) if _is_unused(v) else _stack(context.graph, where, list(column))
        for v, column in zip(used, zip(*rows, strict=True), strict=True)
    ]
    return [*carry, *ys]


def _turn(graph: Graph, where: Site, value: Value, turn: int) -> Value:
    """One turn's share of a stacked operand."""
    if isinstance(value, Deterministic):
        at = 0 if value.uniform[0] else turn
        return derive((value,), value.shape[1:], value.uniform[1:], lambda v: v[0][at])
    cuts = [Cut(turn, 1, 1), *(Cut(0, m, 1) for m in value.shape[1:])]
    part = slice_axes(graph, where, value, cuts)
    if isinstance(part, ChannelArray):
        return part._replace(axes=part.axes[1:])
    assert isinstance(part, Param)
    return part._replace(axes=part.axes[1:])


def _stack(graph: Graph, where: Site, column: list[Value]) -> Value:
    """What a loop gives at each turn along an axis: the place that slices of it left, or a new one."""
    dets = only(Deterministic, column)
    if len(dets) == len(column):
        return _stack_deterministic(tuple(dets))
    arrays = only(ChannelArray, column)
    if len(arrays) < len(column) or not are_alike(arrays):
        refuse(where, "it stacks arrays of different kinds", "return the last state only")
    first = arrays[0]
    taken = {f.place for factors in first.axes for f in factors if f.kind == "i"}
    place = next((k for k, m in enumerate(first.node.index) if m == 1 and k not in taken), None)
    if len(arrays) == 1:
        return first._replace(axes=((), *first.axes))
    if place is None:
        array, factor = side_by_side(graph, where, arrays)
        return array._replace(axes=((factor,), *array.axes))
    node = concatenation(where, tuple(a.node for a in arrays), place)
    axes = ((Factor("i", place, len(arrays)),), *first.axes)
    return ChannelArray(((node, first.pieces[0][1]),), axes, first.channels)


def _stack_deterministic(dets: tuple[Deterministic, ...]) -> Deterministic:
    shape = (len(dets), *dets[0].shape)
    flags = (len(dets) == 1, *(all(d.uniform[i] for d in dets) for i in range(len(dets[0].shape))))
    short = tuple(1 if u else m for u, m in zip(flags[1:], shape[1:], strict=True))

    def make(values: list[Numbers]) -> jax.Array:
        return jnp.stack([jnp.broadcast_to(jnp.asarray(x), short) for x in values])

    return derive(dets, shape, flags, make)


# as a loop


def _roll(context: Walker, equation: Equation, values: list[Value]) -> list[Value]:
    where, (consts, carries) = site(equation), scan_sections(equation.params)
    constants, carry, stacked = values[:consts], values[consts : consts + carries], values[consts + carries :]
    if any(not _is_unused(v) for v in equation.outvars[carries:]):
        raise NoLimitError("a loop that stacks its turns is walked turn by turn")
    loop = RolledLoop(where, equation.params["length"], equation.params["reverse"], context.graph.fresh())
    rows = [_row(loop, v) for v in stacked]
    inside: list[Value] = [_inside(loop, v) for v in carry]
    for _ in range(PASSES):
        outs = context.walk(equation.params["jaxpr"], [*constants, *inside, *rows])[:carries]
        renewed = [_agree(context.graph, loop, *each) for each in zip(inside, outs, carry, strict=True)]
        if all(a is b for a, b in zip(renewed, inside, strict=True)):
            break
        inside = renewed
    else:
        refuse(where, "what it carries changes its kind from turn to turn", "write the loop out")
    return [_result(context.graph, loop, i, *each) for i, each in enumerate(zip(inside, outs, carry, strict=True))]


def _row(loop: RolledLoop, value: Value) -> Value:
    """A stacked operand in one turn."""
    if isinstance(value, Deterministic):
        inside = Deterministic(value.shape[1:], value.uniform[1:])
        loop.turns.append((value, inside))
        return inside
    if isinstance(value, Param) and len(value.axes[0]) == 1 and not value.scale.shape:
        return value._replace(axes=value.axes[1:], loops=(*value.loops, (loop.number, value.axes[0][0][1])))
    refuse(loop.where, "it runs over random values", "write the loop out")


def _inside(loop: RolledLoop, value: Value) -> Deterministic | ChannelArray:
    """What stands for a carried value in the body."""
    if isinstance(value, Deterministic):
        return Deterministic(value.shape, value.uniform)
    if not isinstance(value, ChannelArray) or len(value.pieces) > 1:
        refuse(loop.where, "it carries concatenated channels or parameters", "write the loop out")
    return _carry(loop, value, value.node.leaves | loop.past, value.node.centered, value.node.gaussian)


def _carry(loop: RolledLoop, like: ChannelArray, leaves: int, centered: bool, gaussian: bool) -> ChannelArray:
    node = LoopCarry(loop.where, like.node.index, leaves, centered, gaussian and centered, loop=loop)
    return ChannelArray(((node, like.pieces[0][1]),), like.axes, like.channels)


def _agree(graph: Graph, loop: RolledLoop, inside: Value, out: Value, start: Value) -> Value:
    """The stand-in of a carried value: as it is where the body's output is of its kind, a wider one elsewhere."""
    if isinstance(inside, Deterministic) and isinstance(out, Deterministic):
        flags = tuple(a and b for a, b in zip(inside.uniform, out.uniform, strict=True))
        return inside if flags == inside.uniform else Deterministic(inside.shape, flags)
    if not isinstance(out, ChannelArray) or len(out.pieces) > 1:
        refuse(loop.where, "what it carries changes its kind from turn to turn", "write the loop out")
    # the weights of this turn are those of no turn before it
    earlier = graph.before(out.node.leaves, loop.number)
    if not isinstance(inside, ChannelArray):
        zero = isinstance(start, Deterministic) and start.zero
        return _carry(loop, out, earlier | loop.past, zero and out.node.centered, out.node.gaussian)
    node = inside.node
    if (inside.axes, inside.channels, node.index) != (out.axes, out.channels, out.node.index):
        refuse(loop.where, "what it carries changes its axes from turn to turn", "write the loop out")
    centered, gaussian = node.centered and out.node.centered, node.gaussian and out.node.gaussian
    leaves = node.leaves | earlier
    if (centered, gaussian, leaves) == (node.centered, node.gaussian, node.leaves):
        return inside
    return _carry(loop, inside, leaves, centered, gaussian)


def _result(graph: Graph, loop: RolledLoop, place: int, inside: Value, out: Value, start: Value) -> Value:
    """What comes out of the loop, entered into its tables."""
    if isinstance(inside, Deterministic):
        assert isinstance(out, Deterministic)
        assert isinstance(start, Deterministic)
        loop.inner[place], loop.nexts[place], loop.starts[place] = inside, out, start
        loop.outs[place] = after = Deterministic(inside.shape, inside.uniform, (loop,))
        return after
    assert isinstance(inside, ChannelArray)
    assert isinstance(out, ChannelArray)
    (node, count), layout = inside.pieces[0], Layout(inside.axes, inside.channels, len(inside.node.index))
    assert isinstance(node, LoopCarry)
    first = (
        start.node
        if isinstance(start, ChannelArray)
        else place_value(graph, loop.where, start, layout, Segment(0, count))
    )
    if isinstance(first, Deterministic):
        first = combination(loop.where, node.index, [], [first])
    loop.inner[place], loop.nexts[place], loop.starts[place] = node, out.node, first
    leaves = node.leaves | out.node.leaves
    loop.outs[place] = result = LoopCarry(
        loop.where, node.index, leaves, node.centered, node.gaussian, loop=loop, out=True
    )
    return ChannelArray(((result, count),), inside.axes, inside.channels)
