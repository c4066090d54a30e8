"""Norms of parameters that a program divides them by, as weight normalization does."""

import math

from jaxtheory.networks.parameterization.records import Norm, Value
from jaxtheory.networks.parameterization.views import LAYOUT, View
from jaxtheory.programs.calls import Equation

_SHIFTS = {"add", "sub", "max", "min", "select_n"}  # ε beside a norm
_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "square": 2.0}


def norm_of(equation: Equation, values: list[Value]) -> Norm | None:
    """What an equation of no data makes of squares of a parameter, or of the norm of one."""
    name, first = equation.primitive.name, values[0] if values else Value()
    if name == "reduce_sum" and first.views and {(v.leaf, v.degree) for v in first.views} == {(first.views[0].leaf, 2)}:
        size = math.prod(equation.invars[0].aval.shape) / math.prod(equation.outvars[0].aval.shape)
        return Norm(first.views[0].leaf, size, 2.0)
    norms = [value.norm for value in values if value.norm is not None]
    if len(norms) != 1 or any(value.views for value in values):
        return None
    (norm,), numbers = norms, [value.number for value in values if value.number]
    if name in LAYOUT or name in _SHIFTS:
        return norm
    if name in _POWERS:
        return norm._replace(power=norm.power * _POWERS[name])
    if name in ("mul", "div") and numbers:
        if name == "div" and values[0].norm is None:
            norm = norm._replace(power=-norm.power)
        factor = numbers[0] if name == "mul" or values[0].norm is None else 1 / numbers[0]
        return norm._replace(square=norm.square * factor ** (2 / norm.power))
    return None


def normalized(equation: Equation, values: list[Value]) -> tuple[int, float] | None:
    """A parameter over its own norm, w/‖w‖: which, and the root mean square of the quotient's entries."""
    name = equation.primitive.name
    if name not in ("mul", "div"):
        return None
    for value, other in (values, values[::-1]):
        if not value.views or other.norm is None or (name == "div" and other is values[0]):
            continue
        power = other.norm.power if name == "div" else -other.norm.power
        if power == 1 and any((view.leaf, view.degree) == (other.norm.leaf, 1) for view in value.views):
            return other.norm.leaf, other.norm.square**-0.5
    return None


def raised(equation: Equation, values: list[Value], view: View) -> View:
    """The view of an output, with the degree of its square where an equation squares."""
    name = equation.primitive.name
    twice = name == "square" or (name == "integer_pow" and equation.params["y"] == 2)
    if name == "mul":
        twice = all(any(other.leaf == view.leaf for other in value.views) for value in values)
    return view._replace(degree=2 * view.degree) if twice else view
