"""Convolutions of random images with known kernels: blurs, differences, patches. Each channel is filtered alike."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import (
    ONE,
    ChannelArray,
    Factor,
    combination,
    concatenation,
    flatten_axis,
    joint_index,
    linear_map,
    number,
    scale,
    split,
)
from jaxtheory.infinite.graph.nodes import AxisMap, Deterministic, Node
from jaxtheory.infinite.graph.windows import Window, window_of
from jaxtheory.programs.calls import Equation

Vectors = list[np.ndarray]  # along each axis of space
Kernel = list[Vectors]  # a sum of outer products


def filter_channels(where: Site, equation: Equation, image: ChannelArray, kernel: Deterministic) -> ChannelArray:
    """A kernel of rank r is a sum of r products of linear maps along one axis each; several outputs are positions."""
    p, shape = equation.params, equation.outvars[0].aval.shape
    (_, channel, *space), (kout, kin, *kspace), outs = p["dimension_numbers"]
    if kernel.value is None:
        refuse(where, "the kernel of its convolution depends on the example", "use a known kernel, or a parameter")
    image = _plain(where, image, space)
    count = image.shape[channel]
    values = np.broadcast_to(np.asarray(kernel.value), kernel.shape)
    rounding = 8 * float(jnp.finfo(values.dtype).eps)  # singular values below it are those of the kernel's rounding
    taps = values.astype(np.float64).transpose(kout, kin, *kspace)
    alike = all(f.kind == "c" for f in image.axes[channel]) and taps.shape[1] == 1 == p["batch_group_count"]
    if not alike or p["feature_group_count"] != count:
        refuse(where, "its known kernel mixes channels", "filter each channel (feature_group_count=channels)")
    each = taps[:, 0].reshape(count, -1, *taps.shape[2:])
    if (each != each[:1]).any():
        refuse(where, "its known kernel differs between channels", "filter all channels alike")
    windows = [window_of(p, j, m, shape[outs[2 + j]]) for j, m in enumerate(taps.shape[2:])]
    places = [image.axes[d][0].place if image.axes[d] else None for d in space]
    kernels = [list(_separate(kernel, rounding)) for kernel in each[0]]
    pieces = tuple((_outputs(where, node, kernels, places, windows), c) for node, c in image.pieces)
    axes = dict(
        zip(
            (outs[0], *outs[2:]),
            (image.axes[d] for d in (equation.params["dimension_numbers"][0][0], *space)),
            strict=True,
        )
    )
    for j in range(len(space)):
        axes[outs[2 + j]] = tuple(f._replace(size=windows[j].out) for f in axes[outs[2 + j]] if windows[j].out > 1)
    several = (Factor("i", len(pieces[0][0].index) - 1, len(each[0])),) if len(each[0]) > 1 else ()
    axes[outs[1]] = (*image.axes[channel], *several)
    return ChannelArray(pieces, tuple(axes[d] for d in range(len(shape))), image.channels)


def _plain(where: Site, image: ChannelArray, space: list[int]) -> ChannelArray:
    """The image with at most one index axis for each axis of the program that the window moves along."""
    for d in space:
        image = flatten_axis(where, image, d)
        if [f.kind for f in image.axes[d]] not in (["i"], []):
            refuse(where, "it filters along a broadcast axis or channels", "filter before broadcasting")
    return image


def _outputs(where: Site, node: Node, kernels: list[Kernel], places: list[int | None], windows: list[Window]) -> Node:
    """The filtered node; for several kernels with their number as its last index axis."""
    made = [_sum(where, node, kernel, places, windows) for kernel in kernels]
    if len(made) == 1:
        return made[0]
    if not node.index:
        refuse(where, "it makes several outputs of a single position", "multiply by numbers instead")
    last = len(node.index) - 1
    extended = tuple(split(where, x, last, (x.index[last], 1)) for x in made)
    return concatenation(where, extended, last + 1)


def _sum(where: Site, node: Node, kernel: Kernel, places: list[int | None], windows: list[Window]) -> Node:
    parts = [_product(where, node, vectors, places, windows) for vectors in kernel]
    if not parts:
        return scale(where, number(0.0, len(node.index)), node, node.index)
    return combination(where, joint_index(parts), [(ONE, part) for part in parts])


def _separate(kernel: np.ndarray, rounding: float) -> Iterator[Vectors]:
    """Vectors along each axis whose outer products add up to a kernel."""
    if kernel.ndim <= 1:
        if kernel.any():
            yield [kernel] if kernel.ndim else []
        return
    left, sizes, right = np.linalg.svd(kernel.reshape(len(kernel), -1), full_matrices=False)
    for u, s, v in zip(left.T, sizes, right, strict=True):
        if s > rounding * sizes[0]:
            rest = np.where(abs(v) > rounding, s * v, 0).reshape(kernel.shape[1:])
            for others in _separate(rest, rounding):
                yield [np.where(abs(u) > rounding, u, 0), *others]


def _product(where: Site, node: Node, vectors: Vectors, places: list[int | None], windows: list[Window]) -> Node:
    for vector, place, window in zip(vectors, places, windows, strict=True):
        matrix = _matrix(vector, window, 1 if place is None else node.index[place])
        if place is not None:
            selects = bool(((matrix != 0).sum(1) <= 1).all())
            key = ("filter", vector.tobytes(), window)
            node = linear_map(where, node, place, AxisMap(key, partial(_apply, matrix=matrix), window.out, selects))
        elif window.out == 1:
            node = scale(where, number(matrix[0, 0], len(node.index)), node, node.index)
        else:
            refuse(where, "it filters an axis of size one into a larger one", "tile the input first")
    return node


def _matrix(vector: np.ndarray, window: Window, size: int) -> np.ndarray:
    """Σ over taps k of vector[k] · input[(stride o + dilation k − low) / base] as a matrix of outputs o and inputs."""
    matrix = np.zeros((window.out, size))
    for o in range(window.out):
        for k, weight in enumerate(vector):
            at, left = divmod(window.stride * o + window.dilation * k - window.low, window.base)
            if left == 0 and 0 <= at < size:
                matrix[o, at] += weight
    return matrix


def _apply(array: Numbers, axis: int, _: Numbers | None, *, matrix: np.ndarray) -> jax.Array:
    moved = jnp.tensordot(jnp.asarray(matrix, array.dtype), array, (1, axis), precision="highest")
    return jnp.moveaxis(moved, 0, axis)
