"""Jaxprs opened: functions that are called, loops, and the evaluation of one equation."""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

INLINE = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
REMAT = {"checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr"}
CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
CALLS = frozenset({*INLINE, *REMAT, *CUSTOM})


def opened(program: Any) -> tuple[Jaxpr, tuple[Any, ...]]:
    """A jaxpr and its constants, whether it came closed or open."""
    return (program.jaxpr, tuple(program.consts)) if isinstance(program, ClosedJaxpr) else (program, ())


def body_of(equation: Any) -> Any:
    """The jaxpr that a call (one of `CALLS`) runs on its operands."""
    return next(equation.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params)


def closed(program: Any) -> ClosedJaxpr:
    """A jaxpr with its constants; an open one has none."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, [])


def subprograms(equation: Any) -> list[Any]:
    """All jaxprs among the parameters of an equation: bodies, branches, conditions and derivative rules."""
    values = (value if isinstance(value, tuple | list) else (value,) for value in equation.params.values())
    return [value for group in values for value in group if isinstance(value, ClosedJaxpr | Jaxpr)]


def equations(program: Any, outer: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every equation of a program, those of called functions and loops too, and the calls that it is in."""
    for equation in opened(program)[0].eqns:
        yield equation, outer
        for inner in subprograms(equation):
            yield from equations(inner, (*outer, equation))


def scan_sections(params: dict[str, Any]) -> tuple[int, int]:
    """Numbers of constants and carries of a scan, which newer JAX keeps as trees."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(tuple(consts.vals)), len(tuple(carry.vals))


def bind(equation: Any, values: list[Any]) -> list[Any]:
    """Evaluate one equation as JAX has it, custom rules included."""
    params = equation.primitive.get_bind_params(equation.params)
    out = equation.primitive.bind(*values, **params)
    return list(out) if equation.primitive.multiple_results else [out]
