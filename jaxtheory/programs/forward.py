"""Jacobian-vector products of any function that has vector-Jacobian products."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jaxtyping import PyTree

from jaxtheory.checks import require
from jaxtheory.programs.calls import Program, equations

T = TypeVar("T")


def pushforward(function: Callable[[PyTree], T], point: PyTree) -> tuple[T, Callable[[PyTree], T]]:
    """The value of `function` at `point` and v ↦ ∂f(point) v, as `jax.linearize` gives them.

    A function with a `jax.custom_vjp` has no forward mode. Its pullback u ↦ uᵀ ∂f is linear in u; the transpose of that
    is v ↦ ∂f v, with the derivatives that the custom rule states.

    Raises:
        ValueError: a custom rule that is not linear in the cotangent, or not by operations that can be transposed.

    Cost: a forward and a backward pass at most.
    """
    out, push = jax.linearize(function, point)
    if not _stays_reverse(jax.make_jaxpr(push)(point)):
        return out, push
    out, pull = jax.vjp(function, point)
    try:
        transposed = jax.linear_transpose(pull, out)
        jax.eval_shape(transposed, (point,))
    except Exception as error:
        told = f"a custom derivative that cannot be transposed ({type(error).__name__})"
        hint = "use empirical.ntk with method='jacobian', which takes reverse mode alone"
        require(False, "f", told, "have a rule that is linear in the cotangent", hint)
        raise
    return out, lambda step: transposed((step,))[0]


def _stays_reverse(jaxpr: Program) -> bool:
    """Whether a linear map holds the tangent of a custom_vjp, which only its transpose can evaluate."""
    return any(equation.primitive.name == "custom_lin" for equation, _ in equations(jaxpr))
