"""Functions of drawn scores whose first derivative jumps: that jump is missing in the derivative of their draws.

The tangent kernel is an average of products of first derivatives. Where these jump, its own derivative has a part that
no draw sees, so that it is refused; the derivative of the kernel of outputs needs first derivatives alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import jax
import jax.numpy as jnp

from jaxtheory.infinite.graph.nodes import (
    Bundle,
    Deterministic,
    Field,
    Function,
    HeadValues,
    JointFunction,
    Made,
    Need,
    Node,
)
from jaxtheory.programs.calls import Equation

_KINKED = frozenset({"abs", "ceil", "clamp", "floor", "max", "min", "round", "sign"})


@dataclass(frozen=True)
class _Marked:
    """How a quantity is made, and that its operation has a kink, or lets no derivative through."""

    make: Callable[[list[Made]], Made]
    kinked: bool

    def __call__(self, values: list[Made]) -> Made:
        return self.make(values)


def with_kinks(equation: Equation, operands: Sequence[Deterministic], out: Deterministic) -> Deterministic:
    """The output of an equation of draws, marked where its derivative jumps or is stopped."""
    name = equation.primitive.name
    kinked = name in _KINKED or (name == "select_n" and any(operands[0].copies))
    if out.make is None or not (kinked or name == "stop_gradient"):
        return out
    return replace(out, make=_Marked(out.make, kinked))


def differentiable_once(weights: Deterministic) -> Deterministic:
    """Attention weights whose second derivatives are refused if a kink of drawn scores is in them."""
    make = weights.make
    if make is None or not _has_kink(weights):
        return weights

    def made(values: list[Made]) -> Made:
        found = make(values)
        return found if isinstance(found, Bundle) else _once(jnp.asarray(found))

    return replace(weights, make=made)


def _has_kink(det: Deterministic) -> bool:
    stack: list[Need] = [det]
    seen: set[int] = set()
    while stack:
        need = stack.pop()
        if isinstance(need, HeadValues) and _bends(need.node):
            return True
        if not isinstance(need, Deterministic) or need.number in seen:
            continue
        seen.add(need.number)
        mark = need.make if isinstance(need.make, _Marked) else None
        if mark is not None and mark.kinked:
            return True
        stack += need.needs if mark is None else ()
    return False


def _bends(node: Node) -> bool:
    """Whether draws of a node go through a function that may have kinks."""
    inner = () if node.gaussian else node.parts
    return isinstance(node, Function | JointFunction | Field) or any(map(_bends, inner))


@jax.custom_jvp
def _once(value: jax.Array) -> jax.Array:
    return value


@_once.defjvp
def _once_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return primals[0], _one(primals[0]) * tangents[0]


@jax.custom_jvp
def _one(value: jax.Array) -> jax.Array:
    return jnp.ones_like(value)


@_one.defjvp
def _one_jvp(primals: object, tangents: object) -> NoReturn:
    raise ValueError(
        "gradient must be of nngp, or of attention weights without kinks, got that of the tangent kernel of drawn "
        "scores with kinks (max, abs, relu); differentiate nngp, or take finite differences with one key."
    )
