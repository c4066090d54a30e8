"""Loops: a scan over layers or time stays a scan, over the averages that its turns need of each other.

What is carried from turn to turn is not the array that the program carries but the kernel entries that are asked for
at the end and, in turn, by the body of the loop for those: the smallest set that is closed. Where there is none
(averages of different turns together), the loop is walked turn by turn instead.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import both
from jaxtheory.infinite.demand import Item, Masks, Plan, demand, det_item, fetch, run
from jaxtheory.infinite.determined import COUNTER, Det, derived, known
from jaxtheory.infinite.errors import NoLimitError, Site, refuse, site
from jaxtheory.infinite.layout import Factor, Layout, Rand, Value, placed
from jaxtheory.infinite.movement import beside, sliced
from jaxtheory.infinite.nodes import Carried, Node
from jaxtheory.infinite.views import Param
from jaxtheory.programs.calls import scan_sections

_PASSES = 6


def scan(context: Any, equation: Any, values: list[Value]) -> list[Value]:
    """The outputs of a scan with random or trainable operands."""
    if context.rolled:
        context.loops += 1
        return _rolled(context, equation, values)
    return _unrolled(context, equation, values)


def _unused(variable: Any) -> bool:
    return type(variable).__name__ == "DropVar"


# turn by turn


def _unrolled(context: Any, equation: Any, values: list[Value]) -> list[Value]:
    where, (consts, carries) = site(equation), scan_sections(equation.params)
    fixed, carry, stacked = values[:consts], values[consts : consts + carries], values[consts + carries :]
    length = equation.params["length"]
    turns = range(length)[::-1] if equation.params["reverse"] else range(length)
    rows: list[list[Value]] = []
    for turn in turns:
        here = [_turn(context, where, v, turn) for v in stacked]
        outs = context.walk(equation.params["jaxpr"], [*fixed, *carry, *here])
        carry = outs[:carries]
        rows.append(outs[carries:])
    if equation.params["reverse"]:
        rows.reverse()
    used = equation.outvars[carries:]
    ys = [
        known(np.zeros(0)) if _unused(v) else _stacked(where, list(column))
        for v, column in zip(used, zip(*rows, strict=True), strict=True)
    ]
    return [*carry, *ys]


def _turn(context: Any, where: Site, value: Value, turn: int) -> Value:
    """One turn's share of a stacked operand."""
    if isinstance(value, Det):
        uniform = value.uniform[0]
        at = 0 if uniform else turn
        return derived((value,), value.shape[1:], value.uniform[1:], lambda v: v[0][at])
    cuts = [(turn, 1, 1), *((0, m, 1) for m in value.shape[1:])]
    part = sliced(context.graph, where, value, cuts)
    if isinstance(part, Param):
        return part._replace(axes=part.axes[1:])
    assert isinstance(part, Rand)
    return part._replace(axes=part.axes[1:])


def _stacked(where: Site, column: list[Value]) -> Value:
    if all(isinstance(v, Det) for v in column):
        dets = tuple(v for v in column if isinstance(v, Det))
        shape = (len(dets), *dets[0].shape)
        flags = (len(dets) == 1, *(all(d.uniform[i] for d in dets) for i in range(len(dets[0].shape))))
        short = [1 if u else m for u, m in zip(flags[1:], shape[1:], strict=True)]
        return derived(dets, shape, flags, lambda v: jnp.stack([jnp.broadcast_to(jnp.asarray(x), short) for x in v]))
    rands = [v for v in column if isinstance(v, Rand)]
    alike = len(rands) == len(column) and all(len(r.pieces) == 1 and r.axes == rands[0].axes for r in rands)
    if not alike or rands[0].node.index:
        refuse(
            where, "it stacks arrays of different kinds, or arrays with axes of places", "return the last state only"
        )
    nodes = tuple(
        n.Lifted(where, (1,), r.node.leaves, r.node.centred, r.node.gaussian, r.node.zero, child=r.node) for r in rands
    )
    axis = (Factor("i", 0, len(rands)),) if len(rands) > 1 else ()
    return Rand(((beside(where, nodes, 0), rands[0].pieces[0][1]),), (axis, *rands[0].axes), rands[0].channels)


