r"""Averages of masks that a program draws, as in dropout.

A mask m has entries of their own for every channel, and for the positions and examples along which it is drawn. It is
independent of what it multiplies, so that a channel of m h has

    E[m h m' h'] = E[m m'] E[h h'],   E[m m'] = E[m²] at one entry (one example, position), (E m)² between two,

and the tangent kernel likewise: with dropout of rate p, m is 1/(1 − p) with probability 1 − p, E m = 1 and
E[m²] = 1/(1 − p). Source: Schoenholz et al. (2017), Deep information propagation, the section on dropout.
"""

import math

import jax
import jax.numpy as jnp

from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph.arrays import Entry, on_diagonal, stretch
from jaxtheory.infinite.graph.nodes import Flags, Mask, Shape
from jaxtheory.infinite.schedule.computation import Computation, Given, plan_of
from jaxtheory.infinite.schedule.requests import Plan, Sides
from jaxtheory.infinite.trace import Step, law


def mean(c: Computation, x: Mask, side: int) -> Plan:
    """E m."""
    average = float(sum(step.probability * step.values[0] for step in _law(x)))
    return plan_of(lambda _: jnp.full((1,) * len(x.index), average, c.dtype))


def _law(*nodes: Mask) -> list[Step]:
    found = law(nodes[0].source.draw.width, tuple(x.source.make for x in nodes))
    assert found is not None
    return found


def pair(c: Computation, a: Mask, b: Mask, sides: Sides, places: Flags) -> Plan:
    """E[m m'] of two functions of one draw, where they meet at one entry and elsewhere."""
    if a.key != b.key or a.own != b.own:
        refuse(a.site, f"it shares draws with {b.site.operation} at {b.site.place}", "split the key for each draw")
    apart = math.prod(sum(step.probability * step.values[i] for step in _law(a, b)) for i in (0, 1))
    together = sum(step.probability * step.values[0] * step.values[1] for step in _law(a, b))
    alike = sides[0] == sides[1] or c.graph.shared_draws

    def make(_: Given) -> Entry:
        extra = float(together - apart) if alike else 0.0
        return Entry(float(apart) + extra * same_entry(c, a.index, a.own, places), None)

    return plan_of(make)


def same_entry(c: Computation, index: Shape, own: Flags, places: Flags) -> jax.Array:
    """1 where two places have one entry of a vector, 0 where each has its own, over pairs of places."""
    one = jnp.ones((1,) * len(places), c.dtype)
    for axis in reversed(range(len(places))):
        if places[axis]:
            one = on_diagonal(stretch(one, axis, index[axis]), axis) if own[axis] else jnp.expand_dims(one, axis)
    return one
