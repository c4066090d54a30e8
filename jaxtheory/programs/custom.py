"""Whether a custom derivative rule is that of its function, so that the function may be looked into."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array

from jaxtheory.programs.calls import Aval, Equation, bind, body_of, closed


def rule_agrees(equation: Equation, operands: list[int]) -> bool | None:
    """Compare, at one generic point, the custom derivative in `operands` with that of the inlined function.

    A rule that means something else (a straight-through estimator, a clipped gradient) must be kept; one that only
    says the same faster need not be. A function that has no derivative but its rule does not agree. None where it
    cannot be told: an operand that is no number, or a constant that an outer transformation traces.
    Cost: two vector-Jacobian products of the function, at trace time, once.
    """
    avals = [v.aval for v in equation.invars]
    if not all(jnp.issubdtype(a.dtype, jnp.number) or a.dtype == bool for a in avals):
        return None
    function = closed(body_of(equation))
    if any(isinstance(c, jax.core.Tracer) for c in function.consts):
        return None
    with jax.ensure_compile_time_eval():
        point = _generic(avals, np.random.default_rng(0))
        custom = _gradient(lambda *args: bind(equation, list(args)), point, operands)
        try:
            plain = _gradient(lambda *args: jaxpr_as_fun(function)(*args), point, operands)
        except Exception:  # the rule is there because JAX cannot differentiate the function, e.g. a while loop
            return False
    return all(_close(x, y) for x, y in zip(custom, plain, strict=True))


def _generic(avals: Sequence[Aval], rng: np.random.Generator) -> list[Array]:
    draws = [rng.standard_normal(a.shape) if jnp.issubdtype(a.dtype, jnp.inexact) else np.zeros(a.shape) for a in avals]
    return [jnp.asarray(draw, a.dtype) for draw, a in zip(draws, avals, strict=True)]


def _gradient(function: Callable[..., list[Array]], point: list[Array], operands: list[int]) -> list[np.ndarray]:
    def chosen(*args: Array) -> list[Array]:
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
