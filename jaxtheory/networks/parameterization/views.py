"""Axes of a parameter followed through the equations that rearrange it.

A `View` says of each dimension of an array which axes of one parameter run along it. A dimension is a tuple of factors
(axes, size), the slowest first, so that axes that a reshape merges can be told apart again.
"""

import math
from typing import Any, NamedTuple

from jaxtyping import PyTree

from jaxtheory.programs.calls import Equation

# Entries of the output come from many entries along an axis; a view cannot say which.
MIXING = {"fft", "sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "triangular_solve", "cholesky", "lu"}
MIXING |= {"qr", "eigh", "eig", "svd", "schur", "geqrf", "householder_product", "custom_linear_solve", "top_k"}
LAYOUT = {"convert_element_type", "copy", "copy_p", "reshape", "squeeze", "expand_dims", "broadcast_in_dim"}
_PARTS = {"slice", "dynamic_slice", "split", "pad", "concatenate", "rev"}

Factor = tuple[frozenset[int], int]
Dimension = tuple[Factor, ...]


class View(NamedTuple):
    """Parameter `leaf` with the axes along each dimension; `inner` are axes that a product of parameters contracted.

    `degree` is 2 of its square.
    """

    leaf: int
    dims: tuple[Dimension, ...]
    inner: frozenset[int] = frozenset()
    degree: int = 1


def whole(leaf: int, shape: tuple[int, ...]) -> View:
    """The parameter itself."""
    return View(leaf, tuple(((frozenset({i}), size),) for i, size in enumerate(shape)))


def axes(view: View, dims: Any) -> frozenset[int]:
    """The axes along some dimensions."""
    return frozenset().union(*(along for d in dims for along, _ in view.dims[d]))


def rearranged(equation: Equation, view: View, operand: int, output: int = 0) -> View | None:
    """The view of an output of an equation whose operands are all parameters; None where axes cannot be followed."""
    name, params = equation.primitive.name, equation.params
    before, after = equation.invars[operand].aval.shape, equation.outvars[output].aval.shape
    if name == "transpose":
        dims = [view.dims[i] for i in params["permutation"]]
    elif name == "squeeze":
        dropped = {d % len(before) for d in params["dimensions"]}
        dims = [dim for i, dim in enumerate(view.dims) if i not in dropped]
    elif name == "broadcast_in_dim":
        dims = [()] * len(after)
        for source, target in enumerate(params["broadcast_dimensions"]):
            dims[target] = view.dims[source] if before[source] == after[target] else ()
    elif name in ("reshape", "expand_dims"):
        return view._replace(dims=_reshaped(view.dims, after))
    elif name == "gather":
        dims = _gathered(view, params, len(after))
    elif name in MIXING:
        return None
    elif len(before) == len(after) and (name in _PARTS or _spreads(before, after)):
        dims = [_resized(dim, m, k) for dim, m, k in zip(view.dims, before, after, strict=True)]
    elif not before:
        dims = [()] * len(after)
    else:
        return None
    return view._replace(dims=tuple(dims))


def product(equation: Equation, view: View, operand: int) -> View:
    """The view of one factor in the product of two parameters."""
    contracted, batch = (pair[operand] for pair in equation.params["dimension_numbers"])
    free = [view.dims[d] for d in range(len(view.dims)) if d not in (*contracted, *batch)]
    shared = [view.dims[d] for d in batch]
    other: list[Dimension] = [()] * (len(equation.outvars[0].aval.shape) - len(free) - len(shared))
    dims = [*shared, *free, *other] if operand == 0 else [*shared, *other, *free]
    return view._replace(dims=tuple(dims), inner=view.inner | axes(view, contracted))


def looked_up(equation: Equation, view: View) -> tuple[frozenset[int], View]:
    """The axes along which a gather or a dynamic slice picks entries, and the view of what it picks."""
    params, picked = equation.params, rearranged(equation, view, 0)
    sizes = params["slice_sizes"]
    chosen = [d for d, size in enumerate(equation.invars[0].aval.shape) if sizes[d] != size]
    return axes(view, chosen), picked or view._replace(dims=())


def _spreads(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether an elementwise equation may have these shapes."""
    return all(m in (1, k) for m, k in zip(before, after, strict=True))


def _resized(dim: Dimension, before: int, after: int) -> Dimension:
    """A dimension of which a part is left, or to which others were joined."""
    return dim if before == after or not dim else ((frozenset().union(*(along for along, _ in dim)), after),)


def _gathered(view: View, params: PyTree, rank: int) -> list[Dimension]:
    numbers = params["dimension_numbers"]
    dims: list[Dimension] = [()] * rank
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [d for d in range(len(view.dims)) if d not in gone]
    for d, target in zip(kept, numbers.offset_dims, strict=True):
        size = math.prod(size for _, size in view.dims[d])
        dims[target] = _resized(view.dims[d], size, params["slice_sizes"][d])
    return dims


def _reshaped(dims: tuple[Dimension, ...], shape: tuple[int, ...]) -> tuple[Dimension, ...]:
    """Factors in row-major order, dealt out to dimensions of other sizes; what cannot be divided keeps all its axes."""
    factors = [factor for dim in dims for factor in dim if factor[1] > 1]
    ones = [dim for dim in dims if math.prod(size for _, size in dim) == 1]
    ones = ones if len(ones) == shape.count(1) else [()] * shape.count(1)
    known = math.prod(size for _, size in factors) == math.prod(shape)
    everything = frozenset().union(*(along for along, _ in factors))
    result: list[Dimension] = []
    for size in shape:
        if size == 1:
            result.append(ones.pop(0))
            continue
        taken: list[Factor] = []
        while known and size > 1:
            along, extent = factors.pop(0)
            if size % extent == 0:
                taken.append((along, extent))
                size //= extent
            elif extent % size == 0:
                taken.append((along, size))
                factors.insert(0, (along, extent // size))
                size = 1
            else:
                known = False
        result.append(tuple(taken) if known else ((everything, size),))
    return tuple(result)
