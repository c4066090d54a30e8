"""Complex arrays as their real and imaginary parts, as rotary positions multiply them by exp(iθ)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Complex, Graph, Value
from jaxtheory.infinite.trace.rules import Rewriting
from jaxtheory.programs.calls import Equation

_PARTWISE = ("add", "add_any", "sub", "neg", "copy", "transpose", "reshape", "squeeze", "expand_dims", "slice")
_BROADCAST = "broadcast_in_dim"
_REASON = "it is given complex values"
_HINT = "write its real and imaginary parts as two arrays"


class _Parts(NamedTuple):
    """A complex number inside a program of real ones."""

    real: jax.Array
    imag: jax.Array


def pair(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
    """A complex array of two random ones."""
    real, imag = values
    if not (isinstance(real, ChannelArray) and isinstance(imag, ChannelArray)):
        refuse(where, "it makes complex numbers of parameters or known numbers", _HINT)
    return [Complex(real, imag)]


def by_parts(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> list[Value] | Rewriting:
    """An operation on complex arrays as one on their parts."""
    name, given = equation.primitive.name, values[0]
    if name in ("real", "imag") and isinstance(given, Complex):
        return [given.real if name == "real" else given.imag]
    known = ("mul", "conj", "dot_general", _BROADCAST, *_PARTWISE)
    if name not in known and not (name == "div" and not isinstance(values[1], Complex)):
        refuse(where, _REASON, _HINT)
    inputs: list[Value] = [x for v in values for x in ((v.real, v.imag) if isinstance(v, Complex) else (v,))]
    dtype = jnp.finfo(equation.outvars[0].aval.dtype).dtype
    avals: list[jax.ShapeDtypeStruct] = []
    for v, aval in zip(values, (v.aval for v in equation.invars), strict=True):
        parts = [dtype] * 2 if isinstance(v, Complex) else [aval.dtype]
        avals += [jax.ShapeDtypeStruct(aval.shape, part) for part in parts]

    def program(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        left = iter(arrays)
        parts = [_Parts(next(left), next(left)) if isinstance(v, Complex) else _split(next(left)) for v in values]
        return _operation(equation, parts)

    return Rewriting(jax.make_jaxpr(program)(*avals), inputs, _pack)


def _pack(parts: list[Value]) -> list[Value]:
    real, imag = parts
    assert isinstance(real, ChannelArray)
    assert isinstance(imag, ChannelArray)
    return [Complex(real, imag)]


def _split(known: jax.Array) -> _Parts:
    return _Parts(jnp.real(known), jnp.imag(known))


def _operation(equation: Equation, parts: Sequence[_Parts]) -> tuple[jax.Array, jax.Array]:
    """Real and imaginary part of an operation."""
    name, a, b = equation.primitive.name, parts[0], parts[-1]
    if name == "conj":
        return a.real, -a.imag
    if name == "mul":
        return a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real
    if name == "div":
        size = b.real**2 + b.imag**2
        return (a.real * b.real + a.imag * b.imag) / size, (a.imag * b.real - a.real * b.imag) / size
    if name == "dot_general":
        dot = lambda x, y: lax.dot_general(x, y, equation.params["dimension_numbers"])  # noqa: E731
        return dot(a.real, b.real) - dot(a.imag, b.imag), dot(a.real, b.imag) + dot(a.imag, b.real)
    each = lambda arrays: equation.primitive.bind(*arrays, **equation.params)  # noqa: E731
    return each([p.real for p in parts]), each([p.imag for p in parts])
