"""What must be known for what: requests for averages over channels, and a schedule that answers each once.

`demand` collects: from the output, each request names the requests it needs, and a pair of nodes that is asked for on
the diagonal of some axis by one and in full by another is asked for in full once. It sorts them topologically, and
`run` computes them in that order. Neither recurses, so that depth is no limit.
"""

import graphlib
import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    def rank(self) -> tuple[int, ...]:
        """Requests are planned by falling rank: by their latest node, then the other one, pairs before averages."""
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
    """The place of what a request is about in the order of the program."""
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
    """Tasks in topological order, each after those that it needs, and the masks of the requests that are given."""

    tasks: list[Task]
    given: Masks


def demand(wanted: Masks, plan: Planner, given: Callable[[Item], bool]) -> Schedule:
    """The schedule of all requests that `wanted` ones need, where `given` says which are known already.

    Requests of the latest nodes are planned first, so that a request is usually planned when all places are known on
    which it is asked for. One that is asked for on more places later is planned again.
    """
    masks, tasks = Masks(), dict[Item, Task]()
    heap, waiting, count = list[tuple[tuple[int, ...], int, Item]](), set[Item](), itertools.count()

    def ask(item: Item, mask: Want) -> None:
        new = item not in masks
        places = mask if new else wider(masks[item], mask)
        changed = new or places != masks[item]
        masks[item] = places
        if changed and item not in waiting:
            waiting.add(item)
            heapq.heappush(heap, (tuple(-rank for rank in item.rank), next(count), item))

    for item, mask in wanted.items():
        ask(item, mask)
    while heap:
        item = heapq.heappop(heap)[-1]
        waiting.remove(item)
        if not given(item):
            tasks[item] = task = Task(item, masks[item], plan(item, masks[item]))
            for need, mask in task.plan.needs:
                ask(need, mask)
    return _in_order(wanted, tasks, masks)


def _in_order(wanted: Iterable[Item], tasks: Mapping[Item, Task], masks: Masks) -> Schedule:
    """What `wanted` requests need in topological order; requests without a task are given."""
    needs, reached = dict[Item, list[Item]](), list(wanted)
    while reached:
        item = reached.pop()
        if item not in needs:
            needs[item] = [need for need, _ in tasks[item].plan.needs] if item in tasks else []
            reached += needs[item]
    order = list(graphlib.TopologicalSorter(needs).static_order())
    given = {item: masks[item] for item in order if item not in tasks}
    return Schedule([tasks[item] for item in order if item in tasks], given)


def det_item(det: Deterministic, side: int) -> Item:
    """A deterministic quantity of one example."""
    return Item("det", det, None, (side, side))


def pair_item(a: Node, b: Node, sides: Sides) -> Item:
    """Kernel and tangent of two nodes."""
    return Item("pair", a, b, sides)


def run(tasks: Sequence[Task], values: Answers, masks: Masks) -> Answers:
    """Compute each request from those before it; `values` and `masks` hold what is given.

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
