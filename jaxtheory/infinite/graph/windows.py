"""Windows that move along positions, as those of convolutions and pooling."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Window(NamedTuple):
    """How a convolution or pooling moves along an axis: low and high padding, dilation of input (`base`) and window."""

    size: int
    stride: int
    low: int
    high: int
    base: int
    dilation: int
    out: int

    @property
    def trivial(self) -> bool:
        """Whether it sees one position after the other."""
        return self[:6] == (1, 1, 0, 0, 1, 1)


def window_of(params: Mapping[str, Any], place: int, size: int, out: int) -> Window:
    """The window of one spatial axis, from the parameters of a convolution or of a reduction over windows."""
    low, high = params["padding"][place]
    names = ("lhs_dilation", "rhs_dilation") if "lhs_dilation" in params else ("base_dilation", "window_dilation")
    base, dilation = (params[name][place] for name in names)
    return Window(size, params["window_strides"][place], low, high, base, dilation, out)


def sliding_sum(array: jax.Array, axes: tuple[int, ...], window: Window) -> jax.Array:
    """Σ over taps of the array moved along all of `axes` at once."""
    return functools.reduce(jnp.add, slides(array, axes, window))


def slides(array: jax.Array, axes: tuple[int, ...], window: Window) -> list[jax.Array]:
    """What each tap sees: the array moved along all of `axes` at once."""
    config = [(0, 0, 0)] * array.ndim
    for axis in axes:
        config[axis] = (window.low, window.high, window.base - 1)
    padded = jax.lax.pad(array, jnp.zeros((), array.dtype), config)
    pieces = []
    for tap in range(window.size):
        start, stop, step = [0] * array.ndim, list(padded.shape), [1] * array.ndim
        for axis in axes:
            start[axis] = tap * window.dilation
            stop[axis] = start[axis] + (window.out - 1) * window.stride + 1
            step[axis] = window.stride
        pieces.append(jax.lax.slice(padded, start, stop, step))
    return pieces
