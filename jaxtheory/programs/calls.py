"""Jaxprs opened: functions that are called, loops, and the evaluation of one equation."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from jax.extend.core import ClosedJaxpr, Jaxpr, Primitive

INLINE = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
REMAT = {"checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr"}
CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
CALLS = frozenset({*INLINE, *REMAT, *CUSTOM})


@runtime_checkable
class Aval(Protocol):
    """What is known of an array before there is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        ...

    @property
    def size(self) -> int:
        """Their product."""
        ...

    @property
    def dtype(self) -> Any:
        """The type of its numbers, or of its keys."""
        ...


@runtime_checkable
class Atom(Protocol):
    """A variable or a literal of a jaxpr."""

    @property
    def aval(self) -> Aval:
        """Shape and dtype."""
        ...


@runtime_checkable
class Equation(Protocol):
    """One operation of a jaxpr: its primitive and parameters, what it reads and what it gives."""

    @property
    def primitive(self) -> Primitive:
        """The operation."""
        ...

    @property
    def params(self) -> dict[str, Any]:
        """Its static parameters."""
        ...

    @property
    def invars(self) -> Sequence[Atom]:
        """Operands."""
        ...

    @property
    def outvars(self) -> Sequence[Atom]:
        """Results."""
        ...

    @property
    def source_info(self) -> Any:
        """Where it was traced."""
        ...


@runtime_checkable
class Body(Protocol):
    """An open jaxpr."""

    @property
    def constvars(self) -> Sequence[Atom]:
        """Variables of its constants."""
        ...

    @property
    def invars(self) -> Sequence[Atom]:
        """Variables of its inputs."""
        ...

    @property
    def outvars(self) -> Sequence[Atom]:
        """What it returns."""
        ...

    @property
    def eqns(self) -> Sequence[Equation]:
        """Its operations, in order."""
        ...


Program = ClosedJaxpr | Jaxpr | Body


def opened(program: Program) -> tuple[Body, tuple[Any, ...]]:
    """A jaxpr and its constants, whether it came closed or open."""
    if isinstance(program, ClosedJaxpr):
        return program.jaxpr, tuple(program.consts)
    body: Any = program
    return body, ()


def body_of(equation: Equation) -> ClosedJaxpr | Jaxpr:
    """The jaxpr that a call (one of `CALLS`) runs on its operands."""
    return next(equation.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params)


def closed(program: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    """A jaxpr with its constants; an open one has none."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, [])


def subprograms(equation: Equation) -> list[ClosedJaxpr | Jaxpr]:
    """All jaxprs among the parameters of an equation: bodies, branches, conditions and derivative rules."""
    values = (value if isinstance(value, tuple | list) else (value,) for value in equation.params.values())
    return [value for group in values for value in group if isinstance(value, ClosedJaxpr | Jaxpr)]


def equations(program: Program, outer: tuple[Equation, ...] = ()) -> Iterator[tuple[Equation, tuple[Equation, ...]]]:
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


def bind(equation: Equation, values: Sequence[Any]) -> list[Any]:
    """Evaluate one equation as JAX has it, custom rules included."""
    params = equation.primitive.get_bind_params(equation.params)
    out = equation.primitive.bind(*values, **params)
    return list(out) if equation.primitive.multiple_results else [out]
