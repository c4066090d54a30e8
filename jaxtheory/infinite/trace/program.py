"""What is asked of a program before it is read: examples stay apart, and derivative rules are derivatives."""

import jax.numpy as jnp

from jaxtheory.infinite.errors import refuse, site
from jaxtheory.infinite.trace.arithmetic import DRAWS
from jaxtheory.programs.calls import Atom, Equation, Program, equations
from jaxtheory.programs.custom import rule_agrees

BATCH = 7919  # a prime that no other axis has: whatever axis it divides holds the batch
_OVER_AXES = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin", "reduce_and", "reduce_or")
_OVER_AXIS = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


def require_apart(closed: Program) -> None:
    """Raise where a program, traced at a batch of `BATCH` examples, mixes them or draws numbers for the batch."""
    for equation, outer in equations(closed):
        if any(_of_batch(v.aval.shape[d]) for v, d in _sums_of(equation)):
            refuse(
                site(equation, outer), "it mixes the examples of a batch", "normalize with running averages (inference)"
            )


def draws_together(closed: Program) -> bool:
    """Whether a program, traced at a batch of `BATCH` examples, draws its numbers once for all examples."""
    drawn = [(e, site(e, outer)) for e, outer in equations(closed) if e.primitive.name in DRAWS]
    kinds = {any(_of_batch(m) for v in e.outvars for m in v.aval.shape): where for e, where in drawn}
    if len(kinds) == 2:
        reason = f"it draws for every example, and {kinds[False].operation} at {kinds[False].place} for all at once"
        refuse(kinds[True], reason, "give all masks the shape of what they multiply")
    return True not in kinds


def _of_batch(extent: int) -> bool:
    return extent > 0 and extent % BATCH == 0


def _sums_of(equation: Equation) -> list[tuple[Atom, int]]:
    """Operands and the axes over which an equation sums, or puts in order."""
    name, p, operands = equation.primitive.name, equation.params, equation.invars
    if name in _OVER_AXES:
        return [(operands[0], int(d)) for d in p["axes"]]
    if name in _OVER_AXIS:
        return [(operands[0], p["axis"])]
    if name == "sort":
        return [(operands[0], p["dimension"])]
    if name == "dot_general":
        (left, right), _ = p["dimension_numbers"]
        return [*((operands[0], d) for d in left), *((operands[1], d) for d in right)]
    return []


def require_derivative(equation: Equation) -> None:
    """Raise where a custom rule is not the derivative of its function, such as a straight-through estimator."""
    moving = [i for i, v in enumerate(equation.invars) if jnp.issubdtype(v.aval.dtype, jnp.floating)]
    if rule_agrees(equation, moving) is False:
        reason = "its derivative rule is not the derivative of its function, and the NTK would follow the former"
        refuse(site(equation), reason, "take the limit of the function without the rule")
