"""Loops of unknown length that stand between a program's inputs and its outputs: reverse mode cannot pass them."""

import jax.numpy as jnp
from jax.extend.core import Literal

from jaxtheory.programs.calls import Equation, Program, opened, scan_sections, subprograms


def while_loops(program: Program, moved: list[bool]) -> tuple[list[bool], bool]:
    """Which outputs depend on the inputs that are `moved`, and whether a float among them comes from a while loop."""
    body, _ = opened(program)
    touched = {var for var, move in zip(body.invars, moved, strict=True) if move}
    found = False
    for equation in body.eqns:
        given = [not isinstance(v, Literal) and v in touched for v in equation.invars]
        if not any(given):
            continue
        outs, inside = _through(equation, given)
        found |= inside
        touched.update(var for var, move in zip(equation.outvars, outs, strict=True) if move)
    return [not isinstance(v, Literal) and v in touched for v in body.outvars], found


def _through(equation: Equation, given: list[bool]) -> tuple[list[bool], bool]:
    """The same of one equation."""
    name, outs = equation.primitive.name, [True] * len(equation.outvars)
    if name == "while":
        return outs, any(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in equation.outvars)
    if name.startswith("custom_"):  # a custom derivative replaces what it is the derivative of
        return outs, False
    found = False
    for inner in subprograms(equation):
        count = len(opened(inner)[0].invars)
        start = given[-count:] if count <= len(given) else [True] * count
        moved, inside = while_loops(inner, start)
        if name == "scan":  # what one turn leaves the next one starts from
            carried = _carried(equation, moved)
            moved, inside = while_loops(inner, [a or b for a, b in zip(start, carried, strict=True)])
        found |= inside
        # what a loop or a branch returns may depend on everything that it is given
        outs = moved if name not in ("scan", "cond") and len(moved) == len(outs) else outs
    return outs, found


def _carried(equation: Equation, outs: list[bool]) -> list[bool]:
    """The inputs of a turn of a scan that an earlier turn may have moved."""
    consts, carry = scan_sections(equation.params)
    return [False] * consts + outs[:carry] + [False] * (len(equation.invars) - consts - carry)
