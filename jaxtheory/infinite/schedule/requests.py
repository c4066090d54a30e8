"""What must be known for what: requests for averages over channels, answered in the order of their dependence.

The first phase asks: from the output, each request names the requests it needs, and a pair of nodes that is asked for
on the diagonal of some axis by one and in full by another is asked for in full once. The second phase computes, each
once. Neither recurses, so that depth is no limit.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.graph.arrays import Entry, Mask, narrow
from jaxtheory.infinite.graph.nodes import Bundle, Deterministic, Loop, Made, Node

Sides = tuple[int, int]  # the examples, 1 or 2, on the left and on the right; 0 for what belongs to none


class Drawn(NamedTuple):
    """A drawn quantity and its drawn tangent (None where none is wanted)."""

    value: jax.Array
    tangent: jax.Array | None


class Item(NamedTuple):
    """A request without its mask.

    Kinds: det, mean, pair (kernel and tangent), kernel (that of a pair alone), loop (what a loop carries at its end),
    scores (draws of them, for both examples). Only pair and kernel have a `b`.
    """

    kind: Literal["det", "mean", "pair", "kernel", "loop", "scores"]
    a: Deterministic | Node | Loop
    b: Node | None
    sides: Sides

    @property
    def det(self) -> Deterministic:
        """The deterministic quantity that is asked for."""
        assert isinstance(self.a, Deterministic)
        return self.a

    @property
    def node(self) -> Node:
        """The node whose average is asked for, on the left of a pair."""
        assert isinstance(self.a, Node)
        return self.a

    @property
    def pair(self) -> tuple[Node, Node]:
        """The nodes of a pair."""
        assert self.b is not None
        return self.node, self.b

    @property
    def parts(self) -> list[Deterministic | Node | Loop]:
        """What is asked about."""
        return [self.a] if self.b is None else [self.a, self.b]

    @property
    def order(self) -> tuple[int, ...]:
        """Topological rank: greater than the rank of every dependency."""
        first = order_of(self.a)
        if self.b is None:
            return (*first, -2 if self.kind == "scores" else -1, 0, 0)
        second = order_of(self.b)
        return (*max(first, second), *min(first, second), int(self.kind == "kernel"))

    @property
    def drawn(self) -> bool:
        """Whether it depends on the scores of a head, or is an average over heads."""
        if self.kind == "det":
            return any(self.det.copies)
        return self.kind == "scores" or any(isinstance(x, Node) and x.drawn for x in self.parts)


def order_of(part: Deterministic | Node | Loop) -> tuple[int, int]:
    """Topological rank of what a request is about."""
    return part.order if isinstance(part, Deterministic | Node) else (part.number, 1)


class LoopEnd(NamedTuple):
    """What a loop has carried to its end, by request, and on which places."""

    answers: "dict[Item, Answer]"
    masks: "dict[Item, Want]"


Answer = Numbers | Bundle | Entry | Drawn | LoopEnd | dict[int, Drawn] | None  # None is an average that is zero
Answers = dict[Item, Answer]
Want = Mask | Mapping[Item, Mask | None] | None  # places of a pair or a kernel; requests of a loop
Masks = dict[Item, Want]
Need = tuple[Item, Want]


class Plan(NamedTuple):
    """What a request needs, and how its value is made of theirs."""

    needs: Sequence[Need]
    make: Callable[[list[Answer]], Answer]


class Task(NamedTuple):
    """A request on its places, and its plan."""

    item: Item
    mask: Want
    plan: Plan


Planner = Callable[[Item, Want], Plan]


def entry(answer: Answer) -> Entry:
    """The answer of a pair."""
    assert isinstance(answer, Entry)
    return answer


def average(answer: Answer) -> jax.Array | None:
    """The answer of a mean or a kernel; None is zero."""
    assert answer is None or isinstance(answer, jax.Array)
    return answer


def made(answer: Answer) -> Made:
    """The answer of a deterministic quantity."""
    assert isinstance(answer, jax.Array | np.ndarray | Bundle)
    return answer


def array(answer: Answer) -> Numbers:
    """The answer of a deterministic quantity that is one array."""
    assert isinstance(answer, jax.Array | np.ndarray)
    return answer


def wider(one: Want, other: Want) -> Want:
    """The mask that serves two requests."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple(p or q for p, q in zip(one, other, strict=True))
    assert isinstance(one, Mapping)
    assert isinstance(other, Mapping)
    return {item: wider_mask(one.get(item), other.get(item)) for item in {**one, **other}}


