"""Elementwise functions of one number, built from the equations of a network and recognized when met again."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxtheory.programs.calls import Equation


class Operation(NamedTuple):
    """A primitive and its parameters."""

    primitive: Primitive
    params: Mapping[str, object]


class Variable(NamedTuple):
    """An argument, by name."""

    key: str


class Constant(NamedTuple):
    """A number that does not depend on the arguments."""

    value: np.ndarray
    key: str


class Application(NamedTuple):
    """An operation on expressions; equal ones have equal keys."""

    operation: Operation
    arguments: tuple["Expression", ...]
    key: str


Expression = Variable | Constant | Application
IDENTITY = Variable("x")


def constant(value: ArrayLike) -> Constant:
    """One number as an expression."""
    array = np.asarray(value).reshape(())
    kind = "f" if jnp.issubdtype(array.dtype, jnp.floating) else array.dtype.kind
    return Constant(array, f"{kind}{array.item()!r}")


def apply(operation: Operation, arguments: Iterable[Expression]) -> Application:
    """operation(*arguments)."""
    given = tuple(arguments)
    params = operation.params.items()
    named = sorted((name, str(value)) for name, value in params if name not in ("sharding", "accuracy"))
    text = f"{operation.primitive.name}{named}({','.join(a.key for a in given)})"
    return Application(operation, given, hashlib.sha256(text.encode()).hexdigest())


def fold(operation: Operation, expressions: list[Expression]) -> Expression:
    """The sum, product, ... of expressions."""
    total = expressions[0]
    for e in expressions[1:]:
        total = apply(operation, (total, e))
    return total


def compose(outer: Expression, inner: Expression) -> Expression:
    """outer ∘ inner."""
    return substitute(outer, {"x": inner})


def substitute(outer: Expression, arguments: Mapping[str, Expression]) -> Expression:
    """An expression with others in place of its arguments."""
    done = dict(arguments)

    def visit(e: Expression) -> Expression:
        if e.key not in done:
            done[e.key] = apply(e.operation, map(visit, e.arguments)) if isinstance(e, Application) else e
        return done[e.key]

    return visit(outer)


_BESIDE_ZERO = 1e-30


@lru_cache(maxsize=4096)
def _from_cache(key: str, holder: "_Holder") -> Callable[[Array], Array]:
    @jax.custom_jvp
    def function(x: Array) -> Array:
        return evaluate(holder.expression, {"x": x})

    @function.defjvp
    def jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        # at 0 itself the pieces of a smooth function, as max(x, 0) + log1p(exp(-|x|)), take sides that do not match
        (x,), (dx,) = primals, tangents
        beside = x + jnp.where(x == 0, _BESIDE_ZERO, 0).astype(x.dtype)  # a sum, whose own derivative is 1 at 0 too
        _, slope = jax.jvp(lambda y: evaluate(holder.expression, {"x": y}), (beside,), (jnp.ones_like(x),))
        return function(x), slope * dx

    return function


class _Holder:
    """Carries an expression past the cache, which knows it by its key alone."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Holder)

    def __hash__(self) -> int:
        return 0


def as_function(expression: Expression) -> Callable[[Array], Array]:
    """The expression as an elementwise function of an array; equal expressions give the same function object.

    >>> float(as_function(IDENTITY)(jnp.float32(2.0)))
    2.0
    """
    return _from_cache(expression.key, _Holder(expression))


def evaluate(expression: Expression, arguments: Mapping[str, Array]) -> Array:
    """The expression at arrays for its arguments, by name."""
    done, x = dict(arguments), next(iter(arguments.values()))
    shape = jnp.broadcast_shapes(*(a.shape for a in arguments.values()))

    def visit(e: Expression) -> Array:
        if e.key not in done:
            if isinstance(e, Application):
                done[e.key] = _bind(e.operation, [jnp.broadcast_to(visit(a), shape) for a in e.arguments], x.dtype)
            elif isinstance(e, Constant):
                dtype = x.dtype if jnp.issubdtype(e.value.dtype, jnp.floating) else e.value.dtype
                done[e.key] = jnp.broadcast_to(jnp.asarray(e.value, dtype), shape)
        return done[e.key]

    return jnp.broadcast_to(visit(expression), shape)


def _bind(operation: Operation, values: list[Array], dtype: np.dtype) -> Array:
    """One primitive in the precision of the argument, whatever the precision it was traced in."""
    primitive, params = operation
    if primitive.name == "convert_element_type":
        target = np.dtype(str(params["new_dtype"]))
        return values[0].astype(dtype if jnp.issubdtype(target, jnp.floating) else target)
    if primitive.name in ("copy", "reduce_precision"):
        return values[0]
    flags = primitive.name == "select_n"
    if any(jnp.issubdtype(v.dtype, jnp.floating) for v in values[flags:]):
        # sums and products of integers, as 2 * (x > 0) - 1, have become those of real numbers
        values = [*values[:flags], *(v.astype(dtype) for v in values[flags:])]
    return primitive.bind(*values, **params)


def operation_of(equation: Equation) -> Operation:
    """The operation of an elementwise equation."""
    return Operation(equation.primitive, equation.params)


def _operation(function: Callable[[Array, Array], Array]) -> Operation:
    """What JAX makes of an elementwise function of two numbers."""
    return operation_of(jax.make_jaxpr(function)(*[np.zeros((2,), np.float32)] * 2).jaxpr.eqns[0])


ADD, MULTIPLY = (_operation(f) for f in (jax.lax.add, jax.lax.mul))
