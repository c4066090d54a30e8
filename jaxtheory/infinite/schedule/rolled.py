"""A loop that stays a loop: the requests that its turns need of each other, and the scan over their answers."""

import itertools
from collections.abc import Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph import PASSES, Carried, RolledLoop, joint_index
from jaxtheory.infinite.graph.arrays import Entry, Mask, dense
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.schedule.computation import Computation
from jaxtheory.infinite.schedule.requests import (
    Answer,
    Answers,
    Item,
    LoopEnd,
    Masks,
    Need,
    Plan,
    Planner,
    Schedule,
    Want,
    array,
    cut,
    demand,
    det_item,
    order_of,
    run,
    wider,
)


def outcome(loop: RolledLoop, item: Item, mask: Mask | None) -> Plan:
    """A request of what comes out, answered by the loop."""
    inner = _substitute(item, loop.outs, loop.inner)
    return Plan([(Item("loop", loop, None, (0, 0)), {inner: mask})], lambda values: _pick(values[0], inner, mask))


def _is_given(loop: RolledLoop, item: Item) -> bool:
    """Whether a request is answered outside of the body: what is carried, what was before, what a turn brings."""
    rest = [x for x in item.parts if not loop.carries(x)]
    if any(x is inside for x in rest for _, inside in loop.turns):
        return True
    return all(order_of(x) < (loop.number, 1) for x in rest)


def _substitute(item: Item, old: Mapping[int, Carried], new: Mapping[int, Carried]) -> Item:
    """The request with loop carries replaced by `new`."""
    a, b = ([new[i] for i, carried in old.items() if carried is x] for x in (item.a, item.b))
    second = next((x for x in b if isinstance(x, Node)), item.b)
    return Item(item.kind, next(iter(a), item.a), second, item.sides)


def _pick(answer: Answer, item: Item, mask: Want) -> Answer:
    assert isinstance(answer, LoopEnd)
    return cut(item, answer.answers[item], answer.masks[item], mask)


def plan_loop(c: Computation, plan: Planner, loop: RolledLoop, entries: Want) -> Plan:
    """The closed set of requests that a loop's turns have of each other, and the scan over their answers."""
    assert isinstance(entries, Mapping)
    state: Masks = dict(entries)
    for _ in range(PASSES):
        wanted = {_substitute(item, loop.inner, loop.nexts): mask for item, mask in state.items()}
        schedule = demand(wanted, plan, partial(_is_given, loop))
        carried = {item: mask for item, mask in schedule.given.items() if any(map(loop.carries, item.parts))}
        larger = {item: wider(state.get(item), carried.get(item)) for item in {**state, **carried}}
        if larger == state:
            break
        state = larger
    else:
        refuse(loop.where, "its turns need ever more of each other", "write the loop out")
    began = [_substitute(item, loop.inner, loop.starts) for item in state]
    if any(item.drawn for item in [*began, *schedule.given, *(task.item for task in schedule.tasks)]):
        refuse(loop.where, "scores are drawn in it", "write the loop out")
    return _scan(c, loop, state, schedule)


def _scan(c: Computation, loop: RolledLoop, state: Masks, schedule: Schedule) -> Plan:
    stacks = {inside.number: outside for outside, inside in loop.turns}
    items, leaves = list(state), schedule.given
    rows = [i for i in leaves if i.kind == "det" and i.a.number in stacks and not loop.carries(i.a)]
    outer = [i for i in leaves if i not in state and i not in rows]
    starts = [_start(c, loop, item, state[item]) for item in items]
    needs = [s for s in starts if s is not None]
    needs += [(det_item(stacks[i.a.number], i.sides[0]), None) for i in rows] + [(i, leaves[i]) for i in outer]
    masks = {**leaves, **state}
    every = {**masks, **{task.item: task.mask for task in schedule.tasks}}
    following = [_substitute(item, loop.inner, loop.nexts) for item in items]

    def initial(given: Iterator[Answer]) -> list[Answer]:
        return [_dense(c, i, state[i], None if s is None else next(given)) for i, s in zip(items, starts, strict=True)]

    def make(values: list[Answer]) -> LoopEnd:
        given = iter(values)
        first = initial(given)
        stacked = [_all_turns(array(answer), loop.length) for answer in itertools.islice(given, len(rows))]
        constants: Answers = dict(zip(outer, given, strict=True))

        def body(carry: list[Answer], row: list[jax.Array]) -> tuple[list[Answer], None]:
            now = {**constants, **dict(zip(items, carry, strict=True)), **dict(zip(rows, row, strict=True))}
            out = run(schedule.tasks, now, masks)
            found = [cut(f, out[f], every[f], state[i]) for f, i in zip(following, items, strict=True)]
            return [_dense(c, i, state[i], answer) for i, answer in zip(items, found, strict=True)], None

        last, _ = jax.lax.scan(body, first, stacked, length=loop.length, reverse=loop.reverse)
        return LoopEnd(dict(zip(items, last, strict=True)), state)

    return Plan(needs, make)


def _start(c: Computation, loop: RolledLoop, item: Item, mask: Want) -> Need | None:
    """The request for an entry before the first turn; None for zero."""
    first = _substitute(item, loop.inner, loop.starts)
    if first.kind != "pair":
        return first, mask
    assert isinstance(mask, tuple)
    return c.ask(*first.pair, first.sides, mask)


def _all_turns(value: Numbers, length: int) -> jax.Array:
    """A stacked deterministic input with its first axis in full."""
    return jnp.broadcast_to(jnp.asarray(value), (length, *jnp.shape(value)[1:]))


def _dense(c: Computation, item: Item, mask: Want, answer: Answer) -> Answer:
    """A carried answer in full shape, zeros where it is zero, so that every turn has the same."""
    if item.kind == "det":
        det = item.det
        shape = tuple(1 if u else m for u, m in zip(det.uniform, det.shape, strict=True))
        return jnp.broadcast_to(jnp.asarray(array(answer)), shape)
    if item.kind == "mean":
        assert answer is None or isinstance(answer, jax.Array)
        return dense(answer, item.node.index, c.dtype)
    assert isinstance(mask, tuple)
    index = joint_index(item.pair)
    shape = tuple(m for m, double in zip(index, mask, strict=True) for _ in range(1 + double))
    if item.kind == "kernel":
        assert answer is None or isinstance(answer, jax.Array)
        return dense(answer, shape, c.dtype)
    kernel, tangent = answer if isinstance(answer, Entry) else (None, None)
    moving = c.moving(item.sides)
    return Entry(dense(kernel, shape, c.dtype), dense(tangent, shape, c.dtype) if moving else None)
