"""Elementwise functions of one number, built from the equations of a network and recognized when met again."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


class Expression(NamedTuple):
    """A primitive applied to expressions; `primitive` None is a constant, or an argument if `value` is None too."""

    primitive: Any
    params: dict[str, Any]
    arguments: tuple["Expression", ...]
    value: Any
    key: str


IDENTITY = Expression(None, {}, (), None, "x")


def variable(name: str) -> Expression:
    """One of several arguments."""
    return Expression(None, {}, (), None, name)


def constant(value: Any) -> Expression:
    """A number that does not depend on the argument."""
    array = np.asarray(value)
    kind = "f" if jnp.issubdtype(array.dtype, jnp.floating) else array.dtype.kind
    return Expression(None, {}, (), array, f"{kind}{array.reshape(()).item()!r}")


def bound(primitive: Any, params: dict[str, Any], arguments: tuple[Expression, ...]) -> Expression:
    """primitive(*arguments)."""
    told = sorted((name, str(value)) for name, value in params.items() if name not in ("sharding", "accuracy"))
    text = f"{primitive.name}{told}({','.join(a.key for a in arguments)})"
    return Expression(primitive, params, arguments, None, hashlib.sha256(text.encode()).hexdigest())


def composed(outer: Expression, inner: Expression) -> Expression:
    """outer ∘ inner."""
    return substituted(outer, {"x": inner})


def substituted(outer: Expression, arguments: dict[str, Expression]) -> Expression:
    """An expression with others in place of its arguments."""
    done = dict(arguments)

    def visit(e: Expression) -> Expression:
        if e.key not in done:
            done[e.key] = (
                e if e.primitive is None else bound(e.primitive, e.params, tuple(visit(a) for a in e.arguments))
            )
        return done[e.key]

    return visit(outer)


_BESIDE_ZERO = 1e-30


@lru_cache(maxsize=4096)
def _kept(key: str, holder: "_Holder") -> Callable[[Array], Array]:
    @jax.custom_jvp
    def function(x: Array) -> Array:
        return evaluated(holder.expression, {"x": x})

    @function.defjvp
    def jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        # at 0 itself the pieces of a smooth function, as max(x, 0) + log1p(exp(-|x|)), take sides that do not match
        (x,), (dx,) = primals, tangents
        beside = jnp.where(x == 0, jnp.full_like(x, _BESIDE_ZERO), x)
        _, slope = jax.jvp(lambda y: evaluated(holder.expression, {"x": y}), (beside,), (jnp.ones_like(x),))
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
    return _kept(expression.key, _Holder(expression))


def evaluated(expression: Expression, arguments: dict[str, Array]) -> Array:
    """The expression at arrays for its arguments, by name."""
    done, x = dict(arguments), next(iter(arguments.values()))
    shape = jnp.broadcast_shapes(*(a.shape for a in arguments.values()))

    def visit(e: Expression) -> Array:
        if e.key not in done:
            if e.primitive is None:
                dtype = x.dtype if jnp.issubdtype(e.value.dtype, jnp.floating) else e.value.dtype
                done[e.key] = jnp.broadcast_to(jnp.asarray(e.value.reshape(()), dtype), shape)
            else:
                done[e.key] = _bind(e, [jnp.broadcast_to(visit(a), shape) for a in e.arguments], x.dtype)
        return done[e.key]

    return jnp.broadcast_to(visit(expression), shape)


def _bind(expression: Expression, values: list[Array], dtype: Any) -> Array:
    """One primitive in the precision of the argument, whatever the precision it was traced in."""
    params = expression.params
    if expression.primitive.name == "convert_element_type":
        floating = jnp.issubdtype(params["new_dtype"], jnp.floating)
        return values[0].astype(dtype if floating else params["new_dtype"])
    if expression.primitive.name in ("copy", "reduce_precision"):
        return values[0]
    return expression.primitive.bind(*values, **params)


def primitive_of(function: Callable[..., Any], arguments: int) -> tuple[Any, dict[str, Any]]:
    """The primitive and parameters that JAX makes of an elementwise function such as `jnp.multiply`."""
    equation = jax.make_jaxpr(function)(*[np.zeros((2,), np.float32)] * arguments).jaxpr.eqns[0]
    return equation.primitive, equation.params


ADD, MULTIPLY = (primitive_of(f, 2) for f in (jax.lax.add, jax.lax.mul))
