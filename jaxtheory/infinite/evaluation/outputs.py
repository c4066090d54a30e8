"""What a network returns: arrays with axes of positions, and trees of arrays."""

import math
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef
from jaxtyping import Array

from jaxtheory.infinite import inputs
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import Axes, ChannelArray, Value
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.models import Model


class Output(NamedTuple):
    """A random vector and the axes of positions that the program gives it; whether only equal positions are wanted."""

    node: Node
    axes: Axes
    equal: bool

    @property
    def mask(self) -> tuple[bool, ...]:
        """The pairs of positions that are asked for."""
        return (not self.equal,) * len(self.node.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel of two examples."""
        sizes = tuple(math.prod(f.size for f in factors) for factors in self.axes)
        return sizes if self.equal else (*sizes, *sizes)

    def laid(self, array: Array) -> Array:
        """A kernel over pairs of index axes, as [positions of x, positions of x'], each in the program's order."""
        both, index = 1 if self.equal else 2, self.node.index
        wide = jnp.broadcast_to(array, [m for m in index for _ in range(both)])
        flat = [f for factors in self.axes for f in factors]
        order = [both * f.place + end for end in range(both) for f in flat if f.kind == "i"]
        rest = [d for d in range(wide.ndim) if d not in order]
        narrow = [f.size if f.kind == "i" else 1 for f in flat] * both
        spread = [f.size for f in flat] * both
        return jnp.broadcast_to(wide.transpose([*order, *rest]).reshape(narrow), spread).reshape(self.shape)


def output(values: Sequence[Value], place: int, equal: bool) -> Output:
    """One of the values of a program; its first axis is that of examples, one other at most that of channels."""
    found = f"output {place}" if len(values) > 1 else "the output"
    where, value = Site(found, "the end of f"), values[place]
    if not isinstance(value, ChannelArray):
        refuse(where, "it is not an array of random channels", "return what a layer of weights makes")
    if len(value.pieces) > 1:
        refuse(where, f"it has unlike channels, shape {value.shape}", "return the parts as a tuple")
    if value.node.drawn:
        refuse(
            where, "it depends on the scores of one head, which are drawn", "read out all heads by a layer of weights"
        )
    if not value.axes or value.axes[0]:
        refuse(where, f"its first axis is not that of examples, shape {value.shape}", "return [n ...]")
    channel = _channel(where, value)
    positions = [factors for d, factors in enumerate(value.axes) if d not in (0, channel)]
    return Output(value.node, tuple(positions), equal)


def _channel(where: Site, value: ChannelArray) -> int:
    """The axis of channels: that which holds them, or, of a single channel, the last of size one."""
    holding = [d for d, factors in enumerate(value.axes) if any(f.kind == "c" for f in factors)]
    if len(holding) > 1 or any(f.kind != "c" for d in holding for f in value.axes[d]):
        _refuse_mixture(where, value)
    single = [d for d, m in enumerate(value.shape) if d > 0 and m == 1]
    return next(iter([*holding, *single[::-1]]), 0)


def _refuse_mixture(where: Site, value: ChannelArray) -> NoReturn:
    refuse(where, f"it mixes positions and channels, shape {value.shape}", "return [n positions channels]")


def structure(model: Model, given: inputs.Spec) -> PyTreeDef:
    """The tree of the arrays that a network returns."""
    params = model.tree.unflatten(map(jax.ShapeDtypeStruct, model.shapes, model.dtypes))
    return jax.tree.structure(jax.eval_shape(model.network, params, inputs.structs(given, model.inputs)))


def swap_examples(matrix: Array, positions: int, equal: bool) -> Array:
    """K(x', x) from K(x, x'): examples and, where pairs of them are kept, positions change places."""
    order = [1, 0, *range(2, matrix.ndim)]
    if not equal:
        order[2 : 2 + 2 * positions] = [*range(2 + positions, 2 + 2 * positions), *range(2, 2 + positions)]
    return matrix.transpose(order)
