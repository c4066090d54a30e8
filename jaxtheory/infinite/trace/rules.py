"""What the rules of primitives have in common: their signature, and how they read an equation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Primitive

from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import ChannelArray, Graph, Value
from jaxtheory.programs.calls import Atom, Equation


class Rewriting(NamedTuple):
    """The outputs of an operation as those of a program of simpler ones, or as what `pack` makes of those."""

    program: ClosedJaxpr
    inputs: list[Value]
    pack: Callable[[list[Value]], list[Value]] = list


class _Part(NamedTuple):
    """An equation of a rewritten operation, which stands where that operation does."""

    primitive: Primitive
    params: dict[str, Any]
    invars: Sequence[Atom]
    outvars: Sequence[Atom]
    source_info: Any


def part_of(operation: Equation, equation: Equation) -> Equation:
    """An equation of the program that an operation is rewritten as."""
    return _Part(equation.primitive, equation.params, equation.invars, equation.outvars, operation.source_info)


Rule = Callable[[Graph, Site, Equation, list[Value]], list[Value] | Rewriting]


class Dimensions(NamedTuple):
    """The axes of an operand of `dot_general` that run with those of the other, and that are summed over."""

    batch: tuple[int, ...]
    contracted: tuple[int, ...]

    def free(self, rank: int) -> list[int]:
        """All other axes of an operand."""
        return [d for d in range(rank) if d not in (*self.batch, *self.contracted)]


def dot_dimensions(equation: Equation) -> tuple[Dimensions, Dimensions]:
    """Of the left and of the right operand of `dot_general`."""
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    return Dimensions(tuple(left_batch), tuple(left)), Dimensions(tuple(right_batch), tuple(right))


def random_array(where: Site, value: Value, reason: str, hint: str) -> ChannelArray:
    """A value that has to be a random array, refused with a reason where it is not."""
    if not isinstance(value, ChannelArray):
        refuse(where, reason, hint)
    return value
