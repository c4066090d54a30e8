"""Products with known arrays, as multiplications and sums over axes."""

import functools

import jax
import numpy as np
from jax import lax

from jaxtheory.infinite.graph import Value
from jaxtheory.infinite.graph.nodes import Shape
from jaxtheory.infinite.trace.rules import Rewriting, dot_dimensions
from jaxtheory.programs.calls import Equation


def product_and_sum(equation: Equation, values: list[Value], *, one_by_one: bool = False) -> Rewriting:
    """dot_general as it is defined: products over batch, contracted and free axes, summed over those contracted.

    With `one_by_one` what is contracted is sliced entry by entry, so that a free axis may take its place.
    """
    (lb, lc), (rb, rc) = dims = dot_dimensions(equation)
    (left, right), shape = (v.aval for v in equation.invars), equation.outvars[0].aval.shape
    lf, rf = (side.free(len(a.shape)) for side, a in zip(dims, (left, right), strict=True))
    counts = [left.shape[d] for d in lc]
    sizes = (*shape, *((1,) * len(lc) if one_by_one else counts))
    summed = tuple(range(len(shape), len(sizes)))
    batch, first = tuple(range(len(lb))), len(lb) + len(lf)
    of_left = dict(zip((*lb, *lf, *lc), (*batch, *range(len(lb), first), *summed), strict=True))
    of_right = dict(zip((*rb, *rf, *rc), (*batch, *range(first, len(shape)), *summed), strict=True))

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        wide = [_spread(x, places, sizes) for x, places in ((a, of_left), (b, of_right))]
        return lax.reduce_sum(lax.mul(*wide), summed) if summed else lax.mul(*wide)

    def by_entries(a: jax.Array, b: jax.Array) -> jax.Array:
        terms = [product(_at(a, lc, at), _at(b, rc, at)) for at in np.ndindex(*counts)]
        return functools.reduce(lax.add, terms)

    dtype = equation.outvars[0].aval.dtype
    avals = [jax.ShapeDtypeStruct(a.shape, dtype) for a in (left, right)]
    return Rewriting(jax.make_jaxpr(by_entries if one_by_one else product)(*avals), values)


def _at(array: jax.Array, axes: Shape, places: Shape) -> jax.Array:
    """One entry of some axes, which are kept."""
    for axis, place in zip(axes, places, strict=True):
        array = lax.slice_in_dim(array, place, place + 1, axis=axis)
    return array


def _spread(array: jax.Array, places: dict[int, int], sizes: Shape) -> jax.Array:
    """An array whose axes go to given places of a larger one."""
    order = sorted(places, key=lambda d: places[d])
    return lax.broadcast_in_dim(lax.transpose(array, order), sizes, sorted(places.values()))
