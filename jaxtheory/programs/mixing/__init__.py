"""Does a function of a batch act on each example alone? Read from its program, without running it.

>>> import jax.numpy as jnp
>>> found = find(lambda p, x: x - x.mean(0), jnp.ones(3), jnp.ones((5, 3)))
>>> found.site.operation, found.reason
('reduce_sum', 'combines examples')
>>> find(lambda p, x: jnp.tanh(x @ p).reshape(len(x), -1), jnp.ones((3, 2)), jnp.ones((5, 3)))
"""

import weakref
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree

from jaxtheory.programs.mixing.walk import Verdict, differs, examine, verdict
from jaxtheory.programs.sites import Site

__all__ = ["Site", "Verdict", "find"]

_COUNTS = (3, 2)
_SEEN: weakref.WeakKeyDictionary[Jaxpr, Verdict | None] = weakref.WeakKeyDictionary()


def find(f: Callable[[PyTree, PyTree], PyTree], params: PyTree, x: PyTree) -> Verdict | None:
    """The operation by which outputs of f(params, x) depend on more than their own example; None where none does.

    Output i must be the same function of example i alone, for every i and any number of examples. Dependence is
    followed through the program of f on two and on three examples, entry by entry where that is needed. Batch
    statistics, noise and masks of the batch's shape, other orders, and the number of examples are found. Operations
    that cannot be seen through (callbacks, hand-written kernels) count as mixing.

    Args:
        f: f(params, x), an array with examples first.
        params, x: shapes and types alone matter; x holds examples first in each leaf.

    Cost: two traces of f and a look at each equation; no arithmetic of f.
    """
    programs = [_program(f, params, x, count) for count in _COUNTS]
    # a function that is the same has the same program, which JAX keeps
    first = programs[0].jaxpr
    if first not in _SEEN:
        leaves = len(jax.tree.leaves(params))
        _SEEN[first] = _examined(programs, [i >= leaves for i in range(len(first.invars))])
    return _SEEN[first]


def _program(f: Callable[[PyTree, PyTree], PyTree], params: PyTree, x: PyTree, count: int) -> ClosedJaxpr:
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *jnp.shape(a)[1:]), jnp.result_type(a)), x)
    return jax.make_jaxpr(f)(params, batch)


def _examined(programs: list[ClosedJaxpr], batched: list[bool]) -> Verdict | None:
    marks = []
    for program, count in zip(programs, _COUNTS, strict=True):
        found, seen = examine(program, batched, count)
        bad = verdict(found, count)
        if bad is not None:
            return bad
        marks.append(seen)
    return differs(*marks)
