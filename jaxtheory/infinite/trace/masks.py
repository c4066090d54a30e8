"""Masks that a program draws, as in dropout: the limit is over their draws, by their law instead of one draw."""

import functools
import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ONE, Graph, Layout, Param, Segment, combination, joint_index, scale
from jaxtheory.infinite.graph.bits import Source
from jaxtheory.infinite.graph.nodes import Deterministic, Mask, Node, Term
from jaxtheory.infinite.graph.views import Leaf
from jaxtheory.infinite.trace.operands import Operand, view
from jaxtheory.infinite.trace.sources import Entries, law

_OFF = "switch dropout off (deterministic=True, inference)"


def mask(graph: Graph, where: Site, source: Source, layout: Layout, segment: Segment) -> Node:
    """The random vector of drawn entries where they meet a random array."""
    shape = tuple(math.prod(f.size for f in factors) for factors in layout.axes)
    if len(source.own) < len(shape):
        _one_number(where)
    wide = [m if own else 1 for m, own in zip(shape, source.own, strict=True)]
    strides = [math.prod(wide[i + 1 :]) for i in range(len(wide))]
    axes = tuple(
        (((m, s),) if own else ((m, 0),)) if m > 1 else () for m, s, own in zip(shape, strides, source.own, strict=True)
    )
    leaf = Leaf(_number(graph, where, source), "", shape, 0.0, 1.0, 0.0)
    seen = view(where, Param(leaf, 0, axes), layout, segment)
    if seen is None:
        _one_number(where)
    if law(source.draw.width, (source.make,)) is None:
        refuse(
            where, "it draws with a key numbers that take more than a few values, or are no steps of their bits", _OFF
        )
    return Mask(where, seen.sizes, graph.bit(seen.key), False, False, key=seen.key, own=seen.own, source=source)


def _one_number(where: Site) -> NoReturn:
    refuse(where, "it draws with a key one number for all channels, which keeps fluctuating", _OFF)


def _number(graph: Graph, where: Site, source: Source) -> int:
    """The draw's number, below those of parameters."""
    draw = source.draw
    if graph.draws_by_key.setdefault(draw.key, draw) != draw:
        refuse(where, "it draws with a key that has drawn an array of another shape", "split the key for each draw")
    return -1 - list(graph.draws_by_key).index(draw.key)


def choice(
    graph: Graph, where: Site, source: Source, cases: Sequence[Operand], layout: Layout, segment: Segment
) -> Node:
    """Σ 1[choice = i] · case i, for a drawn choice."""
    terms: list[Term] = []
    for i, case in enumerate(cases):
        if isinstance(case, Deterministic) and case.zero:
            continue
        here = source._replace(make=functools.partial(_indicator, source.make, i))
        node = mask(graph, where, here, layout, segment)
        chosen = graph.multiply(where, node, case) if isinstance(case, Node) else scale(where, case, node, node.index)
        terms.append((ONE, chosen))
    index = joint_index([x for _, x in terms]) if terms else (1,) * layout.rank
    return combination(where, index, terms)


def _indicator(choice: Entries, i: int, bits: np.ndarray) -> np.ndarray:
    return (np.asarray(choice(bits)) == i).astype(np.float32)