def wider_mask(one: Mask | None, other: Mask | None) -> Mask | None:
    """The mask that serves two requests, of which either may have none."""
    if one is None or other is None:
        return other if one is None else one
    return tuple(p or q for p, q in zip(one, other, strict=True))


class Schedule(NamedTuple):
    """Requests in the order of computation, and the masks of those that are given."""

    tasks: list[Task]
    given: Masks


def demand(wanted: Masks, plan: Planner, given: Callable[[Item], bool]) -> Schedule:
    """All requests in the order of computation with their masks, and those that `given` says are known already."""
    masks, leaves, tasks = dict(wanted), Masks(), list[Task]()
    heap = [_entry(i, item) for i, item in enumerate(masks)]
    heapq.heapify(heap)
    seen = set(masks)
    while heap:
        item = heapq.heappop(heap)[-1]
        if given(item):
            leaves[item] = masks[item]
            continue
        task = Task(item, masks[item], plan(item, masks[item]))
        tasks.append(task)
        for need, mask in task.plan.needs:
            masks[need] = wider(masks.get(need), mask) if need in masks else mask
            if need not in seen:
                seen.add(need)
                heapq.heappush(heap, _entry(len(seen), need))
    return Schedule(tasks[::-1], leaves)


def _entry(count: int, item: Item) -> tuple[tuple[int, ...], int, Item]:
    """Of a heap whose least element is the request of the highest rank."""
    return tuple(-rank for rank in item.order), count, item


def det_item(det: Deterministic, side: int) -> Item:
    """A deterministic quantity of one example."""
    return Item("det", det, None, (side, side))


def pair_item(a: Node, b: Node, sides: Sides) -> Item:
    """Kernel and tangent of two nodes."""
    return Item("pair", a, b, sides)


def run(tasks: Sequence[Task], values: Answers, masks: Masks) -> Answers:
    """The second phase: compute each request from those before it; `values` and `masks` hold what is given.

    What is computed given drawn scores has their samples as its first axis, until channels of all heads are averaged.
    """
    values, masks = dict(values), {**masks, **{task.item: task.mask for task in tasks}}
    sampled: set[Item] = set()
    for item, _, plan in tasks:

        def make(found: list[Answer], plan: Plan = plan) -> Answer:
            return plan.make([cut(need, v, masks[need], w) for (need, w), v in zip(plan.needs, found, strict=True)])

        found = [values[need] for need, _ in plan.needs]
        axes = [
            0 if need in sampled and jax.tree.leaves(v) else None
            for (need, _), v in zip(plan.needs, found, strict=True)
        ]
        values[item] = jax.vmap(make, (axes,))(found) if 0 in axes else make(found)
        if 0 in axes and not item.drawn:
            values[item] = jax.tree.map(lambda array: array.mean(0), values[item])
        elif 0 in axes or item.kind == "scores":
            sampled.add(item)
    return values


def cut(item: Item, value: Answer, have: Want, want: Want) -> Answer:
    """A value on the places of one mask from that on those of another."""
    if item.kind not in ("pair", "kernel") or have == want or value is None:
        return value
    assert isinstance(have, tuple)
    assert isinstance(want, tuple)
    if isinstance(value, Entry):
        return value.map(lambda array: narrow(array, have, want))
    assert isinstance(value, jax.Array)
    return narrow(value, have, want)
