"""Whether a custom derivative rule is that of its function, so that the function may be looked into."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


def bind(equation: Any, values: list[Any]) -> list[Any]:
    """Evaluate one equation as JAX has it, custom rules included."""
    params = equation.primitive.get_bind_params(equation.params)
    out = equation.primitive.bind(*values, **params)
    return list(out) if equation.primitive.multiple_results else [out]


def rule_agrees(equation: Any, operands: list[int]) -> bool:
    """Compare, at one generic point, the custom derivative in `operands` with that of the inlined function.

    A rule that means something else (a straight-through estimator, a clipped gradient) must be kept; one that only
    says the same faster need not be. A function that has no derivative but its rule does not agree.
    Cost: two vector-Jacobian products of the function, at trace time, once.
    """
    avals = [v.aval for v in equation.invars]
    if not all(jnp.issubdtype(a.dtype, jnp.number) or a.dtype == bool for a in avals):
        return False
    body = equation.params["call_jaxpr" if "call_jaxpr" in equation.params else "fun_jaxpr"]
    closed = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, [])
    if any(isinstance(c, jax.core.Tracer) for c in closed.consts):
        return False
    with jax.ensure_compile_time_eval():
        point = _generic(avals, np.random.default_rng(0))
        custom = _gradient(lambda *args: bind(equation, list(args)), point, operands)
        try:
            plain = _gradient(lambda *args: jaxpr_as_fun(closed)(*args), point, operands)
        except Exception:  # the rule is there because JAX cannot differentiate the function, e.g. a while loop
            return False
    return all(_close(x, y) for x, y in zip(custom, plain, strict=True))


def _generic(avals: list[Any], rng: np.random.Generator) -> list[Any]:
    draws = [rng.standard_normal(a.shape) if jnp.issubdtype(a.dtype, jnp.inexact) else np.zeros(a.shape) for a in avals]
    return [jnp.asarray(draw, a.dtype) for draw, a in zip(draws, avals, strict=True)]


def _gradient(function: Any, point: list[Any], operands: list[int]) -> list[np.ndarray]:
    def chosen(*args: Any) -> Any:
        full = list(point)
        for i, arg in zip(operands, args, strict=True):
            full[i] = arg
        return [out for out in function(*full) if jnp.issubdtype(out.dtype, jnp.inexact)]

    outs, pull = jax.vjp(chosen, *[point[i] for i in operands])
    weights = _generic(outs, np.random.default_rng(1))
    return [np.asarray(grad) for grad in pull(weights)]


def _close(x: np.ndarray, y: np.ndarray) -> bool:
    # two float32 evaluations of one function differ by roundings; two different rules by their own size
    return bool(np.linalg.norm((x - y).ravel()) <= 1e-3 * np.linalg.norm(y.ravel()))
