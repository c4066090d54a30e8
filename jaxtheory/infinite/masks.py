r"""Masks that a program draws, as in dropout: the limit is over their draws too, by their law instead of one draw.

A mask m has entries of their own for every channel, and for the positions and examples along which it is drawn. It is
independent of what it multiplies, so that a channel of m h has

    E[m h m' h'] = E[m m'] E[h h'],   E[m m'] = E[m²] at one entry (one example, position), (E m)² between two,

and the tangent kernel likewise: with dropout of rate p, m is 1/(1 − p) with probability 1 − p, E m = 1 and
E[m²] = 1/(1 − p). Source: Schoenholz et al. (2017), Deep information propagation, the section on dropout.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.arrays import on_diagonal, stretched
from jaxtheory.infinite.demand import Plan
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.layout import Layout, multiplied, times, viewed
from jaxtheory.infinite.nodes import Graph, Node
from jaxtheory.infinite.sources import Source, law
from jaxtheory.infinite.views import Leaf, Param

_OFF = "switch dropout off (deterministic=True, inference)"


@dataclass(frozen=True, eq=False)
class Mask(Node):
    """Drawn entries, independent over channels and along the index axes marked `own`, as a function of their bits."""

    key: Any = None
    own: tuple[bool, ...] = ()
    source: Any = None


def mask(graph: Graph, where: Site, source: Source, layout: Layout, segment: tuple[int, int]) -> Node:
    """The random vector of drawn entries where they meet a random array."""
    shape = tuple(math.prod(f.size for f in factors) for factors in layout.axes)
    if len(source.own) < len(shape):
        _one_number(where)
    wide = [m if own else 1 for m, own in zip(shape, source.own, strict=True)]
    strides = [math.prod(wide[i + 1 :]) for i in range(len(wide))]
    axes = tuple(
        (((m, s),) if own else ((m, 0),)) if m > 1 else () for m, s, own in zip(shape, strides, source.own, strict=True)
    )
    seen = viewed(where, Param(Leaf(_number(graph, where, source), "", shape, 0.0, 1.0, 0.0), 0, axes), layout, segment)
    if seen is None:
        _one_number(where)
    key, index, own = seen
    if law(source.draw[2], (source.make,)) is None:
        refuse(
            where, "it draws with a key numbers that take more than a few values, or are no steps of their bits", _OFF
        )
    return Mask(where, index, graph.bit(key), False, False, key=key, own=own, source=source)


def _one_number(where: Site) -> NoReturn:
    refuse(where, "it draws with a key one number for all channels, which keeps fluctuating", _OFF)


def _number(graph: Graph, where: Site, source: Source) -> int:
    """The draw's number, below those of parameters."""
    data, shape, width = source.draw
    if graph.draws_by_key.setdefault(data, (shape, width)) != (shape, width):
        refuse(where, "it draws with a key that has drawn an array of another shape", "split the key for each draw")
    return -1 - list(graph.draws_by_key).index(data)


def chosen(graph: Graph, where: Site, source: Source, cases: list[Any], layout: Layout, segment: Any) -> Node:
    """Σ 1[choice = i] · case i, for a drawn choice."""
    terms: list[tuple[Det | None, Node | None]] = []
    for i, case in enumerate(cases):
        if isinstance(case, Det) and case.value is not None and not np.any(np.asarray(case.value)):
            continue
        here = source._replace(make=functools.partial(_indicator, source.make, i))
        node = mask(graph, where, here, layout, segment)
        product = multiplied(graph, where, node, case) if isinstance(case, Node) else times(where, case, node)
        assert isinstance(product, Node)
        terms.append((None, product))
    index = n.joint_index(tuple(x for _, x in terms if x is not None)) if terms else (1,) * layout.rank
    return n.combination(where, index, terms)


def _indicator(choice: Any, i: int, bits: Any) -> Any:
    return (np.asarray(choice(bits)) == i).astype(np.float32)


def mean(c: Any, x: Mask, side: int) -> Plan:
    """E m."""
    average = float(sum(p * values[0] for values, p in _law(x)))
    return Plan([], lambda _: jnp.full((1,) * len(x.index), average, c.dtype))


def _law(*nodes: Mask) -> Any:
    found = law(nodes[0].source.draw[2], tuple(x.source.make for x in nodes))
    assert found is not None
    return found


def pair(c: Any, a: Mask, b: Mask, sides: Any, places: Any) -> Plan:
    """E[m m'] of two functions of one draw, where they meet at one entry and elsewhere."""
    if a.key != b.key or a.own != b.own:
        refuse(a.site, f"it shares draws with {b.site.operation} at {b.site.place}", "split the key for each draw")
    apart = math.prod(sum(p * values[i] for values, p in _law(a, b)) for i in (0, 1))
    together = sum(p * values[0] * values[1] for values, p in _law(a, b))
    alike = sides[0] == sides[1] or c.graph.shared_draws

    def make(_: list[Any]) -> tuple[Any, Any]:
        one = jnp.ones((1,) * len(places), c.dtype)
        for axis in reversed(range(len(places))):
            if places[axis]:
                own = on_diagonal(stretched(one, axis, a.index[axis]), axis) if a.own[axis] else None
                one = jnp.expand_dims(one, axis) if own is None else own
        return float(apart) + (float(together - apart) * one if alike else 0.0 * one), None

    return Plan([], make)
