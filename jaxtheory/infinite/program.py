"""What is asked of a program before it is read: examples stay apart, and derivative rules are derivatives."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxtheory.infinite.determined import DRAWS
from jaxtheory.infinite.errors import UNKNOWN, Site, refuse, site

BATCH = 7919  # a prime that no other axis has: whatever axis it divides holds the batch
_OVER_AXES = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin", "reduce_and", "reduce_or")
_OVER_AXIS = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
_SAME = 1e-3  # two float32 evaluations of one derivative differ by roundings, two rules by their own size


def require_apart(closed: Any) -> None:
    """Raise where a program, traced at a batch of `BATCH` examples, mixes them or draws numbers for the batch."""
    for equation, where in _equations(closed.jaxpr, UNKNOWN):
        if any(_of_batch(v.aval.shape[d]) for v, d in _contracted(equation)):
            refuse(where, "it mixes the examples of a batch", "normalize with running averages (inference)")


def draws_together(closed: Any) -> bool:
    """Whether a program, traced at a batch of `BATCH` examples, draws its numbers once for all examples."""
    drawn = [(e, where) for e, where in _equations(closed.jaxpr, UNKNOWN) if e.primitive.name in DRAWS]
    kinds = {any(_of_batch(m) for v in e.outvars for m in v.aval.shape): where for e, where in drawn}
    if len(kinds) == 2:
        reason = f"it draws for every example, and {kinds[False].operation} at {kinds[False].place} for all at once"
        refuse(kinds[True], reason, "give all masks the shape of what they multiply")
    return True not in kinds


def _of_batch(extent: int) -> bool:
    return extent > 0 and extent % BATCH == 0


def _equations(jaxpr: Any, line: str) -> Iterator[tuple[Any, Site]]:
    """All equations, also of functions that are called, with their sites: those without a line have the caller's."""
    for equation in jaxpr.eqns:
        where = site(equation)
        where = where._replace(line=line) if where.line == UNKNOWN else where
        yield equation, where
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner, where.line)


def _contracted(equation: Any) -> list[tuple[Any, int]]:
    """Operands and the axes over which an equation sums, or puts in order."""
    name, p, operands = equation.primitive.name, equation.params, equation.invars
    if name in _OVER_AXES:
        return [(operands[0], d) for d in p["axes"]]
    if name in _OVER_AXIS:
        return [(operands[0], p["axis"])]
    if name == "sort":
        return [(operands[0], p["dimension"])]
    if name == "dot_general":
        (left, right), _ = p["dimension_numbers"]
        return [*((operands[0], d) for d in left), *((operands[1], d) for d in right)]
    return []


def require_derivative(equation: Any) -> None:
    """Raise where a custom rule is not the derivative of its function, such as a straight-through estimator.

    Compared at one generic point, by one vector-Jacobian product of each.
    """
    avals = [v.aval for v in equation.invars]
    body = equation.params["call_jaxpr" if "call_jaxpr" in equation.params else "fun_jaxpr"]
    closed = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, [])
    if any(isinstance(c, jax.core.Tracer) for c in closed.consts):
        return
    point = _generic(avals, 0)
    rules = [_gradients(function, point) for function in (lambda *a: _bound(equation, a), jaxpr_as_fun(closed))]
    for one, other in zip(*rules, strict=True):
        if np.linalg.norm((one - other).ravel()) > _SAME * np.linalg.norm(other.ravel()):
            reason = "its derivative rule is not the derivative of its function, and the NTK would follow the former"
            refuse(site(equation), reason, "take the limit of the function without the rule")


def _bound(equation: Any, values: Any) -> Any:
    out = equation.primitive.bind(*values, **equation.primitive.get_bind_params(equation.params))
    return list(out) if equation.primitive.multiple_results else [out]


def _generic(avals: list[Any], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    real = [jnp.issubdtype(a.dtype, jnp.floating) for a in avals]
    return [
        jnp.asarray(rng.standard_normal(a.shape) if r else np.zeros(a.shape), a.dtype)
        for a, r in zip(avals, real, strict=True)
    ]


def _gradients(function: Any, point: list[Any]) -> list[np.ndarray]:
    moving = [i for i, p in enumerate(point) if jnp.issubdtype(p.dtype, jnp.floating)]

    def chosen(*given: Any) -> Any:
        full = list(point)
        for i, value in zip(moving, given, strict=True):
            full[i] = value
        return [out for out in function(*full) if jnp.issubdtype(out.dtype, jnp.floating)]

    outs, pull = jax.vjp(chosen, *[point[i] for i in moving])
    return [np.asarray(g) for g in pull(_generic(outs, 1))]
