"""A parameter on its way to the primitive that uses it: which leaf, rearranged how, bound to which loop.

A `View` is a linear, one-to-one rearrangement of a part of one parameter leaf, up to a scalar factor. Transposes only
relabel axes; whatever else rearranges entries (reshape, slice, reverse) starts a new base, so that two uses of a leaf
either share a base, and their Jacobians add in factored form, or must be shown to touch disjoint entries.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class View(NamedTuple):
    """Leaf `leaf` rearranged by `chain`; its dimensions carry the base axes `axes`; `bound` pairs (loop, base axis)."""

    leaf: int
    shape: tuple[int, ...]
    chain: tuple[Any, ...]
    axes: tuple[int, ...]
    bound: tuple[tuple[int, int], ...]


def whole(leaf: int, shape: tuple[int, ...]) -> View:
    """The leaf itself."""
    return View(leaf, tuple(shape), (), tuple(range(len(shape))), ())


def transposed(view: View, permutation: tuple[int, ...]) -> View:
    """The same base with its axes in another order."""
    return view._replace(shape=tuple(view.shape[i] for i in permutation), axes=tuple(view.axes[i] for i in permutation))


def rearranged(view: View, op: str, argument: Any, shape: tuple[int, ...]) -> View:
    """A new base: the old one, bound axes first, with `op` applied to the other axes."""
    lead = tuple(axis for _, axis in view.bound)
    step = (op, lead + view.axes, len(lead), argument)
    bound = tuple((loop, i) for i, (loop, _) in enumerate(view.bound))
    axes = tuple(range(len(lead), len(lead) + len(shape)))
    return View(view.leaf, tuple(shape), (*view.chain, step), axes, bound)


def sliced_by_loop(view: View, loop: int) -> View:
    """What one turn of a scan sees of a stacked parameter: the first axis, bound to the loop."""
    return view._replace(shape=view.shape[1:], axes=view.axes[1:], bound=(*view.bound, (loop, view.axes[0])))


def base(leaf_shape: tuple[int, ...], view: View) -> np.ndarray:
    """Numbers of the leaf's entries that a base holds, in its shape. Cost: O(leaf size), at planning time."""
    index = np.arange(math.prod(leaf_shape)).reshape(leaf_shape)
    for op, order, lead, argument in view.chain:
        index = _STEPS[op](index.transpose(order), lead, argument)
    return index


def order(leaf_shape: tuple[int, ...], view: View, loops: Iterable[int]) -> np.ndarray:
    """Numbers of the leaf's entries in the order of a view, behind the turns of `loops`, which bind its other axes."""
    bound = dict(view.bound)
    return base(leaf_shape, view).transpose(*(bound[loop] for loop in loops), *view.axes).ravel()


def disjoint(leaf_shape: tuple[int, ...], first: View, second: View) -> bool:
    """Whether two bases of one leaf have no entry in common, so that their Jacobians have no cross term."""
    return not np.intersect1d(base(leaf_shape, first), base(leaf_shape, second)).size


def _reshape(index: np.ndarray, lead: int, shape: tuple[int, ...]) -> np.ndarray:
    return index.reshape(index.shape[:lead] + tuple(shape))


def _slice(index: np.ndarray, lead: int, slices: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    return index[(slice(None),) * lead + tuple(slice(*limits) for limits in slices)]


def _reverse(index: np.ndarray, lead: int, axes: tuple[int, ...]) -> np.ndarray:
    return np.flip(index, tuple(lead + axis for axis in axes))


_STEPS: dict[str, Any] = {"reshape": _reshape, "slice": _slice, "rev": _reverse}
