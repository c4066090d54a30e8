"""Programs in which complex weights made of real parameters are multiplied by their real and imaginary parts.

(a + i b)(w + i u) = (a w − b u) + i (a u + b w): four products in each of which one real parameter stands alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array

from jaxtheory.programs.calls import INLINE, REMAT, Equation, bind, body_of, closed, equations, opened, scan_sections

_MOVES = frozenset(
    {"transpose", "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "rev", "neg", "copy"}
)


class _Pair(NamedTuple):
    """A complex array that no example enters, as its parts, one of which may be None, zero."""

    real: Array | None
    imag: Array | None


def with_real_products(program: ClosedJaxpr, parameters: int) -> ClosedJaxpr:
    """The same function, products of matrices with complex weights written as real ones.

    Args:
        program: a jaxpr.
        parameters: how many of its inputs, the first ones, are parameters; the others are an example.

    Cost: one trace, where complex numbers are multiplied at all.
    """
    products = (e for e, _ in equations(program) if e.primitive.name == "dot_general")
    if not any(jnp.issubdtype(e.outvars[0].aval.dtype, jnp.complexfloating) for e in products):
        return program
    moving = [False] * parameters + [True] * (len(program.jaxpr.invars) - parameters)
    return _rewritten(program, moving)


def _rewritten(program: ClosedJaxpr, moving: list[bool]) -> ClosedJaxpr:
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in program.jaxpr.invars]
    return jax.make_jaxpr(lambda *inputs: [_whole(v) for v in _run(program, list(inputs), moving)[0]])(*shapes)


def _run(program: ClosedJaxpr | Jaxpr, inputs: list[Any], moving: list[bool]) -> tuple[list[Any], list[bool]]:
    """Values of the outputs, some of them pairs, and whether an example enters them."""
    body, consts = opened(program)
    env: dict[Any, tuple[Any, bool]] = {v: (c, False) for v, c in zip(body.constvars, consts, strict=True)}
    env.update(zip(body.invars, zip(inputs, moving, strict=True), strict=True))

    def read(atom: Any) -> tuple[Any, bool]:
        return (atom.val, False) if isinstance(atom, Literal) else env[atom]

    for equation in body.eqns:
        found = [read(v) for v in equation.invars]
        values, moves = [value for value, _ in found], any(move for _, move in found)
        if equation.primitive.name in INLINE:
            outs, each = _run(body_of(equation), values, [move for _, move in found])
        else:
            outs = _outputs(equation, values, [move for _, move in found])
            each = [moves] * len(outs)
        env.update(zip(equation.outvars, zip(outs, each, strict=True), strict=True))
    results = [read(v) for v in body.outvars]
    return [value for value, _ in results], [move for _, move in results]


def _outputs(equation: Equation, values: list[Any], moves: list[bool]) -> list[Any]:
    name, pairs = equation.primitive.name, [isinstance(value, _Pair) for value in values]
    if name == "dot_general" and any(pairs):
        return [_product(equation, *map(_parts, values))]
    made = None if any(moves) else _combined(equation, values)
    if made is not None:
        return [made]
    wholes = [_whole(value) for value in values]
    if equation.primitive.name not in _NESTED:
        return bind(equation, wholes)
    params = equation.primitive.get_bind_params(equation.params | _NESTED[equation.primitive.name](equation, moves))
    return list(equation.primitive.bind(*wholes, **params))


def _combined(equation: Equation, values: list[Any]) -> _Pair | None:
    """The pair that an equation makes of pairs or of real numbers, or None."""
    name, out = equation.primitive.name, equation.outvars[0].aval
    if not jnp.issubdtype(out.dtype, jnp.complexfloating):
        return None
    if name == "complex" and all(jnp.shape(value) == out.shape for value in values):
        return _Pair(*values)
    if name == "convert_element_type" and not jnp.iscomplexobj(_whole(values[0])):
        return _Pair(lax.convert_element_type(values[0], jnp.finfo(out.dtype).dtype), None)
    if name in _MOVES and isinstance(values[0], _Pair):
        return _Pair(*(None if part is None else bind(equation, [part])[0] for part in values[0]))
    if name in ("add", "add_any", "sub") and all(isinstance(value, _Pair) for value in values):
        sign = -1 if name == "sub" else 1
        return _Pair(*(_sum(a, b, sign) for a, b in zip(*values, strict=True)))
    if name == "mul":
        for atom, value in ((equation.invars[0], values[1]), (equation.invars[1], values[0])):
            if isinstance(atom, Literal) and atom.val and isinstance(value, _Pair):
                return _scaled(complex(atom.val), value)
    return None


def _scaled(number: complex, pair: _Pair) -> _Pair:
    times = lambda c, part: None if part is None or c == 0 else part if c == 1 else c * part  # noqa: E731
    real = _sum(times(number.real, pair.real), times(number.imag, pair.imag), -1)
    return _Pair(real, _sum(times(number.real, pair.imag), times(number.imag, pair.real), 1))


def _product(equation: Equation, left: _Pair, right: _Pair) -> Array:
    """The complex product from products of real matrices."""
    kind = jnp.finfo(equation.outvars[0].aval.dtype).dtype
    wanted = None if equation.params["preferred_element_type"] is None else kind
    params = equation.primitive.get_bind_params(equation.params | {"preferred_element_type": wanted})

    def times(a: Array | None, b: Array | None) -> Array | None:
        return None if a is None or b is None else equation.primitive.bind(a, b, **params)

    real = _sum(times(left.real, right.real), times(left.imag, right.imag), -1)
    imag = _sum(times(left.real, right.imag), times(left.imag, right.real), 1)
    return _whole(_Pair(real, imag))


def _sum(a: Array | None, b: Array | None, sign: int) -> Array | None:
    if a is None or b is None:
        return a if b is None else b if sign > 0 else -b
    return a + b if sign > 0 else a - b


def _parts(value: Any) -> _Pair:
    if isinstance(value, _Pair):
        return value
    return _Pair(lax.real(value), lax.imag(value)) if jnp.iscomplexobj(value) else _Pair(value, None)


def _whole(value: Any) -> Any:
    if not isinstance(value, _Pair):
        return value
    real, imag = value
    if real is None:
        real = jnp.zeros_like(imag)  # type: ignore[arg-type]  # one of them is not None
    return lax.complex(real, jnp.zeros_like(real) if imag is None else imag)


def _scan(equation: Equation, moves: list[bool]) -> dict[str, Any]:
    consts, carries = scan_sections(equation.params)
    turning = [*moves[:consts], *[True] * carries, *moves[consts + carries :]]
    return {"jaxpr": _rewritten(equation.params["jaxpr"], turning)}


def _cond(equation: Equation, moves: list[bool]) -> dict[str, Any]:
    return {"branches": tuple(_rewritten(branch, moves[1:]) for branch in equation.params["branches"])}


def _checkpoint(equation: Equation, moves: list[bool]) -> dict[str, Any]:
    """Its program is an open one: it has no place for new constants."""
    found = _rewritten(closed(body_of(equation)), moves)
    return {} if found.consts else {"jaxpr": found.jaxpr}


_NESTED = {"scan": _scan, "cond": _cond, **dict.fromkeys(REMAT, _checkpoint)}
