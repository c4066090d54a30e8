r"""What differs from head to head beside scores: position biases, temperatures, slopes.

A parameter with one number a head is drawn as scores are, one head a draw, its tangent too:

    E[b_ts b'_t's'] and ⟨∂b_ts, ∂b'_t's'⟩ as those of a channel of any other node.

Known numbers, as the slopes of linear biases, are those of the heads of the program, each in as many draws as every
other head to within one; which heads have one more is drawn.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.graph import Arrays, Ingredients, Sampler, sampler
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.arrays import Entry
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import HeadNumbers, HeadValues, Node
from jaxtheory.infinite.graph.views import Moment
from jaxtheory.infinite.schedule.computation import Computation, Given, plan_of, quantity
from jaxtheory.infinite.schedule.laws import Law, law_of, root_of
from jaxtheory.infinite.schedule.requests import Drawn, Item, Plan


def plan(c: Computation, item: Item) -> Plan:
    """Draws for the examples of a computation."""
    need = item.det.needs[0]
    if isinstance(need, HeadNumbers):
        return _numbers(c, need)
    assert isinstance(need, HeadValues)
    return _values(c, need)


def _numbers(c: Computation, need: HeadNumbers) -> Plan:
    """Those of the heads in turn: all numbers of one draw belong to one head."""
    ends, count = sorted(set(c.sides)), math.prod(need.det.shape[a] for a in need.axes)

    def make(given: Given) -> dict[int, Drawn]:
        first = jax.random.uniform(jax.random.fold_in(jnp.asarray(given.array(0)), 0))  # scores have numbers from 1 on
        turns = (jnp.arange(c.draws.samples, dtype=first.dtype) + first) * (count / c.draws.samples)
        chosen = jnp.minimum(turns.astype(int), count - 1)
        return {end: Drawn(_of_heads(given.array(1 + i), need, chosen), None) for i, end in enumerate(ends)}

    return plan_of(make, dets=[quantity(c.draws.key, 0), *(quantity(need.det, end) for end in ends)])


def _of_heads(numbers: Numbers, need: HeadNumbers, chosen: Array) -> Array:
    """One head a draw, whose axes have size one: [samples, axes]."""
    moved = jnp.moveaxis(jnp.asarray(numbers), need.axes, range(len(need.axes)))
    found = moved.reshape((-1, *moved.shape[len(need.axes) :]))[chosen]
    return jnp.expand_dims(found, tuple(1 + a for a in need.axes))


class _Draws(NamedTuple):
    """Draws of all roots of a node by number, and of their tangents where these are wanted: [samples, places]."""

    value: Arrays
    tangent: Arrays | None


def _values(c: Computation, need: HeadValues) -> Plan:
    """Of a node's channels, from the Gaussians that it is made of; once for all examples if it is that of none."""
    ingredients, node = Ingredients(), need.node
    push = sampler(node, ingredients)
    assert push is not None
    alone, ends = _is_fixed(node), sorted(set(c.sides))
    simple = alone and _are_parameters(c, list(ingredients.roots.values()))
    law, dets = law_of(c, ingredients.roots, fixed=alone), list(ingredients.dets.values())

    def make(given: Given) -> dict[int, Drawn]:
        key = jax.random.fold_in(jnp.asarray(given.array(0)), need.number)
        draws = _parameters(c, law, key) if simple else _jointly(c, law, given.entries, key)
        found = {}
        for i, end in enumerate(ends):
            numbers = [c.array(given.array(1 + i * len(dets) + k)) for k in range(len(dets))]
            known = {det.number: number for det, number in zip(dets, numbers, strict=True)}
            found[end] = _pushed(push, node, draws[0 if alone else i], known)
        return found

    asked = [] if simple else law.asked
    return plan_of(make, pairs=asked, dets=[quantity(c.draws.key, 0), *(quantity(d, e) for e in ends for d in dets)])


def _pushed(push: Sampler, node: Node, draws: _Draws, known: Arrays) -> Drawn:
    """The node of one example from those that it is made of."""

    def along(given: Arrays) -> Array:
        return jnp.broadcast_to(push({**given, **known}), node.index)

    if draws.tangent is None:
        return Drawn(jax.vmap(along)(draws.value), None)
    return Drawn(*jax.vmap(lambda value, tangent: jax.jvp(along, (value,), (tangent,)))(draws.value, draws.tangent))


def _jointly(c: Computation, law: Law, entries: Sequence[Entry], key: PRNGKeyArray) -> list[_Draws]:
    """From the covariance of all places, of each example."""

    def of(key: PRNGKeyArray, matrix: Array) -> list[Arrays]:
        noise = jax.random.normal(key, (c.draws.samples, len(matrix)), c.dtype)
        drawn = jnp.matmul(noise, root_of(matrix).T, precision="highest")
        return [jax.vmap(law.arrays)(part) for part in jnp.split(drawn, len(law.ends), axis=1)]

    one, two = jax.random.split(key)
    values = of(one, law.matrix([e.kernel for e in entries], c.dtype))
    if not c.tangent:
        return [_Draws(value, None) for value in values]
    tangents = of(two, law.matrix([e.tangent for e in entries], c.dtype))
    return [_Draws(value, tangent) for value, tangent in zip(values, tangents, strict=True)]


def _parameters(c: Computation, law: Law, key: PRNGKeyArray) -> list[_Draws]:
    """Each parameter by its own numbers, without their covariance, whose size is the square of that of all places."""

    def of(key: PRNGKeyArray, moments: list[Moment]) -> Arrays:
        each = zip(law.roots, jax.random.split(key, len(law.roots)), moments, strict=True)
        return {x.number: jnp.sqrt(c.number(moment)) * _standard(c, x, own) for x, own, moment in each}

    roots = only(n.Random, law.roots)
    one, two = jax.random.split(key)
    tangent = of(two, [x.weight for x in roots]) if c.tangent else None
    return [_Draws(of(one, [x.variance for x in roots]), tangent)]


def _standard(c: Computation, x: Node, key: PRNGKeyArray) -> Array:
    """Standard normals in place of a parameter's numbers; of a table one for each row that is looked up."""
    if not isinstance(x, n.Embedding):
        return jax.random.normal(key, (c.draws.samples, *x.index), c.dtype)
    tokens = np.broadcast_to(np.asarray(x.tokens.value), x.index)
    rows, place = np.unique(tokens, return_inverse=True)
    return jax.random.normal(key, (c.draws.samples, len(rows)), c.dtype)[:, place.reshape(x.index)]


def _are_parameters(c: Computation, roots: list[Node]) -> bool:
    """Whether nodes are parameters and rows of tables that share no numbers."""
    apart = all(c.graph.independent(a, b) for i, a in enumerate(roots) for b in roots[:i])
    return apart and all(isinstance(x, n.ParameterVector | n.Embedding) for x in roots)


def _is_fixed(node: Node) -> bool:
    """Whether a node is the same for all examples."""
    match node:
        case n.ParameterVector():
            return True
        case n.Embedding():
            return node.tokens.value is not None
        case n.DeterministicVector():
            return node.det.value is not None
        case n.LinearLayer():
            return all(_is_fixed(x) for x, _ in node.pieces)
        case n.Mask() | n.LoopCarry():
            return False
        case n.Sum():
            numbers = (*(coefficient for coefficient, _ in node.terms), *node.constants)
            return all(d.value is not None for d in numbers) and all(map(_is_fixed, node.parts))
        case n.LinearMap():
            return (node.map.det is None or node.map.det.value is not None) and _is_fixed(node.child)
    return all(map(_is_fixed, node.parts))
