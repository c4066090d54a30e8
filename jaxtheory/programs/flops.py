"""Flops and intermediates of one evaluation of a program, from its jaxpr."""

import math

from jaxtheory.programs.calls import Equation, Program, opened, subprograms


def forward_flops(jaxpr: Program, kinds: frozenset[str] | None = None) -> float:
    """Flops of one evaluation: products counted, everything else one flop an entry; loops as often as they turn.

    With `kinds`, those of the primitives of these names alone.
    """
    body, _ = opened(jaxpr)
    return float(sum(_equation_flops(equation, kinds) for equation in body.eqns))


def _equation_flops(equation: Equation, kinds: frozenset[str] | None) -> float:
    name, params = equation.primitive.name, equation.params
    out = float(getattr(equation.outvars[0].aval, "size", 0)) if equation.outvars else 0.0
    inner = [] if name == "cond" else subprograms(equation)
    if name == "cond":
        return max(forward_flops(branch, kinds) for branch in params["branches"])
    if inner:
        return params.get("length", 1) * sum(forward_flops(j, kinds) for j in inner)
    if kinds is not None and name not in kinds:
        return 0.0
    if name == "dot_general":
        (contract, _), _ = params["dimension_numbers"]
        return 2 * out * float(math.prod(equation.invars[0].aval.shape[d] for d in contract))
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        return 2 * out * kernel.size / kernel.shape[params["dimension_numbers"].rhs_spec[0]]
    return out


def activations(jaxpr: Program) -> tuple[int, int]:
    """Numbers in the largest intermediate of a program, and in all of them; those of a scan as often as it turns."""
    largest, total = 1, 0
    for equation in opened(jaxpr)[0].eqns:
        inner = [activations(program) for program in subprograms(equation)]
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        sizes = [getattr(v.aval, "size", 0) for v in equation.outvars]
        largest = max(largest, *sizes, *(turns * size for size, _ in inner))
        total += turns * sum(size for _, size in inner) if inner else sum(sizes)
    return largest, total
