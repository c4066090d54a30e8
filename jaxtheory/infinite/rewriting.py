"""Products with known arrays, as multiplications and sums over axes."""

import jax
from jax import lax
from jax.extend.core import Literal

from jaxtheory.infinite import arithmetic
from jaxtheory.infinite.deterministic import known
from jaxtheory.infinite.elementwise import elementwise
from jaxtheory.infinite.errors import Site
from jaxtheory.infinite.graph import Graph
from jaxtheory.infinite.layout import Value
from jaxtheory.infinite.movement import RULES as MOVES
from jaxtheory.infinite.nodes import Deterministic, Shape
from jaxtheory.infinite.reductions import reduce_sum
from jaxtheory.infinite.rules import Rule, dot_dimensions
from jaxtheory.programs.calls import Atom, Body, Equation


def product_and_sum(graph: Graph, where: Site, equation: Equation, values: list[Value]) -> Value:
    """dot_general as it is defined: products over batch, contracted and free axes, summed over those contracted."""
    (lb, lc), (rb, rc) = dims = dot_dimensions(equation)
    (left, right), shape = (v.aval for v in equation.invars), equation.outvars[0].aval.shape
    lf, rf = (side.free(len(a.shape)) for side, a in zip(dims, (left, right), strict=True))
    sizes = (*shape, *(left.shape[d] for d in lc))
    summed = tuple(range(len(shape), len(sizes)))
    batch, first = tuple(range(len(lb))), len(lb) + len(lf)
    of_left = dict(zip((*lb, *lf, *lc), (*batch, *range(len(lb), first), *summed), strict=True))
    of_right = dict(zip((*rb, *rf, *rc), (*batch, *range(first, len(shape)), *summed), strict=True))

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        wide = [_spread(x, places, sizes) for x, places in ((a, of_left), (b, of_right))]
        return lax.reduce_sum(lax.mul(*wide), summed) if summed else lax.mul(*wide)

    dtype = equation.outvars[0].aval.dtype
    avals = [jax.ShapeDtypeStruct(a.shape, dtype) for a in (left, right)]
    return _walked(graph, where, jax.make_jaxpr(product)(*avals).jaxpr, values)


def _spread(array: jax.Array, places: dict[int, int], sizes: Shape) -> jax.Array:
    """An array whose axes go to given places of a larger one."""
    order = sorted(places, key=lambda d: places[d])
    return lax.broadcast_in_dim(lax.transpose(array, order), sizes, sorted(places.values()))


_RULES: dict[str, Rule] = {**MOVES, "reduce_sum": reduce_sum}


def _walked(graph: Graph, where: Site, jaxpr: Body, values: list[Value]) -> Value:
    env: dict[Atom, Value] = dict(zip(jaxpr.invars, values, strict=True))
    for equation in jaxpr.eqns:
        given = [known(v.val) if isinstance(v, Literal) else env[v] for v in equation.invars]
        known_operands = [v for v in given if isinstance(v, Deterministic)]
        if len(known_operands) == len(given):
            outs: list[Value] = [*arithmetic.apply(equation, known_operands)]
        elif equation.primitive.name == "mul":
            outs = [elementwise(graph, where, equation, given)]
        else:
            outs = _RULES[equation.primitive.name](graph, where, equation, given)
        env.update(zip(equation.outvars, outs, strict=True))
    return env[jaxpr.outvars[0]]
