"""What must be known for what: requests for averages over channels, answered in the order of their dependence.

The first phase asks: from the output, each request names the requests it needs, and a pair of nodes that is asked for
on the diagonal of some axis by one and in full by another is asked for in full once. The second phase computes, each
once. Neither recurses, so that depth is no limit.
"""

import heapq
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxtheory.infinite.arrays import both, narrowed
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.nodes import Node


class Mean(NamedTuple):
    """E h over the index axes."""

    node: Node


class Pair(NamedTuple):
    """E[a b'] on the places of the index axes: all pairs where `mask` says so, equal places elsewhere."""

    a: Node
    b: Node
    mask: tuple[bool, ...]


class Item(NamedTuple):
    """A request without its mask: `sides` are the examples (1 or 2) on the left and right.

    Kinds: det, mean, pair (kernel and tangent), kernel (that of a pair alone), loop (what a loop carries at its end),
    scores (draws of them, for both examples).
    """

    kind: str
    a: Any
    b: Any
    sides: tuple[int, int]

    @property
    def order(self) -> tuple[int | float, int | float]:
        """Larger than that of anything it needs."""
        if self.b is None:
            return self.a.number, -2 if self.kind == "scores" else -1
        first, second = max(self.a.number, self.b.number), min(self.a.number, self.b.number)
        return first, second + (0.25 if self.kind == "kernel" else 0)

    @property
    def drawn(self) -> bool:
        """Whether it depends on the scores of a head, or is an average over heads."""
        if self.kind == "det":
            return any(self.a.copies)
        return self.kind == "scores" or any(x is not None and x.drawn for x in (self.a, self.b))


class Plan(NamedTuple):
    """What a request needs, (item, mask) each, and how its value is made of theirs."""

    needs: list[tuple[Item, Any]]
    make: Callable[[list[Any]], Any]


Masks = dict[Item, Any]


def wider(one: Any, other: Any) -> Any:
    """The mask that serves two requests."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        return {k: wider(one.get(k), other.get(k)) for k in {**one, **other}}
    return tuple(p or q for p, q in zip(one, other, strict=True))


def demand(
    wanted: Masks, plan: Callable[[Item, Any], Plan], given: Callable[[Item], bool]
) -> tuple[list[tuple[Item, Any, Plan]], Masks]:
    """All requests in the order of computation with their masks, and those that `given` says are known already."""
    masks, leaves, schedule = dict(wanted), {}, []
    heap = [_entry(i, item) for i, item in enumerate(masks)]
    heapq.heapify(heap)
    seen = set(masks)
    while heap:
        item = heapq.heappop(heap)[-1]
        if given(item):
            leaves[item] = masks[item]
            continue
        made = plan(item, masks[item])
        schedule.append((item, masks[item], made))
        for need, mask in made.needs:
            masks[need] = wider(masks.get(need), mask) if need in masks else mask
            if need not in seen:
                seen.add(need)
                heapq.heappush(heap, _entry(len(seen), need))
    return schedule[::-1], leaves


def _entry(count: int, item: Item) -> tuple[int | float, int | float, int, Item]:
    first, second = item.order
    return -first, -second, count, item


def det_item(det: Det, side: int) -> Item:
    """A deterministic quantity of one example."""
    return Item("det", det, None, (side, side))


def run(schedule: list[tuple[Item, Any, Plan]], values: dict[Item, Any], masks: Masks) -> dict[Item, Any]:
    """The second phase: compute each request from those before it; `values` and `masks` hold what is given.

    What is computed given drawn scores has their samples as its first axis, until channels of all heads are averaged.
    """
    values, masks = dict(values), {**masks, **{item: mask for item, mask, _ in schedule}}
    sampled: set[Item] = set()
    for item, _, plan in schedule:

        def make(found: list[Any], plan: Plan = plan) -> Any:
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


def fetch(item: Item, want: Any, values: dict[Item, Any], masks: Masks) -> Any:
    """A computed value, with no more than is wanted."""
    return cut(item, values[item], masks[item], want)


def cut(item: Item, value: Any, have: Any, want: Any) -> Any:
    """A value on the places of one mask from that on those of another."""
    if item.kind == "pair" and have != want:
        return both(lambda array: narrowed(array, have, want), value)
    return narrowed(value, have, want) if item.kind == "kernel" and have != want else value