# as a loop


class RolledLoop:
    """One scan: carried nodes, what they start from and become in a turn, and per-turn deterministic inputs."""

    def __init__(self, where: Site, length: int, reverse: bool, past: int) -> None:
        self.where, self.length, self.reverse, self.past = where, length, reverse, past
        self.number = next(COUNTER)
        self.begin = self.number
        self.starts: dict[int, Node | Det] = {}
        self.nexts: dict[int, Node | Det] = {}
        self.inner: dict[int, Carried | Det] = {}
        self.outs: dict[int, Carried | Det] = {}
        self.turns: list[tuple[Det, Det]] = []

    def place(self, table: dict[int, Any], thing: Any) -> int | None:
        """The place of a carried thing in a table, None for anything else."""
        return next((i for i, x in table.items() if x is thing), None)

    def swapped(self, item: Item, old: dict[int, Any], new: dict[int, Any]) -> Item:
        """The same request of other stand-ins of what is carried."""
        a, b = (x if self.place(old, x) is None else new[self.place(old, x)] for x in (item.a, item.b))  # type: ignore[index]
        return Item(item.kind, a, b, item.sides)

    def outcome(self, item: Item, mask: Any) -> Plan:
        """A request of what comes out, answered by the loop."""
        inner = self.swapped(item, self.outs, self.inner)
        return Plan([(Item("loop", self, None, (0, 0)), {inner: mask})], lambda v: _picked(v[0], inner, mask))

    def given(self, item: Item) -> bool:
        """Whether a request is answered outside of the body: what is carried, what was before, what a turn brings."""
        parts = [x for x in (item.a, item.b) if x is not None]
        own = [x for x in parts if self.place(self.inner, x) is not None]
        rest = [x for x in parts if self.place(self.inner, x) is None]
        if any(x is inside for x in rest for _, inside in self.turns):
            return True
        return all(x.number < self.begin for x in rest) and (bool(own) or bool(rest))

    def plan(self, calculus: Any, entries: Masks) -> Plan:
        """The closed set of entries, and the scan over it."""
        state = dict(entries)
        for _ in range(_PASSES):
            wanted = {self.swapped(item, self.inner, self.nexts): mask for item, mask in state.items()}
            schedule, leaves = demand(wanted, calculus.plan, self.given)
            carried = {
                i: m for i, m in leaves.items() if any(self.place(self.inner, x) is not None for x in (i.a, i.b))
            }
            larger = {i: _wider(state.get(i), carried.get(i)) for i in {**state, **carried}}
            if larger == state:
                break
            state = larger
        else:
            refuse(self.where, "its turns need ever more of each other", "write the loop out")
        began = [self.swapped(item, self.inner, self.starts) for item in state]
        if any(item.drawn for item in [*began, *leaves, *(item for item, _, _ in schedule)]):
            refuse(self.where, "scores are drawn in it", "write the loop out")
        return self._planned(calculus, state, schedule, leaves)

    def _planned(self, calculus: Any, state: Masks, schedule: Any, leaves: Masks) -> Plan:
        turns = {inside.number: outside for outside, inside in self.turns}
        items = list(state)
        stacked = [i for i in leaves if i.kind == "det" and i.a.number in turns and self.place(self.inner, i.a) is None]
        outer = [i for i in leaves if i not in state and i not in stacked]
        starts = [self._start(calculus, item, state[item]) for item in items]
        needs = [s for s in starts if s is not None]
        needs += [(det_item(turns[i.a.number], i.sides[0]), None) for i in stacked] + [(i, leaves[i]) for i in outer]
        masks = {**leaves, **state}

        def make(values: list[Any]) -> dict[Item, Any]:
            given = iter(values)
            first = [
                _whole(calculus, i, state[i], None if s is None else next(given))
                for i, s in zip(items, starts, strict=True)
            ]
            rows = [full_turns(next(given), turns[i.a.number], self.length) for i in stacked]
            constants = dict(zip(outer, given, strict=True))

            def body(carry: list[Any], row: list[Any]) -> tuple[list[Any], None]:
                known_now = {
                    **constants,
                    **dict(zip(items, carry, strict=True)),
                    **dict(zip(stacked, row, strict=True)),
                }
                out = run(schedule, known_now, masks)
                every = {**masks, **{item: mask for item, mask, _ in schedule}}
                following = [self.swapped(i, self.inner, self.nexts) for i in items]
                found = [fetch(f, state[i], out, every) for f, i in zip(following, items, strict=True)]
                return [_whole(calculus, i, state[i], value) for i, value in zip(items, found, strict=True)], None

            last, _ = jax.lax.scan(body, first, rows, length=self.length, reverse=self.reverse)
            return {item: (value, state[item]) for item, value in zip(items, last, strict=True)}

        return Plan(needs, make)

    def _start(self, calculus: Any, item: Item, mask: Any) -> tuple[Item, Any] | None:
        first = self.swapped(item, self.inner, self.starts)
        if item.kind == "pair":
            return calculus.ask(first.a, first.b, first.sides, mask)
        return first, mask


