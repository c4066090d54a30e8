"""Products in which several heads of one operand meet the same head of the other, as with grouped queries."""

import jax
from jax import lax

from jaxtheory.infinite.graph import ChannelArray, Graph, Value
from jaxtheory.infinite.graph.nodes import Deterministic
from jaxtheory.infinite.trace.rules import Dimensions, Rewriting, dot_dimensions
from jaxtheory.programs.calls import Equation


def with_heads_of_both(graph: Graph, equation: Equation, values: list[Value]) -> Rewriting | None:
    """The product with the shared heads repeated, so that heads run together; None where no head is free."""
    left, right = values
    if isinstance(left, ChannelArray) and isinstance(right, ChannelArray):
        if not graph.share_numbers_alone(left.node, right.node):
            return None
    elif not any(isinstance(v, Deterministic) and any(v.copies) for v in values):
        return None
    dims = dot_dimensions(equation)
    for k, (value, side) in enumerate(zip(values, dims, strict=True)):
        free = [d for d in side.free(len(value.shape)) if _is_head(value, d)]
        if free and isinstance(values[1 - k], ChannelArray):
            return _repeated(equation, values, k, free)
    return None


def _is_head(value: Value, axis: int) -> bool:
    """Whether an axis is one of independent copies."""
    if isinstance(value, ChannelArray):
        return [f.kind for f in value.axes[axis]] == ["c"]
    return isinstance(value, Deterministic) and bool(value.copies) and value.copies[axis]


def _repeated(equation: Equation, values: list[Value], which: int, heads: list[int]) -> Rewriting:
    """The operand other than `which` repeated along the axes `heads` of this one, which both then have."""
    dims, avals = list(dot_dimensions(equation)), [v.aval for v in equation.invars]
    sizes, added = tuple(avals[which].shape[d] for d in heads), len(heads)
    free = [[(k, d) for d in side.free(len(avals[k].shape))] for k, side in enumerate(dims)]
    batch = [(0, d) for d in dims[0].batch]
    before = [*batch, *free[0], *free[1]]
    shared = [(which, d) for d in heads]
    after = [*batch, *shared, *(label for label in (*free[0], *free[1]) if label not in shared)]
    own, other = dims[which], dims[1 - which]
    dims[which] = Dimensions((*own.batch, *heads), own.contracted)
    dims[1 - which] = Dimensions(
        (*(d + added for d in other.batch), *range(added)), tuple(d + added for d in other.contracted)
    )
    numbers = ((dims[0].contracted, dims[1].contracted), (dims[0].batch, dims[1].batch))

    def program(*arrays: jax.Array) -> jax.Array:
        given = list(arrays)
        given[1 - which] = lax.broadcast(given[1 - which], sizes)
        product = lax.dot_general(given[0], given[1], numbers)
        return lax.transpose(product, [after.index(label) for label in before])

    dtype = equation.outvars[0].aval.dtype
    return Rewriting(jax.make_jaxpr(program)(*(jax.ShapeDtypeStruct(a.shape, dtype) for a in avals)), values)
