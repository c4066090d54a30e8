"""What a compiled program sends between devices, read from its HLO."""

import math
import re
from typing import Any

_KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
_SENDS = re.compile(rf"= (\(?[^=]*?) ({_KINDS})(?:-start)?\(")
_ARRAY = re.compile(r"\w+\[([\d,]*)\]")


def collectives(compiled: Any) -> list[tuple[str, int]]:
    """(kind, numbers in the result) of every array that a collective of the program makes, in order of size.

    A loop's collectives count once. Arrays that the compiler sends together count one by one; the parts of an
    all-to-all together.
    """
    found = []
    for result, kind in _SENDS.findall(re.sub(r"/\*.*?\*/", "", compiled.as_text())):
        sizes = [math.prod(int(n) for n in shape.split(",") if n) for shape in _ARRAY.findall(result)]
        found += [(kind, sum(sizes))] if kind == "all-to-all" else [(kind, size) for size in sizes]
    return sorted(found, key=lambda one: (-one[1], one[0]))


def product_flops(jaxpr: Any) -> float:
    """Flops of the matrix products of a traced program, loops as often as they turn (a `while` once)."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * equation.outvars[0].aval.size * depth
        inner = [getattr(value, "jaxpr", value) for value in equation.params.values()]
        total += equation.params.get("length", 1) * sum(product_flops(each) for each in inner if hasattr(each, "eqns"))
    return total