def _wider(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return tuple(p or q for p, q in zip(one, other, strict=True))


def _picked(state: dict[Item, Any], item: Item, mask: Any) -> Any:
    value, have = state[item]
    return fetch(item, mask, {item: value}, {item: have})


def full_turns(value: Any, det: Det, length: int) -> Any:
    """A stacked deterministic input with its first axis in full."""
    del det
    return jnp.broadcast_to(jnp.asarray(value), (length, *jnp.shape(value)[1:]))


def _whole(calculus: Any, item: Item, mask: Any, value: Any) -> Any:
    """A carried entry in full shape, zeros where it is zero, so that every turn has the same."""
    if item.kind == "det":
        shape = tuple(1 if u else m for u, m in zip(item.a.uniform, item.a.shape, strict=True))
        return jnp.broadcast_to(jnp.asarray(value), shape)
    zero = jnp.zeros((), calculus.dtype)
    if item.kind == "mean":
        return jnp.broadcast_to(zero if value is None else value, item.a.index)
    index = n.joint_index((item.a, item.b))
    left = [m for m, double in zip(index, mask, strict=True) for _ in range(1 + double)]
    spread = lambda array: jnp.broadcast_to(zero if array is None else array, left)  # noqa: E731
    if item.kind == "kernel":
        return spread(value)
    kernel, tangent = (None, None) if value is None else value
    wanted = calculus.moving(item.sides)
    return both(
        spread, (zero if kernel is None else kernel, (zero if tangent is None else tangent) if wanted else None)
    )


def _rolled(context: Any, equation: Any, values: list[Value]) -> list[Value]:
    where, (consts, carries) = site(equation), scan_sections(equation.params)
    fixed, carry, stacked = values[:consts], values[consts : consts + carries], values[consts + carries :]
    if any(not _unused(v) for v in equation.outvars[carries:]):
        raise NoLimitError("a loop that stacks its turns is walked turn by turn")
    loop = RolledLoop(where, equation.params["length"], equation.params["reverse"], context.graph.fresh())
    rows = [_row(loop, where, v, number) for number, v in enumerate(stacked)]
    stands: list[Value] = [_stand_in(loop, where, v) for v in carry]
    for _ in range(_PASSES):
        outs = context.walk(equation.params["jaxpr"], [*fixed, *stands, *rows])[:carries]
        renewed = [_agree(context, loop, where, s, o, v) for s, o, v in zip(stands, outs, carry, strict=True)]
        if all(a is b for a, b in zip(renewed, stands, strict=True)):
            break
        stands = renewed
    else:
        refuse(where, "what it carries changes its kind from turn to turn", "write the loop out")
    return [_result(context, loop, i, s, o, v) for i, (s, o, v) in enumerate(zip(stands, outs, carry, strict=True))]


def _row(loop: RolledLoop, where: Site, value: Value, number: int) -> Value:
    """A stacked operand in one turn."""
    if isinstance(value, Det):
        inside = Det(value.shape[1:], value.uniform[1:], (), None)
        loop.turns.append((value, inside))
        return inside
    if isinstance(value, Param) and len(value.axes[0]) == 1 and (value.scale is None or not value.scale.shape):
        return value._replace(axes=value.axes[1:], loops=(*value.loops, (loop.number, value.axes[0][0][1])))
    refuse(where, "it runs over random values", "write the loop out")


def _stand_in(loop: RolledLoop, where: Site, value: Value) -> Value:
    if isinstance(value, Det):
        return Det(value.shape, value.uniform, (), None)
    if not isinstance(value, Rand) or len(value.pieces) > 1:
        refuse(where, "it carries concatenated channels or parameters", "write the loop out")
    return _carried(loop, value, value.node.leaves | loop.past, value.node.centred, value.node.gaussian)


def _carried(loop: RolledLoop, like: Rand, leaves: int, centred: bool, gaussian: bool) -> Rand:
    node = Carried(loop.where, like.node.index, leaves, centred, gaussian and centred, loop=loop)
    return Rand(((node, like.pieces[0][1]),), like.axes, like.channels)


def _agree(context: Any, loop: RolledLoop, where: Site, stand: Any, out: Any, start: Any) -> Value:
    """The stand-in itself where the body's output is of its kind; a wider one else."""
    if isinstance(stand, Det) and isinstance(out, Det):
        flags = tuple(a and b for a, b in zip(stand.uniform, out.uniform, strict=True))
        return stand if flags == stand.uniform else Det(stand.shape, flags, (), None)
    if not isinstance(out, Rand) or len(out.pieces) > 1:
        refuse(where, "what it carries changes its kind from turn to turn", "write the loop out")
    # the weights of this turn are those of no turn before it
    earlier = context.graph.before(out.node.leaves, loop.number)
    if isinstance(stand, Det):
        centred = _is_zero(start) and out.node.centred
        return _carried(loop, out, earlier | loop.past, centred, out.node.gaussian)
    node = stand.node
    if (stand.axes, stand.channels, node.index) != (out.axes, out.channels, out.node.index):
        refuse(where, "what it carries changes its axes from turn to turn", "write the loop out")
    facts = (node.centred and out.node.centred, node.gaussian and out.node.gaussian)
    leaves = node.leaves | earlier
    if facts == (node.centred, node.gaussian) and leaves == node.leaves:
        return stand
    return _carried(loop, stand, leaves, *facts)


def _is_zero(value: Any) -> bool:
    return isinstance(value, Det) and value.value is not None and not np.any(np.asarray(value.value))


def _result(context: Any, loop: RolledLoop, place: int, stand: Any, out: Any, start: Any) -> Value:
    """What comes out of the loop, entered into its tables."""
    if isinstance(stand, Det):
        loop.inner[place], loop.nexts[place], loop.starts[place] = stand, out, start
        outer = Det(stand.shape, stand.uniform, (loop,), None)
        loop.outs[place] = outer
        return outer
    node, layout = stand.node, Layout(stand.axes, stand.channels, len(stand.node.index))
    first = (
        start.node
        if isinstance(start, Rand)
        else placed(context.graph, loop.where, start, layout, (0, stand.pieces[0][1]))
    )
    if isinstance(first, Det):
        first = n.combination(loop.where, node.index, [(first, None)])
    loop.inner[place], loop.nexts[place], loop.starts[place] = node, out.node, first
    result = Carried(
        loop.where,
        node.index,
        node.leaves | out.node.leaves,
        node.centred,
        node.gaussian,
        loop=loop,
        place=place,
        out=True,
    )
    loop.outs[place] = result
    return Rand(((result, stand.pieces[0][1]),), stand.axes, stand.channels)
